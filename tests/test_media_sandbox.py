"""The decoder process, confined, and what the parent makes of one that misbehaves."""

import ctypes
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from consumer import metrics
from consumer.errors import PermanentError
from consumer.media import decoder, wire
from consumer.media.decode import open_media
from consumer.media.decoder import Decoder
from consumer.media.source import BytesSource
from consumer.settings import MediaSettings
from tests.media_clips import CLIPS, clip

SETTINGS = MediaSettings(decode_timeout_s=30)
ROOT = Path(__file__).parents[1]
MIB = 1 << 20
# Root may start processes whatever its limits say.
GIVE_UP_ROOT = "os.getuid() or os.setgid(65534) or os.setuid(65534)"


def confined(code: str, memory_bytes: int = 2048 * MIB) -> subprocess.CompletedProcess[str]:
    """Runs `code` in a process that has confined itself as the decoder does."""
    head = f"""import os, socket
from consumer.media.sandbox import confine
{GIVE_UP_ROOT}
confine({memory_bytes})
"""
    program = head + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


# --- the limits bite ---


def test_the_sandbox_can_open_no_file() -> None:
    for path in ("/etc/passwd", "/proc/self/environ", str(CLIPS / "talk.wav")):
        result = confined(f"os.open({path!r}, os.O_RDONLY)")
        assert result.returncode == 1
        assert "Too many open files" in result.stderr or "Permission denied" in result.stderr


def test_the_sandbox_can_open_no_file_in_the_place_of_its_pipes() -> None:
    """A free descriptor is not enough: Landlock forbids the file itself, where the kernel has it."""
    if not has_landlock():
        pytest.skip("this kernel has no Landlock")
    result = confined("os.close(0)\nos.open('/etc/passwd', os.O_RDONLY)")
    assert "Permission denied" in result.stderr


def has_landlock() -> bool:
    create_ruleset, version_wanted = ctypes.c_long(444), ctypes.c_uint32(1)
    libc = ctypes.CDLL(None)
    return bool(libc.syscall(create_ruleset, None, ctypes.c_size_t(0), version_wanted) > 0)


def test_the_sandbox_can_open_no_socket() -> None:
    result = confined("socket.socket()")
    assert result.returncode == 1
    assert "Too many open files" in result.stderr


def test_the_sandbox_can_start_no_process() -> None:
    assert "BlockingIOError" in confined("os.fork()").stderr


def test_decoding_needs_no_privilege_and_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    program = f"import os\nfrom consumer.media import sandbox\n{GIVE_UP_ROOT}\nsandbox.main()"
    monkeypatch.setattr(decoder, "PROGRAM", (sys.executable, "-P", "-c", program))
    for name in ("talk.mp4", "subtitled.mkv"):
        with BytesSource(clip(name)) as source, open_media(source, SETTINGS) as media:
            assert len(list(media.audio())) > 10


def test_the_sandbox_cannot_take_more_memory_than_allowed() -> None:
    assert confined(f"bytearray({400 * MIB})", 1024 * MIB).returncode == 0
    result = confined(f"bytearray({1000 * MIB})", 1024 * MIB)
    assert result.returncode == 1
    assert "MemoryError" in result.stderr


def test_the_sandbox_cannot_win_its_rights_back() -> None:
    code = """
        import resource
        for name in ("AS", "NOFILE", "CORE", "FSIZE", "CPU"):
            print(resource.getrlimit(getattr(resource, f"RLIMIT_{name}")))
    """
    limits = confined(code).stdout.splitlines()
    assert limits == [f"({2048 * MIB}, {2048 * MIB})", "(3, 3)", "(0, 0)", "(0, 0)", "(3600, 3600)"]


def test_the_decoder_sees_neither_the_address_nor_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGSTREAM_KAFKA__CLIENT__SASL_PASSWORD", "hush")
    with BytesSource(clip("talk.mp4")) as source, open_media(source, SETTINGS) as media:
        process = Path(f"/proc/{media._decoders[0]._process.pid}")
        assert (process / "environ").read_bytes().startswith(b"PYTHONPATH=")
        assert (process / "environ").read_bytes().count(b"\0") == 1
        assert b"talk" not in (process / "cmdline").read_bytes()


def test_probing_opens_no_video_decoder() -> None:
    """MagicYUV, the codec of CVE-2026-8461: FFmpeg's probing fills in the picture's format by decoding."""
    code = f"""
        import av
        from consumer.media.demux import OPTIONS
        for options in (OPTIONS, {{}}):
            container = av.open(open({str(CLIPS / "magicyuv.mkv")!r}, "rb"), options=options)
            (picture,) = container.streams.video
            print(picture.codec_context.pix_fmt, len(list(container.decode(audio=0))) > 0)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout.splitlines() == ["None True", "yuv420p True"]


# --- a decoder that misbehaves ---


def pretend(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Puts a program of the test's in the decoder's place."""
    monkeypatch.setattr(decoder, "PROGRAM", (sys.executable, "-c", "import os, time\n" + textwrap.dedent(code)))


def outcome(settings: MediaSettings = SETTINGS) -> PermanentError:
    with (
        pytest.raises(PermanentError) as raised,
        BytesSource(bytes(1000)) as source,
        open_media(source, settings) as media,
    ):
        list(media.audio())
    assert raised.value.stage == "decode"
    assert_no_child_is_left()
    return raised.value


