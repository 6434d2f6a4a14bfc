"""The pieces of a body that comes in as it is sent, from whatever a caller has given."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from typing import Any

__all__ = ["async_pieces_of", "pieces_of", "why_none"]


def pieces_of(given: Any) -> Iterator[bytes]:
    """The pieces of what has a `read`, or of an iterable.

    Raises:
        TypeError: It has pieces that are no bytes, or comes in on an event loop.
    """
    if hasattr(given, "read"):
        while piece := _checked(given.read(_AT_ONCE)):
            yield piece
    elif hasattr(given, "__iter__"):
        yield from filter(None, map(_checked, given))
    else:
        raise TypeError("the content comes in on an event loop: send it with an AsyncClient")


async def async_pieces_of(given: Any) -> AsyncGenerator[bytes, None]:
    """The same on an event loop, where it may be an async iterable. What is none runs on the loop as it is.

    Raises:
        TypeError: It has pieces that are no bytes.
    """
    if hasattr(given, "__aiter__"):
        async for piece in given:
            if checked := _checked(piece):
                yield checked
    else:
        for piece in pieces_of(given):
            yield piece


def why_none(error: BaseException) -> str:
    """Why there is no piece, as the engine is told."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _checked(piece: object) -> bytes:
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, bytearray | memoryview):
        return bytes(piece)
    raise TypeError(f'a piece of content must be bytes, not {type(piece).__name__} (open files with "rb")')


# As much as a file gives at once.
_AT_ONCE = 64 << 10
