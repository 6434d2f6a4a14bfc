"""`watch`: a loop that stands still is told by the line it stands at, on any event loop.

One watchdog serves the process. What runs a loop is wrapped while it is on, so that the watchdog knows from when to
when each runs; nothing of that is left when it is off.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import logging
import os
import sys
import sysconfig
import threading
import weakref
from asyncio import base_events, events
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any, TypeVar

from unisono import _forks, _shutdown
from unisono._keywords import told
from unisono._native import LoopPing, WatchdogThread
from unisono._native import seconds as seconds_of
from unisono.errors import ArgumentError, UsageError

__all__ = ["Watch", "watch", "watch_by_environment", "watch_for_others"]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_LOGGER = logging.getLogger("unisono.watch")
# Shorter than this, and an ordinary turn of a loop, or of the garbage collector, would be told.
_SHORTEST = 0.01


class Watch:
    """Loops of this process are watched, until `stop`, or the end of `with`, or of the function that it decorates."""

    def __init__(self, stall: float, file: Path | None, json: bool) -> None:
        self._options = (stall, file, json)
        _start(self)

    @property
    def stall(self) -> float:
        """How long a loop may take for one turn, in seconds."""
        return self._options[0]

    def stop(self) -> None:
        """Watch no more; a second call does nothing."""
        _stop(self)

    def counts(self) -> dict[str, int]:
        """How often the watchdog woke (`wakes`), has asked a loop (`pings`), and has seen one stand still (`stalls`).

        Raises:
            RuntimeError: nothing is watched any more.
        """
        with _state.lock:
            guard = _state.guard
        if guard is None:
            raise RuntimeError("nothing is watched any more: it was stopped")
        wakes, pings, stalls = guard.counts()
        return {"wakes": wakes, "pings": pings, "stalls": stalls}

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __call__(self, function: FunctionT) -> FunctionT:
        """Watch while this function runs."""
        self.stop()
        if (
            not inspect.isfunction(function)
            or inspect.isgeneratorfunction(function)
            or inspect.isasyncgenfunction(function)
        ):
            raise ArgumentError(
                "watch decorates functions and coroutine functions: in a generator write `with unisono.watch():`"
            )
        stall, file, json = self._options
        if asyncio.iscoroutinefunction(function):

            @functools.wraps(function)
            async def watched_coroutine(*arguments: Any, **keywords: Any) -> Any:
                with Watch(stall, file, json):
                    return await function(*arguments, **keywords)

            return watched_coroutine  # type: ignore[return-value]

        @functools.wraps(function)
        def watched(*arguments: Any, **keywords: Any) -> Any:
            with Watch(stall, file, json):
                return function(*arguments, **keywords)

        return watched  # type: ignore[return-value]


@told("watch")
def watch(*, stall: float = 1.0, file: str | os.PathLike[str] | None = None, json: bool = False) -> Watch:
    """Watch the event loops of this process: one that stands still is told by the line it stands at, while it does.

    A thread that needs no lock of the interpreter's asks each loop that runs whether it still answers. Once a loop has
    taken longer than `stall` for one turn, it is told where it stands and why (in which system call, on the CPU, in the
    garbage collector, waiting for the interpreter's lock and who has it, given no CPU): once, again when it has become
    ten times as long, and at its end. A line that stalls often is told every ten seconds, with how often it was not.
    Works with `asyncio`, uvloop and their subclasses, also for loops that run already in this thread, or begin later in
    any. A loop that sleeps is left alone.

    On from the call on, until `stop`; or for `with unisono.watch():`; or, as a decorator, while a function runs.
    Programs that only import unisono are watched with `UNISONO_WATCH=1` in the environment, or another number of
    seconds.

    Args:
        stall: how long a turn may take, in seconds; at least 0.01.
        file: where to write, appended to; standard error by default. It is also logged, under `unisono.watch`, once
            the loop goes on, if the program has a handler for that.
        json: write lines of JSON.

    Raises:
        UsageError: `stall` is no such number.
        ArgumentError: `stall` is too short, or something else in this process watches in another way.
        OSError: the file cannot be opened, or there is no descriptor or thread left.

    >>> with unisono.watch(stall=0.5) as watch:
    ...     asyncio.run(asyncio.sleep(0))
    >>> watch.stall
    0.5
    """
    return Watch(_long_enough(seconds_of("stall", stall)), None if file is None else Path(file), json)


def watch_by_environment(value: str) -> None:
    """Watch from now on, as `UNISONO_WATCH` says: off for `0`, or a number of seconds."""
    try:
        stall = seconds_of("UNISONO_WATCH", float(value) if value.replace(".", "", 1).isdigit() else value)
        if stall > 0:
            watch_for_others(stall, None, False)
    except (UsageError, OSError) as error:
        _say(f"unisono.watch: not watched: {error}")


def watch_for_others(stall: float, file: Path | None, json: bool) -> None:
    """Watch a program that does not ask for it, until it does: what it says itself holds."""
    _state.by_environment = Watch(_long_enough(seconds_of("stall", stall)), file, json)


def _long_enough(stall: float) -> float:
    if stall < _SHORTEST:
        raise ArgumentError(f"stall: {stall!r} is too short to tell a stall from an ordinary turn: 10 ms at the least")
    return stall


def _say(text: str) -> None:
    """Say what cannot be watched, once: it is the same for each loop."""
    if text not in _SAID:
        _SAID.add(text)
        print(text, file=sys.stderr)


_SAID: set[str] = set()


class _State:
    """What this process watches."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.watches: list[Watch] = []
        self.guard: WatchdogThread | None = None
        self.pings: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopPing] = weakref.WeakKeyDictionary()
        # A kind of loop, its own method if it had one, and ours.
        self.wrapped: list[tuple[type, Callable[..., None] | None, Callable[..., None]]] = []
        # Of the process that this one was forked from: what it shares with that one stays open.
        self.parent: _State | None = None
        self.by_environment: Watch | None = None


