"""Knowledge as rules: what follows from tags, in any order, once and for all."""

from dataclasses import replace
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer import labels, rules
from consumer.errors import SettingsError
from consumer.rules import Fired, Rules, apply, read_rules
from consumer.tags import Scored, Tags
from schemas.tags import Band

PETS, CATS, DOGS, MUSIC, SPORTS, GAMES, POLITICS = "422", "424", "425", "338", "483", "680", "386"
TOPICS = (PETS, CATS, DOGS, MUSIC, SPORTS)
POLICIES = ("weapons", "violence_graphic", "violence_threat_incite", "sexual_explicit", "sexual_suggestive")
BANDS: tuple[Band, ...] = ("clear", "review", "act")

RULES = """
[[implies_topic]]
id = "cats-are-pets"
reason = "A cat is a pet."
topics = ["424", "425"]
topic = "422"

[[implies_band]]
id = "explicit-is-suggestive"
reason = "Who avoids the one avoids the other."
policy = "sexual_explicit"
band = "review"
implies = "sexual_suggestive"

[[suitability]]
id = "play"
reason = "Blows are part of the rules."
topics = ["483", "680"]
policies = ["weapons", "violence_threat_incite"]
"""


def rules_of(text: str, folder: Path) -> Rules:
    file = folder / "rules.toml"
    file.write_text(text)
    return read_rules(file)


@pytest.fixture
def three(tmp_path: Path) -> Rules:
    return rules_of(RULES, tmp_path)


def topic(id: str, accepted: bool, p: float = 0.3) -> Scored:
    return Scored(id, p, accepted)


def policy(label: str, band: Band, p: float = 0.2) -> Scored:
    return Scored(label, p, band != "clear", band)


def tags(*scored: Scored) -> Tags:
    topics = tuple(one for one in scored if one.label not in POLICIES)
    return Tags(30.0, topics, None, tuple(one for one in scored if one.label in POLICIES))


def by_label(of: Tags) -> dict[str, Scored]:
    return {one.label: one for one in (*of.topics, *of.policies)}


# --- what each kind does ---


def test_a_topic_that_is_implied_is_accepted_with_the_probability_it_had(three: Rules) -> None:
    after, fired = apply(three, tags(topic(CATS, True, 0.9), topic(PETS, False, 0.1)))
    assert by_label(after)[PETS] == Scored(PETS, 0.1, True, implied_by=("cats-are-pets",))
    assert fired == (Fired("cats-are-pets", "A cat is a pet.", PETS, (CATS,)),)


def test_a_topic_that_was_accepted_anyway_owes_nothing_to_rules(three: Rules) -> None:
    before = tags(topic(CATS, True), topic(PETS, True))
    assert apply(three, before) == (before, ())


def test_a_topic_stands_for_those_below_it(tmp_path: Path) -> None:
    below = rules_of(
        RULES.replace('topics = ["424", "425"]\ntopic = "422"', f'topics = ["422"]\ntopic = "{SPORTS}"'), tmp_path
    )
    after, _ = apply(below, tags(topic(DOGS, True), topic(SPORTS, False)))
    assert by_label(after)[SPORTS].accepted


def test_a_band_that_is_implied_is_review(three: Rules) -> None:
    for band in ("review", "act"):
        after, fired = apply(three, tags(policy("sexual_explicit", band), policy("sexual_suggestive", "clear", 0.01)))
        implied = by_label(after)["sexual_suggestive"]
        assert (implied.band, implied.p, implied.accepted) == ("review", 0.01, True)
        assert implied.implied_by == ("explicit-is-suggestive",)
        assert [(one.label, one.because) for one in fired] == [("sexual_suggestive", ("sexual_explicit",))]


def test_a_rule_for_the_band_act_does_not_hold_in_review(tmp_path: Path) -> None:
    strict = rules_of(RULES.replace('band = "review"', 'band = "act"'), tmp_path)
    before = tags(policy("sexual_explicit", "review"), policy("sexual_suggestive", "clear"))
    assert apply(strict, before) == (before, ())


