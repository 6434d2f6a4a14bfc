"""Clients for single calls, with the pool, limits, retries and safety of a batch."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import weakref
from collections.abc import AsyncIterator, Coroutine, Generator, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

from unisono import _native
from unisono._caller import warn_on_loop
from unisono._forks import HomeProcess
from unisono._functions.callables import plain
from unisono._http.base import BaseClient
from unisono._http.pages import AsyncPages, Pages, way_to_pages
from unisono._http.streaming import AsyncStreamedResponse, StreamedResponse
from unisono._http.waiting import LoopCalls, LoopWait, ThreadWait
from unisono._native import Request, Response
from unisono._options import Auth, CallOptions, ClientOptions, StrPath
from unisono.errors import FetchError

if TYPE_CHECKING:
    from unisono._http.downloading import DownloadProgress

__all__ = ["AsyncCall", "AsyncClient", "AsyncPages", "AsyncStreamedResponse", "Client", "Pages", "StreamedResponse"]


class Client(BaseClient):
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
        if self._auth is not None:
            plain(self._auth, "auth of Client")
        self._completions_of = threading.local()

    def request(self, method: str, url: str, **arguments: Unpack[CallOptions]) -> Response:
        """Send a request; wait for the whole answer, whatever its status.

        Raises:
            FetchError: When there is no answer, after all retries that do no harm.
        """
        self._refuse_if_closed()
        return self._sent(*self._built(method, url, cast("dict[str, Any]", arguments)))

    def send(self, request: Request) -> Response:
        """Send a request that `build_request` made, or any other; wait for the whole answer, whatever its status.

        Raises:
            FetchError: When there is no answer, after all retries that do no harm.
        """
        self._refuse_if_closed()
        request = request.replace(url=self._joined(request.url))
        return self._sent(request, self._auth)

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

    def pages(
        self,
        url: str,
        *,
        next: str | None = None,  # noqa: A002 (the word of `paginate=`)
        link: bool = False,
        page: str | None = None,
        until: str | None = None,
        max_pages: int | None = None,
        start: str | None = None,
        **arguments: Unpack[CallOptions],
    ) -> Pages:
        """Ask for the pages of a listing, one after the other, as they are wanted.

        A page that does not come, or whose status is none that is expected, raises, and the error says which it was. It
        may be asked for again by another iterator with `start=pages.position`.

        Args:
            url: The first page.
            next: An expression that finds the address of the next page in the body: `".next_url"`.
            link: Follow the `Link` header whose relation is `next`.
            page: A parameter that counts up until `until` holds: `page="page", until=".items|length==0"`.
            until: An expression that holds for the last page. Expressions are of the plain part of jq
                (docs/expressions.md).
            max_pages: Most pages (1000, with a warning when there are more).
            start: Begin with this page instead, as `pages.position` or `pages.following` was.
            **arguments: As for `get`; `params` are for the first page, since the address of any other has its own.

        Raises:
            UsageError: How the next page is found is said in no way, or in two.
            FetchError: As from `get`; a `DecodeError` when the next page cannot be found, when the pages go round in a
                circle, or when the next one is of another origin, for which what a client sends along is not.
        """
        way = way_to_pages(next, link, page, until)
        return Pages(self._sent, *self._paging(url, way, start, max_pages, cast("dict[str, Any]", arguments)))

    def stream(
        self, method: str, url: str, **arguments: Unpack[CallOptions]
    ) -> contextlib.AbstractContextManager[StreamedResponse]:
        """Send a request; wait for the head of the answer, and take its body as it comes."""
        self._refuse_if_closed()
        return self._streamed(*self._built(method, url, cast("dict[str, Any]", arguments)))

    @contextlib.contextmanager
    def _streamed(self, request: Request, auth: Auth | None) -> Iterator[StreamedResponse]:
        warn_on_loop("a stream of `unisono.Client`", "make an `unisono.AsyncClient`, and write `async with`")
        wait = self._begin(request, auth, stream=True)
        try:
            head = wait.response()
            self._check_transport()
            yield StreamedResponse(head, wait)
        finally:
            self._end(wait)

    def download(
        self,
        url: str,
        path: StrPath,
        *,
        overwrite: bool = False,
        progress: DownloadProgress = False,
        **arguments: Unpack[CallOptions],
    ) -> Path:
        """GET a file. It has its name once it is whole, and not before.

        A body that breaks off goes on where it ended if the server can do that, also in a later call; see
        docs/clients.md.

        Args:
            url: Where it is.
            path: The file that it becomes.
            overwrite: Replace a file that is there.
            progress: `True` shows a line on standard error; a callable is given how many bytes are there, and how many
                there will be, `None` where that is not known.
            **arguments: As for any call. `retries` is also how often in a row a body may break off with nothing new.

        Returns:
            The path.

        Raises:
            FetchError: There is no answer, or its body breaks off too often. What is there of it is kept for a later
                call, beside the file, if the server says what tells versions apart.
            StatusError: The answer is no success.
            UsageError: The file is there, or is being downloaded.
        """
        # Calls have no use for what it needs.
        from unisono._http.downloading import Part

        request, auth, retries = self._download(url, cast("dict[str, Any]", arguments))
        with Part(path, request.url, overwrite=overwrite, progress=progress) as part:
            while True:
                error: FetchError | None = None
                with self._streamed(request.with_headers(part.headers()), auth) as response:
                    is_wanted = part.begin(response)
                    try:
                        for chunk in response.iter_bytes() if is_wanted else ():
                            part.write(chunk)
                    except FetchError as broken:
                        error = broken
                if error is None and part.is_whole(is_wanted):
                    return part.finish()
                if (pause := part.goes_on(error, retries)) is None:
                    raise error or part.never_whole()
                time.sleep(pause)

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

    def _sent(self, request: Request, auth: Auth | None) -> Response:
        self._refuse_if_closed()
        warn_on_loop("a call of `unisono.Client`", "make an `unisono.AsyncClient`, and await its calls")
        # Without a context manager, which would take longer than the rest of this.
        wait = self._begin(request, auth, stream=False)
        try:
            response = wait.response()
        finally:
            self._end(wait)
        self._check_transport()
        return response

    def _begin(self, request: Request, auth: Auth | None, *, stream: bool) -> ThreadWait:
        completions, attempts = self._completions(), self._attempts(request, auth)
        call = self._call(completions, next(self._numbers), request, attempts, stream=stream)
        return ThreadWait(completions, self._engine, call, attempts)

    def _end(self, wait: ThreadWait) -> None:
        wait.call.stop()
        self._tell_of_hosts()

    def _completions(self) -> _native.CompletionQueue:
        completions = getattr(self._completions_of, "completions", None)
        if completions is None or not self._completions_of.home.is_here():
            completions = self._completions_of.completions = _native.CompletionQueue()
            self._completions_of.home = HomeProcess()
        return completions


class AsyncCall(Coroutine[Any, Any, Response]):
    """A call of an `AsyncClient` that has not been awaited yet: a coroutine, which may be entered as well.

    `async with client.get(url) as response:` is `response = await client.get(url)`: the answer is complete, and leaving
    the block does nothing.
    """

    __slots__ = ("_call",)

    def __init__(self, call: Coroutine[Any, Any, Response]) -> None:
        self._call = call

    def __await__(self) -> Generator[Any, Any, Response]:
        return self._call.__await__()

    async def __aenter__(self) -> Response:
        return await self._call

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def send(self, value: Any) -> Any:
        """As that of a coroutine."""
        return self._call.send(value)

    def throw(self, *raised: Any) -> Any:
        """As that of a coroutine."""
        return self._call.throw(*raised)

    def close(self) -> None:
        """As that of a coroutine."""
        self._call.close()

    def __repr__(self) -> str:
        return f"<AsyncCall of {self._call!r}>"


class AsyncClient(BaseClient):
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
        self._calls_of: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopCalls] = weakref.WeakKeyDictionary()

    def request(self, method: str, url: str, **arguments: Unpack[CallOptions]) -> AsyncCall:
        """Send a request; wait for the whole answer, whatever its status.

        Raises:
            UsageError: When an argument is not what it should be; before there is anything to be awaited.
            FetchError: When there is no answer, after all retries that do no harm.
        """
        self._refuse_if_closed()
        return AsyncCall(self._sent(*self._built(method, url, cast("dict[str, Any]", arguments))))

    async def send(self, request: Request) -> Response:
        """Send a request that `build_request` made, or any other; wait for the whole answer, whatever its status.

        Raises:
            FetchError: When there is no answer, after all retries that do no harm.
        """
        self._refuse_if_closed()
        request = request.replace(url=self._joined(request.url))
        return await self._sent(request, self._auth)

    def get(self, url: str, **arguments: Unpack[CallOptions]) -> AsyncCall:
        """Send a GET."""
        return self.request("GET", url, **arguments)

    def head(self, url: str, **arguments: Unpack[CallOptions]) -> AsyncCall:
        """Send a HEAD."""
        return self.request("HEAD", url, **arguments)

    def options(self, url: str, **arguments: Unpack[CallOptions]) -> AsyncCall:
        """Send an OPTIONS."""
        return self.request("OPTIONS", url, **arguments)

    def post(self, url: str, **arguments: Unpack[CallOptions]) -> AsyncCall:
        """Send a POST."""
        return self.request("POST", url, **arguments)

    def put(self, url: str, **arguments: Unpack[CallOptions]) -> AsyncCall:
        """Send a PUT."""
        return self.request("PUT", url, **arguments)

    def patch(self, url: str, **arguments: Unpack[CallOptions]) -> AsyncCall:
        """Send a PATCH."""
        return self.request("PATCH", url, **arguments)

    def delete(self, url: str, **arguments: Unpack[CallOptions]) -> AsyncCall:
        """Send a DELETE."""
        return self.request("DELETE", url, **arguments)

    def pages(
        self,
        url: str,
        *,
        next: str | None = None,  # noqa: A002 (the word of `paginate=`)
        link: bool = False,
        page: str | None = None,
        until: str | None = None,
        max_pages: int | None = None,
        start: str | None = None,
        **arguments: Unpack[CallOptions],
    ) -> AsyncPages:
        """Ask for the pages of a listing, one after the other, as they are wanted; see `Client.pages`."""
        way = way_to_pages(next, link, page, until)
        return AsyncPages(self._sent, *self._paging(url, way, start, max_pages, cast("dict[str, Any]", arguments)))

    def stream(
        self, method: str, url: str, **arguments: Unpack[CallOptions]
    ) -> contextlib.AbstractAsyncContextManager[AsyncStreamedResponse]:
        """Send a request; wait for the head of the answer, and take its body as it comes."""
        self._refuse_if_closed()
        return self._streamed(*self._built(method, url, cast("dict[str, Any]", arguments)))

    @contextlib.asynccontextmanager
    async def _streamed(self, request: Request, auth: Auth | None) -> AsyncIterator[AsyncStreamedResponse]:
        wait = self._begin(request, auth, stream=True)
        try:
            head = await wait.response()
            self._check_transport()
            yield AsyncStreamedResponse(head, wait)
        finally:
            await self._end(wait)

    async def download(
        self,
        url: str,
        path: StrPath,
        *,
        overwrite: bool = False,
        progress: DownloadProgress = False,
        **arguments: Unpack[CallOptions],
    ) -> Path:
        """GET a file. It has its name once it is whole, and not before; see `Client.download`."""
        # Calls have no use for what it needs.
        from unisono._http.downloading import Part

        request, auth, retries = self._download(url, cast("dict[str, Any]", arguments))
        with Part(path, request.url, overwrite=overwrite, progress=progress) as part:
            while True:
                error: FetchError | None = None
                async with self._streamed(request.with_headers(part.headers()), auth) as response:
                    is_wanted = part.begin(response)
                    try:
                        if is_wanted:
                            async for chunk in response.aiter_bytes():
                                part.write(chunk)
                    except FetchError as broken:
                        error = broken
                if error is None and part.is_whole(is_wanted):
                    # It waits for the disk.
                    return await asyncio.to_thread(part.finish)
                if (pause := part.goes_on(error, retries)) is None:
                    raise error or part.never_whole()
                await asyncio.sleep(pause)

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

    async def _sent(self, request: Request, auth: Auth | None) -> Response:
        self._refuse_if_closed()
        wait = self._begin(request, auth, stream=False)
        try:
            response = await wait.response()
        finally:
            self._leave(wait)
            if wait.is_bringing:
                await wait.close()
        self._check_transport()
        return response

    def _begin(self, request: Request, auth: Auth | None, *, stream: bool) -> LoopWait:
        loop_calls, attempts, number = self._loop_calls(), self._attempts(request, auth), next(self._numbers)
        call = loop_calls.calls[number] = self._call(loop_calls.completions, number, request, attempts, stream=stream)
        return LoopWait(loop_calls, number, self._engine, call, attempts)

    def _leave(self, wait: LoopWait) -> None:
        wait.leave()
        self._tell_of_hosts()

    async def _end(self, wait: LoopWait) -> None:
        self._leave(wait)
        await wait.close()

    def _loop_calls(self) -> LoopCalls:
        loop = asyncio.get_running_loop()
        loop_calls = self._calls_of.get(loop)
        if loop_calls is None or not loop_calls.home.is_here():
            loop_calls = self._calls_of[loop] = LoopCalls(loop)
        return loop_calls
