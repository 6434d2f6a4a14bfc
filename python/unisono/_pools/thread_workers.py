"""The threads of a `ThreadPool`, the tasks on their way to them, and the end of both.

Threads hold the `ThreadWorkers` and never the pool, so that a pool that nothing else holds is collected. A task goes to
a thread that waits (`Queue._offer` tells), to one that is started for it, or stands in line. One watch for all pools
sees to it that a warning is logged when work waits for long. At the end of the program everything that was submitted is
finished.

What it leaves out: priorities, and stopping a task that runs, which no thread can do.
"""

from __future__ import annotations

import functools
import itertools
import logging
import sys
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures.thread import BrokenThreadPool
from dataclasses import dataclass
from typing import Any, TypeAlias

from unisono import _forks, _shutdown
from unisono._batches.display import tell
from unisono._pools import logs
from unisono._pools.futures import ThreadFuture, log_ending
from unisono._queue.limiter import Limiter
from unisono._queue.queue import Queue
from unisono.errors import QueueClosed, QueueFull, RunError, UsageError

Task: TypeAlias = ThreadFuture[Any]


@dataclass(frozen=True, slots=True)
class BusyTask:
    """A task that runs.

    Attributes:
        function: What runs, by its qualified name.
        item: Its first argument; `None` if it has none.
        seconds: For how long it has been running.
        where: Where it stands: file, line and function of its innermost frame.
        thread: The name of its thread.
    """

    function: str
    item: Any
    seconds: float
    where: str
    thread: str

    def __str__(self) -> str:
        item = "" if self.item is None else f"{self.item!r:.80}"
        return f"{self.function}({item}) for {self.seconds:.1f} s at {self.where} [{self.thread}]"


def subject(function: Any, arguments: tuple[Any, ...]) -> tuple[str, Any]:
    """The name of what runs and its item, without what `asyncio.to_thread` wraps around them."""
    while True:
        if isinstance(function, functools.partial):
            function, arguments = function.func, (*function.args, *arguments)
        elif getattr(function, "__qualname__", None) == "Context.run" and arguments:
            function, arguments = arguments[0], arguments[1:]
        else:
            break
    name = getattr(function, "__qualname__", None) or repr(function)
    return name, arguments[0] if arguments else None


