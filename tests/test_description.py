"""Descriptions: chosen from what was said, or written by the LLM and kept only where that is true."""

import json
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from consumer.checkpoint import Story
from consumer.describer import Describer, Describing, Write
from consumer.description import Weights, agreement, fit_windows, shortlist
from consumer.evidence import Aspect, Evidence, Logits
from consumer.llm.loading import Llm, load_llm
from consumer.llm.reader import Reader
from consumer.llm.writer import Writer
from consumer.minors import Suspicion, with_restricted
from consumer.quotes import Quotes
from consumer.settings import DescriptionSettings, Settings
from consumer.spoken import Sentence, spoken
from consumer.tagging import Tools, revisions_of, tag_video
from consumer.tags import ReadOut, Tags, read_tags
from consumer.tools import open_tools
from consumer.transcript import Passage, Segment, TextWindow
from consumer.words import content_words, function_words
from consumer.written import agrees, supported
from schemas import VideoTags, VideoUploaded
from schemas.tags import Stage
from tests.conftest import MEDIA, ROOT

# --- a reader by words: a sign in a text makes it speak for a label ---

FOOD, SPORT, TRAVEL = "210", "483", "653"
SIGNS = {FOOD: "lentils", SPORT: "goal", TRAVEL: "harbour"}
TONES = {"positive": "lovely", "neutral": "", "negative": "awful"}
POLICIES = {"gambling": "casino", "hate": "vermin"}
TOPIC = Aspect("topic", tuple(SIGNS), "mean", np.zeros(3))
SUBTOPIC = Aspect("subtopic", ("211",), "mean", np.zeros(1), (FOOD,))
TONE = Aspect("sentiment", tuple(TONES), "mean", np.array([0.0, 1.0, 0.0]))
POLICY = Aspect("policy", tuple(POLICIES), "any", np.zeros(2))
READ_OUT = ReadOut(TOPIC, SUBTOPIC, TONE, POLICY, dict.fromkeys((*SIGNS, "211"), 0.5))


def logits(text: str) -> dict[str, Logits]:
    def signs(words: Sequence[str], yes: float, no: float) -> Logits:
        return np.array([(yes if word and word in text else no) + (word == "goal") for word in words])

    return {
        "topic": signs(list(SIGNS.values()), 4.0, -1.0),
        "subtopic": np.zeros(1),
        "sentiment": signs(list(TONES.values()), 5.0, 0.0),
        "policy": signs(list(POLICIES.values()), 9.0, -9.0),
    }


def read(passage: Passage, *, video: str, first: bool) -> "Future[dict[str, Logits]]":
    found: Future[dict[str, Logits]] = Future()
    found.set_result(logits(passage.text))
    return found


def window(index: int, text: str) -> TextWindow:
    return TextWindow(index, index * 10.0, index * 10.0 + 10.0, (Segment(index * 10.0, index * 10.0 + 9, text),), "asr")


def story_of(*texts: str) -> Story:
    story = Story()
    for index, text in enumerate(texts):
        said = window(index, text)
        story = story.add(said, Evidence.of_window(index, said.words, 10.0, READ_OUT.aspects, logits(text)))
    return story


def description(
    story: Story, write: Write | None = None, title: str | None = None, stage: Stage = "final", partials: bool = False
) -> tuple[str, str] | None:
    """The text and the method."""
    describer = Describer(Describing(partials, write), Quotes(read, "v1"), READ_OUT, "v1", title)
    made = describer.describe(read_tags(story.evidence, READ_OUT), story, stage)
    if made is None:
        return None
    assert made.derived
    return made.text, made.method


# --- sentences ---


def test_a_sentence_goes_on_from_one_window_into_the_next() -> None:
    said = spoken([window(0, "Hello. Today we cook red"), window(1, "lentils with cumin. Stir")])
    assert [sentence.text for sentence in said] == ["Hello.", "Today we cook red lentils with cumin.", "Stir"]
    assert [sentence.whole for sentence in said] == [True, True, False]


