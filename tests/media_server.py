"""A real HTTP server that serves media well, badly, or not at all."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CUT_AFTER_BYTES = 300_000


class MediaServer(ThreadingHTTPServer):
    """Serves `content` under paths that name the behaviour; `requests`: path, Range and Host asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = b""
        self.etag = '"one"'
        self.location = "/"
        self.requests: list[tuple[str, str | None, str | None]] = []
        self.closing = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what many tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: MediaServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.close_connection = True
        self.server.requests.append((self.path, self.headers["Range"], self.headers["Host"]))
        behaviour = self.path.split("/")[1].partition("?")[0]
        getattr(self, f"_{behaviour}")()

    def log_message(self, *_: object) -> None:
        pass

    def _ranges(self) -> None:
        """Takes ranges, and says so by 206."""
        self._send_from(self._range_start(), limit=None)

    def _cut(self) -> None:
        """Takes ranges, and hangs up after CUT_AFTER_BYTES."""
        self._send_from(self._range_start(), limit=CUT_AFTER_BYTES)

    def _cut_at_once(self) -> None:
        """Takes ranges, and hangs up before the first byte of any range but the first."""
        self._send_from(self._range_start(), limit=0 if self._range_start() else CUT_AFTER_BYTES)

    def _plain(self) -> None:
        """Takes no ranges."""
        self._head(200, {"Content-Length": str(len(self.server.content))})
        self.wfile.write(self.server.content)

    def _plain_cut(self) -> None:
        self._head(200, {"Content-Length": str(len(self.server.content))})
        self.wfile.write(self.server.content[:CUT_AFTER_BYTES])

    def _chunked(self) -> None:
        """Takes no ranges and does not say how long it is."""
        self._head(200, {"Transfer-Encoding": "chunked"})
        for start in range(0, len(self.server.content), 50_000):
            chunk = self.server.content[start : start + 50_000]
            self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def _hang(self) -> None:
        self.server.closing.wait()

    def _stall(self) -> None:
        """Sends the head and the first half, then nothing."""
        self._head(200, {"Content-Length": str(len(self.server.content))})
        self.wfile.write(self.server.content[: len(self.server.content) // 2])
        self.wfile.flush()
        self.server.closing.wait()

    def _drip(self) -> None:
        """Sends a byte again and again: never silent for long, never done."""
        self._head(200, {"Content-Length": str(len(self.server.content))})
        while not self.server.closing.wait(0.05):
            self.wfile.write(b"x")

    def _status(self) -> None:
        self._head(int(self.path.split("/")[2].partition("?")[0]), {"Content-Length": "0"})

    def _redirect(self) -> None:
        self._head(302, {"Location": self.server.location, "Content-Length": "0"})

    def _send_from(self, start: int, limit: int | None) -> None:
        total = len(self.server.content)
        if start >= total:
            self._head(416, {"Content-Range": f"bytes */{total}", "Content-Length": "0"})
            return
        rest = self.server.content[start:]
        self._head(206, {"Content-Range": f"bytes {start}-{total - 1}/{total}", "Content-Length": str(len(rest))})
        self.wfile.write(rest[:limit])

    def _range_start(self) -> int:
        found = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        return int(found[1]) if found else 0

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"ETag": self.server.etag, "Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def serving() -> Iterator[MediaServer]:
    with MediaServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
