"""The speech detector hears speech, the same each time."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from faster_whisper.vad import get_vad_model
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from consumer.speech.vad import speech_probability
from consumer.speech.windows import FRAME_SAMPLES, Samples
from tests import spoken

BICYCLE = spoken.audio("speech/bicycle.ogg")
BICYCLE = BICYCLE[: len(BICYCLE) // FRAME_SAMPLES * FRAME_SAMPLES]


def test_it_hears_the_same_again() -> None:
    assert np.array_equal(speech_probability(BICYCLE), speech_probability(BICYCLE))


@given(st.integers(1, len(BICYCLE) // FRAME_SAMPLES - 1))
@examples(max_examples=15, deadline=None)
def test_what_comes_later_changes_nothing(num_frames: int) -> None:
    early = speech_probability(BICYCLE[: num_frames * FRAME_SAMPLES])
    assert np.allclose(early, speech_probability(BICYCLE)[:num_frames], atol=1e-4)


def test_it_agrees_with_faster_whispers_own_call() -> None:
    theirs = get_vad_model()(BICYCLE.copy()).reshape(-1)
    assert np.allclose(speech_probability(BICYCLE)[:-1], theirs[:-1], atol=1e-4)


def test_it_leaves_the_samples_as_they_are() -> None:
    samples = BICYCLE.copy()
    speech_probability(samples)
    assert np.array_equal(samples, BICYCLE)


def test_it_tells_speech_from_silence_and_music() -> None:
    def share(samples: Samples) -> float:
        whole = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES]
        return float((speech_probability(whole) > 0.4).mean())

    assert share(BICYCLE) > 0.8
    assert share(np.zeros(160_000, np.float32)) == 0
    assert share(spoken.music(10)) < 0.2


def test_several_threads_do_not_disturb_each_other() -> None:
    expected = speech_probability(BICYCLE)
    with ThreadPoolExecutor(4) as pool:
        heard = list(pool.map(lambda _: speech_probability(BICYCLE), range(8)))
    assert all(np.allclose(probabilities, expected, atol=1e-5) for probabilities in heard)
