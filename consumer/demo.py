"""The demo: the whole way on an embedded broker, with the tags growing before one's eyes."""

import statistics
import threading
import time
from collections.abc import Iterable, Sequence

from consumer.app import App
from consumer.display import TagsDisplay, out
from consumer.errors import TagstreamError
from consumer.kafka.admin import publish, topic_names, watch
from consumer.kafka.embedded import EmbeddedBroker
from consumer.settings import Settings
from consumer.tools import open_tools
from schemas import TagsEvent, UploadedEvent, VideoTags

_DEADLINE_S = 600.0


def run_demo(settings: Settings, uploads: Sequence[UploadedEvent]) -> int:
    """Publishes the uploads, consumes them with the same consumer as `tagstream run`, and shows each video's tags
    growing until all are final. The embedded broker knows no transactions: delivery is at least once."""
    with open_tools(settings) as tools, EmbeddedBroker(topic_names(settings.kafka)) as broker:
        kafka = settings.kafka.model_copy(
            update={"bootstrap_servers": broker.bootstrap_servers, "delivery": "at_least_once", "client": {}}
        )
        app = App(settings.model_copy(update={"kafka": kafka}), tools)
        thread = threading.Thread(target=app.run, name="app")
        started_s = time.monotonic()
        thread.start()
        try:
            publish(kafka, uploads)
            finals = _watch_all(watch(kafka, kafka.tags_topic, from_beginning=True), len(uploads), app)
        finally:
            app.stop()
            thread.join()
    _summarise(finals, time.monotonic() - started_s)
    return 0


def _watch_all(values: Iterable[bytes | None], num_videos: int, app: App) -> list[VideoTags]:
    finals: dict[str, VideoTags] = {}
    deadline_s = time.monotonic() + _DEADLINE_S
    with TagsDisplay() as display:
        for value in values:
            if value is not None:
                event = TagsEvent.model_validate_json(value)
                display.show(event)
                if event.data.status.stage == "final":
                    finals[event.data.video.id] = event.data
            if len(finals) == num_videos:
                break
            if app.failure is not None or time.monotonic() > deadline_s:
                raise TagstreamError(f"{len(finals)} of {num_videos} videos became final: {app.failure or 'too slow'}")
    return list(finals.values())


def _summarise(finals: Sequence[VideoTags], took_s: float) -> None:
    media_s = sum(video.status.coverage.media_s for video in finals)
    first_s = [video.timing.first_tag_s for video in finals if video.timing.first_tag_s is not None]
    total_s = [video.timing.total_s for video in finals if video.timing.total_s is not None]
    out(
        f"\n{len(finals)} videos, {media_s:.0f} s of media in {took_s:.1f} s: {media_s / took_s:.1f} times real time; "
        f"first tag after {statistics.median(first_s):.1f} s (median), final after {statistics.median(total_s):.1f} s"
    )
