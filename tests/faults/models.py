"""The one drill with the real default models, on real videos."""

import os

from consumer.settings import load_settings
from consumer.tools import open_tools
from schemas import VideoUploaded
from tests.conftest import MEDIA
from tests.faults.oracle import expect
from tests.faults.report import Report
from tests.faults.stage import Drill, Plan, Scene, run
from tests.faults.workload import Workload, event

_SAMPLES = ("crypto", "dal", "hike")
_START_S = 180.0


def real_models(scene: Scene) -> Report:
    """kill -9 in the midst of real videos."""
    uploads = tuple(
        VideoUploaded(video_id=name, uri=str(MEDIA / "samples" / f"{name}.mp4"), content_version="v1")
        for name in _SAMPLES
    )
    workload = Workload(uploads, tuple(map(event, uploads)))
    cache_dir = load_settings(os.environ).settings.cache_dir
    settings = scene.settings().model_copy(update={"cache_dir": cache_dir})

    def disturb(drill: Drill) -> None:
        drill.publish()
        member = drill.arena.start("a", command="consumer run")
        drill.wait_for_work(2, _START_S)
        drill.kill(member)
        drill.arena.members.remove(member)
        drill.arena.start("a", command="consumer run")

    with open_tools(settings) as tools:
        expected = expect(workload, tools)
    return run(Plan("real models", settings, workload, expected, {"kill -9": 1}, disturb), scene)
