"""What calls the functions of a batch: tasks on an event loop, or the futures of an executor.

The engine says which calls begin and which are to stop, in batches, by a notifier. Here they are begun, and
their ends are given back; nothing here knows of limits, retries or deadlines.

Once nothing new is to begin, what has been handed to a loop or an executor and has not begun there is taken back, as
far as that can be: those wait with it, where the engine does not see them.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import os
import threading
import types
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from unisono import _shutdown
from unisono._batches.listening import LoopWatch, on_loop
from unisono._native import CallQueue, stop_freeing
from unisono._threads import begin
from unisono.errors import RunError, WorkerLost

__all__ = ["ExecutorCaller", "Judge", "LoopCaller", "LoopThread", "ServingThread"]

# What is made by a call that has run nothing yet. None of these has subclasses, so a look at the exact type is enough;
# every result is looked at.
_NOTHING_RUN = frozenset({types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType})
_RETURNED = CallQueue.RETURNED

End = tuple[int, int, bool, str, Any, bytes | None]


@dataclass(frozen=True)
class Judge:
    """What the ends of calls mean.

    Attributes:
        is_worth_another: Whether a call that raised this is worth another attempt.
        serialize: Makes a result into JSON, where results are written.
        died: What is raised when the process of a call has ended.
        is_away: Whether this says that whatever the call was for is away.
    """

    is_worth_another: Callable[[BaseException], bool]
    serialize: Callable[[Any], bytes] | None
    died: tuple[type[BaseException], ...]
    is_away: Callable[[BaseException], bool] | None = None

    def returned(self, number: int, result: Any) -> End:
        """The function answered."""
        if type(result) in _NOTHING_RUN:
            return self._nothing_ran(number, result)
        if self.serialize is None:
            return (number, _RETURNED, False, "", result, None)
        try:
            return (number, _RETURNED, False, "", result, self.serialize(result))
        except BaseException as error:
            # Whatever it is: nothing else settles this call, and no other is to suffer from it.
            message = f"its result cannot be written: {_shown(error)} (give serialize=)"
            return (number, CallQueue.UNSAVED, False, message, None, None)

    def _nothing_ran(self, number: int, result: Any) -> End:
        """What it answered is still to be run, so it did not do what it is for."""
        if isinstance(result, types.CoroutineType):
            # It would complain that it was never awaited.
            result.close()
            message = 'it returned a coroutine, which nobody awaits: give executor="loop"'
        else:
            message = "it returned a generator, of which nothing has run: give a function that takes what that yields"
        return (number, CallQueue.RAISED, False, message, TypeError(message), None)

    def raised(self, number: int, error: BaseException) -> End:
        """The function raised, or its call failed otherwise."""
        how = CallQueue.DIED if isinstance(error, self.died) else CallQueue.RAISED
        asked = "retry_on"
        try:
            again = self.is_worth_another(error)
            asked = "away_on"
            is_away = self.is_away is not None and self.is_away(error)
        except BaseException as mistake:
            mistake.__context__ = error
            return (number, CallQueue.RAISED, False, f"{asked} raised {_shown(mistake)}", mistake, None)
        if is_away:
            return (number, CallQueue.AWAY, again, _shown(error), error, None)
        if isinstance(error, WorkerLost):
            # The outcome says what that means for its item.
            return (number, CallQueue.LOST, again, str(error), None, None)
        return (number, how, again, _shown(error), error, None)

    def stopped(self, number: int, why: str = "") -> End:
        """It ended since it was asked to, or for this reason."""
        return (number, CallQueue.STOPPED, False, why, None, None)

    def swallowed(self, number: int, what: str) -> End:
        """It was asked to end, and went on to an end of its own."""
        return (number, CallQueue.SWALLOWED, False, what, None, None)


class LoopCaller:
    """Calls coroutine functions: each call is a task on the loop that this is made on.

    Tasks run in copies of the context that this is made in.

    A loop may end under its calls. `asyncio.run` cancels all tasks there are, and then closes all async generators that
    have begun: one of them is ours, which cancels what has begun meanwhile and waits for its end. A loop that is closed
    without that, or that nothing holds any more, drops what it would call when it is notified. Either way the engine
    is told that nothing goes on here, and the batch is stopped, since nothing else would settle its calls.

    Args:
        unbegun: Is told the number of each item whose call was taken back before it began.
        is_lazy: What is called does nothing before its task runs, as a coroutine function.
        stop: Stops the batch.
        over: Is called on the loop when there will be no more calls.

    Attributes:
        is_over: There will be no more calls.
        is_lost: The loop has ended before that.
    """

    def __init__(
        self,
        queue: CallQueue,
        call: Callable[[Any], Any],
        items: Mapping[int, Any],
        judge: Judge,
        name: str,
        unbegun: Callable[[int], object],
        *,
        is_lazy: bool,
        stop: Callable[[], object],
        over: Callable[[], object] = lambda: None,
    ) -> None:
        self._queue = queue
        self._call = call
        self._items = items
        self._judge = judge
        self._prefix = f"batch:{name}["
        self._unbegun = unbegun
        self._is_lazy = is_lazy
        self._stop = stop
        self._over = over
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        # With what each calls as it ends.
        self._tasks: dict[int, tuple[asyncio.Task[Any], Callable[[asyncio.Task[Any]], None], int]] = {}
        self._asked: set[int] = set()
        self._ends: list[End] = []
        self._is_draining = False
        # What a call has raised that is no coroutine yet.
        self._exit: BaseException | None = None
        self.is_over = False
        self.is_lost = False
        notifier = queue.notifier()
        assert notifier is not None, "the end has not been taken yet"
        self._watch = LoopWatch(self._loop, notifier, self._heard, self._left)
        self._last = self._at_the_end()
        _step(self._last)

    def waits_for_this_thread(self) -> bool:
        """Whether the loop cannot run while this thread waits for the calls on it, unless it waits on that loop."""
        if self._loop.is_closed():
            return False
        if self._loop.is_running():
            return asyncio._get_running_loop() is self._loop
        return self._thread == threading.get_ident()

    @property
    def is_here(self) -> bool:
        """Whether it is the loop that runs in this thread."""
        return asyncio._get_running_loop() is self._loop

    def drain(self) -> None:
        """Begin nothing new; what has begun goes on. May be called from any thread."""
        if not self._is_draining:
            self._is_draining = True
            on_loop(self._loop, self._withdraw)

    def _withdraw(self) -> None:
        for task, _, at in self._tasks.values():
            if self._note_unbegun(task, at):
                task.cancel()

    def _note_unbegun(self, task: asyncio.Task[Any], at: int) -> bool:
        """Whether a call has run nothing yet."""
        coroutine = task.get_coro() if self._is_lazy else None
        if not inspect.iscoroutine(coroutine) or inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED:
            return False
        # A coroutine that was the item itself is spent by being cancelled.
        if coroutine is not self._items.get(at):
            self._unbegun(at)
        return True

    def _look_at_cancelled(self, numbers: list[int]) -> None:
        for number in numbers:
            task, _, at = self._tasks.get(number, (None, None, 0))
            if task is not None and task.cancelling():
                self._note_unbegun(task, at)

    def is_of_a_call(self, error: BaseException) -> bool:
        """Whether this is how a call has ended, just now."""
        if error is self._exit:
            return True
        ended = (task for task, _, _ in self._tasks.values() if task.done() and not task.cancelled())
        return any(task.exception() is error for task in ended)

    def _heard(self) -> None:
        if self._queue.drains:
            self.drain()
        begins, stops, is_over = self._queue.take()
        if is_over:
            self._leave("the batch is over")
        if self._is_draining:
            for _, at in begins:
                self._unbegun(at)
            self._queue.give_back([self._judge.stopped(number) for number, _ in begins])
            begins = []
        if begins and self._is_lazy:
            # Ahead of their first steps: what is cancelled by then, as all tasks are when `asyncio.run` ends, runs
            # nothing, and cannot be told from what has begun once it has ended.
            self._loop.call_soon(self._look_at_cancelled, [number for number, _ in begins])
        exits = [raised for number, at in begins if (raised := self._begin(number, at)) is not None]
        for number in stops:
            task, _, at = self._tasks.get(number, (None, None, 0))
            if task is not None and not task.done():
                self._asked.add(number)
                self._note_unbegun(task, at)
                task.cancel()
        if is_over and not self.is_lost:
            self.is_over = True
            self._watch.leave()
            # The loop has nothing to close then.
            _step(self._last)
            self._over()
        if exits and self._exit is None:
            # As out of a task, it ends the loop; but not before the others have begun, and not while that ends.
            self._exit = exits[0]
            raise self._exit

    async def _at_the_end(self) -> AsyncGenerator[None, None]:
        """Is begun, and closed with the loop's async generators."""
        try:
            yield
        except GeneratorExit:
            # Nothing is taken that begins from here on.
            self.is_lost = True
            self._leave(_ENDED)
            self._stop()
            tasks = [task for task, _, _ in self._tasks.values()]
            for task, _, at in self._tasks.values():
                self._note_unbegun(task, at)
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            self._flush()
            self._over()
            raise

    def _left(self) -> None:
        """The loop calls no more: all is over, or it was closed."""
        if self.is_over:
            return
        self.is_over = True
        if not self.is_lost:
            self.is_lost = True
            _step(self._last)
        # What has not ended never does, and what has is not told of that any more; neither is to hold this.
        for number, (task, ended, at) in self._tasks.items():
            task.remove_done_callback(ended)
            if task.done():
                self._ends.append(self._end_of(number, task))
            elif self._note_unbegun(task, at):
                # It would complain that it was never awaited.
                task.get_coro().close()
        self._tasks.clear()
        self._flush()
        self._leave(_ENDED)
        self._stop()

    def _leave(self, why: str) -> None:
        """Take no more calls; the tasks that there are go on."""
        for at in self._queue.leave(why, list(self._tasks)):
            self._unbegun(at)

    def _begin(self, number: int, at: int) -> BaseException | None:
        """Begin a call; returns what it has raised at once that is to end the loop."""
        item = self._items[at]
        try:
            task = self._loop.create_task(self._call(item), name=f"{self._prefix}{_called(item, at)}]")
        except BaseException as error:
            # Also what is no `Exception`: nothing else would settle this call.
            self._give_back(self._judge.raised(number, error))
            return error if isinstance(error, SystemExit | KeyboardInterrupt) else None
        ended = partial(self._ended, number)
        self._tasks[number] = (task, ended, at)
        task.add_done_callback(ended)
        return None

    def _ended(self, number: int, task: asyncio.Task[Any]) -> None:
        del self._tasks[number]
        self._give_back(self._end_of(number, task))

    def _end_of(self, number: int, task: asyncio.Task[Any]) -> End:
        if number in self._asked:
            self._asked.discard(number)
            return self._stopped(number, task)
        if not task.cancelled() and task.exception() is None:
            return self._judge.returned(number, task.result())
        return self._failed(number, task)

    def _failed(self, number: int, task: asyncio.Task[Any]) -> End:
        if task.cancelled():
            if task.cancelling():
                # By another hand than ours: as a loop ends, all its tasks are cancelled.
                return self._judge.stopped(number, _ENDED if self.is_lost else "")
            return self._judge.raised(number, asyncio.CancelledError("the function cancelled itself"))
        error = task.exception()
        assert error is not None
        return self._judge.raised(number, error)

    def _stopped(self, number: int, task: asyncio.Task[Any]) -> End:
        if task.cancelled():
            return self._judge.stopped(number)
        error = task.exception()
        return self._judge.swallowed(number, "returned" if error is None else f"raised {_shown(error)}")

    def _give_back(self, end: End) -> None:
        # What ends in the same turn of the loop is given back together.
        if not self._ends:
            self._loop.call_soon(self._flush)
        self._ends.append(end)

    def _flush(self) -> None:
        ends, self._ends = self._ends, []
        self._queue.give_back(ends)


