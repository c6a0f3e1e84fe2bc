"""Messages between the decoder process and its parent: kind (1 byte), payload length (4 bytes), payload.

Who sends what:

    decoder to parent   READ   offset and size of the media bytes it wants
                        INFO   JSON: what the media holds
                        AUDIO  start in seconds, then 16 kHz mono s16le
                        CUE    JSON: start, end, text with ASS tags
                        END    "", "truncated" or "damaged"
                        ERROR  JSON: reason, message
    parent to decoder   DATA   media bytes, fewer than wanted only at the end
                        TRACK  index of the stream to read
"""

import struct
from collections.abc import Callable

READ, INFO, AUDIO, CUE, END, ERROR = b"R", b"I", b"A", b"C", b"E", b"X"
DATA, TRACK = b"D", b"T"

HEADER = struct.Struct(">cI")
READ_RANGE = struct.Struct(">QI")
AUDIO_START = struct.Struct(">d")
TRACK_INDEX = struct.Struct(">I")

BLOCK_BYTES = 256 << 10
MAX_PAYLOAD_BYTES = 1 << 20
SAMPLE_RATE = 16_000


class ProtocolError(Exception):
    """The other side does not keep to this page."""


def message(kind: bytes, payload: bytes = b"") -> bytes:
    return HEADER.pack(kind, len(payload)) + payload


def receive(read_exactly: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    """The next message: its kind and payload."""
    kind, size = HEADER.unpack(read_exactly(HEADER.size))
    if size > MAX_PAYLOAD_BYTES:
        raise ProtocolError(f"a message of {size} bytes")
    return kind, read_exactly(size)
