"""Tests of programs that use `unisono`, without a network.

A `FakeTransport` is a real server on a Unix socket, to which clients and batches connect whatever their addresses say.
So limits, repeats, timeouts and effects are those of the engine, and not those of a stand-in. It speaks HTTP/1.1, in
plain text and over TLS, by a certificate whose key is public: what connects to it verifies none, and connects nowhere
else.
"""

from __future__ import annotations

import base64
import contextlib
import json as json_format
import os
import re
import shutil
import socket
import socketserver
import ssl
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast
from urllib.parse import urlsplit

from unisono import _native
from unisono._batches.results import read_results
from unisono._http.headers import Headers
from unisono._options import Pairs, StrPath
from unisono.errors import Error, UsageError

__all__ = ["FakeTransport", "ReceivedRequest", "Rule", "UnexpectedRequest"]

Fault = Literal["reset", "cut", "silence"]


class UnexpectedRequest(Error, AssertionError):
    """A program has asked for something that no rule of its `FakeTransport` is for."""


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as it came in, each attempt of its own.

    Attributes:
        method: How.
        url: Scheme, host and target, as a server sees them: without user name and password.
        headers: Its headers, with those that the engine adds.
        content: Its body.
    """

    method: str
    url: str
    headers: Headers
    content: bytes = b""

    def json(self) -> Any:
        """The body as JSON."""
        return json_format.loads(self.content)


@dataclass(eq=False, repr=False)
class Rule:
    """What is answered to requests of one kind; made by `FakeTransport.on`.

    Attributes:
        method: How; `*` for any way.
        url: A pattern for the address.
        status, headers, content: The answer.
        error: What happens in its place.
        times: How many requests it is still for; `None` for any number.
        requests: Those that it was for.
    """

    method: str
    url: str
    status: int
    headers: list[tuple[str, str]]
    content: bytes
    error: Fault | None
    times: int | None
    requests: list[ReceivedRequest] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<Rule {self.method} {self.url}: {self.error or self.status}>"

    def _fits(self, request: ReceivedRequest) -> bool:
        if self.times == 0 or self.method not in ("*", request.method):
            return False
        url = request.url
        if self.url.startswith("/"):
            parts = urlsplit(url)
            url = url.removeprefix(f"{parts.scheme}://{parts.netloc}")
        pattern = re.escape(self.url).replace(r"\*", ".*") + ("" if "?" in self.url else r"(\?.*)?")
        return re.fullmatch(pattern, url, re.DOTALL) is not None


class FakeTransport:
    """Answers the requests of clients and batches by rules: `Client(transport=fake)`, `fetch(..., transport=fake)`.

    The first rule that fits a request answers it. What no rule is for gets status 501 and is an error: a call of a
    client raises `UnexpectedRequest`, and so does the end of the block.

    Attributes:
        requests: All that came in, in order, each attempt of its own.
        unexpected: Those that no rule was for.

    >>> with FakeTransport() as fake:
    ...     fake.on("GET", "https://api.example/users/*", json={"name": "ann"})
    ...     with unisono.Client(base_url="https://api.example", transport=fake) as client:
    ...         client.get("/users/7").json(), fake.requests[0].url
    <Rule GET https://api.example/users/*: 200>
    ({'name': 'ann'}, 'https://api.example/users/7')
    """

    def __init__(self) -> None:
        self.requests: list[ReceivedRequest] = []
        self.unexpected: list[ReceivedRequest] = []
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        # A path of a socket has some 100 bytes at most, which that of a test's folder may exceed.
        self._folder = tempfile.mkdtemp(prefix="unisono-")
        self._server = _Server(os.path.join(self._folder, "socket"), self)  # noqa: PTH118 (it is given as text)
        self._is_open = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="unisono-fake", daemon=True).start()

    @classmethod
    def of_results(cls, results: StrPath) -> Self:
        """One that answers what an earlier run was answered, by its results file (`out=`, `--output`).

        Each line with a status is a rule for its method and address; where there are several for one, the last answers
        all further ones. Headers are there if the run wrote them (`include_headers=True`).
        """
        lines = [line for line in read_results(results) if line.get("status") is not None and line.get("url")]
        last = {(line["method"], line["url"]): line for line in lines}
        fake = cls()
        # An address without parameters fits those with them too, so it is looked at last.
        for line in sorted(lines, key=lambda line: "?" not in line["url"]):
            headers = {name: value for name, value in line.get("headers", {}).items() if name not in _OF_SENDING}
            times = None if last[line["method"], line["url"]] is line else 1
            fake.on(line["method"], line["url"], status=line["status"], headers=headers, times=times, **_body_of(line))
        return fake

    def on(
        self,
        method: str,
        url: str,
        *,
        status: int = 200,
        headers: Pairs | None = None,
        json: Any = None,
        content: str | bytes | None = None,
        error: Fault | None = None,
        times: int | None = None,
    ) -> Rule:
        """Say what is answered to a kind of requests. Rules are looked at in the order in which they were made.

        Args:
            method: Such as `GET`; `*` for any.
            url: The whole address, or a path (`/users`) at any host. `*` stands for anything. Without `?` in it, what
                stands behind that in a request does not matter.
            status: The status.
            headers: Headers of the answer.
            json: A body as JSON.
            content: A body as it is sent.
            error: `"reset"`: the connection is closed without an answer; `"cut"`: in the middle of the body;
                `"silence"`: nothing comes until the client gives up.
            times: For so many requests; then rules behind it answer. Rules with `times=1` are a sequence.

        Raises:
            UsageError: An answer cannot be as it is said.
        """
        if json is not None and content is not None:
            raise UsageError("FakeTransport.on: an answer has one body, `json` or `content`")
        if error not in (None, "reset", "cut", "silence"):
            raise UsageError(f'FakeTransport.on: error is "reset", "cut" or "silence", not {error!r}')
        if times is not None:
            _native.whole("times", times)
        pairs = list(cast("Mapping[str, Any]", headers).items() if isinstance(headers, Mapping) else headers or ())
        pairs = [(name, str(value)) for name, value in pairs]
        if json is not None:
            content = json_format.dumps(json)
            pairs = [("Content-Type", "application/json"), *pairs]
        body = content.encode() if isinstance(content, str) else content or b""
        whole = _native.whole("status", status, least=200, most=599)
        rule = Rule(method.upper(), url, whole, pairs, body, error, times)
        with self._lock:
            self._rules.append(rule)
        return rule

    def connection_options(self) -> Mapping[str, Any]:
        """The options of a client or batch that have it connect here."""
        if not self._is_open:
            raise UsageError("the FakeTransport is closed: make another one, or leave its block later")
        return {"unix_socket": self._server.path, "verify": False, "proxy": ""}

    def check(self) -> None:
        """Raise what no rule was for.

        Raises:
            UnexpectedRequest: There was something.
        """
        if not self.unexpected:
            return
        asked = ", ".join(f"{request.method} {request.url}" for request in self.unexpected[:_MOST_SHOWN])
        more = f" and {len(self.unexpected) - _MOST_SHOWN} more" if len(self.unexpected) > _MOST_SHOWN else ""
        rules = "; ".join(f"{rule.method} {rule.url}" for rule in self._rules) or "none"
        raise UnexpectedRequest(f"no rule is for {asked}{more} (rules: {rules})")

    def close(self) -> None:
        """Answer no more; what is silent ends."""
        if self._is_open:
            self._is_open = False
            self._server.end()
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if kind is None:
            self.check()

    def __repr__(self) -> str:
        return f"<FakeTransport {len(self._rules)} rules, {len(self.requests)} requests>"

    def _rule_for(self, request: ReceivedRequest) -> Rule | None:
        with self._lock:
            self.requests.append(request)
            for rule in self._rules:
                if rule._fits(request):
                    rule.requests.append(request)
                    if rule.times is not None:
                        rule.times -= 1
                    return rule
            self.unexpected.append(request)
            return None


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def __init__(self, path: str, transport: FakeTransport) -> None:
        self.path = path
        self.transport = transport
        self.is_over = threading.Event()
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(Path(__file__).with_suffix(".pem"))
        super().__init__(path, _Connection)

    def end(self) -> None:
        self.is_over.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients go away in the middle; that is theirs to tell."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        # What begins a handshake begins no method.
        self.scheme = "http"
        if self.request.recv(1, socket.MSG_PEEK) == b"\x16":
            self.scheme = "https"
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        # The server closes the connection that it has accepted, and TLS has taken that over.
        with contextlib.closing(self.request):
            super().finish()

    def content(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        # The end of its trailers, of which there are none.
        self.rfile.readline()
        return b"".join(pieces)

    def answer(self) -> None:
        url = self.path if "://" in self.path else f"{self.scheme}://{self.headers.get('Host', '')}{self.path}"
        content = self.content()
        request = ReceivedRequest(self.command, url, Headers(self.headers.items()), content)
        rule = self.server.transport._rule_for(request)
        if rule is None:
            said = f"no rule of the FakeTransport is for {request.method} {request.url}".encode()
            self.reply(501, [("Content-Type", "text/plain")], said, len(said))
        elif rule.error == "silence":
            self.close_connection = True
            self.wait_until_left()
        elif rule.error == "reset":
            self.close_connection = True
        elif rule.error == "cut":
            self.close_connection = True
            body = rule.content or b"{"
            self.reply(rule.status, rule.headers, body[: (len(body) + 1) // 2], len(body) + 1)
        else:
            self.reply(rule.status, rule.headers, rule.content, len(rule.content))

    do_DELETE = do_GET = do_HEAD = do_OPTIONS = do_PATCH = do_POST = do_PUT = answer  # noqa: N815 (the words of the server)

    def reply(self, status: int, headers: Iterable[tuple[str, str]], body: bytes, length: int) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)

    def wait_until_left(self) -> None:
        self.request.settimeout(_LOOK_UP)
        while not self.server.is_over.is_set():
            with contextlib.suppress(TimeoutError):
                # Nothing more is asked on a connection whose answer is still to come.
                self.request.recv(1)
                return

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (the word of the server)
        """What came in is in `requests`."""


def _body_of(line: Mapping[str, Any]) -> dict[str, Any]:
    if "body_base64" in line:
        return {"content": base64.b64decode(line["body_base64"])}
    body = line.get("body")
    return {"content": body} if isinstance(body, str) else {} if body is None else {"json": body}


# What says how a body was sent, and is no longer true of it.
_OF_SENDING = frozenset(["connection", "content-encoding", "content-length", "date", "keep-alive", "transfer-encoding"])
_MOST_SHOWN = 5
# Seconds.
_LOOK_UP = 0.05
