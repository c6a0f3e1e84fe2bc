"""Plain drawings: panels with axes, bars and lines, as SVG 1.1 that is legible on light and dark screens."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

LINES = 6  # kinds of line; more than that are not told apart anyway

# Colours of Okabe and Ito, which the colour-blind tell apart.
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 } .heading { font-size: 15px; font-weight: 600 }
.number, .remark { fill: #59636e } .paper { fill: #ffffff }
.grid { stroke: #d1d9e0; stroke-width: 1 } .axis { stroke: #59636e; stroke-width: 1 }
.bar { fill: #0072b2; fill-opacity: 0.75 } .whisker { stroke: #1f2328; stroke-width: 1 }
.ideal { stroke: #1f2328; stroke-width: 1.5; stroke-dasharray: 4 4 }
.line { fill: none; stroke-width: 2 } .dot { stroke: none }
.line0 { stroke: #0072b2 } .dot0 { fill: #0072b2 }
.line1 { stroke: #d55e00; stroke-dasharray: 8 3 } .dot1 { fill: #d55e00 }
.line2 { stroke: #009e73; stroke-dasharray: 3 3 } .dot2 { fill: #009e73 }
.line3 { stroke: #cc79a7; stroke-dasharray: 12 3 3 3 } .dot3 { fill: #cc79a7 }
.line4 { stroke: #e69f00; stroke-dasharray: 1 4 } .dot4 { fill: #e69f00 }
.line5 { stroke: #56b4e9; stroke-dasharray: 16 4 } .dot5 { fill: #56b4e9 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .number, .remark { fill: #9198a1 } .paper { fill: #0d1117 }
  .grid { stroke: #30363d } .axis { stroke: #9198a1 } .whisker, .ideal { stroke: #f0f6fc }
  .bar { fill: #56b4e9 } .line0 { stroke: #56b4e9 } .dot0 { fill: #56b4e9 }
  .line5 { stroke: #f0e442 } .dot5 { fill: #f0e442 }
}
"""


def drawing(width: float, height: float, title: str) -> Element:
    """An empty sheet of so many pixels, headed by its title."""
    size = {"width": f"{width:g}", "height": f"{height:g}", "viewBox": f"0 0 {width:g} {height:g}"}
    sheet = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", **size})
    put(sheet, "title").text = _legal(title)
    put(sheet, "style").text = _STYLE
    put(sheet, "rect", kind="paper", width=width, height=height)
    text(sheet, 16, 26, title, "heading")
    return sheet


def put(parent: Element, tag: str, kind: str | None = None, **attributes: float | str) -> Element:
    """Adds an element; `_` in an attribute's name stands for `-`."""
    values = {
        name.replace("_", "-"): value if isinstance(value, str) else f"{round(value, 2):g}"
        for name, value in attributes.items()
    }
    return ElementTree.SubElement(parent, tag, {"class": kind, **values} if kind else values)


def text(parent: Element, x: float, y: float, words: str, kind: str | None = None, anchor: str = "start") -> Element:
    element = put(parent, "text", kind, x=x, y=y, text_anchor=anchor)
    element.text = _legal(words)
    return element


def _legal(words: str) -> str:
    """Without what XML cannot hold, escaped or not."""
    return "".join(character if character.isprintable() else " " for character in words)


@dataclass(frozen=True)
class Panel:
    """A plot: its place on the sheet in pixels, and the values at its right and upper end. It begins at (0, 0)."""

    left: float
    top: float
    width: float
    height: float
    x_end: float = 1.0
    y_end: float = 1.0

    def x(self, value: float) -> float:
        return self.left + self.width * value / self.x_end

    def y(self, value: float) -> float:
        return self.top + self.height * (1 - value / self.y_end)


def axes(sheet: Element, panel: Panel, x_label: str, y_label: str, x_ticks: int = 5, y_ticks: int = 5) -> None:
    """Numbered axes: so many steps each; without steps, no numbers."""
    left, right, bottom = panel.left, panel.left + panel.width, panel.top + panel.height
    for value in _steps(panel.y_end, y_ticks):
        put(sheet, "line", "grid", x1=left, x2=right, y1=panel.y(value), y2=panel.y(value))
        text(sheet, left - 8, panel.y(value) + 4, _number(value), "number", "end")
    for value in _steps(panel.x_end, x_ticks):
        put(sheet, "line", "axis", x1=panel.x(value), x2=panel.x(value), y1=bottom, y2=bottom + 4)
        text(sheet, panel.x(value), bottom + 18, _number(value), "number", "middle")
    put(sheet, "line", "axis", x1=left, x2=right, y1=bottom, y2=bottom)
    text(sheet, panel.left + panel.width / 2, bottom + 38, x_label, anchor="middle")
    middle = f"translate({left - 54:g} {panel.top + panel.height / 2:g}) rotate(-90)"
    text(sheet, 0, 0, y_label, anchor="middle").set("transform", middle)


def _steps(end: float, ticks: int) -> Iterable[float]:
    return (end * tick / ticks for tick in range(ticks + 1)) if ticks else ()


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def bar(sheet: Element, panel: Panel, span: tuple[float, float], value: float, remark: str) -> None:
    """A bar from 0 to `value` over a span of x, with a remark that shows under the pointer."""
    left, right = panel.x(span[0]) + 1, panel.x(span[1]) - 1
    size = {"width": right - left, "height": panel.y(0) - panel.y(value)}
    put(put(sheet, "rect", "bar", x=left, y=panel.y(value), **size), "title").text = _legal(remark)


def line(sheet: Element, panel: Panel, points: Sequence[tuple[float, float]], number: int) -> None:
    """A line with a dot at each point, in the manner of that number."""
    places = [(panel.x(x), panel.y(y)) for x, y in points]
    path = " ".join(f"{x:.2f},{y:.2f}" for x, y in places)
    put(sheet, "polyline", f"line line{number % LINES}", points=path)
    for x, y in places:
        put(sheet, "circle", f"dot dot{number % LINES}", cx=x, cy=y, r=3.5)


def document(sheet: Element) -> str:
    ElementTree.indent(sheet)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(sheet, encoding="unicode") + "\n"
