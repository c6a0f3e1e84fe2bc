"""The restricted label: found by a rule over other signals, for specialists only, and never quoted.

Nothing here is about what the label is about: sentences are everyday ones, and numbers stand for what a model
would say.
"""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer import labels
from consumer.checkpoint import Checkpoint, Story
from consumer.evidence import Aspect, Evidence, Logits
from consumer.minors import Suspicion, speaks_of_minors, stronger, suspicion, with_restricted
from consumer.revisions import Makers, Medium, Revision
from consumer.rules import Rules
from consumer.tagging import OpenMedia, Start, Tools, read_window, revisions_of, tag_video
from consumer.tags import ReadOut, Scored, Tags
from consumer.transcript import Passage, Segment, TextWindow
from schemas import CaseEvent, ModerationLabel, Provenance, RestrictedCaseEvent, VideoUploaded
from schemas.tags import RESTRICTED

TOPIC = Aspect("topic", tuple(topic.id for topic in labels.topics()), "mean", np.zeros(len(labels.topics())))
SUBTOPIC = Aspect("subtopic", ("424", "425"), "mean", np.zeros(2), ("422", "422"))
SENTIMENT = Aspect("sentiment", tuple(tone.id for tone in labels.sentiments()), "mean", np.zeros(3))
POLICY = Aspect("policy", tuple(policy.id for policy in labels.policies()), "any", np.zeros(len(labels.policies())))
Value = TypeVar("Value")
THRESHOLD = labels.policy(RESTRICTED).thresholds.review

SPEAKING_OF_MINORS = [
    "My daughter is nine and plays the violin.",
    "she's fifteen",
    "When I was ten, we moved to the coast.",
    "A nine-year-old from Leeds won the chess prize.",
    "The twins, aged four, love this pancake.",
    "He turned sixteen in May.",
    "she is fifteen and she wants to drive a tractor one day",
    "Our kids help in the garden.",
    "It's for under eighteens and their parents, so teenagers too.",
    "the seventh grade play",
    "a 12 year old swimmer",
    "nearly eighteen, and learning to drive",
    "Mi hija tiene nueve años y toca el violín.",
    "cumplio quince años en mayo",
    "Un niño de siete años ganó la carrera.",
    "Meine Tochter ist neun und spielt Geige.",
    "Als ich zehn war, zogen wir um.",
    "Ein neunjähriger aus Köln hat gewonnen.",
    "das kind geht gern in die schule",
    "Ma fille a neuf ans et joue du violon.",
    "À douze ans il a gagné la course.",
    "il a dix-sept ans et il cuisine",
    "Minha filha tem nove anos e toca violino.",
    "As crianças adoram este bolo.",
    "Mia figlia ha nove anni e suona il violino.",
    "un bambino di sette anni",
]
SPEAKING_OF_OTHERS = [
    "The nine o'clock train is ten minutes late.",
    "I kid you not, this drill is great.",
    "A twenty-nine-year-old goalkeeper saved it.",
    "She is thirty and paints boats.",
    "She is 27, and runs.",
    "He's ten out of ten sure, and one of the best.",
    "You are kind, and a kinder man is hard to find.",
    "Without further ado, the winner.",
    "son of a gun, that was close",
    "A minor chord, then a major one.",
    "He was two pages from the end.",
    "It's due, and I'm due a day off.",
    "Grandma and grade two steel go well together.",
    "Treinta y cinco años de trabajo, y son tres hermanos.",
    "Vivo aquí desde hace más de diez años.",
    "Il y a dix ans, on a ouvert ce restaurant.",
    "Il a rendu son vélo, il a vingt-sept ans.",
    "Faz dez anos que moro aqui, e tem vinte e cinco anos a casa.",
    "Viviamo qui da dieci anni.",
    "Seit zehn Jahren, um acht Uhr.",
]


@pytest.mark.parametrize("text", SPEAKING_OF_MINORS)
def test_a_child_or_an_age_under_eighteen_is_heard(text: str) -> None:
    assert speaks_of_minors(text)
    assert speaks_of_minors(text.upper())


@pytest.mark.parametrize("text", SPEAKING_OF_OTHERS)
def test_other_ages_and_words_that_look_alike_are_not(text: str) -> None:
    assert not speaks_of_minors(text)