@pytest.mark.parametrize(
    ("label", "band", "risk"),
    [("weapons", "review", "bsr004"), ("violence_threat_incite", "review", "bsr003"), ("weapons", "clear", None)],
)
def test_context_lowers_the_risk_by_one_level_and_leaves_the_band(
    label: str, band: Band, risk: str | None, three: Rules
) -> None:
    after, fired = apply(three, tags(topic(SPORTS, True), policy(label, band)))
    lowered = by_label(after)[label]
    assert (rules.risk(lowered), lowered.band, lowered.p) == (risk, band, 0.2)
    assert [(one.rule, one.because) for one in fired] == ([] if risk is None else [("play", (SPORTS,))])


def test_two_contexts_lower_it_no_further_than_one(tmp_path: Path) -> None:
    again = RULES.split("[[suitability]]")[1].replace('"play"', '"sport"')
    both = rules_of(f"{RULES}\n[[suitability]]{again}", tmp_path)
    after, fired = apply(both, tags(topic(SPORTS, True), policy("violence_threat_incite", "review")))
    assert rules.risk(after.policies[0]) == "bsr003"
    assert after.policies[0].lowered_by == ("play", "sport")
    assert len(fired) == 2


def test_other_labels_keep_their_risk(three: Rules) -> None:
    after, _ = apply(three, tags(topic(SPORTS, True), policy("violence_graphic", "review")))
    assert rules.risk(after.policies[0]) == labels.policy("violence_graphic").risk.review == "bsr003"


def test_a_topic_that_is_implied_is_context_too(tmp_path: Path) -> None:
    chain = rules_of(RULES.replace('topic = "422"', f'topic = "{SPORTS}"'), tmp_path)
    after, _ = apply(chain, tags(topic(CATS, True), topic(SPORTS, False), policy("weapons", "review")))
    assert rules.risk(after.policies[0]) == "bsr004"


def test_rules_about_labels_that_were_not_read_do_nothing(three: Rules) -> None:
    before = tags(topic(CATS, True), policy("sexual_explicit", "act"))
    assert apply(three, before) == (before, ())


def test_no_rules_change_nothing() -> None:
    before = tags(topic(CATS, True), topic(PETS, False), policy("weapons", "review"))
    assert apply(Rules(), before) == (before, ())


# --- any rules, on any tags ---


@st.composite
def any_rules(draw: st.DrawFn) -> Rules:
    """With chains, forks and circles: there are few labels and many rules."""
    some_topics = st.lists(st.sampled_from(TOPICS), min_size=1, max_size=3)
    some_policies = st.lists(st.sampled_from(POLICIES), min_size=1, max_size=3)
    one_topic, one_policy = st.sampled_from(TOPICS), st.sampled_from(POLICIES)
    kinds: dict[str, st.SearchStrategy[dict[str, Any]]] = {
        "implies_topic": st.fixed_dictionaries({"topics": some_topics, "topic": one_topic}),
        "implies_band": st.fixed_dictionaries(
            {"policy": one_policy, "band": st.sampled_from(BANDS[1:]), "implies": one_policy}
        ),
        "suitability": st.fixed_dictionaries({"topics": some_topics, "policies": some_policies}),
    }
    drawn = {kind: draw(st.lists(rule, max_size=6)) for kind, rule in kinds.items()}
    return Rules.model_validate(
        {
            kind: [
                {"id": f"{kind.replace('_', '-')}-{number}", "reason": "So.", **rule} for number, rule in enumerate(of)
            ]
            for kind, of in drawn.items()
        }
    )


@st.composite
def any_tags(draw: st.DrawFn) -> Tags:
    p = st.floats(0, 1)
    return tags(
        *(topic(id, draw(st.booleans()), draw(p)) for id in TOPICS),
        *(policy(label, draw(st.sampled_from(BANDS)), draw(p)) for label in POLICIES),
    )


