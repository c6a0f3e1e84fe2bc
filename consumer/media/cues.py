"""Cues as FFmpeg renders them, made into segments of plain text. Pure."""

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Protocol

from consumer.transcript import Segment

# A cue that follows the one before this closely may be the same caption, rolled on.
ROLL_GAP_S = 0.1
# How long a cue stands whose file does not say.
UNKNOWN_LENGTH_S = 3.0
# Twelve hours of fast speech are a fifth of it; a longer track is not speech.
MAX_CHARACTERS = 5_000_000

_ASS = re.compile(
    r"(?P<brace>\\[{}])"  # an escaped brace
    r"|(?P<line>\\[Nn])"  # a line break
    r"|(?P<space>\\h)"  # a hard space
    r"|\{[^{}]*\}"  # override tags, and the empty pair that FFmpeg puts after an escaped brace
    r"|</?[A-Za-z][^<>]*>|<\d[\d:.]*>"  # tags and karaoke times that FFmpeg left in
    r"|\u2060"  # the word joiner that FFmpeg puts after a backslash
)
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ufeff]")


class TimedText(Protocol):
    @property
    def start_s(self) -> float: ...
    @property
    def end_s(self) -> float | None: ...
    @property
    def text(self) -> str: ...


def segments(cues: Iterable[TimedText], *, until_s: float) -> Iterator[Segment]:
    """The cues as text, in order: no tags, no empty ones, nothing said twice by rolling captions.

    Starts never fall, ends never lie before their start. Stops at `until_s`, and after MAX_CHARACTERS.
    """
    shown: list[str] = []
    shown_until_s = 0.0
    pending: Segment | None = None
    characters = 0
    for cue in cues:
        lines = plain_lines(cue.text)
        start_s = max(cue.start_s, 0.0, pending.start_s if pending else 0.0)
        characters += len(cue.text)
        if start_s >= until_s or characters > MAX_CHARACTERS:
            break
        if not lines:
            continue
        end_s = max(start_s, cue.end_s if cue.end_s is not None else start_s + UNKNOWN_LENGTH_S)
        new = _new_lines(shown, lines) if pending and start_s - shown_until_s <= ROLL_GAP_S else lines
        shown, shown_until_s = lines, end_s
        if pending and not new:
            pending = replace(pending, end_s=max(pending.end_s, end_s))
            continue
        if pending:
            yield pending
        pending = Segment(round(start_s, 3), round(end_s, 3), " ".join(new))
    if pending:
        yield pending


def plain_lines(text: str) -> list[str]:
    """The lines of an ASS text without tags, entities decoded, white space folded, empty ones dropped."""
    plain = html.unescape(_ASS.sub(_plain, text))
    lines = (" ".join(_UNPRINTABLE.sub("", line).split()) for line in plain.splitlines())
    return [line for line in lines if line]


def _plain(found: re.Match[str]) -> str:
    if found["brace"]:
        return found["brace"][1]
    if found["line"]:
        return "\n"
    return " " if found["space"] else ""


def _new_lines(shown: list[str], lines: list[str]) -> list[str]:
    """What `lines` add to the lines that were on the screen just before: rolled up, or grown word by word."""
    before, now = " ".join(shown), " ".join(lines)
    if now == before:
        return []
    if now.startswith(before + " "):
        return [now[len(before) + 1 :]]
    for kept in range(min(len(shown), len(lines)), 0, -1):
        if shown[-kept:] == lines[:kept]:
            return lines[kept:]
    return lines
