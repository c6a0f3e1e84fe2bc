"""Knowledge as rules: what follows from tags that are decided. Pure, but for reading the file.

Rules come after calibration and change no probability. A topic may be accepted below its threshold, a policy label may
come to review, and the suitability risk of a label may fall by one level. No topic is ever refused and no band lowered,
so the order of rules does not matter, applying them again changes nothing, and rules that imply each other in a circle
come to an end.
"""

import difflib
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from consumer import labels
from consumer.errors import SettingsError
from consumer.tags import Scored, Tags
from schemas.tags import Band, Risk

Text = Annotated[str, StringConstraints(min_length=1)]
Ids = Annotated[tuple[Text, ...], Field(strict=False, min_length=1)]

_FLOOR: Risk = "bsr001"
_ONE_LEVEL_LESS: Mapping[Risk, Risk] = {"bsr002": "bsr003", "bsr003": "bsr004"}  # the floor and low stay where they are


class Fact(NamedTuple):
    """Something decided: a topic is accepted, or a policy label is in a band or in a higher one."""

    label: str
    band: Literal["accepted", "review", "act"]


@dataclass(frozen=True, slots=True)
class Fired:
    """A rule that holds, the label that it changed, and the labels that it changed it for."""

    rule: str
    reason: str
    label: str
    because: tuple[str, ...]


