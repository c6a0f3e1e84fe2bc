"""`tagstream.moderation.case.v1`: one policy label of one video that people should look at, or that acted."""

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


class ModerationCase(Payload, Strict):
    """What a reviewer needs without asking back: what, why, how sure, and where to start playing (`seek_s`).

    `threshold` is the one of `band` that `p` reached; `tags_event_id` is the tag event that said so first.
    """

    video: CaseVideo
    label: Text
    iab: Text | None
    band: Literal["review", "act"]
    risk: Risk
    p: Probability
    threshold: Probability
    queue: Text
    policy: CasePolicy
    evidence: Annotated[tuple[Evidence, ...], Field(min_length=1)]
    seek_s: Seconds
    stage: Stage
    revision: Annotated[int, Field(ge=1)]
    tags_event_id: Text
    provenance: Provenance

    @property
    def partition_key(self) -> str:
        return self.video.id

    @model_validator(mode="after")
    def _reached_its_threshold(self) -> Self:
        if self.p < self.threshold:
            raise ValueError(f"p {self.p} is below the threshold {self.threshold}: this is no case")
        refuse_repeats("evidence", (evidence.id for evidence in self.evidence))
        return self


class CaseEvent(OutputEvent[ModerationCase]):
    """A case for moderation."""

    type: Literal["tagstream.moderation.case.v1"]