class ThreadWorkers:
    """The threads of a pool, and what they share."""

    def __init__(
        self,
        prefix: str,
        max_workers: int,
        initializer: Callable[[], object] | None,
        max_pending: int | None,
        idle_timeout: float | None,
        warn_after: float | None,
    ) -> None:
        self.prefix = prefix
        self.max_workers = max_workers
        self.initializer = initializer
        self.idle_timeout = idle_timeout
        self.warn_after = warn_after
        self.queue: Queue[Task] = Queue()
        # No semaphore: one that is woken and interrupted in this moment, by Ctrl-C, would leave the next one asleep.
        self.places = Limiter(max_pending) if max_pending is not None else None
        # Re-entrant, since a destructor that runs in the middle of `submit` may submit as well.
        self.lock = threading.RLock()
        self.threads: set[threading.Thread] = set()
        self.running: dict[int, Task] = {}
        self.numbers = itertools.count()
        self.refusal: Callable[[], Exception] | None = _too_late if _ending else None
        self.is_broken = False
        # In the child of a fork.
        self.is_copy = False
        # It was said that no further thread can be started.
        self.lacks_threads = False
        # Since when all threads have been busy and work has waited.
        self.waiting_since: float | None = None
        _all_workers.add(self)

    def take_place(self, places: Limiter) -> bool:
        """Waits for one of the places of `max_pending`; whether one was taken."""
        if threading.get_ident() in self.running:
            # If all threads of a pool waited here, none would be left to make room.
            return False
        try:
            places.acquire()
        except UsageError:
            raise QueueFull(
                f"the tasks that may wait for a thread of {self.prefix} do already; a loop cannot wait here"
            ) from None
        return True

    def give_place(self) -> None:
        if self.places is not None:
            self.places.release()

    def not_awaited(self) -> str | None:
        """A task stands in line: starts a thread for it, or sees to it that a warning is logged if that lasts.

        Returns why no thread could be started, if that is to be said. The task waits for the threads that there are.
        """
        if len(self.threads) < self.max_workers:
            thread = threading.Thread(target=_work, args=[self], name=f"{self.prefix}_{next(self.numbers)}")
            # Listed before it runs, since it may be through, and take itself off, before `start` returns.
            self.threads.add(thread)
            try:
                thread.start()
            except RuntimeError as error:
                self.threads.discard(thread)
                if not self.threads:
                    self.drain(lambda waiting: waiting.cancel())
                    raise RunError(f"no thread for {self.prefix}: {error}") from error
                # Once until one can be started again, and not for each task.
                is_said, self.lacks_threads = self.lacks_threads, True
                return None if is_said else str(error)
            self.lacks_threads = False
        elif self.waiting_since is None and self.warn_after is not None:
            self.waiting_since = time.monotonic()
            _watch.add(self)
        return None

    def begin(self, task: Task) -> None:
        """A thread has taken a task."""
        # Before it runs: a place bounds the tasks that wait.
        if task.give_up_place():
            self.give_place()
        if self.waiting_since is not None and not len(self.queue):
            self.waiting_since = None
        self.running[threading.get_ident()] = task

    def replace(self, taken: list[Task]) -> None:
        """A thread ends in the middle of its work: what it has taken is for another, which is started if need be."""
        with self.lock:
            self.threads.discard(threading.current_thread())
            self.running.pop(threading.get_ident(), None)
            _settle(taken, RuntimeError("its thread was ended"))
            for task in taken:
                self.queue._give_back([task])
            if len(self.queue):
                self.not_awaited()

    def leave(self) -> bool:
        """A thread that had nothing to do for long may end, unless a task came to the line meanwhile."""
        # `submit` puts and counts threads under this lock, so no task comes between the look and the leaving.
        with self.lock:
            if len(self.queue):
                return False
            self.threads.discard(threading.current_thread())
            return True

    def close(self, cancel: bool) -> None:
        with self.lock:
            if self.refusal is None:
                self.refusal = functools.partial(ShutDown, "cannot schedule new futures after shutdown")
            if cancel:
                self.drain(lambda task: task.cancel())
            self.queue.close()
        _watch.discard(self)

    def end(self) -> None:
        """The program ends: what was submitted is still run."""
        with self.lock:
            self.refusal = self.refusal or _too_late
            self.queue.close()

    def break_down(self) -> None:
        """An initializer has failed."""
        text = "A thread initializer failed, the thread pool is not usable anymore"
        with self.lock:
            self.refusal = functools.partial(BrokenThreadPool, text)
            self.is_broken = True
            self.drain(lambda task: task.fail(BrokenThreadPool(text)))
            self.queue.close()

    def drain(self, end: Callable[[Task], object]) -> None:
        for task in self.queue._take(sys.maxsize):
            if task.give_up_place():
                self.give_place()
            end(task)

    def join(self, timeout: float | None = None) -> bool:
        """Waits until its threads have ended; whether they have in time."""
        until = None if timeout is None else time.monotonic() + timeout
        for thread in list(self.threads):
            if thread is not threading.current_thread():
                thread.join(None if until is None else max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in list(self.threads))

    def busy(self) -> list[BusyTask]:
        frames = sys._current_frames()
        names = {thread.ident: thread.name for thread in list(self.threads)}
        found = []
        for ident, task in list(self.running.items()):
            frame = frames.get(ident)
            call = task.running_call()
            if frame is not None and call is not None:
                where = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
                function, arguments, seconds = call
                found.append(BusyTask(*subject(function, arguments), seconds, where, names.get(ident, "?")))
        return sorted(found, key=lambda busy: -busy.seconds)

    def warn_at(self) -> float | None:
        """When it is to be said that all threads are busy, unless that ends before; `None` if no work waits."""
        since = self.waiting_since
        if since is None or self.warn_after is None:
            return None
        if not len(self.queue):
            # A thread took the last task while `submit` was noting that it waits.
            self.waiting_since = None
            return None
        return since + self.warn_after

    def warn(self) -> None:
        busy = self.busy()
        logs.tell(
            logging.WARNING,
            "all %d threads of %s have been busy for %.0f s, and %d tasks wait; the longest: %s",
            self.max_workers,
            self.prefix,
            self.warn_after,
            len(self.queue),
            "; ".join(map(str, busy[:3])),
            **logs.members(self.prefix),
        )

    def forget(self) -> None:
        """In the child of a fork, where its threads are not."""
        self.is_copy = True
        self.lock = threading.RLock()
        self.refusal = functools.partial(RuntimeError, "this pool's threads are in the parent of this process")
        self.threads = set()
        self.running = {}
        self.waiting_since = None
        self.queue = Queue()
        self.places = None


