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
import os
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any, Literal, TypeAlias, TypedDict, Unpack, overload

from unisono import _native
from unisono._display import Progress
from unisono._native import CommandOutcome
from unisono.batches import Batch, Work
from unisono.errors import UsageError

__all__ = ["CommandOutcome", "EachOptions", "RunOptions", "each", "run", "run_async"]

Time: TypeAlias = float | str
Size: TypeAlias = int | str
Part: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes] | int | float
Argv: TypeAlias = Iterable[Part]
Command: TypeAlias = str | bytes | Argv | Mapping[str, Any]
Item: TypeAlias = Part | Mapping[str, Any]


class RunOptions(TypedDict, total=False):
    """What holds for every command. Times are seconds, or text such as `"10s"` (`"none"` for no bound).

    Attributes:
        input: What it reads: bytes, or text, which is sent as UTF-8. Nothing by default: it finds the end of its input.
        cwd: The folder it runs in.
        env: Variables added to its environment, which is otherwise that of this program; `None` takes one away.
        shell: The command is one text, a script for `sh`.
        timeout: Longest time for one attempt; then all of it is sent SIGTERM, and SIGKILL after `kill_after`.
        deadline: Longest time for one command with its retries and waits.
        kill_after: Time between SIGTERM and SIGKILL, for what has to end; `"5s"` by default.
        retries: Most repeats of a failed attempt; none by default.
        retry_exit: Repeat only what ended with one of these exit codes.
        expect: Exit codes that are a success; 0 by default.
        max_output: End a command that prints more than this to one stream; bytes, or text such as `"64MiB"`.
        leave_running: Leave processes alone that outlive their command.
    """

    input: str | bytes
    cwd: str | bytes | os.PathLike[str] | os.PathLike[bytes]
    env: Mapping[str, Part | None]
    shell: bool
    timeout: Time
    deadline: Time
    kill_after: Time
    retries: int
    retry_exit: Iterable[int]
    expect: Iterable[int]
    max_output: Size
    leave_running: bool


class EachOptions(RunOptions, total=False):
    """Options of `each`.

    Attributes:
        limit: Most commands at once; one per core by default.
        rate: Most starts per time, as `"100/s"`.
        per_key: With `items`, the member that commands are limited by as well, or 1 for the item itself.
        per_key_limit: Most commands at once with the same key; 1 by default.
        per_key_rate: Most starts with the same key.
        away_exit: Exit codes that say that the host of `per_key` is away, as 255 of ssh: its commands wait, uncounted,
            while one at a time looks whether it is back.
        host_away: How long that is waited for; then what waits is `failed` of kind `away`. `"60s"` by default.
        ordered_by_key: While a command is undecided or waits for its repeat, no other with the same key starts.
        load: Start nothing while the load of the machine is this or more.
        min_memory: Start nothing while less memory than this is available.
        stop_after: Start nothing new after this time.
        grace: How long what runs may take to finish when the run is stopped; `"10s"` by default.
        max_failures: Stop after so many commands that did not end well.
        canary: The first so many commands must end ok before any other starts.
        save: Save what each command prints to a file of its own, as `"out/{#}"`, and `"out/{#}.stderr"`. A name belongs
            to the first item that asks for it; see docs/saving.md.
        out: Keep results in this file, one JSON object per command; `unisono each` reads it as well.
        resume: Do not run again what is done: the same command with the same item.
        retry_failed: As `resume`, but what failed runs again.
        retry_ambiguous: As `retry_failed`, and so does what nobody knows the end of.
        adopt: As `resume`, of a copy of a results file whose run has not ended (`docs/results.md`).
        rebind: As `resume`: items are known again by what they are in any case, wherever they stand.
        overwrite: Replace a results file that is there, and files that `save` finds in its way; with `resume` and its
            like the latter alone.
        brief: Results without what commands print.
        items_are_code: Places may stand within code, as in `["sh", "-c", "echo {}"]`: items are programs, run as such.
        repeatable: Doing it twice does no harm: `resume` runs again what was interrupted.
        keep_order: Outcomes in the order of the input, not as they are done.
    """

    limit: int
    rate: str
    per_key: str | int
    per_key_limit: int
    per_key_rate: str
    away_exit: Iterable[int]
    host_away: Time
    ordered_by_key: bool
    load: float
    min_memory: Size
    stop_after: Time
    grace: Time
    max_failures: int
    canary: int
    save: str | os.PathLike[str]
    out: str | os.PathLike[str]
    resume: bool
    retry_failed: bool
    retry_ambiguous: bool
    adopt: bool
    rebind: bool
    overwrite: bool
    brief: bool
    items_are_code: bool
    repeatable: bool
    keep_order: bool


