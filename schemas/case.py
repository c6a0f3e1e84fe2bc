"""`tagstream.moderation.case.v1`: one policy label of one video that people should look at, or that acted.

`tagstream.moderation.restricted.v1` is the same without quotes, where what was said is for specialists only.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.envelope import OutputEvent, Payload, Strict, Text
from schemas.tags import Evidence, Probability, Provenance, Risk, Seconds, Stage, refuse_repeats


class CaseVideo(Strict):
    id: Text
    content_version: Text | None
    uri: Text
    uploader_id: Text | None


class CasePolicy(Strict):
    """The policy in words, and what others call it; null where they do not.

    `dsa` lists CATEGORY or CATEGORY/KEYWORD of the DSA Transparency Database; `openai` names categories of
    its moderation API, `llama_guard` hazards of MLCommons.
    """

    name: Text
    dsa: tuple[Text, ...] | None
    openai: tuple[Text, ...] | None
    llama_guard: tuple[Text, ...] | None


class _Case(Payload, Strict):
    """What every case has."""

    video: CaseVideo
    label: Text
    iab: Text | None
    band: Literal["review", "act"]
    risk: Risk
    p: Probability
    threshold: Probability
    queue: Text
    policy: CasePolicy
    seek_s: Seconds
    stage: Stage
    revision: Annotated[int, Field(ge=1)]
    tags_event_id: Text
    provenance: Provenance
    rules: tuple[Text, ...] = ()

    @property
    def partition_key(self) -> str:
        return self.video.id

    @model_validator(mode="after")
    def _reached_its_threshold(self) -> Self:
        if self.p < self.threshold:
            raise ValueError(f"p {self.p} is below the threshold {self.threshold}: this is no case")
        return self


class ModerationCase(_Case):
    """What a reviewer needs without asking back: what, why, how sure, and where to start playing (`seek_s`).

    `threshold` is the one of `band` that `p` reached, or which `rules` (their ids) lowered to `p`; `tags_event_id` is
    the tag event that said so first.
    """

    evidence: Annotated[tuple[Evidence, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _quotes_each_once(self) -> Self:
        refuse_repeats("evidence", (evidence.id for evidence in self.evidence))
        return self


class RestrictedCase(_Case):
    """A case of the label `sexual_minors`, or of another label which the same windows speak for. Nothing that was said
    is in it, and its queue is the restricted one."""


class CaseEvent(OutputEvent[ModerationCase]):
    """A case for moderation."""

    type: Literal["tagstream.moderation.case.v1"]


class RestrictedCaseEvent(OutputEvent[RestrictedCase]):
    """A case for specialists."""

    type: Literal["tagstream.moderation.restricted.v1"]
