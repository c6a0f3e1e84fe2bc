"""`/metrics` for Prometheus, `/livez` and `/readyz` for whoever restarts and rolls out."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from consumer.errors import SettingsError
from consumer.settings import HttpSettings


class HealthServer:
    """Serves on its own thread. Alive means that the poll loop turns, not that the broker is there: restarting
    cannot mend a broker. Ready means that models are loaded and partitions were assigned once."""

    def __init__(self, settings: HttpSettings, alive: Callable[[], bool], ready: Callable[[], bool]) -> None:
        """Raises SettingsError when the port is taken."""
        checks = {"/livez": alive, "/readyz": ready}

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest())
                elif path in checks:
                    well = checks[path]()
                    self._answer(200 if well else 503, "text/plain", b"ok\n" if well else b"no\n")
                else:
                    self._answer(404, "text/plain", b"/metrics, /livez or /readyz\n")

            def _answer(self, status: int, content_type: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Scrapes are not news."""

        try:
            self._server = ThreadingHTTPServer((settings.host, settings.port), Handler)
        except OSError as error:
            raise SettingsError(
                f"cannot serve /metrics on {settings.host}:{settings.port}: {error.strerror}; "
                "set TAGSTREAM_HTTP__PORT to a free port (0 lets the system choose one)"
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
