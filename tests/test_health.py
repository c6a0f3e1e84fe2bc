"""The HTTP answers, asked for over real sockets."""

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families

from consumer import metrics
from consumer.errors import SettingsError
from consumer.health import HealthServer
from consumer.settings import HttpSettings


def yes() -> bool:
    return True


@contextmanager
def serving(alive: Callable[[], bool] = yes, ready: Callable[[], bool] = yes, port: int = 0) -> Iterator[HealthServer]:
    server = HealthServer(HttpSettings(host="127.0.0.1", port=port), alive, ready)
    try:
        yield server
    finally:
        server.close()


def ask(server: HealthServer, path: str, method: str = "GET") -> tuple[int, str, str]:
    """Status, content type and body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"], response.read().decode()
    finally:
        connection.close()


def scraped(server: HealthServer) -> dict[str, float]:
    """Every sample without labels."""
    status, content_type, body = ask(server, "/metrics")
    assert status == 200
    assert content_type.startswith("text/plain; version=")
    families = text_string_to_metric_families(body)
    return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


def test_it_becomes_ready_when_the_house_is_and_stops_being_so() -> None:
    ready = threading.Event()
    with serving(ready=ready.is_set) as server:
        assert ask(server, "/readyz")[0] == 503
        ready.set()
        assert ask(server, "/readyz")[::2] == (200, "ok\n")
        ready.clear()
        assert ask(server, "/readyz")[::2] == (503, "no\n")


def test_alive_and_ready_are_two_things() -> None:
    with serving(ready=lambda: False) as server:
        assert ask(server, "/livez")[0] == 200
        assert ask(server, "/readyz")[0] == 503
    with serving(alive=lambda: False) as server:
        assert ask(server, "/livez")[0] == 503
        assert ask(server, "/readyz")[0] == 200


def test_a_scrape_is_what_prometheus_reads_and_counts_what_happened() -> None:
    with serving() as server:
        before = scraped(server)
        metrics.records_received.inc(3)
        after = scraped(server)
    assert after["tagstream_records_received_total"] == before["tagstream_records_received_total"] + 3


def test_a_query_is_no_part_of_the_path() -> None:
    with serving() as server:
        assert ask(server, "/livez?verbose=1")[0] == 200


def test_another_path_is_told_which_there_are() -> None:
    with serving() as server:
        status, _, body = ask(server, "/")
    assert status == 404
    assert body == "/metrics, /livez or /readyz\n"


def test_nothing_can_be_posted() -> None:
    with serving() as server:
        assert ask(server, "/metrics", "POST")[0] == 501


def test_one_that_connects_and_says_nothing_keeps_nobody_waiting() -> None:
    with serving() as server, socket.create_connection(("127.0.0.1", server.port), timeout=10):
        assert ask(server, "/livez")[0] == 200


def test_a_port_in_use_is_a_settings_error_that_names_the_setting() -> None:
    with serving() as server, pytest.raises(SettingsError) as refused, serving(port=server.port):
        pass
    assert f"127.0.0.1:{server.port}" in str(refused.value)
    assert "TAGSTREAM_HTTP__PORT" in str(refused.value)


def test_closing_ends_the_thread_and_frees_the_port() -> None:
    with serving() as server:
        assert ask(server, "/livez")[0] == 200
    assert not [thread for thread in threading.enumerate() if thread.name == "http"]
    with serving(port=server.port) as again:
        assert ask(again, "/livez")[0] == 200


def test_requests_are_not_logged(capfd: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        ask(server, "/livez")
        ask(server, "/nowhere")
    assert capfd.readouterr() == ("", "")