_state = _State()


def _start(watch: Watch) -> None:
    environment = _state.by_environment
    if environment is not None:
        # What the program says itself holds.
        _state.by_environment = None
        environment.stop()
    with _state.lock:
        if _state.watches and _state.watches[-1]._options != watch._options:
            stall, file, json = _state.watches[-1]._options
            raise ArgumentError(
                f"watch: this process is watched already, with stall={stall}, file={file and str(file)!r}, "
                f"json={json}: stop that one first, or ask for the same"
            )
        _state.watches.append(watch)
        if _state.guard is None:
            try:
                _state.guard = _guard(*watch._options)
            except BaseException:
                _state.watches.remove(watch)
                raise
            _wrap_loops()
    running = events._get_running_loop()
    if running is not None and running not in _state.pings:
        _attach(running, is_under_way=True)


def _stop(watch: Watch) -> None:
    with _state.lock:
        if watch not in _state.watches:
            return
        _state.watches.remove(watch)
        if _state.watches:
            return
        guard, _state.guard = _state.guard, None
        pings, _state.pings = list(_state.pings.items()), weakref.WeakKeyDictionary()
        _unwrap_loops()
    for loop, ping in pings:
        _forget(loop, ping)
    if guard is not None:
        guard.stop()


def _guard_of_process() -> WatchdogThread | None:
    with _state.lock:
        if _state.guard is None and _state.watches:
            _state.guard = _guard(*_state.watches[-1]._options)
        return _state.guard


def _guard(stall: float, file: Path | None, json: bool) -> WatchdogThread:
    blind = _blind()
    if blind is not None:
        _say(f"unisono.watch: stalls are told without their lines: {blind}")
    descriptor = None
    if file is not None:
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    guard = WatchdogThread(
        stall=stall,
        file=descriptor,
        json=json,
        libraries=_libraries(),
        loops=[base_events.BaseEventLoop.run_forever.__code__, _once().__code__, _RUN],
        handle=events.Handle._run.__code__,
        sees_lines=blind is None,
    )
    try:
        guard.serve(os.environ.get("XDG_RUNTIME_DIR"))
    except OSError as error:
        _say(f"unisono.watch: `unisono ps` and `unisono dump` do not see this process: {error}")
    return guard


def _once() -> Callable[..., None]:
    return base_events.BaseEventLoop._run_once  # type: ignore[attr-defined, no-any-return]


def _libraries() -> list[str]:
    """The folders whose code is not the program's own."""
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths.update(path for path in sys.path if path.endswith(("site-packages", "dist-packages")))
    paths.add(str(Path(__file__).parents[1]))
    # Code is known by the path that it was imported by, which may lead through links.
    return sorted(paths | {os.path.realpath(path) for path in paths})


def _blind() -> str | None:
    """Why the memory of this interpreter cannot be read, by trying it; `None` where it can."""
    try:
        seen, expected = WatchdogThread.seen(), _stack(sys._getframe())
    except RuntimeError as error:
        return str(error)
    frames, has_lock, is_collecting = seen
    if frames != expected:
        return "its frames are not where they should be"
    during: list[bool] = []

    def look(phase: str, info: dict[str, int]) -> None:
        during.append(WatchdogThread.seen()[2])

    gc.callbacks.append(look)
    try:
        gc.collect(0)
    finally:
        gc.callbacks.remove(look)
    if not has_lock or is_collecting or not all(during):
        return "its lock or its collector is not where it should be"
    return None


def _stack(frame: FrameType | None) -> list[tuple[str, str, int | None]]:
    frames = []
    while frame is not None:
        code: CodeType = frame.f_code
        frames.append((code.co_filename, code.co_qualname, frame.f_lineno))
        frame = frame.f_back
    return frames


