"""Progress of a batch on standard error, or as numbers for a callable.

On a terminal and in a notebook it is one line that is written anew, elsewhere a line now and then, as a log wants it.

Its words are those of the command. It is asked by whatever waits for outcomes, so a program that is busy with one shows
nothing meanwhile, and no thread is needed.
"""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from unisono import _native
from unisono._wording import size, span

__all__ = ["Display", "Progress", "tell"]

Numbers: TypeAlias = dict[str, Any]
Progress: TypeAlias = bool | Callable[[Numbers], object]


class _Run(Protocol):
    def progress(self) -> Numbers: ...


class Display:
    """Shows the numbers of a run.

    Args:
        progress: `True` for standard error, a callable for the numbers themselves, `False` for nothing.
        clock: Returns seconds.
    """

    def __init__(self, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._clock = clock
        self._begun = clock()
        self._recent: deque[tuple[float, int]] = deque()
        self._width = 0
        self._is_log = progress is True and not _is_rewritten()
        self.every = None if not progress else _LOG_EVERY if self._is_log else _SHOW_EVERY
        # A log says nothing of a run that is over before its first line is due.
        self._due = self._begun + (_LOG_EVERY if self._is_log else 0.0)

    def show(self, run: _Run) -> None:
        """Show how far the run is, unless that was shown a moment ago."""
        if self.every is not None and self._clock() >= self._due:
            self._due = self._clock() + self.every
            self._show(run.progress())

    def end(self, run: _Run) -> None:
        """Show how far it came."""
        if self.every is None:
            return
        self._show(run.progress())
        if self._width:
            tell("\n")

    def _show(self, numbers: Numbers) -> None:
        if callable(self._progress):
            self._tell(self._progress, numbers)
            return
        text = self._text(numbers)
        if self._is_log:
            tell(f"{span(self._clock() - self._begun)}: {text}\n")
        else:
            # What was there before may have been longer.
            tell(f"\r{text:<{self._width}}")
            self._width = len(text)

    def _tell(self, progress: Callable[[Numbers], object], numbers: Numbers) -> None:
        try:
            progress(numbers)
        except Exception as error:
            # What only looks on does not stop the work.
            self.every = None
            message = f"progress= raised {error!r}, and is not asked any more; the batch goes on"
            warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _text(self, numbers: Numbers) -> str:
        done, total = numbers["done"], numbers["total"]
        # What an earlier run has done came at once, and says nothing of the pace.
        rate = self._rate(done - numbers["kept"])
        of = f"/{total}" if total is not None else ""
        parts = [f"{done}{of} done", f"{rate:.0f}/s", f"{numbers['in_flight']} in flight"]
        parts += [size(numbers["bytes"])] if numbers["bytes"] else []
        bad = numbers["failed"] + numbers["timed_out"] + numbers["ambiguous"]
        parts += [f"{bad} not ok"] if bad else []
        if numbers["waiting_for"]:
            parts.append(f"waiting for {_native.printable(numbers['waiting_for'][0])}")
        elif total is not None and total > done and rate > 0:
            parts.append(f"{span((total - done) / rate)} left")
        return " · ".join(parts)

    def _rate(self, done: int) -> float:
        """Items per second in the last few seconds."""
        now = self._clock()
        recent = self._recent
        if not recent:
            recent.append((self._begun, 0))
        recent.append((now, done))
        while len(recent) > 2 and now - recent[0][0] > _RECENT:
            recent.popleft()
        return (done - recent[0][1]) / max(now - recent[0][0], 0.001)


def tell(text: str) -> None:
    """Write to standard error, whatever has become of it: there is no place to say that it is closed or full."""
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


def _is_rewritten() -> bool:
    """Whether a carriage return begins the line anew where standard error is shown."""
    if sys.stderr is None:
        return False
    try:
        return sys.stderr.isatty() or "ipykernel" in sys.modules
    except ValueError:
        # It is closed.
        return False


_SHOW_EVERY = 0.2
_LOG_EVERY = 5.0
_RECENT = 5.0
