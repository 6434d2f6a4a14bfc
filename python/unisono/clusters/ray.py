"""Ray: one actor per core that the batch may have; its chunks run there one after another.

An actor that is never restarted, with methods that are never retried, makes a call at most once. It is a process of
ours alone, so a call that is to stop is stopped by ending it; a second, idle thread in it answers recalls. Actors that
have gone are replaced, since Ray knows of room on other machines.

It connects as a client (`ray://host:port`), or uses the connection that the program has made with `ray.init`. Ray has
one connection per process: ours is closed when the last batch that uses it has ended.
"""

from __future__ import annotations

import socket
import threading
from functools import partial
from typing import Any

import ray
import ray.exceptions

from unisono.clusters import _remote
from unisono.clusters._cluster import ClusterWorker, Inbox, Then
from unisono.clusters._greetings import why_unfit
from unisono.clusters._remote import Greeting, Submission
from unisono.clusters._remote_fetch import Collect, Question
from unisono.errors import RunError, UsageError

__all__ = ["RayCluster"]


class _Worker:
    """What an actor answers; it runs on a machine of the cluster."""

    def run(self, submission: Submission) -> bytes | None:
        """See `_remote.run`."""
        return _remote.run(submission)

    @ray.method(concurrency_group="beside")  # type: ignore[untyped-decorator, unused-ignore]
    def recall(self, token: str, executor: str, number: int, size: int) -> bytes | None:
        """See `_remote.recall`."""
        return _remote.recall(token, executor, number, size)

    @ray.method(concurrency_group="beside")  # type: ignore[untyped-decorator, unused-ignore]
    def answer(self, question: Question) -> Any:
        """See `_remote.answer`."""
        return _remote.answer(question)

    @ray.method(concurrency_group="waiting")  # type: ignore[untyped-decorator, unused-ignore]
    def wait(self, question: Question) -> Any:
        """The same, for a question that may wait."""
        return _remote.answer(question)

    @ray.method(concurrency_group="beside")  # type: ignore[untyped-decorator, unused-ignore]
    def greet(self) -> Greeting:
        """See `_remote.greet`."""
        return _remote.greet()


