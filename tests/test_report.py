"""The report of an evaluation: text, figures and charts that agree with each other."""

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.errors import SettingsError
from consumer.training import charts, svg
from consumer.training.answers import EachOrNot, OneOf
from consumer.training.measures import reliability
from consumer.training.report import Evaluation, write_report
from consumer.training.svg import Panel

NAN = float("nan")
SVG = "{http://www.w3.org/2000/svg}"

TOPIC = OneOf(
    name="topic",
    labels=("5", "6", "3", "4"),
    names=("Cars", "Food & <Drink>", "Law|Order", "Nobody's"),
    probabilities=np.array(
        [[0.7, 0.2, 0.05, 0.05], [0.1, 0.8, 0.05, 0.05], [0.3, 0.5, 0.15, 0.05], [0.1, 0.1, 0.75, 0.05]]
    ),
    classes=np.array([0, 1, 0, 2]),
    thresholds={"accept": np.array([0.45, 0.6, 0.8, 0.6])},
)
POLICY = EachOrNot(
    name="policy",
    labels=("hate", "scam"),
    names=("Hate", "Scams"),
    probabilities=np.array([[0.9, 0.2], [0.6, 0.1], [0.1, 0.7], [0.2, 0.99]]),
    holds=np.array([[1.0, NAN], [0.0, 0.0], [0.0, 1.0], [NAN, 1.0]]),
    thresholds={"review": np.array([0.5, 0.5]), "act": np.array([NAN, 0.95])},
)
EARLIER = replace(TOPIC, probabilities=np.full((4, 4), 0.25))
EVERYTHING = Evaluation(
    about={"model": "tiny_model", "command": "tagstream evaluate *.jsonl"},
    final=[TOPIC, POLICY],
    provisional=[EARLIER],
    by_share={1.0: [TOPIC, POLICY], 0.5: [EARLIER]},
    first_tags=[["1"], [None, "1", "2", "1"], ["2", "2"], ["1", "3"]],
)


def rows(report: str) -> dict[str, list[str]]:
    """The cells of each line of a table, by the first."""
    lines = [line.strip("| ").split(" | ") for line in report.splitlines() if line.startswith("| ")]
    return {name: cells for name, *cells in lines}


def bars(chart: str) -> list[Element]:
    return [element for element in ElementTree.fromstring(chart).iter(f"{SVG}rect") if element.get("class") == "bar"]


def test_one_of_scores_of_a_case_by_hand() -> None:
    scores = TOPIC.scores()
    assert (scores.passages, scores.top_1.right, scores.top_3) == (4, 3, 1.0)
    assert scores.macro_f1 == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    # Each answer is alone in its bin: three right ones, a wrong one.
    assert scores.calibration_error == pytest.approx((0.3 + 0.2 + 0.5 + 0.25) / 4)
    squared = [0.3**2 + 0.2**2, 0.1**2 + 0.2**2, 0.7**2 + 0.5**2 + 0.15**2, 0.1**2 + 0.1**2 + 0.25**2]
    assert scores.brier == pytest.approx((sum(squared) + 2 * 0.05**2 + 2 * 0.05**2 + 0.05**2 + 0.05**2) / 4)
    assert [(one.label, one.taken_for) for one in scores.confusions] == [("5", "6")]
    accepted = scores.served["accept"]
    assert (accepted.coverage.right, accepted.precision.right, accepted.precision.of) == (2, 2, 2)
    assert scores.abstaining[0.7].coverage.right == 3


def test_each_or_not_scores_of_a_case_by_hand() -> None:
    scores = POLICY.scores()
    assert (scores.passages, scores.recall_at_5, scores.mean_recall_at_5) == (4, 1.0, 1.0)
    assert scores.macro_f1 == pytest.approx((2 / 3 + 1) / 2)
    assert scores.mean_average_precision == 1.0
    assert scores.brier == pytest.approx((0.1**2 + 0.6**2 + 0.1**2 + 0.1**2 + 0.3**2 + 0.01**2) / 6)
    assert sum(one.accuracy.of for one in scores.reliability) == 6
    assert scores.calibration_error == pytest.approx((0.1 + 0.6 + 2 * 0.1 + 0.3 + 0.01) / 6)
    assert (scores.served["review"].precision.right, scores.served["review"].precision.of) == (3, 4)
    assert (scores.served["act"].precision.right, scores.served["act"].recall.of) == (1, 2)


