"""What a language model made of passages, remembered by content: passages that were read once are not read again."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from consumer.llm.heads import Floats
from consumer.llm.reader import Reader, read_outs
from consumer.transcript import Passage

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

_BATCH = 16
_SAVED_AT_ONCE = 512  # passages: so much work is lost at most


class States:
    """Reads passages, or remembers what they gave. Files of one model and its read-outs share a folder."""

    def __init__(self, reader: Reader, cache: Path, progress: Progress) -> None:
        made_by = json.dumps([reader.llm.fingerprint, str(reader.llm.model.dtype), read_outs()])
        self._folder = cache / "states" / hashlib.sha256(made_by.encode()).hexdigest()[:16]
        self.reader = reader
        self._progress = progress
        self._known: dict[str, Floats] = {}
        for file in sorted(self._folder.glob("*.npz")):
            self._known |= _content(file)

    def of(self, passages: Sequence[Passage]) -> Floats:
        """(passages, views, width) in fp32."""
        keys = [_key(passage) for passage in passages]
        self._read({key: passage for key, passage in zip(keys, passages, strict=True) if key not in self._known})
        return np.stack([self._known[key] for key in keys])

    def _read(self, unknown: dict[str, Passage]) -> None:
        """Passages of like length share a batch."""
        tokens = {key: self.reader.prepare(passage) for key, passage in unknown.items()}
        order = sorted(tokens, key=lambda key: tokens[key].cost)
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            self._known |= zip(batch, self.reader.run([tokens[key] for key in batch]), strict=True)
            done = start + len(batch)
            if done % _SAVED_AT_ONCE < _BATCH or done == len(order):
                self._save(order[(done - 1) // _SAVED_AT_ONCE * _SAVED_AT_ONCE : done])
            self._progress(done, len(order))

    def _save(self, keys: Sequence[str]) -> None:
        name = hashlib.sha256("".join(keys).encode()).hexdigest()[:16]
        part = self._folder / f"{name}.{os.getpid()}.part"
        self._folder.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            np.savez(file, keys=np.array(keys), states=np.stack([self._known[key] for key in keys]))
        part.rename(self._folder / f"{name}.npz")


def _content(file: Path) -> Iterable[tuple[str, Floats]]:
    try:
        with file.open("rb") as opened, np.load(opened) as content:  # numpy leaves a broken file open
            return list(zip(content["keys"].tolist(), content["states"], strict=True))
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        log.warning("left out %s, which cannot be read (%s); its passages are read again", file, error)
        return []


def _key(passage: Passage) -> str:
    return hashlib.sha256(passage.framed().encode(errors="surrogatepass")).hexdigest()
