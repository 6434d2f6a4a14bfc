"""`retry`: the engine's repeats without a batch, as a decorator and as a loop.

The waits are exponential with full jitter, and a budget bounds the repeats of all calls of the same key together, so
that an outage does not multiply the load.

What ends a program or a task is never repeated: Ctrl-C, `sys.exit`, a cancellation, a generator that is closed.

Left out: bounds on the time of one attempt (`asyncio.timeout` is that), and repeats of generators.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, TypeVar, cast

from unisono._functions.callables import asked, is_coroutine_function, is_generator_function, plain
from unisono._keywords import told
from unisono._native import Retries
from unisono._options import RetryOn, Time
from unisono.errors import UsageError

__all__ = ["Attempt", "retry"]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


class retry:  # noqa: N801 (used as a function)
    """Repeat what failed: as a decorator of plain and coroutine functions, or as a loop.

    What is called may be anything that can be: a function, a partial, an object. Whether it is repeated on an event
    loop is decided by what a call returns: where that is a coroutine, the attempt is over when the coroutine is. The
    last exception is raised as it is, with a note of how often it was tried, and why it was not tried again where there
    were repeats left.

    A plain function waits for its repeat in its thread. On the thread of a running event loop that keeps all of its
    coroutines waiting, of which a `RuntimeWarning` tells.

    Args:
        retries: Most repeats.
        retry_on: What is worth a repeat: exception types, or a function that is given the exception. There is no
            default: only you know what may be done twice. `KeyboardInterrupt`, `SystemExit`, `GeneratorExit`,
            `asyncio.CancelledError` and groups with one of them are never repeated; to name one, or `BaseException`
            with all of them, is an error.
        deadline: No repeat starts later than this after the first attempt; seconds, or text such as `"30s"`.
        key: With the decorator, returns from the call's arguments what shares a budget of repeats, such as a host; by
            default, all calls do.
        base, cap: The longest first wait, and the longest of all.

    Raises:
        UsageError: When an option is not what it should be.

    >>> attempts = []
    >>> @retry(retries=3, retry_on=ConnectionError, base="1ms")
    ... def call(host):
    ...     attempts.append(host)
    ...     if len(attempts) < 3:
    ...         raise ConnectionError
    ...     return "up"
    >>> call("web-1"), len(attempts)
    ('up', 3)

    >>> for attempt in retry(retries=3, retry_on=OSError, base="1ms"):
    ...     with attempt:
    ...         if attempt.number < 2:
    ...             raise OSError
    >>> attempt.number
    2
    """

    @told("retry", positional="write @unisono.retry(retry_on=OSError), which says what may be done twice")
    def __init__(
        self,
        *,
        retry_on: RetryOn,
        retries: int = 3,
        deadline: Time | None = None,
        key: Callable[..., object] | None = None,
        base: Time = "250ms",
        cap: Time = "20s",
    ) -> None:
        self._retry_on, self._retries = retry_on, retries
        self._is_worth_another = predicate(retry_on)
        self._key = None if key is None else asked(key, "key")
        self._is_bounded = deadline is not None
        self._shared = Retries(retries=retries, deadline=deadline, base=base, cap=cap)

    def __call__(self, function: FunctionT) -> FunctionT:
        """Decorate a function.

        Raises:
            UsageError: It cannot be called, or makes generators.
        """
        if not callable(function):
            raise UsageError(f"what is repeated must be a function, not {type(function).__name__}")
        if is_generator_function(function):
            raise UsageError(_NO_GENERATOR)
        if is_coroutine_function(function):

            @functools.wraps(function)
            async def call_on_loop(*args: Any, **keywords: Any) -> Any:
                return await _on_loop(self._of(args, keywords), function, args, keywords)

            return cast("FunctionT", call_on_loop)

        @functools.wraps(function)
        def call(*args: Any, **keywords: Any) -> Any:
            attempts = self._of(args, keywords)
            for attempt in attempts:
                with attempt:
                    result = function(*args, **keywords)
                    is_coroutine = _is_to_be_awaited(result)
                    if is_coroutine:
                        attempt.goes_on()
                    break
            if is_coroutine:
                return _on_loop(attempts, function, args, keywords, (attempt, result))
            if inspect.isgenerator(result) or inspect.isasyncgen(result):
                raise UsageError(_NO_GENERATOR)
            return result

        return cast("FunctionT", call)

    def __iter__(self) -> Iterator[Attempt]:
        return self._attempts("")

    def __aiter__(self) -> AsyncIterator[Attempt]:
        return self._attempts("")

    def __repr__(self) -> str:
        return f"<retry of {_shown(self._retry_on)}, at most {self._retries} times>"

    def _of(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> _Attempts:
        return self._attempts("" if self._key is None else str(self._key(*args, **keywords)))

    def _attempts(self, key: str) -> _Attempts:
        # Why there is no other attempt although there would be repeats left.
        why = "the budget of repeats is used up"
        if self._is_bounded:
            why = f"the deadline is too near, or {why}"
        return _Attempts(self._shared, self._is_worth_another, key, f"not repeated more: {why}", self._retries)


class Attempt:
    """One attempt: what it raises is taken in when there will be another.

    Attributes:
        number: 1 for the first.
    """

    def __init__(self, attempts: _Attempts, number: int) -> None:
        self._attempts = attempts
        self._goes_on = False
        self.number = number

    def __enter__(self) -> Attempt:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if self._goes_on and error is None:
            self._goes_on = False
            return False
        return self._attempts.ended(error)

    def goes_on(self) -> None:
        """Have it not end with the block that it is in now, but with the next one."""
        self._goes_on = True

    def __repr__(self) -> str:
        return f"<Attempt {self.number}>"


class _Attempts:
    """The attempts of one call."""

    def __init__(
        self,
        shared: Retries,
        is_worth_another: Callable[[BaseException], bool],
        key: str,
        why_no_more: str,
        retries: int,
    ) -> None:
        self._shared = shared
        self._why_no_more = why_no_more
        self._retries = retries
        self._is_worth_another = is_worth_another
        self._ticket = shared.begin(key)
        self._count = 0
        # Seconds to wait before the next attempt; none when there is no other.
        self._wait: float | None = 0.0

    def __iter__(self) -> Iterator[Attempt]:
        return self

    def __next__(self) -> Attempt:
        if self._wait is None:
            raise StopIteration
        if self._wait > 0:
            if asyncio._get_running_loop() is not None:
                _warn_of_waiting(self._wait)
            time.sleep(self._wait)
        return self._next()

    def __aiter__(self) -> AsyncIterator[Attempt]:
        return self

    async def __anext__(self) -> Attempt:
        if self._wait is None:
            raise StopAsyncIteration
        if self._wait > 0:
            await asyncio.sleep(self._wait)
        return self._next()

    def ended(self, error: BaseException | None) -> bool:
        """Return whether there will be another attempt, so that the exception is taken in."""
        if error is not None and not _ends_more_than_a_call(error) and self._is_worth_another(error):
            self._wait = self._shared.repeat(self._ticket)
            if self._wait is not None:
                return True
            if self._count > 1:
                error.add_note(f"tried {self._count} times")
            if self._count <= self._retries:
                error.add_note(self._why_no_more)
        self._shared.end(self._ticket)
        return False

    def _next(self) -> Attempt:
        self._count += 1
        # Nothing is in the way of any attempt but its wait, which is over.
        self._shared.start_attempt()
        # Unless the attempt says otherwise, it is the last.
        self._wait = None
        return Attempt(self, self._count)

    def __del__(self) -> None:
        self._shared.end(self._ticket)


def predicate(retry_on: RetryOn | None, name: str = "retry_on") -> Callable[[BaseException], bool]:
    """What `retry_on`, or the option of this name, means: any `Exception` when it is not given.

    Raises:
        UsageError: When it is neither exception types nor callable.
    """
    if retry_on is None:
        return lambda error: isinstance(error, Exception)
    types = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    for one in types:
        if isinstance(one, type) and (one is BaseException or issubclass(one, _ENDS)):
            raise UsageError(
                f"{name}: {one.__name__} ends more than a call (Ctrl-C, sys.exit, a cancellation), and what does is "
                "never repeated: name `Exception`, or what you mean by it"
            )
    if not types:
        raise UsageError(f"{name}: expected exception types, or a function that is given the exception, not ()")
    if all(isinstance(one, type) and issubclass(one, BaseException) for one in types):
        return lambda error: isinstance(error, types)  # type: ignore[arg-type]
    if callable(retry_on):
        given = plain(retry_on, name)
        return lambda error: bool(given(error))
    raise UsageError(f"{name}: expected exception types, or a function that is given the exception, not {retry_on!r}")


async def _on_loop(
    attempts: _Attempts,
    function: Callable[..., Awaitable[Any]],
    args: tuple[Any, ...],
    keywords: dict[str, Any],
    begun: tuple[Attempt, Awaitable[Any]] | None = None,
) -> Any:
    """Attempts of a call on this loop. `begun` is the first, when the call has been made."""
    if begun is not None:
        attempt, result = begun
        begun = None
        with attempt:
            return await result
        del result
    async for attempt in attempts:
        with attempt:
            return await function(*args, **keywords)
    return None


def _is_to_be_awaited(result: object) -> bool:
    """Whether a call goes on where its result is awaited.

    A coroutine is there for nothing else. What can be awaited besides (the future of a library, say) may be a value
    that a plain program wants to have; on an event loop it is awaited.
    """
    if isinstance(result, Coroutine):
        return True
    return isinstance(result, Awaitable) and asyncio._get_running_loop() is not None


def _ends_more_than_a_call(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(map(_ends_more_than_a_call, error.exceptions))
    return isinstance(error, _ENDS)


def _warn_of_waiting(seconds: float) -> None:
    """Once for each place that waits so, as warnings are; a call that is not repeated costs its loop nothing."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_code.co_filename == __file__:
        frame, level = frame.f_back, level + 1
    warnings.warn(
        f"retry waits for {seconds:.3g} s before it repeats a plain function, and with it the event loop that runs in "
        "this thread: repeat a coroutine function, take attempts by `async for`, or call it by `await "
        "asyncio.to_thread(function)`",
        RuntimeWarning,
        stacklevel=level,
    )


def _shown(retry_on: RetryOn) -> str:
    types = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    return ", ".join(getattr(one, "__qualname__", repr(one)) for one in types)


_ENDS = (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError)
_NO_GENERATOR = "a generator cannot be repeated: what it has yielded is out; repeat what it calls"
