"""Dask: chunks are tasks, each tied to one worker; whatever else is asked of a worker is asked beside its tasks.

The client is our own, also where the program has one: what it subscribes to and closes is its alone. It lives on an
event loop in a thread of its own.

A task that a worker had when it died would be given to another one by the scheduler, however often it is told not to
retry. Here it may only run at the address that it was sent to, and only in that very process: see `_remote`. Which
workers come and go, the scheduler tells each subscriber of its events.

A task that has begun cannot be stopped, since it is a call in a thread of a process that has other tasks as well. And
a cluster that grows from no worker at all does not grow for us: it would do so for tasks that any worker may have.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar

import distributed

from unisono._threads import begin
from unisono.clusters import _remote
from unisono.clusters._cluster import ClusterWorker, Inbox, Then
from unisono.clusters._greetings import why_unfit
from unisono.clusters._remote import Greeting, Submission
from unisono.clusters._remote_fetch import Question
from unisono.errors import RunError, UsageError

__all__ = ["DaskCluster", "address_of"]

_logger = logging.getLogger("unisono")
T = TypeVar("T")


def address_of(given: Any) -> tuple[str, Any] | None:
    """The address of the scheduler, and the security, of a `Client` or a cluster; `None` for anything else.

    Raises:
        UsageError: For an executor that Dask makes, since that calls a function again when a worker dies.
    """
    if isinstance(given, distributed.Client):
        return str(given.scheduler.address), given.security
    if isinstance(given, distributed.deploy.Cluster):
        return str(given.scheduler_address), given.security
    if isinstance(given, distributed.cfexecutor.ClientExecutor):
        raise UsageError(
            "executor: an executor of Dask calls a function again when its worker dies: give the Client itself"
        )
    return None


class DaskCluster:
    """A Dask cluster that we have joined. See `unisono.clusters._cluster.Cluster`.

    Args:
        address: The scheduler's, such as `tcp://host:8786`.
        security: A `distributed.Security`, where TLS needs one.
        inbox: Is told what happens.

    Raises:
        RunError: When there is no such scheduler.
        UsageError: When a worker has no unisono, or another version of it or of Python.
    """

    name = "dask"
    can_kill = False
    width = 0

    def __init__(self, address: str, security: Any, inbox: Inbox) -> None:
        self.address = address
        self._inbox = inbox
        self._loop = asyncio.new_event_loop()
        self._places: dict[str, ClusterWorker] = {}
        # What is under way; a loop itself keeps tasks only weakly.
        self._tasks: set[asyncio.Task[Any]] = set()
        # Said once to be of no use.
        self._unfit: set[str] = set()
        self._sent: dict[int, tuple[ClusterWorker, asyncio.Task[None]]] = {}
        self._is_closing = False
        self._thread = threading.Thread(target=self._serve, name="unisono-dask-client", daemon=True)
        try:
            begin(self._thread, f"to join {address}")
        except BaseException:
            self._loop.close()
            raise
        try:
            asyncio.run_coroutine_threadsafe(self._join(security), self._loop).result()
        except BaseException:
            self._end()
            raise

    def send(self, worker: ClusterWorker, submission: Submission) -> None:
        """Have a chunk run by a worker."""
        self._do(self._carry(worker, submission))

    def recall(self, worker: ClusterWorker, number: int, executor: str, size: int) -> None:
        """Ask beside the tasks of a worker, on its event loop."""
        self._do(self._recall(worker, number, executor, size))

    def ask(self, worker: ClusterWorker, question: Question, then: Then) -> None:
        """Ask beside the tasks of a worker, on its event loop."""
        self._do(self._ask(worker, question, then))

    def kill(self, worker: ClusterWorker) -> None:
        """Not asked for, since `can_kill` is not set."""
        raise NotImplementedError

    def close(self, executor: str) -> None:
        """Let workers forget us, and leave."""
        asyncio.run_coroutine_threadsafe(self._leave(executor), self._loop).result()
        self._end()

    # On the loop.

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        self._loop.call_soon_threadsafe(self._keep, work)

    def _keep(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _join(self, security: Any) -> None:
        try:
            self._client = await distributed.Client(
                self.address,
                security=security,
                asynchronous=True,
                set_as_default=False,
                timeout=_LONGEST_CONNECT,
                name="unisono",
            )
        except OSError as error:
            raise RunError(f"cannot reach the scheduler of Dask at {self.address}: {error}") from error
        try:
            # Before we look which are there, so that none comes or goes unseen.
            self._client.subscribe_topic("all", self._on_event)
            workers = await self._workers()
            greetings = await self._client.run(_remote.greet, on_error="return")
            # Those have gone in this very moment.
            greetings = {address: said for address, said in greetings.items() if not isinstance(said, OSError)}
            # It unpickles tasks before it hands them on, though not what is in our chunks.
            said = [("the scheduler", await self._greeting_of_scheduler())]
            said += [(f"the worker {address}", greeting) for address, greeting in greetings.items()]
            _check(said)
            self.width = sum(int(worker["nthreads"]) for worker in workers.values())
            self._add({address: greeting for address, greeting in greetings.items() if address in workers}, workers)
        except BaseException:
            await self._client.close()
            raise
        self._keep(self._watch())

    async def _greeting_of_scheduler(self) -> object:
        try:
            return await self._client.run_on_scheduler(_remote.greet)
        except Exception as error:
            return error

    async def _workers(self) -> dict[str, Any]:
        """What the scheduler knows of each worker, by address."""
        return dict((await self._client.scheduler.identity())["workers"])

    def _add(self, greetings: dict[str, Greeting], workers: dict[str, Any]) -> None:
        joined = []
        for address, greeting in greetings.items():
            known = self._places.get(address)
            if known is not None and known.token == greeting.token:
                continue
            self._remove(address, "another process has its address now")
            self._places[address] = ClusterWorker(address, greeting.token, int(workers[address]["nthreads"]))
            joined.append(self._places[address])
        if joined:
            self._inbox.joined(joined)

    def _remove(self, address: str, why: str) -> None:
        worker = self._places.pop(address, None)
        if worker is None:
            return
        sent = {number: task for number, (sent_to, task) in self._sent.items() if sent_to is worker}
        self._inbox.left(worker, why, set(sent))
        for task in sent.values():
            task.cancel()

    def _on_event(self, event: tuple[float, Any]) -> None:
        message = event[1]
        action = message.get("action") if isinstance(message, dict) else None
        if action == "remove-worker":
            self._remove(message["worker"], "it was closed" if message.get("expected") else "it is dead")
        elif action == "add-worker":
            self._keep(self._greet(message["worker"]))

    async def _greet(self, address: str) -> None:
        """Take a worker that has come later; one that does not fit is left out, and said so."""
        try:
            (greeting,) = (await self._client.run(_remote.greet, workers=[address], on_error="return")).values()
            workers = await self._workers()
        except (OSError, ValueError) as error:
            # It has gone again.
            _logger.debug("the worker %s did not answer: %s", address, error)
            return
        if isinstance(greeting, OSError):
            return
        if (why := why_unfit(f"the worker {address}", greeting)) is not None:
            self._unfit.add(address)
            _logger.warning("not used: %s", why)
        elif address in workers:
            self._add({address: greeting}, workers)

    async def _watch(self) -> None:
        """See that the scheduler goes: then nothing that is under way will ever answer.

        And compare what it knows of workers with what we do, since an event may have been missed, or a greeting failed.
        """
        while self._look_at_scheduler() and not self._is_closing:
            await asyncio.sleep(_LOOK_EVERY)
            known = set(self._places)
            try:
                # A client that has lost its scheduler asks for ten seconds before it says so.
                workers = await asyncio.wait_for(self._workers(), _LONGEST_LOOK)
            except OSError as error:
                _logger.debug("the scheduler did not answer: %s", error)
                continue
            for address in known - workers.keys():
                self._remove(address, "it is dead")
            for address in workers.keys() - self._places.keys() - self._unfit:
                await self._greet(address)

    def _look_at_scheduler(self) -> bool:
        # The client would connect again, but what it had sent is forgotten by then.
        is_there = bool(self._client.status == "running")
        if not is_there and not self._is_closing:
            self._is_closing = True
            self._inbox.broken(f"the scheduler of Dask at {self.address} has gone")
        return is_there

    async def _carry(self, worker: ClusterWorker, submission: Submission) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._places.get(worker.name) is not worker:
            # It has gone before this was sent, and that has been said.
            return
        self._sent[submission.number] = (worker, task)
        try:
            future = self._client.submit(
                partial(_remote.run, submission),
                key=f"unisono-{submission.executor}-{submission.number}",
                workers=[worker.name],
                allow_other_workers=False,
                retries=0,
                pure=False,
            )
            try:
                answer = await self._fetch(future)
            finally:
                future.release()
        except asyncio.CancelledError:
            if task.cancelling():
                # By us: its worker has gone, which has been said by now, or we leave.
                raise
            self._inbox.answered(submission.number, None, "its chunk did not come through: Dask has given it up")
        except Exception as error:
            # Also when the cluster is restarted, or its scheduler has gone.
            self._look_at_scheduler()
            why = f"its chunk did not come through: {type(error).__name__}: {error}"
            self._inbox.answered(submission.number, None, why)
        else:
            self._inbox.answered(submission.number, answer)
        finally:
            self._sent.pop(submission.number, None)

    async def _fetch(self, future: distributed.Future) -> Any:
        """Wait for the result of a task, and return it.

        Dask fetches what has ended in the same moment in one go, which all that wait for any of it share. A
        cancellation that reached it would end the others' waits too, and those of all that come later. So it ends only
        ours.
        """

        async def fetch() -> Any:
            return await future

        fetching = self._keep(fetch())
        # Looked at, or what a fetch raises that is waited for no longer would be logged.
        fetching.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return await asyncio.shield(fetching)

    async def _recall(self, worker: ClusterWorker, number: int, executor: str, size: int) -> None:
        answer = None
        try:
            answers = await self._client.run(
                _remote.recall, worker.token, executor, number, size, workers=[worker.name], on_error="return"
            )
            answer = answers.get(worker.name)
        except Exception as error:
            # Whatever it was: a caller waits to hear of it.
            _logger.debug("the worker %s did not answer: %s", worker.name, error)
        self._inbox.recalled(number, answer if isinstance(answer, bytes) else None)

    async def _ask(self, worker: ClusterWorker, question: Question, then: Then) -> None:
        try:
            answers = await self._client.run(_remote.answer_on_loop, question, workers=[worker.name], on_error="return")
            answer = answers[worker.name]
        except Exception as error:
            # Whatever it was: a caller waits to hear of it.
            answer = error
        if isinstance(answer, BaseException):
            self._inbox.said(then, None, f"{type(answer).__name__}: {answer}")
        else:
            self._inbox.said(then, answer)

    async def _leave(self, executor: str) -> None:
        self._is_closing = True
        # Asked again, since what a task awaits may swallow a cancellation, as `wait_for` of CPython 3.11 does when what
        # it waits for ends in the same moment.
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks, timeout=_ASK_AGAIN)
        if self._client.status == "running":
            # Or the scheduler would tell us that we leave, and complain that we have left.
            self._client.unsubscribe_topic("all")
            try:
                await asyncio.wait_for(
                    self._client.run(_remote.farewell, executor, on_error="ignore"), _LONGEST_FAREWELL
                )
            except (OSError, ValueError) as error:
                _logger.debug("not all workers have acknowledged that we leave: %s", error)
        await self._client.close()


def _check(said: list[tuple[str, object]]) -> None:
    for name, greeting in said:
        if (why := why_unfit(name, greeting)) is not None:
            raise UsageError(why)


_LONGEST_CONNECT = 10.0
_LONGEST_FAREWELL = 2.0
_ASK_AGAIN = 0.1
# Whatever is under way notices by itself; this is for calls that wait for a worker.
_LOOK_EVERY = 1.0
_LONGEST_LOOK = 2.0