@overload
def each(
    commands: Argv | str,
    *,
    items: Iterable[Item] | AsyncIterable[Item],
    progress: Progress = False,
    **options: Unpack[EachOptions],
) -> Batch[CommandOutcome[bytes]]: ...
@overload
def each(
    commands: Iterable[Command] | AsyncIterable[Command],
    *,
    items: None = None,
    progress: Progress = False,
    **options: Unpack[EachOptions],
) -> Batch[CommandOutcome[bytes]]: ...
def each(
    commands: Any,
    *,
    items: Iterable[Item] | AsyncIterable[Item] | None = None,
    progress: Progress = False,
    **options: Unpack[EachOptions],
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
        UsageError: When an option is not what it should be; as the batch starts.

    >>> batch = each([["echo", "pods"], ["printf", "[1, 2]"], ["sh", "-c", "echo no >&2; exit 3"]], keep_order=True)
    >>> echo, printf, sh = batch
    >>> echo.text, printf.json(), sh.exit_code, sh.stderr
    ('pods\n', [1, 2], 3, b'no\n')
    >>> sh.error
    CommandFailed('`sh`: exit status 3: no')

    >>> hosts = [{"host": "web-1", "port": 80}, {"host": "web-2", "port": 8080}]
    >>> [outcome.text for outcome in each(["echo", "{host}:{port}"], items=hosts, keep_order=True)]
    ['web-1:80\n', 'web-2:8080\n']
    >>> each("cat {} | wc -c", items=[folder / "a.txt"], shell=True).run().outcomes[0].text.strip()
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
def run(
    argv: Argv | str, *, check: bool = False, text: bool = False, **options: Unpack[RunOptions]
) -> CommandOutcome[Any]:
    r"""Run one command to its end; answer its outcome.

    Ctrl-C stops all of the command before `KeyboardInterrupt` goes on.

    Args:
        argv: The program and its arguments; or a script, with `shell=True`.
        check: Raise when it does not end well: `CommandFailed`, which is a `subprocess.CalledProcessError`,
            `CommandNotFound`, `CommandTimeout` and the like.
        text: The outcome's `stdout` and `stderr` are text in UTF-8, in which what is not text is replaced.
        **options: As those of `each`.

    Raises:
        UsageError: When an option is not what it should be.
        CommandError: With `check`, when it did not end well.

    >>> run(["tr", "a-z", "A-Z"], input="hello").stdout
    b'HELLO'
    >>> run("echo $((6 * 7))", shell=True, text=True, check=True).stdout
    '42\n'
    >>> run(["sleep", "60"], timeout=0.05).kind
    'timed_out'
    """
    with _one(argv, text, options) as batch:
        outcome = _only(list(batch))
    return outcome.check() if check else outcome


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

    >>> asyncio.run(run_async(["echo", "hello"], text=True)).stdout
    'hello\n'
    """
    async with _one(argv, text, options) as batch:
        outcome = _only([outcome async for outcome in batch])
    return outcome.check() if check else outcome


def _one(argv: Argv | str, text: bool, options: RunOptions) -> Batch[CommandOutcome[Any]]:
    if _is_text(argv) and not options.get("shell"):
        raise UsageError('a command is a list of its program and arguments, as in ["ls", "-l"] (or use shell=True)')
    return Batch(_work(None), [argv], options={**options, "text": text})


def _only(outcomes: list[CommandOutcome[Any]]) -> CommandOutcome[Any]:
    if not outcomes:
        # The program ends and has closed the batch; a thread that still waits for it ends without a word.
        raise SystemExit
    return outcomes[0]


def _is_text(command: object) -> bool:
    return isinstance(command, str | bytes)


def _work(template: Argv | str | None) -> Work[CommandOutcome[Any]]:
    start = functools.partial(_native.commands, template)
    return Work(start=start, noun="commands", counted=True, limit=_native.default_threads(), is_plain=True)