def assert_no_child_is_left() -> None:
    """Neither a decoder at work nor one that died and was not reaped; the tests' Kafka is a child as well."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            command = (stat.parent / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
        if int(parent) == os.getpid():
            assert state != "Z"
            assert b"consumer.media.sandbox" not in command


def kills(reason: str) -> float:
    return float(metrics.sandbox_kills.labels(reason)._value.get())


INFO = wire.message(
    wire.INFO, json.dumps({"duration_s": 9.0, "audio": 0, "audio_codecs": ["aac"], "captions": []}).encode()
)
AUDIO = wire.message(wire.AUDIO, wire.AUDIO_START.pack(0.0) + bytes(32_000))


@pytest.mark.parametrize("told", [b"", INFO[:3], INFO, INFO + AUDIO])
def test_a_decoder_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, told: bytes) -> None:
    before = kills("hung")
    pretend(monkeypatch, f"os.write(1, {told!r})\ntime.sleep(600)")
    started = time.monotonic()
    error = outcome(SETTINGS.model_copy(update={"decode_timeout_s": 0.3}))
    assert error.reason == "decoder_hung"
    assert time.monotonic() - started < 10
    assert kills("hung") == before + 1


@pytest.mark.parametrize("told", [b"", INFO[:3], INFO, INFO + AUDIO])
def test_a_decoder_that_dies_of_a_signal_says_which(monkeypatch: pytest.MonkeyPatch, told: bytes) -> None:
    before = kills("crashed")
    pretend(monkeypatch, f"os.write(1, {told!r})\nos.kill(os.getpid(), 11)")
    error = outcome()
    assert error.reason == "decoder_crashed"
    assert "SIGSEGV" in str(error)
    assert kills("crashed") == before + 1


def test_a_decoder_that_asks_but_does_not_listen_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    wish = wire.message(wire.READ, wire.READ_RANGE.pack(0, 1000))
    pretend(monkeypatch, f"os.write(1, {wish!r} * 100)\ntime.sleep(600)")
    assert outcome(SETTINGS.model_copy(update={"decode_timeout_s": 0.3})).reason == "decoder_hung"


def test_wishes_alone_do_not_keep_a_decoder_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    wish = wire.message(wire.READ, wire.READ_RANGE.pack(0, 10))
    pretend(monkeypatch, f"while True:\n    os.write(1, {wish!r})\n    os.read(0, 15)")
    assert outcome(SETTINGS.model_copy(update={"decode_timeout_s": 0.5})).reason == "decoder_hung"


def _info(**changes: object) -> bytes:
    told = {"duration_s": 9.0, "audio": 0, "audio_codecs": [], "captions": [], **changes}
    return wire.message(wire.INFO, json.dumps(told).encode())


@pytest.mark.parametrize(
    "told",
    [
        b"not a message at all",
        wire.HEADER.pack(wire.INFO, 1 << 30),
        wire.message(wire.INFO, b"{"),
        _info(duration_s=float("nan")),
        _info(audio="0"),
        _info(captions=[{"index": -1, "language": None, "forced": False}]),
        AUDIO,
        INFO + INFO,
        INFO + wire.message(wire.AUDIO, b"odd"),
        INFO + wire.message(wire.AUDIO, wire.AUDIO_START.pack(float("inf")) + b"ab"),
        INFO + wire.message(wire.CUE, b'{"start_s": 1e999}'),
        INFO + wire.message(wire.END, b"fine"),
        wire.message(wire.READ, b"short"),
        wire.message(wire.READ, wire.READ_RANGE.pack(0, 1 << 31)),
        wire.message(wire.READ, wire.READ_RANGE.pack((1 << 64) - 1, 10)),
        wire.message(wire.ERROR, b'{"reason": "anything", "message": ""}'),
    ],
)
def test_a_decoder_that_talks_nonsense_is_ended(monkeypatch: pytest.MonkeyPatch, told: bytes) -> None:
    pretend(monkeypatch, f"os.write(1, {told!r})\ntime.sleep(600)")
    assert outcome().reason == "decoder_crashed"


def test_a_file_that_wants_too_much_memory_is_refused() -> None:
    """Eight kilobytes: eighteen hours at a sample per second, in one frame."""
    before = kills("out_of_memory")
    with (
        pytest.raises(PermanentError) as raised,
        BytesSource(clip("bomb.flac")) as source,
        open_media(source, SETTINGS) as media,
    ):
        list(media.audio())
    assert raised.value.reason == "decoder_out_of_memory"
    assert kills("out_of_memory") == before + 1
    assert_no_child_is_left()


# --- no path leaves a process behind ---


def _open_only(source: BytesSource) -> None:
    with open_media(source, SETTINGS):
        pass


def _stop_midway(source: BytesSource) -> None:
    with open_media(source, SETTINGS) as media:
        audio = media.audio()
        next(audio)
        audio.close()
        assert_no_child_is_left()


def _drop_midway(source: BytesSource) -> None:
    with open_media(source, SETTINGS) as media:
        next(media.audio())
        next(media.audio())


def _fail_midway(source: BytesSource) -> None:
    with pytest.raises(ZeroDivisionError), open_media(source, SETTINGS) as media:
        assert [1 / chunk.start_s for chunk in media.audio()]


def _read_all(source: BytesSource) -> None:
    with open_media(source, SETTINGS) as media:
        list(media.audio())
        assert_no_child_is_left()


@pytest.mark.parametrize("use", [_open_only, _stop_midway, _drop_midway, _fail_midway, _read_all])
def test_every_decoder_is_reaped(use: Callable[[BytesSource], None]) -> None:
    with BytesSource(clip("talk.mp4")) as source:
        use(source)
    assert_no_child_is_left()


def test_a_decoder_whose_parent_is_gone_ends_by_itself() -> None:
    with BytesSource(clip("talk.mp4")) as source:
        orphan = Decoder(source, SETTINGS)
        orphan.info()
        assert orphan._process.stdin is not None
        orphan._process.stdin.close()
        assert orphan._process.wait(10) == 0
        orphan.close()
