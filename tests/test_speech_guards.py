"""The guards drop what nobody said, and keep what somebody did."""

import pytest

from consumer.speech.guards import Hypothesis, flaw
from tests import spoken


def heard(text: str, log_probability: float = -0.2, no_speech: float = 0.01) -> Hypothesis:
    return Hypothesis(text, log_probability, no_speech)


@pytest.mark.parametrize("name", spoken.SAMPLES)
def test_what_people_say_in_videos_passes(name: str) -> None:
    assert flaw(heard(spoken.said(f"samples/{name}.mp4"))) is None


def test_a_loop_is_repetitive() -> None:
    assert flaw(heard("First thing. " * 20)) == "repetitive"


def test_a_guess_is_unsure() -> None:
    assert flaw(heard("The fence sounds like a haired rire.", log_probability=-1.3)) == "unsure"


def test_a_guess_about_silence_is_no_speech() -> None:
    assert flaw(heard("I'm going to do it.", log_probability=-1.3, no_speech=0.9)) == "no_speech"


def test_a_loop_about_silence_is_no_speech() -> None:
    assert flaw(heard("Oh. " * 50, log_probability=-1.3, no_speech=0.9)) == "no_speech"


def test_a_sure_text_is_believed_although_it_may_be_no_speech() -> None:
    assert flaw(heard("We ate the watermelon up here.", no_speech=0.9)) is None


@pytest.mark.parametrize(
    "text",
    [
        "you",
        "Thank you.",
        "Thanks for watching!",
        "Thank you. Thank you.",
        "Thanks for watching! Please subscribe.",
        "Don't forget to like and subscribe!",
        "Subtitles by the Amara.org community",
        "Untertitel im Auftrag des ZDF, 2017",
        "Sous-titres réalisés par la communauté d'Amara.org",
        "¡Gracias por ver el vídeo!",
        "Спасибо за просмотр!",
        "ご視聴ありがとうございました。",
    ],
)
def test_whispers_phrases_for_silence_are_invented(text: str) -> None:
    assert flaw(heard(text)) == "invented"


@pytest.mark.parametrize(
    "text",
    [
        "Thank you. Now fry the onions.",
        "You have to wait until they crackle.",
        "The bank sent me a thank you letter.",
        "¡Gracias por ver el vídeo! Hoy hacemos pan.",
    ],
)
def test_such_a_phrase_within_other_text_passes(text: str) -> None:
    assert flaw(heard(text)) is None


@pytest.mark.parametrize("text", ["", "...", "。"])
def test_no_words_are_no_flaw(text: str) -> None:
    assert flaw(heard(text, log_probability=0.0)) is None
