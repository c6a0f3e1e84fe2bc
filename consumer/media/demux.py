"""Containers, tracks, audio and cues through PyAV. Runs in the sandbox only: FFmpeg meets hostile bytes here.

Video is never decoded: the whitelists keep FFmpeg's own stream probing from opening a video decoder, which is
how CVE-2026-8461 is reached.
"""

import re
from collections.abc import Iterator
from typing import Any, Protocol

import av

# PyAV imports these when it meets the first subtitle: too late in the sandbox.
import av.subtitles.codeccontext
import av.subtitles.stream
from av.stream import Discard, Disposition

from consumer.media.wire import BLOCK_BYTES, SAMPLE_RATE

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mp3,wav,w64,ogg,flac,aac,mpegts,avi,srt,webvtt"
AUDIO_CODECS = (
    "aac,aac_latm,mp3,mp3float,mp2,mp2float,opus,libopus,vorbis,flac,alac,ac3,eac3,adpcm_ms,adpcm_ima_wav,"
    "pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,"
    "pcm_alaw,pcm_mulaw"
)
TEXT_CODECS = "subrip,srt,webvtt,mov_text,ass,ssa,text"
OPTIONS = {
    "format_whitelist": CONTAINERS,
    "codec_whitelist": f"{AUDIO_CODECS},{TEXT_CODECS}",
    "protocol_whitelist": "",
    "max_streams": "64",
    "probesize": str(5 << 20),
    "analyzeduration": str(5_000_000),
}
# What a file that was one of these once still starts with.
_SIGNATURES = re.compile(rb".{4}ftyp|\x1a\x45\xdf\xa3|RIFF|OggS|fLaC", re.DOTALL)

_BLOCK_AUDIO_BYTES = SAMPLE_RATE  # half a second of s16
_GAP_S = 0.1
_TAIL_S = 1.0
_MAX_CUE_CHARACTERS = 10_000


class MediaFile(Protocol):
    def read(self, size: int) -> bytes: ...
    def seek(self, offset: int, whence: int = 0) -> int: ...
    def tell(self) -> int: ...


class RefusedError(Exception):
    """The file cannot be used; `args` are the reason and the message."""


def open_container(file: MediaFile) -> Any:
    try:
        return av.open(file, "r", options=OPTIONS, buffer_size=BLOCK_BYTES, metadata_errors="replace")
    except av.error.MemoryError:
        raise
    except av.FFmpegError as error:
        file.seek(0)
        if _SIGNATURES.match(file.read(16)) and not isinstance(error, av.error.ArgumentError):
            raise RefusedError("truncated", "its index is missing or broken: cut off in transfer?") from error
        raise RefusedError("not_media", f"no container among {CONTAINERS}") from error


def describe(container: Any) -> dict[str, Any]:
    """What the parent chooses from; `audio` is the index of the stream to listen to."""
    if not container.streams:
        raise RefusedError("no_streams", "the container holds nothing")
    usable = [stream for stream in container.streams.audio if _decoder(stream) in AUDIO_CODECS.split(",")]
    usable.sort(key=lambda stream: not stream.disposition & Disposition.default)
    return {
        "duration_s": container.duration / av.time_base if container.duration else None,
        "audio": usable[0].index if usable else None,
        "audio_codecs": [_decoder(stream) for stream in container.streams.audio],
        "captions": [
            {
                "index": stream.index,
                "language": stream.language,
                "forced": bool(stream.disposition & Disposition.forced),
            }
            for stream in container.streams.subtitles
            if _decoder(stream) in TEXT_CODECS.split(",")
        ],
    }


def _decoder(stream: Any) -> str:
    return str(stream.codec_context.codec.name) if stream.codec_context else "unknown"


