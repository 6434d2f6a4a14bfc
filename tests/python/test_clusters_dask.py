"""What `unisono.batch` does on Dask alone, over a real cluster of two workers; the rest is in `test_clusters.py`."""

import asyncio
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time

import cloudpickle
import distributed
import pytest

import unisono
from support.clusters import Cluster, begun, results
from support.processes import PATIENCE, until
from unisono import RunError, UsageError, batch, clusters
from unisono.clusters import _cluster, _executor, _greetings, _remote, dask

# Workers cannot import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Two workers with two threads each; a nanny starts one again that dies."""
    with Cluster(tmp_path_factory.mktemp("dask")) as cluster:
        cluster.start_two(threads=2)
        yield cluster.address


@pytest.fixture
def notes(tmp_path):
    """Where calls on any worker of this machine note that they have begun."""
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


def triple(number):
    return 3 * number


def in_background(outcomes):
    """Run a batch in a thread; answers what waits for its report."""
    reports = []
    thread = threading.Thread(target=lambda: reports.append(outcomes.run()))
    thread.start()

    def report():
        thread.join(60)
        return reports[0]

    return report


# Where calls run.


def test_a_client_a_cluster_and_an_executor_of_ours_are_taken_and_left_as_they_are(address):
    with distributed.Client(address.replace("dask", "tcp"), set_as_default=False) as client:
        assert results(batch(triple, range(3), executor=client, keep_order=True)) == [0, 3, 6]
        assert client.submit(int, "6").result() == 6
    with distributed.LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        assert results(batch(triple, range(3), executor=cluster, keep_order=True)) == [0, 3, 6]
    with clusters.connect(address) as executor:
        assert executor.width == 4
        assert results(batch(triple, range(3), executor=executor, keep_order=True)) == [0, 3, 6]
        assert list(executor.map(triple, [5, 6])) == [15, 18]


# How calls end.


def test_a_call_that_has_begun_cannot_be_stopped_and_its_outcome_says_so(address, notes):
    release = notes.parent / "release"

    def work(number):
        (notes / f"{number}.{os.getpid()}").touch()
        while not release.exists():
            time.sleep(0.01)

    outcomes = batch(work, [1], executor=address)
    report = in_background(outcomes)
    until(lambda: begun(notes))
    outcomes.cancel(abort=True)
    (outcome,) = report().outcomes
    release.touch()
    assert outcome.kind == "ambiguous"
    assert "a task of Dask cannot be stopped once it has begun" in str(outcome.error)


def test_a_call_that_has_not_begun_is_taken_back_and_never_begins(address, notes, monkeypatch):
    # A worker that does not say in time whether it has begun a call is taken to have.
    monkeypatch.setattr(_executor, "_LONGEST_WITHDRAWAL", PATIENCE)
    release = notes.parent / "release"

    def work(number):
        (notes / f"{number}.{os.getpid()}").touch()
        while not release.exists():
            time.sleep(0.01)

    outcomes = batch(work, range(6), executor=address, limit=6, timeout=0.1, keep_order=True)
    ended = [next(outcomes) for _ in range(6)]
    release.touch()
    assert list(outcomes) == []
    # Two workers have two threads each, and what they have begun by then goes on.
    gone_on = {str(outcome.item): 1 for outcome in ended if outcome.kind == "ambiguous"}
    assert [outcome.kind for outcome in ended].count("timed_out") == 6 - len(gone_on) >= 2
    # A worker that has begun one may not have had a core for it yet.
    until(lambda: begun(notes) == gone_on)
    assert results(batch(triple, range(20), executor=address, keep_order=True)) == list(range(0, 60, 3))
    assert begun(notes) == gone_on


# Workers that die.


ITEMS = [f"item-{number}" for number in range(60)]


def test_a_call_that_ends_every_worker_is_given_up(address):
    (outcome,) = batch(lambda _: os.kill(os.getpid(), signal.SIGKILL), [1], executor=address, idempotent=True)
    assert (outcome.kind, outcome.error.kind) == ("failed", "died")


class Noted(_cluster.Inbox):
    """What a cluster says, for a test to read."""

    def __init__(self):
        super().__init__()
        self.workers = []
        self.ended = {}

    def joined(self, places):
        self.workers += places

    def left(self, worker, why, sent=None):
        self.workers.remove(worker)

    def answered(self, number, answer, why=""):
        self.ended[number] = answer