def test_a_report_has_its_text_its_figures_and_its_charts(tmp_path: Path) -> None:
    report = write_report(tmp_path / "new" / "folder", EVERYTHING)
    assert {file.name for file in report.parent.iterdir()} == {
        "report.md",
        "scores.json",
        "reliability-topic.svg",
        "reliability-policy.svg",
        "by-share.svg",
    }
    for chart in re.findall(r"\]\(([^)]*)\)", report.read_text()):
        ElementTree.parse(report.parent / chart)


def test_the_text_says_what_was_measured(tmp_path: Path) -> None:
    text = write_report(tmp_path, EVERYTHING).read_text()
    assert r"- model: tiny\_model" in text
    table = rows(text)
    assert table["topic"][:3] == ["4", "0.750 (0.301 to 0.954; 3 of 4)", "1.000"]
    assert table["topic, provisional"][1].startswith("0.500")
    assert table["policy"][1:5] == ["–", "–", "1.000", "1.000"]
    assert table["accept"] == ["0.500 (0.150 to 0.850; 2 of 4)", "1.000 (0.342 to 1.000; 2 of 2)"]
    assert table["act"][0] == "1.000 (0.207 to 1.000; 1 of 1)"
    assert table["Hate"][:6] == ["1", "2", "2", "0.500", "1.000", "0.667"]
    assert table["0.5"] == ["0.222", "0.250", "–", "–"]
    assert "The first tag changes 0.75 times a video (4 videos)." in text
    assert (table["0"], table["1"], table["2"]) == (["2"], ["1"], ["1"])


def test_labels_come_the_worst_first_and_those_that_do_not_occur_are_left_out(tmp_path: Path) -> None:
    text = write_report(tmp_path, EVERYTHING).read_text()
    places = [text.index(f"\n| {name}", text.index("topic: labels")) for name in ("Cars", "Food", "Law")]
    assert places == sorted(places)
    assert "Nobody" not in text
    assert r"| Food & \<Drink\> | 1 | 3 |" in text
    assert r"| Law\|Order | 1 | 3 |" in text
    assert r"| Cars | Food & \<Drink\> | 1 | 0.500 |" in text


def test_figures_for_machines_are_the_measured_ones(tmp_path: Path) -> None:
    write_report(tmp_path, EVERYTHING)
    figures = json.loads((tmp_path / "scores.json").read_text())
    topic, scores = figures["final"]["topic"], TOPIC.scores()
    assert topic["macro_f1"] == pytest.approx(scores.macro_f1, abs=1e-4)
    assert topic["names"] == dict(zip(TOPIC.labels, TOPIC.names, strict=True))
    assert [row["label"] for row in topic["labels"]] == list(TOPIC.labels)
    assert [one["accuracy"]["of"] for one in topic["reliability"]] == [one.accuracy.of for one in scores.reliability]
    assert figures["final"]["policy"]["served"]["act"]["precision"]["of"] == 1
    assert list(figures["by_share"]) == ["0.5", "1.0"]
    assert set(figures["provisional"]) == {"topic"}
    assert figures["flips"] == {"0": 2, "1": 1, "2": 1}


def test_a_report_of_final_answers_alone_says_no_more(tmp_path: Path) -> None:
    text = write_report(tmp_path, Evaluation({}, [replace(TOPIC, thresholds={})])).read_text()
    assert {file.name for file in tmp_path.iterdir()} == {"report.md", "scores.json", "reliability-topic.svg"}
    assert not re.search(r"provisional|flips|\| threshold |policy|By share", text)


def test_where_no_folder_can_be_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here already")
    with pytest.raises(SettingsError, match=r"cannot write the report to .*file"):
        write_report(tmp_path / "file", EVERYTHING)


