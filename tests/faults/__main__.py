"""The command line of the drill; see the package."""

import argparse
import random
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from consumer.display import out
from tests.faults.at_hand import broker_at_hand
from tests.faults.programme import BROKER_DRILLS, DRILLS, run_one
from tests.faults.report import HEADING, Report
from tests.faults.stage import Scene


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that all processes are reaped
    try:
        with _folder(options.logs) as folder, broker_at_hand(folder / "broker") as bootstrap:
            scene = Scene(bootstrap, folder, options.seed, options.short)
            reports = [_told(run_one(name, scene)) for name in options.only or [*DRILLS, *BROKER_DRILLS]]
    except pytest.skip.Exception as why:
        out(f"no drill: {why}")
        return 1
    out(HEADING)
    for report in reports:
        out(report.row)
    return 1 if any(report.violations for report in reports) else 0


@contextmanager
def _folder(named: Path | None) -> Iterator[Path]:
    if named is not None:
        named.mkdir(parents=True)
        yield named
        return
    with tempfile.TemporaryDirectory(prefix="tagstream-faults-") as folder:
        yield Path(folder)


def _told(report: Report) -> Report:
    for line in report.lines:
        out(line)
    return report


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="The fault drill.")
    parser.add_argument("--short", action="store_true", help="fewer faults, as `make test` has them")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of the uploads and the faults")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="a new folder to keep what all processes said")
    names = [*DRILLS, *BROKER_DRILLS]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=", ".join(names))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
