"""Hosts that restart, limit and drain: real servers, small numbers. `make hosts` has the large ones, and the peers."""

import json
import socket

import pytest

from hosts import SCENARIOS, faults, play
from support.installed import COMMAND
from support.real_servers import needs
from support.server import back
from support.terminals import Terminal


@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if not one.only_here], ids=lambda one: one.slug)
def test_no_row_is_lost_and_no_order_placed_twice_when(scenario, tmp_path):
    if scenario.program is not None:
        needs(*scenario.program)
    result = play(scenario, "unisono", scenario.few, tmp_path)
    assert faults(scenario, result, scenario.few) == []


def test_repeated_with_resume_it_ends_with_0_once_the_host_is_back(unisono, lines, tmp_path, away):
    # A POST that was never sent may be sent by a later run.
    calls = [{"url": f"http://127.0.0.1:{away}/items/{n}"} for n in range(20)]
    calls += [{"url": f"http://127.0.0.1:{away}/orders", "json": {"order": n}} for n in range(20)]
    (tmp_path / "calls.jsonl").write_text("".join(json.dumps(call) + "\n" for call in calls))
    command = ("fetch", "--from", "calls.jsonl", "-o", "out.jsonl", "--resume")
    for _ in range(2):
        done = unisono(*command, "--host-away", "200ms")
        assert done.returncode == 1
        rows = lines(tmp_path / "out.jsonl")
        assert {(row["outcome"], row["error"]["kind"], row["effect"]) for row in rows} == {("failed", "away", "none")}
        assert len(rows) == 40
        assert f"away: 127.0.0.1:{away} for 0." in done.stderr
        assert "and still at the end" in done.stderr
        assert "hint: --host-away" in done.stderr
        assert "next: the same command with --resume runs again 40 rows" in done.stderr
        assert "(40 away)" in done.stderr
    with back(away) as server:
        done = unisono(*command)
        assert done.returncode == 0, done.stderr
        assert len(server.requests) == 40
    assert [row["outcome"] for row in lines(tmp_path / "out.jsonl")] == ["ok"] * 40
    assert "next:" not in done.stderr


def test_what_was_refused_without_waiting_is_run_again_as_well(unisono, lines, tmp_path, away):
    command = ("fetch", f"http://127.0.0.1:{away}/items/{{1..5}}", "-o", "out.jsonl", "--resume", "--retries", "0")
    assert unisono(*command).returncode == 1
    assert {row["error"]["kind"] for row in lines(tmp_path / "out.jsonl")} == {"connect"}
    with back(away):
        assert unisono(*command).returncode == 0


def test_a_used_up_retry_budget_is_said_and_run_again_and_what_may_be_done_is_not(unisono, server, lines, tmp_path):
    calls = [{"id": f"get-{n}", "url": f"{server.url}/flaky/1?{n}"} for n in range(5)]
    calls += [{"id": f"post-{n}", "url": f"{server.url}/flaky/1?post={n}", "method": "POST"} for n in range(5)]
    calls += [{"id": "wrong", "url": f"{server.url}/status/404"}]
    (tmp_path / "calls.jsonl").write_text("".join(json.dumps(call) + "\n" for call in calls))
    command = ("fetch", "--from", "calls.jsonl", "-o", "out.jsonl", "--resume", "--retry-budget", "0")
    done = unisono(*command)
    rows = {row["id"]: row for row in lines(tmp_path / "out.jsonl")}
    assert {rows[f"get-{n}"]["error"]["kind"] for n in range(5)} == {"retry_budget"}
    assert {rows[f"post-{n}"]["outcome"] for n in range(5)} == {"ambiguous"}
    assert "hint: --retry-budget" in done.stderr
    assert "runs again 5 rows that failed by no fault of their own (5 retry_budget)" in done.stderr
    assert "with --retry-failed runs again 1 row that failed or timed out" in done.stderr
    assert "with --retry-ambiguous does again 5 rows that may have been done" in done.stderr
    done = unisono(*command)
    rows = {row["id"]: row for row in lines(tmp_path / "out.jsonl")}
    assert {rows[f"get-{n}"]["outcome"] for n in range(5)} == {"ok"}
    assert {rows[f"post-{n}"]["outcome"] for n in range(5)} == {"ambiguous"}
    assert rows["wrong"]["error"]["kind"] == "status"
    assert server.counts["/status/404"] == 1
    assert all(server.counts[f"/flaky/1?post={n}"] == 1 for n in range(5))


