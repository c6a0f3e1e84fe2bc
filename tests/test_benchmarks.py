"""The benchmarks' own parts: what they measure with must be right."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.media.decode import open_media
from consumer.media.fetch import open_source
from consumer.settings import MediaSettings
from consumer.tagging import Tools
from tests.benchmarks import SPOKEN, tag_one, throughput
from tests.benchmarks.long_file import make_long_file
from tests.conftest import MEDIA

_BLOCK_BYTES = 64 << 20


def test_a_long_file_has_the_length_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    make_long_file(path, 150)
    settings = MediaSettings()
    with open_source(str(path), settings) as source, open_media(source, settings) as media:
        decoded_s = sum(len(chunk.samples) for chunk in media.audio()) / 16_000
        assert media.info.duration_s == pytest.approx(150, abs=0.1)
    assert decoded_s == pytest.approx(150, abs=0.1)
    assert media.damage is None


def test_the_peak_is_of_what_was_held_since_it_was_forgotten() -> None:
    bytearray(b"x") * (4 * _BLOCK_BYTES)
    tag_one.forget_peak()
    before_bytes = tag_one.memory_bytes("VmRSS")
    bytearray(b"x") * _BLOCK_BYTES
    grown_bytes = tag_one.memory_bytes("VmHWM") - before_bytes
    assert grown_bytes == pytest.approx(_BLOCK_BYTES, rel=0.2)


@pytest.fixture
def another_child() -> Iterator[None]:
    """Another child process, which is no decoder and holds more than one."""
    program = f"held = b'x' * {5 * _BLOCK_BYTES}; print('ready', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.kill()


@pytest.mark.usefixtures("another_child")
def test_one_file_is_measured_with_its_decoder(tools: Tools) -> None:
    measured = tag_one.tag_one(str(SPOKEN[0]), tools)
    assert measured.media_s == pytest.approx(60.4, abs=0.2)
    assert measured.rest_bytes <= measured.peak_bytes
    assert 10 << 20 < measured.decoder_peak_bytes < 150 << 20  # not this process' models, shared before exec


def test_every_video_has_a_time_to_its_first_tag(tools: Tools) -> None:
    clip = MEDIA / "speech" / "bicycle.ogg"
    times_s = throughput.tag_together(tools, [clip, clip])
    assert len(times_s) == 2
    assert all(time_s > 0 for time_s in times_s)


def test_the_median_turn_is_shown() -> None:
    turns = [throughput.Turn(wall_s, wall_s / 2, wall_s / 4, wall_s / 4) for wall_s in (9.0, 2.0, 4.0)]
    ours, plain = throughput.median_turn(turns), throughput.Turn(8.0, 6.0, 0.0, 0.0)
    row = throughput.row(ours, plain, SPOKEN[:2], media_s=120.0)
    assert row.split() == ["2", "30.0", "15.0", "2.00x", "2.00", "6.00", "3.00x", "25%", "25%", "50%"]
