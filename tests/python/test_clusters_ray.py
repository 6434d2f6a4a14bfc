"""`unisono.batch` over a Ray cluster: a real one, of three cores on loopback."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import cloudpickle
import psutil
import pytest

# Before ray is imported: it would call home, and write a token into the user's home.
os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled")


from cluster_support import begun, killing, results
from processes import until
from unisono import (
    FunctionAmbiguous,
    FunctionTimeout,
    Request,
    RunError,
    UsageError,
    batch,
    clusters,
    fetch,
    fetch_all,
)

# Workers cannot import the tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def free_port():
    with socket.socket() as unbound:
        unbound.bind(("127.0.0.1", 0))
        return unbound.getsockname()[1]


def is_listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def ports():
    """A head with three cores: its own port, and that for clients."""
    own, clients = free_port(), free_port()
    # Short, since there are sockets within.
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=3"]
    command += ["--node-ip-address=127.0.0.1", f"--port={own}", f"--ray-client-server-port={clients}"]
    command += ["--include-dashboard=false", "--disable-usage-stats", "--object-store-memory=80000000"]
    with subprocess.Popen(
        [*command, f"--temp-dir={folder}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as head:
        until(lambda: is_listening(clients))
        yield own, clients
        head.terminate()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def address(ports):
    return f"ray://127.0.0.1:{ports[1]}"


@pytest.fixture(scope="module")
def executor(address):
    """Two actors for many batches; a third core is for who else comes."""
    with clusters.connect(address, limit=2) as executor:
        yield executor


@pytest.fixture
def notes(tmp_path):
    """Where calls on any worker of this machine note that they have begun."""
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


def test_calls_are_made_by_the_workers_and_every_outcome_comes_back(executor):
    assert executor.width == 2
    report = batch(lambda number: (number, os.getpid()), range(200), executor=executor, ordered=True).run()
    assert [outcome.result[0] for outcome in report.outcomes] == list(range(200))
    assert os.getpid() not in {outcome.result[1] for outcome in report.outcomes}


def test_an_address_joins_the_connection_that_there_is_and_leaves_it_as_it_is(executor, address):
    assert results(batch(lambda number: 3 * number, range(3), executor=address, ordered=True)) == [0, 3, 6]
    assert results(batch(lambda number: 3 * number, range(3), executor=executor, ordered=True)) == [0, 3, 6]
    with pytest.raises(UsageError, match="one connection per process"):
        batch(print, [1], executor="ray://127.0.0.1:1").run()


def test_it_works_on_an_event_loop(executor):
    async def main():
        return [outcome.result async for outcome in batch(lambda n: 2 * n, range(5), executor=executor, ordered=True)]

    assert asyncio.run(main()) == [0, 2, 4, 6, 8]


def test_a_slow_call_holds_back_only_itself(executor, notes):
    release = notes / "release"

    def work(number):
        if number == 150:
            while not release.exists():
                time.sleep(0.01)
        return number

    outcomes = batch(work, range(300), executor=executor, limit=300)
    first = [next(outcomes).result for _ in range(299)]
    assert sorted(first) == [number for number in range(300) if number != 150]
    release.touch()
    assert next(outcomes).result == 150


def test_what_a_function_raises_comes_back_with_the_frames_of_the_worker(executor):
    def fail(number):
        raise LookupError(f"no host {number}")

    (outcome,) = batch(fail, [7], executor=executor)
    assert (outcome.kind, type(outcome.error), str(outcome.error)) == ("failed", LookupError, "no host 7")
    assert "in fail" in str(outcome.error.__cause__)


def test_a_call_that_times_out_is_stopped_with_its_process_and_others_go_on(executor, notes):
    def work(item):
        (notes / f"{item}.{os.getpid()}").touch()
        while item == "slow":
            time.sleep(0.01)
        return item

    outcomes = {outcome.item: outcome for outcome in batch(work, ["slow", *"abc"], executor=executor, timeout=10)}
    assert outcomes["slow"].kind == "timed_out"
    assert isinstance(outcomes["slow"].error, FunctionTimeout)
    assert {item: outcome.result for item, outcome in outcomes.items()} == {"slow": None, "a": "a", "b": "b", "c": "c"}
    (note,) = notes.glob("slow.*")
    until(lambda: not Path("/proc", note.suffix[1:]).exists())


def test_a_batch_that_is_stopped_stops_what_runs_and_accounts_for_all(executor, notes):
    def work(number):
        (notes / f"{number}.{os.getpid()}").touch()
        while True:
            time.sleep(0.01)

    outcomes = batch(work, range(10), executor=executor, limit=4)
    reports = []
    thread = threading.Thread(target=lambda: reports.append(outcomes.run()))
    thread.start()
    until(lambda: begun(notes))
    outcomes.cancel(abort=True)
    thread.join(60)
    assert reports[0].cancelled + reports[0].pending == 10


def test_a_worker_that_is_killed_in_the_middle_loses_nothing_and_nothing_runs_twice(executor, notes, tmp_path):
    def work(item):
        return killing(notes, item)

    items = [*(f"item-{number}" for number in range(30)), "deadly", *(f"item-{number}" for number in range(30, 60))]
    out = tmp_path / "results.jsonl"
    report = batch(work, items, executor=executor, limit=16, out=out).run()
    assert report.ok + report.ambiguous == report.total == 61
    assert max(begun(notes).values()) == 1
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(line["item"] for line in lines) == sorted(items)
    lost = {line["item"] for line in lines if line["outcome"] == "ambiguous"}
    assert "deadly" in lost
    again = batch(work, items, executor=executor, out=out, retry_ambiguous=True).run()
    assert again.kept["ok"] == 61 - len(lost)
    assert (again.ok, again.ambiguous) == (61, 0)


def test_the_outcome_of_a_lost_call_says_that_nobody_knows(executor, notes):
    (outcome,) = batch(lambda item: killing(notes, item), ["deadly"], executor=executor)
    assert (outcome.kind, outcome.attempts, outcome.error.kind) == ("ambiguous", 1, "died")
    assert isinstance(outcome.error, FunctionAmbiguous)


@pytest.mark.parametrize("options", [{"idempotent": True}, {"retries": 2}], ids=["idempotent", "retries"])
def test_a_lost_call_is_made_again_when_that_is_allowed(executor, notes, options):
    (outcome,) = batch(lambda item: killing(notes, item), ["deadly"], executor=executor, **options)
    assert (outcome.kind, outcome.result) == ("ok", "deadly")
    assert begun(notes) == {"deadly": 2}


PROGRAM = """
import ray, sys, unisono
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
batch = unisono.batch(lambda n: 3 * n, range(3), executor="ray", ordered=True)
print([outcome.result for outcome in batch], ray.is_initialized())
"""


def test_the_connection_that_a_program_has_made_is_used_and_left_as_it_is(ports):
    command = [sys.executable, "-c", PROGRAM, f"127.0.0.1:{ports[0]}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("[0, 3, 6] True\n", 0), done.stderr


NOT_THERE = """
import sys, unisono
try:
    unisono.batch(print, [1], executor=sys.argv[1]).run()
