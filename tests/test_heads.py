"""Heads: their files, their cards, and that they are what training makes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from consumer import labels
from consumer.errors import SettingsError
from consumer.evidence import Evidence, probabilities
from consumer.llm.heads import CARD_FILE, WEIGHTS_FILE, Heads
from consumer.llm.reader import Reader
from consumer.settings import Settings
from consumer.training.answers import OneOfScores
from consumer.training.evaluate import evaluate
from consumer.training.examples import data_hash, read_examples, shipped_examples
from consumer.training.shipped import heads_for, logged_progress, shipped_folders
from consumer.training.states import States
from consumer.training.train import train
from consumer.transcript import Passage
from tests.conftest import ROOT

CORPUS = ROOT / "tests" / "corpus"
SHIPPED = pytest.mark.parametrize("folder", shipped_folders(), ids=lambda folder: str(folder.name))


def test_the_examples_cover_every_label_and_none_concerns_minors() -> None:
    examples = shipped_examples()
    for topic in labels.topics():
        assert sum(example.main_topic == topic.id for example in examples) >= 60, topic.name
    for tone in labels.sentiments():
        assert sum(example.sentiment == tone.id for example in examples) >= 60, tone.id
    for policy in labels.policies():
        for holds in (True, False):
            assert sum((example.policy or {}).get(policy.id) is holds for example in examples) >= 24, policy.id
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
    assert (folder / WEIGHTS_FILE).stat().st_size < 3_000_000


@SHIPPED
def test_trained_heads_beat_the_bare_read_out_on_held_out_passages(folder: Path) -> None:
    scores = Heads.load(folder).card["scores"]
    for aspect in ("topic", "subtopic", "sentiment"):
        for name, bare in scores[aspect]["bare"].items():
            assert scores[aspect][name] >= bare, (aspect, name)
        assert scores[aspect]["top_1"] > scores[aspect]["bare"]["top_1"]
    for name, bare in scores["policy"]["bare"].items():
        assert scores["policy"][name] > bare + 0.1


@pytest.fixture(scope="module")
def states(reader: Reader) -> States:
    if "gemma" not in reader.llm.name:
        pytest.skip("one model shows it; reading every label's texts takes minutes")
    return States(reader, Settings().cache_path, logged_progress)


def test_training_twice_gives_the_same_heads(states: States) -> None:
    few = shipped_examples()[::12]
    first, second = (train(few, states, "tagstream train") for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert first.card == second.card


def test_examples_of_tier_1_alone_leave_subtopics_to_their_own_texts(states: States) -> None:
    few = [one.model_copy(update={"topic": one.main_topic}) for one in shipped_examples()[::12]]
    heads = train(few, states, "tagstream train")
    bread = Passage("You knead the dough for ten minutes, leave it to rise, then into the oven with a pan of water.")
    aspect = heads.heads["subtopic"].aspect
    p = probabilities(Evidence.of_window(0, 20, 9.0, heads.aspects, heads.logits(states.of([bread])[0])), aspect)
    food = {
        label: value
        for label, value in zip(aspect.labels, np.asarray(p), strict=True)
        if labels.path(label)[0].id == "210"
    }
    assert max(food, key=lambda label: food[label]) in {"216", "217"}, food  # cooking, or desserts and baking


def test_states_are_remembered_by_content(states: States, tmp_path: Path) -> None:
    passages = [example.passage for example in shipped_examples()[:20]]
    read: list[tuple[int, int]] = []
    for _ in range(2):
        fresh = States(states.reader, tmp_path, lambda done, total: read.append((done, total)))
        assert fresh.of(passages) == pytest.approx(states.of(passages), rel=1e-3, abs=1e-3)
    assert [total for _, total in read] == [20, 20]  # the second one reads nothing


def test_states_that_cannot_be_read_are_made_again(states: States, tmp_path: Path) -> None:
    passages = [example.passage for example in shipped_examples()[:3]]
    made = States(states.reader, tmp_path, logged_progress).of(passages)
    (file,) = tmp_path.glob("states/*/*.npz")
    file.write_bytes(file.read_bytes()[:100])
    assert (States(states.reader, tmp_path, logged_progress).of(passages) == made).all()


def test_the_shipped_heads_know_passages_by_other_authors(states: States) -> None:
    """Every fifth passage of two authors whom the heads were not trained on; all of them: `tagstream evaluate`."""
    files = [CORPUS / "topics-test-4.jsonl", CORPUS / "topics-test-5.jsonl"]
    evaluation = evaluate(read_examples(files)[::5], states, heads_for(states.reader, Settings()), ())
    for answers, least in zip(evaluation.final, (0.95, 0.7), strict=True):
        scores = answers.scores()
        assert isinstance(scores, OneOfScores)
        assert (scores.top_1.value or 0.0) >= least, scores.aspect


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
        ('{"text": "x", "topic": "Sports"}', "'Sports' is not the id of a topic"),
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
