"""Writes what a video is about, in a few candidates: whether one of them is true is for others to find out.

The LLM continues a prompt of examples, so that models without a chat form serve as well. The candidates start with the
likeliest first tokens and go on greedily from there (Wang and Zhou, 2024): they differ, and no chance is in them.
Videos are written about one by one, because a batch's other rows change the last bits, and a word that changes by them
changes all that follows.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from consumer.llm.loading import Llm
from consumer.settings import DescriptionSettings

_CANDIDATES = 4
_MOST_TOKENS = 256  # of what was said
_PROMPT = """\
Each transcript of a video is followed by one sentence that says what the video is about, in words of the transcript.

Transcript: Right, so this is the old boat, and today we are sanding the hull before the new paint goes on. You want a \
coarse paper first, then a fine one, and wear a mask, please, this dust is awful.
Summary: Sanding the hull of an old boat with coarse and fine paper before new paint goes on.

Transcript: The library on Mill Street will close on Sundays from next month. The council says it saves ninety \
thousand, but parents told us the children have nowhere else to do homework.
Summary: The council will close the library on Mill Street on Sundays, and parents are against it.

Transcript: I have tried three of these tents in the rain now. The cheap one leaked after an hour, the blue one was \
fine, and the heavy one stood up to the wind, so that is the one that I would buy.
Summary: Three tents tried in the rain, of which the heavy one stood up to the wind.

Transcript: """


@dataclass(frozen=True, slots=True)
class Prompt:
    """A tokenised prompt; `cost` counts its tokens."""

    ids: tuple[int, ...]
    bucket: int = 0

    @property
    def cost(self) -> int:
        return len(self.ids)


class Writer:
    """What was said in, sentences about it out, as the batcher drives it. One thread at a time may call `run`."""

    def __init__(self, llm: Llm, settings: DescriptionSettings) -> None:
        self._model: Any = llm.whole
        self._tokenizer = llm.tokenizer
        self._device = llm.device
        self._settings = settings

    def prepare(self, said: str) -> Prompt:
        plain = self._tokenizer(" ".join(said.split()), add_special_tokens=False)["input_ids"][:_MOST_TOKENS]
        text = f"{_PROMPT}{self._tokenizer.decode(plain)}\nSummary:"
        return Prompt(tuple(self._tokenizer(text)["input_ids"]))

    def run(self, batch: Sequence[Prompt]) -> list[list[str]]:
        return [self._write(prompt) for prompt in batch]

    def finish(self, said: str, written: list[str]) -> list[str]:
        """The first line of each."""
        return [text.split("\n", 1)[0].strip() for text in written]

    def _write(self, prompt: Prompt) -> list[str]:
        ends_s = time.monotonic() + self._settings.max_s
        with torch.inference_mode():
            output = self._model(torch.tensor([prompt.ids], device=self._device), use_cache=True, logits_to_keep=1)
            cache = output.past_key_values
            cache.batch_repeat_interleave(_CANDIDATES)
            tokens = output.logits[0, -1].topk(_CANDIDATES).indices[:, None]
            written, texts = tokens, self._texts(tokens)
            while written.shape[1] < self._settings.max_tokens and time.monotonic() < ends_s and not _ended(texts):
                output = self._model(tokens, past_key_values=cache, use_cache=True)
                tokens = output.logits[:, -1].argmax(-1, keepdim=True)
                written = torch.cat([written, tokens], dim=1)
                texts = self._texts(written)
        return texts

    def _texts(self, written: torch.Tensor) -> list[str]:
        """Each with a line's end where the model has come to one."""
        end = self._tokenizer.eos_token_id
        rows = [row[: row.index(end)] if end in row else row for row in written.tolist()]
        texts = self._tokenizer.batch_decode(rows, skip_special_tokens=True)
        return [f"{text}\n" if end in full else text for text, full in zip(texts, written.tolist(), strict=True)]


def _ended(texts: Sequence[str]) -> bool:
    return all("\n" in text for text in texts)