class _Rule(BaseModel):
    """`reason` is one line, for those who ask why."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    reason: Annotated[str, StringConstraints(pattern=r"^\S.*$")]


class ImpliesTopic(_Rule):
    """Where any of `topics` or of those below them is accepted, so is `topic`."""

    topics: Ids
    topic: Text

    @model_validator(mode="after")
    def _knows_its_topics(self) -> Self:
        _refuse_unknown_topics(*self.topics, self.topic)
        return self

    @cached_property
    def premises(self) -> frozenset[Fact]:
        return _accepted(self.topics) - {self.conclusion}

    @property
    def conclusion(self) -> Fact:
        return Fact(self.topic, "accepted")


class ImpliesBand(_Rule):
    """Where the policy label `policy` is in `band` or above, `implies` is in review at least."""

    policy: Text
    band: Literal["review", "act"]
    implies: Text

    @model_validator(mode="after")
    def _knows_its_labels(self) -> Self:
        _refuse_unknown_policies(self.policy, self.implies)
        return self

    @property
    def premises(self) -> frozenset[Fact]:
        return frozenset({Fact(self.policy, self.band)}) - {self.conclusion}

    @property
    def conclusion(self) -> Fact:
        return Fact(self.implies, "review")


class Suitability(_Rule):
    """Where any of `topics` or of those below them is accepted, each of `policies` has one level less of risk: never
    below low, and by one level however many rules say so. Labels that reach the floor cannot be named, since topics are
    read from what the uploader wrote and said."""

    topics: Ids
    policies: Ids

    @model_validator(mode="after")
    def _knows_its_labels(self) -> Self:
        _refuse_unknown_topics(*self.topics)
        _refuse_unknown_policies(*self.policies)
        for label in self.policies:
            risk = labels.policy(label).risk
            if _FLOOR in (risk.review, risk.act):
                raise ValueError(f"{label} reaches {_FLOOR}, the floor, which nothing lowers; take it out of policies")
        return self

    @cached_property
    def premises(self) -> frozenset[Fact]:
        return _accepted(self.topics)


class Rules(BaseModel):
    """All rules of one file; their ids differ."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    implies_topic: Annotated[tuple[ImpliesTopic, ...], Field(strict=False)] = ()
    implies_band: Annotated[tuple[ImpliesBand, ...], Field(strict=False)] = ()
    suitability: Annotated[tuple[Suitability, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _tells_rules_apart(self) -> Self:
        ids = Counter(rule.id for rule in (*self.implies_topic, *self.implies_band, *self.suitability))
        if twice := [id for id, count in ids.items() if count > 1]:
            raise ValueError(f"rule {twice[0]!r} is there {ids[twice[0]]} times; give each rule an id of its own")
        return self


def read_rules(file: Path | None) -> Rules:
    """The rules in a TOML file; None: those that are shipped, `consumer/labels/rules.toml`.

    Raises SettingsError with the file, the rule and what to do.
    """
    if file is None:
        shipped = resources.files(labels).joinpath("rules.toml").read_text(encoding="utf-8")
        return Rules.model_validate(tomllib.loads(shipped))
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"cannot read rules from {file}: {error}; give a TOML file in UTF-8") from error
    try:
        return Rules.model_validate(content)
    except ValidationError as error:
        raise SettingsError(f"{file}: {_explained(error, content)}") from error


def apply(rules: Rules, tags: Tags) -> tuple[Tags, tuple[Fired, ...]]:
    """The tags with all that follows from them, and by which rules, in the order of the file.

    Rules about labels that the tags do not have do nothing.
    """
    topics, on_topics = _implied(rules.implies_topic, tags.topics, "clear")
    policies, on_bands = _implied(rules.implies_band, tags.policies, "review")
    on_risks = _lowering(rules.suitability, policies, {fact for topic in topics for fact in _facts(topic)})
    policies = tuple(replace(policy, lowered_by=_rules_on(policy, on_risks)) for policy in policies)
    return replace(tags, topics=topics, policies=policies), (*on_topics, *on_bands, *on_risks)


def risk(policy: Scored) -> Risk | None:
    """The suitability risk of a policy label in its band, after rules; None in the band clear."""
    own = labels.policy(policy.label).risk_in(policy.band)
    return _ONE_LEVEL_LESS.get(own, own) if own and policy.lowered_by else own


_Implication = TypeVar("_Implication", ImpliesTopic, ImpliesBand)


def _implied(
    rules: Sequence[_Implication], scored: Sequence[Scored], band: Band
) -> tuple[tuple[Scored, ...], tuple[Fired, ...]]:
    """What is implied gets `band`: clear for topics, which have none."""
    own = [_own(one) for one in scored]
    stated = {fact for one in own for fact in _facts(one)}
    names = {one.label for one in own}
    to_say = [rule for rule in rules if rule.conclusion.label in names and rule.conclusion not in stated]
    known = _closure(stated, to_say)
    fired = tuple(_fired(rule, rule.conclusion.label, why) for rule in to_say if (why := rule.premises & known))
    raised = (replace(one, accepted=True, band=band, implied_by=_rules_on(one, fired)) for one in own)
    return tuple(new if new.implied_by else one for one, new in zip(own, raised, strict=True)), fired


def _own(scored: Scored) -> Scored:
    """As it was before any rule: what rules imply was not accepted, or in the band clear."""
    plain = replace(scored, implied_by=(), lowered_by=())
    return replace(plain, accepted=False, band="clear") if scored.implied_by else plain


def _closure(stated: set[Fact], rules: Sequence[_Implication]) -> set[Fact]:
    """All that follows. Each round but the last finds something new, and there is no more of that than rules."""
    known = set(stated)
    while new := {rule.conclusion for rule in rules if rule.premises & known} - known:
        known |= new
    return known


def _lowering(rules: Sequence[Suitability], policies: Sequence[Scored], accepted: set[Fact]) -> tuple[Fired, ...]:
    risks = {policy.label: labels.policy(policy.label).risk_in(policy.band) for policy in policies}
    lowerable = {label for label, own in risks.items() if own in _ONE_LEVEL_LESS}
    return tuple(
        _fired(rule, label, why)
        for rule in rules
        if (why := rule.premises & accepted)
        for label in sorted(lowerable & set(rule.policies))
    )


def _accepted(topics: Iterable[str]) -> frozenset[Fact]:
    """That one of these or of those below them is accepted."""
    return frozenset(
        Fact(id, "accepted") for topic in topics for id in (topic, *(below.id for below in labels.descendants(topic)))
    )


def _facts(scored: Scored) -> set[Fact]:
    if not scored.accepted:
        return set()
    if scored.band == "clear":
        return {Fact(scored.label, "accepted")}
    return {Fact(scored.label, "review"), Fact(scored.label, scored.band)}


def _rules_on(scored: Scored, fired: Iterable[Fired]) -> tuple[str, ...]:
    return tuple(sorted(one.rule for one in fired if one.label == scored.label))


def _fired(rule: _Rule, label: str, because: Iterable[Fact]) -> Fired:
    return Fired(rule.id, rule.reason, label, tuple(sorted({fact.label for fact in because})))


def _refuse_unknown_topics(*ids: str) -> None:
    known = {category.id for category in labels.categories()}
    if unknown := [id for id in ids if id not in known]:
        raise ValueError(f"there is no topic {unknown[0]!r}; name topics by their ids in consumer/labels/iab.json")


def _refuse_unknown_policies(*ids: str) -> None:
    known = [policy.id for policy in labels.policies()]
    if unknown := [id for id in ids if id not in known]:
        close = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
        raise ValueError(f"there is no policy label {unknown[0]!r}; {hint}")


def _explained(error: ValidationError, content: Mapping[str, Any]) -> str:
    """What is wrong first, in which rule. A misspelt key comes before the one that is missing for it."""
    first = min(error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden")
    message = first["msg"].removeprefix("Value error, ")
    match first["loc"]:
        case ():
            return message
        case (str(kind), int(index), *place):
            rule = content[kind][index]
            name = f"{kind} rule {index + 1}" + (f" ({rule['id']!r})" if "id" in rule else "")
            key = " ".join(map(str, place))
            return f"{name}: {key + ': ' if key else ''}{message}"
        case place:
            return (
                f"{' '.join(map(str, place))}: {message}; write [[implies_topic]], [[implies_band]] or [[suitability]]"
            )
