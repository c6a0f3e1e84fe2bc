"""Tools without models: what an upload holds, and how it fails, stands in its URI.

    stand-in://12?version=1&window_ms=20     12 windows, each of which takes 20 ms to hear
    …&broken_at=5                            permanent failure at window 5
    …&fails_at=5&times=2                     transient failure at window 5, the first two times, in any process
    …&kills_at=3                             window 3 kills the process that hears it

Texts and logits depend on the video and the window alone, so that every process makes the same revisions.
"""

import hashlib
import itertools
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from importlib import resources
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from consumer import labels
from consumer.errors import PermanentError, TransientError
from consumer.evidence import Logits
from consumer.llm.heads import Heads
from consumer.revisions import Makers, Medium
from consumer.tagging import OpenMedia, Tools
from consumer.tags import ReadOut
from consumer.transcript import Passage, Segment, TextWindow
from schemas import Provenance, VideoUploaded
from tests.faults import journal

WINDOW_S = 10.0
WINDOWS_AHEAD = 2
BROKEN, FAILED = "truncated", "fetch_timeout"
"""Reasons of permanent and of transient failures."""
HOPELESS = 1000
"""Failing so many times is failing always."""

_WORDS = ("we", "take", "old", "roads", "down", "to", "market", "and", "ask", "who", "sold", "that", "red", "boat")
_sessions = itertools.count()


class StandIn:
    """Open media, as the upload's URI describes them. `folder` is shared by all processes: the journal, and a file
    for each transient failure. Without one nothing is noted, waited for or killed: what is expected is found out so."""

    def __init__(self, upload: VideoUploaded, folder: Path | None) -> None:
        address = urlsplit(upload.uri)
        self._num_windows = int(address.netloc)
        self._told = {name: int(value) for name, value in parse_qsl(address.query)}
        self._upload = upload
        self._folder = folder
        self._session = next(_sessions)
        self._note(-1)

    def medium(self) -> Medium:
        return Medium(f"v{self._told['version']}", self._num_windows * WINDOW_S)

    def windows(self, first: int, start_s: float) -> Iterator["Future[TextWindow]"]:
        for index in range(first, self._num_windows):
            yield self._hear(index)

    def _hear(self, index: int) -> "Future[TextWindow]":
        self._note(index)
        if self._folder is not None:
            threading.Event().wait(self._told.get("window_ms", 0) / 1000)
            if index == self._told.get("kills_at"):
                os.kill(os.getpid(), signal.SIGKILL)
        if index == self._told.get("fails_at") and self._fails_again():
            raise TransientError(FAILED, f"window {index} did not come", stage="fetch")
        if index == self._told.get("broken_at"):
            raise PermanentError(BROKEN, f"the media end in window {index}", stage="decode")
        heard: Future[TextWindow] = Future()
        heard.set_result(_window(self._upload.video_id, index))
        return heard

    def _fails_again(self) -> bool:
        """Counted in files, as this process may not live to count."""
        if self._told["times"] >= HOPELESS or self._folder is None:
            return self._told["times"] >= HOPELESS
        for number in range(self._told["times"]):
            try:
                (self._folder / f"failed-{_digest(self._upload.video_id).hex()}-{number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            return True
        return False

    def _note(self, window: int) -> None:
        if self._folder is not None:
            version = self.medium().content_version
            journal.note(self._folder / "journal", self._upload.video_id, version, window, self._session)


def version_of(uri: str) -> str | None:
    """The content version that the URI stands for."""
    version = dict(parse_qsl(urlsplit(uri).query)).get("version")
    return version and f"v{version}"


def stand_in_tools(folder: Path | None) -> Tools:
    """`folder` as for `StandIn`."""

    def open_stand_in(upload: VideoUploaded) -> AbstractContextManager[OpenMedia]:
        return nullcontext(StandIn(upload, folder))

    provenance = Provenance(
        pipeline="1-stand-in", speech_model="none", llm_model="none", heads="none", taxonomy=labels.SCHEME
    )
    return Tools(open_stand_in, _read, Makers(_read_out(), provenance, frozenset({"en"})), WINDOWS_AHEAD)


@cache
def _read_out() -> ReadOut:
    """The aspects that are shipped, without the model that they belong to."""
    folder = Path(str(resources.files(labels).joinpath("heads", "gemma3-270m")))
    return Heads.load(folder).read_out


def _window(video: str, index: int) -> TextWindow:
    digest = _digest(f"{video} {index}")
    words = [_WORDS[byte % len(_WORDS)] for byte in digest[:16]]
    start_s = index * WINDOW_S
    text = f"In {video} part {index} {' '.join(words[:8])}. Then {' '.join(words[8:])}."
    return TextWindow(index, start_s, start_s + WINDOW_S, (Segment(start_s, start_s + WINDOW_S, text),), "asr")


def _read(passage: Passage, *, video: str, first: bool) -> "Future[dict[str, Logits]]":
    """Each text favours one topic and one tone, and now and then a policy: tags change as a video goes on."""
    digest = _digest(passage.text)
    found: Future[dict[str, Logits]] = Future()
    found.set_result({aspect.name: _logits(len(aspect.labels), digest) for aspect in _read_out().aspects})
    return found


def _logits(num_labels: int, digest: bytes) -> Logits:
    favourite = int.from_bytes(digest[:4], "big") % (2 * num_labels if num_labels > 5 else num_labels)
    return np.where(np.arange(num_labels) == favourite, 12.0, -3.0)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
