"""Media bytes over HTTP: one streaming GET, ranges for jumps and cuts, else a temporary copy."""

import re
import tempfile
import time
from collections.abc import Iterator
from typing import IO

import httpx

from consumer import metrics
from consumer.errors import PermanentError, TransientError, UploadError
from consumer.media import network
from consumer.media.source import Source, check_size, fingerprint
from consumer.media.wire import BLOCK_BYTES
from consumer.settings import MediaSettings

# Reading on is cheaper than a new connection up to about here.
SKIP_BYTES = 1 << 20
MAX_RESUMES = 3
# A stream that came this far is healthy: servers cut those that idle while the models are busy.
HEALTHY_BYTES = 256 << 10
_WORTH_A_RETRY = (408, 425, 429)


class HttpSource(Source):
    """A body read on as it comes.

    A jump, or a cut, is answered by a new GET with a range where the server takes ranges. Where it does not,
    all that comes is kept in an unlinked temporary file, and a jump back reads there. `trusted`: the host of
    the URL itself may be private.
    """

    def __init__(self, url: str, settings: MediaSettings, *, trusted: bool = False) -> None:
        self._url = network.parse_url(url)
        self._place = network.display(self._url)
        self._settings = settings
        self._trusted = trusted
        self._client = network.new_client(settings)
        self._response: httpx.Response | None = None
        self._copy: IO[bytes] | None = None
        self._resumes = 0
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def read_at(self, offset: int, size: int) -> bytes:
        if self.size is not None:
            size = max(0, min(size, self.size - offset))
        if self._copy is not None:
            return self._read_copied(self._copy, offset, size)
        if size and not self._position <= offset <= self._position + SKIP_BYTES:
            self._request_from(offset)
        if size:
            self._read_on(offset)
        return self._take(size)

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
        self._client.close()
        if self._copy is not None:
            self._copy.close()

    def _start(self) -> None:
        response = self._get(0)
        self._follow(response, 0)
        self.size = _total_bytes(response)
        self.fingerprint = self._fingerprint(response)
        if self.size is not None:
            check_size(self.size, self._place, self._settings)
        if response.status_code != 206:
            self._copy = tempfile.TemporaryFile()  # noqa: SIM115 -- lives as long as the source

    def _request_from(self, offset: int) -> None:
        if self._response is not None:
            self._response.close()
        response = self._get(offset)
        if _range_start(response) != offset or self._fingerprint(response) != self.fingerprint:
            response.close()
            raise TransientError("source_changed", f"{self._place} changed while it was read", stage="fetch")
        self._follow(response, offset)

    def _get(self, offset: int) -> httpx.Response:
        # Asking for a range at once shows whether the server takes ranges; an encoding would shift offsets.
        headers = {"Range": f"bytes={offset}-", "Accept-Encoding": "identity", "Accept": "*/*"}
        response = network.get(
            self._client,
            self._url,
            headers,
            allow_private=self._settings.allow_private_hosts,
            trusted=self._trusted,
        )
        if response.status_code in (200, 206):
            return response
        response.close()
        raise self._refusal(response)

    def _refusal(self, response: httpx.Response) -> UploadError:
        status = response.status_code
        if status == 416 and _total_bytes(response) == 0:
            return PermanentError("empty_media", f"{self._place} is empty", stage="fetch")
        message = f"{self._place}: HTTP {status} {response.reason_phrase}".rstrip()
        kind = TransientError if status >= 500 or status in _WORTH_A_RETRY else PermanentError
        return kind("http_status", message, stage="fetch")

    def _follow(self, response: httpx.Response, offset: int) -> None:
        self._response = response
        self._chunks: Iterator[bytes] = response.iter_raw()
        self._rest = b""
        self._position = offset
        self._followed_from = offset

    def _read_on(self, offset: int) -> None:
        while self._position < offset and self._take(min(BLOCK_BYTES, offset - self._position)):
            pass

    def _take(self, size: int) -> bytes:
        """The next `size` bytes of the stream; fewer only at its end."""
        deadline = time.monotonic() + self._settings.read_timeout_s
        parts: list[bytes] = []
        while size > 0:
            self._rest = self._rest or self._next_chunk()
            if not self._rest:
                break
            part, self._rest = self._rest[:size], self._rest[size:]
            parts.append(part)
            size -= len(part)
            self._advance(len(part))
            if size > 0 and time.monotonic() > deadline:
                raise TransientError("fetch_timeout", f"{self._place} is too slow", stage="fetch")
        return b"".join(parts)

    def _advance(self, count: int) -> None:
        self._position += count
        metrics.fetched_bytes.labels(self._url.scheme).inc(count)
        if self._position > self._settings.max_bytes:
            check_size(self._position, self._place, self._settings)

    def _next_chunk(self) -> bytes:
        while True:
            try:
                chunk = next(self._chunks, b"")
            except httpx.ReadTimeout as error:
                raise TransientError("fetch_timeout", f"{self._place} went silent", stage="fetch") from error
            except httpx.TransportError as error:
                self._resume(error)
                continue
            if not chunk and self._position == 0:
                check_size(0, self._place, self._settings)
            return chunk

    def _resume(self, cut: httpx.TransportError) -> None:
        if self._position - self._followed_from >= HEALTHY_BYTES:
            self._resumes = 0
        self._resumes += 1
        if self._copy is not None or self._resumes > MAX_RESUMES:
            message = f"{self._place} was cut after {self._position} bytes: {cut}"
            raise TransientError("connection_lost", message, stage="fetch") from cut
        self._request_from(self._position)

    def _read_copied(self, copy: IO[bytes], offset: int, size: int) -> bytes:
        try:
            while self._position < offset + size:
                block = self._take(min(BLOCK_BYTES, offset + size - self._position))
                if not block:
                    break
                copy.seek(self._position - len(block))
                copy.write(block)
            copy.seek(offset)
            return copy.read(size)
        except OSError as error:
            message = f"no temporary copy of {self._place}: {error.strerror}"
            raise TransientError("no_space", message, stage="fetch") from error

    def _fingerprint(self, response: httpx.Response) -> str:
        headers = response.headers
        validator = headers.get("etag") or headers.get("last-modified") or self._url.path
        return fingerprint(validator, _total_bytes(response))


def _total_bytes(response: httpx.Response) -> int | None:
    if response.status_code == 200:
        length = response.headers.get("content-length", "")
    else:
        length = response.headers.get("content-range", "").rpartition("/")[2]
    return int(length) if re.fullmatch(r"\d{1,18}", length) else None


def _range_start(response: httpx.Response) -> int | None:
    found = re.match(r"bytes (\d{1,18})-", response.headers.get("content-range", ""))
    return int(found[1]) if found and response.status_code == 206 else None