class ServingThread:
    """A thread that serves a batch. It ends when the batch does, which is stopped as the program ends.

    Raises:
        RunError: There is no thread for it.
    """

    def __init__(self, serve: Callable[[], None], name: str) -> None:
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(serve,), name=name, daemon=True)
        begin(self._thread, f"to serve {name}")
        _threads.add(self)

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)


class LoopThread:
    """An event loop in a thread of its own, for a program that takes the outcomes of coroutines without one.

    Such a loop stops when a task raises `SystemExit` or `KeyboardInterrupt`, or its `stop` is called, and is
    started again: the first are what one call raised, as they are for the threads of an executor, and no end of the
    others. Out of a callback, which is no call's, they are for the caller that takes the outcomes: then nothing further
    begins, what runs is cancelled, and `take_exit` has what was raised.

    Args:
        unbegun, is_lazy: As for `LoopCaller`.
        stop: Stops the batch.
    """

    def __init__(
        self,
        queue: CallQueue,
        call: Callable[[Any], Any],
        items: Mapping[int, Any],
        judge: Judge,
        name: str,
        unbegun: Callable[[int], object],
        *,
        is_lazy: bool,
        stop: Callable[[], object],
    ) -> None:
        self._queue = queue
        self._make = partial(LoopCaller, queue, call, items, judge, name, unbegun, is_lazy=is_lazy, stop=stop)
        self._made: LoopCaller | None = None
        self._unbegun = unbegun
        self._is_draining = False
        self._is_serving = False
        self._stop = stop
        self._exit: BaseException | None = None
        self._thread = ServingThread(self._serve, f"unisono-{name}")

    def _serve(self) -> None:
        try:
            # What has not ended at the end has been abandoned; it is cancelled once more, as asyncio does.
            with asyncio.Runner() as runner:
                loop = runner.get_loop()
                # On the loop, and not before it, since calls begin as soon as they can.
                loop.call_soon(self._begin, loop)
                self._run(loop)
                while self._made is not None and not (self._made.is_over or self._made.is_lost):
                    self._run(loop)
        finally:
            # Whatever has ended it: nothing else would settle what the engine has begun, or begins.
            if self._made is None or self._made.is_lost or not self._made.is_over:
                for at in self._queue.leave(_ENDED):
                    self._unbegun(at)
                self._stop()

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._made = self._make(over=partial(self._over, loop))
        except BaseException:
            # Without descriptors, for example; the loop would not end by that.
            loop.stop()
            raise
        if self._is_draining:
            self._made.drain()

    def _over(self, loop: asyncio.AbstractEventLoop) -> None:
        # As it ends it runs for something else.
        if self._is_serving:
            loop.stop()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_serving = True
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            # The task that raised it has it as well.
            if self._made is None or not self._made.is_of_a_call(error):
                self._exit = self._exit or error
                self._stop()
        finally:
            self._is_serving = False

    def take_exit(self) -> BaseException | None:
        """What something else than a call has raised to end the program, once."""
        taken, self._exit = self._exit, None
        return taken

    def drain(self) -> None:
        """As `LoopCaller.drain`."""
        self._is_draining = True
        if self._made is not None:
            self._made.drain()


