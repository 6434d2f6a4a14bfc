"""`unisono.fetch(on=...)` and `unisono fetch --on` over a Dask cluster: a real one, of two workers on loopback."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import threading

import distributed
import psutil
import pytest

from support.clusters import Cluster
from support.processes import longer_and_longer, until
from unisono import Request, RunError, UsageError, clusters, fetch, fetch_all
from unisono.clusters import dask


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Two workers with one thread each; a nanny starts one again that dies."""
    with Cluster(tmp_path_factory.mktemp("dask")) as cluster:
        cluster.start_two(threads=1)
        yield cluster.address


@pytest.fixture
def workers(address):
    """The processes that send; both are there, whatever a test before has killed."""
    with distributed.Client(address.replace("dask", "tcp"), set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        yield list(client.run(os.getpid).values())


@pytest.fixture(scope="module")
def unreachable():
    """An address at which nothing listens."""
    return "dask://127.0.0.1:9"


def connections(pid, server):
    """How many connections a process has to the server."""
    port = server.server_address[1]
    with contextlib.suppress(psutil.NoSuchProcess):
        return sum(bool(one.raddr) and one.raddr.port == port for one in psutil.Process(pid).net_connections("tcp"))
    return 0


def shown(outcome):
    response = outcome.result
    answer = None if response is None else (response.status_code, response.content, response.url)
    return (outcome.kind, outcome.attempts, answer, None if outcome.error is None else outcome.error.kind)


class InBackground:
    """A batch that runs in a thread."""

    def __init__(self, batch):
        self._reports = []
        self._thread = threading.Thread(target=lambda: self._reports.append(batch.run()))
        self._thread.start()

    def report(self):
        self._thread.join(60)
        return self._reports[0]


# What is sent, and how it ends.


def test_rows_are_sent_by_both_workers_and_by_nobody_else(address, workers, server):
    running = InBackground(fetch([f"{server.url}/held/{n}" for n in range(8)], on=address, limit=8))
    server.wait_until(lambda: server.in_flight == 8)
    assert [connections(pid, server) for pid in workers] == [4, 4]
    server.gate.set()
    assert running.report().ok == 8


def test_rows_end_as_they_do_when_they_are_sent_from_here(address, server):
    big = "".join(f"&q{n}={n}" for n in range(100))
    requests = [
        *(f"{server.url}/items/{n}" for n in range(100)),
        f"{server.url}/echo?{big}",
        f"{server.url}/status/404",
        f"{server.url}/redirect",
        f"{server.url}/big/1",
        f"{server.url}/cut",
        f"{server.url}/drop",
        "http://127.0.0.1:1/",
        "nonsense",
        Request(f"{server.url}/orders", json={"order": 1}),
        Request(f"{server.url}/cut", method="POST", content=b"x"),
    ]
    options = {"limit": 20, "retries": 1, "host_away": 0}
    here = fetch_all(requests, **options)
    there = fetch_all(requests, on=address, **options)
    assert [shown(outcome) for outcome in there] == [shown(outcome) for outcome in here]
    assert {outcome.kind for outcome in there} == {"ok", "failed", "ambiguous"}


def test_pages_selections_and_saved_bodies_are_made_here(address, server, tmp_path):
    pages = fetch_all([f"{server.url}/pages/1"], on=address, paginate="link")
    assert [outcome.result.json()["page"] for outcome in pages] == [1, 2, 3]
    (outcome,) = fetch([f"{server.url}/items/7"], on=address, select=".id", out=tmp_path / "ids.jsonl")
    assert outcome.kind == "ok"
    assert json.loads((tmp_path / "ids.jsonl").read_text())["body"] == 7
    rows = [{"url": f"{server.url}/big/1", "id": "big"}]
    (outcome,) = fetch(rows, on=address, save=str(tmp_path / "{id}.json"))
    assert outcome.kind == "ok"
    assert json.loads((tmp_path / "big.json").read_text())["id"] == 1


def test_it_works_on_an_event_loop_and_by_whatever_names_the_cluster(address, server):
    urls = [f"{server.url}/items/{n}" for n in range(5)]

    async def main():
        return [outcome.kind async for outcome in fetch(urls, on=address)]

    assert asyncio.run(main()) == ["ok"] * 5
    with distributed.Client(address.replace("dask", "tcp"), set_as_default=False) as client:
        assert fetch(urls, on=client).run().ok == 5
        assert client.submit(int, "6").result() == 6
    with clusters.connect(address) as executor:
        assert fetch(urls, on=executor).run().ok == 5
        # It is joined once, for as many runs as are wanted, also side by side.
        runs = [InBackground(fetch(urls, on=executor)) for _ in range(3)]
        assert [run.report().ok for run in runs] == [5, 5, 5]
        assert list(executor.map(abs, [-1, -2])) == [1, 2]


# What holds for the whole cluster.


def test_files_and_streams_are_refused_with_the_way_out_and_what_is_in_memory_is_sent(address, server, tmp_path):
    path = tmp_path / "body"
    path.write_bytes(b"of a file")
    posted = {"method": "POST", "url": f"{server.url}/echo"}
    with path.open("rb") as file:
        rows = [
            {**posted, "content": path},
            {**posted, "content": file},
            {**posted, "files": {"report": path}},
            {**posted, "body_file": str(path)},
            {**posted, "content": iter([b"a", b"b"])},
            {**posted, "content": path.read_bytes()},
            {**posted, "files": {"report": path.read_bytes()}},
        ]
        outcomes = fetch_all(rows, on=address, keep_order=True)
    *refused, stream, sent, form = outcomes
    for outcome in refused:
        assert (outcome.kind, outcome.effect, outcome.error.kind) == ("failed", "none", "input")
        assert "not sent by another machine, which does not have it: send it from here, or give" in str(outcome.error)
    assert "its body comes in once, which is for a call of a client" in str(stream.error)
    assert sent.result.json()["body"] == "of a file"
    assert "of a file" in form.result.json()["body"]
    assert len(server.requests) == 2


def test_a_limit_per_host_holds_for_all_workers_together(address, server):
    running = InBackground(fetch([f"{server.url}/held/{n}" for n in range(20)], on=address, limit=20, per_host=3))
    server.wait_until(lambda: server.in_flight == 3)
    server.gate.set()
    assert running.report().ok == 20
    assert server.most_in_flight == 3


def test_a_server_that_asks_one_worker_to_wait_is_left_alone_by_all(address, server):
    urls = [f"{server.url}/throttled/1", *(f"{server.url}/items/{n}" for n in range(10))]
    assert fetch(urls, on=address, limit=1).run().ok == 11
    # The next request, by whichever worker, had to wait as well.
    assert server.paths()[0] == "/throttled/1"
    assert server.times[1] - server.times[0] > 0.9


def test_a_request_that_is_out_of_time_is_recalled_from_its_worker(address, workers, server):
    with clusters.connect(address) as executor:
        requests = [f"{server.url}/held/1", Request(f"{server.url}/held/2", method="POST")]
        # Long enough for both to be with the server when it is over, however busy the machine is.
        for timeout in longer_and_longer(1):
            before = len(server.requests)
            outcomes = fetch_all(requests, on=executor, timeout=timeout, retries=0)
            if len(server.requests) == before + 2:
                break
        assert [outcome.kind for outcome in outcomes] == ["timed_out", "ambiguous"]
        until(lambda: sum(connections(pid, server) for pid in workers) == 0)


# What goes away.


def test_a_worker_that_is_killed_in_the_middle_loses_no_row(address, workers, server, tmp_path):
    posts = [Request(f"{server.url}/held/post-{n}", method="POST") for n in range(6)]
    keyed = Request(f"{server.url}/held/keyed", method="POST", headers={"Idempotency-Key": "1"})
    requests = [*(f"{server.url}/held/{n}" for n in range(30)), *posts, keyed]
    out = tmp_path / "results.jsonl"
    running = InBackground(fetch(requests, on=address, limit=40, out=out))
    server.wait_until(lambda: len(server.requests) == 37)
    os.kill(workers[0], signal.SIGKILL)
    # What it had is sent by the other, as far as that does no harm.
    server.wait_until(lambda: len(server.requests) > 37)
    server.gate.set()
    report = running.report()
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == report.total == 37
    lost = [line for line in lines if line["outcome"] == "ambiguous"]
    assert report.ok == 37 - len(lost)
    assert report.retries == 0
    assert len(lost) >= 1
    assert all("/held/post-" in line["url"] and "has gone" in line["error"]["message"] for line in lost)
    assert all(server.counts[f"/held/post-{n}"] == 1 for n in range(6))


def test_a_scheduler_that_goes_stops_the_run_with_every_row_accounted_for(tmp_path, server):
    with Cluster(tmp_path) as cluster:
        cluster.start_workers("--no-nanny", "--nthreads", "1")
        requests = [*(f"{server.url}/held/{n}" for n in range(20)), Request(f"{server.url}/held/post", method="POST")]
        running = InBackground(fetch(requests, on=cluster.address, limit=30))
        server.wait_until(lambda: server.in_flight == 21)
        cluster.started[0].kill()
        report = running.report()
        # It would wait for its scheduler for a while.
        cluster.started[1].kill()
    assert (report.cancelled, report.ambiguous) == (20, 1)
    assert (report.exit_code, report.stopped) == (125, "MachinesLost")
    assert "the scheduler of Dask" in report.failures[0]


# Mistakes.


@pytest.mark.parametrize(
    ("option", "value"),
    [("cookies", True), ("token", lambda: "t"), ("unix_socket", "/run/x")],
)
def test_what_belongs_to_one_machine_is_refused_before_a_cluster_is_asked(unreachable, option, value):
    with pytest.raises(UsageError, match=f"^{option}: not together with on="):
        fetch(["http://127.0.0.1:1/"], on=unreachable, **{option: value}).run()


def test_a_mistake_is_said_before_anything_is_sent(address, unreachable, server, monkeypatch):
    urls = [f"{server.url}/items/1"]
    with pytest.raises(UsageError, match=r'^on: "dask://x" is no address'):
        fetch(urls, on="dask://x").run()
    with pytest.raises(UsageError, match=r"^on: expected dask://host:port"):
        fetch(urls, on="threads").run()
    with monkeypatch.context() as patch:
        # Dask tries for as long as it may, which must suffice for what it reaches.
        patch.setattr(dask, "_LONGEST_CONNECT", 0.5)
        with pytest.raises(RunError, match="cannot reach the scheduler of Dask"):
            fetch(urls, on=unreachable).run()
    with pytest.raises(UsageError, match="unknown"):
        fetch(urls, on=address, select="unknown_function(1)").run()
    assert server.requests == []


# The command.


def processes():
    """Everything that was started from here."""
    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_the_command_sends_by_the_cluster_and_leaves_nothing_behind(address, workers, server, unisono, lines):
    before = processes()
    rows = "".join(f"{n}\n" for n in range(200))
    words = ["fetch", "--on", address, "--from", "-", f"{server.url}/items/{{line}}", "-o", "out.jsonl"]
    done = unisono(*words, input=rows)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "200 outcomes" in done.stderr
    assert processes() <= before
    again = unisono(*words, "--resume", input=rows)
    assert (again.returncode, len(server.requests)) == (0, 200), again.stderr


def test_the_command_that_is_killed_goes_on_where_it_was(address, server, start, unisono, tmp_path, lines):
    before = processes()
    words = ["fetch", "--on", address, "--limit", "10", "-o", "out.jsonl", "--resume"]
    words += [f"{server.url}/items/{{1..30}}", f"{server.url}/held/1"]
    process = start(*words)
    out = tmp_path / "out.jsonl"
    until(lambda: out.exists() and len(out.read_text().splitlines()) == 30 and server.in_flight == 1)
    process.kill()
    process.wait(60)
    # What carried requests ends with it, and so does what was under way.
    until(lambda: processes() <= before)
    server.gate.set()
    done = unisono(*words)
    assert done.returncode == 0, done.stderr
    assert sorted(line["row"] for line in lines(out)) == list(range(31))
    assert all(server.counts[f"/items/{n}"] == 1 for n in range(1, 31))


def test_the_command_that_is_interrupted_accounts_for_all_and_leaves_nothing_behind(address, server, start, lines):
    before = processes()
    process = start("fetch", "--on", address, f"{server.url}/held/{{1..4}}", "-X", "POST")
    server.wait_until(lambda: server.in_flight == 4)
    process.send_signal(signal.SIGINT)
    assert "stopping" in process.stderr.readline()
    # Another one, since the same at once would count as one.
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert [line["outcome"] for line in lines(stdout)] == ["ambiguous"] * 4
    assert processes() <= before


def test_the_command_that_is_killed_as_it_joins_leaves_nothing_behind(start):
    before = processes()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = start("fetch", "--on", f"dask://127.0.0.1:{silent.getsockname()[1]}", "http://127.0.0.1:1/")
        connection, _ = silent.accept()
        with connection:
            process.kill()
            process.wait(60)
            until(lambda: processes() <= before)


def test_a_bridge_that_dies_stops_the_command_with_every_row_accounted_for(address, server, start, lines):
    process = start("fetch", "--on", address, f"{server.url}/held/{{1..4}}", f"{server.url}/never/{{1..50}}", "-j", "4")
    server.wait_until(lambda: server.in_flight == 4)
    (bridge,) = psutil.Process(process.pid).children()
    bridge.kill()
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 125, stderr
    assert "what carries requests to the cluster has ended" in stderr
    outcomes = [line["outcome"] for line in lines(stdout)]
    assert set(outcomes) == {"cancelled"}
    assert server.counts["/never/1"] == 0


def test_the_command_says_what_it_cannot_do_before_anything_is_sent(address, unreachable, unisono, server, tmp_path):
    url = f"{server.url}/items/1"
    bad = unisono("fetch", "--on", "dask:/x", url)
    assert (bad.returncode, "expected dask://host:port" in bad.stderr) == (2, True), bad.stderr
    cookies = unisono("fetch", "--on", unreachable, "--cookies", url)
    assert (cookies.returncode, "--cookies cannot be used with --on" in cookies.stderr) == (2, True), cookies.stderr
    (tmp_path / "distributed.py").write_text("raise ModuleNotFoundError('none', name='distributed')")
    missing = unisono("fetch", "--on", address, url, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert (missing.returncode, "pip install unisono[dask]" in missing.stderr) == (2, True), missing.stderr
    assert server.requests == []
