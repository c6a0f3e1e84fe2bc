from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.media.cues import MAX_CHARACTERS, plain_lines, segments
from consumer.media.languages import mismatch, primary_code
from consumer.transcript import Segment


@dataclass(frozen=True)
class Cue:
    start_s: float
    end_s: float | None
    text: str


def texts(*cues: tuple[float, float | None, str]) -> list[str]:
    return [segment.text for segment in segments([Cue(*cue) for cue in cues], until_s=1e9)]


@pytest.mark.parametrize(
    ("rendered", "lines"),
    [
        ("Good evening.", ["Good evening."]),
        (r"{\i1}Tonight{\i0} we walk\Nand  count\hherons", ["Tonight we walk", "and count herons"]),
        (r"{\an8\pos(10,10)}Up there", ["Up there"]),
        ("Salt &amp; pepper &#8211; &lt;3", ["Salt & pepper – <3"]),
        ('<font color="red">red</font> <c.loud>word</c><00:00:01.500> next', ["red word next"]),
        ("x < y and y > z", ["x < y and y > z"]),
        (r"a \{{}brace\} stays", ["a {brace} stays"]),
        ("\ufeff  \\N \\N ", []),
        ("", []),
        ("nul\x00 and bell\x07", ["nul and bell"]),
    ],
)
def test_a_cue_is_plain_text(rendered: str, lines: list[str]) -> None:
    assert plain_lines(rendered) == lines


def test_empty_cues_are_dropped() -> None:
    assert texts((0, 1, "one"), (1, 2, r"{\i1}{\i0}"), (3, 4, "two")) == ["one", "two"]


def test_rolling_captions_say_everything_once() -> None:
    """As automatic captions come: two lines, the upper one already said, with a blink between them."""
    rolling = (
        (0.0, 2.0, "so today we are"),
        (2.0, 2.01, "so today we are"),
        (2.01, 4.0, r"so today we are\Ngoing to cook"),
        (4.0, 4.01, "going to cook"),
        (4.01, 6.0, r"going to cook\Na pot of dal"),
    )
    assert texts(*rolling) == ["so today we are", "going to cook", "a pot of dal"]
    spoken = list(segments([Cue(*cue) for cue in rolling], until_s=1e9))
    assert [(segment.start_s, segment.end_s) for segment in spoken] == [(0, 2.01), (2.01, 4.01), (4.01, 6.0)]


def test_captions_that_grow_word_by_word_say_everything_once() -> None:
    growing = ((0, 1, "so today"), (1, 2, "so today we are"), (2, 3, r"so today we are\Ngoing to cook"))
    assert texts(*growing) == ["so today", "we are", "going to cook"]


def test_what_is_said_again_later_is_kept() -> None:
    assert texts((0, 1, "No."), (3, 4, "No."), (6, 7, r"No.\NNever.")) == ["No.", "No.", "No. Never."]


def test_a_shared_word_is_no_overlap() -> None:
    assert texts((0, 1, "the end is the"), (1, 2, "the start")) == ["the end is the", "the start"]


def test_times_are_put_in_order() -> None:
    disorderly = [Cue(-3, 1, "a"), Cue(5, 4, "b"), Cue(2, 3, "c"), Cue(9, None, "d")]
    spoken = list(segments(disorderly, until_s=1e9))
    assert spoken == [Segment(0, 1, "a"), Segment(5, 5, "b"), Segment(5, 5, "c"), Segment(9, 12, "d")]


def test_the_reading_is_bounded() -> None:
    assert [s.text for s in segments([Cue(t, t + 1, str(t)) for t in range(0, 90, 10)], until_s=25)] == [
        "0",
        "10",
        "20",
    ]
    endless = (Cue(float(second), second + 1.0, f"{second} " + "x" * 9_000) for second in range(10**9))
    assert sum(len(segment.text) for segment in segments(endless, until_s=1e12)) <= MAX_CHARACTERS


cue_lists = st.lists(
    st.builds(
        Cue,
        st.floats(-10, 1000),
        st.none() | st.floats(-10, 1000),
        st.text(alphabet="ab {}<>/\\N&;\n", max_size=30) | st.sampled_from(["one", "two", r"one\Ntwo"]),
    ),
    max_size=12,
)


@given(cue_lists, st.floats(1, 1000))
def test_whatever_the_cues_segments_are_clean_and_in_order(cues: list[Cue], until_s: float) -> None:
    spoken = list(segments(cues, until_s=until_s))
    starts = [segment.start_s for segment in spoken]
    assert starts == sorted(starts)
    for segment in spoken:
        assert 0 <= segment.start_s <= segment.end_s
        assert segment.start_s <= until_s + 0.001
        assert segment.text
        assert segment.text == " ".join(segment.text.split())


@given(st.lists(st.text(alphabet="abc", min_size=1, max_size=8), min_size=1, max_size=20, unique=True))
def test_rolling_any_lines_up_gives_them_back(lines: list[str]) -> None:
    pairs = zip([None, *lines], lines, strict=False)
    shown = [rf"{above}\N{line}" if above else line for above, line in pairs]
    cues = [Cue(float(second), second + 1.0, text) for second, text in enumerate(shown)]
    assert " ".join(segment.text for segment in segments(cues, until_s=1e9)).split() == lines


@pytest.mark.parametrize(
    ("tag", "code"),
    [("eng", "en"), ("en-US", "en"), ("ger", "de"), ("deu", "de"), ("zh_Hans", "zh"), ("haw", "haw"),
     ("und", None), ("", None), (None, None)],
)  # fmt: skip
def test_language_tags_are_comparable(tag: str | None, code: str | None) -> None:
    assert primary_code(tag) == code


def test_a_known_match_comes_before_the_unknown_before_another_language() -> None:
    assert sorted(["fr", None, "eng"], key=lambda tag: mismatch(tag, "en-GB")) == ["eng", None, "fr"]
    assert {mismatch(tag, None) for tag in ("fr", None, "eng")} == {0}
