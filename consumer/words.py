"""Words that carry what a text is about, told from those that hold it together. Pure."""

import re
import tomllib
from collections.abc import Collection
from functools import cache
from importlib import resources
from typing import Any

from consumer import labels

_WORD = re.compile(r"[^\W_]+(?:['’.][^\W_]+)*")
_STEM_LETTERS = 6
_SHORTEST = 3


def words(text: str) -> list[str]:
    return _WORD.findall(text)


def folded(word: str) -> str:
    return word.casefold().replace("’", "'")


def is_number(word: str) -> bool:
    """In figures, or spelt out in English."""
    return any(letter.isdigit() for letter in word) or word.casefold() in english("spelt_out")


def content_words(text: str, language: Collection[str]) -> list[str]:
    """The stems of the words that are neither numbers nor among the function words `language`, in order."""
    plain = (folded(word) for word in words(text))
    return [stem(word) for word in plain if len(word) >= _SHORTEST and word not in language and not is_number(word)]


def stem(word: str) -> str:
    """Its first letters: in languages that add endings the simplest stem, and nearly as good as any for finding
    (McNamee and Mayfield, 2004)."""
    plain = folded(word).removesuffix("'s")
    return (plain.removesuffix("s") if len(plain) > _SHORTEST else plain)[:_STEM_LETTERS]


def function_words(text: str) -> frozenset[str]:
    """Those of the language that most of the text's words are of, whatever language it is declared to be."""
    said = [folded(word) for word in words(text)]
    return max(_known(), key=lambda known: sum(word in known for word in said))


@cache
def _known() -> tuple[frozenset[str], ...]:
    return tuple(frozenset(words.split()) for words in _table().values() if isinstance(words, str))


@cache
def english(kind: str) -> frozenset[str]:
    """The words of one of the lists that are kept apart from the others: spelt_out, denying, grammar."""
    return frozenset(_table()[kind]["en"].split())


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(resources.files(labels).joinpath("function_words.toml").read_text(encoding="utf-8"))
