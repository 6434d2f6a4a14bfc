"""What the attempts of one call are accompanied by: hooks, a signature, and the log.

All of it runs in the caller's own thread or task, with its context variables, before the call returns. The engine waits
for what a hook or signature makes of a request, and for nothing else.

A call is told of by a generator, which yields what each hook returned and is sent what came of that: so threads and
event loops share it, and only the latter await.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from unisono import _native
from unisono._native import FetchOutcome, Request, Response
from unisono._options import Auth
from unisono.errors import UsageError

__all__ = ["Attempts", "Retry", "Told", "drive", "drive_on_loop", "hooks_of"]

Hook: TypeAlias = Callable[[Any], Any]
Told: TypeAlias = Generator[Any, Any, None]

LOGGER = logging.getLogger("unisono.http")


@dataclass(frozen=True)
class Retry:
    """There will be another attempt of a call.

    Attributes:
        request: What was sent.
        attempt: The attempt that has just ended, from 1.
        wait: Seconds until the next one, at the least.
        throttled: The server asked for that wait, or refused for now.
        error: Why.
        response: The answer, where there is one.
    """

    request: Request
    attempt: int
    wait: float
    throttled: bool
    error: BaseException | None
    response: Response | None


def hooks_of(given: Mapping[str, list[Hook]] | None) -> dict[str, list[Hook]]:
    """Hooks by when they are called.

    Raises:
        UsageError: There are none for such a time.
    """
    hooks: dict[str, list[Hook]] = {when: [] for when in _TIMES}
    for when, those in (given or {}).items():
        if when not in hooks:
            times = ", ".join(f"`{time}`" for time in _TIMES)
            raise UsageError(f"event_hooks: there are hooks for {times}, and none for {when!r}")
        if callable(those):
            raise UsageError(f"event_hooks: {when!r} must be a list of functions, as [{those!r}]")
        kept = list(those) if isinstance(those, Iterable) else [those]
        if not all(map(callable, kept)):
            raise UsageError(f"event_hooks: {when!r} must be a list of functions, not {those!r}")
        hooks[when] = kept
    return hooks


class Attempts:
    """The attempts of one call.

    Attributes:
        wants: What the engine is to tell of them.
    """

    def __init__(self, hooks: dict[str, list[Hook]], request: Request, auth: Auth | None) -> None:
        self._hooks = hooks
        self._request = self._sent = request
        self._sign = auth if callable(auth) else None
        self.wants = {
            "to_be_asked": bool(hooks["request"] or self._sign),
            "attempts": LOGGER.isEnabledFor(logging.DEBUG),
            "retries": LOGGER.isEnabledFor(logging.INFO) or any(hooks[when] for when in _TIMES if when != "request"),
        }

    def told(self, engine: _native.ClientEngine, call: _native.ClientCall) -> Told:
        """What has happened since the last look is told to whom it concerns."""
        for event in call.events():
            if event[0] == "attempt":
                _, number, asks = event
                LOGGER.debug("%r: attempt %d", self._request, number, extra=self._extra(number))
                if asks:
                    yield from self._ask()
                    engine.reply(call, number, self._sent)
            else:
                _, number, wait, throttled, text, outcome = event
                yield from self.ended(outcome)
                LOGGER.info("%r: %s: %s", self._request, text, outcome.error, extra=self._extra(number))
                retry = Retry(self._sent, number, wait, throttled, outcome.error, outcome.result)
                for hook in self._hooks["retry"]:
                    yield hook(retry)

    def ended(self, outcome: FetchOutcome) -> Told:
        """An attempt has ended with an answer or without."""
        when, what = ("failure", outcome.error) if outcome.result is None else ("response", outcome.result)
        for hook in self._hooks[when]:
            yield hook(what)

    def _ask(self) -> Told:
        # Each attempt begins with what was asked for: a signature has the time in it, and a trace its own span.
        request = self._request
        for hook in self._hooks["request"]:
            returned = yield hook(request)
            if returned is not None:
                request = replaced(request, returned, "a request hook")
        if self._sign is not None:
            returned = yield self._sign(request)
            request = replaced(request, returned, "auth")
        self._sent = request

    def _extra(self, attempt: int) -> dict[str, Any]:
        return {"item": self._request.id, "key": _native.redacted(self._request.url), "attempt": attempt}


def replaced(request: Request, returned: object, name: str) -> Request:
    """The request that a callable returned in place of the one that it was given.

    Raises:
        UsageError: It returned something else.
    """
    if isinstance(returned, Request):
        return returned
    raise UsageError(
        f"{name} returned {_native.printable(repr(returned))[:60]}, not a request: a request does not change, so "
        'return a new one, as request.with_headers({"X-Signature": ...})'
    )


def drive(told: Told) -> None:
    """Run it on a thread, where nothing is awaited."""
    returned = None
    while True:
        try:
            returned = told.send(returned)
        except StopIteration:
            return


async def drive_on_loop(told: Told) -> None:
    """Run it on an event loop: what a hook returns is awaited where that can be."""
    returned = None
    while True:
        try:
            returned = told.send(returned)
        except StopIteration:
            return
        if isinstance(returned, Awaitable):
            returned = await returned


_TIMES = ("request", "response", "failure", "retry")
