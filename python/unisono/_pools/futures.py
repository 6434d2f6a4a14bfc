"""The futures of the pools' tasks: each a `concurrent.futures.Future` that makes its lock only when it is looked at.

A program that asks for results never needs a lock per task: their native halves know how to wait. The standard `wait`,
`as_completed` and `asyncio.wrap_future` do: they look at `_condition`, `_state` and `_waiters`, or add a callback. Then
the future's end is told (`_announce`) as the standard executors do it: by the thread that ran the task, or by the one
in the background when it was a process.
"""

from __future__ import annotations

import concurrent.futures
import logging
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from unisono import _forks
from unisono._native import FutureCore, ThreadTask

T = TypeVar("T")

_LOGGER = logging.getLogger("concurrent.futures")
#: What the standard library calls the places where a task can be.
_STATES = {"pending": "PENDING", "running": "RUNNING", "ended": "FINISHED", "cancelled": "CANCELLED_AND_NOTIFIED"}


class PoolFuture(concurrent.futures.Future[T]):
    """What the futures of both pools have in common. The first base of each is its native half."""

    # Nothing to make: the class of the standard library would make its lock here.
    __init__ = object.__init__

    if TYPE_CHECKING:

        def place(self) -> str:
            """`pending`, `running`, `ended` or `cancelled`; of the native half."""

        def observe(self) -> bool:
            """Has `_announce` called at the end; false when it has ended. Of the native half."""

        def refuse_if_forked(self) -> None:
            """Refuses in the child of a fork, unless it has ended. Of the native half."""

    def cancelled(self) -> bool:
        """Whether the task was cancelled."""
        return self.place() == "cancelled"

    def running(self) -> bool:
        """Whether a worker has begun the task, and it has not ended."""
        return self.place() == "running"

    def done(self) -> bool:
        """Whether the task has ended or was cancelled."""
        return self.place() in {"ended", "cancelled"}

    def add_done_callback(self, fn: Callable[[concurrent.futures.Future[T]], object]) -> None:
        """Have `fn(future)` called when the task has ended, by the thread that tells of it; at once when it has."""
        observation = self._observation
        with _LOCK:
            if not observation.is_told:
                observation.callbacks.append(fn)
                return
        call_all([fn], self)

    def set_running_or_notify_cancel(self) -> bool:
        """Not for callers: the pool says what its tasks do."""
        raise RuntimeError("the future of a pool's task is set by the pool alone")

    def set_result(self, result: T) -> None:
        """Not for callers: the pool says what its tasks do."""
        raise RuntimeError("the future of a pool's task is set by the pool alone")

    def set_exception(self, exception: BaseException | None) -> None:
        """Not for callers: the pool says what its tasks do."""
        raise RuntimeError("the future of a pool's task is set by the pool alone")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {id(self):#x} {self.place()}>"

    @property
    def _observation(self) -> _Observation:
        observation: _Observation | None = self.__dict__.get("_observation")
        if observation is None or not observation.is_told:
            # A waiter of the standard library would wait for ever there.
            self.refuse_if_forked()
        if observation is None:
            # Of two threads that look first, one wins; only then is it told.
            observation = self.__dict__.setdefault("_observation", _Observation())
            if not self.observe():
                observation.is_told = True
        return observation

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        observation = self._observation
        with _LOCK:
            if observation.condition is None:
                observation.condition = threading.Condition()
            return observation.condition

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        return self._observation.waiters

    @property
    def _state(self) -> str:  # type: ignore[override]
        observation = self._observation
        place = self.place()
        # Until its end is told, it has not ended: a waiter that looks under the lock must not miss it.
        if place in {"ended", "cancelled"} and not observation.is_told:
            return "RUNNING"
        return _STATES[place]

    def _announce(self) -> None:
        """Tell the waiters of the end, once."""
        observation = self._observation
        with _LOCK:
            if observation.is_told:
                return
            condition = observation.condition
            callbacks = observation.tell() if condition is None else []
        if condition is not None:
            # The condition first, as in `concurrent.futures.wait`, and `_LOCK` within it: never the other way round.
            with condition:
                with _LOCK:
                    # Another thread may have told it while this one waited for the condition.
                    if observation.is_told:
                        return
                    callbacks = observation.tell()
                cancelled = self.cancelled()
                for waiter in observation.waiters:
                    if cancelled:
                        waiter.add_cancelled(self)
                    elif self.exception() is not None:
                        waiter.add_exception(self)
                    else:
                        waiter.add_result(self)
                condition.notify_all()
        call_all(callbacks, self)

    def _cancelled_by(self, is_stopped: bool) -> bool:
        """What a `cancel` returns whose `stop` has returned this; now it is told."""
        if not is_stopped:
            return self.cancelled()
        # Callbacks are called by the thread that ends a task, but `cancel` expects the state at once.
        if "_observation" in self.__dict__:
            self._announce()
        return True


def call_all(callbacks: Iterable[Callable[[Any], object]], future: concurrent.futures.Future[Any]) -> None:
    """Call all of a future's callbacks; what one of them raises is logged, as by the standard library.

    What is no `Exception`, such as `SystemExit` or Ctrl-C, is raised when all have been called: a loop or an executor
    may wait by another of them.
    """
    ending: BaseException | None = None
    for callback in callbacks:
        try:
            callback(future)
        except Exception:
            _LOGGER.exception("exception calling callback for %r", future)
        except BaseException as error:
            ending = ending or error
    if ending is not None:
        raise ending


def log_ending(future: concurrent.futures.Future[Any]) -> None:
    """Say of what a callback has raised in a thread of ours that it ends nothing there."""
    _LOGGER.exception("exception calling callback for %r", future)


class Future(FutureCore, PoolFuture[T]):
    """What will become of one task of a `unisono.ProcessPool`.

    Made by `submit`. It is all that a `concurrent.futures.Future` is, and accepted wherever one is.

    >>> with unisono.ProcessPool(1) as pool:
    ...     future = pool.submit(pow, 2, 10)
    ...     future.result(timeout=60)
    1024
    """

    def cancel(self, running: bool = False) -> bool:
        """Cancel the task if it has not begun.

        Args:
            running: If it has, kill its worker; the pool has another one at once.

        Returns:
            Whether it is cancelled; false when it has begun or ended.
        """
        return self._cancelled_by(self.stop(running=running))

    def result(self, timeout: float | None = None) -> T:
        """What the task returned, waited for.

        Args:
            timeout: How many seconds to wait at most; the task itself is not bounded by it.

        Raises:
            TimeoutError: It has not ended within `timeout`.
            concurrent.futures.CancelledError: It was cancelled.
            WorkerDied: Its worker ended under it.
            TaskTimeout: It was past its own timeout.
            BaseException: Whatever it raised.
        """
        value: T = FutureCore.result(self, timeout)
        return value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the task raised, waited for; `None` when it returned. Raises as `result` does."""
        return FutureCore.exception(self, timeout)


class ThreadFuture(ThreadTask, PoolFuture[T]):
    """What will become of one task of a `unisono.ThreadPool`.

    Made by `submit`. It is all that a `concurrent.futures.Future` is, and accepted wherever one is.

    >>> with unisono.ThreadPool(1) as pool:
    ...     future = pool.submit(pow, 2, 10)
    ...     future.result(timeout=60)
    1024
    """

    def cancel(self) -> bool:
        """Cancel the task if it has not begun.

        Returns:
            Whether it is cancelled; false when it has begun or ended: no thread can be stopped.
        """
        return self._cancelled_by(self.stop())

    def run(self) -> bool:
        """Not for callers: what a thread of the pool does with it.

        Returns:
            Whether `_announce` is waited for.
        """
        call = self.begin()
        if call is None:
            return False
        function, arguments, keywords, context = call
        try:
            value = context.run(function, *arguments, **(keywords or {}))
        except BaseException as error:
            is_observed = self.raised(error)
            # The traceback holds this frame, which would hold the error through the future, and the arguments.
            del self, call, function, arguments, keywords, context
            return is_observed
        # Only the task holds them now, which lets go of them before its end is told.
        del call, function, arguments, keywords, context
        return self.returned(value)

    def fail(self, error: BaseException) -> None:
        """Not for callers: it will not be run."""
        if self.raised(error):
            self._announce()


class _Observation:
    """What the standard library looks at in a future.

    A condition is made when it is first asked for, since callbacks need none: a lock per future would cost more than
    the rest of it.
    """

    __slots__ = ("callbacks", "condition", "is_told", "waiters")

    def __init__(self) -> None:
        self.condition: threading.Condition | None = None
        self.waiters: list[Any] = []
        self.callbacks: list[Callable[..., object]] = []
        self.is_told = False

    def tell(self) -> list[Callable[..., object]]:
        """From now on it has ended, under the lock; returns the callbacks, which are called once."""
        self.is_told = True
        callbacks, self.callbacks = self.callbacks, []
        return callbacks


#: Held for a few instructions. Reentrant, since a handler of a signal may come between them and look at a future too.
_LOCK = threading.RLock()


@_forks.resets
def _forget_in_child() -> None:
    """After a fork: another thread may have held the lock."""
    global _LOCK
    _LOCK = threading.RLock()
