"""Tags one file and prints what that took, as JSON: `python -m tests.benchmarks.tag_one FILE`. Linux only."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from consumer.display import out
from consumer.settings import load_settings
from consumer.tagging import Tools, revisions_of, tag_video
from consumer.tools import open_tools
from schemas import VideoUploaded

_LOOK_EVERY_S = 0.1
_OURS = Path("/proc/self")


class Measured(BaseModel):
    """`rest_bytes` is what the process holds with its models loaded, `peak_bytes` the most while tagging: loading
    takes more than tagging does, and would hide it. The decoder is a process of its own."""

    media_s: float
    wall_s: float
    rest_bytes: int
    peak_bytes: int
    decoder_peak_bytes: int


class DecoderWatch:
    """The highest memory peak of this process' decoders.

    They are looked at while they run: what the kernel keeps of ended ones (ru_maxrss) counts the memory of this
    process, which they share until they become another program.
    """

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._stop = threading.Event()

    def run(self) -> None:
        while not self._stop.wait(_LOOK_EVERY_S):
            self.peak_bytes = max([self.peak_bytes, *map(_peak_of_decoder_bytes, _children())])

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run, name="decoder-watch")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()


def _children() -> list[Path]:
    threads = _OURS.glob("task/*/children")
    return [Path("/proc", number) for thread in threads for number in thread.read_text().split()]


def _peak_of_decoder_bytes(process: Path) -> int:
    try:
        is_decoder = b"consumer.media.sandbox" in (process / "cmdline").read_bytes()
        return memory_bytes("VmHWM", process) if is_decoder else 0
    except (FileNotFoundError, ProcessLookupError, KeyError):  # it has ended
        return 0


def memory_bytes(field: str, process: Path = _OURS) -> int:
    """VmRSS, what is held now, or VmHWM, the most that ever was; KeyError when the process has ended."""
    lines = (line.partition(":") for line in (process / "status").read_text().splitlines())
    return 1024 * int({name: value for name, _, value in lines}[field].split()[0])


def forget_peak() -> None:
    """VmHWM starts over (man 5 proc, clear_refs)."""
    (_OURS / "clear_refs").write_text("5")


def tag_one(path: str, tools: Tools) -> Measured:
    watch = DecoderWatch()
    forget_peak()
    rest_bytes, started_s = memory_bytes("VmRSS"), time.monotonic()
    with watch.running():
        *_, final = revisions_of(tag_video(VideoUploaded(video_id="long", uri=path), tools, lambda: False))
    return Measured(
        media_s=final.tags.data.status.coverage.media_s,
        wall_s=time.monotonic() - started_s,
        rest_bytes=rest_bytes,
        peak_bytes=memory_bytes("VmHWM"),
        decoder_peak_bytes=watch.peak_bytes,
    )


def main(path: str) -> None:
    settings = load_settings(os.environ).settings.model_copy(update={"device": "cpu"})
    with open_tools(settings) as tools:
        out(tag_one(path, tools).model_dump_json())


if __name__ == "__main__":
    main(sys.argv[1])
