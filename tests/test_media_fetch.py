import ipaddress
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.errors import PermanentError, TransientError, UploadError
from consumer.media import web
from consumer.media.fetch import open_source
from consumer.media.network import is_public
from consumer.media.source import Source
from consumer.settings import MediaSettings
from tests.media_server import CUT_AFTER_BYTES, MediaServer, serving

LOCAL = MediaSettings(allow_private_hosts=True, connect_timeout_s=2, read_timeout_s=2)
IMPATIENT = LOCAL.model_copy(update={"read_timeout_s": 0.3})
CONTENT = random.Random(1).randbytes(3_000_000)


@pytest.fixture
def server() -> Iterator[MediaServer]:
    with serving() as server:
        server.content = CONTENT
        yield server


def read_through(source: Source, block_bytes: int = 100_000) -> bytes:
    content = b""
    while block := source.read_at(len(content), block_bytes):
        content += block
    return content


def failure(uri: str, settings: MediaSettings = LOCAL) -> UploadError:
    """The error of opening and reading the source."""
    with pytest.raises(UploadError) as raised, open_source(uri, settings) as source:
        read_through(source)
    assert raised.value.stage == "fetch"
    return raised.value


# --- local files ---


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}"])
def test_a_local_file_is_read_by_path_and_by_file_uri(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a talk: 100%?.mp4"
    path.write_bytes(CONTENT)
    name = str(path) if form == "{}" else form.format(path.as_uri().removeprefix("file://"))
    with open_source(name, MediaSettings()) as source:
        assert source.size == len(CONTENT)
        assert read_through(source) == CONTENT
        assert source.read_at(2_999_990, 100) == CONTENT[-10:]


def test_the_fingerprint_of_a_file_changes_with_its_content(tmp_path: Path) -> None:
    path = tmp_path / "talk.mp4"
    fingerprints = set()
    for time_ns, content in ((1, b"one"), (1, b"three"), (2, b"three")):
        path.write_bytes(content)
        os.utime(path, ns=(time_ns, time_ns))
        with open_source(str(path), MediaSettings()) as source:
            fingerprints.add(source.fingerprint)
        with open_source(str(path), MediaSettings()) as source:
            assert source.fingerprint in fingerprints
    assert len(fingerprints) == 3


def test_local_trouble_has_stable_reasons(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "big.mp4").write_bytes(bytes(11))
    os.mkfifo(tmp_path / "pipe.mp4")
    small = MediaSettings(max_bytes=10)
    reasons = {
        name: failure(str(tmp_path / name), small).reason
        for name in ("missing.mp4", "", "empty.mp4", "pipe.mp4", "big.mp4", "big.mp4/below", "nul\0.mp4")
    }
    assert reasons == {
        "missing.mp4": "file_not_found",
        "": "is_a_directory",
        "empty.mp4": "empty_media",
        "pipe.mp4": "not_a_file",
        "big.mp4": "too_large",
        "big.mp4/below": "file_not_found",
        "nul\0.mp4": "file_not_found",
    }


def test_a_path_outside_the_roots_is_refused_however_it_is_written(tmp_path: Path) -> None:
    inside, outside = tmp_path / "media", tmp_path / "media-secret"
    inside.mkdir()
    outside.mkdir()
    (inside / "talk.mp4").write_bytes(b"x")
    (outside / "key.mp4").write_bytes(b"x")
    (inside / "link.mp4").symlink_to(outside / "key.mp4")
    settings = MediaSettings(roots=[str(inside)])
    with open_source(str(inside / "talk.mp4"), settings) as source:
        assert source.size == 1
    for path in (outside / "key.mp4", inside / ".." / "media-secret" / "key.mp4", inside / "link.mp4"):
        assert failure(str(path), settings).reason == "not_permitted"


# --- schemes ---


@pytest.mark.parametrize("uri", ["ftp://h/a.mp4", "gopher://h/", "concat://a", "rtsp://h/s", "file://h/etc/passwd"])
def test_other_schemes_are_refused(uri: str) -> None:
    assert failure(uri).reason == "unsupported_scheme"


def test_an_object_is_fetched_from_the_endpoint_even_on_a_private_host(server: MediaServer) -> None:
    settings = MediaSettings(s3_endpoint=server.url("/ranges/"))
    with open_source("s3://videos/2026/a talk #1?.mp4", settings) as source:
        assert read_through(source) == CONTENT
    assert server.requests[0][0] == "/ranges/videos/2026/a%20talk%20%231%3F.mp4"


def test_an_object_needs_the_endpoint_and_must_stay_in_its_bucket() -> None:
    missing = failure("s3://videos/talk.mp4", MediaSettings())
    assert missing.reason == "s3_endpoint_missing"
    assert "s3_endpoint" in str(missing)
    climbing = MediaSettings(s3_endpoint="http://127.0.0.1:9")
    assert failure("s3://videos/../secrets/talk.mp4", climbing).reason == "not_permitted"


# --- http ---


@pytest.mark.parametrize("behaviour", ["ranges", "plain", "chunked", "cut"])
def test_a_body_is_read_whole_however_the_server_sends_it(server: MediaServer, behaviour: str) -> None:
    with open_source(server.url(f"/{behaviour}/talk.mp4"), LOCAL) as source:
        assert source.size == (None if behaviour == "chunked" else len(CONTENT))
        assert read_through(source) == CONTENT
        assert source.read_at(len(CONTENT), 10) == b""


@pytest.mark.parametrize("behaviour", ["ranges", "plain", "chunked", "cut"])
def test_any_place_can_be_read_in_any_order(server: MediaServer, behaviour: str) -> None:
    places = random.Random(2)
    with open_source(server.url(f"/{behaviour}/talk.mp4"), LOCAL) as source:
        for _ in range(15):
            offset, size = places.randrange(len(CONTENT) + 5), places.randrange(1, 300_000)
            assert source.read_at(offset, size) == CONTENT[offset : offset + size]


def test_reading_on_takes_one_request_and_a_jump_one_more(server: MediaServer) -> None:
    with open_source(server.url("/ranges/talk.mp4"), LOCAL) as source:
        source.read_at(0, 1000)
        source.read_at(500_000, 1000)
        assert [asked for _, asked, _ in server.requests] == ["bytes=0-"]
        source.read_at(2_500_000, 1000)
        assert [asked for _, asked, _ in server.requests] == ["bytes=0-", "bytes=2500000-"]


def test_a_cut_without_ranges_is_transient(server: MediaServer) -> None:
    error = failure(server.url("/plain_cut/talk.mp4"))
    assert isinstance(error, TransientError)
    assert error.reason == "connection_lost"
    assert str(CUT_AFTER_BYTES) in str(error)


def test_resuming_without_progress_ends(server: MediaServer) -> None:
    assert failure(server.url("/cut_at_once/talk.mp4")).reason == "connection_lost"
    assert len(server.requests) == 1 + web.MAX_RESUMES


def test_media_that_is_replaced_while_it_is_read_is_transient(server: MediaServer) -> None:
    with open_source(server.url("/ranges/talk.mp4"), LOCAL) as source:
        source.read_at(0, 10)
        server.etag = '"two"'
        with pytest.raises(TransientError, match="changed") as raised:
            source.read_at(2_000_000, 10)
    assert raised.value.reason == "source_changed"


def test_the_fingerprint_of_a_url_follows_its_etag(server: MediaServer) -> None:
    fingerprints = []
    for etag in ('"one"', '"one"', '"two"'):
        server.etag = etag
        with open_source(server.url("/ranges/talk.mp4"), LOCAL) as source:
            fingerprints.append(source.fingerprint)
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, PermanentError),
        (403, PermanentError),
        (429, TransientError),
        (500, TransientError),
        (503, TransientError),
    ],
)
def test_a_refusal_says_its_status(server: MediaServer, status: int, kind: type[UploadError]) -> None:
    error = failure(server.url(f"/status/{status}"))
    assert type(error) is kind
    assert error.reason == "http_status"
    assert str(status) in str(error)


