"""The labels that videos are tagged with, as data: topics, policies, sentiments.

A label's description is what a language model knows it by before any training. Ids, parents, names, tiers and
special-category flags are facts of the IAB Tech Lab Content Taxonomy 3.1 (CC BY 3.0).
"""

from functools import cache
from importlib import resources
from typing import Annotated, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.tags import Band, Risk

Text = Annotated[str, Field(min_length=1)]
Probability = Annotated[float, Field(gt=0, lt=1)]

SCHEME = "iab-content-3.1"
PROFANITY = "profanity"


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Category(_Record):
    """A row of the IAB taxonomy; `parent` is None in tier 1.

    `served` is False in the tier-1 categories that are no topics, with all below them. `special` is the taxonomy's own
    mark for "special category data", sensitive by law. It is not passed down there: Religion has it and Judaism has
    not, so ask the whole `path`.
    """

    id: Text
    parent: Text | None
    name: Text
    tier: Annotated[int, Field(ge=1, le=4)]
    served: bool = True
    special: bool = False
    description: Text


class Sentiment(_Record):
    """How the speaker feels about what is told."""

    id: Text
    description: Text


_Value = TypeVar("_Value")


class ByBand(_Record, Generic[_Value]):
    """Something for each band above clear; `act` is None where a machine never acts alone."""

    review: _Value
    act: _Value | None


class Policy(_Record):
    """A policy label, what others call it (None where they do not), and what follows from its probability.

    `iab` is a Sensitive Topic; `dsa` lists CATEGORY or CATEGORY/KEYWORD of the DSA Transparency Database;
    `risk` is an IAB brand-suitability tier, bsr001 (floor) to bsr004 (low). A label for ads only makes no
    moderation case, and so has no queue. What is not `read_out` has no examples, and no head knows it.
    """

    id: Text
    name: Text
    description: Text
    iab: Text | None
    dsa: tuple[Text, ...] | None
    openai: tuple[Text, ...] | None
    llama_guard: tuple[Text, ...] | None
    read_out: bool
    ads_only: bool
    queue: Text | None
    thresholds: ByBand[Probability]
    risk: ByBand[Risk]

    @model_validator(mode="after")
    def _bands_fit_together(self) -> Self:
        act = self.thresholds.act
        if (act is None) != (self.risk.act is None) or (act is not None and act <= self.thresholds.review):
            raise ValueError(f"{self.id}: act needs a risk and a threshold above review's, or neither")
        if self.ads_only != (self.queue is None) or (self.ads_only and act is not None):
            raise ValueError(f"{self.id}: a label has a queue, or is for ads only and never acts")
        return self

    def band(self, p: float) -> Band:
        """The band that probability `p` falls into."""
        if self.thresholds.act is not None and p >= self.thresholds.act:
            return "act"
        return "review" if p >= self.thresholds.review else "clear"

    def risk_in(self, band: Band) -> Risk | None:
        """The risk that comes with `band`; None in the band clear."""
        if band == "clear":
            return None
        return (self.risk.act if band == "act" else None) or self.risk.review


class _Categories(_Record):
    scheme: Text
    source: Text
    labels: tuple[Category, ...]


class _Policies(_Record):
    """Labels in one of the groups `together` often hold at once; profanity goes with every one."""

    source: Text
    together: tuple[frozenset[Text], ...]
    labels: tuple[Policy, ...]


class _Sentiments(_Record):
    source: Text
    labels: tuple[Sentiment, ...]


@cache
def categories() -> tuple[Category, ...]:
    """All 704 categories of the IAB Content Taxonomy 3.1."""
    return _Categories.model_validate_json(_read("iab.json")).labels


def children(id: str) -> tuple[Category, ...]:
    """The categories right below that one, in the taxonomy's order; KeyError when there is no such category."""
    return _children()[id]


@cache
def descendants(id: str) -> tuple[Category, ...]:
    """All categories below that one, each before those below itself; KeyError when there is no such category."""
    return tuple(below for child in children(id) for below in (child, *descendants(child.id)))


@cache
def path(id: str) -> tuple[Category, ...]:
    """The categories from tier 1 down to that one, itself included; KeyError when there is no such category."""
    category = _categories_by_id()[id]
    return (*(path(category.parent) if category.parent else ()), category)


@cache
def _categories_by_id() -> dict[str, Category]:
    return {category.id: category for category in categories()}


@cache
def _children() -> dict[str, tuple[Category, ...]]:
    found: dict[str, list[Category]] = {category.id: [] for category in categories()}
    for category in categories():
        if category.parent is not None:
            found[category.parent].append(category)
    return {id: tuple(below) for id, below in found.items()}


@cache
def topics() -> tuple[Category, ...]:
    """The 35 topics that videos are tagged with: tier 1 but genres, and what `policies` cover."""
    return tuple(category for category in categories() if category.parent is None and category.served)


@cache
def subtopics() -> tuple[Category, ...]:
    """All categories below the topics, each after its parent."""
    return tuple(below for topic in topics() for below in descendants(topic.id))


@cache
def policies() -> tuple[Policy, ...]:
    """The 21 policy labels that are read out; the one on minors is not, and `consumer.minors` speaks for it."""
    return tuple(policy for policy in _policies_by_id().values() if policy.read_out)


def policy(label: str) -> Policy:
    """The policy label of that id, of all 22; KeyError when there is none."""
    return _policies_by_id()[label]


@cache
def _policies_by_id() -> dict[str, Policy]:
    return {policy.id: policy for policy in _policies().labels}


def often_together(one: str, other: str) -> bool:
    """Whether what breaks one policy may well break the other, too."""
    return PROFANITY in (one, other) or any({one, other} <= group for group in _policies().together)


@cache
def _policies() -> _Policies:
    return _Policies.model_validate_json(_read("policy.json"))


@cache
def sentiments() -> tuple[Sentiment, ...]:
    """Positive, neutral, negative."""
    return _Sentiments.model_validate_json(_read("sentiment.json")).labels


def _read(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
