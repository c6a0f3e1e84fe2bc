"""Loads a causal language model by reference: a hub id, a folder, a GGUF file, or one inside a Python package."""

import copy
import hashlib
import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from filelock import FileLock
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from consumer.errors import SettingsError
from consumer.references import resolve
from consumer.settings import Settings

log = logging.getLogger(__name__)

_SAMPLES, _SAMPLE_BYTES = 64, 1 << 16
_CONVERSION = "1"  # part of the cache key: a change to `_convert` makes new folders


@dataclass(frozen=True)
class Llm:
    """A model for reading: the decoder layers without the output head.

    `name` is how people call it; `fingerprint` changes with the weights, and so with what they say. `whole` is there
    only where the settings ask for writing: the model with all its layers and its output head, of the same weights.
    """

    model: Any  # transformers' base model: tokens in, hidden states out
    tokenizer: Any
    device: torch.device
    name: str
    fingerprint: str
    whole: Any = None  # transformers' causal model: tokens in, logits out


def torch_device(device: str) -> torch.device:
    """`auto` is the GPU when there is one. Raises SettingsError for a GPU that is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device 'cuda' was set, but torch sees no CUDA device; set TAGSTREAM_DEVICE=cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def load_llm(settings: Settings) -> Llm:
    """Raises SettingsError when the reference names nothing, or nothing that is a causal language model."""
    reference, device = settings.llm.model, torch_device(settings.device)
    path = resolve(reference, settings.cache_path)
    fingerprint = None if path is None else _fingerprint(path)
    if path is not None and path.is_file():
        path = _converted(path, settings.cache_path / "llm" / f"{path.stem}-{fingerprint}-{_CONVERSION}")
    if device.type == "cpu":
        _use_quick_matmul()
    source = str(path or reference)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoModelForCausalLM.from_pretrained(source, dtype=_dtype(settings.llm.dtype, device))
    except (OSError, ValueError) as error:
        raise SettingsError(f"model {reference!r} cannot be loaded: {str(error).splitlines()[0]}") from error
    name = reference.removeprefix("pkg://").removesuffix(".gguf").rstrip("/").rsplit("/", 1)[-1]
    fingerprint = fingerprint or str(model.config._commit_hash)
    if settings.description.method == "extracted":
        return Llm(model.base_model.to(device).eval(), tokenizer, device, name, fingerprint)
    whole = model.to(device).eval()
    return Llm(_with_layers_of_its_own(whole.base_model), tokenizer, device, name, fingerprint, whole)


def _with_layers_of_its_own(base: Any) -> Any:
    """The same weights, in a list of layers that may be cut short without harm to the model it belongs to."""
    own = copy.copy(base)
    own.config = copy.deepcopy(base.config)
    own._modules = {**base._modules, "layers": torch.nn.ModuleList(base.layers)}
    return own


def _use_quick_matmul() -> None:
    """Lets torch multiply fp32 matrices by oneDNN, which on some CPUs (AMD's) is twice as quick as MKL.

    What it takes is permission to round to bf16; without AMX oneDNN does not: states agree to 2e-6 (measured).
    """
    if not torch.cpu._is_amx_tile_supported():
        torch.set_float32_matmul_precision("medium")


def _dtype(wanted: str, device: torch.device) -> torch.dtype:
    if wanted != "auto":
        return getattr(torch, wanted)  # type: ignore[no-any-return]
    if device.type == "cpu":  # bf16 arithmetic is slower than fp32 on CPUs without AMX
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _fingerprint(path: Path) -> str:
    """Of a file its content; of a folder its config, and samples of its weights, which may be very large."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    try:
        config = json.loads((path / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} is no model folder: {error}") from error
    for key in ("transformers_version", "_name_or_path"):  # not of the model, but of who saved it
        config.pop(key, None)
    digest = hashlib.sha256(json.dumps(config).encode())
    for weights in sorted((*path.glob("*.safetensors"), *path.glob("*.bin"), *path.glob("tokenizer.json"))):
        size = weights.stat().st_size
        digest.update(f"{weights.name} {size}".encode())
        with weights.open("rb") as content:
            for part in range(_SAMPLES):
                content.seek(part * size // _SAMPLES)
                digest.update(content.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def _converted(gguf: Path, target: Path) -> Path:
    """A folder with what the GGUF file holds, made once: reading GGUF takes a minute, reading the folder seconds."""
    if target.exists():  # without a lock: the cache may be read-only by now
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{target}.lock"):
        if not target.exists():
            log.info("converting %s for transformers, once; this takes about a minute", gguf.name)
            part = target.with_name(f"{target.name}.{os.getpid()}")
            try:
                _convert(gguf, part)
                part.rename(target)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    return target


def _convert(gguf: Path, target: Path) -> None:
    source: dict[str, str] = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    try:
        AutoTokenizer.from_pretrained(**source).save_pretrained(target)
        loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    except (OSError, ValueError, KeyError) as error:
        raise SettingsError(
            f"{gguf} is no GGUF model that transformers {transformers.__version__} reads: {error}"
        ) from error
    config = AutoConfig.from_pretrained(**source)
    # A model that came from GGUF refuses save_pretrained; a fresh one with the same weights does not. The weights
    # were 4 to 8 bits: bf16 keeps them at half of fp32's size.
    del loaded.config.quantization_config
    fresh = type(loaded)(config)
    fresh.load_state_dict(loaded.state_dict())
    if hasattr(fresh.config, "quantization_config"):
        del fresh.config.quantization_config
    fresh.to(torch.bfloat16).save_pretrained(target)
