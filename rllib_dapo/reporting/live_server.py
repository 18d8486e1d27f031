"""The page of a run that goes on, served to a browser on this machine and to nobody else."""

from __future__ import annotations

import gzip
import json
import secrets
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from rllib_dapo.findings import SettingsError
from rllib_dapo.reporting.live_run import LiveRun
from rllib_dapo.reporting.render_page import page_parts, render_page

HOST = "127.0.0.1"
_WAITING = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">
<title>waiting</title></head>
<body style="font-family:system-ui,sans-serif;margin:3rem"><h1>Waiting for the run</h1>
<p>{problem}</p></body></html>
"""


class LiveServer(ThreadingHTTPServer):
    """Answers two addresses, `/` with the page and `/data` with its figures.

    Every other address does not exist, and none is told to exist without the token.
    """

    daemon_threads = True  # a browser that keeps its connection does not keep the command

    def __init__(self, run: LiveRun, *, port: int = 0) -> None:
        """Takes the port, and answers nothing before `serve_forever`.

        Args:
            run: What is shown.
            port: Port on the loopback address; 0 for any free one.

        Raises:
            SettingsError: If the port cannot be had.
        """
        self.run = run
        self.token = secrets.token_urlsafe(24)
        try:
            super().__init__((HOST, port), LiveRequest)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SettingsError(
                f"--port {port}: cannot be used ({reason.lower()}): name another, or 0 for any"
            ) from error

    @property
    def url(self) -> str:
        """The address of the page, with the token."""
        return f"http://{HOST}:{self.server_port}/?token={self.token}"


class LiveRequest(BaseHTTPRequestHandler):
    """One request of a browser."""

    server: LiveServer
    timeout = 60

    def do_GET(self) -> None:
        """Answers with the page or its figures."""
        address = urlsplit(self.path)
        query = parse_qs(address.query)
        given = query.get("token", [""])[0]
        if not secrets.compare_digest(given.encode(), self.server.token.encode()):
            self._send(HTTPStatus.FORBIDDEN, "text/plain", "the address needs its token\n")
        elif address.path == "/":
            self._send_page()
        elif address.path == "/data":
            self._send_data(query.get("version", [""])[0])
        else:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", "there is nothing here\n")

    def _send_page(self) -> None:
        newest = self.server.run.newest()
        if newest is None:
            text = _WAITING.format(problem=escape(self.server.run.problem))
        else:
            text = render_page(newest.content, is_live=True)
        self._send(HTTPStatus.OK, "text/html", text)

    def _send_data(self, known: str) -> None:
        newest = self.server.run.newest()
        if newest is None or newest.version == known:
            self._send(HTTPStatus.NO_CONTENT, "application/json", "")
            return
        parts = {"version": newest.version, **page_parts(newest.content)}
        text = json.dumps(parts, allow_nan=False, separators=(",", ":"))
        self._send(HTTPStatus.OK, "application/json", text)

    def _send(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode("utf-8", errors="replace")
        is_compressed = len(body) > 10_000 and "gzip" in self.headers.get("Accept-Encoding", "")
        if is_compressed:
            body = gzip.compress(body, 5)

        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        if is_compressed:
            self.send_header("Content-Encoding", "gzip")
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: an address in a terminal's log would hold the token."""
