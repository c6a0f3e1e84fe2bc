"""Trains heads for a language model from examples, and scores them on examples that were held out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.special import softmax as softmax_rows

from consumer import labels
from consumer.errors import SettingsError
from consumer.evidence import Aspect
from consumer.llm.heads import Floats, Head, Heads, scaled, views_of
from consumer.llm.reader import read_outs
from consumer.training import fit
from consumer.training.examples import Example, data_hash, own_texts
from consumer.training.scores import average_precision, macro_f1, recall_at, top_k
from consumer.training.states import States
from consumer.transcript import Passage

Array = npt.NDArray[np.float64]

_ACCEPT_PRECISION = 0.85  # topics are accepted from the probability that gave this on held-out passages
_LOWEST_ACCEPT, _HIGHEST_ACCEPT = 0.35, 0.9
_OWN_TEXTS_SCALE = 12.0  # on scores of labels without examples: what those with examples get
_SUPPORTED_TOP_1 = 0.75  # on held-out passages, which are harder to read than everyday ones


@dataclass(frozen=True)
class Material:
    """What one aspect's head is made from: states as the model gave them, (…, views, width)."""

    passages: Floats
    own: Floats  # (labels, texts, views, width): the labels' own texts
    names: tuple[str, ...]

    def centred(self, rows: fit.Rows) -> tuple[Array, Array]:
        """All passages centred by the mean of `rows`; the labels' own vectors centred by their own mean."""
        own = scaled(self.own, self.own.mean((0, 1)))
        return scaled(self.passages, self.passages[rows].mean(0)), fit.unit(own.sum(1))


@dataclass(frozen=True)
class Known:
    """Which label of an aspect holds in which passage: (facts,) each."""

    aspect: Aspect
    rows: fit.Rows
    classes: fit.Rows

    @classmethod
    def of(
        cls, name: str, labels: Sequence[str], facts: Iterable[tuple[int, str]], parents: Sequence[str] = ()
    ) -> Self:
        at = {label: number for number, label in enumerate(labels)}
        rows, classes = np.array([(row, at[label]) for row, label in facts], np.int64).reshape(-1, 2).T
        return cls(Aspect(name, tuple(labels), "mean", np.zeros(len(labels)), tuple(parents)), rows, classes)

    def at(self, facts: fit.Rows) -> "Known":
        return replace(self, rows=self.rows[facts], classes=self.classes[facts])

    def in_question(self, scores: Array) -> Array:
        """Of (facts, labels), only the labels that are in question together with the right one."""
        return np.where(self.aspect.in_question(self.classes), scores, -np.inf)


def train(examples: Sequence[Example], states: States, command: str) -> Heads:
    """Reads what was not read before; the rest takes seconds.

    Raises SettingsError when an aspect has too few examples to hold some out.
    """
    material, views = _read(examples, states), states.reader.views
    heads, scores = {}, {}
    for known in _known(examples, material):
        name = known.aspect.name
        heads[name], scores[name] = _one_of(material[name], known, examples)
    heads["policy"], scores["policy"] = _each_or_not("policy", material["policy"], examples)
    mean = np.zeros((len(views), material["topic"].passages.shape[-1]), np.float32)
    for aspect, of_aspect in material.items():
        mean[views_of(aspect, views)] = of_aspect.passages.mean(0)
    llm = states.reader.llm
    card = {
        "name": f"{llm.name}-{data_hash(examples)[:8]}",
        "llm_model": llm.name,
        "llm_fingerprint": llm.fingerprint,
        "data_hash": data_hash(examples),
        "examples": len(examples),
        "languages": [one for one, top_1 in scores["topic"]["top_1_by_language"].items() if top_1 >= _SUPPORTED_TOP_1],
        "read_outs": read_outs(),
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "scores": scores,
        "scores_are": (
            f"means over passages held out in {fit.FOLDS} folds, authors apart where there are enough; "
            "bare: the labels' own vectors alone"
        ),
    }
    return Heads(tuple(views), mean, heads, card)


def _read(examples: Sequence[Example], states: States) -> dict[str, Material]:
    own = own_texts()
    texts = [Passage(text) for of_aspect in own.values() for _, *pair in of_aspect for text in pair]
    read = states.of([*(example.passage for example in examples), *texts])
    at, material = len(examples), {}
    for aspect, of_aspect in own.items():
        views = views_of(aspect, states.reader.views)
        of_labels = read[at : at + 2 * len(of_aspect)][:, views]
        at += 2 * len(of_aspect)
        names = tuple(name for name, *_ in of_aspect)
        shape = (len(names), 2, *of_labels.shape[1:])
        material[aspect] = Material(read[: len(examples)][:, views], of_labels.reshape(shape), names)
    return material


def _known(examples: Sequence[Example], material: Mapping[str, Material]) -> Iterator[Known]:
    """Of each aspect of which one label holds. A passage about a subtopic is also about each one above it."""
    numbered = list(enumerate(examples))
    topics = [(row, example.main_topic) for row, example in numbered if example.main_topic]
    subtopics = [
        (row, category.id)
        for row, example in numbered
        if example.subtopic
        for category in labels.path(example.subtopic)[1:]
    ]
    tones = [(row, example.sentiment) for row, example in numbered if example.sentiment]
    yield Known.of("topic", material["topic"].names, topics)
    below = material["subtopic"].names
    yield Known.of("subtopic", below, subtopics, [labels.path(name)[-2].id for name in below])
    yield Known.of("sentiment", material["sentiment"].names, tones)


