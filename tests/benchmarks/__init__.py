"""Benchmarks: they print figures and judge nothing. `python -m tests.benchmarks.throughput`, `….long_file`."""

from pathlib import Path

_SAMPLES = Path(__file__).parents[1] / "media" / "samples"

# Those in which speech has to be recognised: hike has captions. About a minute each.
SPOKEN = [_SAMPLES / f"{name}.mp4" for name in ("crypto", "dal", "football", "laptop")]
