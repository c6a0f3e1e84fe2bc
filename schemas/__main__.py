"""Writes the JSON Schemas: `python -m schemas`.

With `--check` it writes nothing, and exits 1 when they are stale or break somebody who builds on the released
ones in `schemas/json/released`. To release: copy `schemas/json/*.json` there.
"""
# ruff: noqa: T201  (a command line)

import argparse
import json
import sys

from schemas import EVENTS
from schemas.compatibility import breaks
from schemas.json_schema import RELEASED, build, direction, path, render, stale


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m schemas", description="Writes the JSON Schemas.")
    parser.add_argument("--check", action="store_true", help="only say what is stale or breaks somebody")
    return _check() if parser.parse_args().check else _write()


def problems() -> list[str]:
    """What `--check` reports."""
    found = [f"{path(name)} is stale: run python -m schemas" for name in stale()]
    for file in sorted(RELEASED.glob("*.json")):
        name = file.stem
        if name in EVENTS:
            reasons = breaks(json.loads(file.read_text(encoding="utf-8")), build(name), direction(name))
        else:
            reasons = ["the event was released, and is gone"]
        found += [f"{name}: {reason}" for reason in reasons]
    return found


def _write() -> int:
    for name in EVENTS:
        path(name).write_text(render(build(name)), encoding="utf-8")
        print(f"wrote {path(name)}")
    return 0


def _check() -> int:
    found = problems()
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
