"""The parent's end of a decoder process: starts it, feeds it, waits for it with a deadline, and ends it."""

import math
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from consumer import metrics
from consumer.errors import PermanentError
from consumer.media import wire
from consumer.media.source import Source
from consumer.settings import MediaSettings

PROGRAM = (sys.executable, "-P", "-S", "-m", "consumer.media.sandbox")
REAP_TIMEOUT_S = 10.0

Damage = Literal["truncated", "damaged"]
Message = TypeVar("Message", bound=BaseModel)


class _Told(BaseModel):
    """What the decoder says is checked like any other input: hostile media may have taken it over."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class CaptionStream(_Told):
    """An embedded track of text captions."""

    index: int = Field(ge=0)
    language: str | None
    forced: bool


class StreamInfo(_Told):
    """What the container declares; `audio` is the index of the stream to listen to, if one can be decoded."""

    duration_s: float | None
    audio: int | None
    audio_codecs: tuple[str, ...]
    captions: tuple[CaptionStream, ...]


class RawCue(_Told):
    """A cue as FFmpeg renders it: text with ASS tags; `end_s` is None where the file does not say."""

    start_s: float
    end_s: float | None
    text: str


@dataclass(frozen=True, slots=True)
class RawAudio:
    """Mono s16le samples at 16 kHz."""

    start_s: float
    pcm: bytes


class _Failure(_Told):
    reason: Literal["not_media", "truncated", "no_streams", "decoder_out_of_memory", "decoder_crashed"]
    message: str


class Decoder:
    """A sandboxed process that decodes one track of one source; single-threaded, driven by its reader.

    The process runs ahead by a full pipe (64 KiB, two seconds of audio) and no further. Every method raises
    PermanentError with stage "decode", or what the source raises; `close` ends and reaps the process.
    """

    def __init__(self, source: Source, settings: MediaSettings) -> None:
        self.damage: Damage | None = None
        self._source = source
        self._timeout_s = settings.decode_timeout_s
        size = -1 if source.size is None else source.size
        self._process = subprocess.Popen(
            [*PROGRAM, str(settings.decode_memory_bytes), str(size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            env=_environment(),
            # The terminal's Ctrl-C is for the parent, which drains.
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input = self._process.stdin.fileno()
        self._output = self._process.stdout.fileno()
        os.set_blocking(self._input, False)
        os.set_blocking(self._output, False)
        self._deadline = 0.0

    def info(self) -> StreamInfo:
        """What the media holds; asked once, before `read`."""
        kind, payload = self._next_message()
        if kind != wire.INFO:
            raise self._nonsense(f"{kind!r} came first")
        return self._parsed(StreamInfo, payload)

    def read(self, index: int) -> Iterator[RawAudio | RawCue]:
        """The chosen stream to its end; `damage` holds afterwards."""
        self._deadline = time.monotonic() + self._timeout_s
        self._write(wire.message(wire.TRACK, wire.TRACK_INDEX.pack(index)))
        while True:
            kind, payload = self._next_message()
            if kind == wire.AUDIO:
                yield self._audio(payload)
            elif kind == wire.CUE:
                yield self._parsed(RawCue, payload)
            elif kind == wire.END:
                self.damage = self._damage(payload)
                return
            else:
                raise self._nonsense(f"{kind!r} came amid the track")

    def close(self) -> None:
        self._process.kill()
        self._process.wait(REAP_TIMEOUT_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _next_message(self) -> tuple[bytes, bytes]:
        """The next message that is not a wish for media bytes; those are granted on the way.

        The deadline covers the decoder's own time, not the source's: the source has timeouts of its own.
        """
        self._deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                kind, payload = wire.receive(self._read_exactly)
            except wire.ProtocolError as error:
                raise self._nonsense(str(error)) from error
            if kind == wire.ERROR:
                raise self._reported(self._parsed(_Failure, payload))
            if kind != wire.READ:
                return kind, payload
            self._grant(payload)

    def _grant(self, payload: bytes) -> None:
        try:
            offset, size = wire.READ_RANGE.unpack(payload)
        except struct.error as error:
            raise self._nonsense(str(error)) from error
        if size > wire.BLOCK_BYTES or offset >= 1 << 63:
            raise self._nonsense(f"it wants {size} bytes at {offset}")
        started = time.monotonic()
        content = self._source.read_at(offset, size)
        self._deadline += time.monotonic() - started
        self._write(wire.message(wire.DATA, content))

    def _read_exactly(self, size: int) -> bytes:
        content = bytearray()
        while len(content) < size:
            self._wait_for(self._output, select.POLLIN)
            part = os.read(self._output, size - len(content))
            if not part:
                raise self._died()
            content += part
        return bytes(content)

    def _write(self, content: bytes) -> None:
        rest = memoryview(content)
        while rest:
            self._wait_for(self._input, select.POLLOUT)
            try:
                rest = rest[os.write(self._input, rest) :]
            except BrokenPipeError as error:
                raise self._died() from error

    def _wait_for(self, descriptor: int, event: int) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        left_s = max(0.0, self._deadline - time.monotonic())
        if not poll.poll(math.ceil(left_s * 1000)):
            metrics.sandbox_kills.labels("hung").inc()
            message = f"the decoder was silent for {self._timeout_s:g} s and was ended"
            raise PermanentError("decoder_hung", message, stage="decode")

    def _died(self) -> PermanentError:
        try:
            code = self._process.wait(REAP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return self._nonsense("it closed its pipe")
        metrics.sandbox_kills.labels("crashed").inc()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return PermanentError("decoder_crashed", f"the decoder died of this file: {how}", stage="decode")

    def _nonsense(self, detail: str) -> PermanentError:
        metrics.sandbox_kills.labels("crashed").inc()
        return PermanentError("decoder_crashed", f"the decoder talked nonsense: {detail}", stage="decode")

    def _reported(self, failure: _Failure) -> PermanentError:
        if failure.reason.startswith("decoder_"):
            metrics.sandbox_kills.labels(failure.reason.removeprefix("decoder_")).inc()
        return PermanentError(failure.reason, failure.message[:500], stage="decode")

    def _parsed(self, model: type[Message], payload: bytes) -> Message:
        try:
            return model.model_validate_json(payload)
        except ValidationError as error:
            raise self._nonsense(f"{model.__name__}: {error.error_count()} errors") from error

    def _audio(self, payload: bytes) -> RawAudio:
        header = wire.AUDIO_START.size
        if len(payload) <= header or len(payload) % 2:
            raise self._nonsense(f"audio of {len(payload)} bytes")
        (start_s,) = wire.AUDIO_START.unpack_from(payload)
        if not math.isfinite(start_s):
            raise self._nonsense(f"audio at {start_s} s")
        return RawAudio(start_s, payload[header:])

    def _damage(self, payload: bytes) -> Damage | None:
        for damage in ("truncated", "damaged"):
            if payload == damage.encode():
                return damage
        if payload:
            raise self._nonsense("an unknown kind of damage")
        return None


def _environment() -> dict[str, str]:
    """Nothing but where Python finds this package and its libraries; `-S` then skips the search for them."""
    root = str(Path(__file__).parents[2])
    return {"PYTHONPATH": os.pathsep.join([root, *(os.path.abspath(entry) for entry in sys.path if entry)])}
