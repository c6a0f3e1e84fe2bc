"""The label files: complete, consistent, and mapped to what others call the same thing."""

import json
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from consumer import labels
from consumer.labels import Policy, categories, policies, sentiments, topics
from schemas import Sentiment as PublishedSentiment
from schemas.tags import Risk

SENSITIVE_TOPICS, GENRES = "v9i3On", "SPSHQ5"
PARENT_TWO_TIERS_UP = ["376", "497"]  # so in the taxonomy itself: Public Radio, Horse Racing
IAB = Path(__file__).parents[2] / "shared" / "data" / "iab"
TAXONOMY_TSV, VECTORS_TSV = IAB / "content-taxonomy-3.1.tsv", IAB / "descriptive-vectors-3.0.tsv"

OPENAI = {
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent",
    "self-harm", "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors",
    "violence", "violence/graphic",
}  # fmt: skip

DSA = {
    "ANIMAL_WELFARE": {"ANIMAL_HARM", "UNLAWFUL_SALE_ANIMALS"},
    "CONSUMER_INFORMATION": {"HIDDEN_ADVERTISEMENT", "MISLEADING_INFO_GOODS_SERVICES"},
    "CYBER_VIOLENCE": {"CYBER_BULLYING_INTIMIDATION", "CYBER_HARASSMENT", "NON_CONSENSUAL_IMAGE_SHARING"},
    "DATA_PROTECTION_AND_PRIVACY_VIOLATIONS": {"BIOMETRIC_DATA_BREACH", "MISSING_PROCESSING_GROUND"},
    "ILLEGAL_OR_HARMFUL_SPEECH": {"DEFAMATION", "DISCRIMINATION", "HATE_SPEECH"},
    "INTELLECTUAL_PROPERTY_INFRINGEMENTS": {"COPYRIGHT_INFRINGEMENT", "TRADEMARK_INFRINGEMENT"},
    "NEGATIVE_EFFECTS_ON_CIVIC_DISCOURSE_OR_ELECTIONS": {"MISINFORMATION_DISINFORMATION"},
    "OTHER_VIOLATION_TC": {"ADULT_SEXUAL_MATERIAL", "NUDITY"},
    "PROTECTION_OF_MINORS": {
        "CHILD_SEXUAL_ABUSE_MATERIAL", "GROOMING_SEXUAL_ENTICEMENT_MINORS", "UNSAFE_CHALLENGES",
    },
    "RISK_FOR_PUBLIC_SECURITY": {"RISK_PUBLIC_HEALTH", "TERRORIST_CONTENT"},
    "SCAMS_AND_FRAUD": {"PHISHING", "PYRAMID_SCHEMES"},
    "SELF_HARM": {"CONTENT_PROMOTING_EATING_DISORDERS", "SELF_MUTILATION", "SUICIDE"},
    "UNSAFE_AND_PROHIBITED_PRODUCTS": {"PROHIBITED_PRODUCTS", "UNSAFE_PRODUCTS"},
    "VIOLENCE": {"COORDINATED_HARM", "INCITEMENT_VIOLENCE_HATRED"},
}  # fmt: skip


def rows(name: str) -> list[Any]:
    found: list[Any] = json.loads(resources.files(labels).joinpath(name).read_text(encoding="utf-8"))["labels"]
    return found


def all_policies() -> list[Policy]:
    return [Policy.model_validate_json(json.dumps(row)) for row in rows("policy.json")]


def test_all_704_categories_are_there_once() -> None:
    assert len({category.id for category in categories()}) == len(categories()) == 704


def test_every_parent_is_a_category_one_tier_up() -> None:
    tiers = {category.id: category.tier for category in categories()}
    odd = [
        category.id
        for category in categories()
        if category.tier != (tiers[category.parent] if category.parent else 0) + 1
    ]
    assert odd == PARENT_TWO_TIERS_UP


def test_the_topics_are_tier_one_without_sensitive_topics_and_genres() -> None:
    tier_one = {category.id for category in categories() if category.parent is None}
    assert {topic.id for topic in topics()} == tier_one - {SENSITIVE_TOPICS, GENRES}
    assert len(topics()) == 35
    assert {category.id for category in categories() if not category.served} == {SENSITIVE_TOPICS, GENRES}


