"""A real HTTP server on loopback for the tests of the faces."""

from __future__ import annotations

import collections
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from support.processes import until


class Server(ThreadingHTTPServer):
    """Keeps a ledger of what came in, and holds answers back until it is told to let them go."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), Handler)
        self.lock = threading.Lock()
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        # When each of them came, in seconds.
        self.times: list[float] = []
        self.counts: collections.Counter[str] = collections.Counter()
        self.in_flight = 0
        self.most_in_flight = 0
        self.gate = threading.Event()
        # What is answered to `/bodies/NAME`, byte for byte.
        self.bodies: dict[str, bytes] = {}
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def paths(self) -> list[str]:
        with self.lock:
            return [path for _, path, _, _ in self.requests]

    def wait_until(self, condition) -> None:
        until(condition)

    def handle_error(self, request, client_address) -> None:
        """Clients go away in the middle; that is what is tested."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server
    wbufsize = -1

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        server = self.server
        with server.lock:
            server.times.append(time.monotonic())
            server.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            server.counts[self.path] += 1
            count = server.counts[self.path]
            server.in_flight += 1
            server.most_in_flight = max(server.most_in_flight, server.in_flight)
        try:
            self.answer(self.path.split("?")[0].strip("/").split("/"), body, count)
            self.wfile.flush()
        finally:
            with server.lock:
                server.in_flight -= 1

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_HEAD = do_GET

    def answer(self, parts: list[str], body: bytes, count: int) -> None:
        name, *rest = parts
        if name == "items" and rest:
            self.reply(200, {"id": int(rest[0]) if rest[0].isdigit() else rest[0], "name": "item"})
        elif name == "bodies":
            self.reply_bytes(200, self.server.bodies[rest[0]])
        elif name == "status":
            self.reply(int(rest[0]), {"status": int(rest[0])})
        elif name == "flaky":
            self.reply(503 if count <= int(rest[0]) else 200, {"count": count})
        elif name == "throttled":
            headers = {"Retry-After": rest[0]} if count == 1 else {}
            self.reply(429 if count == 1 else 200, {"count": count}, headers)
        elif name == "later":
            self.reply(429, {}, {"Retry-After": "3600"})
        elif name == "held":
            # Until the test lets it go, or is over: the fixture opens the gate then.
            self.server.gate.wait()
            self.reply(200, {"held": True})
        elif name == "orders":
            self.reply(201, {"order": json.loads(body)["order"]})
        elif name == "big":
            self.reply(200, {"id": int(rest[0]), "text": "x" * 200_000})
        elif name == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"x" * 400_000)
            self.close_connection = True
        elif name == "torn-gzip":
            self.reply_bytes(200, b"this is no gzip", {"Content-Encoding": "gzip"})
        elif name == "drop":
            self.close_connection = True
        elif name == "echo":
            headers = {k.lower(): v for k, v in self.headers.items()}
            shown = {"method": self.command, "path": self.path, "headers": headers, "body": body.decode()}
            self.reply(200, shown)
        elif name == "redirect":
            self.reply(302, {}, {"Location": "/items/1"})
        elif name == "pages":
            number = int(rest[0])
            headers = {"Link": f'</pages/{number + 1}>; rel="next"'} if number < 3 else {}
            self.reply(200, {"page": number}, headers)
        elif name == "held-pages" and rest == ["1"]:
            self.reply(200, {"page": 1}, {"Link": '</held-pages/2>; rel="next"'})
        elif name == "held-pages":
            # The first time it is held until the test lets it go; then it is refused.
            self.server.gate.wait()
            self.reply(200 if count == 1 else 400, {"page": 2})
        elif name == "stream":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for number in range(int(rest[0])):
                chunk = f"line {number}\n".encode()
                self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        elif name == "cookie":
            self.reply(200, {"cookie": self.headers.get("cookie")}, {"Set-Cookie": "session=abc; Path=/"})
        elif name == "private":
            fine = self.headers.get("authorization") == f"Bearer {rest[0]}"
            self.reply(200 if fine else 401, {})
        else:
            self.reply(404, {"error": "missing"})

    def reply(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        self.reply_bytes(status, json.dumps(value).encode(), headers)

    def reply_bytes(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, text in (headers or {}).items():
            self.send_header(key, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextlib.contextmanager
def back(port: int) -> Iterator[Server]:
    """The host that was away at this port is back."""
    server = Server(port)
    yield server
    server.gate.set()
    server.shutdown()
    server.server_close()
