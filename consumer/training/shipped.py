"""Finds the heads of a language model: those that were set, those shipped with Tagstream, else fitted once."""

import json
import logging
from importlib import resources
from pathlib import Path

from consumer import labels
from consumer.errors import SettingsError
from consumer.llm.heads import CARD_FILE, Heads
from consumer.llm.reader import Reader
from consumer.settings import Settings
from consumer.training.examples import data_hash, shipped_examples
from consumer.training.train import train

log = logging.getLogger(__name__)


def heads_for(reader: Reader, settings: Settings) -> Heads:
    """Raises SettingsError when the heads that were set are broken, or belong to another model."""
    fingerprint = reader.llm.fingerprint
    if settings.llm.heads != "auto":
        heads = Heads.load(Path(settings.llm.heads))
        if heads.card["llm_fingerprint"] != fingerprint:
            raise SettingsError(
                f"the heads in {settings.llm.heads} were trained for {heads.card['llm_model']}, not for "
                f"{reader.llm.name}; train some with `tagstream train`, or set llm.heads to auto"
            )
        return heads
    return _shipped(fingerprint) or _fitted_once(reader, settings.cache_path)


def shipped_folders() -> list[Path]:
    """The folders of the heads in this package."""
    folder = Path(str(resources.files(labels).joinpath("heads")))
    return sorted(path.parent for path in folder.glob(f"*/{CARD_FILE}"))


def _shipped(fingerprint: str) -> Heads | None:
    for folder in shipped_folders():
        if json.loads((folder / CARD_FILE).read_text())["llm_fingerprint"] == fingerprint:
            return Heads.load(folder)
    return None


def _fitted_once(reader: Reader, cache: Path) -> Heads:
    examples = shipped_examples()
    folder = cache / "heads" / f"{reader.llm.fingerprint}-{data_hash(examples)}"
    if not (folder / CARD_FILE).exists():
        log.info("no heads are shipped for %s: fitting them from the shipped examples, once", reader.llm.name)
        train(examples, reader, "fitted at start", logged_progress).save(folder)
    return Heads.load(folder)


def logged_progress(read: int, total: int) -> None:
    if read == total or read % 160 == 0:
        log.info("read %d of %d passages", read, total)
