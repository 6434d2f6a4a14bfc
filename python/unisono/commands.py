"""Other programs, many at once: what each printed, how it ended, and nothing of it left behind.

The words, defaults and outcomes are those of the command `unisono each`. A command is over when its process has ended,
its pipes are closed, and no process that it started lives; whatever outlives it is ended with it, also when it has made
itself a group or session of its own.

It works in any thread and on any event loop, beside `subprocess`, `asyncio` and `multiprocessing`: SIGCHLD and signal
handlers are not touched, and only our own children are waited for. Since this process may have other children, it does
not become the one to which orphans come, as the command does, and so it has to look at all processes where that one has
to look at its children only. What is lost by that: a process that has changed its group, its session *and* its
environment, and whose parent has ended, is not found.

Nothing is left when the program ends in any way that lets Python end: by itself, by `sys.exit`, by an exception or
Ctrl-C. When it is killed at once (SIGKILL, or SIGTERM without a handler), what runs is left to run; the command has a
guardian for that.

Left out: output as it comes, terminals, and pipes between commands, for which a shell is better.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any, Literal, TypeAlias, Unpack, overload

from unisono import _native
from unisono._batches.batch import Batch, BatchWork
from unisono._batches.display import Progress
from unisono._caller import warn_on_loop
from unisono._keywords import told
from unisono._native import CommandOutcome
from unisono._options import CommandOptions, Part, RunOptions
from unisono.errors import UsageError

__all__ = ["each", "run", "run_async"]

Argv: TypeAlias = Iterable[Part]
Command: TypeAlias = str | bytes | Argv | Mapping[str, Any]
Item: TypeAlias = Part | Mapping[str, Any]


@overload
def each(
    commands: Argv | str,
    *,
    items: Iterable[Item] | AsyncIterable[Item],
    progress: Progress = False,
    **options: Unpack[CommandOptions],
) -> Batch[CommandOutcome[bytes]]: ...
@overload
def each(
    commands: Iterable[Command] | AsyncIterable[Command],
    *,
    items: None = None,
    progress: Progress = False,
    **options: Unpack[CommandOptions],
) -> Batch[CommandOutcome[bytes]]: ...
@told("commands.each", CommandOptions)
def each(
    commands: Any,
    *,
    items: Iterable[Item] | AsyncIterable[Item] | None = None,
    progress: Progress = False,
    **options: Unpack[CommandOptions],
) -> Batch[CommandOutcome[bytes]]:
    r"""Run many commands; one outcome per command, as each is done.

    A command that fails is an outcome, not an exception: one bad command never hides the rest. Commands and items are
    pulled lazily.

    Args:
        commands: Commands of any kind, each a list of its program and arguments, or a mapping with `argv` and what it
            has of its own: `id`, `cwd`, `env` and `input`. With `items`, one command with places to fill in.
        items: What to fill in: `{}` is the item, `{.}` it without extension, `{/}` without folders, `{//}` its folder,
            `{name}` a member where items are mappings, `{#}` its number. `cwd`, `env`, `save` and a text as `input` may
            have places as well. A value is always part of one argument, whatever it holds; in a script it is quoted,
            and a place within quotes, where that cannot be done, is refused: `"$1"` is right there. So is a place
            within code for another interpreter, as in `["python3", "-c", "print({})"]`. Where there is no place at all,
            the command gets the item at its end.
        progress: `True` shows a line on standard error; a callable gets the numbers.
        **options: As on the command line.

    Raises:
        UsageError: When an option is not what it should be.

    >>> batch = each([["echo", "pods"], ["printf", "[1, 2]"], ["sh", "-c", "echo no >&2; exit 3"]], keep_order=True)
    >>> echo, printf, sh = batch
    >>> echo.result.text, printf.result.json(), sh.result.exit_code, sh.result.stderr
    ('pods\n', [1, 2], 3, b'no\n')
    >>> sh.error
    CommandFailed('`sh`: exit status 3: no')

    >>> hosts = [{"host": "web-1", "port": 80}, {"host": "web-2", "port": 8080}]
    >>> [outcome.result.text for outcome in each(["echo", "{host}:{port}"], items=hosts, keep_order=True)]
    ['web-1:80\n', 'web-2:8080\n']
    >>> each("cat {} | wc -c", items=[folder / "a.txt"], shell=True).run().outcomes[0].result.text.strip()
    '2'
    """
    if items is not None:
        return Batch(_work(commands), items, progress=progress, options=options)
    if isinstance(commands, str | bytes | bytearray | memoryview | Mapping):
        raise UsageError("commands are a list of commands; `run` takes a single one")
    if isinstance(commands, list | tuple) and not options.get("shell") and any(map(_is_text, commands)):
        raise UsageError(
            'a command is a list of its program and arguments, so several are a list of lists, as in [["ls", "-l"]] '
            "(or texts with shell=True; one command over many items needs items=)"
        )
    return Batch(_work(None), commands, progress=progress, options=options)


@overload
def run(
    argv: Argv | str, *, check: bool = False, text: Literal[False] = False, **options: Unpack[RunOptions]
) -> CommandOutcome[bytes]: ...
@overload
def run(
    argv: Argv | str, *, check: bool = False, text: Literal[True], **options: Unpack[RunOptions]
) -> CommandOutcome[str]: ...
@told("commands.run", RunOptions)
def run(
    argv: Argv | str, *, check: bool = False, text: bool = False, **options: Unpack[RunOptions]
) -> CommandOutcome[Any]:
    r"""Run one command to its end; answer its outcome.

    Ctrl-C stops all of the command before `KeyboardInterrupt` goes on.

    Args:
        argv: The program and its arguments; or a script, with `shell=True`.
        check: Raise when it does not end well: `CommandFailed`, which is a `subprocess.CalledProcessError`,
            `CommandNotFound`, `CommandTimeout` and the like.
        text: The result's `stdout` and `stderr` are text in UTF-8, in which what is not text is replaced.
        **options: As those of `each`.

    Raises:
        UsageError: When an option is not what it should be.
        CommandError: With `check`, when it did not end well.

    >>> run(["tr", "a-z", "A-Z"], input="hello").result.stdout
    b'HELLO'
    >>> run("echo $((6 * 7))", shell=True, text=True, check=True).result.stdout
    '42\n'
    >>> run(["sleep", "60"], timeout=0.05).kind
    'timed_out'
    """
    batch = _one(argv, text, options)
    warn_on_loop("`commands.run`", "write `await commands.run_async(...)`")
    with batch:
        return _only(batch._outcomes(), check)


@overload
async def run_async(
    argv: Argv | str, *, check: bool = False, text: Literal[False] = False, **options: Unpack[RunOptions]
) -> CommandOutcome[bytes]: ...
@overload
async def run_async(
    argv: Argv | str, *, check: bool = False, text: Literal[True], **options: Unpack[RunOptions]
) -> CommandOutcome[str]: ...
async def run_async(
    argv: Argv | str, *, check: bool = False, text: bool = False, **options: Unpack[RunOptions]
) -> CommandOutcome[Any]:
    r"""As `run`, on an event loop.

    A function of its own and not an awaitable answer of `run`, as `AsyncClient` is beside `Client`: one that blocks
    and one that does not should never be a matter of a forgotten `await`. When its task is cancelled, all of the
    command is stopped before the cancellation goes on.

    >>> asyncio.run(run_async(["echo", "hello"], text=True)).result.stdout
    'hello\n'
    """
    async with _one(argv, text, options) as batch:
        return _only([outcome async for outcome in batch], check)


def _one(argv: Argv | str, text: bool, options: RunOptions) -> Batch[CommandOutcome[Any]]:
    if _is_text(argv) and not options.get("shell"):
        raise UsageError('a command is a list of its program and arguments, as in ["ls", "-l"] (or use shell=True)')
    return Batch(_work(None), [argv], options={**options, "text": text})


def _only(outcomes: list[CommandOutcome[Any]], check: bool) -> CommandOutcome[Any]:
    if not outcomes:
        # The program ends and has closed the batch; a thread that still waits for it ends without a word.
        raise SystemExit
    if check:
        outcomes[0].check()
    return outcomes[0]


def _is_text(command: object) -> bool:
    return isinstance(command, str | bytes)


def _work(template: Argv | str | None) -> BatchWork[CommandOutcome[Any]]:
    start = functools.partial(_native.commands, template)
    check = functools.partial(_native.check_commands, template)
    return BatchWork(
        start=start,
        check=check,
        noun="commands",
        counted=True,
        limit=_native.default_threads(),
        key="key",
        is_plain=True,
        logger=_LOGGER,
    )


_LOGGER = logging.getLogger("unisono.commands")
