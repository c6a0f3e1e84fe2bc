"""Heads: the linear read-outs that turn an LLM's states into log-odds for labels, with a card of their origin."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from consumer.errors import SettingsError
from consumer.evidence import Aspect, Logits
from consumer.tags import ReadOut

Floats = npt.NDArray[np.float32]

WINDOW = "window"  # views of the window itself belong to every aspect
WEIGHTS_FILE, CARD_FILE = "heads.safetensors", "card.json"


@dataclass(frozen=True)
class Head:
    """One aspect's head. `weight` is (labels, its views, width), on centred and scaled states, in numbers that fp16
    has: so they are kept in the file."""

    aspect: Aspect
    weight: Floats
    thresholds: Logits  # (labels,): from here on a label is accepted

    @property
    def accept_from(self) -> dict[str, float]:
        return dict(zip(self.aspect.labels, self.thresholds.tolist(), strict=True))


@dataclass(frozen=True)
class Heads:
    """All heads of one LLM. `mean` is (views, width), over the example passages: fixed, so that what is read out
    never depends on what was read before."""

    views: tuple[str, ...]  # the aspect of each view, or WINDOW
    mean: Floats
    heads: Mapping[str, Head]
    card: Mapping[str, Any]

    @property
    def aspects(self) -> list[Aspect]:
        return [head.aspect for head in self.heads.values()]

    @property
    def read_out(self) -> ReadOut:
        aspects = {name: head.aspect for name, head in self.heads.items()}
        accept = {label: p for name in ("topic", "subtopic") for label, p in self.heads[name].accept_from.items()}
        return ReadOut(**aspects, accept=accept)

    def logits(self, states: Floats) -> dict[str, Logits]:
        """What one passage says for each label of each aspect; `states` is (views, width)."""
        centred = scaled(states, self.mean)
        return {
            name: head.weight.reshape(len(head.weight), -1) @ centred[views_of(name, self.views)].ravel()
            for name, head in self.heads.items()
        }

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {"mean": self.mean}
        for name, head in self.heads.items():
            arrays |= {
                f"{name}.weight": head.weight.astype(np.float16),
                f"{name}.bias": head.aspect.bias.astype(np.float32),
                f"{name}.thresholds": head.thresholds.astype(np.float32),
            }
        # safetensors writes an array's memory as it lies: one that is a view of another would come back as noise.
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / WEIGHTS_FILE)
        form = {
            "views": self.views,
            "aspects": {
                name: {
                    "labels": head.aspect.labels,
                    "pooling": head.aspect.pooling,
                    "parents": head.aspect.parents,
                }
                for name, head in self.heads.items()
            },
        }
        (folder / CARD_FILE).write_text(json.dumps({**self.card, "form": form}, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "Heads":
        """Raises SettingsError when the folder holds no heads, or broken ones."""
        try:
            card = json.loads((folder / CARD_FILE).read_text())
            arrays = load_file(folder / WEIGHTS_FILE)
            form = card.pop("form")
            heads = {name: _head(name, of, arrays) for name, of in form["aspects"].items()}
            return cls(tuple(form["views"]), arrays["mean"], heads, card)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise SettingsError(
                f"no usable heads in {folder}: {error}; make some with `tagstream train`, or set llm.heads to auto"
            ) from error

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.mean.tobytes())
        for name, head in sorted(self.heads.items()):
            form = json.dumps([name, head.aspect.labels, head.aspect.pooling, head.aspect.parents, self.views])
            digest.update(form.encode() + head.weight.tobytes() + head.aspect.bias.tobytes())
            digest.update(head.thresholds.round(4).tobytes())
        return digest.hexdigest()[:12]


def _head(name: str, form: Mapping[str, Any], arrays: Mapping[str, Floats]) -> Head:
    bias = arrays[f"{name}.bias"].astype(np.float64)
    aspect = Aspect(name, tuple(form["labels"]), form["pooling"], bias, tuple(form["parents"]))
    return Head(
        aspect, arrays[f"{name}.weight"].astype(np.float32), arrays[f"{name}.thresholds"].astype(np.float64).round(4)
    )


def scaled(states: Floats, mean: Floats) -> npt.NDArray[np.float64]:
    """Centred states at unit length: (…, views, width)."""
    centred = states.astype(np.float64) - mean
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=-1, keepdims=True), 1e-9))


def views_of(aspect: str, views: Sequence[str]) -> list[int]:
    return [at for at, view in enumerate(views) if view in (aspect, WINDOW)]
