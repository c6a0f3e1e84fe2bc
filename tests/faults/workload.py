"""Seeded uploads: good, broken, failing for a while, in several versions, sent twice."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

from schemas import UploadedEvent, VideoUploaded
from tests.faults.stand_ins import HOPELESS

_SENT_AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Workload:
    """`uploads` each once, a video's versions in order; `events` as they are sent, repeats included."""

    uploads: tuple[VideoUploaded, ...]
    events: tuple[UploadedEvent, ...]


@dataclass(frozen=True)
class Mix:
    """How many windows videos have, how long one takes, and which part of the uploads is of each kind."""

    max_windows: int = 40
    window_ms: int = 20
    broken: float = 0.05
    failing: float = 0.05
    hopeless: float = 0.01  # fail for longer than anybody tries
    newer: float = 0.1  # another version of the same video
    repeated: float = 0.1


PLAIN = Mix(broken=0.0, failing=0.0, hopeless=0.0, newer=0.0, repeated=0.0)


def make_workload(seed: int, num_uploads: int, mix: Mix = Mix()) -> Workload:
    """The same for the same arguments."""
    dice = random.Random(seed)
    uploads: list[VideoUploaded] = []
    while len(uploads) < num_uploads:
        newer = bool(uploads) and dice.random() < mix.newer
        uploads.append(_next_version(uploads, dice, mix) if newer else _new(len(uploads), dice, mix))
    return Workload(tuple(uploads), tuple(_sent(uploads, dice, mix)))


def stand_in(video: str, windows: int, version: int = 1, **told: int) -> VideoUploaded:
    """An upload for `tests.faults.stand_ins`; `told` is how it goes."""
    uri = f"stand-in://{windows}?{urlencode({'version': version} | told)}"
    return VideoUploaded(video_id=video, uri=uri, content_version=f"v{version}")


def event(upload: VideoUploaded) -> UploadedEvent:
    return UploadedEvent.wrap(
        upload, id=f"{upload.video_id}-{upload.content_version}", source="/tests/faults", time=_SENT_AT
    )


def _new(number: int, dice: random.Random, mix: Mix) -> VideoUploaded:
    windows = dice.randint(1, mix.max_windows)
    return stand_in(f"video-{number}", windows, window_ms=mix.window_ms, **_trouble(windows, dice, mix))


def _trouble(windows: int, dice: random.Random, mix: Mix) -> dict[str, int]:
    kind, window = dice.random(), dice.randrange(windows)
    if kind < mix.broken:
        return {"broken_at": window}
    if kind < mix.broken + mix.failing:
        return {"fails_at": window, "times": dice.randint(1, 2)}
    if kind < mix.broken + mix.failing + mix.hopeless:
        return {"fails_at": window, "times": HOPELESS}
    return {}


def _next_version(uploads: Sequence[VideoUploaded], dice: random.Random, mix: Mix) -> VideoUploaded:
    """Of a video that never fails for a while: of one that does, the newer version may come first."""
    steady = [upload for upload in uploads if "fails_at" not in upload.uri]
    if not steady:
        return _new(len(uploads), dice, mix)
    video = dice.choice(steady).video_id
    version = sum(upload.video_id == video for upload in uploads) + 1
    return stand_in(video, dice.randint(1, mix.max_windows), version, window_ms=mix.window_ms)


def _sent(uploads: Sequence[VideoUploaded], dice: random.Random, mix: Mix) -> list[UploadedEvent]:
    """A repeat comes up to twenty records after the first, perhaps behind a newer version of its video."""
    sent = [event(upload) for upload in uploads]
    for upload in uploads:
        if dice.random() < mix.repeated:
            first = next(at for at, other in enumerate(sent) if other.data == upload)
            sent.insert(first + dice.randint(1, 20), event(upload))
    return sent
