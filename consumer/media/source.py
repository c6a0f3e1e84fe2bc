"""Where media bytes come from: random access to a file, or to bytes at hand."""

import errno
import hashlib
import os
import stat
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

from consumer import metrics
from consumer.errors import PermanentError, TransientError
from consumer.settings import MediaSettings


class Source(ABC):
    """Media bytes with random access, for one thread.

    `size` is None while the length is unknown. `fingerprint` changes when the content does; it serves as the
    content version of an upload that names none.
    """

    size: int | None
    fingerprint: str

    @abstractmethod
    def read_at(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; fewer only at the end."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class BytesSource(Source):
    """Bytes at hand: an inline caption file."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size: int | None = len(content)
        self.fingerprint = fingerprint(content.hex())

    def read_at(self, offset: int, size: int) -> bytes:
        return self._content[offset : offset + size]

    def close(self) -> None:
        pass


class FileSource(Source):
    """A regular file that `media.roots` allows."""

    def __init__(self, path: str, settings: MediaSettings) -> None:
        resolved = _resolve(path, settings.roots)
        self._path = path
        self._descriptor = _open_regular(path, resolved)
        status = os.fstat(self._descriptor)
        self.size: int | None = status.st_size
        self.fingerprint = fingerprint(status.st_size, status.st_mtime_ns)

    def read_at(self, offset: int, size: int) -> bytes:
        try:
            content = os.pread(self._descriptor, size, offset)
        except OSError as error:
            message = f"{self._path}: {error.strerror}"
            raise TransientError("source_unreadable", message, stage="fetch") from error
        metrics.fetched_bytes.labels("file").inc(len(content))
        return content

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def fingerprint(*parts: object) -> str:
    """16 hex digits over the parts."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]


def check_size(size: int, place: str, settings: MediaSettings) -> None:
    """Refuses what is empty and what is larger than `max_bytes`."""
    if size == 0:
        raise PermanentError("empty_media", f"{place} is empty", stage="fetch")
    if size > settings.max_bytes:
        message = f"{place} has more than media.max_bytes = {settings.max_bytes} bytes"
        raise PermanentError("too_large", message, stage="fetch")


def _resolve(path: str, roots: list[str]) -> str:
    try:
        resolved = os.path.realpath(path)
    except ValueError as error:
        raise PermanentError("file_not_found", f"{path!r} is no path: {error}", stage="fetch") from error
    if roots and not any(Path(resolved).is_relative_to(os.path.realpath(root)) for root in roots):
        raise PermanentError("not_permitted", f"{path} lies outside media.roots", stage="fetch")
    return resolved


def _open_regular(path: str, resolved: str) -> int:
    """A descriptor on a regular file: waits on no pipe, follows no link swapped in since `resolved`."""
    try:
        descriptor = os.open(resolved, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _open_error(path, error) from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise PermanentError("is_a_directory", f"{path} is a folder; name a media file in it", stage="fetch")
    raise PermanentError("not_a_file", f"{path} is not a regular file", stage="fetch")


def _open_error(path: str, error: OSError) -> PermanentError | TransientError:
    message = f"{path}: {error.strerror}"
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        return PermanentError("file_not_found", message, stage="fetch")
    if error.errno in (errno.EACCES, errno.EPERM, errno.ELOOP):
        return PermanentError("not_permitted", message, stage="fetch")
    if error.errno in (errno.ENXIO, errno.ENODEV):
        return PermanentError("not_a_file", message, stage="fetch")
    return TransientError("source_unreadable", message, stage="fetch")
