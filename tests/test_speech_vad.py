"""The speech detector hears the same however it is fed."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from faster_whisper.vad import get_vad_model
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from consumer.speech.vad import SpeechDetector
from consumer.speech.windows import FRAME_SAMPLES, Samples
from tests import spoken

BICYCLE = spoken.audio("speech/bicycle.ogg")
BICYCLE = BICYCLE[: len(BICYCLE) // FRAME_SAMPLES * FRAME_SAMPLES]


@given(st.lists(st.integers(1, len(BICYCLE) // FRAME_SAMPLES - 1), max_size=8, unique=True))
@examples(max_examples=15, deadline=None)
def test_what_it_hears_does_not_depend_on_the_pieces(edges: list[int]) -> None:
    detector = SpeechDetector()
    parts = np.split(BICYCLE, [edge * FRAME_SAMPLES for edge in sorted(edges)])
    pieces = np.concatenate([detector(part) for part in parts])
    assert np.allclose(pieces, SpeechDetector()(BICYCLE), atol=1e-4)


def test_it_agrees_with_faster_whispers_own_call() -> None:
    theirs = get_vad_model()(BICYCLE.copy()).reshape(-1)
    assert np.allclose(SpeechDetector()(BICYCLE)[:-1], theirs[:-1], atol=1e-4)


def test_it_leaves_the_samples_as_they_are() -> None:
    samples = BICYCLE.copy()
    SpeechDetector()(samples)
    assert np.array_equal(samples, BICYCLE)


def test_it_tells_speech_from_silence_and_music() -> None:
    def share(samples: Samples) -> float:
        whole = samples[: len(samples) // FRAME_SAMPLES * FRAME_SAMPLES]
        return float((SpeechDetector()(whole) > 0.4).mean())

    assert share(BICYCLE) > 0.8
    assert share(np.zeros(160_000, np.float32)) == 0
    assert share(spoken.music(10)) < 0.2


def test_detectors_on_several_threads_do_not_disturb_each_other() -> None:
    expected = SpeechDetector()(BICYCLE)
    with ThreadPoolExecutor(4) as pool:
        heard = list(pool.map(lambda _: SpeechDetector()(BICYCLE), range(8)))
    assert all(np.allclose(probabilities, expected, atol=1e-5) for probabilities in heard)