@given(st.integers(18, 99), st.sampled_from(["she is {} and sings", "a {} year old", "tiene {} años", "elle a {} ans"]))
def test_a_grown_ups_age_in_figures_is_not(age: int, sentence: str) -> None:
    assert not speaks_of_minors(sentence.format(age))


@given(st.integers(1, 17), st.sampled_from(["she is {} and sings", "a {} year old", "tiene {} años", "elle a {} ans"]))
def test_a_minors_age_in_figures_is(age: int, sentence: str) -> None:
    assert speaks_of_minors(sentence.format(age))


# --- one window ---


def evidence(p: Mapping[str, float]) -> Evidence:
    """What one window says on its own, if each label is so likely."""
    odds = np.full(len(POLICY.labels), -12.0)
    for label, value in p.items():
        odds[POLICY.labels.index(label)] = np.log(value / (1 - value))
    return Evidence.of_window(0, 60, 30.0, [POLICY], {"policy": odds})


CHILD = Passage("My daughter is nine and plays the violin.", start_s=30.0)
NO_CHILD = Passage("The ferry leaves at noon and we had soup.", start_s=30.0)


@pytest.mark.parametrize("sign", ["sexual_explicit", "sexual_suggestive"])
def test_both_together_are_suspicious_and_either_alone_is_not(sign: str) -> None:
    high, low = evidence({sign: THRESHOLD + 0.1}), evidence({sign: THRESHOLD - 0.02})
    found = suspicion(CHILD, high, POLICY)
    assert found is not None
    assert found.p == pytest.approx(THRESHOLD + 0.1, abs=1e-3)
    assert found.start_s == 30.0
    assert suspicion(CHILD, low, POLICY) is None
    assert suspicion(NO_CHILD, high, POLICY) is None


def test_no_other_label_makes_it_suspicious() -> None:
    for label in set(POLICY.labels) - {"sexual_explicit", "sexual_suggestive"}:
        assert suspicion(CHILD, evidence({label: 0.99}), POLICY) is None


def test_the_title_that_the_window_is_read_with_counts() -> None:
    assert suspicion(replace(NO_CHILD, title="Our kids at the harbour"), evidence({"sexual_suggestive": 0.6}), POLICY)


def test_nothing_is_suspected_where_nothing_was_read() -> None:
    assert suspicion(CHILD, Evidence.of_window(0, 0, 30.0, [POLICY], {}), POLICY) is None


@given(st.lists(st.none() | st.builds(Suspicion, st.floats(0, 1), st.floats(0, 1e4)), min_size=1, max_size=4))
def test_the_strongest_is_kept_in_any_order(found: list[Suspicion | None]) -> None:
    results = set()
    for order in permutations(found):
        kept: Suspicion | None = None
        for one in order:
            kept = stronger(kept, one)
        results.add(kept)
    assert len(results) == 1


def test_tags_have_the_label_in_review_or_not_at_all() -> None:
    tags = Tags(30.0, (), None, (Scored("weapons", 0.6, True, "review"), Scored("hate", 0.1, False)))
    assert with_restricted(tags, None) == tags
    flagged = with_restricted(tags, Suspicion(0.3, 0.0)).policies
    assert [policy.label for policy in flagged] == ["weapons", RESTRICTED, "hate"]
    assert flagged[1] == Scored(RESTRICTED, 0.3, True, "review")
    assert with_restricted(tags, Suspicion(1.0, 0.0)).policies[0].band == "review"


# --- the whole way ---

FERRY = "We took the ferry to the island. We had lunch by the harbour. It was windy."
VIOLIN = "My daughter is nine and plays the violin. She practises every evening. The neighbours are patient."
TRAIN = "The train back was late again. We ate sandwiches on the platform. It rained."
TRAVEL, MUSIC = "653", "JLBCU7"
SAYS: Mapping[str, Mapping[str, float]] = {
    "ferry": {TRAVEL: 20.0, "positive": 1.0, "scam_spam_malware": 1.0},
    "violin": {MUSIC: 18.0, "sexual_suggestive": 3.0, "weapons": 6.0, "scam_spam_malware": 6.0},
    "train": {"negative": 1.0},
}
"""The log-odds that stand for a model's, by a word of the passage."""


