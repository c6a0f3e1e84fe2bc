"""What the README says is run."""

import re
import shlex
import subprocess
import sys

import pytest

from consumer.labels import policies, topics
from consumer.llm.heads import Heads
from consumer.training.shipped import shipped_folders
from tests.conftest import ROOT
from tests.test_commands import CLEAN, LIMIT_S, tagstream

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    lines = [line.split("#")[0].strip() for block in BLOCKS for line in block.splitlines()]
    return [line for line in lines if re.match(r"(make|\.venv/bin/tagstream|tagstream|export) ", line)]


def test_the_two_commands_are_there() -> None:
    assert {"make demo", "make test"} <= set(commands())


def test_every_make_target_exists() -> None:
    for command in commands():
        if command.startswith("make "):
            answer = subprocess.run(
                [*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S
            )
            assert answer.returncode == 0, answer.stderr


def test_every_command_is_accepted() -> None:
    named = [shlex.split(command) for command in commands() if "tagstream " in command]
    assert len(named) >= 5
    for words in named:
        arguments = words[1:] if words[0].endswith("tagstream") else []
        if arguments[:1] != ["tag"]:  # that one is run below
            answer = tagstream(*arguments, "--help")
            assert answer.returncode == 0, (words, answer.stderr)


def test_the_shown_output_is_what_comes_out() -> None:
    (command,) = (command for command in commands() if "tagstream tag " in command)
    words = shlex.split(command)[1:]
    answer = subprocess.run(
        [sys.executable, "-m", "consumer", *words], cwd=ROOT, env=CLEAN, capture_output=True, text=True, timeout=LIMIT_S
    )
    assert answer.returncode == 0, answer.stderr
    (shown,) = (block for block in BLOCKS if "partial 1" in block)
    assert [_without_figures(line) for line in answer.stdout.splitlines()] == [
        _without_figures(line) for line in shown.splitlines()
    ]


def _without_figures(line: str) -> str:
    """What must be the same on every machine: probabilities differ in the last digit, and so may far-off topics."""
    video, stage, read, tags, *rest = line.split("  ")
    return "  ".join([video, stage, read, tags.split(" 0.")[0].split(" 1.")[0], *rest[1:]])


def test_every_setting_named_is_one() -> None:
    known = set(re.findall(r"TAGSTREAM_\w+", tagstream("settings").stdout))
    for variable in re.findall(r"TAGSTREAM_[A-Z_]+[A-Z]", README):
        assert variable in known or variable.startswith("TAGSTREAM_KAFKA__CLIENT__"), variable


@pytest.mark.parametrize("path", sorted(set(re.findall(r"(?:consumer|schemas|deploy|tests)/[\w./]*", README))))
def test_every_path_named_exists(path: str) -> None:
    assert (ROOT / path.rstrip(".")).exists()


def test_the_scores_are_those_of_the_cards() -> None:
    for folder in shipped_folders():
        scores = Heads.load(folder).card["scores"]
        for value in (scores["topic"]["top_1"], scores["topic"]["bare"]["top_1"], scores["topic"]["top_3"]):
            assert f"{100 * value:.0f} %" in README


def test_counts_of_labels_are_true() -> None:
    assert f"{len(topics())} topics" in README
    assert f"{len(policies())} policy labels" in README
