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
    chunks: Iterable[Chunk],
    speech_probability: SpeechProbability,
    settings: WindowSettings,
    first: int = 0,
    start_s: float = 0.0,
) -> Iterator[AudioWindow]:
    """Windows that lie end to end and cover the audio, each yielded as soon as its end is known.

    `chunks` are contiguous from 0. `speech_probability` hears whole frames of 512 samples, and gives each one's
    probability of speech; it hears each window on its own, so that a window depends on its number, on the audio from
    its start, and on the settings alone: not on how the audio is chunked, and not on what came before. So the windows
    from number `first` on, which starts at `start_s`, are the same when those before are not made. About one window
    of audio is held.
    """
    index, rest = first, _without_first(round(start_s * SAMPLE_RATE), chunks)
    samples = np.empty(0, np.float32)
    while True:
        size = _target_frames(index, settings) * FRAME_SAMPLES
        samples = _filled(samples, rest, size + 1)  # one more than a window's most tells whether it is the last
        if not len(samples):
            return
        probabilities = speech_probability(_whole_frames(samples[:size]))
        if len(samples) > size:
            probabilities = probabilities[: _cut(probabilities)]
        window = _window(index, start_s, samples[: len(probabilities) * FRAME_SAMPLES], probabilities)
        yield window
        index, start_s, samples = index + 1, window.end_s, samples[len(window.samples) :]


def _target_frames(index: int, settings: WindowSettings) -> int:
    return round(window_length_s(index, settings) / FRAME_S)


def _without_first(num_samples: int, chunks: Iterable[Chunk]) -> Iterator[Samples]:
    for chunk in chunks:
        yield chunk.samples[num_samples:]
        num_samples = max(0, num_samples - len(chunk.samples))


def _filled(samples: Samples, rest: Iterator[Samples], size: int) -> Samples:
    """`samples` and as much of the rest as it takes to have `size` of them, where there is so much."""
    parts, length = [samples], len(samples)
    while length < size and (part := next(rest, None)) is not None:
        parts.append(part)
        length += len(part)
    return np.concatenate(parts)


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
