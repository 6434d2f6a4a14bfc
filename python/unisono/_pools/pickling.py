"""What plain pickling cannot do, and what came back as an error: the slow paths of `unisono.ProcessPool`.

A task is pickled by C's `_pickle`; here is what stands in when that refuses: a `memoryview` (with its format and its
shape; it can be written to if it could be before), and functions that have no importable name, by cloudpickle where
that is installed. In a notebook or at a prompt, where `__main__` cannot be imported elsewhere, cloudpickle does
everything but views of memory, of which it would make `bytes`.

Leaves out dill, and anything that would pickle a running thing.
"""

from __future__ import annotations

import _pickle
import copyreg
import functools
import io
import opcode
import os
import pickle
import signal
import struct
import sys
import threading
from collections import ChainMap
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from unisono.errors import PoolBroken, RemoteError, TaskTimeout, UnpicklableError, WorkerDied

try:
    import cloudpickle  # type: ignore[import-not-found, import-untyped, unused-ignore]
except ImportError:
    cloudpickle = None


#: That of the installed cloudpickle, if there is one.
by_value: type[pickle.Pickler] | None = cloudpickle.Pickler if cloudpickle else None

Reducer: TypeAlias = "Callable[[Any], str | tuple[Any, ...]]"
"""Says how a value is pickled, as `__reduce__` does."""

Keep: TypeAlias = "Callable[[pickle.PickleBuffer], Any]"
"""Takes a buffer that stays out of a pickle, or says by something true that it is to be in it."""


def is_interactive() -> bool:
    """Whether `__main__` is a prompt, a notebook or standard input: no other process can run it."""
    main = sys.modules.get("__main__")
    if main is None or getattr(main, "__spec__", None) is not None:
        return False
    path = getattr(main, "__file__", None)
    is_file = path is not None and os.path.exists(path)  # noqa: PTH110 (it need not be a path)
    return not is_file or hasattr(main, "__IPYTHON__") or "ipykernel" in sys.modules


def pickler_with(reducers: Mapping[type, Reducer], kind: type[pickle.Pickler]) -> type[pickle.Pickler]:
    """A class of pickler as `kind`, by which what is of these types is pickled so."""
    table = getattr(kind(io.BytesIO()), "dispatch_table", copyreg.dispatch_table)
    # Of the class: an instance of a class that has a table of its own, as cloudpickle's has, never looks at another.
    return type("Pickler", (kind,), {"dispatch_table": ChainMap(dict(reducers), table)})


def _dump(pickler: type[pickle.Pickler], value: Any, protocol: int, keep: Keep | None) -> bytes:
    stream = io.BytesIO()
    pickler(stream, protocol, buffer_callback=keep).dump(value)
    return stream.getvalue()


def dumps_by_value(value: Any, protocol: int = 5, *, buffer_callback: Keep | None = None) -> bytes:
    """As `cloudpickle.dumps`, but views of memory stay what they are.

    Raises:
        ModuleNotFoundError: It is not installed.
    """
    if _by_value is None:
        raise ModuleNotFoundError("it takes `pip install cloudpickle`", name="cloudpickle")
    return _dump(_by_value, value, protocol, buffer_callback)


def pickle_as(interactive: bool) -> None:
    """In a worker: pickle results as the program pickles tasks. What is `__main__` here says nothing of that."""
    global dumps
    dumps = dumps_by_value if _by_value and interactive else _pickle.dumps


def _view_of(view: memoryview[Any]) -> tuple[Callable[..., memoryview[Any]], tuple[Any, ...]]:
    """How a view is made again: from its items, one after the other in the order of their indexes."""
    kind = view.format
    try:
        # What says that it is of this order of bytes, as in ctypes, and is of the size that it has without saying so.
        if kind[0] in _OF_THIS_MACHINE and struct.calcsize(kind[1:]) == view.itemsize:
            kind = kind[1:]
        memoryview(bytes(view.itemsize)).cast(kind)  # type: ignore[call-overload]
        is_castable = view.ndim < 2 or view.nbytes > 0
    except (ValueError, struct.error):
        is_castable = False
    if not is_castable:
        raise pickle.PicklingError(
            f"a memoryview of the shape {view.shape} with items of the format {view.format!r} cannot be made from "
            "bytes: send what it is a view of, or its `tobytes()`"
        )
    data: Any = view
    if not view.c_contiguous:
        data = view.tobytes() if view.readonly else bytearray(view.tobytes())
    return _view, (pickle.PickleBuffer(data), kind, view.shape)


