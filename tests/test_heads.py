"""Heads: their files, their cards, and that they are what training makes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from consumer import labels
from consumer.errors import SettingsError
from consumer.llm.heads import CARD_FILE, WEIGHTS_FILE, Heads
from consumer.llm.reader import Reader
from consumer.settings import Settings
from consumer.training.examples import data_hash, read_examples, shipped_examples
from consumer.training.shipped import heads_for, shipped_folders
from consumer.training.train import train

SHIPPED = pytest.mark.parametrize("folder", shipped_folders(), ids=lambda folder: str(folder.name))


def test_the_examples_cover_every_label_and_none_concerns_minors() -> None:
    examples = shipped_examples()
    for topic in labels.topics():
        assert sum(example.topic == topic.id for example in examples) >= 12, topic.name
    for tone in labels.sentiments():
        assert sum(example.sentiment == tone.id for example in examples) >= 12, tone.id
    for policy in labels.policies():
        for holds in (True, False):
            assert sum((example.policy or {}).get(policy.id) is holds for example in examples) >= 12, policy.id
    assert not any("sexual_minors" in (example.policy or {}) for example in examples)


def test_no_two_examples_share_a_run_of_eight_words() -> None:
    seen: dict[tuple[str, ...], int] = {}
    for number, example in enumerate(shipped_examples()):
        words = re.findall(r"[a-z']+", example.text.lower())
        for run in {tuple(words[at : at + 8]) for at in range(len(words) - 7)}:
            assert seen.setdefault(run, number) == number, " ".join(run)


@SHIPPED
def test_shipped_heads_carry_a_card_that_fits_the_examples(folder: Path) -> None:
    heads = Heads.load(folder)
    assert heads.card["data_hash"] == data_hash(shipped_examples())
    assert heads.card["command"].startswith(("tagstream train", "TAGSTREAM_LLM__MODEL="))
    assert heads.heads["topic"].aspect.labels == tuple(topic.id for topic in labels.topics())
    assert heads.heads["policy"].aspect.labels == tuple(policy.id for policy in labels.policies())
    assert (folder / WEIGHTS_FILE).stat().st_size < 1_500_000


@SHIPPED
def test_trained_heads_beat_the_bare_read_out_on_held_out_passages(folder: Path) -> None:
    scores = Heads.load(folder).card["scores"]
    for aspect in ("topic", "sentiment"):
        for name, bare in scores[aspect]["bare"].items():
            assert scores[aspect][name] >= bare, (aspect, name)
        assert scores[aspect]["top_1"] > scores[aspect]["bare"]["top_1"]
    for name, bare in scores["policy"]["bare"].items():
        assert scores["policy"][name] > bare + 0.1


def test_training_again_gives_the_shipped_heads(reader: Reader) -> None:
    if "gemma" not in reader.llm.name:
        pytest.skip("one model shows it; reading every example takes minutes")
    shipped = heads_for(reader, Settings())
    again = train(shipped_examples(), reader, shipped.card["command"], lambda read, total: None)
    for aspect, scores in shipped.card["scores"].items():
        assert {name: value for name, value in again.card["scores"][aspect].items() if name != "bare"} == pytest.approx(
            {name: value for name, value in scores.items() if name != "bare"}, abs=0.01
        )
        ours, theirs = again.heads[aspect].weight, shipped.heads[aspect].weight
        assert np.linalg.norm(ours - theirs) < 0.01 * np.linalg.norm(theirs)


def test_heads_survive_saving_and_loading(heads: Heads, tmp_path: Path) -> None:
    heads.save(tmp_path / "copy")
    copy = Heads.load(tmp_path / "copy")
    assert copy.fingerprint == heads.fingerprint
    assert copy.card == heads.card


def test_heads_of_another_model_are_refused(reader: Reader) -> None:
    (other,) = (
        folder
        for folder in shipped_folders()
        if json.loads((folder / CARD_FILE).read_text())["llm_fingerprint"] != reader.llm.fingerprint
    )
    settings = Settings.model_validate({"llm": {"heads": str(other)}})
    with pytest.raises(SettingsError, match=r"were trained for .*, not for"):
        heads_for(reader, settings)


def test_a_folder_without_heads_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no usable heads in .*tagstream train"):
        Heads.load(tmp_path)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"text": "x"}', "give a topic, a sentiment or a policy"),
        ('{"text": "x", "topic": "Sports"}', "'Sports' is not an id"),
        ('{"text": "x", "policy": {"sexual_minors": true}}', "no such policy label: sexual_minors"),
        ('{"text": "", "topic": "483"}', "text"),
        ('{"text": "x", "topic": "483", "tpoic": "1"}', "tpoic"),
        ("not json", "Invalid JSON"),
    ],
)
def test_a_bad_example_is_named_by_file_and_line(line: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_text('{"text": "fine", "topic": "483"}\n\n' + line + "\n")
    with pytest.raises(SettingsError, match=f"data.jsonl, line 3: .*{says}"):
        read_examples([file])
