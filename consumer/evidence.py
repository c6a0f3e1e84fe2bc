"""Evidence adds; tags are read out of it.

A video's tags are a linear read-out of a running sum. What a window says for a label is a number, its log-odds; a
video's evidence for a topic or a tone is the sum of them over its windows, weighted by words. Evidence for a policy
label pools as "any" instead: one threat in an hour counts, so the strongest windows are kept.

Adding is associative and commutative to the last bit, so windows may be read in any order, in parallel, and before or
after a crash: sums are kept in fixed point, because floating-point sums depend on their order.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float64]  # (labels,)
Counts = npt.NDArray[np.int64]  # (labels,), fixed point

_UNIT = 1 << 24  # fixed-point units in 1.0: 12 h of speech stay below 2^50
KEPT_WINDOWS = 3  # per label
_TRUSTED_WORDS = 60  # as many as the passages have that heads are trained and calibrated on
_DOUBTFUL_WORDS = 12

_Value = TypeVar("_Value")


class Share(NamedTuple):
    """What one window gave to a label, in fixed point; for mean-pooled aspects, times its words."""

    value: int
    window: int


Shares = tuple[Share, ...]  # the strongest first


@dataclass(frozen=True)
class Aspect:
    """How one aspect's tags (topic, subtopic, sentiment, policy) are read out of evidence.

    `pooling` is "mean" where exactly one label holds, and windows are weighted by their words; "any" where each
    label holds or not, and one window can say so. `bias` is added to the pooled log-odds, (labels,). Where labels have
    `parents`, one holds of those below each parent, given that the parent does.
    """

    name: str
    labels: tuple[str, ...]
    pooling: Literal["mean", "any"]
    bias: Logits
    parents: tuple[str, ...] = ()

    @cached_property
    def siblings(self) -> Counts:
        """(labels,): a number for each label, the same for those that are in question together."""
        if not self.parents:
            return np.zeros(len(self.labels), np.int64)
        return np.unique(np.array(self.parents), return_inverse=True)[1].astype(np.int64)

    def in_question(self, rows: Counts | int) -> npt.NDArray[np.bool_]:
        """Which labels are in question together with those in `rows`: (labels,) for one, (rows, labels) for many."""
        return np.asarray(self.siblings[rows, ..., None] == self.siblings)


@dataclass(frozen=True)
class Evidence:
    """What windows of one video say together. `Evidence() + a + b == Evidence() + b + a`, to the last bit.

    Each window may be added once.
    """

    words: int = 0
    media_ms: int = 0
    sums: Mapping[str, Counts] = field(default_factory=dict)  # per mean-pooled aspect
    strongest: Mapping[str, tuple[Shares, ...]] = field(default_factory=dict)  # per aspect and label

    @classmethod
    def of_window(
        cls, window: int, words: int, media_s: float, aspects: Iterable[Aspect], logits: Mapping[str, Logits]
    ) -> "Evidence":
        """One window's evidence; `logits` holds, per aspect, what its text says for each label, (labels,)."""
        if not words:
            return cls(media_ms=round(media_s * 1000))
        sums: dict[str, Counts] = {}
        strongest: dict[str, tuple[Shares, ...]] = {}
        for aspect in aspects:
            values = np.rint(logits[aspect.name] * _UNIT).astype(np.int64)
            if aspect.pooling == "mean":
                values *= words
                sums[aspect.name] = values
            else:
                values = np.rint(trust(words) * values).astype(np.int64)
            if not aspect.parents:  # a subtopic's quote comes from where its topic's does
                strongest[aspect.name] = tuple((Share(int(value), window),) for value in values)
        return cls(words, round(media_s * 1000), sums, strongest)

    def __add__(self, other: "Evidence") -> "Evidence":
        return Evidence(
            self.words + other.words,
            self.media_ms + other.media_ms,
            _merge(self.sums, other.sums, np.add),
            _merge(self.strongest, other.strongest, _stronger),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Evidence) and self._key() == other._key()

    def _key(self) -> tuple[object, ...]:
        sums = {aspect: row.tolist() for aspect, row in self.sums.items()}
        return self.words, self.media_ms, sums, dict(self.strongest)

    __hash__ = None  # type: ignore[assignment]  # holds arrays


def _merge(
    ours: Mapping[str, _Value], theirs: Mapping[str, _Value], combine: Callable[[_Value, _Value], _Value]
) -> dict[str, _Value]:
    merged = {**ours, **theirs}
    return {key: combine(ours[key], theirs[key]) if key in ours and key in theirs else merged[key] for key in merged}


def _stronger(ours: tuple[Shares, ...], theirs: tuple[Shares, ...]) -> tuple[Shares, ...]:
    # The window's number settles ties, so that the order of adding cannot.
    return tuple(
        tuple(sorted(a + b, key=lambda share: (-share.value, share.window))[:KEPT_WINDOWS])
        for a, b in zip(ours, theirs, strict=True)
    )


def probabilities(evidence: Evidence, aspect: Aspect) -> Logits | None:
    """How likely each label is, given its parent if it has one, (labels,); None as long as not a word was read."""
    if not evidence.words:
        return None
    if aspect.pooling == "mean":
        mean = evidence.sums[aspect.name] / (_UNIT * evidence.words)
        return softmax(trust(evidence.words) * mean + aspect.bias, aspect.siblings)
    return np.array(
        [
            _any(sigmoid(np.array([share.value / _UNIT for share in shares]) + bias))
            for shares, bias in zip(evidence.strongest[aspect.name], aspect.bias, strict=True)
        ]
    )


def strongest_windows(evidence: Evidence) -> set[int]:
    """The numbers of the windows that speak most for some label. A window that is not among them will never be again:
    only a later one can take a label's first place."""
    return {shares[0].window for labels in evidence.strongest.values() for shares in labels}


def _any(strongest: Logits) -> float:
    """A noisy-or: the strongest window counts in full, others by what they have above even odds.

    Without that floor, a hundred windows that are each a little suspicious would add up to certainty.
    """
    best, *others = strongest
    return float(1 - (1 - best) * np.prod([1 - max(0.0, 2 * p - 1) for p in others]))


def trust(words: int) -> float:
    """How much of what so many words seem to say is believed, 0 to 1: states of short texts scatter."""
    return min(1.0, words / (words + _DOUBTFUL_WORDS) * (1 + _DOUBTFUL_WORDS / _TRUSTED_WORDS))


def softmax(logits: Logits, siblings: Counts) -> Logits:
    """Probabilities that add up to 1 among each number of `siblings`, (labels,) each."""
    highest = np.full(siblings.max() + 1, -np.inf)
    np.maximum.at(highest, siblings, logits)
    powers = np.exp(logits - highest[siblings])
    return np.asarray(powers / np.bincount(siblings, powers)[siblings])


def sigmoid(logits: Logits) -> Logits:
    return np.asarray(1 / (1 + np.exp(-logits)))
