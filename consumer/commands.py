"""What each command does. Heavy libraries are imported by the commands that need them, so that `--help` is quick."""

import argparse
import hashlib
import logging
import re
import shlex
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import ValidationError

from consumer.display import TagsDisplay, out
from consumer.errors import SettingsError, UploadError
from consumer.settings import Loaded, Settings, described, environment_name
from schemas import TagsEvent, UploadedEvent, VideoUploaded, explain

if TYPE_CHECKING:
    from consumer.training.states import States

log = logging.getLogger(__name__)

_UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def run(options: argparse.Namespace, loaded: Loaded) -> int:
    from consumer.app import run_process

    for name, value, origin, _ in described(loaded):
        if origin != "default":
            log.info("setting %s = %s (%s)", name, value, origin)
    return run_process(loaded.settings)


def tag(options: argparse.Namespace, loaded: Loaded) -> int:
    from consumer.tagging import revisions_of, tag_video
    from consumer.tools import open_tools

    failed = 0
    uploads = [upload_event(media, options.title, media).data for media in options.media]
    with open_tools(loaded.settings) as tools, TagsDisplay() as display:
        for upload in uploads:
            try:
                with closing(tag_video(upload, tools, lambda: False)) as steps:
                    for revision in revisions_of(steps):
                        if options.json:
                            out(revision.tags.model_dump_json())
                        else:
                            display.show(revision.tags)
            except UploadError as error:
                failed += 1
                log.error("%s: %s: %s", upload.video_id, error.reason, error)
    return 1 if failed else 0


def publish(options: argparse.Namespace, loaded: Loaded) -> int:
    from consumer.kafka.admin import publish

    sent = publish(loaded.settings.kafka, uploads_of(options.media, options.title))
    log.info("published %d uploads to %s", sent, loaded.settings.kafka.uploads_topic)
    return 0


def uploads_of(media: Sequence[str], title: str | None = None) -> list[UploadedEvent]:
    """An event for each file or URL. Raises SettingsError where a file is missing, or two would have one name."""
    for path in media:
        if not urlsplit(path).scheme and not Path(path).is_file():
            raise SettingsError(f"no such file: {path}")
    events = [upload_event(path, title, _video_id(path)) for path in media]
    twice = [video for video, count in Counter(event.data.video_id for event in events).items() if count > 1]
    if twice:
        raise SettingsError(f"more than one of these would be the video {twice[0]!r}; publish them one by one")
    return events


def upload_event(media: str, title: str | None, video_id: str) -> UploadedEvent:
    """Raises SettingsError when the name, address or title cannot be an upload's."""
    uri = media if urlsplit(media).scheme else str(Path(media).resolve())
    try:
        data = VideoUploaded(video_id=video_id, uri=uri, title=title)
    except ValidationError as error:
        raise SettingsError(f"{media!r} cannot be published: {explain(error)}") from error
    return UploadedEvent.wrap(data, id=str(uuid.uuid4()), source="/tagstream/publish", time=datetime.now(UTC))


def _video_id(media: str) -> str:
    """The file's name; with a query, which may name the video, a hash of the whole address too."""
    if not urlsplit(media).scheme:
        return Path(media).stem
    parts = urlsplit(media)
    name = Path(parts.path).stem or parts.netloc
    return f"{name}-{hashlib.sha256(media.encode()).hexdigest()[:8]}" if parts.query else name


def watch(options: argparse.Namespace, loaded: Loaded) -> int:
    from consumer.kafka.admin import watch

    kafka = loaded.settings.kafka
    with TagsDisplay() as display:
        for value in watch(kafka, kafka.tags_topic, from_beginning=options.from_beginning):
            if value is not None and options.json:
                out(value.decode(errors="replace"))
            elif value is not None:
                try:
                    display.show(TagsEvent.model_validate_json(value))
                except ValidationError as error:
                    log.warning("left out what is no tags event: %s", explain(error)[:200])
    return 0


def create_topics(options: argparse.Namespace, loaded: Loaded) -> int:
    from consumer.kafka.admin import create_topics

    for name, outcome in create_topics(loaded.settings.kafka, options.partitions, options.replication).items():
        out(f"{name}: {outcome}")
    return 0


def list_dead_letters(options: argparse.Namespace, loaded: Loaded) -> int:
    from consumer.dlq import list_letters

    return list_letters(loaded.settings.kafka, options)


def redrive_dead_letters(options: argparse.Namespace, loaded: Loaded) -> int:
    from consumer.dlq import redrive_letters

    return redrive_letters(loaded.settings.kafka, options)


def moment_ms(text: str) -> int:
    """Unix time of `2026-05-01T12:00:00Z`, UTC unless it says otherwise, or of an age: `30m`, `2h`, `7d`.

    For argparse: raises ArgumentTypeError.
    """
    try:
        age = re.fullmatch(r"([0-9]+)([smhd])", text)
        moment = datetime.now(UTC) - int(age[1]) * _UNITS[age[2]] if age else datetime.fromisoformat(text)
        since_epoch = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime.fromtimestamp(0, UTC)
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a time like 2026-05-01T12:00:00Z nor an age like 30m, 2h or 7d"
        ) from error
    return max(0, since_epoch // timedelta(milliseconds=1))


def train(options: argparse.Namespace, loaded: Loaded) -> int:
    from consumer.training.examples import read_examples, shipped_examples
    from consumer.training.train import train

    examples = read_examples(options.data) if options.data else shipped_examples()
    command = shlex.join(["tagstream", "train", *map(str, options.data), "--out", str(options.out)])
    if loaded.settings.llm.model != type(loaded.settings.llm)().model:
        command = f"{environment_name('llm.model')}={loaded.settings.llm.model} {command}"
    heads = train(examples, _states(loaded.settings), command)
    heads.save(options.out)
    for aspect, of_aspect in heads.card["scores"].items():
        for name, value in of_aspect.items():
            out(f"{aspect:10} {name:40} {value}")
    return 0


def evaluate(options: argparse.Namespace, loaded: Loaded) -> int:
    from consumer.training.evaluate import SHARES, evaluate
    from consumer.training.examples import read_examples
    from consumer.training.report import headline, write_report
    from consumer.training.shipped import heads_for

    examples = read_examples(options.data)
    states = _states(loaded.settings)
    evaluation = evaluate(examples, states, heads_for(states.reader, loaded.settings), SHARES if options.report else ())
    out(headline(evaluation))
    if options.report:
        out(f"report: {write_report(options.report, evaluation)}")
    return 0


def _states(settings: Settings) -> "States":
    from consumer.llm.loading import load_llm
    from consumer.llm.reader import Reader
    from consumer.training.shipped import logged_progress
    from consumer.training.states import States

    return States(Reader(load_llm(settings)), settings.cache_path, logged_progress)


def settings(options: argparse.Namespace, loaded: Loaded) -> int:
    for name, value, origin, description in described(loaded):
        out(f"{name} = {value}\n    {environment_name(name)}, {origin}. {description}")
    return 0


def models(options: argparse.Namespace, loaded: Loaded) -> int:
    from consumer.tools import open_tools

    with open_tools(loaded.settings) as tools:
        provenance = tools.makers.provenance
        out(f"speech {provenance.speech_model}\nllm {provenance.llm_model}\nheads {provenance.heads}")
    return 0


def demo(options: argparse.Namespace, loaded: Loaded) -> int:
    from consumer.demo import run_demo

    return run_demo(loaded.settings, uploads_of(options.media))
