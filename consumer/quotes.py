"""Quotes: which sentence carries a label. The label's strongest windows are known; their sentences are read alone."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from consumer.evidence import Aspect, Evidence, Logits, Shares, trust
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

    def find(
        self, label: str, aspect: Aspect, strongest: Shares, evidence: Evidence, windows: Mapping[int, TextWindow]
    ) -> Quote | None:
        """The sentence that speaks most for `label`, in the first of the `strongest` windows. None where that one is
        not among `windows`: it may not be quoted, and another one would not say why."""
        for index in self._sentences.keys() - windows.keys():
            del self._sentences[index]
        window = windows.get(strongest[0].window)
        if window is None:
            return None
        at = aspect.labels.index(label)
        rivals = aspect.in_question(at)

        def speaks_for(read: tuple[Segment, Mapping[str, Logits]]) -> float:
            logits = read[1][aspect.name]
            # Among labels of which one holds, only being ahead of the others counts.
            return float(logits[at] - (logits[rivals].mean() if aspect.pooling == "mean" else 0.0))

        best = max(self._read_sentences(window), key=speaks_for)
        words = len(best[0].text.split())
        believed = trust(evidence.words) * words / evidence.words if aspect.pooling == "mean" else trust(words)
        return Quote(window, best[0], believed * speaks_for(best))

    def readings(self, texts: Sequence[str]) -> list[Mapping[str, Logits]]:
        """What each text says by itself. Those that were read for quotes are not read again."""
        known = {part.text: logits for parts in self._sentences.values() for part, logits in parts}
        new = [text for text in texts if text not in known]
        reading = {text: self._read(Passage(text), video=self._video, first=False) for text in new}
        return [known[text] if text in known else reading[text].result() for text in texts]

    def _read_sentences(self, window: TextWindow) -> list[tuple[Segment, Mapping[str, Logits]]]:
        if window.index not in self._sentences:
            parts = sentences(window)
            readings = [self._read(Passage(part.text), video=self._video, first=window.index == 0) for part in parts]
            self._sentences[window.index] = [
                (part, reading.result()) for part, reading in zip(parts, readings, strict=True)
            ]
        return self._sentences[window.index]
