"""The decoder process: `python -m consumer.media.sandbox MEMORY_BYTES MEDIA_BYTES`.

It talks to its parent over stdin and stdout only (`consumer.media.wire`) and sees neither a path nor a URL.
Before it looks at the first byte of the media it gives up, for good: new files, sockets, threads and children
(resource limits, Landlock, an empty network namespace), core dumps, new privileges, and memory and CPU time
past its limits. What the kernel does not offer is left out; the resource limits hold everywhere.
"""

import ctypes
import json
import os
import resource
import sys

import av

from consumer.media import wire
from consumer.media.demux import RefusedError, Track, describe, open_container

# An orphan whose parent was killed must not spin for ever; twelve hours of audio decode in a few minutes.
CPU_LIMIT_S = 3600

_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWNET = 0x4000_0000
# The same numbers on every architecture (Linux 5.13).
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446
_ALL_FILE_RIGHTS_V1 = (1 << 13) - 1


def confine(memory_bytes: int) -> None:
    """Gives up all that decoding does not need; there is no way back."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.unshare(_CLONE_NEWNET)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _forbid_files(libc)
    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CPU: CPU_LIMIT_S,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        # Descriptors 0 to 2 are taken: no file or socket can be opened.
        resource.RLIMIT_NOFILE: 3,
        resource.RLIMIT_NPROC: 0,
    }
    for limit, value in limits.items():
        already = resource.getrlimit(limit)[1]
        value = value if already == resource.RLIM_INFINITY else min(value, already)
        resource.setrlimit(limit, (value, value))


def _forbid_files(libc: ctypes.CDLL) -> None:
    """Landlock with no rule refuses every right it handles (docs.kernel.org/userspace-api/landlock.html)."""
    rights = ctypes.c_uint64(_ALL_FILE_RIGHTS_V1)
    ruleset = libc.syscall(
        ctypes.c_long(_LANDLOCK_CREATE_RULESET), ctypes.byref(rights), ctypes.c_size_t(8), ctypes.c_uint32(0)
    )
    if ruleset >= 0:
        libc.syscall(ctypes.c_long(_LANDLOCK_RESTRICT_SELF), ctypes.c_int(ruleset), ctypes.c_uint32(0))
        os.close(ruleset)


class ParentFile:
    """The media as a file object, each read asked of the parent."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._offset = 0

    def read(self, size: int) -> bytes:
        send(wire.READ, wire.READ_RANGE.pack(self._offset, min(size, wire.BLOCK_BYTES)))
        content = _expect(wire.DATA)
        self._offset += len(content)
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        """-1 where FFmpeg asks for an end that is not known."""
        if whence == os.SEEK_END and self._size < 0:
            return -1
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._offset, os.SEEK_END: self._size}[whence]
        self._offset = max(0, base + offset)
        return self._offset

    def tell(self) -> int:
        return self._offset


def serve(file: ParentFile) -> None:
    """Describes the media, waits for the choice of a track, and sends it to its end."""
    container = open_container(file)
    send(wire.INFO, json.dumps(describe(container)).encode())
    (index,) = wire.TRACK_INDEX.unpack(_expect(wire.TRACK))
    track = Track(container, index)
    if container.streams[index].type == "audio":
        for start_s, samples in track.audio():
            send(wire.AUDIO, wire.AUDIO_START.pack(start_s) + samples)
    else:
        for cue in track.cues():
            send(wire.CUE, json.dumps(cue).encode())
    send(wire.END, track.damage.encode())


def send(kind: bytes, payload: bytes) -> None:
    rest = memoryview(wire.message(kind, payload))
    while rest:
        rest = rest[os.write(1, rest) :]


def _expect(kind: bytes) -> bytes:
    received, payload = wire.receive(_read_exactly)
    if received != kind:
        raise wire.ProtocolError(f"{received!r} came where {kind!r} was due")
    return payload


def _read_exactly(size: int) -> bytes:
    content = bytearray()
    while len(content) < size:
        part = os.read(0, size - len(content))
        if not part:
            # The parent wants no more.
            os._exit(0)
        content += part
    return bytes(content)


def _send_error(reason: str, message: str) -> None:
    send(wire.ERROR, json.dumps({"reason": reason, "message": message}).encode())


def main() -> None:
    memory_bytes, media_bytes = (int(argument) for argument in sys.argv[1:])
    av.logging.set_level(None)
    confine(memory_bytes)
    try:
        serve(ParentFile(media_bytes))
    except RefusedError as refusal:
        _send_error(*refusal.args)
    except MemoryError:
        _send_error("decoder_out_of_memory", "decoding wants more memory than media.decode_memory_bytes")
    except Exception as error:
        _send_error("decoder_crashed", repr(error))


if __name__ == "__main__":
    main()
