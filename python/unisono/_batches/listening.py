"""Waiting for a notifier on an event loop, without the loop keeping what is waited for.

A loop holds on to what it watches. What it holds here knows the notifier and the waiters, and never the batch or the
client: so an object that nothing else holds is freed at once, by its reference count. A task that waits is kept by
the loop all the same, through the future that it waits for, as everything that waits for a socket is.

A child of fork shares the parent's selector, so it leaves that alone.

A loop that is closed says nothing, and one that nothing holds any more does not either. But each drops what it would
have called; and what it holds alone goes then, and can tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import weakref
from collections.abc import Callable
from typing import Any, Protocol

from unisono._forks import HomeProcess

__all__ = ["Listener", "LoopWatch", "on_loop"]


class _Described(Protocol):
    def fileno(self) -> int: ...


class _Notifier(_Described, Protocol):
    def clear(self) -> None: ...


class _Ending(Protocol):
    def notifier(self) -> _Notifier | None: ...


class LoopWatch:
    """Calls when a descriptor becomes readable, as long as the loop runs.

    Args:
        loop: Where to call.
        notifier: Has the descriptor.
        heard: Is called. It is what the loop keeps.
        left: Is called, on whatever thread, once the loop calls no more: this was left, the loop was closed, or nothing
            has it any more.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        notifier: _Described,
        heard: Callable[[], object],
        left: Callable[[], object] | None = None,
    ) -> None:
        self._loop = weakref.ref(loop)
        # Let go of with the loop: it has a descriptor, and what keeps this is not to keep that.
        self._notifier: _Described | None = notifier
        self._home = HomeProcess()
        loop.add_reader(notifier.fileno(), heard if left is None else _Ear(heard, left))

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """Where it calls, if that is still there."""
        return self._loop()

    def leave(self) -> None:
        """Call no more. May be called from any thread."""
        loop, notifier = self.loop, self._notifier
        if not self._home.is_here():
            return
        self._notifier = None
        if loop is not None and notifier is not None:
            # The notifier goes along, since its descriptor must not be another file's by then.
            on_loop(loop, _unwatch, loop, notifier)


class _Ear:
    """What a loop calls, and nothing else holds: the loop's end is its own."""

    def __init__(self, heard: Callable[[], object], left: Callable[[], object]) -> None:
        self._heard = heard
        self._left = left
        self._home = HomeProcess()

    def __call__(self) -> None:
        self._heard()

    def __del__(self) -> None:
        # A child of fork has a copy of the loop, and none of what the loop was for. At the end of the program there may
        # be nothing left to call.
        with contextlib.suppress(Exception):
            if self._home.is_here():
                self._left()


class Listener:
    """Waits for news of something that ends, on whatever loop it is asked to, and on several at once.

    Args:
        source: Has a notifier until it has ended, which is used when there is something to look at. After its end all
            there is to know is there, and nothing waits.
    """

    def __init__(self, source: _Ending) -> None:
        self._source = source
        self._waiters: set[asyncio.Future[None]] = set()
        # One on each loop on which a task waits, or the last one on which a task did.
        self._watches: tuple[LoopWatch, ...] = ()
        # Held to change the above, for no longer than that takes.
        self._lock = threading.Lock()

    async def wait(self, seconds: float | None = None) -> None:
        """Wait until it is notified, or so many seconds."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiters.add(waiter)
        if all(watch.loop is not loop for watch in self._watches) and not self._begin_to_watch(loop):
            _wake(waiter)
        timer = loop.call_later(seconds, _wake, waiter) if seconds else None
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)
            if timer is not None:
                timer.cancel()

    def notify(self) -> None:
        """Wake all waiters, on whatever loop. May be called from any thread."""
        # Made at once, since others come and go on their threads.
        for waiter in tuple(self._waiters):
            on_loop(waiter.get_loop(), _wake, waiter)

    def leave(self) -> None:
        """Watch no loop any more. May be called from any thread."""
        with self._lock:
            watches, self._watches = self._watches, ()
        for watch in watches:
            watch.leave()

    def _begin_to_watch(self, loop: asyncio.AbstractEventLoop) -> bool:
        notifier = self._source.notifier()
        if notifier is None:
            return False
        waited_on = {waiter.get_loop() for waiter in tuple(self._waiters)}
        watch = LoopWatch(loop, notifier, functools.partial(self._heard, notifier))
        with self._lock:
            left = [other for other in self._watches if other.loop not in waited_on]
            self._watches = (*(other for other in self._watches if other not in left), watch)
        for other in left:
            other.leave()
        return True

    def _heard(self, notifier: _Notifier) -> None:
        notifier.clear()
        self.notify()


def on_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *arguments: Any) -> None:
    """Call this where the loop runs: now if that is here or nowhere, else soon; never once the loop is closed."""
    if loop.is_closed():
        return
    if loop.is_running() and asyncio._get_running_loop() is not loop:
        # It may be closed meanwhile.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(call, *arguments)
    else:
        call(*arguments)


def _unwatch(loop: asyncio.AbstractEventLoop, notifier: _Described) -> None:
    loop.remove_reader(notifier.fileno())


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
