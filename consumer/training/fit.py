"""Fits heads: linear discriminants that start from the labels' own vectors and are sharpened by examples. Pure.

A label's own vector is the read-out of its name and description, so a label needs no example. Examples come in as
Fisher's linear discriminant: class means, seen after the views' shared covariance is divided out, each pulled
towards the label's own vector. What the covariance does not trust too much is set by shrinkage, since there are
fewer passages than dimensions (Ledoit and Wolf 2004). Scores are scaled so that probabilities mean what they say on
passages that were held out.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_expit, logsumexp

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

# Chosen on tests/corpus, the dev files.
COVARIANCE_SHRINKAGE = 0.1
OWN_VECTOR_EXAMPLES = 3.0  # a label's own vector counts like so many examples
POLICY_OWN_VECTOR = 0.6  # beside 1.0 for each of the three questions
FOLDS = 5


def unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9))


@dataclass(frozen=True)
class Space:
    """Centred and scaled states of one aspect's views, (passages, views, width), and what makes them round."""

    whitening: Array  # (views, width, width)

    @classmethod
    def of(cls, states: Array) -> "Space":
        return cls(np.stack([_whitening(states[:, view]) for view in range(states.shape[1])]))

    def into(self, states: Array) -> Array:
        views = range(states.shape[-2])
        return np.stack([states[..., view, :] @ self.whitening[view] for view in views], axis=-2)


def _whitening(states: Array) -> Array:
    """The inverse square root of the shrunk covariance, (width, width)."""
    variances, axes = np.linalg.eigh(states.T @ states / len(states))
    shrunk = np.clip(variances, 0, None) + COVARIANCE_SHRINKAGE * variances.mean()
    return np.asarray((axes / np.sqrt(shrunk)) @ axes.T)


def one_of(space: Space, states: Array, classes: Rows, own: Array) -> Array:
    """Directions for labels of which one holds, (labels, views, width).

    `states` are the examples, `classes` says which label each has, `own` holds the labels' own vectors.
    """
    round_own, round_states = unit(space.into(own)), space.into(states)
    means = np.zeros_like(own)
    for label in range(len(own)):
        examples = round_states[classes == label]
        if len(examples):
            share = OWN_VECTOR_EXAMPLES / (OWN_VECTOR_EXAMPLES + len(examples))
            means[label] = share * round_own[label] + (1 - share) * unit(examples.sum(0))
        else:
            means[label] = round_own[label]
    return np.asarray(space.into(unit(means)) / np.sqrt(own.shape[-1]))


def each_or_not(space: Space, states: Array, holds: Array, own: Array) -> Array:
    """Directions for labels that each hold or not, (labels, views, width).

    `holds` is (examples, labels): 1 where the label holds, 0 where it seems to and does not (a look-alike), nan where
    the passage was not written for it. Three questions are added up: is this what the label is about, is it harmful
    at all (learned from all labels together), and is it harmful in this label's way.
    """
    round_states, round_own = space.into(states), unit(space.into(own))
    harmful = (holds == 1).any(1)
    look_alike = (holds == 0).any(1) & ~harmful
    harm = unit(_mean(round_states[harmful]) - _mean(round_states[look_alike]))
    directions = np.zeros_like(own)
    for label in range(len(own)):
        about = ~np.isnan(holds[:, label])
        subject = unit(_mean(round_states[about]) - _mean(round_states[~about]))
        inside = _mean(round_states[holds[:, label] == 1]) - _mean(round_states[holds[:, label] == 0])
        directions[label] = unit(inside) + subject + harm + POLICY_OWN_VECTOR * round_own[label]
    return np.asarray(space.into(directions) / np.sqrt(own.shape[-1]))


def _mean(states: Array) -> Array:
    """Zero of nothing: a label without examples keeps its own vector."""
    return np.asarray(states.mean(0)) if len(states) else np.zeros(states.shape[1:])


def scores(states: Array, directions: Array) -> Array:
    """(passages, views, width) and (labels, views, width) to (passages, labels)."""
    return np.asarray(states.reshape(len(states), -1) @ directions.reshape(len(directions), -1).T)


def softmax_scale(held_out: Array, classes: Rows) -> float:
    """The factor on scores under which softmax gives held-out labels the most likelihood."""

    def loss(log_scale: Array) -> float:
        logits = held_out * np.exp(log_scale[0])
        return float((logsumexp(logits, axis=1) - logits[np.arange(len(classes)), classes]).mean())

    return float(np.exp(minimize(loss, [0.0], method="Nelder-Mead").x[0]))


def sigmoid_scale(held_out: Array, holds: Array, weights: Array) -> tuple[float, Array]:
    """The factor on scores, shared by all labels, and each label's bias (Platt 1999); `holds` may have nan, `weights`
    is how much each entry counts."""
    known = np.where(np.isnan(holds), 0.0, weights)
    signs = 2 * np.nan_to_num(holds) - 1

    def loss(parameters: Array) -> tuple[float, Array]:
        margins = signs * (held_out * parameters[0] + parameters[1:])
        pull = -signs * np.exp(log_expit(-margins)) * known
        gradient = np.concatenate([[np.sum(pull * held_out)], pull.sum(0)])
        return float(-(log_expit(margins) * known).sum()), gradient

    start = np.concatenate([[1.0], np.zeros(held_out.shape[1])])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000}).x
    return float(found[0]), np.asarray(found[1:])


def folds(authors: Sequence[str | None]) -> list[tuple[Rows, Rows]]:
    """(training rows, held-out rows) of each fold; always the same ones.

    All passages of an author are held out together where there are authors enough; else passages at random.
    """
    order = np.random.default_rng(0).permutation(len(authors))
    by_author = Counter(author for author in authors if author is not None)
    if len(by_author) < FOLDS or None in authors:
        parts = np.array_split(order, FOLDS)
    else:
        parts = _of_authors(authors, by_author)
    return [(np.setdiff1d(order, held_out), held_out) for held_out in parts]


def _of_authors(authors: Sequence[str | None], by_author: Mapping[str, int]) -> list[Rows]:
    """The biggest author first, each into the smallest part."""
    parts: list[list[str]] = [[] for _ in range(FOLDS)]
    for author in sorted(by_author, key=lambda author: (-by_author[author], author)):
        min(parts, key=lambda part: sum(by_author[one] for one in part)).append(author)
    return [np.array([at for at, author in enumerate(authors) if author in part]) for part in parts]
