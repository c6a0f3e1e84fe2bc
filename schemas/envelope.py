"""The CloudEvents 1.0 envelope that every event travels in (https://github.com/cloudevents/spec/blob/v1.0.2)."""

from abc import ABC, abstractmethod
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar, get_args

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, StringConstraints, model_validator

# What is written always has every field; a default is for events that were written before there was the field.
STRICT = ConfigDict(
    strict=True, frozen=True, extra="forbid", allow_inf_nan=False, json_schema_serialization_defaults_required=True
)
TOLERANT = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


def _refuse_numbers(value: object) -> object:
    if isinstance(value, int | float):
        raise ValueError("must be a time in text, like 2026-05-01T12:00:00Z")
    return value


Text = Annotated[str, StringConstraints(min_length=1)]
Time = Annotated[AwareDatetime, BeforeValidator(_refuse_numbers)]


class Strict(BaseModel):
    """Part of an event that we write: exact types, nothing unknown, no NaN, nothing changed afterwards."""

    model_config = STRICT


class Payload(BaseModel, ABC):
    """The data of an event."""

    @property
    @abstractmethod
    def partition_key(self) -> str:
        """Key of the Kafka record: events with the same key stay in order."""


Data = TypeVar("Data", bound=Payload)


class Envelope(BaseModel, Generic[Data]):
    """What any CloudEvent must have, as read: unknown attributes are kept out."""

    model_config = TOLERANT

    specversion: Literal["1.0"]
    id: Text
    source: Text
    type: str
    subject: Text | None = None
    time: Time | None = None
    datacontenttype: Text | None = None
    partitionkey: Text | None = None
    data: Data

    @classmethod
    def event_type(cls) -> str:
        """The `type` attribute of every event of this class."""
        (name,) = get_args(cls.model_fields["type"].annotation)
        return str(name)

    @classmethod
    def wrap(cls, data: Data, *, id: str, source: str, time: datetime) -> Self:
        """Put `data` into its envelope; subject and partition key are the video's id."""
        attributes: dict[str, Any] = {
            "specversion": "1.0",
            "id": id,
            "source": source,
            "type": cls.event_type(),
            "subject": data.partition_key,
            "time": time,
            "datacontenttype": "application/json",
            "partitionkey": data.partition_key,
            "data": data,
        }
        return cls(**attributes)


class OutputEvent(Envelope[Data], Generic[Data]):
    """What every event that we write has, always."""

    model_config = STRICT

    subject: Text
    time: AwareDatetime
    datacontenttype: Literal["application/json"]
    partitionkey: Text

    @model_validator(mode="after")
    def _names_its_data(self) -> Self:
        if not self.subject == self.partitionkey == self.data.partition_key:
            raise ValueError(f"subject and partitionkey must both be {self.data.partition_key!r}")
        return self