@pytest.mark.parametrize("behaviour", ["ranges", "plain", "chunked"])
def test_an_empty_body_is_empty_media(server: MediaServer, behaviour: str) -> None:
    server.content = b""
    assert failure(server.url(f"/{behaviour}/talk.mp4")).reason == "empty_media"


@pytest.mark.parametrize("behaviour", ["ranges", "plain", "chunked"])
def test_a_body_that_is_too_large_is_refused_even_when_it_does_not_say_so(server: MediaServer, behaviour: str) -> None:
    limited = LOCAL.model_copy(update={"max_bytes": len(CONTENT) - 1})
    assert failure(server.url(f"/{behaviour}/talk.mp4"), limited).reason == "too_large"


@pytest.mark.parametrize("behaviour", ["hang", "stall", "drip"])
def test_a_url_that_hangs_or_drips_times_out(server: MediaServer, behaviour: str) -> None:
    error = failure(server.url(f"/{behaviour}/talk.mp4"), IMPATIENT)
    assert isinstance(error, TransientError)
    assert error.reason == "fetch_timeout"


def test_a_dead_url_is_unreachable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = failure(f"http://127.0.0.1:{unused.getsockname()[1]}/talk.mp4")
    assert isinstance(error, TransientError)
    assert error.reason == "unreachable"