@dataclass(frozen=True)
class Reading:
    """Media of three windows, and what their passages say."""

    says: Mapping[str, Mapping[str, float]]
    texts: tuple[str, ...] = (FERRY, VIOLIN, TRAIN)

    def medium(self) -> Medium:
        return Medium("v1", 30.0 * len(self.texts))

    def windows(self, first: int, start_s: float) -> Iterator["Future[TextWindow]"]:
        for index, text in list(enumerate(self.texts))[first:]:
            at = 30.0 * index
            yield done(TextWindow(index, at, at + 30, (Segment(at, at + 30, text),), "asr"))

    def read(self, passage: Passage, *, video: str, first: bool) -> "Future[dict[str, Logits]]":
        odds = {word: value for key, said in self.says.items() if key in passage.text for word, value in said.items()}
        return done(
            {
                aspect.name: np.array(
                    [odds.get(label, -9.0 if aspect.pooling == "any" else 0.0) for label in aspect.labels]
                )
                for aspect in (TOPIC, SUBTOPIC, SENTIMENT, POLICY)
            }
        )

    def open(self, upload: VideoUploaded) -> AbstractContextManager[OpenMedia]:
        return nullcontext(self)


def done(value: Value) -> "Future[Value]":
    future: Future[Value] = Future()
    future.set_result(value)
    return future


PROVENANCE = Provenance(pipeline="1-x", speech_model="none", llm_model="none", heads="none", taxonomy=labels.SCHEME)
ACCEPT = dict.fromkeys((*TOPIC.labels, *SUBTOPIC.labels), 0.3)
UPLOAD = VideoUploaded(video_id="v1", uri="v1.mp4")


def tools_of(reading: Reading) -> Tools:
    makers = Makers(ReadOut(TOPIC, SUBTOPIC, SENTIMENT, POLICY, ACCEPT), PROVENANCE, frozenset({"en"}))
    return Tools(reading.open, reading.read, makers, 1)


def revisions(reading: Reading) -> list[Revision]:
    return list(revisions_of(tag_video(UPLOAD, tools_of(reading), lambda: False)))


def all_that_goes_out(made: list[Revision]) -> str:
    return "\n".join(event.model_dump_json() for revision in made for event in (revision.tags, *revision.cases))


def moderation(revision: Revision) -> dict[str, ModerationLabel]:
    return {label.label: label for label in revision.tags.data.moderation or ()}


def test_a_suspicious_window_ends_in_review_in_the_restricted_queue_and_stays_there() -> None:
    made = revisions(Reading(SAYS))
    found = [moderation(revision).get(RESTRICTED) for revision in made]
    assert [label and label.band for label in found] == [None, "review", "review"]
    final = found[-1]
    assert final is not None
    assert (final.risk, final.evidence, final.iab) == ("bsr001", (), "Rm3SiT")
    assert final.p == moderation(made[-1])["sexual_suggestive"].p
    cases = [case for revision in made for case in revision.cases if case.data.label == RESTRICTED]
    assert [type(case) for case in cases] == [RestrictedCaseEvent]
    assert (cases[0].data.queue, cases[0].data.band, cases[0].data.seek_s) == ("restricted-minors", "review", 27.0)
    assert cases[0].data.tags_event_id == made[1].tags.id


def test_the_window_is_quoted_by_no_label_and_kept_nowhere() -> None:
    steps = list(tag_video(UPLOAD, tools_of(Reading(SAYS)), lambda: False))
    going_out = all_that_goes_out(list(revisions_of(steps)))
    assert "ferry" in going_out
    for text in (going_out, *(json.dumps(step.checkpoint.to_json()) for step in steps)):
        for word in ("violin", "daughter", "practises", "neighbours"):
            assert word not in text


def test_what_only_that_window_says_is_still_said_and_its_case_is_restricted() -> None:
    made = revisions(Reading(SAYS))
    weapons = moderation(made[-1])["weapons"]
    assert (weapons.band, weapons.evidence) == ("review", ())
    cases = {case.data.label: case for revision in made for case in revision.cases}
    assert type(cases["weapons"]) is RestrictedCaseEvent
    assert cases["weapons"].data.queue == "restricted-minors"
    accepted = {tag.id: tag for tag in made[-1].tags.data.tags or () if tag.accepted}
    assert accepted[MUSIC].evidence == ()
    assert accepted[TRAVEL].evidence