def reversed_rules(given_: Rules) -> Rules:
    return Rules(
        implies_topic=given_.implies_topic[::-1],
        implies_band=given_.implies_band[::-1],
        suitability=given_.suitability[::-1],
    )


@given(any_rules(), any_tags())
def test_applying_them_again_changes_nothing(some: Rules, before: Tags) -> None:
    after, fired = apply(some, before)
    assert apply(some, after) == (after, fired)


@given(any_rules(), any_tags())
def test_their_order_and_the_order_of_labels_do_not_matter(some: Rules, before: Tags) -> None:
    after, fired = apply(some, before)
    backwards, fired_backwards = apply(
        reversed_rules(some), replace(before, topics=before.topics[::-1], policies=before.policies[::-1])
    )
    assert by_label(backwards) == by_label(after)
    assert set(fired_backwards) == set(fired)


@given(any_rules(), any_tags())
def test_nothing_is_refused_that_was_accepted_and_no_band_or_probability_falls(some: Rules, before: Tags) -> None:
    after = by_label(apply(some, before)[0])
    assert after.keys() == by_label(before).keys()
    for label, was in by_label(before).items():
        now = after[label]
        assert now.p == was.p
        assert now.accepted >= was.accepted
        assert BANDS.index(now.band) >= BANDS.index(was.band)
        assert now.band == was.band or now.band == "review"


@given(any_rules(), any_tags(), st.sampled_from(TOPICS))
def test_a_topic_more_never_takes_one_away(some: Rules, before: Tags, more: str) -> None:
    with_more = replace(
        before, topics=tuple(replace(one, accepted=one.accepted or one.label == more) for one in before.topics)
    )
    accepted = {one.label for one in apply(some, before)[0].topics if one.accepted}
    assert accepted <= {one.label for one in apply(some, with_more)[0].topics if one.accepted}


@given(any_rules(), any_tags())
def test_nothing_is_left_to_follow(some: Rules, before: Tags) -> None:
    after = by_label(apply(some, before)[0])
    below = {id: {id, *(category.id for category in labels.descendants(id))} for id in TOPICS}
    for rule in some.implies_topic:
        if any(after[id].accepted for named in rule.topics for id in below[named] & after.keys()):
            assert after[rule.topic].accepted
    for band_rule in some.implies_band:
        if BANDS.index(after[band_rule.policy].band) >= BANDS.index(band_rule.band):
            assert after[band_rule.implies].band != "clear"


@given(any_rules(), any_tags())
def test_risk_falls_by_one_level_at_most_and_never_below_low(some: Rules, before: Tags) -> None:
    for one in apply(some, before)[0].policies:
        own, now = labels.policy(one.label).risk_in(one.band), rules.risk(one)
        assert (own is None) == (now is None)
        if own is not None and now is not None:
            levels = int(now[-1]) - int(own[-1])
            assert levels == (1 if one.lowered_by else 0)
            assert now <= "bsr004"


@given(any_rules(), any_tags())
def test_whatever_fired_is_named_on_the_label_it_changed(some: Rules, before: Tags) -> None:
    after, fired = apply(some, before)
    named = {(rule, one.label) for one in by_label(after).values() for rule in (*one.implied_by, *one.lowered_by)}
    assert named == {(one.rule, one.label) for one in fired}
    assert all(one.because for one in fired)


@pytest.mark.parametrize("order", list(permutations((PETS, CATS, DOGS))))
def test_rules_in_a_circle_come_to_an_end(order: tuple[str, ...], tmp_path: Path) -> None:
    circle = "".join(
        f'[[implies_topic]]\nid = "r{number}"\nreason = "So."\ntopics = ["{one}"]\ntopic = "{other}"\n'
        for number, (one, other) in enumerate(zip(order, (*order[1:], order[0]), strict=True))
    )
    around = rules_of(circle, tmp_path)
    after, _ = apply(around, tags(topic(PETS, False), topic(CATS, True), topic(DOGS, False)))
    assert all(one.accepted for one in after.topics)
    none, fired = apply(around, tags(topic(PETS, False), topic(CATS, False), topic(DOGS, False)))
    assert not fired
    assert not any(one.accepted for one in none.topics)


