"""An executor over the workers of a cluster: which call travels with which others, to which worker, and how it ends.

One thread decides, on events from an inbox: calls come, workers join and leave, chunks and recalls answer. So nothing
here is locked. What sends, and which the workers are, is a `Cluster` (see `_cluster`).

Calls that wait are spread evenly over the workers that are free, so that none idles. How many travel together is
bounded by how long calls take: a chunk is about `_CHUNK_SECONDS` of work, and a single call may take any time.
One that takes far longer is recalled: the ends that it holds back are handed out, and what has not begun goes to
others.

A worker that goes takes with it what it had begun. Such a call is lost: whether it has taken effect is not known. It
is not called again here, unless the caller has said that it may be; what had not begun, to our certain knowledge, is.

Requests of a fetch take another way to the same workers: see `_exchange`.

It leaves out data that stays on workers, placement and priorities: for those there are the engines themselves.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import pickle
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

from unisono import _shutdown
from unisono._native import redacted
from unisono._pools import pickling as _pickling
from unisono._threads import begin
from unisono.clusters._cluster import Cluster, ClusterWorker, Inbox
from unisono.clusters._exchange import LONGEST_WITHOUT_WORKERS as _LONGEST_WITHOUT_WORKERS
from unisono.clusters._exchange import RemoteExchange, RemoteRequests
from unisono.clusters._remote import ChunkResult, End, Submission
from unisono.errors import RunError, UsageError, WorkerLost

__all__ = ["ClusterExecutor"]


class _RemoteFuture(Future[Any]):
    """A call on its way. To cancel one that has been sent is a question, and its end is the answer."""

    def __init__(self, executor: ClusterExecutor) -> None:
        super().__init__()
        self._executor = executor
        self._ask = executor._ask_to_stop

    def cancel(self) -> bool:
        """Stop the call, if it has not begun or its worker can be ended. Returns whether it is stopped already."""
        if self.done():
            return self.cancelled()
        self._ask(self)
        return False

    # Whatever a callback of the program's raises, the thread that decides goes on to decide: other calls wait for it.

    def settle_cancelled(self) -> None:
        """It ends since it was asked to."""
        with _whatever_callbacks_raise():
            super().cancel()
            self.set_running_or_notify_cancel()

    def settle(self, value: Any) -> None:
        """It has returned."""
        with _whatever_callbacks_raise():
            self.set_result(value)

    def fail(self, error: BaseException) -> None:
        """It has raised, or it was never made."""
        with _whatever_callbacks_raise():
            self.set_exception(error)


@contextlib.contextmanager
def _whatever_callbacks_raise() -> Iterator[None]:
    try:
        yield
    except BaseException:
        # What is an `Exception` was logged by the future.
        _logger.exception("a callback of a call on a cluster raised this")


@dataclass(eq=False)
class _PendingCall:
    future: _RemoteFuture
    key: str
    arguments: bytes
    # How often it may be lost with a worker and is called again.
    losses: int
    is_asked_to_stop: bool = False
    # It may go on if it has begun, and else is not to begin any more.
    is_withdrawn: bool = False


@dataclass(eq=False)
class _Withdrawal:
    """A caller waits until it is certain that nothing further begins."""

    # Chunks that have been recalled for it.
    open: set[int]
    done: threading.Event


@dataclass(eq=False)
class _SentChunk:
    number: int
    worker: ClusterWorker
    key: str
    size: int
    sent: float
    # By position; what is not here has its end.
    open: dict[int, _PendingCall]
    recalls: int = 0
    has_been_recalled: bool = False
    has_answered: bool = False
    # When its worker is ended, since a call of it has to stop.
    kill_at: float | None = None


class ClusterExecutor(Executor):
    """A `concurrent.futures.Executor` whose calls are made on a cluster, each at most once.

    Made by `unisono.clusters.connect`; taken by `unisono.batch` as its `executor`, as often as is wanted.

    Args:
        connect: Joins the cluster, and says to the inbox what happens there.
    """

    def __init__(self, connect: Callable[[Inbox], Cluster]) -> None:
        self._id = uuid.uuid4().hex
        self._inbox = Inbox()
        self._waiting: deque[_PendingCall] = deque()
        self._places: list[ClusterWorker] = []
        self._chunks: dict[int, _SentChunk] = {}
        self._exchanges: list[RemoteExchange] = []
        self._withdrawals: list[_Withdrawal] = []
        self._functions: dict[str, bytes] = {}
        # By identity; the function is kept, so that nothing else gets its number.
        self._keys: dict[int, tuple[Callable[..., Any], str]] = {}
        self._seconds: dict[str, float] = {}
        self._number = 0
        self._why_broken: str | None = None
        self._without_places = time.monotonic()
        self._is_closing = False
        # Held to refuse what comes after the end; the thread that decides never holds it for long.
        self._gate = threading.Lock()
        self._first_joined = threading.Event()
        self._cluster = connect(self._inbox)
        self._thread = threading.Thread(target=self._serve, name=f"unisono-{self._cluster.name}", daemon=True)
        try:
            begin(self._thread, f"for {self._cluster.address}")
        except BaseException:
            self._cluster.close(self._id)
            raise
        _executors.add(self)

    def __repr__(self) -> str:
        state = "broken" if self._why_broken is not None else "closing" if self._is_closing else "open"
        return f"<ClusterExecutor {self._cluster.name} {redacted(str(self._cluster.address))} {state}>"

    @property
    def kind(self) -> str:
        """The engine's name: `dask` or `ray`."""
        return self._cluster.name

    @property
    def width(self) -> int:
        """How many calls the workers make at once: those that are there, or are expected to be soon."""
        return max(self._cluster.width, sum(worker.threads for worker in list(self._places)))

    def wait_for_workers(self, seconds: float) -> None:
        """Wait until there is a worker.

        Raises:
            RunError: When none has come in that time, in seconds.
        """
        self._first_joined.wait(seconds)
        if self._why_broken is not None:
            raise RunError(self._why_broken)
        if not self._first_joined.is_set():
            raise RunError(f"{self._cluster.address} has no worker, and none came within {seconds:g} s")

    def prepare(self, function: Callable[..., Any]) -> str:
        """Pickle a function, once; returns what it is known by.

        Raises:
            UsageError: When it cannot be pickled.
        """
        known = self._keys.get(id(function))
        if known is not None:
            return known[1]
        try:
            data = _pickling.dumps_by_value(function)
        except Exception as error:
            raise UsageError(f"the function cannot be sent to {self._cluster.address}: {error}") from error
        key = hashlib.blake2b(data, digest_size=16).hexdigest()
        self._functions[key] = data
        self._keys[id(function)] = (function, key)
        return key

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        """Have `function(*arguments, **keywords)` called on the cluster.

        Raises:
            UsageError: When the function cannot be pickled.
            RuntimeError: After `shutdown`.
        """
        return self._submit(function, arguments, keywords, losses=0)

    def calling_again(self) -> Executor:
        """The same executor, where a call that is lost with its worker is made again, up to three times."""
        return _CallingAgain(self)

    def _submit(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any], *, losses: int
    ) -> Future[Any]:
        key = self.prepare(function)
        future = _RemoteFuture(self)
        try:
            call = _PendingCall(future, key, _pickling.dumps_by_value((arguments, keywords)), losses)
        except Exception as error:
            future.set_exception(TypeError(f"the item cannot be sent to a worker: {error}"))
            return future
        with self._gate:
            if self._is_closing:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._inbox.put(lambda executor: executor._on_call(call))
        return future

    def exchange(self, options: bytes, remote_requests: RemoteRequests) -> RemoteExchange:
        """Have the requests of a run sent by the workers; see `_exchange`.

        Raises:
            RuntimeError: After `shutdown`.
        """
        made = RemoteExchange(
            self._cluster, self._id, self._inbox, self._places, options, remote_requests, uuid.uuid4().hex
        )
        with self._gate:
            if self._is_closing:
                raise RuntimeError("cannot fetch by an executor after shutdown")
            self._inbox.put(lambda executor: executor._on_exchange(made))
        return made

    def withdraw(self, futures: set[_RemoteFuture]) -> None:
        """Have none of these begin any more that has not begun; what has goes on.

        Returns when that is certain, or after two seconds in which a worker was not heard of.
        """
        done = threading.Event()
        with self._gate:
            if self._is_closing:
                return
            self._inbox.put(lambda executor: executor._on_withdraw(futures, done))
        if threading.current_thread() is not self._thread:
            done.wait(_LONGEST_WITHDRAWAL)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster, once all calls have ended; with `cancel_futures`, at once.

        Args:
            wait: Come back when that is done, not before.
            cancel_futures: What waits is cancelled, and what runs is left to itself.
        """
        with self._gate:
            self._is_closing = True
        self._inbox.put(lambda executor: executor._on_shutdown(cancel_futures))
        if wait:
            self._thread.join()

    # The thread that decides.

    def _serve(self) -> None:
        try:
            while not (self._is_closing and not self._is_busy() and self._inbox.is_empty()):
                event = self._inbox.get(self._next_look())
                while event is not None:
                    event(self)
                    # Calls that begin in the same moment are all here before one of them is sent.
                    event = None if self._inbox.is_empty() else self._inbox.get(None)
                self._look_after(time.monotonic())
                self._send_what_waits()
                for exchange in self._exchanges:
                    exchange.flush()
        except BaseException as error:
            # Nothing may wait for what will never be decided.
            with self._gate:
                self._is_closing = True
            self._on_broken(f"a fault of unisono: {error!r}")
            raise
        finally:
            for withdrawal in self._withdrawals:
                withdrawal.done.set()
            self._cluster.close(self._id)

    def _is_busy(self) -> bool:
        return bool(self._waiting or self._chunks or self._exchanges)

    def _next_look(self) -> float | None:
        now = time.monotonic()
        by = [look for exchange in self._exchanges if (look := exchange.next_look()) is not None]
        for chunk in self._chunks.values():
            if chunk.kill_at is not None:
                by.append(chunk.kill_at)
            if len(chunk.open) > 1 and not chunk.has_been_recalled:
                by.append(chunk.sent + _LONGEST_HOLD)
        if self._waiting and not self._places:
            by.append(self._without_places + _LONGEST_WITHOUT_WORKERS)
        return max(0.0, min(by) - now) if by else None

    def _look_after(self, now: float) -> None:
        for exchange in self._exchanges:
            exchange.look_after(now)
        for chunk in list(self._chunks.values()):
            if chunk.kill_at is not None and now >= chunk.kill_at:
                chunk.kill_at = None
                self._cluster.kill(chunk.worker)
            if len(chunk.open) > 1 and not chunk.has_been_recalled and now >= chunk.sent + _LONGEST_HOLD:
                self._recall(chunk)
        if self._waiting and not self._places and now >= self._without_places + _LONGEST_WITHOUT_WORKERS:
            self._fail_waiting(
                f"{self._cluster.address} has had no worker for {_LONGEST_WITHOUT_WORKERS:g} s, so nothing was called"
            )

    def _send_what_waits(self) -> None:
        while self._waiting:
            free = [worker for worker in self._places if len(worker.chunks) < worker.threads]
            if not free:
                return
            slots = sum(worker.threads - len(worker.chunks) for worker in free)
            # The emptiest first, so that machines fill evenly.
            worker = min(free, key=lambda worker: len(worker.chunks) / worker.threads)
            self._send(worker, -(-len(self._waiting) // slots))

    def _send(self, worker: ClusterWorker, share: int) -> None:
        key = self._waiting[0].key
        seconds = self._seconds.get(key)
        most = 1 if seconds is None else max(1, min(_LARGEST_CHUNK, int(_CHUNK_SECONDS / max(seconds, 1e-6))))
        calls: list[_PendingCall] = []
        while self._waiting and self._waiting[0].key == key and len(calls) < min(share, most):
            calls.append(self._waiting.popleft())
        self._number += 1
        chunk = _SentChunk(self._number, worker, key, len(calls), time.monotonic(), dict(enumerate(calls)))
        self._chunks[chunk.number] = chunk
        worker.chunks.add(chunk)
        submission = Submission(
            token=worker.token,
            executor=self._id,
            number=chunk.number,
            settled=min(self._chunks),
            key=key,
            function=None if key in worker.knows else self._functions[key],
            items=[call.arguments for call in calls],
        )
        self._cluster.send(worker, submission)

    def _recall(self, chunk: _SentChunk) -> None:
        chunk.has_been_recalled = True
        chunk.recalls += 1
        self._cluster.recall(chunk.worker, chunk.number, self._id, chunk.size)

    # What has happened.

    def _on_exchange(self, exchange: RemoteExchange) -> None:
        self._exchanges.append(exchange)
        if self._why_broken is not None:
            exchange.on_broken(self._why_broken)

    def _on_call(self, call: _PendingCall) -> None:
        if self._why_broken is not None:
            call.future.fail(RunError(self._why_broken))
        elif call.is_asked_to_stop:
            call.future.settle_cancelled()
        else:
            self._waiting.append(call)

    def _ask_to_stop(self, future: _RemoteFuture) -> None:
        self._inbox.put(lambda executor: executor._on_stop(future))

    def _on_stop(self, future: _RemoteFuture) -> None:
        if future.done():
            return
        for call in self._waiting:
            if call.future is future:
                self._waiting.remove(call)
                future.settle_cancelled()
                return
        for chunk in self._chunks.values():
            for call in chunk.open.values():
                if call.future is future:
                    call.is_asked_to_stop = True
                    self._recall(chunk)
                    if self._cluster.can_kill:
                        chunk.kill_at = time.monotonic() + _LONGEST_RECALL
                    return

    def _on_withdraw(self, futures: set[_RemoteFuture], done: threading.Event) -> None:
        for call in [call for call in self._waiting if call.future in futures]:
            self._waiting.remove(call)
            call.future.settle_cancelled()
        withdrawal = _Withdrawal(set(), done)
        for chunk in self._chunks.values():
            calls = [call for call in chunk.open.values() if call.future in futures]
            for call in calls:
                call.is_withdrawn = True
            if calls:
                withdrawal.open.add(chunk.number)
                self._recall(chunk)
        self._withdrawals.append(withdrawal)
        self._look_at_withdrawals(None)

    def _look_at_withdrawals(self, settled: int | None) -> None:
        """A chunk has answered, or gone: it begins nothing further."""
        for withdrawal in self._withdrawals:
            withdrawal.open.discard(settled or 0)
            if not withdrawal.open:
                withdrawal.done.set()
        self._withdrawals = [withdrawal for withdrawal in self._withdrawals if withdrawal.open]

    def _on_joined(self, places: list[ClusterWorker]) -> None:
        self._places.extend(places)
        self._first_joined.set()

    def _on_left(self, worker: ClusterWorker, why: str, sent: set[int] | None) -> None:
        if worker in self._places:
            self._places.remove(worker)
            self._without_places = time.monotonic()
        for exchange in self._exchanges:
            exchange.on_left(worker, why)
        for chunk in list(worker.chunks):
            if sent is not None and chunk.number not in sent:
                self._take_back(chunk, list(chunk.open))
                self._forget(chunk)
                continue
            self._lose(
                chunk, f"the worker {worker.name} has gone: {why}" if why else f"the worker {worker.name} has gone"
            )

    def _on_answered(self, number: int, answer: bytes | None, why: str) -> None:
        chunk = self._chunks.get(number)
        if chunk is None:
            return
        chunk.has_answered = True
        if answer is None:
            if chunk.recalls == 0 or why:
                self._lose(chunk, why or "its process is not the one that it was sent to")
            return
        chunk.worker.knows.add(chunk.key)
        said = self._read(chunk, answer)
        made = max(1, len(said.ends))
        before = self._seconds.get(chunk.key, said.seconds / made)
        self._seconds[chunk.key] = before + _SMOOTHING * (said.seconds / made - before)
        self._settle(chunk)

    def _on_recalled(self, number: int, answer: bytes | None) -> None:
        chunk = self._chunks.get(number)
        if chunk is None:
            return
        chunk.recalls -= 1
        if answer is not None:
            self._read(chunk, answer)
        self._look_at_withdrawals(number)
        if chunk.kill_at is not None:
            # What is open now is what runs.
            chunk.kill_at = None
            if any(call.is_asked_to_stop for call in chunk.open.values()):
                self._cluster.kill(chunk.worker)
        self._settle(chunk)

    def _on_broken(self, why: str) -> None:
        self._why_broken = why
        self._first_joined.set()
        self._places.clear()
        for chunk in list(self._chunks.values()):
            self._lose(chunk, why)
        self._fail_waiting(why)
        for exchange in self._exchanges:
            exchange.on_broken(why)

    def _on_shutdown(self, cancel_futures: bool) -> None:
        if not cancel_futures:
            return
        for exchange in self._exchanges:
            exchange.on_broken("the executor was shut down")
        self._exchanges.clear()
        while self._waiting:
            self._waiting.popleft().future.settle_cancelled()
        for chunk in list(self._chunks.values()):
            for call in chunk.open.values():
                call.is_asked_to_stop = True
            self._lose(chunk, "")

    # Ends.

    def _read(self, chunk: _SentChunk, answer: bytes) -> ChunkResult:
        said: ChunkResult = pickle.loads(answer)
        for end in said.ends:
            call = chunk.open.pop(end[0], None)
            if call is not None:
                _give(call.future, end)
        self._take_back(chunk, said.unbegun)
        return said

    def _take_back(self, chunk: _SentChunk, positions: list[int]) -> None:
        """What never began waits again: in its order, before what came later."""
        for position in reversed(positions):
            call = chunk.open.pop(position, None)
            if call is not None and (call.is_asked_to_stop or call.is_withdrawn):
                call.future.settle_cancelled()
            elif call is not None:
                self._waiting.appendleft(call)

    def _settle(self, chunk: _SentChunk) -> None:
        if not chunk.open and (chunk.has_answered or chunk.recalls == 0):
            self._forget(chunk)
        elif chunk.has_answered and chunk.recalls == 0:
            self._lose(chunk, f"the worker {chunk.worker.name} answered, but not for this call")

    def _forget(self, chunk: _SentChunk) -> None:
        self._chunks.pop(chunk.number, None)
        chunk.worker.chunks.discard(chunk)
        self._look_at_withdrawals(chunk.number)

    def _lose(self, chunk: _SentChunk, why: str) -> None:
        self._forget(chunk)
        for call in reversed(chunk.open.values()):
            if call.is_asked_to_stop:
                call.future.settle_cancelled()
            elif call.losses > 0 and self._why_broken is None and not call.is_withdrawn:
                call.losses -= 1
                self._waiting.appendleft(call)
            else:
                call.future.fail(WorkerLost(why))
        chunk.open.clear()

    def _fail_waiting(self, why: str) -> None:
        while self._waiting:
            self._waiting.popleft().future.fail(RunError(why))


class _CallingAgain(Executor):
    def __init__(self, executor: ClusterExecutor) -> None:
        self._executor = executor

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        return self._executor._submit(function, arguments, keywords, losses=_MOST_LOSSES)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._executor.shutdown(wait, cancel_futures=cancel_futures)


def withdraw(futures: Iterable[Future[Any]]) -> set[Future[Any]]:
    """Have none of those that are ours begin any more; returns which these are."""
    by_executor: dict[ClusterExecutor, set[_RemoteFuture]] = {}
    for future in futures:
        if isinstance(future, _RemoteFuture):
            by_executor.setdefault(future._executor, set()).add(future)
    for executor, ours in by_executor.items():
        executor.withdraw(ours)
    return set().union(*by_executor.values())


def _give(future: _RemoteFuture, end: End) -> None:
    """Settle a call. Whatever reading its end raises is how it has ended, and of no other call."""
    _, has_returned, data = end
    if not has_returned:
        future.fail(_pickling.restore_error(pickle.loads(data))[0])
        return
    try:
        value = pickle.loads(data)
    except BaseException as error:
        mistake = TypeError(f"what the call answered cannot be read here: {_pickling.text_of(error)}")
        mistake.__cause__ = error
        future.fail(mistake)
        return
    future.settle(value)


_logger = logging.getLogger("unisono")
_executors: weakref.WeakSet[ClusterExecutor] = weakref.WeakSet()


@_shutdown.joins
def _close_all() -> None:
    for executor in list(_executors):
        executor.shutdown(wait=False, cancel_futures=True)
    for executor in list(_executors):
        executor._thread.join(_LONGEST_GOODBYE)


# Long against the few milliseconds that a message takes, short for a caller that waits.
_CHUNK_SECONDS = 0.05
# What is lost at most with one worker, however quick the calls.
_LARGEST_CHUNK = 256
# So much longer than a chunk should take that a busy machine causes no recalls.
_LONGEST_HOLD = 0.5
# A worker that does not answer in this time, in seconds, is ended without having been asked.
_LONGEST_RECALL = 1.0
# A quarter of the difference: follows calls that change their kind, and forgives one that is slow.
_SMOOTHING = 0.25
# As often as Dask itself tries by default.
_MOST_LOSSES = 3
_LONGEST_GOODBYE = 5.0
# A message there and back takes milliseconds.
_LONGEST_WITHDRAWAL = 2.0
