"""Measures: what they say of cases worked out by hand, and what they may never say."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.training import measures, scores
from consumer.training.measures import proportion

NAN = float("nan")

# Few different values, so that there are equal ones, and values on the bins' edges.
probability = st.integers(0, 60).map(lambda of_60: of_60 / 60)
answers = st.lists(st.tuples(probability, st.booleans()), min_size=1, max_size=60)
truths = st.lists(st.tuples(probability, st.sampled_from([1.0, 0.0, NAN])), max_size=60)


def columns(pairs: list[tuple[float, bool]] | list[tuple[float, float]]) -> tuple[scores.Array, scores.Array]:
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_a_proportion_has_the_interval_of_wilson(right: int, of: int, low: float, high: float) -> None:
    found = proportion(np.arange(of) < right)
    assert (found.right, found.of, found.value) == (right, of, right / of)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_of_nothing_a_proportion_says_nothing() -> None:
    assert proportion(np.zeros(0, dtype=bool)) == measures.Proportion(0, 0, None, 0.0, 1.0)


@given(st.integers(1, 300), st.data())
def test_a_proportion_lies_within_its_interval_and_its_contrary_in_the_mirrored_one(
    of: int, data: st.DataObject
) -> None:
    right = data.draw(st.integers(0, of))
    found, contrary = proportion(np.arange(of) < right), proportion(np.arange(of) >= right)
    assert found.value is not None
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert (1 - found.high, 1 - found.low) == pytest.approx((contrary.low, contrary.high))
    tenfold = proportion(np.arange(10 * of) < 10 * right)
    assert tenfold.high - tenfold.low < found.high - found.low


def test_reliability_of_a_case_by_hand() -> None:
    given_with = np.array([0.9, 0.7, 0.8, 0.1, 1.0])
    bins = measures.reliability(given_with, np.array([True, False, True, False, False]), bins=2)
    lower, upper = bins
    assert (lower.low, lower.high, lower.confidence) == (0.0, 0.5, 0.1)
    assert (lower.accuracy.right, lower.accuracy.of) == (0, 1)
    assert (upper.low, upper.high) == (0.5, 1.0)
    assert upper.confidence == pytest.approx(0.85)
    assert (upper.accuracy.right, upper.accuracy.of) == (2, 4)
    # One answer is 0.1 off, and four are 0.35 off.
    assert measures.calibration_error(bins) == pytest.approx((0.1 + 4 * 0.35) / 5)


@given(answers)
def test_every_answer_is_in_the_one_bin_that_its_probability_is_in(pairs: list[tuple[float, bool]]) -> None:
    given_with, right = columns(pairs)
    bins = measures.reliability(given_with, right == 1)
    assert len(bins) == 15
    assert sum(one.accuracy.of for one in bins) == len(pairs)
    assert sum(one.accuracy.right for one in bins) == right.sum()
    for one in bins:
        assert one.high - one.low == pytest.approx(1 / 15)
        assert (one.confidence is None) == (one.accuracy.of == 0)
        assert one.confidence is None or one.low - 1e-9 <= one.confidence <= one.high + 1e-9
        if one.high < 1:
            inside = (given_with >= one.low + 1e-9) & (given_with < one.high - 1e-9)
            assert inside.sum() <= one.accuracy.of


@given(answers)
def test_the_calibration_error_is_at_least_how_far_the_mean_probability_is_off(pairs: list[tuple[float, bool]]) -> None:
    given_with, right = columns(pairs)
    error = measures.calibration_error(measures.reliability(given_with, right == 1))
    assert error is not None
    assert abs(given_with.mean() - right.mean()) - 1e-9 <= error <= 1
    assert measures.calibration_error(measures.reliability(right, right == 1)) == 0


def test_of_no_answers_there_is_no_calibration_error() -> None:
    assert measures.calibration_error(measures.reliability(np.zeros(0), np.zeros(0, dtype=bool))) is None
    assert measures.brier(np.zeros(1), np.array([NAN])) is None


def test_the_brier_score_is_a_squared_error_over_what_is_known() -> None:
    holds = np.array([[1.0, 0.0], [NAN, 1.0]])
    assert measures.brier(np.array([[0.8, 0.3], [0.9, 0.5]]), holds) == pytest.approx((0.04 + 0.09 + 0.25) / 3)


def test_a_labels_row_counts_what_is_known_of_it_only() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.2, 0.4], [0.6, 0.5]])
    holds = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [NAN, 0.0]])
    one, none = measures.label_scores(("one", "none"), probabilities, probabilities >= 0.5, holds)
    assert (one.label, one.support, one.known, one.found) == ("one", 3, 4, 3)
    assert (one.precision, one.recall, one.f1) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert one.average_precision == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert one.recall_at_5 == pytest.approx(1 / 3)
    assert (none.support, none.found, none.precision, none.f1) == (0, 1, 0.0, 0.0)
    assert (none.recall, none.average_precision, none.recall_at_5) == (None, None, None)


def test_a_label_that_nobody_means_has_no_precision_and_no_f1() -> None:
    (row,) = measures.label_scores(("x",), np.array([[0.1]]), np.array([[False]]), np.array([[0.0]]))
    assert (row.known, row.precision, row.recall, row.f1) == (1, None, None, None)
    assert measures.mean_of_labels([row.f1, 0.5, 0.7]) == pytest.approx(0.6)
    assert measures.mean_of_labels([None]) is None


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=40))
def test_the_mean_f1_of_a_table_is_the_macro_f1_when_every_label_occurs(pairs: list[tuple[int, int]]) -> None:
    pairs = [*pairs, (0, 0), (0, 1), (0, 2)]
    chosen, classes = np.array(pairs).T
    one_hot = np.eye(3)
    table = measures.label_scores("abc", one_hot[chosen], one_hot[chosen] == 1, one_hot[classes])
    assert measures.mean_of_labels([row.f1 for row in table]) == pytest.approx(
        scores.macro_f1(one_hot[chosen], classes)
    )


def test_recall_is_at_the_threshold_that_lets_so_many_false_alarms_through() -> None:
    negative = np.linspace(0.05, 1.0, 20)  # one of them may pass at 5 %, and that is the one at 1.0
    probabilities = np.array([*negative, 0.94, 0.951, 0.99, 0.2, 0.99])
    holds = np.array([*np.zeros(20), 1.0, 1.0, 1.0, 1.0, NAN])
    assert measures.recall_at_false_alarms(probabilities, holds) == 0.5
    assert measures.recall_at_false_alarms(probabilities, holds, rate=0.0) == 0.0
    assert measures.recall_at_false_alarms(probabilities, holds, rate=1.0) == 1.0


def test_a_rate_that_is_a_little_less_in_binary_allows_as_many_as_in_decimal() -> None:
    probabilities = np.array([*np.arange(100) / 100, 0.705])
    holds = np.array([*np.zeros(100), 1.0])
    assert measures.recall_at_false_alarms(probabilities, holds, rate=0.29) == 1.0
    assert measures.recall_at_false_alarms(probabilities, holds, rate=0.28) == 0.0


@given(truths, st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.5, 1.0]))
def test_no_threshold_finds_more_with_as_few_false_alarms(pairs: list[tuple[float, float]], rate: float) -> None:
    probabilities, holds = columns(pairs)
    found = measures.recall_at_false_alarms(probabilities, holds, rate)
    if not (holds == 1).any() or not (holds == 0).any():
        assert found is None
        return
    thresholds = [0.0, *probabilities, 2.0]
    both = [scores.recall_at(probabilities, holds, threshold) for threshold in thresholds]
    assert found == max(recall for recall, false_alarms in both if false_alarms <= rate)


def test_confusions_name_what_is_taken_for_what_the_most_frequent_first() -> None:
    classes, chosen = np.array([(0, 1), (0, 1), (0, 0), (1, 0), (2, 0), (2, 2), (0, 2)]).T
    first, *others = measures.confusions("abc", chosen, classes)
    assert first == measures.Confusion("a", "b", count=2, share=0.5)
    assert others == [
        measures.Confusion("b", "a", count=1, share=1.0),
        measures.Confusion("c", "a", count=1, share=0.5),
        measures.Confusion("a", "c", count=1, share=0.25),
    ]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_every_mistake_is_in_one_confusion(pairs: list[tuple[int, int]]) -> None:
    chosen, classes = np.array(pairs).T
    found = measures.confusions("abcd", chosen, classes)
    assert sum(one.count for one in found) == (chosen != classes).sum()
    assert all(one.label != one.taken_for for one in found)
    assert [one.count for one in found] == sorted((one.count for one in found), reverse=True)


def test_abstaining_says_less_and_is_right_more_often() -> None:
    given_with, right = np.array([0.9, 0.8, 0.5, 0.3]), np.array([True, True, False, True])
    kept = measures.abstaining(given_with, right, 0.5)
    assert (kept.coverage.value, kept.precision.value) == pytest.approx((3 / 4, 2 / 3))
    each = measures.abstaining(given_with, right, np.array([0.95, 0.8, 0.6, 0.3]))
    assert (each.coverage.value, each.precision.value) == (0.5, 1.0)
    assert measures.abstaining(given_with, right, 0.99).precision.value is None


def test_alarms_are_counted_where_the_truth_is_known_and_the_label_has_a_threshold() -> None:
    probabilities = np.array([[0.9, 0.9, 0.99], [0.6, 0.2, 0.99], [0.4, 0.7, 0.99], [0.5, 0.1, 0.99]])
    holds = np.array([[1.0, NAN, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    found = measures.alarms(probabilities, holds, np.array([0.5, 0.6, NAN]))
    assert (found.precision.right, found.precision.of) == (2, 4)
    assert (found.recall.right, found.recall.of) == (2, 4)
    assert (found.false_alarms.right, found.false_alarms.of) == (2, 3)


@given(truths, probability)
def test_alarms_agree_with_recall_at_a_threshold(pairs: list[tuple[float, float]], threshold: float) -> None:
    probabilities, holds = columns(pairs)
    found = measures.alarms(probabilities[:, None], holds[:, None], np.array([threshold]))
    recall, false_alarms = scores.recall_at(probabilities, holds, threshold)
    assert (found.recall.value or 0.0, found.false_alarms.value or 0.0) == (recall, false_alarms)
    assert found.precision.of == found.recall.right + found.false_alarms.right


@pytest.mark.parametrize(
    ("first_tags", "expected"),
    [([], 0), ([None], 0), (["a"], 0), ([None, "a", "a"], 0), (["a", "b", "b", "a"], 2), (["a", None, "b"], 1)],
)
def test_a_flip_is_a_change_of_the_first_tag(first_tags: list[str | None], expected: int) -> None:
    assert measures.flips(first_tags) == expected


@given(answers, st.randoms(use_true_random=False))
def test_average_precision_does_not_depend_on_the_order_of_the_passages(
    pairs: list[tuple[float, bool]], shuffler: random.Random
) -> None:
    pairs = [*pairs, (0.5, True)]
    shuffled = shuffler.sample(pairs, len(pairs))
    assert scores.average_precision(*columns(pairs)) == pytest.approx(scores.average_precision(*columns(shuffled)))


def test_where_all_scores_are_equal_average_precision_is_the_share_that_holds() -> None:
    assert scores.average_precision(np.full(8, 0.3), np.array([1.0, 0, 0, 1, NAN, 0, 0, 0])) == pytest.approx(2 / 7)
