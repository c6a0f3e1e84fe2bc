"""`tagstream.deadletter.v1`: an upload that gave no result, and why."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from schemas.envelope import OutputEvent, Payload, Strict, Text

Code = Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]


class Original(Strict):
    """The input record: where it stands, its key (undecodable bytes replaced) and its timestamp."""

    topic: Text
    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]
    key: str | None
    timestamp_ms: Annotated[int, Field(ge=0)] | None


class DeadLetter(Payload, Strict):
    """`reason` and `stage` are stable codes to build on; `message` is for people and may change.

    `video_id` and `uri` are null where the record could not be read far enough to know them.
    """

    reason: Code
    stage: Code
    message: Text
    error_class: Literal["permanent", "transient"]
    video_id: Text | None
    uri: Text | None
    attempt: Annotated[int, Field(ge=1)]
    original: Original
    failed_at: AwareDatetime

    @property
    def partition_key(self) -> str:
        """The video's id, else the place of the record."""
        return self.video_id or f"{self.original.topic}/{self.original.partition}/{self.original.offset}"


class DeadLetterEvent(OutputEvent[DeadLetter]):
    """An upload was given up."""

    type: Literal["tagstream.deadletter.v1"]
