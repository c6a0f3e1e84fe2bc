"""The demo: the whole way on an embedded broker, with the tags growing before one's eyes."""

import statistics
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from consumer.app import App
from consumer.display import TagsDisplay, out
from consumer.errors import TagstreamError
from consumer.kafka.admin import publish, topic_names, watch
from consumer.kafka.embedded import EmbeddedBroker
from consumer.settings import Settings
from consumer.tools import open_tools
from schemas import DeadLetter, DeadLetterEvent, TagsEvent, UploadedEvent, VideoTags

_DEADLINE_S = 600.0


def run_demo(settings: Settings, uploads: Sequence[UploadedEvent]) -> int:
    """Publishes the uploads, consumes them with the same consumer as `tagstream run`, and shows each video's tags
    growing until all are final. The embedded broker knows no transactions: delivery is at least once."""
    with open_tools(settings) as tools, EmbeddedBroker(topic_names(settings.kafka)) as broker:
        kafka = settings.kafka.model_copy(
            update={"bootstrap_servers": broker.bootstrap_servers, "delivery": "at_least_once", "client": {}}
        )
        app = App(settings.model_copy(update={"kafka": kafka}), tools)
        thread = threading.Thread(target=_run, args=(app,), name="app")
        started_s = time.monotonic()
        thread.start()
        try:
            publish(kafka, uploads)
            tags = watch(kafka, kafka.tags_topic, from_beginning=True)
            letters = watch(kafka, kafka.dead_letter_topic, from_beginning=True)
            finals, failed = _watch_all(tags, letters, len(uploads), app)
        finally:
            app.stop()
            thread.join()
    _summarise(finals, time.monotonic() - started_s)
    for letter in failed:
        out(f"{letter.video_id}: {letter.reason}: {letter.message}")
    return 1 if failed else 0


def _run(app: App) -> None:
    with suppress(Exception):  # kept in `app.failure`, and told by whoever watches
        app.run()


def _watch_all(
    tags: Iterator[bytes | None], letters: Iterator[bytes | None], num_videos: int, app: App
) -> tuple[list[VideoTags], list[DeadLetter]]:
    finals: dict[str, VideoTags] = {}
    failed: list[DeadLetter] = []
    deadline_s = time.monotonic() + _DEADLINE_S
    with TagsDisplay() as display:
        while len(finals) + len(failed) < num_videos:
            if (value := next(tags)) is not None:
                event = TagsEvent.model_validate_json(value)
                display.show(event)
                if event.data.status.stage == "final":
                    finals[event.data.video.id] = event.data
            elif (value := next(letters)) is not None:
                failed.append(DeadLetterEvent.model_validate_json(value).data)
            if app.failure is not None or time.monotonic() > deadline_s:
                raise TagstreamError(f"{len(finals)} of {num_videos} videos became final: {app.failure or 'too slow'}")
    return list(finals.values()), failed


def _summarise(finals: Sequence[VideoTags], took_s: float) -> None:
    media_s = sum(video.status.coverage.media_s for video in finals)
    out(
        f"\n{len(finals)} videos, {media_s:.0f} s of media in {took_s:.1f} s: {media_s / took_s:.1f} times real time; "
        f"first tag after {_median(video.timing.first_tag_s for video in finals)} (median), "
        f"final after {_median(video.timing.total_s for video in finals)}"
    )


def _median(values_s: Iterable[float | None]) -> str:
    known_s = [value_s for value_s in values_s if value_s is not None]
    return f"{statistics.median(known_s):.1f} s" if known_s else "no time"
