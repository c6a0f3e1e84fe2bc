"""Tags: what evidence says, from topics down to what lies below them."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from consumer.evidence import Aspect, Evidence
from consumer.tags import ReadOut, Tags, read_tags

SPORTS, TENNIS, SOCCER, FOOD, COOKING = "483", "539", "533", "210", "216"
TOPIC = Aspect("topic", (SPORTS, FOOD), "mean", np.zeros(2))
SUBTOPIC = Aspect("subtopic", (TENNIS, SOCCER, COOKING), "mean", np.zeros(3), (SPORTS, SPORTS, FOOD))
SENTIMENT = Aspect("sentiment", ("positive", "neutral", "negative"), "mean", np.zeros(3))
POLICY = Aspect("policy", ("weapons",), "any", np.full(1, -6.0))
ACCEPT = {SPORTS: 0.4, FOOD: 0.4, TENNIS: 0.5, SOCCER: 0.5, COOKING: 0.5}
READ_OUT = ReadOut(TOPIC, SUBTOPIC, SENTIMENT, POLICY, ACCEPT)

numbers = st.floats(-12, 12)


def tags(topics: Sequence[float], subtopics: Sequence[float]) -> Tags:
    """Those of a minute of words that say this, in log-odds."""
    says = {"topic": topics, "subtopic": subtopics, "sentiment": (0.0, 0.0, 0.0), "policy": (0.0,)}
    logits = {aspect: np.array(values, np.float64) for aspect, values in says.items()}
    return read_tags(Evidence.of_window(0, 150, 60.0, READ_OUT.aspects, logits), READ_OUT)


def test_a_subtopic_is_as_likely_as_its_topic_and_it_given_the_topic() -> None:
    found = {topic.label: topic for topic in tags((3.0, 0.0), (2.0, 0.0, 0.0)).topics}
    sports, tennis = 1 / (1 + np.exp(-3)), 1 / (1 + np.exp(-2))
    assert found[SPORTS].p == round(sports, 4)
    assert abs(found[TENNIS].p - sports * tennis) < 1e-4
    assert found[TENNIS].accepted


def test_siblings_alone_are_in_question_together() -> None:
    found = {topic.label: topic.p for topic in tags((0.0, 0.0), (9.0, 0.0, -9.0)).topics}
    assert found[COOKING] == found[FOOD] == 0.5  # the only one below food, whatever sport it might have been


@given(st.tuples(numbers, numbers), st.tuples(numbers, numbers, numbers))
def test_nothing_is_likelier_than_what_it_lies_below(topics: tuple[float, ...], subtopics: tuple[float, ...]) -> None:
    found = tags(topics, subtopics).topics
    order = [topic.label for topic in found]
    p = {topic.label: topic.p for topic in found}
    for label, parent in zip(SUBTOPIC.labels, SUBTOPIC.parents, strict=True):
        if label in p:
            assert p[label] <= p[parent]
            assert order.index(parent) < order.index(label)


def test_subtopics_that_are_hardly_likely_are_not_told() -> None:
    assert SOCCER not in {topic.label for topic in tags((8.0, 0.0), (6.0, 0.0, 0.0)).topics}


def test_two_topics_that_hold_are_both_accepted() -> None:
    assert {topic.label for topic in tags((1.0, 0.9), (0.0, 0.0, 0.0)).topics if topic.accepted} >= {SPORTS, FOOD}
