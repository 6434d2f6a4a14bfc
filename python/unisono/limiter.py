"""`Limiter`: the engine's limits without a batch, for threads and coroutines together.

Who asks first goes first, among those with the same key; keys take turns. Nothing is lost when somebody who waits is
cancelled or interrupted: a place that was just given is given back.

Left out: priorities, and limits that hold over several processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypedDict, Unpack

from unisono._native import Gate

__all__ = ["Limiter"]


class Bounds(TypedDict, total=False):
    """What a limiter bounds, and what may be changed."""

    limit: int
    per_key: int
    rate: str
    per_key_rate: str


class Limiter:
    """Bounds how many are inside at once and how often somebody enters, whoever they are.

    One object may be shared by threads, coroutines on any number of event loops, and the functions of several batches.

    Args:
        limit: Most inside at once; no bound by default.
        rate: Most entries per time, as `"100/s"`, `"5000/m"` or `"100/s burst 20"`.
        per_key: Most inside at once with the same key; see `of`.
        per_key_rate: Most entries with the same key.

    Raises:
        UsageError: When a bound is not what it should be.

    >>> limiter = Limiter(limit=10, rate="1000/s", per_key=2)
    >>> with limiter:
    ...     limiter.inside
    1
    >>> async def call(host):
    ...     async with limiter.of(host):
    ...         return limiter.inside
    >>> asyncio.run(call("web-1"))
    1
    >>> limiter.limit = 20
    """

    def __init__(
        self,
        limit: int | None = None,
        *,
        rate: str | None = None,
        per_key: int | None = None,
        per_key_rate: str | None = None,
    ) -> None:
        self._gate = Gate(limit=limit, rate=rate, per_key=per_key, per_key_rate=per_key_rate)
        self._limit = limit
        # Held for a look at who may go, never while anybody waits.
        self._lock = threading.Lock()
        self._waiting: dict[int, Callable[[], None]] = {}
        self._inside: defaultdict[str, list[int]] = defaultdict(list)
        # Lives only while somebody waits for time to pass.
        self._clock: threading.Thread | None = None
        self._look_again = threading.Condition(self._lock)

    def of(self, key: object) -> Held:
        """What is entered by those that share a key, such as a host: `with limiter.of(host): ...`."""
        return Held(self, str(key))

    def acquire(self, key: object = "") -> None:
        """Wait until there is a place, and take it. To be used with `release` where a `with` block does not fit."""
        name = str(key)
        place = threading.Lock()
        place.acquire()
        number, is_inside = self._ask(name, place.release)
        try:
            if not is_inside:
                place.acquire()
        except BaseException:
            self._take_back(number, name)
            raise

    async def aacquire(self, key: object = "") -> None:
        """As `acquire`, for coroutines."""
        name = str(key)
        loop = asyncio.get_running_loop()
        place = loop.create_future()

        def give() -> None:
            if not place.done():
                place.set_result(None)

        number, is_inside = self._ask(name, lambda: _on_loop(loop, give))
        try:
            if not is_inside:
                await place
        except BaseException:
            self._take_back(number, name)
            raise

    def release(self, key: object = "") -> None:
        """Give a place back.

        Raises:
            RuntimeError: When nobody with this key is inside.
        """
        name = str(key)
        with self._lock:
            inside = self._inside.get(name)
            if not inside:
                raise RuntimeError(f"nobody is inside {f'with the key `{name}`' if name else 'the limiter'}")
            number = inside.pop()
            if not inside:
                del self._inside[name]
            self._gate.done(number)
            self._let_in()

    @property
    def inside(self) -> int:
        """How many are inside."""
        return self._gate.in_flight

    @property
    def limit(self) -> int | None:
        """Most inside at once, which may be changed at any time; `None` for no bound."""
        return self._limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self.set_limits(limit=limit)

    def set_limits(self, **bounds: Unpack[Bounds]) -> None:
        """Change bounds; they hold from then on. A rate of `"none"` takes it away. Who is inside stays."""
        with self._lock:
            self._gate.set_limits(**bounds)
            self._limit = bounds.get("limit", self._limit)
            self._let_in()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    async def __aenter__(self) -> Self:
        await self.aacquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()

    def _ask(self, name: str, give: Callable[[], None]) -> tuple[int, bool]:
        """Get in line; answer the number, and whether there was a place at once."""
        with self._lock:
            number = self._gate.ask(name)
            is_inside = False

            def enter() -> None:
                nonlocal is_inside
                is_inside = True
                self._inside[name].append(number)

            self._waiting[number] = enter
            self._let_in()
            if not is_inside:

                def enter_later() -> None:
                    self._inside[name].append(number)
                    give()

                self._waiting[number] = enter_later
            return number, is_inside

    def _take_back(self, number: int, name: str) -> None:
        """Whoever waited does not want to go any more; they may have been let in in this very moment."""
        with self._lock:
            if self._waiting.pop(number, None) is None:
                self._inside[name].remove(number)
                if not self._inside[name]:
                    del self._inside[name]
            self._gate.done(number)
            self._let_in()

    def _let_in(self) -> None:
        """Let in whoever may go. Called with the lock held."""
        numbers, seconds = self._gate.lease()
        for number in numbers:
            self._waiting.pop(number)()
        if seconds is not None and self._waiting:
            if self._clock is None:
                self._clock = threading.Thread(target=self._watch_time, name="unisono-limiter", daemon=True)
                self._clock.start()
            self._look_again.notify()

    def _watch_time(self) -> None:
        with self._lock:
            while self._waiting:
                numbers, seconds = self._gate.lease()
                for number in numbers:
                    self._waiting.pop(number)()
                if (
                    not numbers
                    and not self._look_again.wait(seconds if seconds is not None else _IDLE)
                    and seconds is None
                ):
                    break
            self._clock = None


class Held:
    """A limiter, entered with a key."""

    def __init__(self, limiter: Limiter, key: str) -> None:
        self._limiter = limiter
        self._key = key

    def __enter__(self) -> Limiter:
        self._limiter.acquire(self._key)
        return self._limiter

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limiter.release(self._key)

    async def __aenter__(self) -> Limiter:
        await self._limiter.aacquire(self._key)
        return self._limiter

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limiter.release(self._key)


def _on_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if running is loop:
        call()
    else:
        # A loop that has been closed takes nothing; whoever waited there has gone, and gives the place back as they do.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(call)


# Those who wait for others, not for time, need no clock for long.
_IDLE = 1.0
