"""What compose.yaml brings up, checked piece against piece."""

import re
from pathlib import Path

import pytest

from consumer.settings import Settings
from tests.deployment import (
    COMPOSE,
    COMPOSE_TEXT,
    DEPLOY,
    OURS,
    ROOT,
    SERVICES,
    header_commands,
    listeners,
    mounts,
    seconds,
    tagstream_settings,
)

MARGIN_S = 35.0  # a broker that does not answer: the last commit, leaving the group, the last results


def test_the_header_shows_how_to_start_publish_and_watch() -> None:
    shown = header_commands()
    for words in shown:
        assert words[2] == "-f"
        assert (ROOT / words[3]).samefile(DEPLOY / "compose.yaml")
    up, publish, watch = (words[4:] for words in shown)
    assert up == ["up", "--build", "--detach"]
    assert publish[:4] == ["exec", "tagstream", "tagstream", "publish"]
    assert watch[:4] == ["exec", "tagstream", "tagstream", "watch"]


def test_the_media_that_the_header_publishes_are_mounted_where_tagstream_may_read() -> None:
    (root,) = tagstream_settings("tagstream").media.roots
    (folder,) = [s for s, target, read_only in mounts(SERVICES["tagstream"]) if read_only and target == root]
    media = [word for words in header_commands() for word in words if word.startswith("/")]
    assert media
    for path in media:
        assert (DEPLOY / folder / Path(path).relative_to(root)).is_file(), path


def test_every_mounted_path_is_in_the_repository_and_every_volume_is_declared() -> None:
    sources = {source for service in SERVICES.values() for source, _, _ in mounts(service)}
    paths = {source for source in sources if source.startswith(".")}
    assert "./prometheus.yml" in paths
    assert all((DEPLOY / path).exists() for path in paths)
    assert sources - paths == COMPOSE["volumes"].keys()


def test_prometheus_reads_the_file_that_is_mounted() -> None:
    # The image starts with --config.file=/etc/prometheus/prometheus.yml.
    assert ("./prometheus.yml", "/etc/prometheus/prometheus.yml", True) in mounts(SERVICES["prometheus"])


@pytest.mark.parametrize("service", OURS)
def test_our_containers_are_built_from_our_dockerfile_and_confined(service: str) -> None:
    build = SERVICES[service]["build"]
    assert (DEPLOY / build["context"]).samefile(ROOT)
    assert (DEPLOY / build["context"] / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")
    assert SERVICES[service]["read_only"] is True
    assert SERVICES[service]["cap_drop"] == ["ALL"]
    assert SERVICES[service]["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"\d+g", SERVICES[service]["mem_limit"])


def test_tagstream_can_write_models_and_temporary_files_and_nothing_else() -> None:
    writable = {target for _, target, read_only in mounts(SERVICES["tagstream"]) if not read_only}
    assert writable == {str(tagstream_settings("tagstream").cache_path), "/tmp"}


def test_images_of_others_are_pinned_to_a_version() -> None:
    others = {name: service["image"] for name, service in SERVICES.items() if name not in OURS}
    assert others.keys() == {"kafka", "prometheus"}
    assert re.fullmatch(r"apache/kafka:4\.\d+\.\d+", others["kafka"])
    assert re.fullmatch(r"prom/prometheus:v\d+\.\d+\.\d+", others["prometheus"])


def test_services_wait_for_services_that_can_become_what_they_wait_for() -> None:
    assert SERVICES["tagstream"]["depends_on"].keys() == {"kafka", "topics"}
    for service in SERVICES.values():
        for name, wait in service.get("depends_on", {}).items():
            if wait["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[name]
            else:
                assert wait["condition"] == "service_completed_successfully"
                assert "restart" not in SERVICES[name]


def test_a_stop_leaves_time_to_drain() -> None:
    drain_s = tagstream_settings("tagstream").drain_s
    assert seconds(SERVICES["tagstream"]["stop_grace_period"]) >= drain_s + MARGIN_S
    assert f"TAGSTREAM_DRAIN_S, which is {drain_s:.0f} s" in COMPOSE_TEXT


def test_kafka_answers_where_it_is_looked_for_and_makes_no_topic_by_itself() -> None:
    kafka = SERVICES["kafka"]
    advertised = listeners("KAFKA_ADVERTISED_LISTENERS")
    bound = {name: address.rpartition(":")[2] for name, address in listeners("KAFKA_LISTENERS").items()}
    assert {name: address.rpartition(":")[2] for name, address in advertised.items()}.items() <= bound.items()
    assert tagstream_settings("tagstream").kafka.bootstrap_servers == advertised["INSIDE"]
    assert advertised["INSIDE"].split(":")[0] == "kafka"
    assert advertised["INSIDE"] in kafka["healthcheck"]["test"]
    assert advertised["OUTSIDE"] == Settings().kafka.bootstrap_servers
    assert kafka["ports"] == [f"127.0.0.1:{bound['OUTSIDE']}:{bound['OUTSIDE']}"]
    assert kafka["environment"]["KAFKA_CONTROLLER_QUORUM_VOTERS"] == f"1@kafka:{bound['CONTROLLER']}"
    assert kafka["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert kafka["environment"]["KAFKA_LOG_DIRS"] in {target for _, target, _ in mounts(kafka)}
