"""The labels that videos are tagged with, as data: topics, policies, sentiments.

A label's description is what a language model knows it by before any training. Ids, parents, names and tiers
of topics are facts of the IAB Tech Lab Content Taxonomy 3.1 (CC BY 3.0).
"""

from functools import cache
from importlib import resources
from typing import Annotated, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.tags import Band, Risk

Text = Annotated[str, Field(min_length=1)]
Probability = Annotated[float, Field(gt=0, lt=1)]

SCHEME = "iab-content-3.1"


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Category(_Record):
    """A row of the IAB taxonomy; `parent` is None in tier 1, `description` where we do not serve it."""

    id: Text
    parent: Text | None
    name: Text
    tier: Annotated[int, Field(ge=1, le=4)]
    description: Text | None = None


class Topic(_Record):
    """A tier-1 category that we serve."""

    id: Text
    name: Text
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
    moderation case, and so has no queue.
    """

    id: Text
    name: Text
    description: Text
    iab: Text | None
    dsa: tuple[Text, ...] | None
    openai: tuple[Text, ...] | None
    llama_guard: tuple[Text, ...] | None
    served: bool
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


class _Categories(_Record):
    scheme: Text
    source: Text
    labels: tuple[Category, ...]


class _Policies(_Record):
    source: Text
    labels: tuple[Policy, ...]


class _Sentiments(_Record):
    source: Text
    labels: tuple[Sentiment, ...]


@cache
def categories() -> tuple[Category, ...]:
    """All 704 categories of the IAB Content Taxonomy 3.1."""
    return _Categories.model_validate_json(_read("iab.json")).labels


@cache
def topics() -> tuple[Topic, ...]:
    """The 35 topics that videos are tagged with: tier 1 but genres, and what `policies` cover."""
    return tuple(
        Topic(id=category.id, name=category.name, description=category.description)
        for category in categories()
        if category.description is not None
    )


@cache
def policies() -> tuple[Policy, ...]:
    """The 21 policy labels that are served; what concerns minors is mapped, and left to specialists."""
    return tuple(policy for policy in _Policies.model_validate_json(_read("policy.json")).labels if policy.served)


def policy(label: str) -> Policy:
    """The served policy label of that id; KeyError when there is none."""
    return _policies_by_id()[label]


@cache
def _policies_by_id() -> dict[str, Policy]:
    return {policy.id: policy for policy in policies()}


@cache
def sentiments() -> tuple[Sentiment, ...]:
    """Positive, neutral, negative."""
    return _Sentiments.model_validate_json(_read("sentiment.json")).labels


def _read(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
