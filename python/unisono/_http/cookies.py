"""The cookies that a client keeps, to look at and to clear."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from unisono import _native

__all__ = ["Cookie", "Cookies"]


class Cookie(NamedTuple):
    """A cookie that a server has set (RFC 6265).

    Attributes:
        name: Its name.
        value: Its value.
        domain: The host that it goes to, and all below it where the server said so.
        path: The path below which it goes.
        secure: Whether it goes over TLS alone.
    """

    name: str
    value: str
    domain: str
    path: str
    secure: bool

    def __repr__(self) -> str:
        # A value is as good as a password.
        return f"<Cookie {self.name} for {self.domain}{self.path}>"


class Cookies(Mapping[str, str]):
    """Cookies by name, as they are now.

    Of several with one name, for several hosts or paths, the one set first counts; `jar` has all.

    >>> with unisono.Client(cookies={"theme": "dark"}) as client:
    ...     client.get(f"{server}/items/1").status_code, dict(client.cookies)
    (200, {})
    """

    def __init__(self, engine: _native.ClientEngine) -> None:
        self._engine = engine

    @property
    def jar(self) -> list[Cookie]:
        """All that are kept and have not expired, in the order in which they were set first."""
        return [Cookie(*fields) for fields in self._engine.cookies()]

    def clear(self) -> None:
        """Forget all of them."""
        self._engine.clear_cookies()

    def __getitem__(self, name: str) -> str:
        for cookie in self.jar:
            if cookie.name == name:
                return cookie.value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(cookie.name for cookie in self.jar))

    def __len__(self) -> int:
        return len({cookie.name for cookie in self.jar})

    def __repr__(self) -> str:
        return f"<Cookies {', '.join(self) or 'none'}>"
