"""The committed clips, whole and spoilt."""

import random
from pathlib import Path

CLIPS = Path(__file__).parent / "media" / "clips"


def clip(name: str) -> bytes:
    return (CLIPS / name).read_bytes()


def cut_off(content: bytes, kept: float) -> bytes:
    return content[: int(len(content) * kept)]


def broken_midway(content: bytes) -> bytes:
    """The middle third overwritten with noise."""
    third = len(content) // 3
    return content[:third] + random.Random(1).randbytes(third) + content[2 * third :]


def with_broken_audio(content: bytes) -> bytes:
    """All that an MP4 holds after its index overwritten with noise."""
    start = content.index(b"mdat") + 4
    return content[:start] + random.Random(1).randbytes(len(content) - start)
