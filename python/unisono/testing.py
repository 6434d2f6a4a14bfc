"""Tests of programs that use `unisono`, without a network.

A `FakeTransport` is a real server on a Unix socket, to which clients and batches connect whatever their addresses say.
So limits, repeats, timeouts and effects are those of the engine, and not those of a stand-in. It speaks HTTP/1.1, in
plain text and over TLS, by a certificate whose key is public: what connects to it verifies none, and connects nowhere
else.

A `FakeServer` is the same by an address, for whatever takes one: commands, programs in other processes, other clients.
It runs in a process of its own (`unisono demo --serve`), so that it leaves no thread in the program that is tested and
waits for no lock of that. Both have the same words for the same things.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json as json_format
import os
import re
import shutil
import socket
import socketserver
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import NoneType, TracebackType
from typing import IO, Any, Literal, Self, cast
from urllib.parse import urlsplit

from unisono import _command, _native
from unisono._batches.results import read_results
from unisono._http.headers import Headers
from unisono._keywords import told
from unisono._options import Pairs, StrPath, Time
from unisono.errors import Error, RunError, UsageError

__all__ = ["FakeServer", "FakeTransport", "ReceivedRequest", "Rule", "UnexpectedRequest"]

Fault = Literal["reset", "cut", "silence"]


class UnexpectedRequest(Error, AssertionError):
    """A program has asked for something that no rule of its `FakeTransport` or `FakeServer` is for."""


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as it came in, each attempt of its own.

    Attributes:
        method: How.
        url: Scheme, host and target, as a server sees them: without user name and password.
        headers: Its headers, with those that the engine adds.
        content: Its body.
        time: When it was there, in seconds as of `time.time()`.
    """

    method: str
    url: str
    headers: Headers
    content: bytes = b""
    time: float = 0.0

    def json(self) -> Any:
        """The body as JSON."""
        return json_format.loads(self.content)