def test_where_a_window_is_not_kept_a_sentence_is_marked_as_cut() -> None:
    said = spoken([window(3, "and red lentils. You fry the"), window(5, "They crackle now.")])
    assert [sentence.shown for sentence in said] == ["… and red lentils …", "… You fry the …", "They crackle now."]


def test_abbreviations_end_no_sentence() -> None:
    (said,) = spoken([window(0, "At six a.m. Dr. Moss sold the U.S. dollar bonds of Yahoo! and others.")])
    assert said.whole


def test_captions_without_punctuation_come_in_pieces_that_are_marked() -> None:
    said = spoken([window(0, " ".join(f"word{number}" for number in range(60)))])
    assert [len(sentence.text.split()) for sentence in said] == [24, 24, 12]
    assert not any(sentence.whole for sentence in said)


words = st.text("abcABC,.?!'é語", min_size=1, max_size=9)
texts = st.lists(words, min_size=1, max_size=40).map(" ".join)


@given(st.lists(texts, min_size=1, max_size=5))
def test_sentences_are_what_was_said_word_for_word(said: list[str]) -> None:
    found = spoken(window(index, text) for index, text in enumerate(said))
    assert " ".join(sentence.text for sentence in found) == " ".join(said)
    assert all(len(sentence.text.split()) <= 48 for sentence in found)


# --- which sentences ---

ANNOUNCED = "Okay, so, hi, it's me again, and today we are making red lentils with garlic and cumin as my aunt did."
TOLD = "I have one cup of red lentils here, and I rinsed them in cold water four times over."
DAL = " ".join(
    (
        "Hey everybody, good morning, thank you so much for all the lovely wishes about the kitchen.",
        ANNOUNCED,
        "This lentils video is sponsored by a knife company, and my code gives a discount on red lentils knives.",
        TOLD,
        "Is it not odd that red lentils and cold water can make a person so very happy?",
        "Subscribe for more red lentils, cold water and garlic, and hit the bell, it really helps the channel a lot.",
    )
)


def test_the_announcement_speaks_for_the_whole_and_no_greeting_sponsor_question_or_plea_does() -> None:
    assert description(story_of(DAL)) == (f"{ANNOUNCED} {TOLD}", "extracted")


def test_the_evidence_decides_where_words_do_not() -> None:
    walk = "Today we walk to the old harbour with garlic, cumin and onion in our bags."
    dinner = (
        "Red lentils simmer slowly with garlic and cumin. Fry chopped onion until your lentils smell sweet and nutty. "
        "Then serve warm lentils beside some buttered rice."
    )
    said = spoken([window(0, walk), window(1, dinner)])
    by_words = shortlist(said, Weights.of(said, None))
    assert max(by_words, key=lambda candidate: candidate.worth).sentence.text == walk
    found = description(story_of(walk, dinner))
    assert found is not None
    assert "harbour" not in found[0]


PLAIN = "Red lentils need cold water, garlic and cumin in the pot."


@pytest.mark.parametrize(
    "worse",
    [
        "Do red lentils need cold water, garlic and cumin in the pot?",
        "Subscribe for red lentils, cold water, garlic and cumin in the pot.",
        "Red lentils, cold water, garlic and cumin in my pot at twenty percent off.",
        "Hello everyone, red lentils need cold water, garlic and cumin in the pot.",
        "But red lentils need cold water, garlic and cumin in the pot.",
        "Red lentils, garlic, cumin.",
        f"{PLAIN[:-1]} and so on and so on and so on and so on and so on and so on and so on and so on.",
    ],
)
def test_a_plain_statement_is_worth_more(worse: str) -> None:
    plain, other = Sentence(PLAIN, True), Sentence(worse, True)
    weights = Weights.of([plain, other], None)
    assert weights.candidate(other, 0).worth < weights.candidate(plain, 0).worth - 0.05
    assert weights.candidate(replace(plain, whole=False), 0).worth < weights.candidate(plain, 0).worth - 0.05


