"""The report's two charts: how far probabilities can be believed, and what is known after how much of a video."""

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element

from consumer.training import svg
from consumer.training.measures import Bin, calibration_error
from consumer.training.svg import Panel

_SIDE = 280
_LEFT, _GAP, _TOP = 76, 100, 78
_COUNTS = 56  # height of the counts below a reliability diagram
_BELOW = 60
_ROUND = (0.05, 0.1, 0.2, 0.5, 1.0)  # ends of an axis that is in fifths

Points = Sequence[tuple[float, float]]


def reliability_chart(title: str, stages: Mapping[str, Sequence[Bin]]) -> str:
    """Reliability diagrams side by side, by the name of the stage: bars on the diagonal mean what they say.

    Whiskers are 95 % intervals. Below each: how many answers were given with that probability.
    """
    height = _TOP + _SIDE + 16 + _COUNTS + _BELOW
    sheet = svg.drawing(_width(len(stages)), height, title)
    for number, (stage, bins) in enumerate(stages.items()):
        _reliability(sheet, _left(number), stage, bins)
    return svg.document(sheet)


def _reliability(sheet: Element, left: float, stage: str, bins: Sequence[Bin]) -> None:
    total, error = sum(one.accuracy.of for one in bins), calibration_error(bins)
    about = f"{stage}: calibration error {'unknown' if error is None else f'{error:.3f}'}, {total:,} answers"
    svg.text(sheet, left, _TOP - 14, about, "remark")
    panel = Panel(left, _TOP, _SIDE, _SIDE)
    svg.axes(sheet, panel, "", "share that is right", x_ticks=0)
    most = max((one.accuracy.of for one in bins), default=0)
    counts = Panel(left, _TOP + _SIDE + 16, _SIDE, _COUNTS, y_end=max(1, most))
    svg.axes(sheet, counts, "probability that was given", "answers", y_ticks=1)
    for one in bins:
        _bin(sheet, panel, counts, one)
    svg.put(sheet, "line", "ideal", x1=panel.x(0), y1=panel.y(0), x2=panel.x(1), y2=panel.y(1))


def _bin(sheet: Element, panel: Panel, counts: Panel, one: Bin) -> None:
    right = one.accuracy
    if right.value is None:
        return
    span, middle = (one.low, one.high), panel.x((one.low + one.high) / 2)
    said = f"said {one.confidence:.3f}, right {right.value:.3f}"
    remark = f"{one.low:.2f} to {one.high:.2f}: {right.of:,} answers, {said}"
    svg.bar(sheet, panel, span, right.value, remark)
    svg.put(sheet, "line", "whisker", x1=middle, x2=middle, y1=panel.y(right.low), y2=panel.y(right.high))
    svg.bar(sheet, counts, span, right.of, remark)


def share_chart(title: str, f1: Mapping[str, Points], error: Mapping[str, Points]) -> str:
    """Macro-F1 and calibration error against the share of the video read: a line for each aspect, by its name."""
    sheet = svg.drawing(_width(2), _TOP + _SIDE + _BELOW, title)
    worst = max((value for points in error.values() for _, value in points), default=0.0)
    y_end = next((end for end in _ROUND if end >= worst), 1.0)
    for number, (label, lines, end) in enumerate((("macro-F1", f1, 1.0), ("calibration error", error, y_end))):
        panel = Panel(_left(number), _TOP, _SIDE, _SIDE, y_end=end)
        svg.axes(sheet, panel, "share of the video read", label)
        for manner, points in enumerate(lines.values()):
            svg.line(sheet, panel, points, manner)
    _legend(sheet, list(f1))
    return svg.document(sheet)


def _legend(sheet: Element, names: Sequence[str]) -> None:
    for number, name in enumerate(names):
        left = _LEFT + number * (2 * _SIDE + _GAP) / len(names)
        sample = Panel(left, _TOP - 26, 28, 16)
        svg.line(sheet, sample, [(0, 0.5), (1, 0.5)], number)
        svg.text(sheet, left + 38, _TOP - 14, name)


def _left(number: int) -> float:
    return _LEFT + number * (_SIDE + _GAP)


def _width(panels: int) -> float:
    return _left(panels) - _GAP + 28
