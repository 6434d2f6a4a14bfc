"""Pages of a listing, asked for one after the other by a client.

Between two pages nothing is under way, so an iterator that is left early leaves nothing behind. Where the next page is,
the engine's own rules say (`_native.Pager`); here is in what order, how often, and what is told when one fails.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from unisono import _native
from unisono._native import Request, Response
from unisono._options import Auth
from unisono.errors import DecodeError, FetchError, UsageError

__all__ = ["AsyncPages", "Pages", "way_to_pages"]

# A request, and what signs it.
Asked = tuple[Request, Auth | None]
# Is given an address and whether it is that of the call, which gets the parameters.
Build = Callable[[str, bool], Asked]


class _Paging:
    """Which page is next, and what has been wrong with the last one."""

    def __init__(self, build: Build, url: str, start: str | None, way: str, max_pages: int | None) -> None:
        self._build = build
        self._url = url
        self._most = _native.whole("max_pages", MOST_PAGES if max_pages is None else max_pages)
        self._is_told = max_pages is not None
        self._pager = _native.Pager(way, self._most)
        self._numbers: dict[str, int] = {}
        self._number = 0
        self._position: str | None = None
        self._following = start
        self._is_over = False
        # Why there is no next page, which is told when it is asked for.
        self._wrong: DecodeError | None = None

    @property
    def position(self) -> str | None:
        """The address of the page that came last, or of the one that has failed; `None` until there is one.

        As `start=` it goes on with that very page.
        """
        return self._position

    @property
    def following(self) -> str | None:
        """The address of the page after it; `None` after the last one, and before the first."""
        return self._following if self._number else None

    def _asked(self) -> Asked | None:
        """The request for the next page, and what signs it; `None` when there is none."""
        if self._wrong is not None:
            wrong, self._wrong, self._is_over = self._wrong, None, True
            raise wrong
        if self._is_over or (self._number and self._following is None):
            return None
        if self._number >= self._most:
            self._is_over = True
            if not self._is_told:
                warnings.warn(
                    f"{_native.redacted(self._url)} has more than {self._most} pages, of which no more are asked for: "
                    "give max_pages=",
                    RuntimeWarning,
                    stacklevel=4,
                )
            return None
        if self._following is None:
            return self._build(self._url, True)
        self._position = self._following
        return self._build(self._following, False)

    def _came(self, response: Response) -> Response:
        try:
            response.raise_for_status()
        except FetchError as error:
            self._say_page(error)
            raise
        self._number += 1
        # That of the first has the parameters, which `url` has not.
        page = self._following or _with_user(response.url, self._url)
        self._position = page
        self._numbers[page] = self._number
        try:
            following = self._pager.next(page, response)
            self._following = None if following is None else _with_user(following, page)
            self._refuse_circle()
        except ValueError as error:
            # The page itself came, so it is returned first.
            self._following = None
            self._wrong = self._decode_error(str(error), "pages", response)
        return response

    def _refuse_circle(self) -> None:
        before = self._numbers.get(self._following or "")
        if before == self._number:
            raise ValueError("the next page is this page again")
        if before is not None:
            raise ValueError(f"the next page is page {before} again: the pages go round in a circle")

    def _selected(self, expression: _native.PlainExpression, response: Response) -> list[Any]:
        try:
            return expression.run(response)
        except ValueError as error:
            raise self._decode_error(str(error), "select", response) from None

    def _say_page(self, error: FetchError) -> None:
        error.args = (f"page {self._number + 1}: {error}", *error.args[1:])

    def _decode_error(self, why: str, kind: str, response: Response) -> DecodeError:
        return DecodeError(
            f"page {self._number}: {why}",
            kind=kind,
            effect="done",
            url=response.url,
            response=response,
            attempts=response.attempts,
        )


class Pages(_Paging):
    """Pages as `Client.pages` returns them, each a `Response`: an iterator that asks for one when it is wanted.

    >>> with unisono.Client(base_url=server) as client:
    ...     list(client.pages("/pages/1", link=True).items(".page"))
    [1, 2, 3]
    """

    def __init__(self, send: Callable[[Request, Auth | None], Response], *paging: Any) -> None:
        super().__init__(*paging)
        self._send = send

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Response:
        if (asked := self._asked()) is None:
            raise StopIteration
        try:
            response = self._send(*asked)
        except FetchError as error:
            self._say_page(error)
            raise
        return self._came(response)

    def items(self, select: str) -> Iterator[Any]:
        """What an expression makes of each page, one after the other: `".items[]"`.

        Args:
            select: An expression of the plain part of jq (docs/expressions.md).
        """
        return self._items(_native.PlainExpression(select))

    def _items(self, expression: _native.PlainExpression) -> Iterator[Any]:
        for response in self:
            yield from self._selected(expression, response)


class AsyncPages(_Paging):
    """The same as `AsyncClient.pages` returns them: an async iterator.

    >>> async def main():
    ...     async with unisono.AsyncClient(base_url=server) as client:
    ...         return [number async for number in client.pages("/pages/1", link=True).items(".page")]
    >>> asyncio.run(main())
    [1, 2, 3]
    """

    def __init__(self, send: Callable[[Request, Auth | None], Awaitable[Response]], *paging: Any) -> None:
        super().__init__(*paging)
        self._send = send

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Response:
        if (asked := self._asked()) is None:
            raise StopAsyncIteration
        try:
            response = await self._send(*asked)
        except FetchError as error:
            self._say_page(error)
            raise
        return self._came(response)

    def items(self, select: str) -> AsyncIterator[Any]:
        """What an expression makes of each page, one after the other; see `Pages.items`."""
        return self._items(_native.PlainExpression(select))

    async def _items(self, expression: _native.PlainExpression) -> AsyncIterator[Any]:
        async for response in self:
            for item in self._selected(expression, response):
                yield item


def way_to_pages(following: str | None, link: bool, page: str | None, until: str | None) -> str:
    """How the next page is found, as `paginate=` of `fetch` has it.

    Raises:
        UsageError: It is said in two ways, in none, or half.
    """
    ways = [following is not None, link, page is not None or until is not None]
    if sum(ways) != 1:
        raise UsageError(
            'pages: say in one way how the next one is found: link=True, next=".next_url", or page="page" with '
            'until=".items|length==0"'
        )
    if link:
        return "link"
    if following is not None:
        return f"next={following}"
    if page is None or until is None:
        missing = "page" if page is None else "until"
        raise UsageError(f'pages: {missing}= is missing: page="page" counts up until until=".items|length==0" holds')
    return f"page={page},until={until}"


def _with_user(url: str, asked: str) -> str:
    """An address with the user name and password of the one that led there: both are of one origin."""
    user, at, _ = urlsplit(asked).netloc.rpartition("@")
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{user}{at}{parts.netloc}"))


# As of a row of `fetch`.
MOST_PAGES = 1000