def test_a_second_sentence_that_says_the_same_is_left_out() -> None:
    said = (
        "Red lentils simmer slowly with garlic and cumin seeds. "
        "So the red lentils with garlic and cumin seeds simmer slowly."
    )
    assert description(story_of(said)) == ("Red lentils simmer slowly with garlic and cumin seeds.", "extracted")


def test_sentences_about_what_the_title_names_come_first() -> None:
    said = [Sentence(f"Sentence with {noun} goes before every other one.", True) for noun in ("apples", "pears") * 5]
    found = shortlist(said, Weights.of(said, "My pears"))
    assert "pears" in max(found, key=lambda candidate: candidate.worth).sentence.text
    found = shortlist(said, Weights.of(said, None))
    assert "apples" in max(found, key=lambda candidate: candidate.worth).sentence.text


@pytest.mark.parametrize("said", ["Mm hm.", "Yeah okay.", "Thank you. Bye bye.", "And uh"])
def test_where_nothing_is_told_there_is_no_description(said: str) -> None:
    assert description(story_of(said)) is None


def test_there_is_none_in_partial_events_unless_it_is_set() -> None:
    story = story_of(DAL)
    assert description(story, stage="partial") is None
    assert description(story, stage="partial", partials=True) == description(story)


@given(st.lists(texts, min_size=1, max_size=5))
@examples(max_examples=150, deadline=None)
def test_it_is_one_or_two_sentences_that_were_said_in_their_order(said: list[str]) -> None:
    story = story_of(*said)
    found = description(story)
    shown = [sentence.shown for sentence in spoken(story.windows.values())]
    pairs = (" ".join(pair).replace("… …", "…") for pair in combinations(shown, 2))
    assert found is None or found[0] in {*shown, *pairs}


# --- what must not be told to advertisers ---


def fits(story: Story, tags: Tags | None = None) -> list[int]:
    tags = tags or read_tags(story.evidence, READ_OUT)
    return [window.index for window in fit_windows(tags, story, POLICY)]


CASINO = "Come to my casino, the lentils of luck, you always win."
CALM = "The red lentils simmer slowly with garlic and cumin."
FIELD = "The keeper kicked a long goal across the muddy field."
SEA = "Our little boat left the harbour before the morning light."


def test_no_sentence_comes_from_a_window_that_speaks_for_a_policy_label() -> None:
    story = story_of(FIELD, f"{CASINO} And the red lentils were good with cumin and rice.", CALM, SEA)
    assert sorted(story.windows) == [0, 1, 2, 3]
    assert fits(story) == [0, 2, 3]
    found = description(story)
    assert found is not None
    assert found[0] in f"{CALM} {SEA} {FIELD} {CALM}"


def test_the_strongest_window_of_a_label_is_left_out_even_if_the_label_was_implied() -> None:
    story = story_of(CALM, FIELD)
    tags = read_tags(story.evidence, READ_OUT)
    policies = tuple(replace(policy, band="review") for policy in tags.policies if policy.label == "hate")
    assert fits(story, replace(tags, policies=policies)) == [1]


def test_where_more_windows_may_break_a_policy_than_are_known_there_is_none() -> None:
    assert fits(story_of(FIELD, CASINO, CASINO, SEA)) == [0, 3]
    story = story_of(FIELD, CASINO, CASINO, CASINO, CASINO, SEA)
    assert sorted(story.windows) == [0, 1, 5]
    assert description(story) is None


def test_a_sentence_that_breaks_a_policy_alone_is_left_out() -> None:
    story = story_of(f"{CALM} {CASINO}")
    calm = replace(read_tags(story.evidence, READ_OUT), policies=())
    made = Describer(Describing(), Quotes(read, "v1"), READ_OUT, "v1", None).describe(calm, story, "final")
    assert made is not None
    assert made.text == CALM


