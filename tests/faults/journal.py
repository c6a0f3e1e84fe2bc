"""What processes did, in a file that outlives them: a line for each window that was really worked on."""

import os
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Worked:
    """A window taken up by process `pid`, in its `session`: one opening of the media. Times are monotonic, and the
    same for all processes of the machine. `window` is -1 for the opening itself."""

    video: str
    version: str
    window: int
    pid: int
    session: int
    at_s: float


def note(path: Path, video: str, version: str, window: int, session: int) -> None:
    """Appends a line: in one write, so that lines of several processes do not mix, and a kill leaves no half."""
    line = "\t".join(map(str, (video, version, window, os.getpid(), session, time.monotonic())))
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def read(path: Path) -> list[Worked]:
    """In the order of the times."""
    if not path.exists():
        return []
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    return sorted(
        (Worked(video, version, int(w), int(pid), int(s), float(at)) for video, version, w, pid, s, at in lines),
        key=lambda worked: worked.at_s,
    )
