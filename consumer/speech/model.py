"""Loads a Whisper model in CTranslate2 form."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import ctranslate2
import tokenizers
from ctranslate2.models import Whisper
from faster_whisper import WhisperModel
from faster_whisper.feature_extractor import FeatureExtractor
from faster_whisper.utils import available_models, download_model

from consumer.errors import SettingsError
from consumer.references import resolve
from consumer.settings import Settings

_SAMPLED_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class SpeechModel:
    """`name` is how people call it; `fingerprint` changes with the weights, and so with what they hear.

    `language` is the declared one; None when it is to be detected, or the model knows only one.
    """

    whisper: Whisper
    tokenizer: tokenizers.Tokenizer
    features: FeatureExtractor
    language: str | None
    name: str
    fingerprint: str


def load_speech_model(settings: Settings) -> SpeechModel:
    """The model of `settings.speech`: what `references.resolve` knows, or a size such as `large-v3-turbo`.

    Only a size or a hub id reaches for the network. Raises SettingsError when there is no such model, when it
    is no Whisper model in CTranslate2 form, or when the device, compute type or language do not fit it.
    """
    reference, device = settings.speech.model, _device(settings.device)
    folder = _folder(reference, settings.cache_path)
    for name in ("config.json", "model.bin", "tokenizer.json"):
        if not (folder / name).is_file():
            raise SettingsError(f"model {reference!r}: no {name} in it, so no Whisper model in CTranslate2 form")
    compute_type = _compute_type(settings.speech.compute_type, device)
    try:
        loaded = WhisperModel(str(folder), device, compute_type=compute_type)
    except (RuntimeError, ValueError) as error:
        raise SettingsError(f"model {reference!r} cannot be loaded on {device}: {error}") from error
    _check_language(settings.speech.language, loaded, reference)
    return SpeechModel(
        whisper=loaded.model,
        tokenizer=loaded.hf_tokenizer,
        features=loaded.feature_extractor,
        language=settings.speech.language,
        name=_name(reference),
        fingerprint=_fingerprint(folder),
    )


def _device(device: str) -> str:
    has_cuda = ctranslate2.get_cuda_device_count() > 0
    if device == "cuda" and not has_cuda:
        raise SettingsError("device 'cuda': CTranslate2 sees no CUDA device; set TAGSTREAM_DEVICE=cpu")
    return "cuda" if device != "cpu" and has_cuda else "cpu"


def _compute_type(wanted: str, device: str) -> str:
    if wanted != "auto":
        return wanted
    return "float16" if device == "cuda" else "int8"


def _folder(reference: str, cache: Path) -> Path:
    folder = None if reference in available_models() else resolve(reference, cache)
    if folder is not None:
        return folder
    try:
        return Path(download_model(reference))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(f"model {reference!r} cannot be had from the hub: {reason}") from error


def _check_language(language: str | None, loaded: WhisperModel, reference: str) -> None:
    known = sorted(loaded.supported_languages)
    if language is not None and language not in known:
        raise SettingsError(f"speech language {language!r}: model {reference!r} knows {', '.join(known)}")


def _name(reference: str) -> str:
    """Without the folders of this machine."""
    return reference.removeprefix("pkg://") if reference.startswith("pkg://") else Path(reference).name


def _fingerprint(folder: Path) -> str:
    """Of the config, and of the size and the middle of the weights: large models are not read twice."""
    weights = folder / "model.bin"
    size = weights.stat().st_size
    digest = hashlib.sha256((folder / "config.json").read_bytes() + str(size).encode())
    with weights.open("rb") as file:
        file.seek(size // 2)
        digest.update(file.read(_SAMPLED_BYTES))
    return digest.hexdigest()[:16]
