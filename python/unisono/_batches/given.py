"""What a batch is given: many things, and none of the files that it writes.

Text, bytes and mappings can be iterated over, so without a check `fetch("http://host/")` would be a request per
character. They are one thing each, and where many are meant they are refused at once. The pools that take the place of
those of the standard library (`map` and its like) are left as those are: there a text is its characters.
"""

from __future__ import annotations

import asyncio
import os
import queue
from collections.abc import AsyncIterable, Mapping
from typing import Any

from unisono import _native
from unisono._queue.queue import Queue
from unisono.errors import UsageError

__all__ = ["many", "refuse_own_output"]


def many(given: Any, noun: str) -> Any:
    """Return what was given, if it is many things.

    Raises:
        UsageError: When it is one.

    >>> many(["a"], "requests")
    ['a']
    >>> many("http://localhost/", "requests")
    Traceback (most recent call last):
    unisono.errors.UsageError: requests must be several, not a single str: give a list, as in [...]
    """
    if isinstance(given, str | bytes | bytearray | memoryview):
        raise UsageError(f"{noun} must be several, not a single {type(given).__name__}: give a list, as in [...]")
    if isinstance(given, Mapping):
        raise UsageError(
            f"{noun} must be several, not a single {type(given).__name__}: give a list of what is meant, as in [...], "
            "or its .items(), .keys() or .values()"
        )
    is_many = isinstance(given, AsyncIterable | Queue | queue.Queue | asyncio.Queue)
    if not is_many and not hasattr(given, "__iter__") and not hasattr(given, "__getitem__"):
        raise UsageError(f"{noun} must be several, not a single {type(given).__name__}: give a list, as in [...]")
    return given


def refuse_own_output(given: Any, noun: str, reads: Any, options: Mapping[str, Any]) -> None:
    """Refuse results that would be written to what is read.

    Args:
        given: What a batch was given: a file that is open, or a list that may hold paths.
        noun: What that is, in messages.
        reads: Paths that are read beside.
        options: Those of the batch.

    Raises:
        UsageError: When `out` is one of these files, by whatever name.
    """
    out = options.get("out")
    if not isinstance(out, str | bytes | os.PathLike) or not os.fspath(out):
        return
    named = [(noun, path) for path in reads if _is_path(path)]
    named += [(name, options[name]) for name in _FILES if _is_path(options.get(name))]
    if isinstance(given, list | tuple | set | frozenset):
        named += [(noun, item) for item in given if noun in _PATHS and _is_path(item)]
    descriptor = _descriptor(given)
    if descriptor is not None:
        named.append((f"the file of {noun}", f"/proc/self/fd/{descriptor}"))
    save = options.get("save")
    _native.refuse_same(
        os.fsdecode(out),
        [(name, os.fsdecode(path)) for name, path in named],
        # Where commands save to, the run itself says.
        save if isinstance(save, str) and noun == "requests" else None,
    )


def _is_path(value: Any) -> bool:
    return isinstance(value, str | bytes | os.PathLike) and bool(os.fspath(value))


def _descriptor(given: Any) -> int | None:
    try:
        number: int = given.fileno()
    except (AttributeError, OSError, ValueError):
        return None
    return number


# Options of `fetch` that name files.
_FILES = ("netrc", "cacert", "cert", "cert_key")
# What is given as paths.
_PATHS = ("paths", "manifests")
