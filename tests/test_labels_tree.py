"""The taxonomy as a tree: what lies below and above a category, and what is said of it there."""

import json
import re
from collections.abc import Callable
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest

from consumer.labels import Category, categories, children, descendants, path, topics

CORPUS = Path(__file__).parent / "corpus"
SOFTWARE, GRAPHICS, SCIENCE, RELIGION, JUDAISM = "602", "603", "464", "453", "462"


def rows(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def words(description: str) -> set[str]:
    return {word for word in re.findall(r"[a-z]+", description.lower()) if len(word) > 3}


def names(found: tuple[Category, ...]) -> list[str]:
    return [category.name for category in found]


def test_children_are_those_that_name_their_parent_in_the_order_of_the_file() -> None:
    for category in categories():
        assert children(category.id) == tuple(c for c in categories() if c.parent == category.id)


def test_a_path_goes_from_tier_one_down_to_the_category() -> None:
    assert names(path(GRAPHICS)) == [
        "Technology & Computing",
        "Computing",
        "Computer Software and Applications",
        "3-D Graphics",
    ]
    for category in categories():
        assert path(category.id)[0].parent is None
        assert path(category.id)[-1] == category
        assert all(lower.parent == upper.id for upper, lower in pairwise(path(category.id)))


def test_descendants_are_those_whose_path_leads_through_the_category() -> None:
    above = {category.id: {upper.id for upper in path(category.id)[:-1]} for category in categories()}
    for category in categories():
        through = {id for id, uppers in above.items() if category.id in uppers}
        found = [c.id for c in descendants(category.id)]
        assert set(found) == through
        assert len(found) == len(through)


def test_a_descendant_comes_before_those_below_itself() -> None:
    for root in (category for category in categories() if category.parent is None):
        seen = {root.id}
        for category in descendants(root.id):
            assert category.parent in seen
            seen.add(category.id)


def test_what_has_nothing_below_it_has_no_children_and_no_descendants() -> None:
    assert children(GRAPHICS) == descendants(GRAPHICS) == ()
    assert len(children(SCIENCE)) == len(descendants(SCIENCE)) == 9


@pytest.mark.parametrize("ask", [children, descendants, path])
def test_there_is_no_answer_about_a_category_that_is_not_there(ask: Callable[[str], object]) -> None:
    for _ in range(2):
        with pytest.raises(KeyError, match="9999"):
            ask("9999")


def test_what_is_special_data_is_seen_along_the_path() -> None:
    marks = {category.id: category.special for category in categories()}
    assert marks[RELIGION]
    assert not marks[JUDAISM]  # so in the taxonomy itself
    assert any(category.special for category in path(JUDAISM))
    assert not any(category.special for category in path(GRAPHICS))
    assert sum(marks.values()) == 63


def test_siblings_are_described_in_words_of_their_own() -> None:
    parents = [None, *(category.id for category in categories())]
    for parent in parents:
        siblings = [category for category in categories() if category.parent == parent]
        for one, other in combinations(siblings, 2):
            shared, all_words = words(one.description) & words(other.description), words(one.description)
            assert len(shared) <= 0.35 * len(all_words), (one.name, other.name, shared)


def test_every_topic_in_the_corpus_is_served_and_most_name_what_lies_below_it() -> None:
    served = {topic.id for topic in topics()}
    below = {category.id for topic in topics() for category in descendants(topic.id)}
    named = [row["topic"] for file in CORPUS.glob("topics-*.jsonl") for row in rows(file)]
    assert set(named) <= served | below
    assert sum(topic in below for topic in named) > len(named) / 2
    assert {path(topic)[0].id for topic in named} == served
