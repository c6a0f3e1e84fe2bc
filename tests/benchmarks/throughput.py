"""Media seconds per second and time to first tag, on the CPU, beside the plain script.

    python -m tests.benchmarks.throughput [--videos 1 4 16]

Both sides get the same videos and models, loaded and warm, and as many threads as their libraries take by
themselves. They take turns in one process, so that what else the machine does meets both. All videos are there from
the start: a video's first tag, and the plain script's answer, count from then.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path

from prometheus_client import REGISTRY

from consumer.display import out
from consumer.media.decode import open_media
from consumer.media.fetch import open_source
from consumer.settings import Settings, load_settings
from consumer.tagging import Tools, revisions_of, tag_video
from consumer.tools import open_tools
from schemas import VideoUploaded
from tests.benchmarks import SPOKEN
from tests.benchmarks.plain_script import PlainScript

_MAX_TURNS = 3
_VIDEOS_OF_ALL_TURNS = 12  # few videos are soon over, and tagged again

TagAll = Callable[[Sequence[Path]], list[float]]  # gives the seconds from the start to each video's first tag


@dataclass(frozen=True)
class Turn:
    """One side's way through the videos: until the last one was done, until the median video's first tag, and of
    all that the time that Tagstream's models were at work."""

    wall_s: float
    first_tag_s: float
    speech_s: float
    read_s: float


def tag_together(tools: Tools, paths: Sequence[Path]) -> list[float]:
    """Tagstream: all videos in flight at once."""
    started_s = time.monotonic()

    def first_tag_s(number: int, path: Path) -> float:
        upload = VideoUploaded(video_id=f"{path.stem}-{number}", uri=str(path))
        revisions = revisions_of(tag_video(upload, tools, lambda: False))
        first, *_ = [time.monotonic() - started_s for _ in revisions]
        return first

    with ThreadPoolExecutor(len(paths)) as pool:
        return list(pool.map(first_tag_s, range(len(paths)), paths))


def tag_in_turn(script: PlainScript, paths: Sequence[Path]) -> list[float]:
    """The plain script: one video after the other."""
    started_s = time.monotonic()

    def answer_s(path: Path) -> float:
        script.tag(path)
        return time.monotonic() - started_s

    return [answer_s(path) for path in paths]


def compare(ours: TagAll, plain: TagAll, paths: Sequence[Path]) -> tuple[Turn, Turn]:
    """Each side's turn of median length."""
    num_turns = max(1, min(_MAX_TURNS, _VIDEOS_OF_ALL_TURNS // len(paths)))
    turns = [(_timed(ours, paths), _timed(plain, paths)) for _ in range(num_turns)]
    our_turns, plain_turns = zip(*turns, strict=True)
    return median_turn(our_turns), median_turn(plain_turns)


def _timed(tag_all: TagAll, paths: Sequence[Path]) -> Turn:
    speech_s, read_s, started_s = _stage_s("speech"), _stage_s("read"), time.monotonic()
    first_tag_s = statistics.median(tag_all(paths))
    wall_s = time.monotonic() - started_s
    return Turn(wall_s, first_tag_s, _stage_s("speech") - speech_s, _stage_s("read") - read_s)


def _stage_s(stage: str) -> float:
    return REGISTRY.get_sample_value("tagstream_stage_seconds_sum", {"stage": stage}) or 0.0


def median_turn(turns: Sequence[Turn]) -> Turn:
    """By length; the longer one of two."""
    return sorted(turns, key=lambda turn: turn.wall_s)[len(turns) // 2]


HEADING = """\
         media seconds per second   seconds to first tag      where our time goes
videos     ours   plain   ratio     ours   plain   ratio    speech   read   rest"""


def row(ours: Turn, plain: Turn, paths: Sequence[Path], media_s: float) -> str:
    rest_s = ours.wall_s - ours.speech_s - ours.read_s
    shares = (part_s / ours.wall_s for part_s in (ours.speech_s, ours.read_s, rest_s))
    return (
        f"{len(paths):6d}{media_s / ours.wall_s:9.1f}{media_s / plain.wall_s:8.1f}{plain.wall_s / ours.wall_s:7.2f}x"
        f"{ours.first_tag_s:9.2f}{plain.first_tag_s:8.2f}{plain.first_tag_s / ours.first_tag_s:7.2f}x   "
        + "".join(f"{share:7.0%}" for share in shares)
    )


def answers(tools: Tools, script: PlainScript) -> Iterator[str]:
    """What each side said of each video: speed is worth nothing without an answer."""
    for path in SPOKEN:
        upload = VideoUploaded(video_id=path.stem, uri=str(path))
        *_, final = revisions_of(tag_video(upload, tools, lambda: False))
        topics = ", ".join(f"{tag.name} {tag.p:.2f}" for tag in (final.tags.data.tags or ())[:2])
        yield f"{path.stem}: ours {topics}; plain {script.tag(path)!r}"


def _length_s(path: Path, settings: Settings) -> float:
    with open_source(str(path), settings.media) as source, open_media(source, settings.media) as media:
        return media.info.duration_s or 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description="Throughput and time to first tag, beside a plain script.")
    parser.add_argument("--videos", type=int, nargs="+", default=[1, 4, 16], help="videos in flight (1 4 16)")
    options = parser.parse_args()
    settings = load_settings(os.environ).settings.model_copy(update={"device": "cpu"})
    script = PlainScript(settings)
    with open_tools(settings) as tools:
        out(f"{os.cpu_count()} cores, load before {os.getloadavg()[0]:.1f}")
        for answer in answers(tools, script):  # warms up as well
            out(answer)
        out(HEADING)
        lengths_s = {path: _length_s(path, settings) for path in SPOKEN}
        for num_videos in options.videos:
            paths = list(islice(cycle(SPOKEN), num_videos))
            ours, plain = compare(partial(tag_together, tools), partial(tag_in_turn, script), paths)
            out(row(ours, plain, paths, sum(lengths_s[path] for path in paths)))


if __name__ == "__main__":
    main()
