"""`python -m unisono run`: a program as it is, whose event loops are watched."""

from __future__ import annotations

import argparse
import asyncio
import io
import runpy
import sys
import zipfile
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

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
    sys.excepthook = _shown
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


def _run_script(given: str) -> int:
    path = Path(given).absolute()
    if path.is_dir() or zipfile.is_zipfile(path) or path.suffix == ".pyc":
        # What has no source to be read here is run as the interpreter runs it.
        runpy.run_path(given, run_name="__main__")
        return 0
    try:
        with io.open_code(str(path)) as file:
            source = file.read()
    except OSError as error:
        return _fail(f"{given}: {error.strerror}")
    # In `__main__` itself, so that what a program pickles is found there.
    names = vars(sys.modules["__main__"])
    names.clear()
    names.update(
        __name__="__main__",
        __file__=str(path),
        __builtins__=sys.modules["builtins"],
        __annotations__={},
        __cached__=None,
        __doc__=None,
        __loader__=SourceFileLoader("__main__", str(path)),
        __package__=None,
        __spec__=None,
    )
    sys.path.insert(0, str(path.resolve().parent))
    exec(compile(source, str(path), "exec"), names)
    return 0


def _shown(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show an error as the interpreter would, from the program's first frame on."""
    while trace is not None and trace.tb_frame.f_code.co_filename in _OURS:
        trace = trace.tb_next
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


_OURS = {__file__, runpy.__file__, "<frozen runpy>", str(Path(__file__).parents[1] / "__main__.py")}


def _fail(message: str, hint: str | None = None) -> int:
    tell(f"error: {printable(message)}\n" + (f"hint: {printable(hint)}\n" if hint else ""))
    return 2