def test_a_resume_of_the_same_row_as_before_gives_it_a_budget_of_its_own(unisono, server, lines, tmp_path):
    command = (
        "fetch",
        f"{server.url}/flaky/2",
        "-o",
        "out.jsonl",
        "--resume",
        "--retry-budget",
        "none",
        "--retries",
        "5",
    )
    assert unisono(*command).returncode == 0
    assert [row["attempts"] for row in lines(tmp_path / "out.jsonl")] == [3]


@pytest.mark.parametrize("mode", ["bar", "json"])
def test_progress_names_a_host_that_is_overloaded_and_how_much_it_is_sent_at_a_time(tmp_path, server, mode):
    host = server.url.removeprefix("http://")
    command = (COMMAND, "fetch", f"{server.url}/status/503?{{1..60}}", "-o", "out.jsonl", "--proxy", "")
    command += ("--retries", "1000", "--retry-budget", "none", "--progress", mode)
    terminal = Terminal(*command, cwd=tmp_path, columns=160)
    try:
        if mode == "bar":
            terminal.shows(f"waiting for {host}: overloaded or timing out, 1 at a time")
        else:
            terminal.shows(f'"lowered":["{host}"]')
    finally:
        terminal.close()


@pytest.fixture
def silent():
    """A host that takes what it is sent, and answers nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("mode", ["bar", "json"])
def test_progress_names_a_host_that_never_answers_and_since_when(tmp_path, silent, mode):
    command = (COMMAND, "fetch", f"http://{silent}/items/{{1..60}}", "-o", "out.jsonl", "--proxy", "")
    terminal = Terminal(*command, "--timeout", "200ms", "--progress", mode, cwd=tmp_path, columns=160)
    try:
        if mode == "bar":
            terminal.shows(f"waiting for {silent}, no answer for 1s")
            terminal.shows("no answer for 2s")
        else:
            terminal.shows(f'"away":["{silent}"]')
    finally:
        terminal.close()


def test_a_host_that_never_answers_is_given_up_as_one_that_is_away(unisono, lines, tmp_path, silent):
    calls = [{"url": f"http://{silent}/items/{n}"} for n in range(30)]
    calls += [{"url": f"http://{silent}/orders", "json": {"order": n}} for n in range(30)]
    (tmp_path / "calls.jsonl").write_text("".join(json.dumps(call) + "\n" for call in calls))
    command = ("fetch", "--from", "calls.jsonl", "-o", "out.jsonl", "--proxy", "", "-v")
    done = unisono(*command, "--timeout", "50ms", "--host-away", "1s", "--retries", "1000", "--retry-budget", "none")
    assert done.returncode == 1
    rows = lines(tmp_path / "out.jsonl")
    ends = {(row["outcome"], row["error"]["kind"], row["effect"]) for row in rows}
    # What was sent may have been done: an order is in doubt by that.
    assert ends <= {("failed", "away", "none"), ("failed", "away", "maybe"), ("ambiguous", "timeout", "maybe")}
    assert ("failed", "away", "none") in ends
    assert all(row["attempts"] == 1 for row in rows if row["outcome"] == "ambiguous")
    assert f"{silent}: answers nothing since " in done.stderr
    assert f"http://{silent} answered nothing for " in done.stderr
    assert f"away: {silent} for " in done.stderr
    assert "hint: --host-away" in done.stderr


@pytest.mark.parametrize(("mode", "rows"), [("bar", 30), ("bar", 1), ("json", 1)])
def test_progress_names_the_host_that_is_waited_for(tmp_path, away, mode, rows):
    command = (COMMAND, "fetch", f"http://127.0.0.1:{away}/items/{{1..{rows}}}", "-o", "out.jsonl", "--proxy", "")
    terminal = Terminal(*command, "--progress", mode, cwd=tmp_path, columns=160)
    try:
        if mode == "bar":
            terminal.shows(f"waiting for 127.0.0.1:{away}, away for 1s")
            terminal.shows("away for 2s")
        else:
            terminal.shows(f'"away":["127.0.0.1:{away}"]')
        with back(away):
            terminal.shows(f"{rows} ok")
            assert terminal.ends() == 0
    finally:
        terminal.close()
    assert f"away: 127.0.0.1:{away} for " in terminal.text
    assert "still" not in terminal.text
