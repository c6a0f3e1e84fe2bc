"""How good probabilities are, and how far they can be believed. Pure; shares are fractions of 1.

Where nothing can be said, for want of passages, a measure is None. `scores.py` has the rest: how passages are ranked.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from consumer.training.scores import Array, Classes, average_precision

Flags = npt.NDArray[np.bool_]

BINS = 15
FALSE_ALARM_RATE = 0.05
_Z = 1.96  # standard deviations on either side: 95 %


@dataclass(frozen=True)
class Proportion:
    """`right` of `of`, as a share, and between which shares it lies with 95 % confidence."""

    right: int
    of: int
    value: float | None
    low: float
    high: float


def proportion(hits: Flags) -> Proportion:
    """How many of any number of things are so, with the interval of Wilson (1927), which holds for few of them too."""
    right, of = int(hits.sum()), hits.size
    if not of:
        return Proportion(0, 0, None, 0.0, 1.0)
    value, slack = right / of, _Z**2 / of
    centre = (value + slack / 2) / (1 + slack)
    half = math.sqrt(value * (1 - value) * slack + slack**2 / 4) / (1 + slack)
    # Rounding must not put 0 of 5 or 5 of 5 outside.
    return Proportion(right, of, value, min(value, max(0.0, centre - half)), max(value, min(1.0, centre + half)))


@dataclass(frozen=True)
class Bin:
    """Answers given with a probability from `low` to below `high`; `confidence` is the mean probability of those."""

    low: float
    high: float
    confidence: float | None
    accuracy: Proportion


def reliability(probabilities: Array, right: Flags, bins: int = BINS) -> tuple[Bin, ...]:
    """How often answers are right, by the probability they were given with; both are (answers,).

    The bins have equal widths and cover 0 to 1; the last one has 1 in it.
    """
    at = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    return tuple(
        Bin(number / bins, (number + 1) / bins, _mean(probabilities[at == number]), proportion(right[at == number]))
        for number in range(bins)
    )


def calibration_error(bins: Sequence[Bin]) -> float | None:
    """How far, in the mean over answers, their bin's accuracy is from its mean probability.

    The expected calibration error of Naeini, Cooper, Hauskrecht (2015) and Guo et al. (2017).
    """
    answers = sum(one.accuracy.of for one in bins)
    gaps = sum(abs(one.accuracy.right - one.accuracy.of * (one.confidence or 0.0)) for one in bins)
    return gaps / answers if answers else None


def brier(probabilities: Array, holds: Array) -> float | None:
    """The mean squared error of the probability that something holds (1, 0, or nan where unknown); 0 to 1.

    Of one label among several, Brier (1950) sums over the labels: that is this, times their number; 0 to 2.
    """
    known = ~np.isnan(holds)
    return _mean((probabilities[known] - holds[known]) ** 2)


@dataclass(frozen=True)
class LabelScore:
    """One label: it holds for `support` of `known` passages, and is `found` in so many of those.

    `recall_at_5` is the recall with at most 5 % false alarms, at the threshold that gives these.
    """

    label: str
    support: int
    known: int
    found: int
    precision: float | None
    recall: float | None
    f1: float | None
    average_precision: float | None
    recall_at_5: float | None


def label_scores(labels: Sequence[str], probabilities: Array, found: Flags, holds: Array) -> tuple[LabelScore, ...]:
    """A row for each label. The tables are (passages, labels); `holds` is 1, 0, or nan where unknown."""
    columns = zip(labels, probabilities.T, found.T, holds.T, strict=True)
    return tuple(_label_score(label, p, of_label, truth) for label, p, of_label, truth in columns)


def _label_score(label: str, probabilities: Array, found: Flags, holds: Array) -> LabelScore:
    known, positive = ~np.isnan(holds), holds == 1
    right = int((found & positive).sum())
    support, taken = int(positive.sum()), int((found & known).sum())
    return LabelScore(
        label,
        support,
        int(known.sum()),
        taken,
        right / taken if taken else None,
        right / support if support else None,
        2 * right / (taken + support) if taken + support else None,
        average_precision(probabilities, holds) if support else None,
        recall_at_false_alarms(probabilities, holds),
    )


def mean_of_labels(values: Sequence[float | None]) -> float | None:
    """The mean over the labels of which something can be said."""
    return _mean(np.array([value for value in values if value is not None]))


def recall_at_false_alarms(probabilities: Array, holds: Array, rate: float = FALSE_ALARM_RATE) -> float | None:
    """The share found of what holds, at the lowest threshold that lets through at most `rate` of what does not.

    Tables of one shape; `holds` is 1, 0, or nan where unknown. Equal probabilities are on one side together.
    """
    positive, negative = probabilities[holds == 1], np.sort(probabilities[holds == 0])[::-1]
    if not len(positive) or not len(negative):
        return None
    allowed = math.floor(rate * len(negative) + 1e-9)  # 0.29 * 100 is below 29
    return float((positive > negative[allowed]).mean()) if allowed < len(negative) else 1.0


@dataclass(frozen=True)
class Confusion:
    """How many passages of `label`, and which share of its passages, are taken for another one."""

    label: str
    taken_for: str
    count: int
    share: float


def confusions(labels: Sequence[str], chosen: Classes, classes: Classes) -> tuple[Confusion, ...]:
    """Which labels are taken for which, the most frequent first; both arrays are (passages,), of rows in `labels`."""
    wrong = chosen != classes
    support = Counter(classes.tolist())
    pairs = Counter(zip(classes[wrong].tolist(), chosen[wrong].tolist(), strict=True))
    found = [
        Confusion(labels[label], labels[taken_for], count, count / support[label])
        for (label, taken_for), count in pairs.items()
    ]
    return tuple(sorted(found, key=lambda one: (-one.count, -one.share, one.label, one.taken_for)))


@dataclass(frozen=True)
class Abstaining:
    """The share of passages that something is said about, and how much of that is right."""

    coverage: Proportion
    precision: Proportion


def abstaining(confidences: Array, right: Flags, threshold: Array | float) -> Abstaining:
    """What comes of saying nothing below `threshold`, one for all answers or one each; arrays are (answers,)."""
    kept = confidences >= threshold
    return Abstaining(proportion(kept), proportion(right[kept]))


@dataclass(frozen=True)
class Alarms:
    """What comes of raising alarms: how many are right, the share found of what holds, and of what does not."""

    precision: Proportion
    recall: Proportion
    false_alarms: Proportion


def alarms(probabilities: Array, holds: Array, thresholds: Array) -> Alarms:
    """Alarms from each label's threshold on, all labels together.

    The tables are (passages, labels), `thresholds` (labels,); `holds` is 1, 0, or nan where unknown. A label whose
    threshold is nan raises none and is left out.
    """
    served = ~np.isnan(thresholds)
    found, truth = probabilities[:, served] >= thresholds[served], holds[:, served]
    known = ~np.isnan(truth)
    return Alarms(
        proportion(truth[found & known] == 1),
        proportion(found[truth == 1]),
        proportion(found[truth == 0]),
    )


def flips(first_tags: Sequence[str | None]) -> int:
    """How often a video's first tag changes from one revision to the next; None where it has none yet."""
    named = [tag for tag in first_tags if tag is not None]
    return sum(before != after for before, after in pairwise(named))


def _mean(values: Array) -> float | None:
    return float(values.mean()) if values.size else None