@pytest.mark.skipif(not TAXONOMY_TSV.exists(), reason="the taxonomy's own file is not here")
def test_the_categories_say_what_the_taxonomy_says() -> None:
    lines = [line.split("\t") for line in TAXONOMY_TSV.read_text(encoding="utf-8").splitlines()[2:]]
    assert [(c.id, c.parent or "", c.name) for c in categories()] == [tuple(line[:3]) for line in lines]
    assert [c.id for c in categories() if c.special] == [line[0] for line in lines if line[7] == "SCD"]


def test_the_scheme_is_the_one_that_events_name() -> None:
    file = json.loads(resources.files(labels).joinpath("iab.json").read_text(encoding="utf-8"))
    assert file["scheme"] == labels.SCHEME == "iab-content-3.1"
    assert "IAB Tech Lab Content Taxonomy 3.1" in file["source"]
    assert "CC BY 3.0" in file["source"]


def test_the_22_policy_labels_are_read_out_but_the_one_on_minors() -> None:
    assert len({policy.id for policy in all_policies()}) == len(all_policies()) == 22
    assert [policy.id for policy in all_policies() if not policy.read_out] == ["sexual_minors"]
    assert list(policies()) == [policy for policy in all_policies() if policy.read_out]


def test_what_concerns_minors_is_never_acted_on_by_a_machine_and_has_a_queue_of_its_own() -> None:
    (minors,) = (policy for policy in all_policies() if not policy.read_out)
    assert minors.thresholds.act is None
    assert minors.risk.review == "bsr001"
    assert [policy.id for policy in all_policies() if policy.queue == minors.queue] == ["sexual_minors"]


def test_every_policy_is_mapped_to_a_sensitive_topic_or_to_none() -> None:
    sensitive = {category.id for category in categories() if category.parent == SENSITIVE_TOPICS}
    mapped = {policy.iab for policy in all_policies()}
    assert mapped - {None} == sensitive
    assert {policy.id for policy in all_policies() if policy.iab is None} == {
        "gambling",
        "hidden_advertising",
        "misinformation_civic_health",
        "privacy_doxxing_ncii",
    }


@pytest.mark.skipif(not VECTORS_TSV.exists(), reason="the taxonomy's own file is not here")
def test_the_risks_are_the_tiers_of_the_taxonomy() -> None:
    ids = [line.partition("\t")[0] for line in VECTORS_TSV.read_text(encoding="utf-8").splitlines()]
    assert sorted(id for id in ids if id.startswith("bsr")) == list(get_args(Risk))


def test_what_is_acted_on_is_riskier_than_what_is_reviewed() -> None:
    for policy in all_policies():
        assert policy.risk.act is None or policy.risk.act < policy.risk.review, policy.id


def test_only_terrorism_and_what_concerns_minors_are_at_the_floor_when_under_review() -> None:
    floor = {policy.id for policy in all_policies() if policy.risk.review == "bsr001"}
    assert floor == {"terrorism_extremism", "sexual_minors"}


def test_each_queue_is_of_one_label() -> None:
    queues = [policy.queue for policy in all_policies() if policy.queue]
    assert len(set(queues)) == len(queues) == 16
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", queue) for queue in queues)


def test_what_is_urgent_is_reviewed_sooner_and_riskier_than_the_rest() -> None:
    queues = {policy: policy.queue or "" for policy in all_policies()}
    urgent = {policy for policy, queue in queues.items() if queue.startswith(("urgent-", "restricted-"))}
    assert {policy.id for policy in urgent} == {
        "privacy_doxxing_ncii",
        "self_harm",
        "sexual_minors",
        "terrorism_extremism",
        "violence_threat_incite",
    }
    for policy in queues:
        assert (policy.thresholds.review < 0.5) == (policy.risk.review < "bsr003") == (policy in urgent), policy.id


def test_what_others_call_a_policy_exists_there() -> None:
    for policy in all_policies():
        assert set(policy.openai or ()) <= OPENAI
        assert set(policy.llama_guard or ()) <= {f"S{number}" for number in range(1, 15)}
        for name in policy.dsa or ():
            category, _, keyword = name.partition("/")
            keywords = DSA[category.removeprefix("STATEMENT_CATEGORY_")]
            assert not keyword or keyword.removeprefix("KEYWORD_") in keywords, name


