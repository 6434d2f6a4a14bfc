"""What a call of something makes: a result, a coroutine, or a generator.

Asked where the wrong one would be quiet: a generator function in place of a function runs nothing, and what a coroutine
function returns in place of an answer is true, is a text, and is never awaited.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from unisono.errors import UsageError

__all__ = ["asked", "is_coroutine_function", "is_generator_function", "plain"]

FunctionT = TypeVar("FunctionT")


def plain(function: FunctionT, name: str) -> FunctionT:
    """Return what is to answer at once, when a call of it does.

    Raises:
        UsageError: It makes coroutines or generators.

    >>> async def host_of(item): ...
    >>> plain(host_of, "key")
    Traceback (most recent call last):
    unisono.errors.UsageError: key must be a plain function: what a call of host_of makes is awaited by nobody
    """
    if is_coroutine_function(function) or is_generator_function(function):
        called = getattr(function, "__qualname__", type(function).__qualname__).rpartition(".")[2]
        done = "awaited" if is_coroutine_function(function) else "run"
        raise UsageError(f"{name} must be a plain function: what a call of {called} makes is {done} by nobody")
    return function


def asked(function: FunctionT, name: str) -> FunctionT:
    """Return what is to answer at once, when it can be called, and a call of it does.

    Raises:
        UsageError: It cannot be called, or makes coroutines or generators.

    >>> asked("zone", "key")
    Traceback (most recent call last):
    unisono.errors.UsageError: key must be a function, not 'zone'
    """
    if not callable(function):
        raise UsageError(f"{name} must be a function, not {function!r}")
    return plain(function, name)


def is_generator_function(function: Any) -> bool:
    """Whether a call of it makes a generator, and runs nothing: of a function, a partial, or an object's class."""
    return _is_or_calls(function, lambda one: inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one))


def is_coroutine_function(function: Any) -> bool:
    """Whether a call of it makes a coroutine: of a function, a partial, or an object's class."""
    return _is_or_calls(function, inspect.iscoroutinefunction)


def _is_or_calls(function: Any, test: Callable[[Any], bool]) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    if test(function):
        return True
    # What a class makes is an instance, whatever its `__call__` does.
    return not isinstance(function, type) and test(getattr(type(function), "__call__", None))  # noqa: B004
