"""`python -m unisono explain module:function --items FILE`.

The function is imported as `module:function`, from the folder at hand or from where Python finds modules, or as
`path/to/file.py:function`. Items are lines of text, or JSON values, one a line, when the file ends in `.jsonl`.

Exit status: 0 when it has an answer, be it that it cannot tell; 1 when the function failed; 2 for wrong words; 125
when the answer cannot be printed, 141 when its reader is gone.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from unisono import _native
from unisono._batches.display import tell
from unisono.errors import SampleFailed, UsageError
from unisono.explaining import explain
from unisono.explaining.watch import FunctionHangs

__all__ = ["main"]


def main(words: list[str]) -> int:
    """Run the command with these words; returns its exit status."""
    options = _parser().parse_args(words)
    try:
        function = _function(options.function)
        tell(f"{_announcement(options)}\n")
        answer = explain(
            function,
            _items(options.items, options.jsonl),
            budget=options.budget,
            repeat=options.repeat,
            max_calls=options.max_calls,
            max_workers=options.max_workers,
        )
    except UsageError as error:
        return _fail(2, str(error))
    except FunctionHangs as error:
        _fail(1, str(error))
        # An ordinary end would wait for threads that do not end.
        os._exit(1)
    except SampleFailed as error:
        return _fail(1, str(error))
    return _said(json.dumps(answer.to_dict(), indent=2) if options.json else str(answer))


def _announcement(options: argparse.Namespace) -> str:
    name = _native.printable(options.function)
    bounds = [f"{options.max_calls} times at most"] if options.max_calls is not None else []
    bounds += [f"each sample {options.repeat} times at most"] if options.repeat is not None else []
    often = ", ".join(bounds) or "again and again (--max-calls bounds that)"
    return f"note: calls {name} for real, {often}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="unisono explain",
        description="Run a function on samples, measure it, and say whether coroutines, threads or processes make it "
        "faster. The function is run for real, many times.",
    )
    parser.add_argument("function", metavar="MODULE:FUNCTION", help="what to explain; or FILE.py:FUNCTION")
    parser.add_argument("--items", metavar="FILE", required=True, help="samples, one a line; `-` is standard input")
    parser.add_argument("--jsonl", action="store_true", help="lines are JSON values [default: if FILE ends in .jsonl]")
    parser.add_argument("--budget", metavar="SECONDS", type=float, default=5.0, help="time for all of it [default: 5]")
    parser.add_argument("--repeat", metavar="N", type=int, help="run each sample N times at most, on average")
    parser.add_argument("--max-calls", metavar="N", type=int, help="call the function N times at most, in all")
    parser.add_argument("--max-workers", metavar="N", type=int, default=32, help="most at once to try [default: 32]")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    return parser


def _function(words: str) -> Callable[[Any], Any]:
    module, colon, name = words.rpartition(":")
    if not colon or not module or not name:
        raise UsageError(f"`{words}` is not MODULE:FUNCTION")
    if module.endswith(".py"):
        path = Path(module).resolve()
        sys.path.insert(0, str(path.parent))
        module = path.stem
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"cannot import `{module}`: {error}") from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise UsageError(f"`{module}` has no `{name}`") from error
    if not callable(found):
        raise UsageError(f"`{words}` is not a function")
    function: Callable[[Any], Any] = found
    return function


def _items(name: str, jsonl: bool) -> Iterator[Any]:
    if name == "-":
        yield from _read(sys.stdin, "standard input", jsonl)
        return
    try:
        with Path(name).open(encoding="utf-8") as lines:
            yield from _read(lines, name, jsonl or name.endswith(".jsonl"))
    except OSError as error:
        raise UsageError(f"cannot read `{name}`: {error.strerror}") from error


def _read(lines: Any, name: str, jsonl: bool) -> Iterator[Any]:
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n")
        if not jsonl:
            yield text
        elif text:
            try:
                yield json.loads(text)
            except ValueError as error:
                raise UsageError(f"{name}, line {number}: not JSON: {error}") from error


def _fail(status: int, message: str) -> int:
    tell(f"error: {_native.printable(message)}\n")
    return status


def _said(text: str) -> int:
    """Print the answer; returns the exit status: nothing is said before all of it is written."""
    if sys.stdout is None:
        return _fail(125, "cannot write to standard output: it is closed")
    try:
        print(text, flush=True)
    except OSError as error:
        # What is left would be tried again when the interpreter ends, and complained of.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return 141
        return _fail(125, f"cannot write to standard output: {error.strerror}")
    return 0