class Track:
    """One stream, read to its end. `damage` says afterwards whether it was all there."""

    def __init__(self, container: Any, index: int) -> None:
        self._container = container
        self._stream = container.streams[index]
        self._start_s = (container.start_time or 0) / av.time_base if _has_clock(container) else 0.0
        self._undecodable_packets = 0
        self._broken_at_end = False
        self._broken_midway = False
        self._end_s = 0.0
        for stream in container.streams:
            stream.discard = Discard.default if stream is self._stream else Discard.all

    @property
    def damage(self) -> str:
        if self._broken_midway or (self._end_s == 0 and self._undecodable_packets):
            return "damaged"
        end_s = _declared_end_s(self._stream)
        if end_s is None:
            is_cut = self._broken_at_end or _points_past_the_end(self._stream)
        else:
            is_cut = self._end_s < end_s - max(_TAIL_S, 0.01 * end_s)
        return "truncated" if is_cut else ""

    def audio(self) -> Iterator[tuple[float, bytes]]:
        """Start in seconds, and up to half a second of 16 kHz mono s16le; time only jumps between blocks."""
        # The sandbox allows no threads.
        self._stream.codec_context.thread_count = 1
        start_s, pending = 0.0, bytearray()
        for frame in self._resampled():
            frame_s = self._seconds(frame)
            end_s = start_s + len(pending) / (2 * SAMPLE_RATE)
            if frame_s is not None and abs(frame_s - end_s) > _GAP_S:
                if pending:
                    yield start_s, bytes(pending)
                    pending.clear()
                self._broken_midway |= self._is_loss(frame_s)
                start_s = frame_s
            pending += memoryview(frame.planes[0])[: 2 * frame.samples]
            while len(pending) >= _BLOCK_AUDIO_BYTES:
                yield start_s, bytes(pending[:_BLOCK_AUDIO_BYTES])
                del pending[:_BLOCK_AUDIO_BYTES]
                start_s += _BLOCK_AUDIO_BYTES / (2 * SAMPLE_RATE)
            self._end_s = start_s + len(pending) / (2 * SAMPLE_RATE)
        if pending:
            yield start_s, bytes(pending)

    def cues(self) -> Iterator[dict[str, Any]]:
        """Start, end and text of each cue, as FFmpeg renders it: ASS, with tags and escapes."""
        for packet in self._packets():
            cue = self._cue(packet) if packet.size and packet.pts is not None else None
            if cue is not None:
                self._end_s = cue["end_s"] or cue["start_s"]
                yield cue

    def _packets(self) -> Iterator[Any]:
        try:
            for packet in self._container.demux(self._stream):
                if packet.is_corrupt:
                    self._broken_at_end = True
                yield packet
        except av.error.MemoryError:
            raise
        except av.FFmpegError:
            self._broken_at_end = True

    def _frames(self) -> Iterator[Any]:
        for packet in self._packets():
            try:
                frames = packet.decode()
            except av.error.MemoryError:
                raise
            except av.FFmpegError:
                self._undecodable_packets += not packet.is_corrupt
                self._broken_at_end = True
                continue
            # A decoder that is flushed hands out what it held back: that is no sign of life after the break.
            if frames and self._broken_at_end and packet.size and not packet.is_corrupt:
                self._broken_midway = True
            yield from frames

    def _resampled(self) -> Iterator[Any]:
        """The frames as 16 kHz mono s16, through a new resampler whenever their form changes."""
        form: tuple[str, str, int] | None = None
        resampler = _new_resampler()
        for frame in self._frames():
            frame_form = (frame.format.name, frame.layout.name, frame.sample_rate)
            if frame_form != form:
                yield from _flushed(resampler)
                form, resampler = frame_form, _new_resampler()
            try:
                yield from resampler.resample(frame)
            except av.error.MemoryError:
                raise
            except av.FFmpegError:
                self._broken_at_end = True
        yield from _flushed(resampler)

    def _cue(self, packet: Any) -> dict[str, Any] | None:
        try:
            subtitle = self._stream.codec_context.decode2(packet)
        except av.FFmpegError:
            self._broken_midway = True
            return None
        start_s = self._seconds(packet)
        if subtitle is None or start_s is None:
            return None
        end_s = start_s + float(packet.duration * packet.time_base) if packet.duration else None
        # Nine fields, the last one is the text: ReadOrder, Layer, Style, Name, three margins, Effect, Text.
        texts = [rectangle.ass.decode("utf-8", "replace").split(",", 8)[-1] for rectangle in subtitle]
        return {"start_s": start_s, "end_s": end_s, "text": r"\N".join(texts)[:_MAX_CUE_CHARACTERS]}

    def _is_loss(self, next_s: float) -> bool:
        """Whether a jump to here lost something: broadcast streams have no pauses, recordings may have."""
        is_broadcast = self._container.format.name in ("mpegts", "ogg")
        return is_broadcast and self._end_s > 0 and next_s - self._end_s > _TAIL_S

    def _seconds(self, timed: Any) -> float | None:
        if timed.pts is None or timed.time_base is None:
            return None
        return float(timed.pts * timed.time_base) - self._start_s


def _has_clock(container: Any) -> bool:
    """Whether time starts with picture or sound: a caption file alone starts at 0, not at its first cue."""
    return bool(container.streams.audio or container.streams.video)


def _declared_end_s(stream: Any) -> float | None:
    """Where the stream should end, from containers that know it of a cut file too; others only guess."""
    if stream.container.format.name == "flac" and stream.duration:
        return float(stream.duration * stream.time_base)
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]) if tag else None


def _points_past_the_end(stream: Any) -> bool:
    """Whether an MP4's index lists bytes that the file does not have."""
    index = stream.index_entries
    if not stream.container.format.name.startswith("mov") or not len(index):
        return False
    last = index[len(index) - 1]
    return bool(0 < stream.container.size < last.pos + last.size)


def _new_resampler() -> Any:
    return av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)


def _flushed(resampler: Any) -> Iterator[Any]:
    """What the resampler still holds; one that has nothing to convert hands the None back."""
    return (frame for frame in resampler.resample(None) if frame is not None)