def test_provisional_and_final_reliability_are_side_by_side(tmp_path: Path) -> None:
    write_report(tmp_path, EVERYTHING)
    chart = (tmp_path / "reliability-topic.svg").read_text()
    said = [text.text for text in ElementTree.fromstring(chart).iter(f"{SVG}text")]
    headings = [text for text in said if text and "calibration error" in text]
    assert headings == ["provisional: calibration error 0.250, 4 answers", "final: calibration error 0.312, 4 answers"]
    middle = float(ElementTree.fromstring(chart).get("width", "")) / 2
    # One bin with answers on the left, four on the right; each has a bar for its accuracy and one for its count.
    assert sum(float(bar.get("x", "")) < middle for bar in bars(chart)) == 2
    assert sum(float(bar.get("x", "")) > middle for bar in bars(chart)) == 8


def test_a_bar_is_as_high_as_its_bin_is_accurate_and_stands_where_the_bin_is() -> None:
    bins = reliability(np.array([0.9, 0.9, 0.9, 0.9, 0.1, 0.1]), np.array([True, True, True, False, False, True]), 5)
    low, _, high, _ = bars(charts.reliability_chart("x", {"final": bins}))
    left, bottom, side = 76, 78 + 280, 280
    for bar, accuracy, begin in ((low, 0.5, 0.0), (high, 0.75, 0.8)):
        assert float(bar.get("height", "")) == pytest.approx(accuracy * side, abs=0.1)
        assert float(bar.get("y", "")) == pytest.approx(bottom - accuracy * side, abs=0.1)
        assert float(bar.get("x", "")) == pytest.approx(left + begin * side + 1, abs=0.1)
        assert float(bar.get("width", "")) == pytest.approx(side / 5 - 2, abs=0.1)
    assert high.findtext(f"{SVG}title") == "0.80 to 1.00: 4 answers, said 0.900, right 0.750"


def test_a_whisker_spans_the_interval_of_a_bin() -> None:
    (one,) = bins = reliability(np.full(10, 0.5), np.arange(10) < 5, 1)
    chart = ElementTree.fromstring(charts.reliability_chart("x", {"final": bins}))
    (whisker,) = (line for line in chart.iter(f"{SVG}line") if line.get("class") == "whisker")
    ends = [(78 + 280 - float(whisker.get(end, ""))) / 280 for end in ("y1", "y2")]
    assert ends == pytest.approx([one.accuracy.low, one.accuracy.high], abs=1e-3)


def test_lines_by_share_rise_with_the_share_and_tell_aspects_apart() -> None:
    f1, error = {"topic": [(0.5, 0.25), (1.0, 1.0)], "policy": [(1.0, 0.5)]}, {"topic": [(1.0, 0.15)], "policy": []}
    chart = ElementTree.fromstring(charts.share_chart("x", f1, error))
    topic, policy, topic_error, *_ = chart.iter(f"{SVG}polyline")
    assert topic.get("points") == "216.00,288.00 356.00,78.00"
    assert policy.get("points") == "356.00,218.00"
    assert topic_error.get("points") == "736.00,148.00"  # on an axis that ends at 0.2
    assert topic.get("class") != policy.get("class")
    assert topic.get("class") == topic_error.get("class")
    said = [text.text for text in chart.iter(f"{SVG}text")]
    assert {"topic", "policy", "macro-F1", "calibration error", "share of the video read", "0.2", "1"} <= set(said)


@given(st.text(max_size=40))
def test_any_words_make_valid_svg(words: str) -> None:
    sheet = svg.drawing(100, 50, words)
    svg.bar(sheet, Panel(0, 0, 10, 10), (0, 1), 0.5, words)
    read = ElementTree.fromstring(svg.document(sheet).encode())
    shown = "".join(character if character.isprintable() else " " for character in words)
    assert (read.findtext(f"{SVG}title") or "") == shown
    assert (read.findtext(f"{SVG}text") or "") == shown


def test_numbers_on_axes_are_plain() -> None:
    sheet = svg.drawing(100, 50, "x")
    svg.axes(sheet, Panel(0, 0, 10, 10, x_end=23_649, y_end=0.05), "across", "up", x_ticks=1)
    numbers = [text for text in sheet.iter("text") if text.get("class") == "number"]
    assert [text.get("x") for text in numbers[-2:]] == ["0", "10"]
    assert [text.text for text in numbers] == ["0", "0.01", "0.02", "0.03", "0.04", "0.05", "0", "23,649"]