def test_a_mapping_is_none_or_holds_something_once() -> None:
    for policy in all_policies():
        for names in (policy.dsa, policy.openai, policy.llama_guard):
            assert names is None or len(set(names)) == len(names) > 0


@pytest.mark.parametrize(
    ("openai", "hazard", "iab"),
    [
        ("sexual", "S12", {"Rm3SiT"}),
        ("sexual/minors", "S4", {"Rm3SiT"}),
        ("hate", "S10", {"HxqYV1"}),
        ("self-harm", "S11", {"XtODT3"}),
        ("violence", "S1", {"XtODT3"}),
        ("violence/graphic", "S1", {"I4GWl6"}),
    ],
)
def test_mappings_to_the_same_thing_agree(openai: str, hazard: str, iab: set[str]) -> None:
    named = [policy for policy in all_policies() if openai in (policy.openai or ())]
    assert all(hazard in (policy.llama_guard or ()) for policy in named)
    assert {policy.iab for policy in named} == iab


def test_only_explicit_sexual_content_may_be_acted_on_by_default() -> None:
    assert [policy.id for policy in policies() if policy.thresholds.act is not None] == ["sexual_explicit"]


def test_labels_for_ads_only_have_no_queue() -> None:
    assert {policy.id for policy in policies() if policy.ads_only} == {
        "debated_social_issue",
        "drugs_alcohol_tobacco",
        "gambling",
        "hidden_advertising",
        "profanity",
        "sexual_suggestive",
    }
    assert all(policy.ads_only == (policy.queue is None) for policy in policies())


def test_the_sentiments_are_those_that_events_name() -> None:
    published = get_args(PublishedSentiment.model_fields["label"].annotation)
    assert [sentiment.id for sentiment in sentiments()] == list(published)


def test_every_label_has_a_description_of_its_own_in_one_line() -> None:
    descriptions = [category.description for category in categories()]
    descriptions += [policy.description for policy in all_policies()]
    descriptions += [sentiment.description for sentiment in sentiments()]
    assert len(set(descriptions)) == len(descriptions) == 704 + 22 + 3
    for description in descriptions:
        assert 8 <= len(description.split()) <= 30, description
        assert description == " ".join(description.split())
        assert description.endswith(".")


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_higher_probability_never_falls_into_a_lower_band(p: float, q: float) -> None:
    order = ["clear", "review", "act"]
    for policy in policies():
        assert order.index(policy.band(min(p, q))) <= order.index(policy.band(max(p, q)))


def test_a_band_begins_at_its_threshold() -> None:
    (explicit,) = (policy for policy in policies() if policy.id == "sexual_explicit")
    assert explicit.thresholds.act is not None
    assert explicit.band(explicit.thresholds.review) == "review"
    assert explicit.band(explicit.thresholds.review - 1e-9) == "clear"
    assert explicit.band(explicit.thresholds.act) == "act"
    assert explicit.band(explicit.thresholds.act - 1e-9) == "review"
    (profanity,) = (policy for policy in policies() if policy.id == "profanity")
    assert profanity.band(1.0) == "review"


def act_below_review(row: Any) -> None:
    row["thresholds"]["act"] = 0.1


def act_without_risk(row: Any) -> None:
    row["risk"]["act"] = None


def no_queue(row: Any) -> None:
    row["queue"] = None


def ads_only_that_acts(row: Any) -> None:
    row["ads_only"], row["queue"] = True, None


def unknown_tier(row: Any) -> None:
    row["risk"]["review"] = "bsr005"


def misspelt_field(row: Any) -> None:
    row["opnai"] = None


@pytest.mark.parametrize(
    "damage", [act_below_review, act_without_risk, no_queue, ads_only_that_acts, unknown_tier, misspelt_field]
)
def test_a_policy_that_does_not_fit_together_is_refused(damage: Callable[[Any], None]) -> None:
    row = rows("policy.json")[0]
    damage(row)
    with pytest.raises(ValidationError):
        Policy.model_validate_json(json.dumps(row))
