"""The short form of the fault drill, on a real broker; the long one: `python -m tests.faults`."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.faults.planted import TRAPS, caught
from tests.faults.plants import PLANTS, Plant
from tests.faults.programme import BROKER_DRILLS, DRILLS, run_one
from tests.faults.report import Report
from tests.faults.stage import Scene

SEED = 20261122
LONG_ONLY = {"kills-classic", "churn-classic", "zombies-consumer", "real-models"}
SHORT = [name for name in (*BROKER_DRILLS, *DRILLS) if name not in LONG_ONLY]
_AT_ONCE = 4  # drills wait for timeouts most of the time


@pytest.fixture(scope="module")
def reports(real_kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, "Future[Report]"]]:
    """All under way together, each around topics of its own."""
    scene = Scene(real_kafka, tmp_path_factory.mktemp("faults"), SEED, short=True)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield {
            **{name: pool.submit(run_one, name, scene) for name in SHORT},
            **{plant: pool.submit(caught, plant, scene) for plant in PLANTS},
        }


@pytest.mark.parametrize("name", SHORT)
def test_nothing_is_lost_or_repeated(name: str, reports: Mapping[str, "Future[Report]"]) -> None:
    report = reports[name].result()
    assert not report.violations, "\n".join(report.lines)


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_bug_is_caught(plant: Plant, reports: Mapping[str, "Future[Report]"]) -> None:
    report = reports[plant].result()
    assert TRAPS[plant].wrong in {violation.wrong for violation in report.violations}, "\n".join(report.lines)
