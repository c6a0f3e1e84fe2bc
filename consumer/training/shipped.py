"""Finds the heads of a language model: those that were set, those shipped with Tagstream, else fitted once."""

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from filelock import FileLock

from consumer import labels
from consumer.errors import SettingsError
from consumer.llm.heads import CARD_FILE, Heads
from consumer.llm.reader import Reader, read_outs
from consumer.settings import Settings
from consumer.training.examples import Example, data_hash, own_texts, shipped_examples
from consumer.training.states import States
from consumer.training.train import train

log = logging.getLogger(__name__)


def heads_for(reader: Reader, settings: Settings) -> Heads:
    """Raises SettingsError when the heads that were set are broken, or belong to another model."""
    if settings.llm.heads == "auto":
        return _shipped(reader) or _fitted_once(reader, settings.cache_path)
    heads = Heads.load(Path(settings.llm.heads))
    if heads.card.get("llm_fingerprint") != reader.llm.fingerprint or not _fits(heads, reader):
        raise SettingsError(
            f"the heads in {settings.llm.heads} were trained for {heads.card.get('llm_model')}, not for "
            f"{reader.llm.name} as it is read here; train some with `tagstream train`, or set llm.heads to auto"
        )
    return heads


def _fits(heads: Heads, reader: Reader) -> bool:
    """Whether they were made for the labels and the read-outs of this version."""
    known = {aspect: tuple(label for label, *_ in of_aspect) for aspect, of_aspect in own_texts().items()}
    made_for = {name: head.aspect.labels for name, head in heads.heads.items()}
    return made_for == known and list(heads.views) == reader.views and heads.card.get("read_outs") == read_outs()


def shipped_folders() -> list[Path]:
    """The folders of the heads in this package."""
    folder = Path(str(resources.files(labels).joinpath("heads")))
    return sorted(path.parent for path in folder.glob(f"*/{CARD_FILE}"))


def _shipped(reader: Reader) -> Heads | None:
    for folder in shipped_folders():
        if json.loads((folder / CARD_FILE).read_text())["llm_fingerprint"] == reader.llm.fingerprint:
            heads = Heads.load(folder)
            return heads if _fits(heads, reader) else None
    return None


def _fitted_once(reader: Reader, cache: Path) -> Heads:
    examples = shipped_examples()
    made_from = hashlib.sha256(json.dumps([data_hash(examples), read_outs()]).encode()).hexdigest()[:16]
    folder = cache / "heads" / f"{reader.llm.fingerprint}-{made_from}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                _fit(reader, examples, folder, cache)
    return Heads.load(folder)


def _fit(reader: Reader, examples: Sequence[Example], folder: Path, cache: Path) -> None:
    log.info("no heads are shipped for %s: fitting them from the shipped examples, once", reader.llm.name)
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # a process that died may have left one
    train(examples, States(reader, cache, logged_progress), "fitted at start").save(part)
    part.rename(folder)


def logged_progress(read: int, total: int) -> None:
    if read == total or read % 160 == 0:
        log.info("read %d of %d passages", read, total)