def _work(workers: ThreadWorkers) -> None:
    """What a thread of a pool does."""
    if workers.initializer is not None:
        try:
            workers.initializer()
        except BaseException:
            # To where the standard executors log it, for the same eyes.
            logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)
            workers.break_down()
            workers.threads.discard(threading.current_thread())
            return
    taken: list[Task] = []
    came: BaseException | None = None
    has_ended = False
    try:
        while not has_ended:
            try:
                if came is not None:
                    error, came = came, None
                    _settle(taken, error)
                    del error
                _serve(workers, taken)
                has_ended = True
            except BaseException as error:
                # Set into this thread from another one (`PyThreadState_SetAsyncExc`), to stop a task that has ended by
                # now or has not begun. It ends the task that it has come upon, and not those behind it. It is not
                # logged, since another that came meanwhile could leave a lock of `logging` closed.
                came = error
    finally:
        if not has_ended:
            # It came between the two, after another one.
            workers.replace(taken)


def _serve(workers: ThreadWorkers, taken: list[Task]) -> None:
    """Runs tasks until there are none for long; the one that it is at is in `taken`."""
    ident = threading.get_ident()
    while True:
        if not taken:
            try:
                workers.queue._next_offer(workers.idle_timeout, taken)
            except QueueClosed:
                workers.threads.discard(threading.current_thread())
                return
        if not taken:
            if workers.leave():
                return
            continue
        [task] = taken
        workers.begin(task)
        try:
            if task.run():
                _tell(task)
            # Not while it waits for the next: what the task holds can be dropped now.
            taken.clear()
        finally:
            # Not there any more in the child of a fork that the task made.
            workers.running.pop(ident, None)
        if workers.is_copy:
            # The task forked, and this is its child: it gets no other task, and its parent waits for its end.
            return
        del task


def _tell(task: Task) -> None:
    try:
        task._announce()
    except BaseException:
        # A callback's, which ends neither this thread nor what waits for it.
        log_ending(task)


def _settle(taken: list[Task], error: BaseException) -> None:
    """Ends the task that was begun, if it has not; one that was not is run yet."""
    for task in taken:
        if task.place() == "pending":
            return
        task.raised(error)
        if "_observation" in vars(task):
            task._announce()
    taken.clear()


class StallWatch:
    """Looks after pools whose work waits: one thread for all, which ends when there are none."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.pools: set[ThreadWorkers] = set()
        self.is_running = False

    def add(self, workers: ThreadWorkers) -> None:
        with self.condition:
            self.pools.add(workers)
            if self.is_running:
                self.condition.notify()
            else:
                self.is_running = True
                try:
                    threading.Thread(target=self.run, name="unisono-watch", daemon=True).start()
                except RuntimeError:
                    # There is no warning then; the task that waits is none the worse.
                    self.is_running = False

    def discard(self, workers: ThreadWorkers) -> None:
        with self.condition:
            if workers in self.pools:
                self.pools.discard(workers)
                self.condition.notify()

    def run(self) -> None:
        while (late := self.wait()) is not None:
            for workers in late:
                workers.warn()

    def wait(self) -> list[ThreadWorkers] | None:
        """The pools whose work has waited for too long; `None` when there is nothing to look after."""
        with self.condition:
            while True:
                now = time.monotonic()
                due = {workers: when for workers in self.pools if (when := workers.warn_at()) is not None}
                late = [workers for workers, when in due.items() if when <= now]
                # Said once; the next time that work begins to wait it is added again.
                self.pools = set(due) - set(late)
                if late:
                    return late
                if not self.pools:
                    self.is_running = False
                    return None
                self.condition.wait(min(due.values()) - now)


class ShutDown(RuntimeError, ValueError):
    """No more tasks are taken: what executors raise then, and what `multiprocessing.pool` does, in one."""


def _too_late() -> RuntimeError:
    return RuntimeError("cannot schedule new futures after interpreter shutdown")


def _end_all() -> None:
    """At the end of the program: finishes what was submitted, and says what that waits for if it takes long."""
    global _ending
    _ending = True
    pools = list(_all_workers)
    for workers in pools:
        workers.end()
    patience = _PATIENCE
    for workers in pools:
        while not workers.join(patience):
            lines = "".join(f"\n  {busy}" for busy in workers.busy())
            tell(f"unisono: the program ends when what runs in {workers.prefix} has ended:{lines}\n")
            # Said again from time to time: an operator who looks later wants to know as well.
            patience = 12 * _PATIENCE


@_forks.resets
def _forget_all() -> None:
    global _watch
    _watch = StallWatch()
    for workers in list(_all_workers):
        workers.forget()


# Seconds.
_PATIENCE = 5.0
_ending = False
_all_workers: weakref.WeakSet[ThreadWorkers] = weakref.WeakSet()
_watch = StallWatch()
# Here, since it may be called at once, and needs what stands above.
_shutdown.finishes(_end_all)
