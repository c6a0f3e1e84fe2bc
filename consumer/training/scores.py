"""How good scores are, as fractions of 1."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Classes = npt.NDArray[np.int64]


def top_k(scores: Array, classes: Classes, k: int) -> float:
    """How often the right label is among the `k` first; scores are (passages, labels)."""
    first = np.argsort(-scores, axis=1)[:, :k]
    return float((first == classes[:, None]).any(1).mean())


def macro_f1(scores: Array, classes: Classes) -> float:
    """The mean over labels of the harmonic mean of precision and recall."""
    chosen = scores.argmax(1)
    f1 = []
    for label in range(scores.shape[1]):
        right = ((chosen == label) & (classes == label)).sum()
        f1.append(2 * right / max(1, (chosen == label).sum() + (classes == label).sum()))
    return float(np.mean(f1))


def average_precision(scores: Array, holds: Array) -> float:
    """The mean precision at each passage for which the label holds, by falling score; nan passages are left out, and
    those of equal score come in at once, so that their order says nothing."""
    known = ~np.isnan(holds)
    order = np.argsort(-scores[known], kind="stable")
    ranked, found = scores[known][order], np.cumsum(holds[known][order])
    last = np.append(ranked[:-1] != ranked[1:], True)  # of each run of equal scores
    precision = found[last] / (np.flatnonzero(last) + 1)
    return float((np.diff(found[last], prepend=0.0) * precision).sum() / found[-1])


def recall_at(probabilities: Array, holds: Array, threshold: float) -> tuple[float, float]:
    """The share found of passages for which labels hold, and of those for which they do not."""
    found = probabilities >= threshold
    return _share(found[holds == 1]), _share(found[holds == 0])


def _share(found: npt.NDArray[np.bool_]) -> float:
    return float(found.mean()) if len(found) else 0.0
