"""What a video is described by: the one or two sentences of it that speak most for the whole. Pure.

Small language models invent, so a description is chosen from what was said. A sentence is good by its words, as in
Edmundson (1969): it says what the video is about ("today we are making"), comes early, holds the words that come again
elsewhere, and is a whole one of fair length; greetings, sponsors, pleas to subscribe and questions speak for no video.
The best of these are read by the LLM, and those win whose evidence agrees with the video's. A second sentence joins if
it is good too and says something else (Carbonell and Goldstein, 1998).

What is published for advertisers must not carry what is held back: no sentence comes from a window that speaks for a
policy label out of clear, and none that is out of clear itself is taken.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from consumer import labels
from consumer.checkpoint import Story
from consumer.evidence import KEPT_WINDOWS, Aspect, Evidence, Logits, probabilities
from consumer.spoken import Sentence
from consumer.tags import ReadOut, Tags
from consumer.transcript import TextWindow
from consumer.words import content_words, function_words
from schemas.tags import RESTRICTED

SHORTLIST = 4  # are read by the LLM
_FEWEST_STEMS = 2
_FEW_WORDS, _MANY_WORDS = 8, 30  # what a good sentence has
_FIRST_AT_LEAST = 0.3  # what is worth less speaks for nothing
_SECOND_AT_LEAST = 0.7  # of the first one's worth
_SAME_SHARE = 0.4  # of content words: sentences that share more say the same

_ANNOUNCES = re.compile(
    r"\b(today|this (video|episode|week|morning|evening|session|lesson|tutorial|tour|review)|welcome to (the|my|our)"
    r"|(i'm|i am|we're|we are|i'll|we'll|let me|going to|gonna|want(ed)? to|wanna)( \w+){0,2}"
    r" (show|mak|talk|look|cover|review|explain|walk|teach|do|cook|build|tell|answer|compar|discuss)(e|ing)?"
    r"|is (all )?about|the (topic|subject)|here's (how|what|the)|this is (my|our)"
    r"|heute|in diesem video|hoy|este v[ií]deo|aujourd'hui|cette vid[ée]o|hoje|neste v[ií]deo|oggi|questo video)\b",
    re.IGNORECASE,
)
_GREETS = re.compile(
    r"\b(hey|hi|hello|good (morning|evening|afternoon)|welcome|what'?s up|thanks? (you )?(so much )?for|cheers"
    r"|goodbye|bye|see you|hallo|guten (morgen|tag|abend)|willkommen|hola|buenos d[ií]as|buenas|bienvenid[oa]s"
    r"|bonjour|salut|bienvenue|ol[áa]|bem-vind[oa]s|ciao|buongiorno|benvenuti)\b",
    re.IGNORECASE,
)
_BEGS = re.compile(
    r"\b(subscrib\w+|(a|the|that) (like|thumbs)|like button|smash|the bell|notifications?|comments?|follow (me|us)"
    r"|patreon|(link|links) (is |are )?(in|below)|stay tuned|abonnier\w*|glocke|kommentare|suscr[íi]b\w+|comentarios"
    r"|abonne\w*|commentaires|inscrev\w+|coment[áa]rios|iscriv\w+|commenti)\b",
    re.IGNORECASE,
)
_SELLS = re.compile(
    r"\b(sponsor\w*|promo\w*|discount|(the|my|code) code|percent off|free trial|checkout|brought to you|affiliate"
    r"|gesponsert|rabatt\w*|patrocin\w+|descuento|c[óo]digo|sponsoris\w+|code promo|desconto|sponsorizzat\w+|sconto)\b",
    re.IGNORECASE,
)
_LEANS = re.compile(
    r"(and|but|or|because|cause|which|then|it|it's|that|that's|they|they're|he|he's|she|she's|these|those|not|no|nope"
    r"|yeah|yes|also|plus|same|there|thanks?|und|aber|das|es|y|pero|eso|et|mais|ça|c'est|e|mas|isso|ma|però)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence that may describe the video. `place` counts from the video's beginning; `worth` is by its words."""

    sentence: Sentence
    place: int
    worth: float
    stems: frozenset[str]


# --- what may be taken ---


def fit_windows(tags: Tags, story: Story, policy: Aspect) -> list[TextWindow]:
    """The kept windows of what was said that speak for no policy label out of clear, in order. None at all where more
    windows may speak for it than are known, or where nothing may be quoted."""
    out_of_clear = [scored.label for scored in tags.policies if scored.band != "clear"]
    if RESTRICTED in out_of_clear:
        return []
    unfit: set[int] = set()
    for label in out_of_clear:
        speaking = _speaking(label, story.evidence, policy)
        if len(speaking) == KEPT_WINDOWS:
            return []
        unfit |= speaking
    kept = (window for index, window in sorted(story.windows.items()) if index not in unfit)
    return [window for window in kept if window.basis != "metadata"]