def test_what_was_said_before_it_had_its_case_with_a_quote() -> None:
    first, *later = revisions(Reading(SAYS))
    (scam,) = first.cases
    assert (type(scam), scam.data.label, scam.data.queue) == (CaseEvent, "scam_spam_malware", "fraud")
    assert not [case for revision in later for case in revision.cases if case.data.label == scam.data.label]


def test_a_parent_who_talks_of_a_child_is_quoted_as_anybody_is() -> None:
    says = {**SAYS, "violin": {**SAYS["violin"], "sexual_suggestive": -6.0}}
    made = revisions(Reading(says))
    assert "violin" in all_that_goes_out(made)
    assert all(RESTRICTED not in moderation(revision) for revision in made)


def test_the_words_and_the_sign_in_different_windows_are_not_suspicious() -> None:
    made = revisions(Reading({"violin": {MUSIC: 9.0}, "train": {TRAVEL: 9.0, "sexual_suggestive": 6.0}}))
    assert RESTRICTED not in moderation(made[-1])
    assert moderation(made[-1])["sexual_suggestive"].band == "review"


def test_a_video_of_that_window_alone_goes_out_without_a_quote() -> None:
    *_, final = made = revisions(Reading(SAYS, (VIOLIN,)))
    assert final.tags.data.evidence == ()
    assert moderation(final)[RESTRICTED].band == "review"
    assert {type(case) for revision in made for case in revision.cases} == {RestrictedCaseEvent}


def test_a_checkpoint_keeps_the_suspicion() -> None:
    tools = tools_of(Reading(SAYS))
    whole = list(tag_video(UPLOAD, tools, lambda: False))
    for number, stopped in enumerate(whole[:-1], start=1):
        start = Start(Checkpoint.from_json(json.loads(json.dumps(stopped.checkpoint.to_json()))))
        rest = list(tag_video(UPLOAD, tools, lambda: False, recall=partial(known, start)))
        assert [moderation(made).get(RESTRICTED) for made in revisions_of(rest)] == [
            moderation(made).get(RESTRICTED) for made in revisions_of(whole[number:])
        ]
        assert rest[-1].checkpoint.story == whole[-1].checkpoint.story


def known(start: Start, content_version: str) -> Start:
    return start


def test_the_order_of_windows_does_not_matter() -> None:
    reading = Reading(SAYS, (FERRY, VIOLIN, TRAIN, VIOLIN))
    windows = [future.result() for future in reading.windows(0, 0.0)]
    for order in permutations(windows):
        story = Story()
        for window in order:
            story = read_window(story, window, UPLOAD, tools_of(reading))
        assert story.suspicion is not None
        assert story.suspicion.start_s == 30.0
        assert not any("violin" in window.text for window in story.windows.values())


# --- rules on the whole way ---


def test_rules_that_fired_are_shown_in_the_event_and_the_case() -> None:
    rules = Rules.model_validate(
        {
            "implies_topic": [{"id": "ferries", "reason": "So.", "topics": [TRAVEL], "topic": MUSIC}],
            "suitability": [{"id": "at-sea", "reason": "So.", "topics": [TRAVEL], "policies": ["weapons"]}],
            "implies_band": [
                {"id": "armed", "reason": "So.", "policy": "weapons", "band": "review", "implies": "hate"}
            ],
        }
    )
    tools = tools_of(Reading({"ferry": {TRAVEL: 9.0, "weapons": 6.0}}, (FERRY,)))
    tools = replace(tools, makers=replace(tools.makers, rules=rules))
    *_, final = made = list(revisions_of(tag_video(UPLOAD, tools, lambda: False)))
    tags = {tag.id: tag for tag in final.tags.data.tags or ()}
    assert (tags[TRAVEL].rules, tags[MUSIC].rules) == ((), ("ferries",))
    assert tags[MUSIC].accepted
    assert tags[MUSIC].threshold == tags[MUSIC].p < 0.3
    assert tags[MUSIC].evidence
    said = moderation(final)
    assert (said["weapons"].risk, said["weapons"].rules) == ("bsr004", ("at-sea",))
    assert (said["hate"].band, said["hate"].risk, said["hate"].rules) == ("review", "bsr003", ("armed",))
    cases = {case.data.label: case.data for revision in made for case in revision.cases}
    assert (cases["weapons"].risk, cases["weapons"].rules, cases["weapons"].threshold) == ("bsr004", ("at-sea",), 0.5)
    assert cases["hate"].threshold == cases["hate"].p < 0.5
