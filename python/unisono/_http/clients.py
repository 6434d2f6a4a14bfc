"""Clients for single calls, with the pool, limits, retries and safety of a batch."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar, Unpack, cast

from unisono import _native
from unisono._batches.listening import LoopWatch, on_loop
from unisono._forks import HomeProcess
from unisono._functions.callables import plain
from unisono._http.headers import Headers
from unisono._native import FetchOutcome, Request, Response
from unisono._options import CallOptions, ClientLimits, ClientOptions, Pairs
from unisono.errors import UsageError

Hook: TypeAlias = Callable[[Any], Any]
ReadyT = TypeVar("ReadyT")


class _Base:
    """What both clients share: options into an engine, arguments into requests."""

    def __init__(self, **options: Unpack[ClientOptions]) -> None:
        self.base_url = options.pop("base_url", "")
        self.event_hooks: dict[str, list[Hook]] = {"request": [], "response": []}
        self.event_hooks.update(options.pop("event_hooks", None) or {})
        for when in self.event_hooks.keys() - {"request", "response"}:
            raise UsageError(f"event_hooks: there are hooks for `request` and `response`, none for {when!r}")
        self._params = _pairs(options.pop("params", None))
        pairs = _pairs(options.pop("headers", None))
        cookies = options.pop("cookies", False)
        if isinstance(cookies, Mapping):
            pairs.append(("cookie", "; ".join(f"{name}={value}" for name, value in cookies.items())))
            cookies = True
        self._options = {**options, "headers": pairs, "cookies": cookies}
        self._numbers = itertools.count()
        self._engine = _native.ClientEngine(**self._options)
        self._home = HomeProcess()
        self._closed = False

    def __repr__(self) -> str:
        address = f" base_url={_native.redacted(self.base_url)!r}" if self.base_url else ""
        return f"<{type(self).__qualname__}{address} {'closed' if self._closed else 'open'}>"

    @property
    def is_closed(self) -> bool:
        """Whether it has been closed."""
        return self._closed

    def set_limits(self, **limits: Unpack[ClientLimits]) -> None:
        """Change limits; they hold from then on. A rate of `none` takes it away."""
        self._own_engine().set_limits(**limits)

    def build_request(
        self,
        method: str,
        url: str,
        *,
        params: Pairs | None = None,
        headers: Pairs | None = None,
        json: Any = None,
        content: str | bytes | None = None,
    ) -> Request:
        """The request that a call with these arguments sends, without the client's own headers."""
        merged = [*self._params, *_pairs(params)]
        return Request(
            self._joined(url), method=method, params=merged, headers=_pairs(headers), json=json, content=content
        )

    def _joined(self, url: str) -> str:
        if not self.base_url or "://" in url:
            return url
        return f"{self.base_url.rstrip('/')}/{url.lstrip('/')}" if url else self.base_url

    def _call(
        self, completions: _native.CompletionQueue, number: int, request: Request, *, stream: bool
    ) -> _native.ClientCall:
        self._refuse_if_closed()
        return self._own_engine().call(completions, number, request, stream=stream)

    def _own_engine(self) -> _native.ClientEngine:
        if not self._home.is_here():
            # A child of fork has no engine thread; it gets an engine of its own.
            self._engine = _native.ClientEngine(**self._options)
            self._home = HomeProcess()
        return self._engine

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise UsageError("the client is closed: make another one, or leave its block later")

    def _close(self) -> None:
        self._closed = True
        self._engine.close()


