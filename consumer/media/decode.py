"""Media as the consumer reads it: audio or cues with absolute times, out of a sandboxed decoder."""

import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from consumer import metrics
from consumer.errors import PermanentError
from consumer.media import cues
from consumer.media.decoder import CaptionStream, Damage, Decoder, RawAudio, RawCue, StreamInfo
from consumer.media.languages import mismatch, primary_code
from consumer.media.source import Source
from consumer.media.wire import SAMPLE_RATE
from consumer.settings import MediaSettings
from consumer.transcript import Segment

CHUNK_SAMPLES = SAMPLE_RATE // 2
# Timestamps are rounded; less than this is no gap.
JITTER_SAMPLES = SAMPLE_RATE // 20
# Blocks that overlap by more are a clock that started anew (a chained file, a wrapped counter).
MAX_OVERLAP_SAMPLES = SAMPLE_RATE
# Where the length is not known, a longer gap is such a clock too.
MAX_GAP_SAMPLES = 600 * SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """Mono audio at 16 kHz, float32 in -1..1; `start_s` counts from the start of the media."""

    start_s: float
    samples: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class CaptionTrack:
    """An embedded caption track; the language is ISO 639-1, None where the file does not say."""

    language: str | None


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What the container declares; the length is None where it does not, or not credibly."""

    duration_s: float | None
    audio: bool
    captions: CaptionTrack | None


class Media:
    """One opened medium. `damage` holds after a track was read to its end.

    A track is read by one decoder process; a second reading starts another. Each ends when its iterator is
    exhausted, fails or is closed, and all end with `close`.
    """

    def __init__(self, source: Source, settings: MediaSettings, language: str | None) -> None:
        self.damage: Damage | None = None
        self._source = source
        self._settings = settings
        self._decoders: list[Decoder] = []
        self._unread, self._streams = self._start_decoder()
        self._captions = _best(self._streams.captions, language)
        if self._captions is None and self._streams.audio is None and self._streams.audio_codecs:
            self.close()
            message = f"no captions, and the audio is in {', '.join(self._streams.audio_codecs)}"
            raise PermanentError("unsupported_codec", message[:500], stage="decode")

    @property
    def info(self) -> MediaInfo:
        captions = CaptionTrack(primary_code(self._captions.language)) if self._captions else None
        return MediaInfo(_credible(self._streams.duration_s), self._streams.audio is not None, captions)

    def audio(self) -> Generator[AudioChunk]:
        """The audio track, contiguous from 0; a jump forward in its timestamps is silence.

        Bounded by `max_duration_s`. Broken packets are left out, and what follows them is still read. Raises
        PermanentError when not a single second of a damaged track could be decoded. Nothing without a track.
        """
        if self._streams.audio is None:
            return
        decoded_samples = 0
        with closing(self._take_decoder()) as decoder:
            blocks = (part for part in decoder.read(self._streams.audio) if isinstance(part, RawAudio))
            for chunk, is_real in contiguous(blocks, self.info.duration_s, self._settings.max_duration_s):
                decoded_samples += len(chunk.samples) if is_real else 0
                yield chunk
            self._note_damage(decoder.damage)
        if self.damage and decoded_samples < SAMPLE_RATE:
            reason = "truncated" if self.damage == "truncated" else "undecodable"
            raise PermanentError(reason, "not a single second of the audio could be decoded", stage="decode")

    def cues(self) -> Generator[Segment]:
        """The embedded captions as plain text, in order, up to `max_duration_s`. Nothing without a track."""
        if self._captions is None:
            return
        with closing(self._take_decoder()) as decoder:
            raw = (part for part in decoder.read(self._captions.index) if isinstance(part, RawCue))
            yield from cues.segments(raw, until_s=self._settings.max_duration_s)
            self._note_damage(decoder.damage)

    def close(self) -> None:
        for decoder in self._decoders:
            decoder.close()
        self._decoders.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start_decoder(self) -> tuple[Decoder | None, StreamInfo]:
        decoder = Decoder(self._source, self._settings)
        try:
            streams = decoder.info()
        except BaseException:
            decoder.close()
            raise
        self._decoders.append(decoder)
        return decoder, streams

    def _take_decoder(self) -> Decoder:
        """The decoder that described the media, or, once that is used up, a new one."""
        if self._unread is None:
            self._unread, _ = self._start_decoder()
        decoder, self._unread = self._unread, None
        assert decoder is not None
        return decoder

    def _note_damage(self, damage: Damage | None) -> None:
        self.damage = damage or self.damage
        if damage is not None:
            metrics.media_damaged.labels(damage).inc()


def open_media(source: Source, settings: MediaSettings, language: str | None = None) -> Media:
    """Media that describes itself already; a context manager.

    `language` chooses between embedded caption tracks. Raises PermanentError with stage "decode", and what
    the source raises. The source stays the caller's to close.
    """
    return Media(source, settings, language)


def contiguous(
    blocks: Iterable[RawAudio], duration_s: float | None, max_duration_s: float
) -> Iterator[tuple[AudioChunk, bool]]:
    """Blocks laid end to end from 0, and whether each was in the media (or is silence for a gap)."""
    end = round(max_duration_s * SAMPLE_RATE)
    max_position = math.inf if duration_s is None else (duration_s + 1) * SAMPLE_RATE
    position = shift = 0
    for block in blocks:
        samples = np.frombuffer(block.pcm, dtype="<i2").astype(np.float32) / np.float32(32768)
        gap = round(block.start_s * SAMPLE_RATE) + shift - position
        is_far = gap > MAX_GAP_SAMPLES if duration_s is None else position + gap > max_position
        if gap < -MAX_OVERLAP_SAMPLES or is_far:
            shift -= gap
            gap = 0
        if gap < -JITTER_SAMPLES:
            samples = samples[-gap:]
        elif gap > JITTER_SAMPLES:
            for chunk in _silence(position, min(position + gap, end)):
                yield chunk, False
            position += gap
        samples = samples[: max(0, end - position)]
        if len(samples):
            yield AudioChunk(position / SAMPLE_RATE, samples), True
        position += len(samples)
        if position >= end:
            return


def _silence(start: int, end: int) -> Iterator[AudioChunk]:
    for position in range(start, end, CHUNK_SAMPLES):
        samples = np.zeros(min(CHUNK_SAMPLES, end - position), np.float32)
        yield AudioChunk(position / SAMPLE_RATE, samples)


def _best(tracks: Sequence[CaptionStream], language: str | None) -> CaptionStream | None:
    """The first track in the wanted language, else the first; "forced" ones hold only what is foreign."""
    whole = [track for track in tracks if not track.forced]
    return min(whole, key=lambda track: mismatch(track.language, language), default=None)


def _credible(duration_s: float | None) -> float | None:
    return duration_s if duration_s is not None and duration_s > 0 else None
