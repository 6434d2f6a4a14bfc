"""What `unisono.batch` and `fetch` do on Ray alone, over a real cluster of three cores; the rest is in `test_clusters.py`."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cloudpickle
import psutil
import pytest

from support.clusters import begun, ray_head, results
from support.processes import longer_and_longer, until
from unisono import (
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


@pytest.fixture(scope="module")
def ports():
    with ray_head() as ports:
        yield ports


@pytest.fixture(scope="module")
def address(ports):
    return f"ray://127.0.0.1:{ports[1]}"


@pytest.fixture(scope="module")
def executor(address):
    """Two actors for many batches; a third core is for what else comes."""
    with clusters.connect(address, limit=2) as executor:
        yield executor


@pytest.fixture
def notes(tmp_path):
    """Where calls on any worker of this machine note that they have begun."""
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


def test_an_address_joins_the_connection_that_there_is_and_leaves_it_as_it_is(executor, address):
    assert results(batch(lambda number: 3 * number, range(3), executor=address, keep_order=True)) == [0, 3, 6]
    assert results(batch(lambda number: 3 * number, range(3), executor=executor, keep_order=True)) == [0, 3, 6]
    with pytest.raises(UsageError, match="one connection per process"):
        batch(print, [1], executor="ray://127.0.0.1:1").run()


def test_a_call_that_times_out_is_stopped_with_its_process_and_others_go_on(executor, notes):
    def work(item):
        (notes / f"{item}.{os.getpid()}").touch()
        while item == "slow":
            time.sleep(0.01)
        return item

    for timeout in longer_and_longer(2):
        outcomes = {
            outcome.item: outcome for outcome in batch(work, ["slow", *"abc"], executor=executor, timeout=timeout)
        }
        # All have the same time, in which a busy machine may not come to a call.
        if begun(notes)["slow"] and all(outcomes[item].ok for item in "abc"):
            break
    assert outcomes["slow"].kind == "timed_out"
    assert isinstance(outcomes["slow"].error, FunctionTimeout)
    assert {item: outcome.result for item, outcome in outcomes.items()} == {"slow": None, "a": "a", "b": "b", "c": "c"}
    until(lambda: not any(Path("/proc", note.suffix[1:]).exists() for note in notes.glob("slow.*")))


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


PROGRAM = """
import ray, sys, unisono
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
batch = unisono.batch(lambda n: 3 * n, range(3), executor="ray", keep_order=True)
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
        return [(one.kind, one.attempts, one.result and one.result.content) for one in outcomes]

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