class Client(_Base):
    """A client for threads. Any number of them may use it at once.

    Options are those of `ClientOptions`, arguments of calls those of `CallOptions`.

    A host that is away is waited for only with `host_away=`, as `host_away="60s"`: a call has a caller that waits for
    it, and by default it ends when its `retries` are used up (docs/hosts.md).

    >>> with Client(base_url=server, headers={"Accept": "application/json"}) as client:
    ...     client.get("/items/7").raise_for_status().json()["id"]
    7
    """

    def __init__(self, **options: Unpack[ClientOptions]) -> None:
        super().__init__(**options)
        for when, hooks in self.event_hooks.items():
            for hook in hooks:
                plain(hook, f"a {when} hook of Client")
        self._completions_of = threading.local()

    def request(self, method: str, url: str, **arguments: Unpack[CallOptions]) -> Response:
        """Send a request; wait for the whole answer, whatever its status.

        Raises:
            FetchError: When there is no answer, after all retries that do no harm.
        """
        self._refuse_if_closed()
        request = self.build_request(method, url, **arguments)
        for hook in self.event_hooks["request"]:
            hook(request)
        with _waiting_call(self, request, stream=False) as wait:
            response = wait.outcome().check()
        for hook in self.event_hooks["response"]:
            hook(response)
        return response

    def get(self, url: str, **arguments: Unpack[CallOptions]) -> Response:
        """Send a GET."""
        return self.request("GET", url, **arguments)

    def head(self, url: str, **arguments: Unpack[CallOptions]) -> Response:
        """Send a HEAD."""
        return self.request("HEAD", url, **arguments)

    def options(self, url: str, **arguments: Unpack[CallOptions]) -> Response:
        """Send an OPTIONS."""
        return self.request("OPTIONS", url, **arguments)

    def post(self, url: str, **arguments: Unpack[CallOptions]) -> Response:
        """Send a POST."""
        return self.request("POST", url, **arguments)

    def put(self, url: str, **arguments: Unpack[CallOptions]) -> Response:
        """Send a PUT."""
        return self.request("PUT", url, **arguments)

    def patch(self, url: str, **arguments: Unpack[CallOptions]) -> Response:
        """Send a PATCH."""
        return self.request("PATCH", url, **arguments)

    def delete(self, url: str, **arguments: Unpack[CallOptions]) -> Response:
        """Send a DELETE."""
        return self.request("DELETE", url, **arguments)

    @contextlib.contextmanager
    def stream(self, method: str, url: str, **arguments: Unpack[CallOptions]) -> Iterator[StreamedResponse]:
        """Send a request; wait for the head of the answer, and take its body as it comes."""
        request = self.build_request(method, url, **arguments)
        with _waiting_call(self, request, stream=True) as wait:
            yield StreamedResponse(wait.outcome().check(), wait)

    def close(self) -> None:
        """Stop everything and close all connections. Calls that other threads have under way raise `FetchCancelled`."""
        self._close()
        if self._home.is_here():
            completions, number = self._completions(), next(self._numbers)
            while not self._engine.has_ended(completions, number):
                completions.wait()
                completions.take()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _completions(self) -> _native.CompletionQueue:
        completions = getattr(self._completions_of, "completions", None)
        if completions is None or not self._completions_of.home.is_here():
            completions = self._completions_of.completions = _native.CompletionQueue()
            self._completions_of.home = HomeProcess()
        return completions


class AsyncClient(_Base):
    """A client for event loops: asyncio's own, uvloop's, or several at once.

    Options as for `Client`: here as well, a host that is away is waited for only with `host_away=`.

    >>> async def main():
    ...     async with AsyncClient(base_url=server) as client:
    ...         return (await client.get("/items/7")).json()["id"]
    >>> asyncio.run(main())
    7
    """

    def __init__(self, **options: Unpack[ClientOptions]) -> None:
        super().__init__(**options)
        self._calls_of: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopCalls] = weakref.WeakKeyDictionary()

    async def request(self, method: str, url: str, **arguments: Unpack[CallOptions]) -> Response:
        """Send a request; wait for the whole answer, whatever its status.

        Raises:
            FetchError: When there is no answer, after all retries that do no harm.
        """
        self._refuse_if_closed()
        request = self.build_request(method, url, **arguments)
        for hook in self.event_hooks["request"]:
            await _awaited(hook(request))
        async with self._waiting_call(request, stream=False) as wait:
            outcome = await wait.outcome()
        response = outcome.check()
        for hook in self.event_hooks["response"]:
            await _awaited(hook(response))
        return response

    def get(self, url: str, **arguments: Unpack[CallOptions]) -> Coroutine[Any, Any, Response]:
        """Send a GET."""
        return self.request("GET", url, **arguments)

    def head(self, url: str, **arguments: Unpack[CallOptions]) -> Coroutine[Any, Any, Response]:
        """Send a HEAD."""
        return self.request("HEAD", url, **arguments)

    def options(self, url: str, **arguments: Unpack[CallOptions]) -> Coroutine[Any, Any, Response]:
        """Send an OPTIONS."""
        return self.request("OPTIONS", url, **arguments)

    def post(self, url: str, **arguments: Unpack[CallOptions]) -> Coroutine[Any, Any, Response]:
        """Send a POST."""
        return self.request("POST", url, **arguments)

    def put(self, url: str, **arguments: Unpack[CallOptions]) -> Coroutine[Any, Any, Response]:
        """Send a PUT."""
        return self.request("PUT", url, **arguments)

    def patch(self, url: str, **arguments: Unpack[CallOptions]) -> Coroutine[Any, Any, Response]:
        """Send a PATCH."""
        return self.request("PATCH", url, **arguments)

    def delete(self, url: str, **arguments: Unpack[CallOptions]) -> Coroutine[Any, Any, Response]:
        """Send a DELETE."""
        return self.request("DELETE", url, **arguments)

    @contextlib.asynccontextmanager
    async def stream(
        self, method: str, url: str, **arguments: Unpack[CallOptions]
    ) -> AsyncIterator[AsyncStreamedResponse]:
        """Send a request; wait for the head of the answer, and take its body as it comes."""
        request = self.build_request(method, url, **arguments)
        async with self._waiting_call(request, stream=True) as wait:
            yield AsyncStreamedResponse((await wait.outcome()).check(), wait)

    async def aclose(self) -> None:
        """Stop everything and close all connections. Calls that are under way raise `FetchCancelled`, on every loop."""
        self._close()
        if self._home.is_here():
            loop_calls, number = self._loop_calls(), next(self._numbers)
            try:
                waiter = loop_calls.waiter(number)
                if not self._engine.has_ended(loop_calls.completions, number):
                    await waiter
            finally:
                loop_calls.waiters.pop(number, None)
        for loop_calls in list(self._calls_of.values()):
            loop_calls.end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _loop_calls(self) -> _LoopCalls:
        loop = asyncio.get_running_loop()
        loop_calls = self._calls_of.get(loop)
        if loop_calls is None or not loop_calls.home.is_here():
            loop_calls = self._calls_of[loop] = _LoopCalls(loop)
        return loop_calls

    @contextlib.asynccontextmanager
    async def _waiting_call(self, request: Request, *, stream: bool) -> AsyncIterator[_LoopWait]:
        loop_calls = self._loop_calls()
        number = next(self._numbers)
        call = loop_calls.calls[number] = self._call(loop_calls.completions, number, request, stream=stream)
        try:
            yield _LoopWait(loop_calls, number, call)
        finally:
            loop_calls.waiters.pop(number, None)
            loop_calls.calls.pop(number, None)
            call.stop()


