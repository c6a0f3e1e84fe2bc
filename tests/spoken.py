"""Spoken clips for tests: their audio, the text that is said in them, and how much of it was heard."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from faster_whisper.audio import decode_audio

from consumer.settings import WindowSettings
from consumer.speech.vad import speech_probability
from consumer.speech.windows import AudioWindow, Samples, speech_windows

MEDIA = Path(__file__).parent / "media"
SAMPLES = ("crypto", "dal", "football", "hike", "laptop")
ONE_WINDOW = WindowSettings(first_s=28)

# Whisper writes numbers in figures, and writes some words together; that is no error.
_SAME = {
    "10:30": "half past ten",
    "$60": "sixty dollars",
    "%": " percent",
    "u s b": "usb",
    "goal keeper": "goalkeeper",
    "-": " ",
}
_SMALL = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_LARGE = {"11": "eleven", "12": "twelve", "16": "sixteen", "20": "twenty", "30": "thirty"}
_FIGURES = {str(number): word for number, word in enumerate(_SMALL)} | _LARGE


class Chunk:
    """A piece of audio, as the decoder gives it."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples


def audio(name: str) -> Samples:
    """A clip of tests/media, mono at 16 kHz."""
    samples: Samples = decode_audio(str(MEDIA / name))
    return samples


def said(name: str) -> str:
    return (MEDIA / name).with_suffix(".txt").read_text()


def windows(samples: Samples, settings: WindowSettings | None = None) -> list[AudioWindow]:
    halves = [Chunk(samples[at : at + 8000]) for at in range(0, len(samples), 8000)]
    return list(speech_windows(halves, speech_probability, settings or WindowSettings()))


def one_window(name: str) -> AudioWindow:
    (window,) = windows(audio(name), ONE_WINDOW)
    return window


def noise(length_s: float, level: float) -> Samples:
    rng = np.random.default_rng(7)
    return rng.normal(0, level, int(length_s * 16_000)).astype(np.float32)


def music(length_s: float) -> Samples:
    """Plucked notes of a broken chord."""
    time_s = np.arange(int(length_s * 16_000)) / 16_000
    notes_hz = np.array([261.6, 329.6, 392.0, 523.3])[(time_s / 0.5).astype(int) % 4]
    partials = sum(np.sin(2 * np.pi * notes_hz * time_s * part) / part for part in (1, 2, 3))
    return np.asarray(0.3 * np.exp(-6 * (time_s % 0.5)) * partials, np.float32)


def word_error_rate(reference: str, heard: str) -> float:
    """Words to put in, take out or change, by words of the reference."""
    wanted, got = _words(reference), _words(heard)
    return _distance(wanted, got) / len(wanted)


def _words(text: str) -> list[str]:
    text = text.lower()
    for written, spoken in _SAME.items():
        text = text.replace(written, spoken)
    return [_FIGURES.get(word, word) for word in re.findall(r"[\w']+", text)]


def _distance(left: Sequence[str], right: Sequence[str]) -> int:
    row = list(range(len(right) + 1))
    for at, word in enumerate(left, 1):
        diagonal, row[0] = row[0], at
        for column, other in enumerate(right, 1):
            diagonal, row[column] = (
                row[column],
                min(row[column], row[column - 1], diagonal - (word == other)) + 1,
            )
    return row[-1]