except unisono.Error as error:
    print(type(error).__name__, error)
"""


def fails_with(address, **variables):
    command = [sys.executable, "-c", NOT_THERE, address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | variables)
    return done.stdout.partition("\n")[0]


def test_a_cluster_that_is_not_there_is_said_before_anything_runs():
    assert fails_with("ray://127.0.0.1:9").startswith("RunError cannot reach the cluster of Ray at ray://127.0.0.1:9")
    assert fails_with("ray").startswith('UsageError executor: "ray" is the connection that `ray.init` made')
    assert RunError is not UsageError


# Fetching.


def pids(executor):
    """The processes of both actors."""
    found = set()
    while len(found) < 2:
        found |= set(results(batch(lambda _: os.getpid(), range(8), executor=executor)))
    return sorted(found)


def connections(pid, server):
    port = server.server_address[1]
    return sum(bool(one.raddr) and one.raddr.port == port for one in psutil.Process(pid).net_connections("tcp"))


def test_requests_are_sent_by_all_actors_and_end_as_they_do_here(executor, server):
    actors = pids(executor)
    held = [f"{server.url}/held/{n}" for n in range(8)]
    outcomes = fetch(held, on=executor, limit=8)
    reports = []
    thread = threading.Thread(target=lambda: reports.append(outcomes.run()))
    thread.start()
    server.wait_until(lambda: server.in_flight == 8)
    assert [connections(pid, server) for pid in actors] == [4, 4]
    server.gate.set()
    thread.join(60)
    assert reports[0].ok == 8
    urls = [*(f"{server.url}/items/{n}" for n in range(50)), f"{server.url}/status/404", f"{server.url}/cut"]

    def shown(outcomes):
        return [(one.kind, one.attempts, one.response and one.response.content) for one in outcomes]

    assert shown(fetch_all(urls, on=executor, retries=1)) == shown(fetch_all(urls, retries=1))


def test_an_actor_that_is_killed_in_the_middle_loses_no_request(executor, server):
    posts = [Request(f"{server.url}/held/post-{n}", method="POST") for n in range(4)]
    outcomes = fetch([*(f"{server.url}/held/{n}" for n in range(10)), *posts], on=executor, limit=20)
    reports = []
    thread = threading.Thread(target=lambda: reports.append(outcomes.run()))
    killed = pids(executor)[0]
    thread.start()
    server.wait_until(lambda: len(server.requests) == 14)
    os.kill(killed, signal.SIGKILL)
    server.wait_until(lambda: len(server.requests) > 14)
    server.gate.set()
    thread.join(60)
    (report,) = reports
    assert report.ok + report.ambiguous == report.total == 14
    assert report.ambiguous >= 1
    assert all(outcome.method == "POST" for outcome in report.outcomes if outcome.kind == "ambiguous")
    assert all(server.counts[f"/held/post-{n}"] == 1 for n in range(4))


def test_the_command_sends_by_a_cluster_of_ray(address, server, unisono):
    done = unisono("fetch", "--on", address, f"{server.url}/items/{{1..20}}")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 20), done.stderr
    gone = unisono("fetch", "--on", "ray://127.0.0.1:9", f"{server.url}/items/1")
    assert (gone.returncode, "cannot reach the cluster of Ray" in gone.stderr) == (125, True), gone.stderr
    assert len(server.requests) == 20
