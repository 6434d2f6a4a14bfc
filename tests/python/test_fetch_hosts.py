"""Hosts that are away, from Python: what waits, what the report says, and what runs again."""

import asyncio
import socket
import threading

import unisono
from support.processes import until
from support.server import back


def test_repeated_with_resume_it_ends_well_once_the_host_is_back(tmp_path, away):
    urls = [f"http://127.0.0.1:{away}/items/{n}" for n in range(20)]
    options = {"out": tmp_path / "out.jsonl", "resume": True}
    for _ in range(2):
        report = unisono.fetch(urls, host_away=0.2, **options).run()
        assert (report.failed, report.passing, report.exit_code) == (20, {"away": 20}, 1)
        assert {line["error"]["kind"] for line in unisono.read_results(tmp_path / "out.jsonl")} == {"away"}
        host = report.by_key()[f"127.0.0.1:{away}"]
        assert host["failed"] == 20
        assert host["away_seconds"] >= 0.2
    with back(away) as server:
        report = unisono.fetch(urls, **options).run()
        assert len(server.requests) == 20
    assert (report.ok, report.passing, report.exit_code) == (20, {}, 0)


def test_a_host_that_never_answers_is_named_while_its_rows_wait_for_it():
    with socket.create_server(("127.0.0.1", 0), backlog=200) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        run = unisono.fetch([f"http://{host}/{n}" for n in range(60)], timeout=0.1)
        thread = threading.Thread(target=run.run)
        thread.start()
        until(lambda: host in run.progress.get("waiting_for", ()))
        run.cancel(abort=True)
        thread.join(60)
    assert run.report.ok == 0


def test_what_was_away_is_waited_for_and_named_meanwhile(away):
    async def main():
        batch = unisono.fetch([f"http://127.0.0.1:{away}/items/{n}" for n in range(20)])
        report = asyncio.ensure_future(asyncio.wait_for(batch, 60))
        while f"127.0.0.1:{away}" not in batch.progress.get("waiting_for", ()):
            await asyncio.sleep(0.01)
        with back(away):
            return await report

    report = asyncio.run(main())
    assert (report.ok, report.retries) == (20, 0)
    assert report.by_key()[f"127.0.0.1:{away}"]["away_seconds"] > 0


def test_a_used_up_retry_budget_is_a_kind_of_its_own_and_runs_again(server, tmp_path):
    urls = [f"{server.url}/flaky/1?{n}" for n in range(5)]
    options = {"out": tmp_path / "out.jsonl", "resume": True, "retry_budget": 0}
    report = unisono.fetch(urls, **options).run()
    assert (report.failed, report.passing) == (5, {"retry_budget": 5})
    assert unisono.fetch(urls, **options).run().ok == 5
    outcomes = unisono.fetch_all([f"{server.url}/flaky/3?more"], retry_budget="none", retries=3)
    assert [outcome.kind for outcome in outcomes] == ["ok"]


def test_the_first_refusal_decides_where_nobody_is_to_be_waited_for(away):
    (outcome,) = unisono.fetch_all([f"http://127.0.0.1:{away}/"], host_away=0, retries=1)
    assert outcome.error.kind == "connect"
    assert isinstance(outcome.error, ConnectionError)
    (outcome,) = unisono.fetch_all([f"http://127.0.0.1:{away}/"], host_away="200ms")
    assert outcome.error.kind == "away"
    assert isinstance(outcome.error, ConnectionError)
