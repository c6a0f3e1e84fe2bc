"""Windows are cut at silences, lie end to end, and depend on the audio alone."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from consumer.settings import WindowSettings
from consumer.speech.windows import (
    FRAME_S,
    FRAME_SAMPLES,
    SAMPLE_RATE,
    AudioWindow,
    Probabilities,
    Samples,
    speech_windows,
)
from tests.spoken import Chunk

SHORT = WindowSettings(first_s=2, second_s=3, then_s=5)
PAD_S = 0.4


def loudness(samples: Samples) -> Probabilities:
    """Stands for the detector: the louder a frame, the likelier it is speech."""
    return np.asarray(np.abs(samples.reshape(-1, FRAME_SAMPLES)).max(axis=1), np.float32)


def tone(probability: float, length_s: float) -> Samples:
    return np.full(round(length_s * SAMPLE_RATE), probability, np.float32)


def cut(audio: Samples, settings: WindowSettings = SHORT) -> list[AudioWindow]:
    return list(speech_windows([Chunk(audio)], loudness, settings))


audios = st.lists(
    st.tuples(st.sampled_from([0.0, 0.02, 0.1, 0.3, 0.45, 0.9]), st.integers(1, 30_000)),
    min_size=1,
    max_size=12,
).map(lambda parts: np.concatenate([np.full(length, level, np.float32) for level, length in parts]))


def assert_same(one: AudioWindow, other: AudioWindow) -> None:
    assert (one.index, one.start_s, one.end_s, one.speech) == (other.index, other.start_s, other.end_s, other.speech)
    assert np.array_equal(one.samples, other.samples)


@given(audios, st.data())
@examples(max_examples=60, deadline=None)
def test_the_windows_do_not_depend_on_how_the_audio_is_chunked(audio: Samples, data: st.DataObject) -> None:
    edges = sorted(data.draw(st.lists(st.integers(0, len(audio)), max_size=20)))
    chunks = [Chunk(part) for part in np.split(audio, edges)]
    for whole, pieces in zip(cut(audio), speech_windows(chunks, loudness, SHORT), strict=True):
        assert_same(whole, pieces)


@pytest.mark.parametrize("chunk_s", [0.1, 0.5, 7.0])
def test_the_detector_hears_each_window_by_itself_however_the_audio_is_chunked(chunk_s: float) -> None:
    sizes = []

    def listen(samples: Samples) -> Probabilities:
        sizes.append(len(samples) // FRAME_SAMPLES)
        return loudness(samples)

    audio = tone(0.9, 7.0)
    step = round(chunk_s * SAMPLE_RATE)
    chunks = [Chunk(audio[at : at + step]) for at in range(0, len(audio), step)]
    lengths_s = [window.end_s - window.start_s for window in speech_windows(chunks, listen, SHORT)]
    left = [round((7.0 - sum(lengths_s[:number])) / FRAME_S + 0.5) for number in range(len(lengths_s))]
    assert sizes == [min(most, rest) for most, rest in zip([62, 94, 156], left, strict=True)]


def wavering(samples: Samples) -> Probabilities:
    """A detector that hears the same frame otherwise after something else."""
    heard = loudness(samples)
    return np.asarray(0.6 * heard + 0.4 * np.cumsum(heard) / np.arange(1, len(heard) + 1), np.float32)


@given(audios, st.data())
@examples(max_examples=60, deadline=None)
def test_the_windows_from_any_one_on_are_the_same_when_those_before_are_not_made(
    audio: Samples, data: st.DataObject
) -> None:
    edges = sorted(data.draw(st.lists(st.integers(0, len(audio)), max_size=20)))
    chunks = [Chunk(part) for part in np.split(audio, edges)]
    whole = list(speech_windows(chunks, wavering, SHORT))
    first = data.draw(st.integers(0, len(whole)))
    start_s = whole[first - 1].end_s if first else 0.0
    rest = list(speech_windows(chunks, wavering, SHORT, first, start_s))
    for window, again in zip(whole[first:], rest, strict=True):
        assert_same(window, again)


@given(audios)
@examples(max_examples=60, deadline=None)
def test_windows_lie_end_to_end_and_cover_the_audio(audio: Samples) -> None:
    windows = cut(audio)
    assert np.array_equal(np.concatenate([window.samples for window in windows]), audio)
    assert windows[0].start_s == 0
    assert windows[-1].end_s == pytest.approx(len(audio) / SAMPLE_RATE)
    assert [window.index for window in windows] == list(range(len(windows)))
    assert all(before.end_s == after.start_s for before, after in pairwise(windows))


@given(audios)
@examples(max_examples=60, deadline=None)
def test_a_window_has_at_most_its_target_length_and_at_least_six_tenths_of_it(audio: Samples) -> None:
    windows = cut(audio)
    targets_s = [2.0, 3.0] + [5.0] * len(windows)
    for window, target_s in zip(windows, targets_s, strict=False):
        assert window.end_s - window.start_s <= target_s + FRAME_S
        assert window is windows[-1] or window.end_s - window.start_s >= 0.6 * target_s - 2 * FRAME_S


@given(audios)
@examples(max_examples=60, deadline=None)
def test_spans_of_speech_are_in_the_window_in_order_and_apart(audio: Samples) -> None:
    for window in cut(audio):
        edges = [at_s for span in window.speech for at_s in span]
        assert all(before < after for before, after in pairwise(edges))
        assert not edges or window.start_s <= edges[0] < edges[-1] <= window.end_s


@given(audios)
@examples(max_examples=60, deadline=None)
def test_every_frame_that_is_surely_speech_is_in_a_span(audio: Samples) -> None:
    for window in cut(audio):
        padded = np.pad(window.samples, (0, -len(window.samples) % FRAME_SAMPLES))
        for frame in np.flatnonzero(loudness(padded) >= 0.4):
            at_s = window.start_s + frame * FRAME_S
            assert any(start_s <= at_s + 1e-6 and at_s < end_s for start_s, end_s in window.speech)


@pytest.mark.parametrize(("first_s", "then_s", "cut_s"), [(0.06, 0.2, 1.66), (0.2, 0.06, 1.4)])
def test_a_window_is_cut_amid_the_longest_silence_late_in_it(first_s: float, then_s: float, cut_s: float) -> None:
    silences = tone(0.0, first_s), tone(0.0, then_s)
    audio = np.concatenate([tone(0.9, 1.3), silences[0], tone(0.9, 0.2), silences[1], tone(0.9, 3.0)])
    assert cut(audio)[0].end_s == pytest.approx(cut_s, abs=2 * FRAME_S)


def test_without_a_silence_a_window_is_cut_at_the_likeliest_pause() -> None:
    audio = np.concatenate([tone(0.9, 1.5), tone(0.6, 0.1), tone(0.9, 3.0)])
    assert cut(audio)[0].end_s == pytest.approx(1.5, abs=2 * FRAME_S)


def test_silence_early_in_a_window_is_no_place_to_cut() -> None:
    audio = np.concatenate([tone(0.9, 0.3), tone(0.0, 0.6), tone(0.9, 0.6), tone(0.0, 0.1), tone(0.9, 3.0)])
    assert cut(audio)[0].end_s == pytest.approx(1.55, abs=2 * FRAME_S)


def test_speech_has_a_little_silence_around_it() -> None:
    window = cut(np.concatenate([tone(0.0, 0.8), tone(0.9, 0.32), tone(0.0, 0.8)]))[0]
    (span,) = window.speech
    assert span == pytest.approx((0.8 - PAD_S, 1.12 + PAD_S), abs=FRAME_S)


def test_a_word_late_in_the_audio_is_found_to_the_frame() -> None:
    quiet_s, word_s = 500 * FRAME_S, 10 * FRAME_S
    audio = np.concatenate([tone(0.9, quiet_s), tone(0.0, 1.6), tone(0.9, word_s), tone(0.0, 0.8)])
    speech = [span for window in cut(audio) for span in window.speech]
    assert speech[-1] == pytest.approx((quiet_s + 1.6 - PAD_S, quiet_s + 1.6 + word_s + PAD_S))


def test_speech_goes_on_while_the_detector_wavers() -> None:
    wavering = np.concatenate([tone(0.9, 0.32), tone(0.3, 0.64), tone(0.2, 1.0)])
    (span,) = cut(wavering)[0].speech
    assert span[1] == pytest.approx(0.96 + PAD_S, abs=FRAME_S)


def test_a_window_of_silence_has_no_speech() -> None:
    assert cut(tone(0.0, 1.5))[0].speech == ()


def with_level(level: float) -> Callable[[Samples], Probabilities]:
    return lambda samples: np.full(len(samples) // FRAME_SAMPLES, level, np.float32)


def test_what_is_loud_is_heard_even_when_the_detector_is_unsure() -> None:
    (window,) = speech_windows([Chunk(tone(0.05, 1.5))], with_level(0.1), SHORT)
    assert window.speech == ((0.0, 1.5),)


def test_what_is_faint_is_not_heard_when_the_detector_is_unsure() -> None:
    (window,) = speech_windows([Chunk(tone(0.005, 1.5))], with_level(0.1), SHORT)
    assert window.speech == ()


def test_what_is_loud_is_not_heard_when_the_detector_is_sure_that_it_is_no_speech() -> None:
    (window,) = speech_windows([Chunk(tone(0.5, 1.5))], with_level(0.01), SHORT)
    assert window.speech == ()


def test_a_window_comes_as_soon_as_its_end_is_known() -> None:
    taken_s = 0.0

    def chunks() -> Iterator[Chunk]:
        nonlocal taken_s
        while True:
            taken_s += 0.5
            yield Chunk(tone(0.9, 0.5))

    windows = speech_windows(chunks(), loudness, SHORT)
    for _ in range(4):
        end_s = next(windows).end_s
        assert taken_s <= end_s + 0.4 * SHORT.then_s + 2.0


def test_no_audio_is_no_window() -> None:
    assert list(speech_windows([], loudness, SHORT)) == []
    assert cut(np.empty(0, np.float32)) == []