def test_there_is_none_where_nothing_may_be_quoted_or_nothing_was_said() -> None:
    story = story_of(DAL)
    assert fits(story, with_restricted(read_tags(story.evidence, READ_OUT), Suspicion(0.4, 0.0))) == []
    told = replace(window(0, CALM), basis="metadata")
    story = Story().add(told, Evidence.of_window(0, told.words, 0.0, READ_OUT.aspects, logits(CALM)))
    assert description(story) is None


# --- what the LLM writes ---

COURT = [
    Sentence(text, True)
    for text in (
        "Small claims court in Ontario, I did it myself, no lawyer, and I won.",
        "My contractor took an eight thousand dollar deposit and vanished.",
        "The client asked for a warm drawing room in Hull.",
        "The rescuers came at nine and they brought dogs.",
        "There is no ten second rule for songs.",
        "So the plan is we do the wooden one first, then the drop tower, and then the water slides when it gets hot.",
        "The server at the fourth place gave us extra gravy so bonus points.",
        "Third was smoked meat on top, so we skipped the lobster one.",
        "A pump, hose, filter, valve, gauge, belt and seal of the lower field were replaced for nine hundred.",
        "The tractor and the contractor cost two thousand, and then there was the park.",
    )
]


@pytest.mark.parametrize(
    "text",
    [
        "A contractor took a deposit of eight thousand dollars and vanished.",
        "A client asked for the warm drawing room in Hull.",
        "The rescuers brought dogs at nine.",
    ],
)
def test_what_was_said_in_other_words_is_kept(text: str) -> None:
    assert supported([text], COURT) == [text]


@pytest.mark.parametrize(
    "text",
    [
        "A lawyer took an eight thousand dollar deposit and vanished.",  # true words, another one's deed
        "A contractor took a nine thousand dollar deposit and vanished.",
        "The contractor took a deposit of 8000 dollars and vanished.",  # nobody said it so: not certain
        "A client asked for a warm drawing room in Leeds.",
        "Rescuers came at nine thousand and brought dogs.",
        "A few weeks ago the client asked for a warm drawing room in Hull.",
        "The council will close the library on Mill Street on Sundays, and parents are against it.",  # of the prompt
        "A ten second rule for songs there is.",  # what was denied
        "The contractor vanished, the contractor vanished, the contractor vanished.",
        "The client asked for a drawing room, the client asked for a drawing room, the client asked for a room.",
        "A client asked.",
        "The park plan is the wooden one first, then the drop tower, and then the water slides when it gets hot.",
        "The fourth place, the server gave us extra gravy, so we skipped the lobster one.",
        "A pump, hose, filter, valve, gauge, belt and seal of the lower field were replaced for two thousand.",
        "Pump, hose, filter, valve, gauge, belt and seal of the lower field were replaced tomorrow.",
        "A client asked for a warm drawing room in",
        "",
    ],
)
def test_what_was_not_said_is_dropped(text: str) -> None:
    assert supported([text], COURT) == []


def test_a_copy_is_no_text_of_the_llms_own() -> None:
    assert supported([sentence.text for sentence in COURT], COURT) == []


@given(st.lists(st.sampled_from([s.text for s in COURT]), min_size=1), st.integers(10, 99), st.integers(0, 30))
def test_a_number_that_nobody_said_is_never_kept(said: list[str], number: int, at: int) -> None:
    words = said[0].split()
    words.insert(at % len(words), str(number))
    assert supported([" ".join(words)], COURT) == []


@pytest.mark.parametrize(
    ("text", "agreeing"),
    [
        ("A cook boils red lentils.", True),
        ("A goal is like lentils.", True),  # its second topic
        ("A boat in the harbour.", False),
        ("An awful pot of red lentils.", False),  # of the other tone
        ("A cook boils red lentils in a casino.", False),
    ],
)
def test_a_text_must_agree_with_the_tags(text: str, agreeing: bool) -> None:
    video = read_tags(story_of("The red lentils are lovely, and lentils are cheap.").evidence, READ_OUT)
    says = Evidence.of_window(0, 9, 0.0, READ_OUT.aspects, logits(text))
    assert agrees(read_tags(says, READ_OUT), video, READ_OUT) == agreeing