def _speaking(label: str, evidence: Evidence, policy: Aspect) -> set[int]:
    """The windows that alone bring `label` out of clear, as far as they are known, and the strongest one anyway."""
    at = policy.labels.index(label)
    shares = evidence.strongest[policy.name]
    found = {shares[at][0].window}
    for rank, share in enumerate(shares[at]):
        alone = tuple((of_label[min(rank, len(of_label) - 1)],) for of_label in shares)
        read = probabilities(Evidence(evidence.words, strongest={policy.name: alone}), policy)
        if read is not None and labels.policy(label).band(float(read[at])) != "clear":
            found.add(share.window)
    return found


# --- what sentences are worth by their words ---


@dataclass(frozen=True)
class Weights:
    """What words are worth in one video: how many of its sentences have each, its title counted as two more; and the
    most that a sentence of it has together."""

    language: frozenset[str]  # its function words
    of_stems: Counter[str]
    most: int

    @classmethod
    def of(cls, said: Sequence[Sentence], title: str | None) -> "Weights":
        language = function_words(" ".join(sentence.text for sentence in said))
        stems = [set(content_words(sentence.text, language)) for sentence in said]
        of_title = set(content_words(title or "", language))
        of_stems = Counter(stem for each in (*stems, of_title, of_title) for stem in each)
        return cls(language, of_stems, max((sum(of_stems[stem] for stem in each) for each in stems), default=0) or 1)

    def candidate(self, sentence: Sentence, place: int, lateness: float = 0.0) -> Candidate:
        """`lateness` is 0 for the first sentence, and nearly 1 for the last."""
        stems = frozenset(content_words(sentence.text, self.language))
        weight = sum(self.of_stems[stem] for stem in stems) / self.most
        return Candidate(sentence, place, 0.5 * min(1.0, weight) + _form(sentence, lateness), stems)


def shortlist(said: Sequence[Sentence], weights: Weights) -> list[Candidate]:
    """The best sentences by their words, in the order in which they were said."""
    candidates = [weights.candidate(sentence, place, place / len(said)) for place, sentence in enumerate(said)]
    telling = (candidate for candidate in candidates if len(candidate.stems) >= _FEWEST_STEMS)
    best = sorted(telling, key=lambda candidate: (-candidate.worth, candidate.place))[:SHORTLIST]
    return sorted(best, key=lambda candidate: candidate.place)


def _form(sentence: Sentence, lateness: float) -> float:
    text, num_words = sentence.text, len(sentence.text.split())
    announces = bool(_ANNOUNCES.search(text))
    value = 0.15 * (1 - lateness)
    value += 0.2 * announces
    value -= 0.1 * max(0, _FEW_WORDS - num_words) + 0.02 * max(0, num_words - _MANY_WORDS)
    value -= 0.3 * (not sentence.whole)
    value -= 0.3 * text.endswith("?")
    value -= 0.2 * (_GREETS.search(text) is not None and not announces)
    value -= 0.5 * (_BEGS.search(text) is not None)
    value -= 0.4 * (_SELLS.search(text) is not None)
    value -= 0.1 * (_LEANS.match(text) is not None)
    return value


# --- what the LLM read of them ---


def evidence_of(text: str, logits: Mapping[str, Logits], read_out: ReadOut) -> Evidence:
    """What a text by itself says."""
    return Evidence.of_window(0, len(text.split()), 0.0, read_out.aspects, logits)


def is_clear(tags: Tags) -> bool:
    return all(policy.band == "clear" for policy in tags.policies)


def worth(candidate: Candidate, says: Evidence, video: Evidence, topic: Aspect) -> float:
    """By its words, and by how what it says agrees with what the video says."""
    return round(candidate.worth + agreement(says, video, topic), 3)


def extracted(worths: Mapping[Candidate, float]) -> str | None:
    """One or two of the candidates, in the order in which they were said; None where none speaks for the video."""
    if max(worths.values(), default=0.0) < _FIRST_AT_LEAST:
        return None
    first, *others = sorted(worths, key=lambda candidate: (-worths[candidate], candidate.place))
    good = (other for other in others if worths[other] >= _SECOND_AT_LEAST * worths[first])
    second = next((other for other in good if not _same(first, other)), first)
    chosen = sorted({first, second}, key=lambda candidate: candidate.place)
    return " ".join(candidate.sentence.shown for candidate in chosen).replace("… …", "…")


def agreement(one: Evidence, other: Evidence, aspect: Aspect) -> float:
    """How alike two texts are in what they say for each label: the cosine of their log-odds, -1 to 1."""
    ours, theirs = _directions(one, aspect), _directions(other, aspect)
    length = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
    return float(ours @ theirs) / length if length else 0.0


def _directions(evidence: Evidence, aspect: Aspect) -> Logits:
    read = probabilities(evidence, aspect)
    if read is None:
        return np.zeros(len(aspect.labels))
    logs = np.log(np.maximum(read, 1e-12))
    return np.asarray(logs - logs.mean())


def _same(one: Candidate, other: Candidate) -> bool:
    return len(one.stems & other.stems) > _SAME_SHARE * min(len(one.stems), len(other.stems))
