"""Describes one video: in words that were said, or, by setting, in words of the LLM that agree with them."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from consumer import metrics
from consumer.checkpoint import Story
from consumer.description import Candidate, Weights, evidence_of, extracted, fit_windows, is_clear, shortlist, worth
from consumer.evidence import Evidence
from consumer.quotes import Quotes
from consumer.spoken import Sentence, spoken
from consumer.tags import ReadOut, Tags, read_tags
from consumer.written import agrees, supported
from schemas import tags as parts


class Write(Protocol):
    """What the LLM writes about what was said: a few texts, true or not."""

    def __call__(self, said: str, /, *, video: str) -> "Future[list[str]]": ...


@dataclass(frozen=True)
class Describing:
    """Whether partial events have a description too, and who writes them; None: they are extracted."""

    partials: bool = False
    write: Write | None = None


class Describer:
    """Describes one video. What it says depends on the video's story and tags alone, but that a text which takes the
    LLM too long to write is not there."""

    def __init__(
        self, describing: Describing, quotes: Quotes, read_out: ReadOut, video: str, title: str | None
    ) -> None:
        self._describing = describing
        self._quotes = quotes
        self._read_out = read_out
        self._video = video
        self._title = title

    def describe(self, tags: Tags, story: Story, stage: parts.Stage) -> parts.Description | None:
        """None where nothing was said, or nothing that may be told to advertisers."""
        if stage == "partial" and not self._describing.partials:
            return None
        with metrics.stage_seconds.labels("describe").time():
            said = spoken(fit_windows(tags, story, self._read_out.policy))
            weights = Weights.of(said, self._title)
            worths = self._worths(shortlist(said, weights), story)
            chosen = extracted(worths)
            if chosen is None:
                return None
            written = self._written(worths, weights, tags, story)
        return parts.Description(text=written or chosen, derived=True, method="generated" if written else "extracted")

    def _worths(self, candidates: Sequence[Candidate], story: Story) -> dict[Candidate, float]:
        """What each candidate that breaks no policy is worth."""
        read = zip(candidates, self._read([candidate.sentence.text for candidate in candidates]), strict=True)
        return {
            candidate: worth(candidate, says, story.evidence, self._read_out.topic)
            for candidate, says in read
            if is_clear(read_tags(says, self._read_out))
        }

    def _written(self, worths: Mapping[Candidate, float], weights: Weights, tags: Tags, story: Story) -> str | None:
        """What the LLM wrote, if it was asked, told the truth, and speaks for the video no less than a quote does."""
        if self._describing.write is None:
            return None
        said = [candidate.sentence for candidate in worths]
        written = self._describing.write(" ".join(sentence.text for sentence in said), video=self._video).result()
        texts = supported(written, said)
        candidates = [weights.candidate(Sentence(text, True), place) for place, text in enumerate(texts)]
        agreeing = {
            candidate: worth(candidate, says, story.evidence, self._read_out.topic)
            for candidate, says in zip(candidates, self._read(texts), strict=True)
            if agrees(read_tags(says, self._read_out), tags, self._read_out)
        }
        best = max(agreeing, key=lambda candidate: agreeing[candidate], default=None)
        return best.sentence.text if best and agreeing[best] >= max(worths.values()) else None

    def _read(self, texts: Sequence[str]) -> list[Evidence]:
        read = self._quotes.readings(texts)
        return [evidence_of(text, logits, self._read_out) for text, logits in zip(texts, read, strict=True)]
