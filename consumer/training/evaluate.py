"""Scores heads on examples; honest only on examples that they were not trained on."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from consumer.evidence import sigmoid
from consumer.llm.heads import Heads
from consumer.llm.reader import Reader
from consumer.training.examples import Example
from consumer.training.train import (
    Progress,
    policy_knowledge,
    policy_scores,
    read_states,
    top_scores,
)


def evaluate(
    examples: Sequence[Example], reader: Reader, heads: Heads, progress: Progress
) -> dict[str, dict[str, Any]]:
    """Scores per aspect, for the aspects that the examples have."""
    states = read_states([example.passage for example in examples], reader, progress)
    logits = [heads.logits(passage) for passage in states]
    scores: dict[str, dict[str, Any]] = {}
    for name, known in (
        ("topic", [example.topic for example in examples]),
        ("sentiment", [example.sentiment for example in examples]),
    ):
        rows = [at for at, label in enumerate(known) if label is not None]
        if rows:
            names = heads.heads[name].aspect.labels
            classes = np.array([names.index(label) for label in known if label is not None])
            scores[name] = {
                "examples": len(rows),
                **top_scores(np.array([logits[at][name] for at in rows]), classes),
            }
    if any(example.policy for example in examples):
        policy = heads.heads["policy"]
        written_for, holds = policy_knowledge(policy.aspect.labels, examples)
        values = np.array([of_passage["policy"] for of_passage in logits])
        above_review = sigmoid(values + policy.aspect.bias) - policy.thresholds
        scores["policy"] = {
            "examples": int((~np.isnan(written_for)).any(1).sum()),
            **policy_scores(values, above_review, written_for, holds),
        }
    return scores
