"""The command line, as a user meets it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from consumer.kafka.embedded import EmbeddedBroker
from schemas import TagsEvent, UploadedEvent
from tests.conftest import MEDIA, ROOT
from tests.real_kafka import Topics

LIMIT_S = 180.0
CLEAN = {name: value for name, value in os.environ.items() if name == "TAGSTREAM_CACHE_DIR" or "TAGSTREAM" not in name}


def tagstream(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "consumer", *arguments]
    return subprocess.run(command, env={**CLEAN, **variables}, capture_output=True, text=True, timeout=LIMIT_S)


@pytest.mark.parametrize(
    "command",
    [
        "",
        "run",
        "tag",
        "publish",
        "watch",
        "topics",
        "topics create",
        "train",
        "evaluate",
        "settings",
        "models",
        "demo",
    ],
)
def test_help_says_what_a_command_is_for(command: str) -> None:
    answer = tagstream(*command.split(), "--help")
    assert answer.returncode == 0
    assert "usage: tagstream" in answer.stdout
    assert "exit codes" in answer.stdout or command == "topics"


def test_tagging_several_files_goes_on_after_a_bad_one_and_exits_1(tmp_path: Path) -> None:
    good, bad = str(MEDIA / "speech" / "bicycle.ogg"), str(tmp_path / "gone.mp4")
    answer = tagstream("tag", "--json", bad, good)
    assert answer.returncode == 1
    events = [TagsEvent.model_validate_json(line) for line in answer.stdout.splitlines()]
    assert {event.data.video.id for event in events} == {good}
    assert [event.data.status.stage for event in events][-1] == "final"
    assert f"{bad}: file_not_found" in answer.stderr


def test_tags_for_people_are_plain_lines_where_there_is_no_terminal() -> None:
    answer = tagstream("tag", str(MEDIA / "clips" / "subtitled.mp4"), "--title", "My \x1b[31mvideo")
    assert answer.returncode == 0, answer.stderr
    assert "final 1" in answer.stdout
    assert "\x1b" not in answer.stdout


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        (["settings"], {"TAGSTREAM_KAFKA__BOOTSTRAP_SERVER": "x"}, "did you mean kafka.bootstrap_servers"),
        (["settings"], {"TAGSTREAM_HTTP__PORT": "many"}, "TAGSTREAM_HTTP__PORT"),
        (["--config", "/no/such.toml", "settings"], {}, "cannot read the settings in /no/such.toml"),
        (["tag", "x.mp4"], {"TAGSTREAM_LLM__MODEL": "pkg://no_such_model"}, "no package 'no_such_model' is installed"),
        (["tag", "x.mp4"], {"TAGSTREAM_SPEECH__MODEL": "/no/such/model"}, "no such file or folder"),
        (["tag", "x.mp4"], {"TAGSTREAM_LLM__HEADS": "/no/such/heads"}, "no usable heads in /no/such/heads"),
        (["publish", "/no/such/file.mp4"], {}, "no such file: /no/such/file.mp4"),
        (["tag", ""], {}, "cannot be published"),
        (["tag", "a.mp4", "--title", "x" * 3000], {}, "cannot be published"),
        (["publish", "https://a.example/talk.mp4", "https://b.example/talk.mp4"], {}, "more than one of these"),
        (["tag"], {}, "the following arguments are required: media"),
        (["train", "/no/data.jsonl", "--out", "/tmp/x"], {}, "cannot read examples from /no/data.jsonl"),
    ],
)
def test_wrong_usage_exits_2_and_says_what_to_do(arguments: list[str], variables: dict[str, str], says: str) -> None:
    answer = tagstream(*arguments, **variables)
    assert answer.returncode == 2
    assert says in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_port_in_use_exits_2_and_names_the_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        answer = tagstream("run", TAGSTREAM_HTTP__HOST="127.0.0.1", TAGSTREAM_HTTP__PORT=port)
    assert answer.returncode == 2
    assert "TAGSTREAM_HTTP__PORT" in answer.stderr


def test_settings_tell_where_each_value_came_from(tmp_path: Path) -> None:
    config = tmp_path / "tagstream.toml"
    config.write_text('[kafka]\ngroup_id = "from-file"\n')
    answer = tagstream("--config", str(config), "settings", TAGSTREAM_HTTP__PORT="1234")
    assert answer.returncode == 0
    assert f"kafka.group_id = from-file\n    TAGSTREAM_KAFKA__GROUP_ID, {config}." in answer.stdout
    assert "http.port = 1234\n    TAGSTREAM_HTTP__PORT, TAGSTREAM_HTTP__PORT." in answer.stdout
    assert "kafka.uploads_topic = video-uploaded\n    TAGSTREAM_KAFKA__UPLOADS_TOPIC, default." in answer.stdout


def test_topics_are_created_once(real_kafka: str) -> None:
    prefix = f"made-{os.getpid()}"
    names = {
        f"TAGSTREAM_KAFKA__{name}_TOPIC": f"{prefix}-{name.lower()}"
        for name in ("UPLOADS", "TAGS", "CASES", "PROGRESS", "RETRY", "DEAD_LETTER")
    }
    variables = {"TAGSTREAM_KAFKA__BOOTSTRAP_SERVERS": real_kafka, **names}
    first, second = (tagstream("topics", "create", "--partitions", "3", **variables) for _ in range(2))
    assert first.returncode == second.returncode == 0, first.stderr
    assert f"{prefix}-uploads: made" in first.stdout
    assert f"{prefix}-uploads: was there" in second.stdout


def test_publishing_sends_one_event_for_each_file(topics: Topics) -> None:
    variables = {
        "TAGSTREAM_KAFKA__BOOTSTRAP_SERVERS": topics.settings.bootstrap_servers,
        "TAGSTREAM_KAFKA__UPLOADS_TOPIC": topics.settings.uploads_topic,
    }
    files = [MEDIA / "speech" / "bicycle.ogg", MEDIA / "clips" / "silence.mp4"]
    answer = tagstream("publish", *map(str, files), "--title", "Mine", **variables)
    assert answer.returncode == 0, answer.stderr
    found = topics.read(topics.settings.uploads_topic, lambda messages: len(messages) == 2)
    events = [UploadedEvent.model_validate_json(message.value()) for message in found]
    assert {(event.data.video_id, event.data.uri, event.data.title) for event in events} == {
        (file.stem, str(file.resolve()), "Mine") for file in files
    }


def test_watching_prints_what_is_in_the_topic(topics: Topics) -> None:
    example = next((ROOT / "schemas" / "examples" / "valid" / TagsEvent.event_type()).glob("*.json")).read_bytes()
    event = json.loads(example)
    event = event.get("event", event)
    topics.publish([json.dumps(event).encode()], topics.settings.tags_topic)
    variables = {
        "TAGSTREAM_KAFKA__BOOTSTRAP_SERVERS": topics.settings.bootstrap_servers,
        "TAGSTREAM_KAFKA__TAGS_TOPIC": topics.settings.tags_topic,
    }
    command = [sys.executable, "-m", "consumer", "watch", "--from-beginning"]
    with subprocess.Popen(command, env={**CLEAN, **variables}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.terminate()
    assert event["data"]["video"]["id"] in line


def test_the_demo_runs_to_its_summary() -> None:
    videos = [str(MEDIA / "speech" / "bicycle.ogg"), str(MEDIA / "clips" / "subtitled.mp4")]
    answer = tagstream("demo", *videos)
    assert answer.returncode == 0, answer.stderr
    assert "2 videos, " in answer.stdout
    assert "times real time" in answer.stdout


def test_a_demo_with_a_bad_video_says_why_and_exits_1() -> None:
    answer = tagstream("demo", str(MEDIA / "clips" / "silence.mp4"), str(MEDIA / "clips" / "talk.flv"))
    assert answer.returncode == 1
    assert "1 videos, " in answer.stdout
    assert "talk: not_media: " in answer.stdout


def test_the_embedded_broker_is_found_by_its_address() -> None:
    with EmbeddedBroker(["uploads"]) as broker:
        host, port = broker.bootstrap_servers.split(":")
        with socket.create_connection((host, int(port)), timeout=5):
            pass