class StandInWriter:
    def __init__(self, *texts: str) -> None:
        self.asked: list[str] = []
        self._texts = list(texts)

    def __call__(self, said: str, /, *, video: str) -> "Future[list[str]]":
        self.asked.append(said)
        written: Future[list[str]] = Future()
        written.set_result(self._texts)
        return written


def test_a_true_text_is_published_as_generated_and_a_false_one_never() -> None:
    true = "Today we are making red lentils as my aunt did, with garlic and cumin."
    false = "Today we are making red lentils as my aunt did, with garlic and forty cumin."
    assert description(story_of(DAL), StandInWriter(false, true)) == (true, "generated")
    assert description(story_of(DAL), StandInWriter(false)) == description(story_of(DAL))


def test_a_true_text_that_turns_the_tone_round_is_not_published() -> None:
    story = story_of(
        "Well, here we are. Today, an awful day, we are making lovely red lentils with garlic and cumin as my aunt did."
    )
    turned = "Today, an awful day, we are making red lentils with garlic and cumin as my aunt did."
    kept = "Today, an awful day, we are making lovely red lentils with garlic and cumin."
    assert description(story, StandInWriter(turned)) == description(story)
    assert supported([turned, kept], spoken(story.windows.values())) == [turned]


def test_a_true_text_that_speaks_for_less_than_a_quote_does_is_not_published() -> None:
    less = "I rinsed a cup of red lentils in water four times."
    assert supported([less], spoken([window(0, DAL)])) == [less]
    assert description(story_of(DAL), StandInWriter(less)) == description(story_of(DAL))


def test_the_writer_is_told_nothing_that_must_not_be_told() -> None:
    writer = StandInWriter()
    description(story_of(CALM, f"{CASINO} {CALM}"), writer)
    (asked,) = writer.asked
    assert asked == CALM
    description(story_of(CASINO), writer)
    assert len(writer.asked) == 1


# --- words ---


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("The lentils simmer in the pots, don't they?", ["lentil", "simmer", "pot"]),
        ("Wir kochen heute die Linsen mit Kümmel, und das ist gut.", ["kochen", "linsen", "kümmel"]),
        ("Hoy vamos a cocinar lentejas con comino en la olla.", ["cocina", "lentej", "comino", "olla"]),
    ],
)
def test_content_words_are_told_by_the_texts_own_language(text: str, content: list[str]) -> None:
    assert content_words(text, function_words(text)) == content


# --- with the real models ---


def final(tools: Tools, video: VideoUploaded) -> VideoTags:
    *partials, last = (revision.tags.data for revision in revisions_of(tag_video(video, tools, lambda: False)))
    assert all(event.description is None for event in partials)
    return last


def captioned(number: int, text: str, title: str | None) -> VideoUploaded:
    words, cues = text.split(), []
    for at in range(0, len(words), 8):
        start, end = at / 2.6, min(at + 8, len(words)) / 2.6
        cues.append(f"00:{start:06.3f} --> 00:{end:06.3f}\n{' '.join(words[at : at + 8])}\n")
    captions = {"inline": "WEBVTT\n\n" + "\n".join(cues), "format": "vtt", "language": "en"}
    uri = str(MEDIA / "clips" / "silence.mp4")
    return VideoUploaded.model_validate({"video_id": f"d{number}", "uri": uri, "title": title, "captions": [captions]})