class RayCluster:
    """A Ray cluster that we have joined. See `unisono.clusters._cluster.Cluster`.

    Args:
        address: `ray://host:port`, or `None` for the connection that the program has.
        most: Most actors, however many cores the cluster has.
        inbox: Is told what happens.
        once_per_machine: One actor per machine that has a core for it, instead of one per core.

    Raises:
        RunError: When there is no such cluster.
        UsageError: When a worker has no unisono, or another version of it, or the program is connected elsewhere.
    """

    name = "ray"
    can_kill = True

    def __init__(self, address: str | None, most: int | None, inbox: Inbox, *, once_per_machine: bool) -> None:
        self.address = address or "the cluster of Ray"
        self._inbox = inbox
        self._is_ours = address is not None
        if address is not None:
            _connections.enter(address)
        elif not ray.is_initialized():
            raise UsageError(
                'executor: "ray" is the connection that `ray.init` made, and there is none: say ray://host:port'
            )
        self._make = ray.remote(
            num_cpus=1,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=1,
            concurrency_groups={"beside": 1, "waiting": _MOST_FETCHES},
            scheduling_strategy="SPREAD" if once_per_machine else "DEFAULT",
        )(_Worker)
        # Touched by the thread that decides and by those that tell of answers.
        self._lock = threading.Lock()
        self._actors: dict[int, Any] = {}
        self._places: dict[int, ClusterWorker] = {}
        self._made = 0
        self._is_closing = False
        try:
            cores = int(ray.cluster_resources().get("CPU", 0))
            if once_per_machine:
                most = sum(node["Alive"] and node["Resources"].get("CPU", 0) >= 1 for node in ray.nodes())
            self.width = max(1, min(cores, most or cores))
            for _ in range(self.width):
                self._hire()
        except BaseException:
            self._leave()
            raise

    def send(self, worker: ClusterWorker, submission: Submission) -> None:
        """Have a chunk run at a place."""
        number = submission.number
        self._when_done(
            lambda: worker.handle.run.remote(submission),
            lambda answer: self._inbox.answered(number, answer),
            lambda error: self._failed(worker, number, error),
        )

    def recall(self, worker: ClusterWorker, number: int, executor: str, size: int) -> None:
        """Ask the idle thread of an actor."""
        self._when_done(
            lambda: worker.handle.recall.remote(worker.token, executor, number, size),
            lambda answer: self._inbox.recalled(number, answer),
            lambda _: self._inbox.recalled(number, None),
        )

    def ask(self, worker: ClusterWorker, question: Question, then: Then) -> None:
        """Ask a thread of an actor that does nothing else."""
        method = "wait" if isinstance(question, Collect) else "answer"
        self._when_done(
            lambda: getattr(worker.handle, method).remote(question),
            lambda answer: self._inbox.said(then, answer),
            lambda error: self._unheard(worker, then, error),
        )

    def kill(self, worker: ClusterWorker) -> None:
        """End an actor's process."""
        ray.kill(worker.handle, no_restart=True)

    def close(self, executor: str) -> None:
        """End all actors; nothing has to be forgotten where nothing is left."""
        self._leave()

    def _hire(self) -> None:
        with self._lock:
            if self._is_closing:
                return
            self._made += 1
            number = self._made
            actor = self._actors[number] = self._make.remote()
        self._when_done(actor.greet.remote, partial(self._greeted, number, actor), partial(self._unfit, number))

    def _greeted(self, number: int, actor: Any, greeting: Greeting) -> None:
        if (why := why_unfit(f"actor {number}", greeting)) is not None:
            self._inbox.broken(why)
            return
        worker = ClusterWorker(f"actor {number}", greeting.token, 1, actor)
        with self._lock:
            self._places[number] = worker
        self._inbox.joined([worker])

    def _unfit(self, number: int, error: BaseException) -> None:
        with self._lock:
            self._actors.pop(number, None)
        # An actor that cannot even begin would not do so another time.
        self._inbox.broken(why_unfit(f"actor {number}", getattr(error, "cause", error)) or str(error))

    def _failed(self, worker: ClusterWorker, number: int, error: BaseException) -> None:
        if isinstance(error, ray.exceptions.RayActorError):
            self._gone(worker, error)
        else:
            why = f"its chunk did not come through: {type(error).__name__}: {_first_line(error)}"
            self._inbox.answered(number, None, why)

    def _unheard(self, worker: ClusterWorker, then: Then, error: BaseException) -> None:
        if isinstance(error, ray.exceptions.RayActorError):
            self._gone(worker, error)
        self._inbox.said(then, None, f"{type(error).__name__}: {_first_line(error)}")

    def _gone(self, worker: ClusterWorker, error: BaseException) -> None:
        with self._lock:
            known = next((known for known, one in self._places.items() if one is worker), None)
            if known is not None:
                del self._places[known]
                # They are all gone once we leave.
                self._actors.pop(known, None)
        self._inbox.left(worker, _first_line(error))
        if known is not None:
            # Not here: this is a thread of Ray's, and waits for itself when it asks Ray for something.
            self._inbox.put(lambda _: self._hire())

    def _when_done(self, ask: Any, then: Any, failed: Any) -> None:
        try:
            future = ask().future()
        except Exception as error:
            failed(error)
            return

        def tell(done: Any) -> None:
            error = done.exception()
            if error is None:
                then(done.result())
            else:
                failed(error)

        future.add_done_callback(tell)

    def _leave(self) -> None:
        with self._lock:
            self._is_closing = True
            actors, self._actors = list(self._actors.values()), {}
        if ray.is_initialized():
            for actor in actors:
                ray.kill(actor, no_restart=True)
        if self._is_ours:
            _connections.leave()


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


class _Connections:
    """The one connection that Ray has per process, for as many batches as use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._address: str | None = None
        self._users = 0

    def enter(self, address: str) -> None:
        with self._lock:
            if self._users == 0:
                if ray.is_initialized():
                    raise UsageError(
                        f'executor: Ray is connected already: say "ray" for that connection, not {address}'
                    )
                try:
                    # Ray itself would try for half a minute.
                    host, _, port = address.removeprefix("ray://").rstrip("/").rpartition(":")
                    socket.create_connection((host.strip("[]"), int(port)), _LONGEST_CONNECT).close()
                    _greet(address)
                except (OSError, RuntimeError, ValueError) as error:
                    raise RunError(f"cannot reach the cluster of Ray at {address}: {error}") from error
                self._address = address
            elif address != self._address:
                raise UsageError(f"executor: Ray is connected to {self._address}, and has one connection per process")
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                ray.shutdown()


def _greet(address: str) -> None:
    """Connect; again when the head could not start the server that it has for each client.

    It fails now and then, by a time that runs out or a process that ends while it is looked at, and the head does not
    try again by itself.
    """
    for is_last in (False, False, True):
        try:
            ray.init(address, log_to_driver=False)
        except ConnectionAbortedError:
            if is_last:
                raise
            ray.shutdown()
        else:
            return


_connections = _Connections()
_LONGEST_CONNECT = 10.0
# Each waits on a thread of its own; one more would wait for the first of them.
_MOST_FETCHES = 4