def _one_of(material: Material, known: Known, examples: Sequence[Example]) -> tuple[Head, dict[str, Any]]:
    """The head of an aspect of which one label holds, among those that are in question together."""
    if len(known.rows) < fit.FOLDS and known.aspect.parents:
        return _by_own_texts(material, known.aspect), {}
    if len(known.rows) < fit.FOLDS:
        raise SettingsError(
            f"{len(known.rows)} examples with a {known.aspect.name} are too few; give at least {fit.FOLDS}"
        )
    rest = np.setdiff1d(np.arange(len(examples)), known.rows)

    def directions(facts: Known) -> tuple[Array, Array, Array]:
        seen = np.union1d(rest, facts.rows)
        states, own = material.centred(seen)
        space = fit.Space.of(states[seen])
        return states, own, fit.one_of(space, states[facts.rows], facts.classes, own)

    held_out, bare = np.zeros((2, len(known.rows), len(material.names)))
    for training, held in fit.folds(_authors([examples[row] for row in known.rows])):
        states, own, fitted = directions(known.at(training))
        held_out[held] = fit.scores(states[known.rows[held]], fitted)
        bare[held] = fit.scores(states[known.rows[held]], own)
    held_out, bare = known.in_question(held_out), known.in_question(bare)
    scale = fit.softmax_scale(held_out, known.classes)
    _, _, fitted = directions(known)
    probabilities = softmax_rows(scale * held_out, axis=1)
    accept = _accept(probabilities, known.classes)
    report = {
        **top_scores(held_out, known.classes),
        "bare": top_scores(bare, known.classes),
        "log_loss": rounded(-np.log(probabilities[np.arange(len(known.classes)), known.classes]).mean()),
        "accept_from": accept,
        "top_1_by_language": _top_1_by_language(held_out, known, examples),
    }
    return Head(known.aspect, _kept(scale * fitted), np.full(len(material.names), accept)), report


def _by_own_texts(material: Material, aspect: Aspect) -> Head:
    """The head of labels of which there are no examples."""
    states, own = material.centred(np.arange(len(material.passages)))
    fitted = fit.one_of(fit.Space.of(states), states[:0], np.zeros(0, np.int64), own)
    return Head(aspect, _kept(_OWN_TEXTS_SCALE * fitted), np.full(len(material.names), _HIGHEST_ACCEPT))


def _kept(weight: Array) -> Floats:
    return weight.astype(np.float16).astype(np.float32)


def _authors(examples: Sequence[Example]) -> list[str | None]:
    """Who is held out together: an author, or of the only one in a language a part, since otherwise the language would
    be unknown to the heads that are scored on it."""
    of_language: dict[str | None, set[str | None]] = {}
    for example in examples:
        of_language.setdefault(example.language, set()).add(example.author)
    return [
        example.author
        if example.author is None or len(of_language[example.language]) > 1
        else f"{example.author} {row % fit.FOLDS}"
        for row, example in enumerate(examples)
    ]


def _top_1_by_language(held_out: Array, known: Known, examples: Sequence[Example]) -> dict[str, float]:
    languages = np.array([examples[row].language or "en" for row in known.rows])
    return {
        str(one): rounded(top_k(held_out[languages == one], known.classes[languages == one], 1))
        for one in np.unique(languages)
    }


def top_scores(scores: Array, classes: fit.Rows) -> dict[str, float]:
    return {
        "top_1": rounded(top_k(scores, classes, 1)),
        "top_3": rounded(top_k(scores, classes, 3)),
        "macro_f1": rounded(macro_f1(scores, classes)),
    }


def _accept(probabilities: Array, classes: fit.Rows) -> float:
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
    for training, held in fit.folds(_authors(examples)):
        states, own, fitted = directions(training)
        held_out[held], bare[held] = fit.scores(states[held], fitted), fit.scores(states[held], own)
    scale, bias = fit.sigmoid_scale(held_out, holds, _weights(written_for, holds))
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
    return Head(aspect, _kept(scale * fitted), of_labels), report


def _weights(written_for: Array, holds: Array) -> Array:
    """A probability is meant among three kinds of passages that count alike: those that touch upon the label, those
    that break other policies, and all others."""
    touch = ~np.isnan(written_for)
    harmful = (written_for == 1).any(1)[:, None]
    kinds = (touch, ~touch & harmful & (holds == 0), ~touch & ~harmful)
    return np.asarray(sum(kind * touch.sum(0) / np.maximum(1, kind.sum(0)) for kind in kinds))


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

    Of the first, see `fit.each_or_not`. In the second, what breaks no policy breaks none; what breaks one may break
    those that often hold together with it, nan, and no others.
    """
    written_for = np.full((len(examples), len(names)), np.nan)
    may_hold = np.zeros((len(examples), len(names)), dtype=bool)
    for row, example in enumerate(examples):
        for label, value in (example.policy or {}).items():
            written_for[row, names.index(label)] = float(value)
            if value:
                may_hold[row] |= [labels.often_together(label, name) for name in names]
    return written_for, np.where(np.isnan(written_for) & ~may_hold, 0.0, written_for)


def mean_precision(scores: Array, holds: Array) -> float:
    columns = [at for at in range(holds.shape[1]) if (holds[:, at] == 1).any()]
    if not columns:
        return 0.0
    return rounded(np.mean([average_precision(scores[:, at], holds[:, at]) for at in columns]))


def rounded(value: Any) -> float:
    return round(float(value), 4)
