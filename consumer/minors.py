"""The restricted label: sexual content that involves minors. Pure.

Nothing was or will be written to teach it, so no head knows it. A rule over other signals speaks for it: text of one
window that speaks of a child or of an age under eighteen, while a sexual label is not unlikely in that window. Either
alone is everyday talk. The rule is there to have specialists look, so it errs towards them: it ends in review, never
in act, is not taken back by what is said later, and nobody else gets to read a quote of such a window.
"""

import re
import tomllib
import unicodedata
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import NamedTuple

from consumer import labels
from consumer.evidence import Aspect, Evidence, probabilities
from consumer.tags import Scored, Tags
from consumer.transcript import Passage
from schemas.tags import RESTRICTED

_SIGNS = ("sexual_explicit", "sexual_suggestive")


class Suspicion(NamedTuple):
    """How likely a sexual label is in a window that speaks of minors, so that the restricted label is not likelier, and
    where the window starts."""

    p: float
    start_s: float


def suspicion(passage: Passage, evidence: Evidence, policy: Aspect) -> Suspicion | None:
    """What to suspect of one window, by what the LLM read of it and the evidence that it alone gives; None: nothing."""
    read = probabilities(evidence, policy)
    if read is None:
        return None
    p = round(max((float(read[policy.labels.index(sign)]) for sign in _SIGNS if sign in policy.labels), default=0.0), 4)
    if p < labels.policy(RESTRICTED).thresholds.review or not speaks_of_minors(
        f"{passage.title or ''}\n{passage.text}"
    ):
        return None
    return Suspicion(p, float(passage.start_s))


def stronger(one: Suspicion | None, other: Suspicion | None) -> Suspicion | None:
    """In any order: the likelier, of equal ones the earlier."""
    return max(filter(None, (one, other)), key=lambda found: (found.p, -found.start_s), default=None)


def with_restricted(tags: Tags, found: Suspicion | None) -> Tags:
    """The tags with the restricted label in review, where something was found. Where nothing was, they do not have it:
    a machine clears nobody of this."""
    if found is None:
        return tags
    restricted = Scored(RESTRICTED, found.p, True, "review")
    return replace(tags, policies=tuple(sorted((*tags.policies, restricted), key=lambda policy: -policy.p)))


def speaks_of_minors(text: str) -> bool:
    """Whether there are words for a child, or an age under eighteen, in English, Spanish, German, French, Portuguese or
    Italian. All are looked for in every text: what is declared to be its language may be wrong."""
    return pattern().search(_plain(text)) is not None


_CLAUSE_ENDS, _OTHER_MARKS = re.compile(r"[.!?;:…\n]"), re.compile(r"[^\w,]|_")


def _plain(text: str) -> str:
    """Small letters without accents, each mark that ends a clause as a comma, every other one as a space."""
    letters = unicodedata.normalize("NFKD", _CLAUSE_ENDS.sub(",", text.casefold()))
    bare = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return " ".join(_OTHER_MARKS.sub(" ", bare).replace(",", " , ").split())


@cache
def pattern() -> re.Pattern[str]:
    """What `speaks_of_minors` looks for in plain text, made of `consumer/labels/minors.toml`."""
    told = tomllib.loads(resources.files(labels).joinpath("minors.toml").read_text(encoding="utf-8"))
    goes_on, more = "|".join(told.pop("goes_on")), _after_none_of(told.pop("more"))
    words = []
    for language in told.values():
        age = _after_none_of(language.get("tens", ())) + rf"\b([1-9]|1[0-7]|{'|'.join(language['numbers'])})"
        words += [word.replace("AGE", age) for word in language["words"]]
    all_words = "|".join(words).replace(" END", rf"(?=$| ({goes_on})( |$))").replace("NOTMORE ", more)
    return re.compile(rf"\b({all_words})(?!\w)")


def _after_none_of(words: Iterable[str]) -> str:
    return "".join(rf"(?<!\b{word} )" for word in words)
