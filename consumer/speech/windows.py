"""Cuts audio at silences into windows, as it comes. Pure: numpy only, and what hears speech is handed in."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from consumer.settings import WindowSettings
from consumer.transcript import window_length_s

SAMPLE_RATE = 16_000
FRAME_SAMPLES = 512
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE

# Speech starts at a frame of at least the first probability, and ends at one below the second. Both are lower
# than Silero's 0.5 and 0.35: a missed sentence costs tags, a second of noise only a little time.
_SURE = (0.4, 0.25)
# What is loud, and not clearly without speech, is heard as well: far-off voices, speech over music.
_UNSURE = (0.05, 0.03)
_SPEECH_LEVEL = 0.01  # root mean square, -40 dB below full scale
_PAD_S = 0.4
_EARLIEST_CUT = 0.6  # of the window's target length
_SILENCE = 0.25

# The detector hears the same blocks however the audio comes: floating-point sums depend on their shapes.
_BLOCK_FRAMES = 32
_BLOCK_SAMPLES = _BLOCK_FRAMES * FRAME_SAMPLES

Samples = NDArray[np.float32]
Probabilities = NDArray[np.float32]
SpeechProbability = Callable[[Samples], Probabilities]


class Chunk(Protocol):
    """A piece of mono audio at 16 kHz."""

    @property
    def samples(self) -> Samples: ...


@dataclass(frozen=True, slots=True, eq=False)
class AudioWindow:
    """A stretch of audio that ends in a silence where there is one.

    `samples` is mono at 16 kHz from `start_s` to `end_s`. `speech` lists where in it something is said, in
    seconds from the start of the media, in order, apart, with a little silence around; empty for no speech.
    """

    index: int
    start_s: float
    end_s: float
    samples: Samples
    speech: tuple[tuple[float, float], ...]

    @property
    def speech_s(self) -> float:
        return sum(end_s - start_s for start_s, end_s in self.speech)


def speech_windows(
    chunks: Iterable[Chunk], speech_probability: SpeechProbability, settings: WindowSettings
) -> Iterator[AudioWindow]:
    """Windows that lie end to end and cover the audio, each yielded as soon as its end is known.

    `chunks` are contiguous from 0. `speech_probability` hears the audio in order, whole frames of 512 samples
    at a time, and gives each frame's probability of speech. The windows depend on the audio and the settings
    alone, not on how the audio is chunked. About one window of audio is held.
    """
    index, start_s = 0, 0.0
    samples, probabilities = np.empty(0, np.float32), np.empty(0, np.float32)
    for block in _blocks(chunks):
        samples = np.concatenate([samples, block])
        probabilities = np.concatenate([probabilities, speech_probability(_whole_frames(block))])
        while len(samples) > (target := _target_frames(index, settings)) * FRAME_SAMPLES:
            cut = _cut(probabilities[:target])
            window = _window(index, start_s, samples[: cut * FRAME_SAMPLES], probabilities[:cut])
            samples, probabilities = samples[cut * FRAME_SAMPLES :], probabilities[cut:]
            index, start_s = index + 1, window.end_s
            yield window
    if len(samples):
        yield _window(index, start_s, samples, probabilities)


def _target_frames(index: int, settings: WindowSettings) -> int:
    return round(window_length_s(index, settings) / FRAME_S)


def _blocks(chunks: Iterable[Chunk]) -> Iterator[Samples]:
    """The same audio in blocks of one size, the last one shorter."""
    held: list[Samples] = []
    size = 0
    for chunk in chunks:
        held.append(chunk.samples)
        size += len(chunk.samples)
        if size >= _BLOCK_SAMPLES:
            joined = np.concatenate(held)
            whole = size - size % _BLOCK_SAMPLES
            yield from np.split(joined[:whole], whole // _BLOCK_SAMPLES)
            held, size = [joined[whole:]], size - whole
    if size:
        yield np.concatenate(held)


def _whole_frames(samples: Samples) -> Samples:
    return np.pad(samples, (0, -len(samples) % FRAME_SAMPLES))


def _cut(probabilities: Probabilities) -> int:
    """The frame to cut before: amid the longest silence late in the window, else at the likeliest pause."""
    first = int(len(probabilities) * _EARLIEST_CUT)
    late = probabilities[first:]
    silences = _runs(late < _SILENCE)
    if not silences:
        return first + int(late.argmin())
    start, end = max(silences, key=lambda run: run[1] - run[0])
    return first + (start + end + 1) // 2


def _window(index: int, start_s: float, samples: Samples, probabilities: Probabilities) -> AudioWindow:
    end_s = start_s + len(samples) / SAMPLE_RATE
    spans = _spans(probabilities, *_SURE)
    if not spans and _level(samples) > _SPEECH_LEVEL:
        spans = _spans(probabilities, *_UNSURE)
    return AudioWindow(index, start_s, end_s, samples, _padded(spans, start_s, end_s))


def _level(samples: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))


def _spans(probabilities: Probabilities, enter: float, leave: float) -> list[tuple[int, int]]:
    """Runs of frames that stay at `leave` or above, each from its first frame at `enter` or above."""
    spans = []
    for start, end in _runs(probabilities >= leave):
        sure = np.flatnonzero(probabilities[start:end] >= enter)
        if len(sure):
            spans.append((start + int(sure[0]), end))
    return spans


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and past-the-end index of every run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def _padded(spans: list[tuple[int, int]], start_s: float, end_s: float) -> tuple[tuple[float, float], ...]:
    """The spans in seconds, widened within the window, those that then meet joined."""
    padded: list[tuple[float, float]] = []
    for first, past in spans:
        span_start_s = max(start_s, start_s + first * FRAME_S - _PAD_S)
        span_end_s = min(end_s, start_s + past * FRAME_S + _PAD_S)
        if padded and span_start_s <= padded[-1][1]:
            span_start_s = padded.pop()[0]
        padded.append((span_start_s, span_end_s))
    return tuple(padded)