def _view(data: Any, kind: Any, shape: tuple[int, ...]) -> memoryview[Any]:
    items = memoryview(data).cast("B")
    # There is no cast to a shape with a zero in it.
    return items.cast(kind) if len(shape) == 1 else items.cast(kind, shape)


_OF_THIS_MACHINE = {"@", "=", "<" if sys.byteorder == "little" else ">"}

_plain = pickler_with({memoryview: _view_of}, pickle.Pickler)
_by_value = by_value and pickler_with({memoryview: _view_of}, by_value)

dumps: Callable[..., bytes]
pickle_as(is_interactive())


def rescue(value: Any, keep: Keep, error: BaseException) -> bytes:
    """Pickle what `_pickle.dumps` refused with `error`.

    Raises:
        UnpicklableError: Nothing here can; it says why, and of what.
    """
    try:
        return _dump(_plain, value, 5, keep)
    except Exception as second:
        error = second if isinstance(second, pickle.PicklingError) else error
    if _by_value is not None:
        try:
            return _dump(_by_value, value, 5, keep)
        except Exception as third:
            error = third
    hint = "" if _by_value else "; functions without an importable name need `pip install cloudpickle`"
    raise UnpicklableError(f"cannot be sent to a worker: {error}{hint}") from error


Described: TypeAlias = "tuple[bytes | None, str, str, str, list[str], tuple[str, list[Described]] | None]"
"""What is said of an exception elsewhere: its pickle if that can be read again; its class, its text and its traceback;
its notes; and of a group its message and its members."""


def describe_error(error: BaseException, dumps: Callable[..., bytes] | None = None) -> Described:
    """What a worker says of an exception. Never raises, whatever the exception does when it is looked at.

    Args:
        error: What was raised.
        dumps: Pickles it; as tasks are pickled by default.
    """
    import traceback

    try:
        frames = "".join(traceback.format_exception(error))
    except BaseException as second:
        frames = f"<no traceback: {type(second).__name__}>"
    return _described(error, frames, dumps or globals()["dumps"])


def _described(error: BaseException, frames: str, dumps: Callable[..., bytes]) -> Described:
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    try:
        pickled: bytes | None = dumps(error, 5)
        # An exception whose constructor wants other arguments than it keeps is pickled and cannot be read.
        if type(pickle.loads(pickled or b"")) is not type(error):
            pickled = None
    except BaseException:
        pickled = None
    members = None
    if isinstance(error, BaseExceptionGroup):
        # Each for itself, since one that cannot be read would take the others with it.
        members = (str(error.message), [_described(member, "", dumps) for member in error.exceptions])
    return pickled, name, text_of(error), frames, _notes_of(error), members


def text_of(error: BaseException) -> str:
    """The text of an exception, or of what it raised instead."""
    try:
        return str(error)
    except BaseException as second:
        return f"<no text: {type(second).__name__}>"


def _notes_of(error: BaseException) -> list[str]:
    try:
        return [note for note in getattr(error, "__notes__", ()) if isinstance(note, str)]
    except BaseException:
        return []


class RemoteTraceback(Exception):
    """The frames in the worker, shown as the cause of what was raised there."""

    def __init__(self, frames: str) -> None:
        super().__init__(frames)
        self.frames = frames

    def __str__(self) -> str:
        return f'\n"""\n{self.frames}"""'


def restore_error(described: Described) -> tuple[BaseException, bool]:
    """The exception that a task has raised, or a `RemoteError` with its text when it cannot be read here.

    Of a group that cannot be read, the members are that can. The second answer is whether Ctrl-C was pressed while it
    was read.
    """
    error, is_interrupted = _restored(described)
    error.__cause__ = RemoteTraceback(described[3])
    return error, is_interrupted


