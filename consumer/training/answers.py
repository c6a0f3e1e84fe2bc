"""What was answered about passages of which the truth is known, and how good that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from consumer.training import measures
from consumer.training.measures import Abstaining, Alarms, Bin, Confusion, LabelScore, Proportion
from consumer.training.scores import Array, Classes, top_k

_ABSTAIN_BELOW = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Scores:
    """What can be said of every aspect. `names` are the labels', by id; means over labels leave out those that
    neither hold for any passage nor are found in one."""

    aspect: str
    names: Mapping[str, str]
    passages: int
    macro_f1: float | None
    mean_average_precision: float | None
    brier: float | None
    calibration_error: float | None
    reliability: tuple[Bin, ...]
    labels: tuple[LabelScore, ...]


@dataclass(frozen=True)
class OneOfScores(Scores):
    """`abstaining` is by the probability below which nothing is said, `served` by the name of the thresholds."""

    top_1: Proportion
    top_3: float
    confusions: tuple[Confusion, ...]
    abstaining: Mapping[float, Abstaining]
    served: Mapping[str, Abstaining]


@dataclass(frozen=True)
class EachOrNotScores(Scores):
    """`recall_at_5` is at the one threshold for all labels that gives 5 % false alarms, `mean_recall_at_5` the mean
    over labels, each at its own; `served` is by the name of the thresholds."""

    recall_at_5: float | None
    mean_recall_at_5: float | None
    served: Mapping[str, Alarms]


@dataclass(frozen=True)
class OneOf:
    """Answers about an aspect of which one label holds, for at least one passage.

    `labels` are ids, and `names` what people call them; `probabilities` (passages, labels), `classes` (passages,) the
    row in `labels` of the right one. `thresholds` are from where the first label is accepted, (labels,), by the name
    of what they are for.
    """

    name: str
    labels: Sequence[str]
    names: Sequence[str]
    probabilities: Array
    classes: Classes
    thresholds: Mapping[str, Array]

    def scores(self) -> OneOfScores:
        chosen, confidences = self.probabilities.argmax(1), self.probabilities.max(1)
        right = chosen == self.classes
        rows = np.arange(len(self.labels))
        holds = (self.classes[:, None] == rows).astype(np.float64)
        table = measures.label_scores(self.labels, self.probabilities, chosen[:, None] == rows, holds)
        bins = measures.reliability(confidences, right)
        squared = measures.brier(self.probabilities, holds)
        return OneOfScores(
            aspect=self.name,
            names=dict(zip(self.labels, self.names, strict=True)),
            passages=len(self.classes),
            macro_f1=measures.mean_of_labels([row.f1 for row in table]),
            mean_average_precision=measures.mean_of_labels([row.average_precision for row in table]),
            brier=None if squared is None else squared * len(self.labels),
            calibration_error=measures.calibration_error(bins),
            reliability=bins,
            labels=table,
            top_1=measures.proportion(right),
            top_3=top_k(self.probabilities, self.classes, 3),
            confusions=measures.confusions(self.labels, chosen, self.classes),
            abstaining={below: measures.abstaining(confidences, right, below) for below in _ABSTAIN_BELOW},
            served={
                surface: measures.abstaining(confidences, right, of_labels[chosen])
                for surface, of_labels in self.thresholds.items()
            },
        )


@dataclass(frozen=True)
class EachOrNot:
    """Answers about an aspect of which each label holds or not.

    `labels` are ids, and `names` what people call them; `probabilities` and `holds` are (passages, labels), the
    latter 1, 0, or nan where unknown. `thresholds` are (labels,), nan where a label has none, by the name of what
    they are for; the first of them decide what counts as found in the table of labels.

    The calibration error is over all that is known. Where most of that is as good as certain, it says little: give the
    hard part as an aspect of its own too.
    """

    name: str
    labels: Sequence[str]
    names: Sequence[str]
    probabilities: Array
    holds: Array
    thresholds: Mapping[str, Array]

    def scores(self) -> EachOrNotScores:
        known = ~np.isnan(self.holds)
        found = self.probabilities >= next(iter(self.thresholds.values()))
        table = measures.label_scores(self.labels, self.probabilities, found, self.holds)
        bins = measures.reliability(self.probabilities[known], self.holds[known] == 1)
        return EachOrNotScores(
            aspect=self.name,
            names=dict(zip(self.labels, self.names, strict=True)),
            passages=int(known.any(1).sum()),
            macro_f1=measures.mean_of_labels([row.f1 for row in table]),
            mean_average_precision=measures.mean_of_labels([row.average_precision for row in table]),
            brier=measures.brier(self.probabilities, self.holds),
            calibration_error=measures.calibration_error(bins),
            reliability=bins,
            labels=table,
            recall_at_5=measures.recall_at_false_alarms(self.probabilities, self.holds),
            mean_recall_at_5=measures.mean_of_labels([row.recall_at_5 for row in table]),
            served={
                surface: measures.alarms(self.probabilities, self.holds, of_labels)
                for surface, of_labels in self.thresholds.items()
            },
        )


Answers = OneOf | EachOrNot
