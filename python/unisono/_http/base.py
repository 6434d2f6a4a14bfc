"""What both clients share: options into an engine, and the arguments of calls into requests."""

from __future__ import annotations

import inspect
import itertools
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Unpack, cast
from urllib.parse import urlsplit

from unisono import _native
from unisono._batches.batch import Batch
from unisono._batches.logs import hand_on, level_of
from unisono._forks import HomeProcess
from unisono._http.attempts import LOGGER, Attempts, hooks_of, replaced
from unisono._http.cookies import Cookies
from unisono._keywords import no_attribute, told, told_when_awaited
from unisono._native import FetchOutcome, Request
from unisono._options import Auth, CallOptions, ClientLimits, ClientOptions, FetchOptions, Pairs, RowOptions, Transport
from unisono.errors import UsageError

__all__ = ["BaseClient"]


class BaseClient:
    """See `Client` and `AsyncClient`."""

    def __init__(self, **options: Unpack[ClientOptions]) -> None:
        self.base_url = _checked_base(options.pop("base_url", ""))
        self.event_hooks = hooks_of(options.pop("event_hooks", None))
        self._params = _pairs(options.pop("params", None))
        self._headers = _pairs(options.pop("headers", None))
        # A callable is called here, for each call; a name and a password are the engine's to send.
        self._auth: Auth | None = None
        if callable(options.get("auth")):
            self._auth = options.pop("auth", None)
        self._transport: Transport | None = options.pop("transport", None)
        connection = {} if self._transport is None else self._transport.connection_options()
        self._options: dict[str, Any] = {**options, **connection, "headers": self._headers}
        self._numbers = itertools.count()
        self._engine = self._new_engine()
        self._home = HomeProcess()
        self._closed = False

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if cls.__module__.startswith("unisono."):
            for name, options in _TOLD.items():
                # A client is made by keywords alone.
                positional = 'say what it is, as base_url="https://..."' if name == "__init__" else ""
                called = cls.__name__ if name == "__init__" else f"{cls.__name__}.{name}"
                function = getattr(cls, name)
                is_awaited = inspect.iscoroutinefunction(function)
                tell = (
                    told_when_awaited(called, options) if is_awaited else told(called, options, positional=positional)
                )
                setattr(cls, name, tell(function))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise no_attribute(self, name)

    def __repr__(self) -> str:
        address = f" base_url={_native.redacted(self.base_url)!r}" if self.base_url else ""
        return f"<{type(self).__qualname__}{address} {'closed' if self._closed else 'open'}>"

    @property
    def is_closed(self) -> bool:
        """Whether it has been closed."""
        return self._closed

    @property
    def cookies(self) -> Cookies:
        """The cookies that servers have set so far, where `cookies=` has them kept; to look at and to clear."""
        return Cookies(self._own_engine())

    def set_limits(self, **limits: Unpack[ClientLimits]) -> None:
        """Change limits; they hold from then on. A rate of `none` takes it away."""
        self._own_engine().set_limits(**limits)

    def build_request(self, method: str, url: str, **arguments: Unpack[CallOptions]) -> Request:
        """The request that a call with these arguments sends, without the client's own headers; `send` sends it.

        It may be changed before, as `request.with_headers({"X-Trace": "1"})`. What the client signs with is asked when
        it is sent.

        Raises:
            UsageError: `auth` is a callable, which is for `request` and its like.
        """
        if callable(arguments.get("auth")):
            raise UsageError("auth: a callable signs what is sent: give it to client.request, or to the client")
        return self._built(method, url, cast("dict[str, Any]", arguments))[0]

    def batch(
        self, requests: Iterable[str | Request | Mapping[str, Any]], **options: Unpack[FetchOptions]
    ) -> Batch[FetchOutcome]:
        """Call many addresses with the options of this client, with every outcome accounted for: see `unisono.fetch`.

        The batch has connections, cookies and limits of its own, which begin as those of the client.

        Args:
            requests: Addresses, which go behind `base_url`, `Request`s or mappings; any iterable.
            **options: As `unisono.fetch` takes, in place of those of the client.

        >>> with unisono.Client(base_url=server, limit=50) as client:
        ...     sorted(outcome.result.json()["id"] for outcome in client.batch(f"/items/{n}" for n in range(3)))
        [0, 1, 2]
        """
        from unisono._http.fetch import fetch

        self._refuse_if_closed()
        return fetch(map(self._row, requests), **{**self._options, **options})

    def _row(self, request: str | Request | Mapping[str, Any]) -> Request | Mapping[str, Any]:
        if isinstance(request, str):
            request = Request(request, params=self._params)
        elif isinstance(request, Mapping):
            row = dict(request)
            if self._params:
                row["params"] = [*self._params, *_pairs(row.get("params"))]
            if isinstance(row.get("url"), str):
                row["url"] = self._joined(row["url"])
            if self._auth is None:
                return row
            # What it is signed by is a request; other members are columns of templates, which it has none of.
            request = Request(row.pop("url"), **{name: row[name] for name in row.keys() & _ARGUMENTS})
        request = request.replace(url=self._joined(request.url))
        return replaced(request, self._auth(request), "auth") if callable(self._auth) else request

    def _paging(
        self,
        url: str,
        way: str,
        start: str | None,
        max_pages: int | None,
        arguments: dict[str, Any],
    ) -> tuple[Callable[[str, bool], tuple[Request, Auth | None]], str, str | None, str, int | None]:
        """What pages are made of beside how they are sent."""
        # What is wrong with them is said at once.
        self._built("GET", url, dict(arguments))

        def build(address: str, is_first: bool) -> tuple[Request, Auth | None]:
            # What a server names has its parameters.
            return self._built("GET", address, dict(arguments), has_params=is_first)

        return build, self._joined(url), None if start is None else self._joined(start), way, max_pages

    def _built(
        self, method: str, url: str, arguments: dict[str, Any], *, has_params: bool = True
    ) -> tuple[Request, Auth | None]:
        """The request of a call, and what signs it, if that is a callable."""
        # `None` is as if it were not there, as it is of any other argument.
        auth = self._auth if (own_auth := arguments.get("auth")) is None else own_auth
        if callable(auth):
            arguments = {name: value for name, value in arguments.items() if name != "auth"}
        own = _pairs(arguments.pop("params", None))
        if has_params and (params := [*self._params, *own]):
            arguments["params"] = params
        return Request(self._joined(url), method=method, **arguments), auth

    def _download(self, url: str, arguments: dict[str, Any]) -> tuple[Request, Auth | None, int]:
        """The request of a download, what signs it, and how often in a row it may bring nothing."""
        self._refuse_if_closed()
        retries = arguments.get("retries")
        request, auth = self._built("GET", url, arguments)
        for name, _ in request.headers:
            if name.lower() in ("range", "if-range", "accept-encoding"):
                raise UsageError(f"the header `{name}` is a download's own: leave it out")
        return request, auth, self._options.get("retries", 3) if retries is None else retries

    def _joined(self, url: str) -> str:
        """The address that a call is for (RFC 3986, section 4.2), with paths put behind that of `base_url`."""
        if not self.base_url or _SCHEME.match(url):
            return url
        if url.startswith("//"):
            return f"{urlsplit(self.base_url).scheme}:{url}"
        if not url or url.startswith(("?", "#")):
            return self.base_url + url
        return f"{self.base_url.rstrip('/')}/{url.lstrip('/')}"

    def _call(
        self,
        completions: _native.CompletionQueue,
        number: int,
        request: Request,
        attempts: Attempts | None,
        *,
        stream: bool,
    ) -> _native.ClientCall:
        self._refuse_if_closed()
        engine = self._own_engine()
        if attempts is None:
            return engine.call(completions, number, request, stream=stream)
        return engine.call(completions, number, request, stream=stream, **attempts.wants)

    def _own_engine(self) -> _native.ClientEngine:
        if not self._home.is_here():
            # A child of fork has no engine thread; it gets an engine of its own.
            self._engine = self._new_engine()
            self._home = HomeProcess()
        return self._engine

    def _check_transport(self) -> None:
        if self._transport is not None:
            self._transport.check()

    def _new_engine(self) -> _native.ClientEngine:
        engine = _native.ClientEngine(**self._options)
        engine.log_from(level_of(LOGGER))
        return engine

    def _attempts(self, request: Request, auth: Auth | None) -> Attempts | None:
        """What the attempts of a call are accompanied by; `None` for nothing."""
        if not (callable(auth) or any(self.event_hooks.values()) or LOGGER.isEnabledFor(logging.INFO)):
            return None
        return Attempts(self.event_hooks, request, auth)

    def _tell_of_hosts(self) -> None:
        if events := self._engine.take_events():
            hand_on(LOGGER, events)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise UsageError("the client is closed: make another one, or leave its block later")

    def _close(self) -> None:
        self._closed = True
        self._engine.close()


