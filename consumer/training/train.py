"""Trains heads for a language model from examples, and scores them on examples that were held out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.special import softmax as softmax_rows

from consumer import labels
from consumer.errors import SettingsError
from consumer.evidence import Aspect
from consumer.llm.heads import Floats, Head, Heads, scaled, views_of
from consumer.llm.reader import Reader, read_outs
from consumer.training import fit
from consumer.training.examples import Example, data_hash, own_texts
from consumer.training.scores import average_precision, macro_f1, recall_at, top_k
from consumer.transcript import Passage

Array = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]

_BATCH = 16
_ACCEPT_PRECISION = 0.85  # topics are accepted from the probability that gave this on held-out passages
_LOWEST_ACCEPT, _HIGHEST_ACCEPT = 0.35, 0.9
_LANGUAGES = ["en"]  # in which the shipped examples are


@dataclass(frozen=True)
class Material:
    """What one aspect's head is made from: states as the model gave them, (…, views, width)."""

    passages: Floats
    own: Floats  # (labels, texts, views, width): the labels' own texts
    names: tuple[str, ...]

    def centred(self, rows: npt.NDArray[np.int64]) -> tuple[Array, Array]:
        """All passages centred by the mean of `rows`; the labels' own vectors centred by their own mean."""
        own = scaled(self.own, self.own.mean((0, 1)))
        return scaled(self.passages, self.passages[rows].mean(0)), fit.unit(own.sum(1))


def train(examples: Sequence[Example], reader: Reader, command: str, progress: Progress) -> Heads:
    """Reads every example once; the rest takes seconds. `progress` is told how many of how many are read.

    Raises SettingsError when an aspect has too few examples to hold some out.
    """
    material = _read(examples, reader, progress)
    topic, topic_scores = _one_of("topic", material["topic"], [example.topic for example in examples])
    tone, tone_scores = _one_of("sentiment", material["sentiment"], [example.sentiment for example in examples])
    policy, policy_scores = _each_or_not("policy", material["policy"], examples)
    mean = np.concatenate([of_aspect.passages.mean(0) for of_aspect in material.values()])
    card = {
        "name": f"{reader.llm.name}-{data_hash(examples)[:8]}",
        "llm_model": reader.llm.name,
        "llm_fingerprint": reader.llm.fingerprint,
        "data_hash": data_hash(examples),
        "examples": len(examples),
        "languages": _LANGUAGES,
        "read_outs": read_outs(),
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "scores": {"topic": topic_scores, "sentiment": tone_scores, "policy": policy_scores},
        "scores_are": f"means over passages held out in {fit.FOLDS} folds; bare: the labels' own vectors alone",
    }
    return Heads(tuple(reader.views), mean, {"topic": topic, "sentiment": tone, "policy": policy}, card)


def _read(examples: Sequence[Example], reader: Reader, progress: Progress) -> dict[str, Material]:
    own = own_texts()
    texts = [Passage(text) for of_aspect in own.values() for _, *pair in of_aspect for text in pair]
    states = read_states([*(example.passage for example in examples), *texts], reader, progress)
    at, material = len(examples), {}
    for aspect, of_aspect in own.items():
        views = views_of(aspect, reader.views)
        of_labels = states[at : at + 2 * len(of_aspect)][:, views]
        at += 2 * len(of_aspect)
        names = tuple(name for name, *_ in of_aspect)
        shape = (len(names), 2, *of_labels.shape[1:])
        material[aspect] = Material(states[: len(examples)][:, views], of_labels.reshape(shape), names)
    return material


def read_states(passages: Sequence[Passage], reader: Reader, progress: Progress) -> Floats:
    """The states of each passage, (passages, views, width); those of like length share a batch."""
    tokens = [reader.prepare(passage) for passage in passages]
    order = sorted(range(len(tokens)), key=lambda at: tokens[at].cost)
    states: dict[int, Floats] = {}
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        states |= zip(batch, reader.run([tokens[at] for at in batch]), strict=True)
        progress(len(states), len(order))
    return np.stack([states[at] for at in range(len(tokens))])


