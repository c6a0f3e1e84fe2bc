"""`tagstream run` as a process on a real Apache Kafka: good and bad uploads in, tags and dead letters out, a real
scrape, a drain."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import Message
from confluent_kafka.admin import AdminClient, NewTopic
from prometheus_client.parser import text_string_to_metric_families

from consumer.settings import KafkaSettings, environment_name
from schemas import CaseEvent, DeadLetterEvent, TagsEvent
from tests.conftest import MEDIA
from tests.media_clips import broken_midway, clip, cut_off
from tests.media_server import serving
from tests.real_kafka import fresh_topics, kafka_settings

START_S, WORK_S, STOP_S = 90.0, 240.0, 60.0

GOOD = ("dal", "football", "crypto")


def uploaded(video_id: str, uri: str, **known: object) -> bytes:
    data = {"video_id": video_id, "uri": uri, **known}
    event = {
        "specversion": "1.0",
        "id": video_id,
        "source": "/test",
        "type": "tagstream.video.uploaded.v1",
        "data": data,
    }
    return json.dumps(event).encode()


def environment(settings: KafkaSettings) -> dict[str, str]:
    """Everything that makes a process use these settings."""
    names = {name: value for name, value in settings.model_dump().items() if isinstance(value, str)}
    variables = {environment_name(f"kafka.{name}"): value for name, value in names.items()}
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("TAGSTREAM_")},
        **variables,
        "TAGSTREAM_HTTP__PORT": "0",
        "TAGSTREAM_HTTP__HOST": "127.0.0.1",
        "TAGSTREAM_MEDIA__ALLOW_PRIVATE_HOSTS": "true",
        "TAGSTREAM_MEDIA__READ_TIMEOUT_S": "3",
        "TAGSTREAM_KAFKA__MAX_ATTEMPTS": "2",
        "TAGSTREAM_KAFKA__RETRY_FIRST_S": "1",
    }


class Consumer:
    """A `tagstream run` process."""

    def __init__(self, variables: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as out:
            command = [sys.executable, "-m", "consumer", "run"]
            self.process = subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    @property
    def said(self) -> str:
        return self._log.read_text()

    def wait_until(self, condition: Callable[[], bool], within_s: float) -> bool:
        until_s = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > until_s or self.process.poll() is not None:
                return condition()
            time.sleep(0.2)
        return True

    @property
    def port(self) -> int:
        assert self.wait_until(lambda: "metrics and health on port" in self.said, START_S), self.said
        found = re.search(r"metrics and health on port (\d+)", self.said)
        assert found is not None
        return int(found[1])

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return int(answer.status), answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def is_ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)


@contextmanager
def consuming(variables: dict[str, str], log: Path) -> Iterator[Consumer]:
    consumer = Consumer(variables, log)
    try:
        yield consumer
    finally:
        if consumer.process.poll() is None:
            consumer.process.kill()
        consumer.process.wait(STOP_S)


@dataclass(frozen=True)
class Outcome:
    """What the run left behind."""

    tags: list[TagsEvent]
    cases: list[CaseEvent]
    letters: list[tuple[Message, DeadLetterEvent]]
    metrics: dict[str, float]
    liveness: int
    exit_code: int
    said: str
    committed: int
    num_sent: int

    def final(self, video_id: str) -> TagsEvent:
        (found,) = (e for e in self.tags if e.data.video.id == video_id and e.data.status.stage == "final")
        return found

    def reason(self, video_id: str) -> str:
        (found,) = (letter.data.reason for _, letter in self.letters if letter.data.video_id == video_id)
        return found


# Video id to URI below the test's folder; each id is the reason that its dead letter must give.
BAD_MEDIA = {
    "file_not_found": "gone.mp4",
    "is_a_directory": ".",
    "empty_media": "empty.mp4",
    "not_media": "text.mp4",
    "truncated": "cut.mp4",
    "unreachable": "http://127.0.0.1:9/dead.mp4",
    "unsupported_scheme": "gopher://example.org/video.mp4",
}


def make_bad_media(folder: Path) -> None:
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("This is not a video, it is a letter to the reader. " * 50)
    (folder / "cut.mp4").write_bytes(cut_off(clip("talk_index_last.mp4"), 0.5))
    (folder / "damaged.mp4").write_bytes(broken_midway((MEDIA / "samples" / "dal.mp4").read_bytes()))


NUM_RETRIES = 2  # of "unreachable" and "fetch_timeout": each is tried twice
BAD_RECORDS = {
    b"{this is not json": "not_json",
    b"[1, 2, 3]": "unknown_format",
    uploaded("x", "/tmp/x.mp4").replace(b"uploaded.v1", b"tags.v1"): "wrong_type",
    uploaded("", "/tmp/x.mp4"): "invalid_upload",
    uploaded("no-uri", ""): "invalid_upload",
    b'{"specversion": "9.9", "id": "1", "source": "/t", "type": "tagstream.video.uploaded.v1", "data": {}}': (
        "unknown_specversion"
    ),
    uploaded("big", "/tmp/x.mp4", description="x" * 5_000_000): "too_large",
}


@pytest.fixture(scope="module")
def outcome(real_kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    folder = tmp_path_factory.mktemp("app")
    settings = kafka_settings(real_kafka)
    admin = AdminClient({"bootstrap.servers": real_kafka})
    large = NewTopic(settings.uploads_topic, 4, 1, config={"max.message.bytes": "10000000"})
    admin.create_topics([large])[settings.uploads_topic].result(10)
    topics = fresh_topics(real_kafka, settings)
    make_bad_media(folder)
    with serving() as server, consuming(environment(topics.settings), folder / "log") as consumer:
        records = [
            *BAD_RECORDS,
            *(uploaded(name, uri if "://" in uri else str(folder / uri)) for name, uri in BAD_MEDIA.items()),
            uploaded("fetch_timeout", server.url("/hang/video.mp4")),
            uploaded("damaged", str(folder / "damaged.mp4")),
            *(uploaded(name, str(MEDIA / "samples" / f"{name}.mp4")) for name in GOOD),
        ]
        topics.publish(records)
        finals = {*GOOD, "damaged"}
        num_letters = len(BAD_RECORDS) + len(BAD_MEDIA) + 1

        def all_final(found: list[Message]) -> bool:
            events = [TagsEvent.model_validate_json(message.value()) for message in found]
            return {e.data.video.id for e in events if e.data.status.stage == "final"} >= finals

        assert consumer.wait_until(consumer.is_ready, START_S), consumer.said
        tags = topics.read(topics.settings.tags_topic, all_final, WORK_S)
        letters = topics.read(topics.settings.dead_letter_topic, lambda found: len(found) >= num_letters, WORK_S)
        topics.commits_reach(len(records))
        consumer.wait_until(lambda: _samples(consumer.get("/metrics")[1])["tagstream_lag_records"] == 0, WORK_S)
        scrape = consumer.get("/metrics")[1]
        num_cases = int(_samples(scrape)["tagstream_events_published_total"]) - len(tags) - len(letters)
        cases = topics.read(topics.settings.cases_topic, lambda found: len(found) >= num_cases)
        liveness = consumer.get("/livez")[0]
        exit_code = consumer.stop()
        yield Outcome(
            [TagsEvent.model_validate_json(message.value()) for message in tags],
            [CaseEvent.model_validate_json(message.value()) for message in cases],
            [(message, DeadLetterEvent.model_validate_json(message.value())) for message in letters],
            _samples(scrape),
            liveness,
            exit_code,
            consumer.said,
            sum(topics.committed().values()),
            len(records),
        )


def _samples(scrape: str) -> dict[str, float]:
    totals: dict[str, float] = {}
    for family in text_string_to_metric_families(scrape):
        for sample in family.samples:
            totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    return totals


@pytest.mark.parametrize("video", GOOD)
def test_every_good_upload_becomes_partial_tags_and_final_ones(outcome: Outcome, video: str) -> None:
    events = [event for event in outcome.tags if event.data.video.id == video]
    assert [event.data.status.revision for event in events] == list(range(1, len(events) + 1))
    assert [event.data.status.stage for event in events] == ["partial"] * (len(events) - 1) + ["final"]
    assert [event.data.status.supersedes for event in events] == [None, *(event.id for event in events[:-1])]
    assert events[-1].data.timing.queued_s is not None


def test_the_scam_is_a_case_for_people(outcome: Outcome) -> None:
    assert "scam_spam_malware" in {case.data.label for case in outcome.cases if case.data.video.id == "crypto"}


@pytest.mark.parametrize("reason", [*BAD_MEDIA, "fetch_timeout"])
def test_bad_media_is_a_dead_letter_with_its_reason(outcome: Outcome, reason: str) -> None:
    assert outcome.reason(reason) == reason


@pytest.mark.parametrize(("value", "reason"), BAD_RECORDS.items(), ids=BAD_RECORDS.values())
def test_a_bad_record_is_a_dead_letter_with_its_reason(outcome: Outcome, value: bytes, reason: str) -> None:
    found = [
        (dict(message.headers() or []), letter.data)
        for message, letter in outcome.letters
        if message.key() == value[:100]
    ]
    assert [letter.reason for _, letter in found] == [reason]
    headers, letter = found[0]
    assert headers["x-dlq-error-class"] == reason.encode()
    assert int(headers["x-dlq-orig-offset"]) == letter.original.offset
    assert headers.get("x-dlq-orig-value") == (value if len(value) < 900_000 else None)


def test_a_video_with_a_broken_middle_counts_what_was_read_and_says_so(outcome: Outcome) -> None:
    final = outcome.final("damaged").data
    assert final.status.degraded == ("media.damaged",)
    assert final.tags is not None
    assert final.status.coverage.media_s > 5


def test_everything_is_counted_and_nothing_is_left(outcome: Outcome) -> None:
    metrics = outcome.metrics
    assert metrics["tagstream_retries_total"] == NUM_RETRIES
    assert metrics["tagstream_records_received_total"] == outcome.num_sent + NUM_RETRIES
    assert metrics["tagstream_uploads_finished_total"] == outcome.num_sent + NUM_RETRIES
    assert metrics["tagstream_dead_letters_total"] == len(outcome.letters)
    assert metrics["tagstream_events_published_total"] == len(outcome.tags + outcome.cases) + len(outcome.letters)
    assert metrics["tagstream_uploads_in_flight"] == 0
    assert metrics["tagstream_lag_records"] == 0
    assert metrics["tagstream_media_seconds_total"] > 150
    assert metrics["tagstream_first_tag_seconds_count"] == len(GOOD) + 1
    assert outcome.committed == outcome.num_sent


def test_it_lives_and_drains_on_sigterm(outcome: Outcome) -> None:
    assert outcome.liveness == 200
    assert outcome.exit_code == 0, outcome.said
    assert outcome.said.rstrip().endswith("drained")


def test_what_is_in_flight_at_sigterm_is_given_back_and_tagged_by_the_next(real_kafka: str, tmp_path: Path) -> None:
    topics = fresh_topics(real_kafka)
    variables = {**environment(topics.settings), "TAGSTREAM_DRAIN_S": "0", "TAGSTREAM_MEDIA__READ_TIMEOUT_S": "30"}
    with serving() as server:
        topics.publish([uploaded("slow", server.url("/hang/video.mp4"))])
        with consuming(variables, tmp_path / "first") as first:
            assert first.wait_until(lambda: bool(server.requests), START_S), first.said
            assert first.stop() == 0, first.said
    assert sum(topics.committed().values()) == 0


def test_a_second_signal_leaves_at_once(real_kafka: str, tmp_path: Path) -> None:
    topics = fresh_topics(real_kafka)
    variables = {**environment(topics.settings), "TAGSTREAM_DRAIN_S": "300", "TAGSTREAM_MEDIA__READ_TIMEOUT_S": "300"}
    with serving() as server, consuming(variables, tmp_path / "log") as consumer:
        topics.publish([uploaded("slow", server.url("/hang/video.mp4"))])
        assert consumer.wait_until(lambda: bool(server.requests), START_S), consumer.said
        consumer.process.send_signal(signal.SIGTERM)
        assert consumer.wait_until(lambda: "draining" in consumer.said, 20)
        assert consumer.stop() == 128 + signal.SIGTERM


def test_a_broker_that_is_down_at_start_is_waited_for_and_named(tmp_path: Path) -> None:
    variables = {**environment(KafkaSettings()), "TAGSTREAM_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9"}
    with consuming(variables, tmp_path / "log") as consumer:
        assert consumer.wait_until(lambda: "waiting for Kafka at 127.0.0.1:9" in consumer.said, START_S), consumer.said
        assert consumer.get("/livez")[0] == 200
        assert consumer.get("/readyz")[0] == 503
        assert consumer.stop() == 0
        assert consumer.said.count("waiting for Kafka") == 1
