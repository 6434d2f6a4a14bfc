"""Responses whose bodies are taken as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Self

from unisono._http.headers import Headers
from unisono._keywords import no_attribute
from unisono._native import Response

if TYPE_CHECKING:
    from unisono._http.waiting import LoopWait, ThreadWait

__all__ = ["AsyncStreamedResponse", "StreamedResponse"]


class _Streamed:
    """The head of an answer whose body is still to come."""

    def __init__(self, head: Response) -> None:
        self._head = head

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise no_attribute(self, name)

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

    def __init__(self, head: Response, wait: ThreadWait) -> None:
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

    def __init__(self, head: Response, wait: LoopWait) -> None:
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