def test_a_long_chain_is_followed_to_its_end(tmp_path: Path) -> None:
    ids = [PETS, MUSIC, SPORTS, GAMES, POLITICS]
    chain = "".join(
        f'[[implies_topic]]\nid = "r{number}"\nreason = "So."\ntopics = ["{one}"]\ntopic = "{other}"\n'
        for number, (one, other) in enumerate(pairwise(ids))
    )
    before = tags(topic(PETS, True), *(topic(id, False) for id in ids[1:]))
    after, fired = apply(rules_of(chain, tmp_path), before)
    assert all(one.accepted for one in after.topics)
    assert len(fired) == len(ids) - 1


# --- the file ---


def test_the_shipped_rules_are_read_and_name_labels_that_there_are() -> None:
    shipped = read_rules(None)
    assert shipped.implies_topic
    assert shipped.implies_band
    assert shipped.suitability


def test_the_shipped_rules_lower_nothing_that_may_be_acted_on_or_is_about_people() -> None:
    lowered = {label for rule in read_rules(None).suitability for label in rule.policies}
    assert not lowered & {"sexual_explicit", "hate", "harassment_bullying", "self_harm", "violence_threat_incite"}


def test_an_empty_file_is_no_rules(tmp_path: Path) -> None:
    assert rules_of("", tmp_path) == Rules()


@pytest.mark.parametrize(
    ("instead", "says"),
    [
        (('topic = "422"', 'topic = "999"'), "implies_topic rule 1 ('cats-are-pets'): there is no topic '999'"),
        (('["424", "425"]', '["424", "4255"]'), "there is no topic '4255'; name topics by their ids"),
        (('["424", "425"]', "[]"), "topics: "),
        (('policy = "sexual_explicit"', 'policy = "sexual_explicits"'), "did you mean 'sexual_explicit'?"),
        (('implies = "sexual_suggestive"', 'implies = "sexual_minors"'), "there is no policy label 'sexual_minors'"),
        (('band = "review"', 'band = "clear"'), "implies_band rule 1 ('explicit-is-suggestive'): band: "),
        (('["483", "680"]', '["483", "none"]'), "suitability rule 1 ('play'): there is no topic 'none'"),
        (
            ('"violence_threat_incite"', '"terrorism_extremism"'),
            "suitability rule 1 ('play'): terrorism_extremism reaches bsr001, the floor, which nothing lowers",
        ),
        (('id = "play"', 'id = "cats-are-pets"'), "rule 'cats-are-pets' is there 2 times"),
        (('id = "play"', 'id = "Play it!"'), "suitability rule 1 ('Play it!'): id: "),
        (('reason = "A cat is a pet."', 'reason = ""'), "implies_topic rule 1 ('cats-are-pets'): reason: "),
        (('reason = "A cat is a pet."', 'raeson = "A cat is a pet."'), "('cats-are-pets'): raeson: "),
        (("[[suitability]]", "[[suitabilty]]"), "suitabilty: "),
        (("[[suitability]]", "[suitability]"), "suitability: "),
        (("[[suitability]]", "[[suitability"), "give a TOML file in UTF-8"),
    ],
    ids=lambda value: str(value[1])[:40] if isinstance(value, tuple) else "",
)
def test_a_rule_that_cannot_be_meant_is_refused_with_its_file(
    instead: tuple[str, str], says: str, tmp_path: Path
) -> None:
    assert instead[0] in RULES
    with pytest.raises(SettingsError) as refusal:
        rules_of(RULES.replace(*instead), tmp_path)
    assert str(tmp_path / "rules.toml") in str(refusal.value)
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot read rules from .*gone\.toml"):
        read_rules(tmp_path / "gone.toml")
