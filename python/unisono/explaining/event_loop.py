"""An event loop that knows for how long it was kept from its work, and by which line.

A loop is free while it waits in its selector; everything between two waits is a turn, in which nothing else runs. So
the selector notes when it is entered and left. A second thread looks at the loop's stack when a turn has lasted for
10 ms, and notes the innermost line that is not of the standard library, which is the one its author can change.
"""

from __future__ import annotations

import asyncio
import collections
import linecache
import selectors
import sys
import sysconfig
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, TypeVar

from unisono.explaining import machine
from unisono.explaining.answer import Blocking

__all__ = ["WatchedLoop"]

T = TypeVar("T")

# asyncio's own debug mode calls 100 ms slow; a tenth of it is what a service at 100 requests a second notices.
_LONG = 0.01


class WatchedLoop:
    """Runs coroutines one after another on a loop of its own, as a context manager."""

    def __init__(self) -> None:
        self._selector = _NotingSelector()
        self._runner = asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(self._selector))
        self._lines: collections.Counter[str] = collections.Counter()
        self._over = threading.Event()
        self._watchdog = threading.Thread(target=self._watch, args=(threading.get_ident(),), daemon=True)

    def __enter__(self) -> WatchedLoop:
        self._runner.__enter__()
        self._watchdog.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._watchdog.join()
        self._runner.__exit__(kind, error, traceback)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it to its end on this thread; turns count from here on."""
        self._selector.begin()
        try:
            return self._runner.run(coroutine)
        finally:
            self._selector.turn_began = None

    def blocking(self, wall: float) -> Blocking:
        """How the loop was blocked in `wall` seconds of runs."""
        selector = self._selector
        return Blocking(
            share=min(1.0, selector.blocked / wall) if wall > 0 else 0.0,
            longest=selector.longest,
            working=min(1.0, selector.worked / selector.blocked) if selector.blocked > 0 else 0.0,
            where=self._lines.most_common(1)[0][0] if self._lines else None,
        )

    def _watch(self, thread: int) -> None:
        while not self._over.wait(_LONG / 2):
            began = self._selector.turn_began
            if began is None or time.perf_counter() - began < _LONG:
                continue
            frame = sys._current_frames().get(thread)
            # The turn may have ended while this thread waited for the interpreter lock.
            if frame is not None and self._selector.turn_began == began and (line := _line(frame)) is not None:
                self._lines[line] += 1


class _NotingSelector(selectors.DefaultSelector):
    """Notes how long the loop did not wait."""

    turn_began: float | None = None
    blocked = 0.0
    longest = 0.0
    worked = 0.0
    _worked_before = 0.0

    def begin(self) -> None:
        """A turn begins now."""
        self._worked_before = _worked()
        self.turn_began = time.perf_counter()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.turn_began is not None:
            turn = time.perf_counter() - self.turn_began
            self.blocked += turn
            self.longest = max(self.longest, turn)
            self.worked += _worked() - self._worked_before
        self.turn_began = None
        ready = super().select(timeout)
        self.begin()
        return ready


def _worked() -> float:
    """Seconds in which this thread computed, or would have if it had had a core."""
    return time.thread_time() + machine.queued()


def _line(innermost: FrameType) -> str | None:
    """The innermost line outside of the standard library, of what runs on the loop."""
    frame: FrameType | None = innermost
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_OURS):
            # What is further out has called us; it does not run on the loop.
            return None
        installed = "site-packages" in name
        if installed or not name.startswith((_STANDARD, "<frozen")):
            source = linecache.getline(name, frame.f_lineno, frame.f_globals).strip()
            return f"{Path(name).name}:{frame.f_lineno} in {frame.f_code.co_name}: {source}"
        frame = frame.f_back
    return None


_STANDARD = sysconfig.get_path("stdlib") + "/"
_OURS = str(Path(__file__).parent) + "/"
