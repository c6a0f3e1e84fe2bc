"""What was said, in sentences that may reach from one window into the next. Pure."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from consumer.transcript import TextWindow, ends_sentence

_MOST_WORDS, _MOST_LETTERS = 48, 400  # what is longer is cut
_MOST_UNMARKED_WORDS = 24  # where nothing says how far a sentence goes
_ABBREVIATION = re.compile(r"(\w\.)+|(mr|mrs|ms|dr|st|prof|vs|etc|approx)\.", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence word for word; `whole` but where the text before or after it is not known, or where it goes on for too
    long."""

    text: str
    whole: bool

    @property
    def shown(self) -> str:
        return self.text if self.whole else f"… {self.text.rstrip('.…')} …"


def spoken(windows: Iterable[TextWindow]) -> list[Sentence]:
    """The sentences of windows in order."""
    return [sentence for run in _runs(windows) for sentence in _sentences(run)]


def first_sentence(text: str) -> str:
    """Empty where there is no whole one."""
    held = next(iter(_split(text.split())), [""])
    return " ".join(held) if ends_sentence(held[-1]) else ""


def _runs(windows: Iterable[TextWindow]) -> list[list[TextWindow]]:
    """Windows that follow each other."""
    runs: list[list[TextWindow]] = []
    for window in windows:
        if runs and runs[-1][-1].index + 1 == window.index:
            runs[-1].append(window)
        else:
            runs.append([window])
    return runs


def _sentences(run: Sequence[TextWindow]) -> Iterator[Sentence]:
    begun = run[0].index == 0
    for held in _split([word for window in run for word in window.text.split()]):
        ended = ends_sentence(held[-1])
        yield Sentence(" ".join(held), ended and (begun or not held[0][0].islower()))
        begun = ended


def _split(said: Sequence[str]) -> Iterator[list[str]]:
    """Lists of words. A full stop before a small letter ends nothing ("U.S. dollar"), unless all letters are small."""
    has_capitals = any(word[0].isupper() for word in said)
    most_words = _MOST_WORDS if any(map(ends_sentence, said)) else _MOST_UNMARKED_WORDS
    held: list[str] = []
    for word, following in pairwise([*said, ""]):
        held.append(word)
        goes_on = has_capitals and following[:1].islower()
        ended = ends_sentence(word) and not goes_on and not _ABBREVIATION.fullmatch(word)
        if ended or not following or len(held) == most_words or sum(map(len, held)) > _MOST_LETTERS:
            yield held
            held = []