def passages() -> list[dict[str, str]]:
    lines = (ROOT / "tests" / "corpus" / "topics-dev-1.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[5::24]]


def test_descriptions_stand_in_real_passages_and_say_more_of_them_than_their_sentences_do(tools: Tools) -> None:
    gains = []
    for number, passage in enumerate(passages()):
        whole = " ".join(passage["text"].split())
        video = final(tools, captioned(number, whole, passage.get("title")))
        if video.description is None:
            assert any(label.band != "clear" for label in video.moderation or ())
            continue
        assert (video.description.derived, video.description.method) == (True, "extracted")
        for sentence in spoken([window(0, video.description.text.replace("…", " "))]):
            assert sentence.text.rstrip(".") in whole
        any_other = [agreement_of(sentence.text, whole, tools) for sentence in spoken([window(0, whole)])]
        gains.append(agreement_of(video.description.text, whole, tools) - np.mean(any_other))
    assert len(gains) >= 4
    assert np.mean(gains) > 0.1


def agreement_of(text: str, whole: str, tools: Tools) -> float:
    """How alike a real reader finds them."""
    read_out = tools.makers.read_out

    def says(each: str) -> Evidence:
        reading = tools.read(Passage(each), video="v", first=False).result()
        return Evidence.of_window(0, 60, 0.0, read_out.aspects, reading)

    return agreement(says(text), says(whole), read_out.topic)


def test_what_is_said_aloud_is_described_in_words_that_were_heard(tools: Tools) -> None:
    video = final(tools, VideoUploaded(video_id="dal", uri=str(MEDIA / "samples" / "dal.mp4")))
    assert video.description is not None
    assert "lentils" in video.description.text or "dal" in video.description.text.lower()


def test_the_scam_is_not_described_in_its_own_words(tools: Tools) -> None:
    video = final(tools, VideoUploaded(video_id="crypto", uri=str(MEDIA / "samples" / "crypto.mp4")))
    flagged = {id for label in video.moderation or () if label.band != "clear" for id in label.evidence}
    assert flagged
    quotes = [item.quote for item in video.evidence if item.id in flagged]
    assert not any(quote in (video.description.text if video.description else "") for quote in quotes)


GENERATED = Settings.model_validate({"description": {"method": "generated", "max_tokens": 24}})


@pytest.fixture(scope="module")
def writing_llm() -> Llm:
    return load_llm(GENERATED)


def test_the_llm_writes_the_same_each_time_within_its_bounds_and_reads_as_before(writing_llm: Llm) -> None:
    alone, together = load_llm(Settings()), writing_llm
    assert alone.whole is None
    writer = Writer(together, GENERATED.description)
    layers = len(together.whole.base_model.layers)
    readers = [Reader(llm) for llm in (alone, together)]
    assert len(together.whole.base_model.layers) == layers > len(together.model.layers)
    states, same = (reader.run([reader.prepare(Passage(CALM))])[0] for reader in readers)
    assert np.array_equal(states, same)
    prompt = writer.prepare(DAL)
    (written,), (again,) = writer.run([prompt]), writer.run([prompt])
    assert written == again
    assert len(set(written)) == len(written) == 4
    assert all(0 < len(together.tokenizer(text)["input_ids"]) <= 24 + 2 for text in written)
    assert all("\n" not in text for text in writer.finish("", written))
    assert writer.prepare("and so on " * 2000).cost < 600


def test_what_takes_the_llm_too_long_is_left_unfinished(writing_llm: Llm) -> None:
    writer = Writer(writing_llm, DescriptionSettings(max_s=1e-6))
    (written,) = writer.run([writer.prepare(DAL)])
    assert all(len(writing_llm.tokenizer(text, add_special_tokens=False)["input_ids"]) <= 2 for text in written)
    assert supported(written, [Sentence(DAL, True)]) == []


def test_by_setting_the_llm_describes_and_the_pipeline_is_another_one(tools: Tools) -> None:
    video = VideoUploaded(video_id="hike", uri=str(MEDIA / "samples" / "hike.mp4"))
    with open_tools(GENERATED) as writing_tools:
        assert writing_tools.makers.provenance.pipeline != tools.makers.provenance.pipeline
        written = final(writing_tools, video)
    chosen = final(tools, video)
    assert written.tags == chosen.tags
    assert written.description is not None
    assert written.description.method == "generated" or written.description == chosen.description