def _one_of(name: str, material: Material, known: Sequence[str | None]) -> tuple[Head, dict[str, Any]]:
    """The head of an aspect of which one label holds."""
    rows = np.array([at for at, label in enumerate(known) if label is not None])
    if len(rows) < fit.FOLDS:
        raise SettingsError(f"{len(rows)} examples with a {name} are too few; give at least {fit.FOLDS}")
    classes = np.array([material.names.index(label) for label in known if label is not None])

    def directions(training: npt.NDArray[np.int64]) -> tuple[Array, Array, Array]:
        everything = np.setdiff1d(np.arange(len(known)), np.setdiff1d(rows, rows[training]))
        states, own = material.centred(everything)
        space = fit.Space.of(states[everything])
        return states[rows], own, fit.one_of(space, states[rows][training], classes[training], own)

    held_out, bare = np.zeros((2, len(rows), len(material.names)))
    for training, held in fit.folds(len(rows)):
        states, own, fitted = directions(training)
        held_out[held], bare[held] = fit.scores(states[held], fitted), fit.scores(states[held], own)
    scale = fit.softmax_scale(held_out, classes)
    _, _, fitted = directions(np.arange(len(rows)))
    probabilities = softmax_rows(scale * held_out, axis=1)
    accept = _accept(probabilities, classes)
    aspect = Aspect(name, material.names, "mean", np.zeros(len(material.names)))
    report = {
        **top_scores(held_out, classes),
        "bare": top_scores(bare, classes),
        "log_loss": rounded(-np.log(probabilities[np.arange(len(classes)), classes]).mean()),
        "accept_from": accept,
    }
    return Head(aspect, (scale * fitted).astype(np.float32), np.full(len(material.names), accept)), report


def top_scores(scores: Array, classes: npt.NDArray[np.int64]) -> dict[str, float]:
    return {
        "top_1": rounded(top_k(scores, classes, 1)),
        "top_3": rounded(top_k(scores, classes, 3)),
        "macro_f1": rounded(macro_f1(scores, classes)),
    }


def _accept(probabilities: Array, classes: npt.NDArray[np.int64]) -> float:
    """The lowest threshold from which accepted labels are right often enough."""
    right = np.zeros_like(probabilities, dtype=bool)
    right[np.arange(len(classes)), classes] = True
    for threshold in np.arange(_LOWEST_ACCEPT, _HIGHEST_ACCEPT, 0.01):
        accepted = probabilities >= threshold
        if right[accepted].mean() >= _ACCEPT_PRECISION:
            return rounded(threshold)
    return _HIGHEST_ACCEPT


def _each_or_not(name: str, material: Material, examples: Sequence[Example]) -> tuple[Head, dict[str, Any]]:
    """The head of an aspect of which each label holds or not."""
    written_for, holds = policy_knowledge(material.names, examples)

    def directions(training: npt.NDArray[np.int64]) -> tuple[Array, Array, Array]:
        states, own = material.centred(training)
        space = fit.Space.of(states[training])
        return states, own, fit.each_or_not(space, states[training], written_for[training], own)

    held_out, bare = np.zeros((2, len(examples), len(material.names)))
    for training, held in fit.folds(len(examples)):
        states, own, fitted = directions(training)
        held_out[held], bare[held] = fit.scores(states[held], fitted), fit.scores(states[held], own)
    scale, bias = fit.sigmoid_scale(held_out, holds)
    _, _, fitted = directions(np.arange(len(examples)))
    aspect = Aspect(name, material.names, "any", bias)
    of_labels = np.array([labels.policy(label).thresholds.review for label in material.names])
    report = {
        **policy_scores(held_out, expit(scale * held_out + bias) - of_labels, written_for, holds),
        "bare": {
            "average_precision_among_look_alikes": mean_precision(bare, written_for),
            "average_precision_among_all": mean_precision(bare, holds),
        },
    }
    return Head(aspect, (scale * fitted).astype(np.float32), of_labels), report


def policy_scores(scores: Array, above_review: Array, written_for: Array, holds: Array) -> dict[str, float]:
    """`above_review` is by how much each probability is above its label's review threshold."""
    recall, false_alarms = recall_at(above_review, holds, 0.0)
    return {
        "average_precision_among_look_alikes": mean_precision(scores, written_for),
        "average_precision_among_all": mean_precision(scores, holds),
        "recall_at_review": rounded(recall),
        "false_alarms_at_review": rounded(false_alarms),
    }


def policy_knowledge(names: Sequence[str], examples: Sequence[Example]) -> tuple[Array, Array]:
    """Two tables, (examples, labels): what passages were written for, and all that follows from it.

    Of the first, see `fit.each_or_not`. In the second, what breaks no policy breaks none, and what breaks one
    may break others: nan.
    """
    written_for = np.full((len(examples), len(names)), np.nan)
    for row, example in enumerate(examples):
        for label, value in (example.policy or {}).items():
            written_for[row, names.index(label)] = float(value)
    harmful = (written_for == 1).any(1)
    holds = np.where(np.isnan(written_for) & ~harmful[:, None], 0.0, written_for)
    return written_for, holds


def mean_precision(scores: Array, holds: Array) -> float:
    columns = [at for at in range(holds.shape[1]) if (holds[:, at] == 1).any()]
    if not columns:
        return 0.0
    return rounded(np.mean([average_precision(scores[:, at], holds[:, at]) for at in columns]))


def rounded(value: Any) -> float:
    return round(float(value), 4)