class ExecutorCaller:
    """Calls functions by an executor, from a thread of its own.

    Calls are submitted in the context that this is made in, so an executor that carries it does.

    Args:
        unbegun: Is told the number of each item whose call was taken back before it began.
        is_ours: The executor is shut down afterwards; and when it can have no thread at all, the batch is stopped.
        stop: Stops a call, as far as that can be.
        stop_all: Stops the batch.
        withdraw: Takes back what has not begun.
    """

    def __init__(
        self,
        queue: CallQueue,
        call: Callable[[Any], Any],
        items: Mapping[int, Any],
        judge: Judge,
        name: str,
        unbegun: Callable[[int], object],
        *,
        executor: Executor,
        is_ours: bool,
        stop: Callable[[Future[Any]], object],
        stop_all: Callable[[], object],
        withdraw: Callable[[list[Future[Any]]], object],
    ) -> None:
        self._queue = queue
        self._call = call
        self._items = items
        self._judge = judge
        self._name = name
        self._unbegun = unbegun
        self._executor = executor
        self._is_ours = is_ours
        self._stop = stop
        self._stop_all = stop_all
        self._withdraw = withdraw
        self._is_draining = False
        # Why nothing begins any more.
        self._refusal: RunError | None = None
        # Held while a call is handed in, so that none is on its way when it is said that none begins any more.
        self._gate = threading.Lock()
        # Touched by this thread to begin and stop, and by those of the executor at the end of a call.
        self._futures: dict[int, Future[Any]] = {}
        # The numbers of those that have ended and are on their way back; a number may be another call's before the end
        # of that way.
        self._returning: dict[object, int] = {}
        # The items of calls that were taken and are not handed in yet, by number.
        self._taken: dict[int, int] = {}
        self._asked: set[int] = set()
        # Those that were stopped while they ran, or may have been.
        self._stopped: set[int] = set()
        self._thread = ServingThread(self._serve, f"unisono-{name}")

    def _serve(self) -> None:
        is_over = False
        try:
            while not is_over:
                self._queue.wait()
                if self._queue.drains:
                    self.drain()
                begins, stops, is_over = self._queue.take()
                self._taken.update(begins)
                for number, at in begins:
                    self._begin(number, at)
                for number in stops:
                    self._ask(number)
        finally:
            if self._is_ours:
                self._executor.shutdown(wait=False, cancel_futures=True)
            # Whatever has ended it: nothing else would settle what the engine begins. And if it was the run's end,
            # nothing else knows what came too late to be taken. Calls that go on, or are on their way back, settle
            # themselves; of those two the second is looked at last, since they move to there.
            going_on = {*list(self._futures), *list(self._returning.values())}.difference(self._taken)
            for at in [*self._queue.leave(_NO_CALLS, list(going_on)), *self._taken.values()]:
                self._unbegun(at)

    def take_refusal(self) -> RunError | None:
        """Why its executor can call nothing at all, once."""
        taken, self._refusal = self._refusal, None
        return taken

    def drain(self) -> None:
        """Begin nothing new, and take back what has been handed in and has not begun. May be called from any thread."""
        if self._is_draining:
            return
        self._is_draining = True
        # An executor of the program's may hold up the thread that submits to it.
        if self._gate.acquire(timeout=_LONGEST_HANDING_IN):
            self._gate.release()
        self._withdraw(list(self._futures.copy().values()))

    def _begin(self, number: int, at: int) -> None:
        try:
            with self._gate:
                # From here on it may have begun.
                del self._taken[number]
                future = None if self._is_draining else self._executor.submit(self._call, self._items[at])
                if future is not None:
                    self._futures[number] = future
        except BaseException as error:
            if self._is_ours and isinstance(error, RunError):
                # Without threads there will be none for the next call either.
                self._refusal = self._refusal or error
                self._is_draining = True
                self._unbegun(at)
                self._queue.give_back([self._judge.stopped(number, str(error))])
                self._stop_all()
                return
            # What is refused since the program ends has not failed: it is for the next run.
            ends = isinstance(error, RuntimeError) and str(error).endswith("after interpreter shutdown")
            if ends:
                self._unbegun(at)
            self._queue.give_back([self._judge.stopped(number) if ends else self._judge.raised(number, error)])
            return
        if future is None:
            self._unbegun(at)
            self._queue.give_back([self._judge.stopped(number)])
            return
        future.add_done_callback(partial(self._ended, number, at))
        if self._is_draining:
            self._withdraw([future])

    def _ask(self, number: int) -> None:
        future = self._futures.get(number)
        if future is not None and not future.done():
            self._asked.add(number)
            # What has not begun takes this, by any executor; else it is stopped as it runs.
            if not future.cancel():
                self._stopped.add(number)
                self._stop(future)

    def _ended(self, number: int, at: int, future: Future[Any]) -> None:
        # Before it goes from there: what ends the thread meanwhile finds it in one of the two.
        way = object()
        self._returning[way] = number
        self._futures.pop(number, None)
        was_asked = number in self._asked
        self._asked.discard(number)
        if future.cancelled():
            if number not in self._stopped:
                self._unbegun(at)
            end = self._judge.stopped(number)
        elif (error := future.exception()) is None:
            end = self._judge.returned(number, future.result())
        elif was_asked and isinstance(error, self._judge.died):
            end = self._judge.stopped(number)
        else:
            end = self._judge.raised(number, error)
        self._stopped.discard(number)
        # After a fork, or at the end of the program, there is no queue to give it to.
        with contextlib.suppress(RuntimeError):
            self._queue.give_back([end])
        del self._returning[way]