@dataclass(eq=False, repr=False)
class Rule:
    """What is answered to requests of one kind; made by `on` of a `FakeTransport` or a `FakeServer`.

    Attributes:
        method: How; `*` for any way.
        url: A pattern for the address.
        status, headers, content: The answer.
        error: What happens in its place.
        delay: Seconds that it takes.
        times: For how many requests it is; `None` for any number.
        requests: Those that it was for.
    """

    method: str
    url: str
    status: int
    headers: list[tuple[str, str]]
    content: bytes
    error: Fault | None
    delay: float
    times: int | None
    _requests: list[ReceivedRequest] = field(default_factory=list)
    # Has those noted that came in since the last look.
    _look: Callable[[], object] = lambda: None

    def __repr__(self) -> str:
        return f"<Rule {self.method} {self.url}: {self.error or self.status}>"

    @property
    def requests(self) -> list[ReceivedRequest]:
        """The requests that it was for, in order."""
        self._look()
        return self._requests

    def _fits(self, request: ReceivedRequest) -> bool:
        is_used_up = self.times is not None and len(self._requests) >= self.times
        if is_used_up or self.method not in ("*", request.method):
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

    @told("FakeTransport.on")
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
        delay: Time = 0,
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
            delay: How long the answer takes, in seconds or as `"1.5s"`.
            times: For so many requests; then rules behind it answer. Rules with `times=1` are a sequence.

        Raises:
            UsageError: An answer cannot be as it is said.
        """
        rule = _rule("FakeTransport", method, url, status, headers, json, content, error, delay, times)
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
        _refuse_unexpected(self.unexpected, self._rules)

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
                    rule._requests.append(request)
                    return rule
            self.unexpected.append(request)
            return None


class FakeServer:
    """A server on loopback that answers by rules, in a process of its own; as the pytest fixture `unisono_server`.

    The first rule that fits a request answers it. What no rule is for gets status 501, and is an error at the end of
    the block.

    Attributes:
        url: Where it is, as `http://127.0.0.1:40123`.

    >>> with FakeServer() as server:
    ...     server.on("GET", "/users/*", status=503, times=1)
    ...     server.on("GET", "/users/*", json={"name": "ann"})
    ...     (outcome,) = unisono.fetch([f"{server.url}/users/7"])
    ...     outcome.result.json(), outcome.attempts, [request.method for request in server.requests]
    <Rule GET /users/*: 503>
    <Rule GET /users/*: 200>
    ({'name': 'ann'}, 2, ['GET', 'GET'])
    """

    def __init__(self) -> None:
        command = _command.native()
        if command is None:
            raise RunError(f"there is no command `unisono` in {_command.folders()[0]}: install the package again")
        self._rules: list[Rule] = []
        self._requests: list[ReceivedRequest] = []
        self._unexpected: list[ReceivedRequest] = []
        # A wish and its answer belong together.
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)
        # In a group of its own: Ctrl-C is for the tests, which then say that it is to end.
        self._process = subprocess.Popen(
            [command, "demo", "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
        )
        self._wishes = cast("IO[bytes]", self._process.stdin)
        self._answers = cast("IO[bytes]", self._process.stdout)
        self._is_open = True
        self.url = ""
        try:
            self.url = self._answer()["url"]
        except BaseException:
            self._end()
            raise

    @property
    def requests(self) -> list[ReceivedRequest]:
        """All that came in, in order, each attempt of its own."""
        self._look()
        return self._requests

    @property
    def unexpected(self) -> list[ReceivedRequest]:
        """Those that no rule was for."""
        self._look()
        return self._unexpected

    @told("FakeServer.on")
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
        delay: Time = 0,
        rate: str | None = None,
        times: int | None = None,
    ) -> Rule:
        """Say what is answered to a kind of requests. Rules are looked at in the order in which they were made.

        Args:
            method: Such as `GET`; `*` for any.
            url: A path (`/users`), or the whole address. `*` stands for anything. Without `?` in it, what stands behind
                that in a request does not matter.
            status: The status.
            headers: Headers of the answer.
            json: A body as JSON.
            content: A body as it is sent.
            error: `"reset"`: the connection is reset without an answer; `"cut"`: closed in the middle of the body;
                `"silence"`: nothing comes until the client gives up.
            delay: How long the answer takes, in seconds or as `"1.5s"`.
            rate: How often it is given, as `"10/s"` or `"100/m burst 20"`. What is beyond that gets 429 with
                `Retry-After`.
            times: For so many requests; then rules behind it answer. Rules with `times=1` are a sequence. What `rate`
                refuses does not count.

        Raises:
            UsageError: An answer cannot be as it is said.
        """
        rule = _rule("FakeServer", method, url, status, headers, json, content, error, delay, times)
        if not isinstance(rate, (str, NoneType)):
            raise UsageError(f'FakeServer.on: rate says in which time, as "{rate}/s", not {rate!r}')
        rule._look = self._look
        words = {
            "method": rule.method,
            "url": rule.url,
            "status": rule.status,
            "headers": rule.headers,
            "content": rule.content.decode("latin-1"),
            "error": rule.error,
            "delay": rule.delay,
            "rate": rate,
            "times": rule.times,
        }
        with self._lock:
            self._ask({"rule": words})
            self._rules.append(rule)
        return rule

    def check(self) -> None:
        """Raise what no rule was for.

        Raises:
            UnexpectedRequest: There was something.
        """
        _refuse_unexpected(self.unexpected, self._rules)

    def close(self) -> None:
        """Answer no more; what came in is still known."""
        with self._lock:
            if not self._is_open:
                return
            try:
                self._look()
            finally:
                self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if kind is None:
            self.check()

    def __repr__(self) -> str:
        return f"<FakeServer {self.url} {'open' if self._is_open else 'closed'}, {len(self._rules)} rules>"

    def _end(self) -> None:
        self._is_open = False
        self._process.kill()
        self._process.wait()
        self._answers.close()
        with contextlib.suppress(BrokenPipeError):
            self._wishes.close()

    def _look(self) -> None:
        """Note what came in since the last look."""
        with self._lock:
            if not self._is_open:
                return
            for request in self._ask({"requests": len(self._requests)})["requests"]:
                received = ReceivedRequest(
                    request["method"],
                    request["url"],
                    Headers(tuple(pair) for pair in request["headers"]),
                    request["content"].encode("latin-1"),
                    request["time"],
                )
                self._requests.append(received)
                rule = request["rule"]
                (self._unexpected if rule is None else self._rules[rule]._requests).append(received)

    def _ask(self, wish: dict[str, Any]) -> dict[str, Any]:
        if not self._is_open:
            raise UsageError("the FakeServer is closed: make another one, or leave its block later")
        number = next(self._numbers)
        with contextlib.suppress(BrokenPipeError):
            self._wishes.write(json_format.dumps({"wish": number, **wish}).encode() + b"\n")
            self._wishes.flush()
        # One that was interrupted, as by Ctrl-C, has left its answer.
        while (answer := self._answer()).get("to") != number:
            pass
        if "error" in answer:
            raise UsageError(f"FakeServer.on: {answer['error']}")
        return answer

    def _answer(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line.endswith(b"\n"):
            raise RunError(f"the process of this FakeServer has ended, with status {self._process.wait()}")
        answer: dict[str, Any] = json_format.loads(line)
        return answer


def _rule(
    called: str,
    method: str,
    url: str,
    status: int,
    headers: Pairs | None,
    json: Any,
    content: str | bytes | None,
    error: Fault | None,
    delay: Time,
    times: int | None,
) -> Rule:
    """A rule, if it can be one."""
    for name, text in (("method", method), ("url", url)):
        if not isinstance(text, str):
            raise UsageError(f"{called}.on: {name} must be text, not {text!r}")
    if not url.startswith(("/", "*")) and "://" not in url:
        raise UsageError(f"{called}.on: url is a path that begins with `/`, or a whole address, not {url!r}")
    if not isinstance(content, (str, bytes, NoneType)):
        raise UsageError(f"{called}.on: content must be text or bytes, not {content!r}: for a value there is json=")
    if json is not None and content is not None:
        raise UsageError(f"{called}.on: an answer has one body, `json` or `content`")
    if error not in (None, "reset", "cut", "silence"):
        raise UsageError(f'{called}.on: error is "reset", "cut" or "silence", not {error!r}')
    if times is not None:
        _native.whole("times", times)
    pause = _native.span("delay", delay)
    if pause is None:
        raise UsageError(f'{called}.on: what never comes is error="silence", and no delay')
    pairs = list(cast("Mapping[str, Any]", headers).items() if isinstance(headers, Mapping) else headers or ())
    pairs = [(name, str(value)) for name, value in pairs]
    for pair in pairs:
        if any(ord(letter) > 255 or letter in "\r\n\0" for text in pair for letter in text):
            raise UsageError(f"{called}.on: a header is a line of Latin-1, not {': '.join(pair)!r}")
    if json is not None:
        content = json_format.dumps(json)
        pairs = [("Content-Type", "application/json"), *pairs]
    body = content.encode() if isinstance(content, str) else content or b""
    whole = _native.whole("status", status, least=200, most=599)
    return Rule(method.upper(), url, whole, pairs, body, error, pause, times)


def _refuse_unexpected(unexpected: list[ReceivedRequest], rules: list[Rule]) -> None:
    if not unexpected:
        return
    asked = ", ".join(f"{request.method} {request.url}" for request in unexpected[:_MOST_SHOWN])
    more = f" and {len(unexpected) - _MOST_SHOWN} more" if len(unexpected) > _MOST_SHOWN else ""
    known = "; ".join(f"{rule.method} {rule.url}" for rule in rules) or "none"
    raise UnexpectedRequest(f"no rule is for {asked}{more} (rules: {known})")


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
        request = ReceivedRequest(self.command, url, Headers(self.headers.items()), content, time.time())
        rule = self.server.transport._rule_for(request)
        if rule is not None and rule.delay:
            # Until then, or until the transport is closed.
            self.server.is_over.wait(rule.delay)
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