def test_a_worker_that_goes_takes_no_result_of_another_along(address):
    noted = Noted()
    cluster = dask.DaskCluster(address.replace("dask", "tcp"), None, noted)
    try:
        until(lambda: len(noted.workers) == 2)
        client, fetch, opened = cluster._client, cluster._client._gather_remote, threading.Event()

        # Dask fetches what ends in the same moment in one go.
        async def held(*arguments):
            while not opened.is_set():
                await asyncio.sleep(0.01)
            return await fetch(*arguments)

        client._gather_remote = held
        gone, other = noted.workers
        function, items = cloudpickle.dumps(triple), [pickle.dumps(((1,), {}))]
        for number, worker in enumerate((gone, other)):
            order = _remote.Submission(worker.token, "this test", number, 0, "triple", function, items)
            cluster.send(worker, order)
        until(lambda: client._gather_keys is not None and len(client._gather_keys) == 2)
        cluster._loop.call_soon_threadsafe(cluster._remove, gone.name, "it is dead")
        until(lambda: len(noted.workers) == 1)
        opened.set()
        until(lambda: 1 in noted.ended)
        assert list(noted.ended) == [1]
        # And those that come later are fetched.
        order = _remote.Submission(other.token, "this test", 2, 0, "triple", None, items)
        cluster.send(other, order)
        until(lambda: 2 in noted.ended)
        assert None not in noted.ended.values()
    finally:
        opened.set()
        cluster.close("this test")


def test_a_scheduler_that_goes_ends_the_batch_with_every_item_accounted_for(tmp_path, notes):
    def work(number):
        (notes / f"{number}").touch()
        while True:
            time.sleep(0.01)

    with Cluster(tmp_path) as cluster:
        cluster.start_workers("--no-nanny", "--nthreads", "1")
        report = in_background(batch(work, range(5), executor=cluster.address, limit=2))
        until(lambda: begun(notes))
        cluster.started[0].kill()
        ended = report()
        # Its call never ends.
        cluster.started[1].kill()
    assert ended.total == 5
    assert ended.ambiguous == 1
    assert ended.failed == 4
    assert "has gone" in str(ended.outcomes[0].error)


# Chunks, at the end that runs them.


def order(number, items, *, token=None, settled=0):
    return _remote.Submission(
        token=token or _remote.greet().token,
        executor="test",
        number=number,
        settled=settled,
        key="key",
        function=cloudpickle.dumps(triple),
        items=[cloudpickle.dumps(((item,), {})) for item in items],
    )


def test_a_chunk_runs_once_in_the_process_that_it_is_meant_for_and_nowhere_else():
    try:
        assert _remote.run(order(1, [1], token="another process")) is None
        assert _remote.run(order(2, [1])) is not None
        assert _remote.run(order(2, [1])) is None
        # What is settled is refused although it is not remembered.
        assert _remote.run(order(9, [1], settled=8)) is not None
        assert _remote.run(order(2, [1])) is None
        assert _remote.recall("another process", "test", 10, 1) is None
    finally:
        _remote.farewell("test")


# Mistakes.


@pytest.mark.parametrize("address", ["dask://", "dask://host", "ray://:1", "dask://host:port", "ray://a b:1"])
def test_an_address_that_is_none_is_said_before_anything_runs(address):
    with pytest.raises(UsageError, match=r"is no address: expected (dask|ray)://host:port"):
        batch(triple, [1], executor=address)


def test_a_cluster_that_is_not_there_is_said_before_anything_runs(monkeypatch):
    monkeypatch.setattr("unisono.clusters.dask._LONGEST_CONNECT", 0.2)
    with pytest.raises(RunError, match=r"cannot reach the scheduler of Dask at tcp://127\.0\.0\.1:9"):
        batch(triple, [1], executor="dask://127.0.0.1:9").run()


