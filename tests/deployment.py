"""Reads deploy/: just enough of Docker's and Compose's formats for the tests."""

import json
import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import yaml

from consumer.settings import Settings, load_settings

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE_TEXT = (DEPLOY / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
PROMETHEUS: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


class Instruction(NamedTuple):
    """One instruction; `stage` counts the FROMs, from 0."""

    stage: int
    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """The words that do not begin with `--`."""
        return [word for word in shlex.split(self.text) if not word.startswith("--")]

    @property
    def flags(self) -> dict[str, str]:
        """The `--name=value` before the words."""
        flags = [word.removeprefix("--") for word in shlex.split(self.text) if word.startswith("--")]
        return dict(flag.split("=", 1) for flag in flags if "=" in flag)


def instructions(dockerfile: str) -> list[Instruction]:
    """Comments are dropped and continued lines joined, in this order, as Docker does it."""
    lines = [line for line in dockerfile.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    found: list[Instruction] = []
    stage = -1
    for line in "\n".join(lines).replace("\\\n", "").splitlines():
        name, _, text = line.partition(" ")
        stage += name == "FROM"
        found.append(Instruction(stage, name, text.strip()))
    return found


def is_ignored(path: str, patterns: Sequence[str]) -> bool:
    """Whether a build sees nothing at `path`: the last pattern that matches it or a folder above it decides.

    docs.docker.com/build/concepts/context/#dockerignore-files
    """
    candidates = [path, *(str(parent) for parent in PurePosixPath(path).parents if parent.name)]
    ignored = False
    for pattern in patterns:
        expression = _expression(pattern.removeprefix("!"))
        if any(expression.fullmatch(candidate) for candidate in candidates):
            ignored = not pattern.startswith("!")
    return ignored


def _expression(pattern: str) -> re.Pattern[str]:
    wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return re.compile("".join(wild.get(part, re.escape(part)) for part in parts))


IMAGE = instructions((DEPLOY / "Dockerfile").read_text())
LAST_STAGE = IMAGE[-1].stage


def found(name: str, stage: int | None = None) -> list[Instruction]:
    return [i for i in IMAGE if i.name == name and stage in (None, i.stage)]


def image_environment(stage: int) -> dict[str, str]:
    return dict(word.split("=", 1) for instruction in found("ENV", stage) for word in instruction.words)


def tagstream_settings(service: str) -> Settings:
    """As in the container. Raises SettingsError for a variable that is no setting."""
    environment = image_environment(LAST_STAGE) | SERVICES[service]["environment"]
    return load_settings({name: str(value) for name, value in environment.items()}).settings


def header_commands() -> list[list[str]]:
    """What the comment at the top of compose.yaml tells its reader to run."""
    lines = re.findall(r"^# +(docker compose .*)$", COMPOSE_TEXT, re.MULTILINE)
    return [shlex.split(line) for line in lines]


def tagstream_commands() -> list[list[str]]:
    """Every command line of `tagstream` in deploy/, without the name."""
    start = json.loads(found("ENTRYPOINT")[-1].text) + json.loads(found("CMD")[-1].text)
    in_build = [i.words for i in found("RUN") if i.words[0] == "tagstream"]
    by_compose = [["tagstream", *service["command"]] for service in OURS.values() if "command" in service]
    by_hand = [words[words.index("exec") + 2 :] for words in header_commands() if "exec" in words]
    commands = [start, *in_build, *by_compose, *by_hand]
    assert {command[0] for command in commands} == {"tagstream"}
    return [command[1:] for command in commands]


def mounts(service: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Source, with the defaults of its variables, target, and whether it is read-only."""
    for volume in service.get("volumes", []):
        if isinstance(volume, str):
            source, target, *mode = volume.split(":")
            yield source, target, mode == ["ro"]
        else:
            source = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", volume["source"])
            yield source, volume["target"], volume.get("read_only", False)


def seconds(duration: str) -> float:
    return float(duration[:-1]) * {"s": 1, "m": 60}[duration[-1]]


def listeners(name: str) -> dict[str, str]:
    return dict(listener.split("://") for listener in SERVICES["kafka"]["environment"][name].split(","))