class _Streamed:
    """The head of an answer whose body is still to come."""

    def __init__(self, head: Response) -> None:
        self._head = head

    def __repr__(self) -> str:
        return repr(self._head).replace("<Response", f"<{type(self).__name__}", 1)

    @property
    def status_code(self) -> int:
        """Its status."""
        return self._head.status_code

    @property
    def headers(self) -> Headers:
        """Its headers."""
        return self._head.headers

    @property
    def url(self) -> str:
        """Where it comes from, after redirects."""
        return self._head.url

    @property
    def http_version(self) -> str:
        """`HTTP/1.1` or `HTTP/2`."""
        return self._head.http_version

    def raise_for_status(self) -> Self:
        """Raise when the status is 400 or above; return itself otherwise."""
        self._head.raise_for_status()
        return self


class StreamedResponse(_Streamed):
    """An answer to a `Client`, whose body comes in as it is taken.

    >>> with unisono.Client() as client, client.stream("GET", f"{server}/items/1") as response:
    ...     response.status_code, b"".join(response.iter_bytes())[:1]
    (200, b'{')
    """

    def __init__(self, head: Response, wait: _ThreadWait) -> None:
        super().__init__(head)
        self._wait = wait

    def iter_bytes(self) -> Iterator[bytes]:
        """The body, decoded, in pieces as they come.

        Raises:
            FetchError: The body breaks off or cannot be decoded: as from `request`, so a `FetchAmbiguous` when what was
                asked for may have been carried out and must not be repeated.
        """
        while chunk := self._wait.chunk():
            yield chunk

    def iter_lines(self) -> Iterator[str]:
        """The body as lines of UTF-8 text, without their ends."""
        lines = _Lines()
        for chunk in self.iter_bytes():
            yield from lines.cut(chunk)
        yield from lines.rest()

    def read(self) -> bytes:
        """The rest of the body."""
        return b"".join(self.iter_bytes())


class AsyncStreamedResponse(_Streamed):
    """An answer to an `AsyncClient`, whose body comes in as it is taken on the event loop that asked.

    >>> async def first_byte():
    ...     async with unisono.AsyncClient() as client, client.stream("GET", f"{server}/items/1") as response:
    ...         return b"".join([piece async for piece in response.aiter_bytes()])[:1]
    >>> asyncio.run(first_byte())
    b'{'
    """

    def __init__(self, head: Response, wait: _LoopWait) -> None:
        super().__init__(head)
        self._wait = wait

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        """The body, decoded, in pieces as they come; raises as `StreamedResponse.iter_bytes` does."""
        while chunk := await self._wait.chunk():
            yield chunk

    async def aiter_lines(self) -> AsyncIterator[str]:
        """The body as lines of UTF-8 text, without their ends."""
        lines = _Lines()
        async for chunk in self.aiter_bytes():
            for line in lines.cut(chunk):
                yield line
        for line in lines.rest():
            yield line

    async def aread(self) -> bytes:
        """The rest of the body."""
        return b"".join([chunk async for chunk in self.aiter_bytes()])