def test_a_host_without_an_address_is_unreachable() -> None:
    assert failure("http://nowhere.invalid/talk.mp4").reason == "unreachable"


@pytest.mark.parametrize("url", ["http://", "http:///talk.mp4", "http://h:99999/x", "http://[::1/x", "http://h\0/x"])
def test_a_url_that_makes_no_sense_is_permanent(url: str) -> None:
    assert failure(url).reason == "bad_url"


def test_messages_hold_no_credentials_and_no_query(server: MediaServer) -> None:
    for path in ("/status/404", "/status/500", "/hang/x", "/stall/x", "/plain_cut/x"):
        url = server.url(f"{path}?signature=hush").replace("http://", "http://user:hush@")
        assert "hush" not in str(failure(url, IMPATIENT))


# --- where a URL may lead ---


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0", "[::1]", "[::ffff:127.0.0.1]", "[::]",
     "10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "[fd00::1]", "[64:ff9b::a00:1]"],
)  # fmt: skip
def test_private_hosts_are_refused_in_every_spelling(host: str) -> None:
    error = failure(f"http://{host}/latest/meta-data", MediaSettings(connect_timeout_s=1, read_timeout_s=1))
    assert isinstance(error, PermanentError)
    assert error.reason == "not_permitted"


def test_a_redirect_is_followed_and_its_host_is_checked_again(server: MediaServer) -> None:
    server.location = "/ranges/talk.mp4"
    with open_source(server.url("/redirect/"), LOCAL) as source:
        assert read_through(source) == CONTENT
    # Only the endpoint itself is trusted on a private host, not what it redirects to.
    strict = MediaSettings(s3_endpoint=server.url("/redirect"))
    server.location = server.url("/ranges/secret")
    assert failure("s3://videos/talk.mp4", strict).reason == "not_permitted"


def test_redirects_end_and_must_lead_to_http(server: MediaServer) -> None:
    server.location = "/redirect/again"
    assert failure(server.url("/redirect/")).reason == "too_many_redirects"
    assert len(server.requests) == 6
    server.location = "file:///etc/passwd"
    assert failure(server.url("/redirect/")).reason == "unsupported_scheme"


def test_a_name_is_looked_up_once_and_the_checked_address_is_dialled(
    server: MediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = []
    real = socket.getaddrinfo

    def resolver(host: Any, *rest: Any, **options: Any) -> Any:
        looked_up.append(host)
        return real("127.0.0.1" if host == "media.example" else host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    with open_source(f"http://media.example:{server.server_port}/ranges/talk.mp4", LOCAL) as source:
        assert source.size == len(CONTENT)
    assert looked_up.count("media.example") == 1
    assert server.requests[0][2] == f"media.example:{server.server_port}"


@given(st.ip_addresses(v=4).filter(lambda address: not address.is_global))
def test_a_private_address_stays_private_inside_an_ipv6_address(address: ipaddress.IPv4Address) -> None:
    wrapped = (0xFFFF << 32 | int(address), 0x2002 << 112 | int(address) << 80, 0x64FF9B << 96 | int(address))
    assert not is_public(address)
    assert not any(is_public(ipaddress.IPv6Address(value)) for value in wrapped)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