def test_a_package_that_is_missing_is_named():
    program = """
        import sys
        sys.modules["distributed"] = None
        import unisono
        try:
            unisono.batch(print, [1], executor="dask://host:1").run()
        except unisono.UsageError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(line[8:] for line in program.splitlines())],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "executor: dask is not installed: `pip install unisono[dask]`\n"


def test_an_executor_of_dask_is_refused_since_it_calls_again_by_itself(address):
    client = distributed.Client(address.replace("dask", "tcp"), set_as_default=False)
    with client, pytest.raises(UsageError, match="give the Client itself"):
        batch(triple, [1], executor=client.get_executor())


def test_a_function_that_cannot_travel_is_said_before_anything_runs(address):
    lock = threading.Lock()
    with pytest.raises(UsageError, match="the function cannot be sent to"):
        batch(lambda _: lock, [1], executor=address).run()


@pytest.mark.parametrize(
    ("greeting", "why"),
    [
        (ModuleNotFoundError("No module named 'unisono'"), "has no unisono"),
        (_remote.Greeting("token", "0.0.0", sys.version_info[:2]), "has unisono 0.0.0"),
        (_remote.Greeting("token", unisono.__version__, (3, 1)), "runs Python 3.1"),
        (OSError("gone"), "did not answer as it should"),
        (_remote.greet(), None),
    ],
)
def test_a_worker_that_is_not_fit_is_named_with_the_reason(greeting, why):
    said = _greetings.why_unfit("web-1", greeting)
    assert (said is None) if why is None else (why in said and "web-1" in said)


def test_an_executor_that_was_shut_down_refuses_further_calls(address):
    executor = clusters.connect(address)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(triple, 1)
    assert not executor._thread.is_alive()
    assert isinstance(executor, _executor.ClusterExecutor)


class Rehearsal:
    """A cluster that only notes what it is told."""

    name, address, can_kill, width = "dask", "a rehearsal", False, 2

    def __init__(self, inbox):
        self.inbox, self.orders, self.recalls = inbox, queue.Queue(), queue.Queue()

    def send(self, place, order):
        self.orders.put((place, order))

    def recall(self, place, number, executor, size):
        self.recalls.put(number)

    def close(self, executor):
        pass


def test_an_executor_leaves_although_a_cancellation_is_swallowed(address):
    swallowed = []

    async def swallow():
        for _ in range(2):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed.append(True)

    with clusters.connect(address) as executor:
        executor._cluster._do(swallow())
        executor._cluster._do(asyncio.sleep(0))
        until(lambda: executor._cluster._tasks)
    assert swallowed == [True, True]


def test_what_had_not_been_sent_when_its_worker_went_is_made_by_another():
    stages = []
    executor = _executor.ClusterExecutor(lambda inbox: stages.append(Rehearsal(inbox)) or stages[0])
    stage = stages[0]
    gone, other = (_cluster.ClusterWorker(name, name, 1) for name in ("gone", "other"))
    stage.inbox.joined([gone])
    with executor:
        unsent = executor.submit(triple, 1)
        place, first = stage.orders.get(timeout=60)
        assert place is gone
        stage.inbox.left(gone, "", sent=set())
        stage.inbox.joined([other])
        place, again = stage.orders.get(timeout=60)
        assert (place, again.items, again.number > first.number) == (other, first.items, True)
        stage.inbox.left(other, "it is dead", sent={again.number})
        with pytest.raises(unisono.WorkerLost, match="the worker other has gone: it is dead"):
            unsent.result(60)


def test_chunks_are_spread_evenly_and_grow_only_once_calls_are_known_to_be_quick():
    stages = []
    executor = _executor.ClusterExecutor(lambda inbox: stages.append(Rehearsal(inbox)) or stages[0])
    stage = stages[0]
    places = [_cluster.ClusterWorker(name, name, 1) for name in ("one", "two")]

    def answer(order, seconds):
        ends = [(position, True, cloudpickle.dumps(None)) for position in range(len(order.items))]
        stage.inbox.answered(order.number, pickle.dumps(_remote.ChunkResult(ends, [], seconds)))

    with executor:
        futures = [executor.submit(triple, number) for number in range(22)]
        stage.inbox.joined(places)
        (first, order), (second, other) = stage.orders.get(timeout=60), stage.orders.get(timeout=60)
        assert {first, second} == set(places)
        assert (len(order.items), len(other.items)) == (1, 1)
        answer(order, seconds=0.01)
        # Five of 10 ms are 50 ms of work.
        _, third = stage.orders.get(timeout=60)
        assert (len(third.items), third.function) == (5, None)
        answer(third, seconds=0.0)
        answer(other, seconds=0.0)
        left = 22 - 1 - 1 - 5
        while left > 0:
            _, order = stage.orders.get(timeout=60)
            left -= len(order.items)
            answer(order, seconds=0.0)
        assert [future.result(60) for future in futures] == [None] * 22