class _ThreadWait:
    """A thread's call."""

    def __init__(self, completions: _native.CompletionQueue, call: _native.ClientCall) -> None:
        self._completions = completions
        self._call = call

    def outcome(self) -> FetchOutcome:
        while (outcome := self._call.outcome()) is None:
            self._completions.wait()
            self._completions.take()
        return outcome

    def chunk(self) -> bytes:
        while (chunk := self._call.chunk()) is None:
            self._completions.wait()
            self._completions.take()
        return chunk


class _LoopWait:
    """A call on an event loop."""

    def __init__(self, loop_calls: _LoopCalls, number: int, call: _native.ClientCall) -> None:
        self._loop_calls = loop_calls
        self._number = number
        self._call = call

    async def outcome(self) -> FetchOutcome:
        return await self._ready(self._call.outcome)

    async def chunk(self) -> bytes:
        return await self._ready(self._call.chunk)

    async def _ready(self, look: Callable[[], ReadyT | None]) -> ReadyT:
        while (found := look()) is None:
            if not self._loop_calls.is_here:
                raise UsageError("the answer comes in on the event loop that it was asked for on: read it there")
            # Completions come to the queue of this very loop, so none can come between the look and the wait.
            await self._loop_calls.waiter(self._number)
        return found


class _LoopCalls:
    """Where the calls of one event loop wait. The loop keeps the waiters, and not the client."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.completions = _native.CompletionQueue()
        self.waiters: dict[int, asyncio.Future[None]] = {}
        # Those under way.
        self.calls: dict[int, _native.ClientCall] = {}
        self.home = HomeProcess()
        self._deliver = functools.partial(_deliver, self.completions, self.waiters)
        # On a loop that was closed nothing waits any more, though not all of them may have been cancelled.
        self._watch = LoopWatch(loop, self.completions, self._deliver, functools.partial(_stop, self.calls))

    def waiter(self, number: int) -> asyncio.Future[None]:
        waiter = self.waiters[number] = asyncio.get_running_loop().create_future()
        return waiter

    @property
    def is_here(self) -> bool:
        """Whether its event loop is the one that runs here."""
        return self._watch.loop is asyncio._get_running_loop()

    def end(self) -> None:
        """All calls have been answered: wake the waiters, and leave the loop."""
        loop = self._watch.loop
        if loop is not None and self.home.is_here():
            on_loop(loop, self._deliver)
        self._watch.leave()

    def __del__(self) -> None:
        # It may have come to nothing.
        if (watch := getattr(self, "_watch", None)) is not None:
            watch.leave()


def _deliver(completions: _native.CompletionQueue, waiters: dict[int, asyncio.Future[None]]) -> None:
    for number in completions.take():
        waiter = waiters.get(number)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def _stop(calls: dict[int, _native.ClientCall]) -> None:
    for call in list(calls.values()):
        call.stop()


@contextlib.contextmanager
def _waiting_call(client: Client, request: Request, *, stream: bool) -> Iterator[_ThreadWait]:
    completions = client._completions()
    call = client._call(completions, next(client._numbers), request, stream=stream)
    try:
        yield _ThreadWait(completions, call)
    finally:
        call.stop()


async def _awaited(value: Any) -> Any:
    return await value if isinstance(value, Awaitable) else value


def _pairs(pairs: Pairs | None) -> list[tuple[str, Any]]:
    if pairs is None:
        return []
    if isinstance(pairs, Mapping):
        # A mapping is also an iterable, so a checker cannot tell which of the two was meant.
        return list(cast("Mapping[str, Any]", pairs).items())
    return list(pairs)


class _Lines:
    """Cuts the pieces of a body into lines of UTF-8 text, without their ends."""

    def __init__(self) -> None:
        self._rest = b""

    def cut(self, chunk: bytes) -> Iterator[str]:
        """The lines that this piece ends."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return map(self._text, lines)

    def rest(self) -> Iterator[str]:
        """What no line end has followed, if there is something."""
        return map(self._text, [self._rest] if self._rest else [])

    @staticmethod
    def _text(line: bytes) -> str:
        return line.removesuffix(b"\r").decode("utf-8", "replace")