def _step(generator: AsyncGenerator[None, None]) -> None:
    """Have an async generator go on, which waits for nothing."""
    with contextlib.suppress(StopIteration, StopAsyncIteration):
        generator.asend(None).send(None)


def _called(item: Any, at: int) -> str:
    """What an item is called in the name of its task. Only what is cheap to write: an item may be a whole table."""
    return str(item)[:_LONGEST_NAME] if isinstance(item, _CHEAP) else f"r{at}"


def _shown(error: BaseException) -> str:
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException as mistake:
        # An outcome is told whatever its exception does when it is asked for its text.
        text = f"(its text cannot be had: {type(mistake).__name__})"
    return f"{name}: {text}" if text else name


_threads: weakref.WeakSet[ServingThread] = weakref.WeakSet()
_shutdown.joins(stop_freeing)


@_shutdown.joins
def _join_threads() -> None:
    for thread in list(_threads):
        thread.join(_LONGEST_GOODBYE)


# For outcomes.
_ENDED = "its event loop has ended"
_NO_CALLS = "nothing makes calls any more"
_LONGEST_NAME = 60
# Not a union, which would be made anew for each item.
_CHEAP = (str, int, float, os.PathLike)
_LONGEST_GOODBYE = 2.0
_LONGEST_HANDING_IN = 0.2
