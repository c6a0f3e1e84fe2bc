"""A checkpoint is carried elsewhere without a loss, and what is no checkpoint is refused."""

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from consumer.checkpoint import Checkpoint, History, Story, Times
from consumer.evidence import Aspect, Evidence, strongest_windows
from consumer.tags import Published
from consumer.transcript import Basis, Language, Segment, TextWindow

TOPIC = Aspect("topic", ("a", "b", "c"), "mean", np.zeros(3))
POLICY = Aspect("policy", ("x", "y"), "any", np.zeros(2))
ASPECTS = (TOPIC, POLICY)

seconds = st.floats(0, 1e6)
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30).filter(str.strip)
languages = st.none() | st.builds(Language, st.sampled_from(["en", "de"]), st.none() | st.floats(0, 1))
bases: st.SearchStrategy[Basis] = st.sampled_from(["asr", "captions.embedded", "captions.sidecar"])


@st.composite
def stories(draw: st.DrawFn) -> Story:
    story = Story()
    for index in range(draw(st.integers(0, 6))):
        said = draw(st.lists(words, max_size=3))
        story = story.add(*read(index, said, draw(st.lists(st.floats(-30, 30), min_size=5, max_size=5)), draw(bases)))
    return story


def read(index: int, said: list[str], logits: list[float], basis: Basis = "asr") -> tuple[TextWindow, Evidence]:
    segments = tuple(Segment(index + place / 10, index + (place + 1) / 10, text) for place, text in enumerate(said))
    window = TextWindow(index, float(index), index + 1.0, segments, basis, Language("en", 0.5) if said else None)
    says = {"topic": np.array(logits[:3]), "policy": np.array(logits[3:])}
    return window, Evidence.of_window(index, window.words, 1.0, ASPECTS, says if window.words else {})


events = st.just((0, None)) | st.tuples(st.integers(1, 99), st.uuids().map(str))
histories = st.builds(
    lambda made, published, bands: History(made[0], made[1], published, bands),
    events,
    st.none() | st.builds(Published, seconds, words, st.floats(0, 1)),
    st.dictionaries(words, st.sampled_from(["review", "act"]), max_size=3),
)
times = st.builds(Times, seconds, st.none() | seconds, st.none() | seconds)
checkpoints = st.builds(Checkpoint, times, st.integers(0, 500), seconds, stories(), histories)


def carried(checkpoint: Checkpoint) -> Checkpoint:
    return Checkpoint.from_json(json.loads(json.dumps(checkpoint.to_json())))


@given(checkpoints)
@examples(max_examples=150, deadline=None)
def test_it_comes_back_from_json_the_same_to_the_last_bit(checkpoint: Checkpoint) -> None:
    assert carried(checkpoint) == checkpoint


@given(checkpoints, st.lists(st.floats(-30, 30), min_size=5, max_size=5))
@examples(max_examples=100, deadline=None)
def test_a_story_that_was_carried_goes_on_the_same(checkpoint: Checkpoint, logits: list[float]) -> None:
    more = read(1000, ["and so it goes on"], logits)
    assert carried(checkpoint).story.add(*more) == checkpoint.story.add(*more)


@given(stories())
def test_a_story_keeps_the_windows_that_may_be_quoted_and_no_others(story: Story) -> None:
    assert story.windows.keys() == strongest_windows(story.evidence)


def test_a_story_stays_small_however_long_the_video_is() -> None:
    rng = np.random.default_rng(7)
    story = Story()
    for index in range(2000):
        story = story.add(*read(index, ["some words"], rng.normal(0, 5, 5).tolist()))
    assert 0 < len(story.windows) <= len(TOPIC.labels) + len(POLICY.labels)


# --- what is no checkpoint ---

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 1 << 62, -(1 << 62), 1 << 63, 10**400, math.nan, math.inf, 0.5, "", "\ud800", " ", "asr"])
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in the JSON with every key or position in it."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


def mutilate(value: Any, data: st.DataObject) -> None:
    """One thing in it is lost, doubled, exchanged with another or replaced."""
    within, key = data.draw(st.sampled_from(list(places(value))))
    how = data.draw(st.sampled_from(["lose", "double", "exchange", "replace"]))
    if how == "lose":
        del within[key]
    elif how == "double" and isinstance(within, list):
        within.insert(key, copy.deepcopy(within[key]))
    elif how == "exchange":
        other, there = data.draw(st.sampled_from(list(places(value))))
        within[key] = copy.deepcopy(other[there])
    else:
        within[key] = data.draw(VALUES)


@given(checkpoints, st.data())
@examples(max_examples=500, deadline=None)
def test_a_mutilated_one_is_refused(checkpoint: Checkpoint, data: st.DataObject) -> None:
    written = json.dumps(checkpoint.to_json())
    value = json.loads(written)
    for _ in range(data.draw(st.integers(1, 2))):
        mutilate(value, data)
    assume(json.dumps(value) != written)
    with pytest.raises(ValueError, match=r"checkpoint|validation error"):
        Checkpoint.from_json(value)


@given(VALUES)
@examples(max_examples=300, deadline=None)
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Checkpoint.from_json(value)


def valid() -> dict[str, Any]:
    story = Story().add(*read(0, ["one two"], [1.0, 0.0, 0.0, 0.0, 0.0]))
    history = History(1, "e1", Published(1.0, "d", 0.5), {"x": "review"})
    value: dict[str, Any] = json.loads(json.dumps(Checkpoint(Times(5.0), 1, 1.0, story, history).to_json()))
    return value


@pytest.mark.parametrize(
    "wrong",
    [
        {"windows": []},
        {"windows": [[0, 0.0, 1.0, [[0.0, 0.1]], "asr", None]]},
        {"bases": ["hearsay"]},
        {"revision": True},
        {"revision": 2},
        {"revision": "1"},
        {"latest": None},
        {"start_s": math.nan},
        {"start_s": 10**400},
        {"bands": {"x": "fair"}},
        {"times": [5.0, None]},
        {"sums": {"topic": [1, 2]}},
        {"sums": {"topic": [1, 2, 10**400]}},
        {"strongest": {}},
        {"unknown": 1},
        {"digest": "0" * 16},
    ],
    ids=lambda wrong: str(wrong)[:60],
)
def test_what_does_not_fit_together_is_refused(wrong: dict[str, Any]) -> None:
    assert Checkpoint.from_json(valid()).revision == 1
    with pytest.raises(ValueError, match=r"checkpoint|validation error"):
        Checkpoint.from_json(valid() | wrong)


@pytest.mark.parametrize("key", valid())
def test_what_lacks_anything_is_refused(key: str) -> None:
    value = valid()
    del value[key]
    with pytest.raises(ValueError, match="validation error"):
        Checkpoint.from_json(value)