def _restored(described: Described) -> tuple[BaseException, bool]:
    pickled, name, text, frames, notes, members = described
    error: BaseException | None = None
    is_interrupted = False
    if pickled is not None:
        try:
            error = pickle.loads(pickled)
        except BaseException as second:
            # Not even `SystemExit` gets out: a task has failed, and not the code that looks at it.
            is_interrupted = _was_pressed(second)
            error = None
    if not isinstance(error, BaseException):
        if members is not None:
            restored = [_restored(member) for member in members[1]]
            is_interrupted = is_interrupted or any(interrupted for _, interrupted in restored)
            error = BaseExceptionGroup(members[0], [member for member, _ in restored])
        else:
            error = RemoteError(f"{name}: {text}", class_name=name, traceback=frames)
    # A pickle of its own making may leave them out.
    for note in notes[len(_notes_of(error)) :]:
        error.add_note(note)
    return error, is_interrupted


def unreadable_result(error: BaseException) -> tuple[BaseException, bool]:
    """A result came that cannot be unpickled here; the second answer is that of `restore_error`."""
    made = UnpicklableError(f"the result came back and cannot be read here: {text_of(error)}")
    made.__cause__ = error
    return made, _was_pressed(error)


def _was_pressed(error: BaseException) -> bool:
    """Whether this is Ctrl-C, which was pressed while something was read and is to end the program and not a task.

    What the pickle has raised itself is the task's. The two are told apart by the instruction at which it came up: a
    signal strikes anywhere, and a `raise` is one.
    """
    if not isinstance(error, KeyboardInterrupt) or threading.current_thread() is not threading.main_thread():
        return False
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is None or traceback.tb_frame.f_code.co_code[traceback.tb_lasti] not in _RAISES


_RAISES = {opcode.opmap["RAISE_VARARGS"], opcode.opmap["RERAISE"]}


def death(exit_code: int | None, number: int | None, deaths: int, stderr_tail: str) -> WorkerDied:
    """The worker that ran a task ended under it."""
    more = f"; the task has ended {deaths} workers" if deaths > 1 else ""
    message = f"the worker that ran the task {_how_it_ended(exit_code, number)}{more}{_last_words(stderr_tail)}"
    return WorkerDied(message, exit_code=exit_code, signal=number, stderr=stderr_tail)


def death_before(name: str, exit_code: int | None, number: int | None, stderr_tail: str) -> WorkerDied:
    """The process of a job ended before the job had begun."""
    how = _how_it_ended(exit_code, number)
    message = f"the process of the job {name} {how} before the job had begun{_last_words(stderr_tail)}"
    return WorkerDied(message, exit_code=exit_code, signal=number, stderr=stderr_tail)


def _how_it_ended(exit_code: int | None, number: int | None) -> str:
    if number is not None:
        try:
            return f"was killed by {signal.Signals(number).name}"
        except ValueError:
            return f"was killed by signal {number}"
    if exit_code is not None:
        return f"exited with code {exit_code}"
    return "vanished, and so did the process that started it"


def _last_words(stderr_tail: str) -> str:
    return f"; the end of its stderr:\n{stderr_tail.rstrip()}" if stderr_tail.strip() else ""


def timed_out(seconds: float) -> TaskTimeout:
    """A task was past its timeout, and its worker was killed."""
    return TaskTimeout(f"the task ran longer than its {seconds:g} s; its worker was killed", timeout=seconds)


def not_begun(seconds: float) -> TaskTimeout:
    """A task had no worker that was ready for all of its time."""
    return TaskTimeout(
        f"the task has not begun within its {seconds:g} s: its worker is still starting, and what the initializer does "
        "is part of that",
        timeout=seconds,
    )


def refused(why: str) -> PoolBroken:
    """There are no workers."""
    return PoolBroken(why)


def run_chunk(function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> list[Any]:
    """Several calls as one task."""
    return [function(*arguments) for arguments in calls]


def call_with(function: Callable[..., Any], keywords: dict[str, Any], *arguments: Any) -> Any:
    """A call with keywords that all calls of a batch share."""
    return functools.partial(function, **keywords)(*arguments)


def pickled(value: Any) -> bytes:
    """A pickle of a value that is no task's."""
    try:
        return dumps(value, 5)
    except Exception as error:
        return rescue(value, lambda _: True, error)
