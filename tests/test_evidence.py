"""Evidence adds, in any order, to the last bit."""

import random
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.evidence import Aspect, Evidence, probabilities, strongest_windows, trust

TOPIC = Aspect("topic", ("a", "b", "c"), "mean", np.array([0.0, 0.1, -0.2]))
POLICY = Aspect("policy", ("x", "y"), "any", np.array([-2.0, -2.0]))
ASPECTS = (TOPIC, POLICY)

logit = st.floats(-30, 30)
window_content = st.tuples(
    st.integers(0, 200), st.floats(0, 60), st.tuples(logit, logit, logit), st.tuples(logit, logit)
)


def window(index: int, words: int, media_s: float, topic: tuple[float, ...], policy: tuple[float, ...]) -> Evidence:
    return Evidence.of_window(index, words, media_s, ASPECTS, {"topic": np.array(topic), "policy": np.array(policy)})


def total(parts: list[Evidence]) -> Evidence:
    return reduce(lambda a, b: a + b, parts, Evidence())


@given(st.lists(window_content, max_size=12), st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_the_same_evidence_to_the_last_bit(
    contents: list[tuple[int, float, tuple[float, ...], tuple[float, ...]]], shuffler: random.Random
) -> None:
    parts = [window(index, *content) for index, content in enumerate(contents)]
    shuffled = shuffler.sample(parts, len(parts))
    in_order, out_of_order = total(parts), total(shuffled)
    assert in_order == out_of_order
    for aspect in ASPECTS:
        ours, theirs = probabilities(in_order, aspect), probabilities(out_of_order, aspect)
        assert (ours is None) == (theirs is None)
        assert ours is None or np.array_equal(ours, np.asarray(theirs))


@given(st.lists(window_content, min_size=3, max_size=12), st.integers(1, 11))
def test_evidence_may_be_added_in_groups(
    contents: list[tuple[int, float, tuple[float, ...], tuple[float, ...]]], cut: int
) -> None:
    parts = [window(index, *content) for index, content in enumerate(contents)]
    assert total(parts[:cut]) + total(parts[cut:]) == total(parts)


def test_a_window_without_words_counts_as_read_and_says_nothing() -> None:
    quiet = Evidence.of_window(0, 0, 12.5, ASPECTS, {})
    assert (quiet.words, quiet.media_ms) == (0, 12_500)
    assert probabilities(quiet, TOPIC) is None
    spoken = window(1, 10, 5.0, (3.0, 0.0, 0.0), (0.0, 0.0))
    assert np.array_equal(np.asarray(probabilities(quiet + spoken, TOPIC)), np.asarray(probabilities(spoken, TOPIC)))


def test_topics_weigh_windows_by_their_words() -> None:
    both = window(0, 90, 30, (4.0, 0.0, 0.0), (0.0, 0.0)) + window(1, 10, 30, (0.0, 4.0, 0.0), (0.0, 0.0))
    a, b, _ = np.asarray(probabilities(both, TOPIC))
    assert a > 0.8 > b
    assert np.log(a / b) == pytest.approx(trust(100) * (4 * 0.9 - 4 * 0.1) - 0.1, abs=1e-6)


def test_one_window_with_a_threat_counts_in_an_hour_of_harmless_talk() -> None:
    harmless = [window(index, 80, 30, (0.0, 0.0, 0.0), (-3.0, -3.0)) for index in range(120)]
    threat = window(120, 20, 10, (0.0, 0.0, 0.0), (6.0, -3.0))
    x, y = np.asarray(probabilities(total([*harmless, threat]), POLICY))
    assert x == pytest.approx(1 / (1 + np.exp(2.0 - 6.0 * trust(20))), abs=1e-6)
    assert y < 0.05


@given(st.lists(st.tuples(logit, logit, logit, logit, logit), min_size=1, max_size=8))
def test_one_label_holds_of_those_below_each_parent(contents: list[tuple[float, ...]]) -> None:
    below = Aspect("below", ("a1", "a2", "b1", "c1", "c2"), "mean", np.zeros(5), ("a", "a", "b", "c", "c"))
    parts = [Evidence.of_window(index, 20, 8, (below,), {"below": np.array(row)}) for index, row in enumerate(contents)]
    a1, a2, b1, c1, c2 = np.asarray(probabilities(total(parts), below))
    assert (a1 + a2, b1, c1 + c2) == pytest.approx((1.0, 1.0, 1.0))
    mean = np.array(contents).mean(0)
    assert (a1 > a2) == (mean[0] > mean[1]) or mean[0] == pytest.approx(mean[1], abs=1e-5)
    assert "below" not in total(parts).strongest


@given(st.lists(st.floats(-4, 1.9), min_size=1, max_size=50))
def test_many_windows_below_even_odds_never_add_up_to_a_finding(logits: list[float]) -> None:
    parts = [window(index, 80, 30, (0.0,) * 3, (value, -5.0)) for index, value in enumerate(logits)]
    pooled = np.asarray(probabilities(total(parts), POLICY))[0]
    assert pooled == pytest.approx(1 / (1 + np.exp(2.0 - max(logits) * trust(80))), abs=1e-6)


def test_a_few_words_are_believed_less_than_many() -> None:
    few, many = (window(0, words, 5, (5.0, 0.0, 0.0), (5.0, 0.0)) for words in (6, 120))
    for aspect in ASPECTS:
        assert np.asarray(probabilities(few, aspect))[0] < np.asarray(probabilities(many, aspect))[0] - 0.1


def strongest_window(evidence: Evidence, aspect: Aspect, label: str) -> int:
    return evidence.strongest[aspect.name][aspect.labels.index(label)][0].window


def test_the_window_that_carries_a_label_is_known() -> None:
    parts = [
        window(0, 50, 30, (1.0, 0.0, 0.0), (0.5, 0.0)),
        window(1, 25, 30, (8.0, 0.0, 0.0), (2.5, 0.0)),
        window(2, 25, 30, (-1.0, 0.0, 0.0), (1.5, 0.0)),
    ]
    evidence = total(parts)
    assert strongest_window(evidence, TOPIC, "a") == 1
    assert strongest_window(evidence, TOPIC, "b") == 0
    assert strongest_window(evidence, POLICY, "x") == 1


@given(st.lists(window_content, max_size=12))
def test_every_labels_strongest_window_is_among_the_strongest_and_never_comes_back_once_it_is_not(
    contents: list[tuple[int, float, tuple[float, ...], tuple[float, ...]]],
) -> None:
    evidence, before = Evidence(), set[int]()
    for index, content in enumerate(contents):
        evidence += window(index, *content)
        now = strongest_windows(evidence)
        assert now <= before | {index}
        if evidence.words:
            assert now == {strongest_window(evidence, aspect, label) for aspect in ASPECTS for label in aspect.labels}
        before = now
