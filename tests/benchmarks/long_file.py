"""Peak memory and time by the length of the file: memory should not grow with it, time should in proportion.

    python -m tests.benchmarks.long_file [--minutes 1 10 60]

Each file is tagged in a process of its own, on the CPU. At twenty times real time, an hour of speech takes three
minutes.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import av

from consumer.display import out
from tests.benchmarks import SPOKEN
from tests.benchmarks.tag_one import Measured

_MB = 1e6
_TIMEOUT_S_PER_MINUTE, _LOADING_TIMEOUT_S = 60, 600

HEADING = "minutes   wall s   media s/s   s per media minute   MB at rest   MB at most   decoder MB at most"


def make_long_file(target: Path, length_s: float) -> None:
    """An MP4 with the samples' speech, one after the other and over again, up to `length_s`; nothing is encoded."""
    with av.open(str(target), "w") as long:
        stream, at = None, 0
        for path in cycle(SPOKEN):
            with av.open(str(path)) as sample:
                audio = sample.streams.audio[0]
                stream = stream or long.add_stream_from_template(audio)
                for packet in sample.demux(audio):
                    if at * audio.time_base >= length_s:
                        return
                    if packet.size:  # an empty one ends the file
                        packet.pts = packet.dts = at
                        packet.stream = stream
                        at += packet.duration
                        long.mux(packet)


def tag_alone(path: Path, minutes: float) -> Measured:
    """In a process of its own, so that its memory is."""
    command = [sys.executable, "-m", "tests.benchmarks.tag_one", str(path)]
    timeout_s = _LOADING_TIMEOUT_S + _TIMEOUT_S_PER_MINUTE * minutes
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=timeout_s)
    return Measured.model_validate_json(done.stdout)


def row(measured: Measured) -> str:
    per_minute_s = 60 * measured.wall_s / measured.media_s
    held = (measured.rest_bytes, measured.peak_bytes, measured.decoder_peak_bytes)
    return (
        f"{measured.media_s / 60:7.1f}{measured.wall_s:9.1f}{60 / per_minute_s:12.1f}{per_minute_s:21.2f}"
        "{:13.0f}{:13.0f}{:22.0f}".format(*(size / _MB for size in held))
    )


def difference(shortest: Measured, longest: Measured) -> str:
    ours, decoders = (
        (after - before) / _MB
        for before, after in (
            (shortest.peak_bytes, longest.peak_bytes),
            (shortest.decoder_peak_bytes, longest.decoder_peak_bytes),
        )
    )
    length = longest.media_s / shortest.media_s
    return (
        f"{length:.1f} times as long: {longest.wall_s / shortest.wall_s:.1f} times the time; peak memory "
        f"{ours:+.0f} MB, and {decoders:+.0f} MB in the decoder"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Peak memory and time by the length of the file.")
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10, 60], help="lengths (1 10 60)")
    lengths: Sequence[float] = parser.parse_args().minutes
    out(f"at twenty times real time this takes {sum(lengths) / 20:.0f} minutes\n{HEADING}")
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        for minutes in sorted(lengths):
            path = Path(folder) / f"{minutes:g}.mp4"
            make_long_file(path, 60 * minutes)
            measured.append(tag_alone(path, minutes))
            out(row(measured[-1]))
    if len(measured) > 1:
        out(difference(measured[0], measured[-1]))


if __name__ == "__main__":
    main()
