"""`retry`: the engine's repeats without a batch, as a decorator and as a loop.

The waits are exponential with full jitter, and a budget bounds the repeats of all calls of the same key together, so
that an outage does not multiply the load.

Left out: bounds on the time of one attempt (`asyncio.timeout` is that), and repeats of generators.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import time
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, TypeAlias, TypeVar, cast

from unisono._native import Gate
from unisono.errors import UsageError

__all__ = ["Attempt", "retry"]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
RetryOn: TypeAlias = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], object]
Time: TypeAlias = float | str


class retry:  # noqa: N801 (used as a function)
    """Repeat what failed: as a decorator of plain and coroutine functions, or as a loop.

    The last exception is raised as it is, with a note of how often it was tried.

    Args:
        retries: Most repeats.
        retry_on: What is worth a repeat: exception types, or a function that is given the exception. There is no
            default: only you know what may be done twice.
        deadline: No repeat starts later than this after the first attempt; seconds, or text such as `"30s"`.
        key: With the decorator, answers from the call's arguments what shares a budget of repeats, such as a host; by
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
        self._is_worth_another = predicate(retry_on)
        self._key = key
        self._gate = Gate(retries=retries, deadline=deadline, base=base, cap=cap)

    def __call__(self, function: FunctionT) -> FunctionT:
        """Decorate a function."""
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise UsageError("a generator cannot be repeated: what it has yielded is out")
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def call_on_loop(*args: Any, **keywords: Any) -> Any:
                async for attempt in self._of(args, keywords):
                    with attempt:
                        return await function(*args, **keywords)
                return None

            return cast("FunctionT", call_on_loop)

        @functools.wraps(function)
        def call(*args: Any, **keywords: Any) -> Any:
            for attempt in self._of(args, keywords):
                with attempt:
                    return function(*args, **keywords)
            return None

        return cast("FunctionT", call)

    def __iter__(self) -> Iterator[Attempt]:
        return iter(_Attempts(self._gate, self._is_worth_another, ""))

    def __aiter__(self) -> AsyncIterator[Attempt]:
        return aiter(_Attempts(self._gate, self._is_worth_another, ""))

    def _of(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> _Attempts:
        key = "" if self._key is None else str(self._key(*args, **keywords))
        return _Attempts(self._gate, self._is_worth_another, key)


class Attempt:
    """One attempt: what it raises is taken in when there will be another.

    Attributes:
        number: 1 for the first.
    """

    def __init__(self, attempts: _Attempts, number: int) -> None:
        self._attempts = attempts
        self.number = number

    def __enter__(self) -> Attempt:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return self._attempts.ended(error)


class _Attempts:
    """The attempts of one call."""

    def __init__(self, gate: Gate, is_worth_another: Callable[[BaseException], bool], key: str) -> None:
        self._gate = gate
        self._is_worth_another = is_worth_another
        self._ticket = gate.ask(key)
        self._count = 0
        # Seconds to wait before the next attempt; none when there is no other.
        self._wait: float | None = 0.0

    def __iter__(self) -> Iterator[Attempt]:
        while self._wait is not None:
            if self._wait > 0:
                time.sleep(self._wait)
            yield self._next()

    async def __aiter__(self) -> AsyncIterator[Attempt]:
        while self._wait is not None:
            if self._wait > 0:
                await asyncio.sleep(self._wait)
            yield self._next()

    def ended(self, error: BaseException | None) -> bool:
        """Answer whether there will be another attempt, so that the exception is taken in."""
        if error is not None and self._is_worth_another(error):
            self._wait = self._gate.again(self._ticket)
            if self._wait is not None:
                return True
            if self._count > 1:
                error.add_note(f"tried {self._count} times")
        self._gate.done(self._ticket)
        return False

    def _next(self) -> Attempt:
        self._count += 1
        # Nothing is in the way of any attempt but its wait, so whoever is let in here is let in rightly.
        self._gate.lease()
        # Unless the attempt says otherwise, it is the last.
        self._wait = None
        return Attempt(self, self._count)

    def __del__(self) -> None:
        self._gate.done(self._ticket)


def predicate(retry_on: RetryOn | None, name: str = "retry_on") -> Callable[[BaseException], bool]:
    """What `retry_on`, or the option of this name, means: any `Exception` when it is not given.

    Raises:
        UsageError: When it is neither exception types nor callable.
    """
    if retry_on is None:
        return lambda error: isinstance(error, Exception)
    types = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    if all(isinstance(one, type) and issubclass(one, BaseException) for one in types):
        return lambda error: isinstance(error, types)  # type: ignore[arg-type]
    if callable(retry_on):
        given = retry_on
        return lambda error: bool(given(error))
    raise UsageError(f"{name}: expected exception types, or a function that is given the exception")
