"""Loads the models, and makes of them what tagging a video needs."""

import hashlib
import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from consumer import labels, minors
from consumer.batching import Batcher, Limits
from consumer.describer import Describing
from consumer.evidence import Logits
from consumer.llm.heads import Heads
from consumer.llm.loading import Llm, load_llm
from consumer.llm.reader import MAX_TITLE_TOKENS, MAX_WINDOW_TOKENS, HeadedReader, Reader, read_outs
from consumer.llm.writer import Writer
from consumer.medium import open_video
from consumer.revisions import Makers
from consumer.rules import Rules, read_rules
from consumer.settings import Settings
from consumer.speech.model import SpeechModel, load_speech_model
from consumer.speech.transcriber import Transcriber
from consumer.tagging import Tools
from consumer.training.shipped import heads_for
from consumer.transcript import Passage
from schemas import Provenance
from schemas.tags import RESTRICTED

log = logging.getLogger(__name__)

PIPELINE = 3  # counts changes in how windows become tags; part of every event id
_CPU_BATCH_TOKENS, _CUDA_BATCH_TOKENS = 2048, 16_384
_SPEECH_BATCH_FRAMES = 1 << 20  # windows are of one length: their number is the limit


@contextmanager
def open_tools(settings: Settings) -> Iterator[Tools]:
    """What every video of this process shares: models, and the batchers in front of them.

    Raises SettingsError when the rules or a model cannot be loaded.
    """
    rules = read_rules(Path(settings.labels.rules) if settings.labels.rules else None)
    log.info("loading the speech model %s", settings.speech.model)
    speech = load_speech_model(settings)
    log.info("loading the language model %s", settings.llm.model)
    llm = load_llm(settings)
    reader = Reader(llm)
    heads = heads_for(reader, settings)
    on_cpu = llm.device.type == "cpu"
    # On a CPU both models want every core: they take turns. Reading and writing do so anywhere: it is the same model.
    turns = threading.Lock()
    device: AbstractContextManager[object] = turns if on_cpu else nullcontext()
    batch_tokens = settings.llm.max_batch_tokens or (_CPU_BATCH_TOKENS if on_cpu else _CUDA_BATCH_TOKENS)
    listener = Batcher("speech", Transcriber(speech), Limits(settings.speech.max_batch, _SPEECH_BATCH_FRAMES), device)
    reading = Batcher("read", HeadedReader(reader, heads), Limits(settings.llm.max_batch, batch_tokens), turns)
    writing = Batcher("write", Writer(llm, settings.description), Limits(1, batch_tokens), turns) if llm.whole else None

    def read(passage: Passage, *, video: str, first: bool) -> "Future[dict[str, Logits]]":
        return reading.submit(passage, video=video, first=first)

    describing = Describing(settings.description.partials, writing.submit if writing else None)
    try:
        yield Tools(
            open=partial(open_video, listener=listener, settings=settings),
            read=read,
            makers=replace(_makers(speech, llm, heads, rules, settings), describing=describing),
            windows_ahead=settings.windows.ahead,
        )
    finally:
        listener.close()
        reading.close()
        if writing:
            writing.close()


def _makers(speech: SpeechModel, llm: Llm, heads: Heads, rules: Rules, settings: Settings) -> Makers:
    return Makers(
        heads.read_out,
        Provenance(
            pipeline=_pipeline(speech, llm, heads, rules, settings),
            speech_model=f"{speech.name}@{speech.fingerprint}",
            llm_model=f"{llm.name}@{llm.fingerprint}",
            heads=f"{heads.card['name']}@{heads.fingerprint}",
            taxonomy=labels.SCHEME,
        ),
        frozenset(heads.card["languages"]),
        rules,
    )


def _pipeline(speech: SpeechModel, llm: Llm, heads: Heads, rules: Rules, settings: Settings) -> str:
    """Changes with all that can change what is published."""
    makers = [
        speech.fingerprint,
        speech.language,
        str(speech.whisper.compute_type),
        llm.fingerprint,
        str(llm.model.dtype),
        heads.fingerprint,
        [read_outs(), MAX_WINDOW_TOKENS, MAX_TITLE_TOKENS],
        settings.media.max_duration_s,
        settings.windows.model_dump(exclude={"ahead"}),
        [policy.model_dump(mode="json") for policy in (*labels.policies(), labels.policy(RESTRICTED))],
        rules.model_dump(mode="json"),
        minors.pattern().pattern,
        settings.description.model_dump(),
    ]
    return f"{PIPELINE}-{hashlib.sha256(json.dumps(makers).encode()).hexdigest()[:12]}"
