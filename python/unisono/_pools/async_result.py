"""What `apply_async`, `map_async` and `starmap_async` answer: an `AsyncResult` as `multiprocessing.Pool` has it.

It joins the futures of its parts, and is a future of the standard library itself, so that `wait`, `as_completed` and
`asyncio.wrap_future` take it. It cannot be cancelled, since its parts go on.

Leaves out telling of the first error before all parts are done; the standard one does not do that either.
"""

from __future__ import annotations

import concurrent.futures
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from unisono.errors import ResultTimeout

T = TypeVar("T")

_LOGGER = logging.getLogger("concurrent.futures")


class AsyncResult(concurrent.futures.Future[T]):
    """What `apply_async` and the like return: a result as `multiprocessing.Pool` has it, and a future as well.

    >>> with unisono.Pool(1) as pool:
    ...     pool.apply_async(abs, (-3,)).get(timeout=60)
    3
    """

    def __init__(
        self,
        parts: Sequence[concurrent.futures.Future[Any]],
        join: Callable[[list[Any]], T],
        callback: Callable[[T], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        super().__init__()
        self._parts = parts
        self._join = join
        self._left = len(parts)
        self._lock = threading.Lock()
        self._callback = callback
        self._error_callback = error_callback
        # It cannot be cancelled: its parts go on.
        self.set_running_or_notify_cancel()
        for part in parts:
            part.add_done_callback(self._part_done)
        if not parts:
            self._settle()

    def get(self, timeout: float | None = None) -> T:
        """The result, waited for so many seconds at most; raises what the task raised.

        Raises:
            ResultTimeout: It is not there in time; also a `multiprocessing.TimeoutError`.
        """
        self.wait(timeout)
        if not self.done():
            raise ResultTimeout(f"the result is not there after {timeout:g} s")
        return self.result()

    # It bounds the wait and raises nothing, so its name is that of multiprocessing.
    def wait(self, timeout: float | None = None) -> None:
        """Wait for it, so many seconds at most."""
        concurrent.futures.wait([self], timeout)

    def ready(self) -> bool:
        """Whether it is there."""
        return self.done()

    def successful(self) -> bool:
        """Whether nothing was raised.

        Raises:
            ValueError: It is not there yet.
        """
        if not self.done():
            raise ValueError(f"{self!r} not ready")
        return not self.cancelled() and self.exception() is None

    def __repr__(self) -> str:
        state = "done" if self.done() else f"{self._left} of {len(self._parts)} parts to come"
        return f"<AsyncResult {state}>"

    def _part_done(self, _: object) -> None:
        with self._lock:
            self._left -= 1
            if self._left:
                return
        self._settle()

    def _settle(self) -> None:
        try:
            value = self._join([part.result() for part in self._parts])
        except BaseException as error:
            # Callbacks come first, as with multiprocessing: a thread that has waited finds them done.
            # One that ends more than itself, as by `sys.exit`, keeps no thread waiting.
            try:
                self._tell(self._error_callback, error)
            finally:
                self.set_exception(error)
        else:
            try:
                self._tell(self._callback, value)
            finally:
                self.set_result(value)

    def _tell(self, callback: Callable[[Any], object] | None, value: object) -> None:
        try:
            if callback is not None:
                callback(value)
        except Exception:
            _LOGGER.exception("exception calling callback for %r", self)