def _checked_base(base_url: str) -> str:
    parts = urlsplit(base_url)
    if parts.query or parts.fragment:
        raise UsageError(
            f"base_url has a query or fragment, which no path can go behind: {_native.redacted(base_url)} (give what "
            "each call is to have as params=)"
        )
    return base_url


def _pairs(pairs: Pairs | None) -> list[tuple[str, Any]]:
    if pairs is None:
        return []
    if isinstance(pairs, Mapping):
        # A mapping is also an iterable, so a checker cannot tell which of the two was meant.
        return list(cast("Mapping[str, Any]", pairs).items())
    return list(pairs)


_ARGUMENTS = frozenset(
    [
        *["method", "headers", "params", "id", *RowOptions.__optional_keys__],
        *["json", "content", "data", "files", "body", "body_base64", "body_file", "form", "multipart"],
    ]
)

# What is called of a client, and the keywords that each takes.
_TOLD: dict[str, Any] = {
    "__init__": ClientOptions,
    "batch": FetchOptions,
    "set_limits": ClientLimits,
    **dict.fromkeys(
        [
            "build_request",
            "request",
            "stream",
            "download",
            "pages",
            "get",
            "head",
            "options",
            "post",
            "put",
            "patch",
            "delete",
        ],
        CallOptions,
    ),
}

# RFC 3986, section 3.1, before an authority: a path may have a colon in it, as `a:b`.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
