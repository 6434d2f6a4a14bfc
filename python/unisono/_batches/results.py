"""Results files, read back: what `out=` and `-o` have written, whatever kind of work it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

from unisono.errors import UsageError

__all__ = ["read_results"]


def read_results(
    path: str | os.PathLike[str], *, deserialize: Callable[[Any], Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Read a results file, one dictionary per outcome, in the order in which they came.

    A line that was being written when the program was killed is left out, as a resume does. The file may be that of a
    run that is still going on. What the first line says about the file (`run`, `open`, `identity`) is left out of its
    dictionary.
    Like a resume, it reads what other programs do to the shape of lines: CR LF, empty lines, two outcomes on one line.

    Args:
        path: The file.
        deserialize: What `serialize=` is undone by: it is given the member `result` of each line that has one.

    Raises:
        UsageError: When a line is not one of ours; it is named by its number and the byte at which it begins.
        OSError: When the file cannot be read.

    >>> out = folder / "squares.jsonl"
    >>> report = batch(lambda number: number**2 + 1j, [2], out=out, serialize=str).run()
    >>> [(line["item"], line["outcome"], line["result"]) for line in read_results(out, deserialize=complex)]
    [(2, 'ok', (4+1j))]
    """
    start = 0
    with open(path, "rb") as file:  # noqa: PTH123 (it may be a descriptor's name)
        for number, text in enumerate(file, 1):
            try:
                for line in _outcomes(text):
                    for name in _OF_THE_FILE:
                        line.pop(name, None)
                    if deserialize is not None and "result" in line:
                        line["result"] = deserialize(line["result"])
                    yield line
            except _BrokenError:
                # Without its line feed it is the last one, and torn.
                if not text.endswith(b"\n"):
                    return
                raise UsageError(f"{path}, line {number}: no result of unisono (it begins at byte {start})") from None
            start += len(text)


class _BrokenError(Exception):
    """What stands in a line is no outcome."""


def _outcomes(text: bytes) -> Iterator[dict[str, Any]]:
    """Nearly always one; several where `cat` has put a file behind another whose last line had no line feed."""
    try:
        # As text: what is not UTF-8 is no line of ours, though it may be UTF-16 to `json`.
        rest = text.decode().strip(_SPACE)
    except ValueError:
        raise _BrokenError from None
    while rest:
        try:
            line, end = _DECODER.raw_decode(rest)
            line["outcome"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise _BrokenError from None
        yield line
        rest = rest[end:].lstrip(_SPACE)


# Not of the outcome; in the first line, unless the file was sorted since.
_OF_THE_FILE = ("run", "open", "identity")
_DECODER = json.JSONDecoder()
# What JSON has around its values.
_SPACE = " \t\r\n"
