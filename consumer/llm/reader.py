"""Reads windows of text: one forward of the LLM gives the states that every aspect's tags are read out of.

After the window's last word the model is asked, in a few words, what it has just read: one or two *read-out prompts*
per aspect. All prompts of a window share the window's own forward: they stand behind it in one sequence, and a 4-D
mask lets each see the window and itself only, at the positions it would have alone. What comes out for a window does
not depend on the windows it shares a batch with (within 1e-4 in fp32).

The state of the last token of a prompt, below the top layer, is one *view*; the mean over the window's own
tokens, at three depths, is another, shared by all aspects. Prompts know what nobody taught (zero-shot), means know
more once there are examples; together they beat either. Layers above are not run.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from consumer.errors import SettingsError
from consumer.evidence import Logits
from consumer.llm.heads import WINDOW, Heads
from consumer.llm.loading import Llm
from consumer.transcript import Passage

# Measured over prompts, layers and depths on spoken-style passages (tests/corpus, the dev files).
READ_OUTS: dict[str, tuple[str, ...]] = {
    "topic": ('\n\nThe topic of this transcript, in one word:"', "\n\nCategory:"),
    "sentiment": ("\n\nThe speaker sounds",),
    "policy": ('\n\nReason for moderation, in one word:"',),
}
LAYERS_BELOW_TOP = (1,)
MEAN_DEPTHS = (0.6, 0.8, 0.95)  # of the layers
MAX_WINDOW_TOKENS = 448
MAX_TITLE_TOKENS = 48
# Batches are filled up to a multiple of this: what is compiled and kept for each shape (oneDNN, CUDA) stays little.
_LENGTH_STEP = 32


def read_outs() -> list[object]:
    """What heads depend on besides the model, in the form of JSON."""
    return [{aspect: list(prompts) for aspect, prompts in READ_OUTS.items()}, list(LAYERS_BELOW_TOP), list(MEAN_DEPTHS)]


States = npt.NDArray[np.float32]  # (views, width)


@dataclass(frozen=True, slots=True)
class Tokens:
    """A tokenised passage; `cost` counts its tokens with those of the read-out prompts behind it."""

    ids: tuple[int, ...]
    cost: int
    bucket: int = 0


class Reader:
    """Turns passages into states. One thread at a time may call `run`."""

    def __init__(self, llm: Llm) -> None:
        self.llm = llm
        prompts = [prompt for prompts in READ_OUTS.values() for prompt in prompts]
        encoded = llm.tokenizer(prompts, add_special_tokens=False)["input_ids"]
        self._prompts = [torch.tensor(ids) for ids in encoded]
        self._prompt_tokens = sum(len(ids) for ids in encoded)
        layers = _layers(llm.model)
        if len(layers) < max(LAYERS_BELOW_TOP) + 1:
            raise SettingsError(f"model {llm.name!r} has {len(layers)} layers; reading needs more")
        # Counted from 1: what stands there is what the layer of that number gives.
        self._prompt_layers = [len(layers) - below for below in LAYERS_BELOW_TOP]
        self._mean_layers = [round(depth * len(layers)) for depth in MEAN_DEPTHS]
        top = max(*self._prompt_layers, *self._mean_layers)
        del layers[top:]  # what no read-out looks at is not run
        llm.model.config.num_hidden_layers = len(layers)

    @property
    def views(self) -> list[str]:
        """The aspect of each view, or WINDOW, in the order of `States`."""
        of_prompts = [aspect for aspect, prompts in READ_OUTS.items() for _ in prompts for _ in LAYERS_BELOW_TOP]
        return of_prompts + [WINDOW] * len(MEAN_DEPTHS)

    def prepare(self, passage: Passage) -> Tokens:
        if passage.title:
            passage = replace(passage, title=self._shortened(passage.title))
        limit = min(MAX_WINDOW_TOKENS, (_sliding_window(self.llm.model.config) or 1 << 20) - self._prompt_tokens)
        ids = self.llm.tokenizer(passage.framed(), truncation=True, max_length=limit)["input_ids"]
        return Tokens(tuple(ids), len(ids) + self._prompt_tokens)

    def _shortened(self, title: str) -> str:
        """Counted in tokens: a title of rare characters must not crowd out what is said."""
        ids = self.llm.tokenizer(title[:1000], add_special_tokens=False)["input_ids"][:MAX_TITLE_TOKENS]
        return str(self.llm.tokenizer.decode(ids))

    def run(self, batch: Sequence[Tokens]) -> list[States]:
        """The states of each passage, (views, width) in fp32."""
        layout = _Layout.of(batch, self._prompts).to(self.llm.device)
        outputs: dict[int, torch.Tensor] = {}
        with torch.inference_mode(), ExitStack() as hooks:
            for layer in {*self._prompt_layers, *self._mean_layers}:
                hooks.callback(_keep_output(_layers(self.llm.model)[layer - 1], outputs, layer).remove)
            self.llm.model(
                input_ids=layout.ids, attention_mask=layout.mask, position_ids=layout.positions, use_cache=False
            )
            # (passages, prompts, layers, width): the layers of one prompt stand together, as in `views`
            asked = torch.stack([outputs[layer][layout.rows, layout.ends] for layer in self._prompt_layers], dim=2)
            means = torch.stack([layout.mean_of_words(outputs[layer]) for layer in self._mean_layers], dim=1)
            states = torch.cat([asked.flatten(1, 2).float(), means], dim=1).cpu().numpy()
        return list(states)


def _keep_output(layer: torch.nn.Module, outputs: dict[int, torch.Tensor], number: int) -> Any:
    def keep(_module: object, _inputs: object, output: Any) -> None:
        outputs[number] = output[0] if isinstance(output, tuple) else output

    return layer.register_forward_hook(keep)


class HeadedReader:
    """A reader and its heads, as the batcher drives them: passages in, log-odds for every label out."""

    def __init__(self, reader: Reader, heads: Heads) -> None:
        self._heads = heads
        self.prepare = reader.prepare
        self.run = reader.run

    def finish(self, passage: Passage, states: States) -> dict[str, Logits]:
        if not np.isfinite(states).all():
            raise ValueError("the model's states are not finite; set TAGSTREAM_LLM__DTYPE=float32")
        return self._heads.logits(states)


@dataclass(frozen=True)
class _Layout:
    """A batch as tensors: rows of (window, prompt, prompt …, padding)."""

    ids: torch.Tensor  # (rows, length)
    positions: torch.Tensor  # (rows, length): each prompt counts on from its window's end
    mask: torch.Tensor  # (rows, 1, length, length), True where a query (row) may see a key (column)
    ends: torch.Tensor  # (rows, prompts): where each prompt's last token stands
    words: torch.Tensor  # (rows, length): 1 for the window's own tokens but the first, whose state is of no text

    @classmethod
    def of(cls, batch: Sequence[Tokens], prompts: Sequence[torch.Tensor]) -> "_Layout":
        length = -(-max(tokens.cost for tokens in batch) // _LENGTH_STEP) * _LENGTH_STEP
        ids = torch.zeros(len(batch), length, dtype=torch.long)
        positions = torch.zeros(len(batch), length, dtype=torch.long)
        block = torch.full((len(batch), length), -1)  # 0: the window; 1, 2 …: a prompt; -1: padding
        ends = torch.zeros(len(batch), len(prompts), dtype=torch.long)
        for row, tokens in enumerate(batch):
            window = at = len(tokens.ids)
            ids[row, :at] = torch.tensor(tokens.ids)
            positions[row, :at] = torch.arange(at)
            block[row, :at] = 0
            for number, prompt in enumerate(prompts):
                end = at + len(prompt)
                ids[row, at:end] = prompt
                positions[row, at:end] = torch.arange(window, window + len(prompt))
                block[row, at:end] = number + 1
                ends[row, number] = end - 1
                at = end
        keys, queries = block[:, None, :], block[:, :, None]
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        # Padding sees padding before it, so that no row of the softmax is empty.
        mask = causal & ((keys == queries) | ((keys == 0) & (queries > 0)))
        words = (block == 0) & (positions > 0)
        return cls(ids, positions, mask[:, None], ends, words.float())

    def to(self, device: torch.device) -> "_Layout":
        return _Layout(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    @property
    def rows(self) -> torch.Tensor:
        return torch.arange(len(self.ids), device=self.ids.device)[:, None]

    def mean_of_words(self, hidden: torch.Tensor) -> torch.Tensor:
        """(rows, length, width) to (rows, width), in fp32."""
        total = torch.einsum("rl,rlw->rw", self.words, hidden.float())
        return total / self.words.sum(1, keepdim=True).clamp_min(1)


def _layers(model: Any) -> Any:
    layers = getattr(model, "layers", None)
    if layers is None:
        raise SettingsError(f"{type(model).__name__} has no decoder layers that Tagstream can read at")
    return layers


def _sliding_window(config: Any) -> int | None:
    """Passages are kept inside the attention window, so that every layer sees all of one."""
    window: int | None = getattr(config, "sliding_window", None)
    return window
