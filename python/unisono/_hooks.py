"""Subclasses that were written for a class of the standard library, and override what only that one calls.

Such a method would be ignored, quietly, so the class is refused where it is made.
"""

from __future__ import annotations

from collections.abc import Iterable

from unisono.errors import UsageError

__all__ = ["refuse_hooks"]


def refuse_hooks(cls: type, hooks: Iterable[str], why: str) -> None:
    """Refuse a class that defines one of these.

    Raises:
        UsageError: It does.
    """
    for one in cls.__mro__:
        if one.__module__.partition(".")[0] in _NOT_OF_CALLERS:
            continue
        for hook in hooks:
            if hook in vars(one):
                raise UsageError(f"{cls.__qualname__}.{hook} would never be called: {why}")


# Where the hooks themselves are from.
_NOT_OF_CALLERS = ("unisono", "concurrent", "multiprocessing", "builtins", "queue", "asyncio")
