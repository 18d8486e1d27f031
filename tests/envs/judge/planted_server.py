"""A server that speaks like OpenAI's, and vLLM's, and does what the judged response asks for."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BEGIN, END = "<<", ">>"  # around the response in the judge's template
TEMPLATE = f"Q: {{problem}} A: {{answer}} R: {BEGIN}{{response}}{END}"


class PlantedServer:
    """Answers requests by what stands between `<<` and `>>` in them.

    Attributes:
        asked: How often each response was judged.
        bodies: The bodies of all requests.
        keys: Their `Authorization` headers.
        times: When each response was judged, in seconds of the monotonic clock.
        most_at_once: Most requests that were under way at a time.
        kind_of: What to do with a response; by default what it says itself.
        gate: Requests for "meet" are answered when so many of them are there.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.times: dict[str, list[float]] = {}
        self.most_at_once = 0
        self.kind_of: Callable[[str], str] = str
        self.gate = threading.Barrier(1)
        self.is_over = threading.Event()
        self._at_once = 0
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self) -> str:
        """Address for an OpenAI client."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def close(self) -> None:
        """Ends the server and everything that waits in it."""
        self.is_over.set()
        self.gate.abort()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                said = body.get("input") or body["messages"][-1]["content"]
                if BEGIN in said:
                    said = said[said.index(BEGIN) + len(BEGIN) : said.rindex(END)]
                response = said
                with server._lock:
                    server.asked[response] += 1
                    server.bodies.append(body)
                    server.keys.append(self.headers["Authorization"])
                    server.times.setdefault(response, []).append(time.monotonic())
                    number = server.asked[response]
                with server._counted():
                    self.answer(server.kind_of(response), number)

            def answer(self, response: str, number: int) -> None:
                kind, _, rest = response.partition(" ")
                match kind:
                    case "limited":
                        self.send_text(429, '{"error": {"message": "too many"}}')
                    case "limited-once" if number == 1:
                        self.send_text(429, "{}", {"Retry-After": "1"})
                    case "broken":
                        self.send_text(503, "oops")
                    case "broken-once" if number == 1:
                        self.send_text(500, "oops")
                    case "refused":
                        key = self.headers["Authorization"]
                        self.send_text(400, json.dumps({"error": {"message": f"no to {key}"}}))
                    case "slow":
                        server.is_over.wait(60)
                    case "drip":
                        self.drip()
                    case "cut":
                        self.close_connection = True
                    case "html":
                        self.send_text(200, "<html>", {"Content-Type": "text/html"})
                    case "garbage":
                        self.send_text(200, '{"choices": [')
                    case "list":
                        self.send_text(200, "[1, 2]")
                    case "empty":
                        self.send_text(200, '{"choices": []}')
                    case "null":
                        self.send_said(None)
                    case "chatter":
                        self.send_said("I like it a lot.")
                    case "meet":
                        server.gate.wait(60)
                        self.send_said("Score: 1")
                    case _ if self.path == "/classify":
                        self.send_outputs([float(number) for number in rest.split()])
                    case _:
                        self.send_said(f"Hm. Score: {rest or 0.5}")

            def send_outputs(self, outputs: list[float]) -> None:
                data = [{"index": 0, "label": "x", "probs": outputs, "num_classes": len(outputs)}]
                usage = {"prompt_tokens": 10, "total_tokens": 10}
                answer = {"id": "1", "object": "list", "data": data, "usage": usage}
                self.send_text(200, json.dumps(answer))

            def send_said(self, text: str | None) -> None:
                message = {"role": "assistant", "content": text}
                usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
                completion = {
                    "id": "1",
                    "object": "chat.completion",
                    "created": 0,
                    "model": "m",
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    "usage": usage,
                }
                self.send_text(200, json.dumps(completion))

            def send_text(self, status: int, text: str, headers: Any = None) -> None:
                data = text.encode()
                self.send_response(status)
                fields = {"Content-Type": "application/json", "Content-Length": str(len(data))}
                for name, value in {**fields, **(headers or {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def drip(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "100000")
                self.end_headers()
                while not server.is_over.wait(0.05):
                    try:
                        self.wfile.write(b" ")
                    except OSError:
                        return

        return Handler
