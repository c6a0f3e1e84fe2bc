"""Scores heads on examples; honest only on examples that they were not trained on."""

from collections.abc import Sequence

import numpy as np

from consumer import labels
from consumer.evidence import Aspect, Evidence, Logits, probabilities
from consumer.llm.heads import Heads
from consumer.training.answers import Answers, EachOrNot, OneOf
from consumer.training.examples import Example, own_texts
from consumer.training.report import Evaluation
from consumer.training.scores import Array, Classes
from consumer.training.states import States
from consumer.training.train import policy_knowledge
from consumer.transcript import Passage

SHARES = (0.25, 0.5, 0.75)  # of a passage's words, before all of it

Read = Sequence[dict[str, Logits]]  # per example, each aspect's probabilities


def evaluate(examples: Sequence[Example], states: States, heads: Heads, shares: Sequence[float] = SHARES) -> Evaluation:
    """What the heads answer to the examples' passages, whole and for each of `shares` to as much of them: the smallest
    is what is called provisional."""
    read = {share: _read(examples, share, states, heads) for share in (*sorted(shares), 1.0)}
    answers = {share: _answers(examples, at, heads) for share, at in read.items()}
    authors = ", ".join(sorted({example.author or "unknown" for example in examples}))
    return Evaluation(
        about={
            "examples": f"{len(examples)}, by {authors}",
            "language model": heads.card["llm_model"],
            "heads": f"{heads.card['name']}@{heads.fingerprint}",
        },
        final=answers[1.0],
        provisional=answers[min(shares)] if shares else (),
        by_share=answers if shares else {},
        first_tags=_first_topics(examples, list(read.values()), heads) if shares else (),
    )


def _read(examples: Sequence[Example], share: float, states: States, heads: Heads) -> Read:
    passages = [_beginning(example.passage, share) for example in examples]
    read = []
    for passage, of_passage in zip(passages, states.of(passages), strict=True):
        evidence = Evidence.of_window(0, len(passage.text.split()), 0.0, heads.aspects, heads.logits(of_passage))
        known = {aspect.name: probabilities(evidence, aspect) for aspect in heads.aspects}
        read.append({name: values for name, values in known.items() if values is not None})
    return read


def _beginning(passage: Passage, share: float) -> Passage:
    words = passage.text.split()
    return Passage(" ".join(words[: max(1, round(share * len(words)))]), passage.title)


def _answers(examples: Sequence[Example], read: Read, heads: Heads) -> list[Answers]:
    answers: list[Answers] = []
    for name, held in (
        ("topic", [example.main_topic for example in examples]),
        ("subtopic", [example.subtopic for example in examples]),
        ("sentiment", [example.sentiment for example in examples]),
    ):
        rows = [row for row, label in enumerate(held) if label is not None]
        if rows:
            classes = [heads.heads[name].aspect.labels.index(label) for label in held if label is not None]
            answers.append(_one_of(name, np.array([read[row][name] for row in rows]), np.array(classes), heads))
    if any(example.policy for example in examples):
        answers += _each_or_not(examples, np.array([of_example["policy"] for of_example in read]), heads)
    return answers


def _one_of(name: str, values: Array, classes: Classes, heads: Heads) -> OneOf:
    """Of subtopics, only those below the right parent are in question."""
    aspect = heads.heads[name].aspect
    return OneOf(
        f"{name}, given its parent" if aspect.parents else name,
        aspect.labels,
        _names(aspect),
        np.where(aspect.in_question(classes), values, 0.0),
        classes,
        {"accept": heads.heads[name].thresholds},
    )


def _each_or_not(examples: Sequence[Example], values: Array, heads: Heads) -> list[Answers]:
    aspect = heads.heads["policy"].aspect
    written_for, holds = policy_knowledge(aspect.labels, examples)
    act = [labels.policy(label).thresholds.act for label in aspect.labels]
    thresholds = {
        "review": heads.heads["policy"].thresholds,
        "act": np.array([np.nan if at is None else at for at in act]),
    }
    return [
        EachOrNot(f"policy among {among}", aspect.labels, _names(aspect), values, known, thresholds)
        for among, known in (("look-alikes", written_for), ("all", holds))
    ]


def _names(aspect: Aspect) -> list[str]:
    names = {label: name for label, name, _ in own_texts()[aspect.name]}
    return [names[label] for label in aspect.labels]


def _first_topics(examples: Sequence[Example], by_share: Sequence[Read], heads: Heads) -> list[list[str | None]]:
    topics = heads.heads["topic"].aspect.labels
    return [
        [topics[int(read[row]["topic"].argmax())] for read in by_share]
        for row, example in enumerate(examples)
        if example.topic
    ]
