"""Quotes: which sentence carries a label. The label's strongest windows are known; their sentences are read alone."""

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from consumer.evidence import Aspect, Evidence, Logits, strongest_window, trust
from consumer.transcript import Passage, Segment, TextWindow, sentences


class ReadPassage(Protocol):
    """What the LLM says of a passage: per aspect, log-odds for each label. `first` marks what is urgent."""

    def __call__(self, passage: Passage, *, video: str, first: bool) -> "Future[dict[str, Logits]]": ...


@dataclass(frozen=True, slots=True)
class Quote:
    """A sentence of `window`, word for word, and what it adds to the label's log-odds."""

    window: TextWindow
    sentence: Segment
    contribution: float


class Quotes:
    """Finds quotes for one video. Each window's sentences are read once, when a label first needs them, and kept as
    long as the window is."""

    def __init__(self, read: ReadPassage, video: str) -> None:
        self._read = read
        self._video = video
        self._sentences: dict[int, list[tuple[Segment, Mapping[str, Logits]]]] = {}

    def find(self, label: str, aspect: Aspect, evidence: Evidence, windows: Mapping[int, TextWindow]) -> Quote:
        """The sentence that speaks most for `label` in the window that does."""
        for index in self._sentences.keys() - windows.keys():
            del self._sentences[index]
        window = windows[strongest_window(evidence, aspect, label)]
        at = aspect.labels.index(label)

        def speaks_for(read: tuple[Segment, Mapping[str, Logits]]) -> float:
            logits = read[1][aspect.name]
            # Among labels of which one holds, only being ahead of the others counts.
            return float(logits[at] - (logits.mean() if aspect.pooling == "mean" else 0.0))

        best = max(self._read_sentences(window), key=speaks_for)
        words = len(best[0].text.split())
        believed = trust(evidence.words) * words / evidence.words if aspect.pooling == "mean" else trust(words)
        return Quote(window, best[0], believed * speaks_for(best))

    def _read_sentences(self, window: TextWindow) -> list[tuple[Segment, Mapping[str, Logits]]]:
        if window.index not in self._sentences:
            parts = sentences(window)
            readings = [self._read(Passage(part.text), video=self._video, first=window.index == 0) for part in parts]
            self._sentences[window.index] = [
                (part, reading.result()) for part, reading in zip(parts, readings, strict=True)
            ]
        return self._sentences[window.index]
