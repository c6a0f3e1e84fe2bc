"""Examples to learn labels from: passages of spoken text, one JSON object a line."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from consumer import labels
from consumer.errors import SettingsError
from consumer.transcript import Passage
from schemas import explain


class Example(BaseModel):
    """A passage and what is known of it: a topic, of any tier, a tone, or for some policy labels whether they hold.

    What is not said is unknown, except that passages with a topic or a tone break no policy. Heads do not see the last
    four: how it is spoken, what makes it harmless, its language (ISO 639-1), and who wrote it. Passages of one author
    are held out together, since an author is easier to recognise than a topic; `read_examples` puts the file's name
    where nobody is named.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    text: Annotated[str, Field(min_length=1)]
    title: str | None = None
    topic: str | None = None
    sentiment: Literal["positive", "neutral", "negative"] | None = None
    policy: dict[str, bool] | None = None
    style: str | None = None
    context: str | None = None
    language: str | None = None
    author: str | None = None

    @model_validator(mode="after")
    def _has_known_labels(self) -> Self:
        if self.topic is None and self.sentiment is None and not self.policy:
            raise ValueError("give a topic, a sentiment or a policy")
        if self.topic is not None and self.topic not in _served():
            raise ValueError(f"topic {self.topic!r} is not the id of a topic; see consumer/labels/iab.json")
        if unknown := set(self.policy or {}) - {policy.id for policy in labels.policies()}:
            raise ValueError(f"no such policy label: {', '.join(sorted(unknown))}")
        return self

    @property
    def passage(self) -> Passage:
        return Passage(self.text, self.title)

    @property
    def main_topic(self) -> str | None:
        """The tier-1 topic."""
        return self.topic and labels.path(self.topic)[0].id

    @property
    def subtopic(self) -> str | None:
        """The topic where it is one below tier 1."""
        return self.topic if self.topic != self.main_topic else None


@cache
def _served() -> frozenset[str]:
    topics = [topic.id for topic in labels.topics()]
    return frozenset(topics).union(below.id for topic in topics for below in labels.descendants(topic))


def read_examples(files: Iterable[Path]) -> list[Example]:
    """Raises SettingsError that names the file and the line which is not an example."""
    examples = []
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"cannot read examples from {file}: {error}") from error
        for number, line in enumerate(lines, start=1):
            if line.strip():
                examples.append(_example(line, file, number))
    return examples


def _example(line: str, file: Path, number: int) -> Example:
    try:
        example = Example.model_validate_json(line)
    except ValidationError as error:
        raise SettingsError(f"{file}, line {number}: {explain(error)}") from error
    return example if example.author else example.model_copy(update={"author": file.stem})


def shipped_examples() -> list[Example]:
    """Those that the default heads are trained on; written for this project."""
    with resources.as_file(resources.files(labels).joinpath("examples")) as folder:
        return read_examples(sorted(folder.glob("*.jsonl")))


def own_texts() -> dict[str, list[tuple[str, str, str]]]:
    """Per aspect, each label's id, name and description: what a model knows it by before any example."""
    return {
        "topic": [(topic.id, topic.name, topic.description) for topic in labels.topics()],
        "subtopic": [(below.id, below.name, below.description) for below in labels.subtopics()],
        "sentiment": [(tone.id, tone.id, tone.description) for tone in labels.sentiments()],
        "policy": [(policy.id, policy.name, policy.description) for policy in labels.policies()],
    }


def data_hash(examples: Sequence[Example]) -> str:
    """Changes with what heads are trained on: the examples and the labels' own texts."""
    texts = [example.model_dump(exclude={"context", "language", "author"}) for example in examples]
    own = [label for of_aspect in own_texts().values() for label in of_aspect]
    return hashlib.sha256(json.dumps([texts, own]).encode()).hexdigest()[:16]
