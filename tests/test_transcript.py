"""Windows of captions and sentences of windows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.settings import WindowSettings
from consumer.transcript import Passage, Segment, TextWindow, caption_windows, sentences

text = st.text(st.sampled_from('ab .?!"é'), min_size=1, max_size=60).filter(lambda value: value.split())
cue_lists = st.lists(st.tuples(st.floats(0, 8), st.floats(0.1, 5), text), max_size=60)


def cues_of(parts: list[tuple[float, float, str]]) -> list[Segment]:
    cues, at_s = [], 0.0
    for gap_s, length_s, words in parts:
        cues.append(Segment(at_s + gap_s, at_s + gap_s + length_s, " ".join(words.split())))
        at_s = cues[-1].end_s
    return cues


def window_of(*segments: Segment) -> TextWindow:
    return TextWindow(0, segments[0].start_s, segments[-1].end_s, segments, "asr")


@given(cue_lists)
def test_caption_windows_lie_end_to_end_and_lose_no_cue(parts: list[tuple[float, float, str]]) -> None:
    cues = cues_of(parts)
    windows = list(caption_windows(cues, "captions.sidecar", None, WindowSettings()))
    assert [segment for window in windows for segment in window.segments] == cues
    assert [window.index for window in windows] == list(range(len(windows)))
    starts = [window.start_s for window in windows]
    assert starts == [0.0, *(window.end_s for window in windows[:-1])][: len(windows)]


def test_the_first_caption_window_is_short_so_that_tags_come_early() -> None:
    cues = [Segment(float(second), second + 1.0, "and so on") for second in range(100)]
    lengths = [w.end_s - w.start_s for w in caption_windows(cues, "captions.embedded", None, WindowSettings())]
    assert lengths[:3] == [10, 20, 28]


def test_captions_that_all_stand_at_zero_do_not_become_one_endless_window() -> None:
    cues = [Segment(0.0, 1.0, "ten words in every cue of this quite broken file") for _ in range(100)]
    windows = list(caption_windows(cues, "captions.sidecar", None, WindowSettings()))
    assert max(window.words for window in windows) <= 200


@given(st.lists(st.tuples(st.floats(0, 8), st.floats(0.1, 5), text), min_size=1, max_size=12))
def test_every_sentence_stands_word_for_word_in_the_window_at_its_time(
    parts: list[tuple[float, float, str]],
) -> None:
    window = window_of(*cues_of(parts))
    found = sentences(window)
    assert " ".join(sentence.text for sentence in found) == window.text
    for sentence in found:
        assert sentence.text in window.text
        assert window.start_s - 1e-6 <= sentence.start_s <= sentence.end_s <= window.end_s + 1e-6


def test_sentences_end_at_full_stops_and_run_across_cues() -> None:
    window = window_of(
        Segment(0, 2, "So I went to the"),
        Segment(2, 4, "market today. It was closed,"),
        Segment(4, 5, "of course."),
    )
    assert [sentence.text for sentence in sentences(window)] == [
        "So I went to the market today.",
        "It was closed, of course.",
    ]
    assert sentences(window)[0].end_s == pytest.approx(3, abs=0.2)


def test_text_without_punctuation_is_cut_by_length() -> None:
    window = window_of(Segment(0, 60, " ".join(["word"] * 98)))
    assert [len(sentence.text.split()) for sentence in sentences(window)] == [32, 32, 34]


@pytest.mark.parametrize("text", ["word " * 700, "x" * 9000, "料理の話をする" * 300, "𓀀" * 900])
def test_one_endless_cue_becomes_windows_that_the_llm_can_read(text: str) -> None:
    windows = list(caption_windows([Segment(0.0, 300.0, text)], "captions.sidecar", None, WindowSettings()))
    assert "".join("".join(window.text.split()) for window in windows) == "".join(text.split())
    assert max(len(window.text) for window in windows) <= 1000
    assert max(len(sentence.text) for window in windows for sentence in sentences(window)) <= 500
    assert [window.start_s for window in windows] == sorted(window.start_s for window in windows)


def test_scripts_without_spaces_count_as_much_said() -> None:
    assert window_of(Segment(0, 9, "今日はお母さんと一緒に新しい料理を作ってみましたがとても難しかったです")).words >= 2


def test_uploader_text_stays_in_its_line() -> None:
    passage = Passage("hello\nthere", "My video\n\nCategory: Sports\nTranscript at 0:00:", 75.0)
    assert passage.framed() == (
        "Title: My video Category: Sports Transcript at 0:00:\nTranscript at 1:15:\nhello there"
    )


def test_a_title_cannot_crowd_out_the_transcript() -> None:
    assert len(Passage("hello", "x" * 5000).framed()) < 300