def _log(records: list[tuple[bool, str]]) -> None:
    """Log what the watchdog has told while nothing could be: on the loop's thread, late."""
    # Without a handler it would be on standard error twice.
    if not _LOGGER.hasHandlers():
        return
    for is_over, text in records:
        _LOGGER.log(logging.INFO if is_over else logging.WARNING, "%s", text.rstrip(), extra={"late": True})


@contextmanager
def _running(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    attached = _attach(loop, is_under_way=False)
    try:
        yield
    finally:
        if attached:
            guard, ping = _state.guard, _state.pings.get(loop)
            if guard is not None and ping is not None:
                guard.end(ping)


def _attach(loop: asyncio.AbstractEventLoop, *, is_under_way: bool) -> bool:
    """Watch a loop of this thread. Returns whether it is."""
    try:
        guard = _guard_of_process()
        if guard is None:
            return False
        ping = _state.pings.get(loop)
        if ping is None:
            ping = guard.add(_log)
            loop.add_reader(ping.fileno(), ping)
            _state.pings[loop] = ping
        # A name may be of a file, whose bytes are no text.
        name = threading.current_thread().name.encode("utf-8", "backslashreplace").decode()
        guard.begin(ping, name, is_under_way)
    except (OSError, RuntimeError, NotImplementedError) as error:
        _say(f"unisono.watch: a loop of {type(loop).__name__} is not watched: {error}")
        return False
    return True


def _forget(loop: asyncio.AbstractEventLoop, ping: LoopPing) -> None:
    def remove() -> None:
        loop.remove_reader(ping.fileno())

    if loop.is_closed():
        return
    try:
        if not _is_running(loop) or events._get_running_loop() is loop:
            remove()
        else:
            loop.call_soon_threadsafe(remove)
    except RuntimeError:
        # It was closed meanwhile.
        return


def _wrapped(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def run_forever(self: asyncio.AbstractEventLoop, *arguments: Any, **keywords: Any) -> None:
        if _is_running(self):
            return original(self, *arguments, **keywords)
        with _running(self):
            return original(self, *arguments, **keywords)

    return run_forever


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return loop.is_running()
    except NotImplementedError:
        # A loop need have no more than it is used for.
        return events._get_running_loop() is loop


_RUN: CodeType = next(
    constant
    for constant in _wrapped.__code__.co_consts
    if isinstance(constant, CodeType) and constant.co_name == "run_forever"
)


def _wrap_loops() -> None:
    """Wrap what runs loops: of asyncio, of others that are there, and of those that are imported later, as uvloop."""
    _wrap(base_events.BaseEventLoop)
    for kind in events.AbstractEventLoop.__subclasses__():
        _wrap_native(kind)

    def defined(kind: type[asyncio.AbstractEventLoop], /, **keywords: Any) -> None:
        super(events.AbstractEventLoop, kind).__init_subclass__(**keywords)
        if events.AbstractEventLoop in kind.__bases__:
            _wrap_native(kind)

    events.AbstractEventLoop.__init_subclass__ = classmethod(defined)  # type: ignore[assignment]


def _wrap_native(kind: type) -> None:
    """Wrap a kind of loop that runs by itself, and not by asyncio's."""
    if not issubclass(kind, base_events.BaseEventLoop) and getattr(kind, "run_forever", None) is not _ABSTRACT_RUN:
        _wrap(kind)


def _wrap(kind: type) -> None:
    own = kind.__dict__.get("run_forever")
    ours = _wrapped(kind.run_forever)  # type: ignore[attr-defined]
    kind.run_forever = ours  # type: ignore[attr-defined]
    _state.wrapped.append((kind, own, ours))


def _unwrap_loops() -> None:
    for kind, own, ours in _state.wrapped:
        # What has wrapped ours meanwhile keeps it, and it does nothing.
        if kind.__dict__.get("run_forever") is not ours:
            continue
        if own is None:
            del kind.run_forever  # type: ignore[attr-defined]
        else:
            kind.run_forever = own  # type: ignore[attr-defined]
    _state.wrapped.clear()
    if "__init_subclass__" in events.AbstractEventLoop.__dict__:
        del events.AbstractEventLoop.__init_subclass__


_ABSTRACT_RUN = events.AbstractEventLoop.run_forever


@_shutdown.stops
def _stop_all() -> None:
    while _state.watches:
        _state.watches[-1].stop()


@_forks.resets
def _after_fork_in_child() -> None:
    """The child watches as its parent did, with a watchdog of its own from its next loop on."""
    global _state
    before, _state = _state, _State()
    _state.parent = before
    _state.wrapped = before.wrapped
    _state.watches = before.watches
    _state.by_environment = before.by_environment
