"""The best captions there are: those an upload names, those beside a local file, those inside the media."""

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from consumer.errors import PermanentError, UploadError
from consumer.media.decode import Media, open_media
from consumer.media.fetch import local_path, open_source
from consumer.media.languages import mismatch, primary_code
from consumer.media.source import BytesSource
from consumer.settings import MediaSettings
from consumer.transcript import Segment
from schemas import Caption

MAX_CAPTION_BYTES = 16 << 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Captions:
    """Captions that were found to hold text; the language is ISO 639-1, None where nobody says."""

    basis: Literal["captions.embedded", "captions.sidecar"]
    language: str | None
    segments: Iterator[Segment]


@dataclass(frozen=True, slots=True)
class _Candidate:
    language: str | None
    automatic: bool
    open: Callable[[], Captions | None]


def open_captions(
    uri: str, media: Media, named: Sequence[Caption], settings: MediaSettings, language: str | None = None
) -> Captions | None:
    """The captions to read instead of listening; None where there are none.

    In the wanted language first, then made by people, then in the order: named by the upload, beside the
    local file `uri`, inside the media. Captions outside the media that cannot be read are left out with a
    warning. Embedded ones are read as they come: errors of the media are raised, here and by `segments`.
    """
    candidates = [
        *(_named(caption, settings) for caption in named),
        *(_beside(path, language, settings) for path, language in captions_beside(uri)),
    ]
    if media.info.captions is not None:
        candidates.append(_Candidate(media.info.captions.language, False, lambda: _embedded(media)))
    candidates.sort(key=lambda candidate: (mismatch(candidate.language, language), candidate.automatic))
    opened = (candidate.open() for candidate in candidates)
    return next((captions for captions in opened if captions is not None), None)


def captions_beside(uri: str) -> list[tuple[str, str | None]]:
    """Path and language of talk.srt, talk.vtt, talk.en.srt … beside talk.mp4, by name; none for a URL."""
    path = local_path(uri)
    if path is None:
        return []
    folder, name = os.path.split(os.path.abspath(path))
    stem = re.escape(os.path.splitext(name)[0])
    pattern = re.compile(rf"{stem}(?:\.([A-Za-z]{{2,3}}(?:-[A-Za-z0-9]{{2,8}})*))?\.(?:srt|vtt)")
    try:
        found = [pattern.fullmatch(entry) for entry in sorted(os.listdir(folder))]
    except OSError:
        # The media was readable, its folder need not be.
        return []
    return [(os.path.join(folder, match[0]), match[1]) for match in found if match]


def _named(caption: Caption, settings: MediaSettings) -> _Candidate:
    def content() -> bytes:
        return (caption.inline or "").encode() if caption.uri is None else _fetched(caption.uri, settings)

    return _Candidate(caption.language, caption.kind == "auto", lambda: _sidecar(content, caption.language, settings))


def _beside(path: str, language: str | None, settings: MediaSettings) -> _Candidate:
    return _Candidate(language, False, lambda: _sidecar(lambda: _fetched(path, settings), language, settings))


def _sidecar(content: Callable[[], bytes], language: str | None, settings: MediaSettings) -> Captions | None:
    try:
        segments = _read_cues(as_utf8(content()), settings)
    except UploadError as error:
        log.warning("captions left out: %s: %s", error.reason, error)
        return None
    return Captions("captions.sidecar", primary_code(language), iter(segments))


def _read_cues(content: bytes, settings: MediaSettings) -> list[Segment]:
    with BytesSource(content) as source, open_media(source, settings) as media:
        segments = list(media.cues())
    if not segments:
        raise PermanentError("no_captions", "no text in the captions", stage="decode")
    return segments


def _fetched(uri: str, settings: MediaSettings) -> bytes:
    limited = settings.model_copy(update={"max_bytes": min(settings.max_bytes, MAX_CAPTION_BYTES)})
    with open_source(uri, limited) as source:
        return source.read_at(0, MAX_CAPTION_BYTES)


def as_utf8(content: bytes) -> bytes:
    """Caption files carry no encoding: UTF-8, else UTF-16 by its mark, else Windows-1252 of old editors."""
    for encoding in ("utf-8-sig", "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "cp1252"):
        try:
            return content.decode(encoding).encode()
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1").encode()


def _embedded(media: Media) -> Captions | None:
    track = media.info.captions
    segments = media.cues()
    first = next(segments, None)
    if track is None or first is None:
        return None
    return Captions("captions.embedded", track.language, chain((first,), segments))
