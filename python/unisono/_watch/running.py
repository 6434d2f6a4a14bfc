"""`python -m unisono run`: a program as it is, whose event loops are watched."""

from __future__ import annotations

import argparse
import asyncio
import io
import runpy
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from unisono._batches.display import tell
from unisono._native import printable
from unisono._watch.watching import watch_for_others
from unisono.errors import UsageError

__all__ = ["main"]


def main(words: list[str]) -> int:
    """Run the program that these words name, in this process; returns the exit status, if the program does."""
    options = _parser().parse_args(words)
    program = options.program if options.module is None else options.module
    if not program:
        return _fail("name a script, or a module with -m", "unisono run --help")
    if options.loop == "uvloop":
        if find_spec("uvloop") is None:
            return _fail("--loop uvloop: this Python has no uvloop", f"{sys.executable} -m pip install uvloop")
        asyncio.set_event_loop_policy(import_module("uvloop").EventLoopPolicy())
    try:
        watch_for_others(options.stall, options.file, options.json)
    except (UsageError, OSError) as error:
        return _fail(str(error))
    sys.argv = program
    if options.module is None:
        return _run_script(program[0])
    # As `python -m` does it, from the folder at hand.
    sys.path.insert(0, "")
    runpy._run_module_as_main(program[0], alter_argv=True)  # type: ignore[attr-defined]
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="unisono run",
        description="Run a program of Python as it is, and watch its event loops: one that stands still is told on "
        "standard error by the line it stands at, while it does. `unisono ps` and `unisono dump` see the program.",
        epilog="The exit status is the program's own; 2 where it cannot be run.",
        allow_abbrev=False,
    )
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio", help="which loop asyncio makes")
    parser.add_argument(
        "--stall", type=float, default=1.0, metavar="SECONDS", help="how long a loop may take for one turn (default: 1)"
    )
    parser.add_argument("--file", type=Path, help="write what is told there, and not on standard error")
    parser.add_argument("--json", action="store_true", help="write lines of JSON")
    parser.add_argument("-m", dest="module", nargs=argparse.REMAINDER, metavar="MODULE [ARGS]", help="run a module")
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="SCRIPT [ARGS]", help="run a script")
    return parser


def _run_script(path: str) -> int:
    try:
        with io.open_code(str(Path(path).absolute())) as file:
            source = file.read()
    except OSError as error:
        return _fail(f"{path}: {error.strerror}")
    # In `__main__` itself, so that what a program pickles is found there.
    names = vars(sys.modules["__main__"])
    names.clear()
    names.update({"__name__": "__main__", "__file__": path, "__builtins__": sys.modules["builtins"], "__spec__": None})
    sys.path.insert(0, str(Path(path).resolve().parent))
    exec(compile(source, path, "exec"), names)
    return 0


def _fail(message: str, hint: str | None = None) -> int:
    tell(f"error: {printable(message)}\n" + (f"hint: {printable(hint)}\n" if hint else ""))
    return 2
