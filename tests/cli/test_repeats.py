"""What may have been done runs again only where both attempts can be repeated, and in the same way."""

import json
import signal

import pytest

from support.scripted_server import ScriptedServer, answer
from unisono import read_results

POST = ["-X", "POST", "--data", "hi"]


# An answer of which the rest never comes.
BEGUN = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"


def killed_at(start, server: ScriptedServer, count: int, *words) -> None:
    """A run that is killed once so many requests have come in all."""
    process = start(*words)
    while server.count("POST") < count:
        assert process.poll() is None, process.communicate()
    process.kill()
    process.wait()


def keys(server, method="POST") -> dict[str, list[str | None]]:
    """By path: the keys of the requests that came."""
    sent: dict[str, list[str | None]] = {}
    for asked, path, headers, _ in server.requests:
        if asked == method:
            sent.setdefault(path, []).append(
                next((value for name, value in headers.items() if name.lower() == "idempotency-key"), None)
            )
    return sent


def outcomes(path) -> list[tuple[str, str]]:
    return [(line["outcome"], line["effect"]) for line in sorted(read_results(path), key=lambda line: line["row"])]


def killed(start, server, *words, rows=3) -> None:
    process = start(*words)
    server.wait_until(lambda: len(server.requests) == rows)
    process.kill()
    process.wait()
    server.gate.set()


def stopped_twice(start, server, *words, rows=3) -> None:
    process = start(*words)
    server.wait_until(lambda: len(server.requests) == rows)
    process.send_signal(signal.SIGTERM)
    while "once more" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGTERM)
    process.communicate()
    server.gate.set()


@pytest.mark.parametrize("end", [killed, stopped_twice])
@pytest.mark.parametrize("mode", ["--resume", "--retry-failed"])
def test_what_went_out_with_a_key_is_not_sent_without_it(unisono, start, server, tmp_path, end, mode):
    words = ["fetch", *POST, f"{server.url}/held/{{1..3}}", "-o", "r.jsonl"]
    end(start, server, *words, "--idempotency-key")
    done = unisono(*words, mode)
    assert done.returncode == 1, done.stderr
    assert outcomes(tmp_path / "r.jsonl") == [("ambiguous", "maybe")] * 3
    assert "--idempotency-key" in done.stderr
    assert all(len(sent) == 1 for sent in keys(server).values())
    # The user may have it done again, and then it goes out with the key that it had.
    assert unisono(*words, "--retry-ambiguous", "--idempotency-key").returncode == 0
    assert all(len(sent) == 2 and sent[0] == sent[1] is not None for sent in keys(server).values())


@pytest.mark.parametrize("end", [killed, stopped_twice])
def test_what_went_out_with_a_key_is_sent_again_with_it(unisono, start, server, tmp_path, end):
    words = ["fetch", *POST, f"{server.url}/held/{{1..3}}", "-o", "r.jsonl", "--idempotency-key"]
    end(start, server, *words)
    done = unisono(*words, "--resume")
    assert done.returncode == 0, done.stderr
    assert all(len(sent) == 2 and sent[0] == sent[1] is not None for sent in keys(server).values())


@pytest.mark.parametrize("later", [{}, {"Idempotency-Key": "another"}, {"Idempotency-Key": "own-1"}])
@pytest.mark.parametrize("how", ["killed", "failed"])
def test_a_row_with_a_key_of_its_own_is_sent_again_with_that_one_alone(unisono, start, server, tmp_path, later, how):
    path = "held/1" if how == "killed" else "status/500"

    def rows(headers):
        row = {"url": f"{server.url}/{path}", "method": "POST", "json": 1, "headers": headers}
        (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")

    words = ["fetch", "--from", "in.jsonl", "-o", "r.jsonl", "--retries", "0"]
    rows({"Idempotency-Key": "own-1"})
    if how == "killed":
        killed(start, server, *words, rows=1)
    else:
        assert unisono(*words).returncode == 1
        assert outcomes(tmp_path / "r.jsonl") == [("failed", "maybe")]
    rows(later)
    unisono(*words, "--retry-failed")
    again = later.get("Idempotency-Key") == "own-1"
    assert keys(server)["/" + path] == ["own-1"] * (2 if again else 1)
    if not again:
        assert outcomes(tmp_path / "r.jsonl") == [("ambiguous", "maybe")]


@pytest.mark.parametrize(("first", "second"), [("PUT", "POST"), ("POST", "PUT"), ("DELETE", "PATCH")])
def test_what_was_on_its_way_by_one_method_does_not_go_out_by_another(unisono, start, server, tmp_path, first, second):
    words = ["fetch", "--data", "hi", f"{server.url}/held/{{1..3}}", "-o", "r.jsonl"]
    killed(start, server, *words, "-X", first)
    done = unisono(*words, "-X", second, "--resume")
    assert done.returncode == 2, done.stderr
    assert keys(server, second) == {}
    assert unisono(*words, "-X", first, "--resume").returncode == (0 if first != "POST" else 1)


def test_commands_that_could_be_repeated_and_now_cannot_are_in_doubt(unisono, start, tmp_path, server):
    fifo = ["sh", "-c", f"echo $1 >> started; curl -s {server.url}/held/$1; exit 0", "sh", "{}"]
    words = ["each", "-j", "4", "-o", "r.jsonl", "--resume"]
    killed(start, server, *words, "--idempotent", "--", *fifo, ":::", 1, 2, 3)
    done = unisono(*words, "--", *fifo, ":::", 1, 2, 3)
    assert done.returncode == 1
    assert "--idempotent" in done.stderr
    assert outcomes(tmp_path / "r.jsonl") == [("ambiguous", "maybe")] * 3
    assert sorted((tmp_path / "started").read_text().split()) == ["1", "2", "3"]


def plainly_sorted(path) -> None:
    path.write_text("".join(sorted(path.read_text().splitlines(keepends=True))))


def without_its_mark(path) -> None:
    """As `read_results` gives the lines back."""
    compact = (",", ":")
    path.write_text("".join(json.dumps(line, separators=compact) + "\n" for line in read_results(path)))


def spelled_by_python(path) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in read_results(path)))


def in_another_order_of_members(path) -> None:
    path.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in read_results(path)))


@pytest.mark.parametrize("edit", [plainly_sorted, without_its_mark, spelled_by_python, in_another_order_of_members])
def test_whatever_is_done_to_a_file_that_has_ended_each_row_keeps_its_key(unisono, server, tmp_path, edit):
    words = [
        "fetch",
        *POST,
        f"{server.url}/status/500?{{1..5}}",
        "-o",
        "r.jsonl",
        "--retries",
        "0",
        "--idempotency-key",
    ]
    assert unisono(*words).returncode == 1
    for _ in range(2):
        edit(tmp_path / "r.jsonl")
        done = unisono(*words, "--retry-failed")
        assert done.returncode == 1, done.stderr
    sent = keys(server)
    assert len(sent) == 5
    assert all(len(each) == 3 and len(set(each)) == 1 for each in sent.values()), sent


def test_two_files_that_were_joined_keep_their_keys(unisono, server, tmp_path):
    words = ["fetch", "--idempotency-key", "--retries", "0", "--rebind", "--from"]
    inputs, results = "", ""
    for half in (0, 1):
        rows = [
            {"id": f"o{n}", "url": f"{server.url}/status/500?{n}", "method": "POST", "json": n}
            for n in range(half * 4, half * 4 + 4)
        ]
        # Rows of the second file have numbers of their own.
        before = [{"id": f"g{n}", "url": f"{server.url}/items/{n}"} for n in range(half * 4)]
        one = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in before) + one)
        assert unisono(*words, "in.jsonl", "-o", f"r{half}.jsonl").returncode == 1
        inputs += one
        results += "".join(
            line for line in (tmp_path / f"r{half}.jsonl").read_text().splitlines(keepends=True) if '"id":"o' in line
        )
    (tmp_path / "in.jsonl").write_text(inputs)
    (tmp_path / "r.jsonl").write_text(results)
    done = unisono(*words, "in.jsonl", "-o", "r.jsonl", "--retry-failed")
    assert done.returncode == 1, done.stderr
    sent = keys(server)
    assert len(sent) == 8
    assert all(len(each) == 2 and len(set(each)) == 1 for each in sent.values()), sent


def test_a_line_that_does_not_say_its_key_is_not_sent_with_another(unisono, server, tmp_path):
    words = [
        "fetch",
        *POST,
        f"{server.url}/status/500?{{1..3}}",
        "-o",
        "r.jsonl",
        "--retries",
        "0",
        "--idempotency-key",
    ]
    assert unisono(*words).returncode == 1
    lines = list(read_results(tmp_path / "r.jsonl"))
    (tmp_path / "r.jsonl").write_text(
        "".join(
            json.dumps(
                {name: value for name, value in line.items() if name != "idempotency_key"}, separators=(",", ":")
            )
            + "\n"
            for line in lines
        )
    )
    done = unisono(*words, "--retry-failed")
    assert outcomes(tmp_path / "r.jsonl") == [("ambiguous", "maybe")] * 3
    assert all(len(sent) == 1 for sent in keys(server).values())
    assert "Idempotency-Key" in done.stderr


@pytest.mark.parametrize("key", [[], ["--idempotency-key"]])
def test_adopted_rows_without_a_line_do_not_go_out_whatever_key_they_would_have(unisono, start, server, tmp_path, key):
    words = ["fetch", *POST, f"{server.url}/held/{{1..3}}", "-o", "r.jsonl"]
    killed(start, server, *words, *key)
    (tmp_path / "r.jsonl.run").unlink()
    done = unisono(*words, "--adopt", "--idempotency-key")
    assert done.returncode == 1, done.stderr
    assert outcomes(tmp_path / "r.jsonl") == [("ambiguous", "maybe")] * 3
    assert all(len(sent) == 1 for sent in keys(server).values())


@pytest.mark.parametrize("option", [["--canary", "3"], ["--max-failures", "1"], ["--canary", "1"]])
def test_all_that_a_kill_left_in_doubt_is_told_at_once(unisono, start, server, tmp_path, option):
    words = ["fetch", *POST, f"{server.url}/held/{{1..3}}", f"{server.url}/items/{{4..9}}", "-j", "3", "-o", "r.jsonl"]
    killed(start, server, *words)
    done = unisono(*words, *option, "--resume")
    assert done.returncode == 3, done.stderr
    assert "3 ambiguous" in done.stderr
    assert outcomes(tmp_path / "r.jsonl")[:3] == [("ambiguous", "maybe")] * 3
    assert len(server.requests) == 3
    assert unisono(*words, *option, "--retry-ambiguous").returncode == 0


def test_items_in_doubt_are_told_at_once_wherever_they_stand_now(unisono, start, server, tmp_path):
    command = ["sh", "-c", f"curl -s {server.url}/held/$1; exit 0", "sh", "{}"]
    words = ["each", "-j", "4", "-o", "r.jsonl", "--resume", "--canary", "4"]
    killed(start, server, *words, "--", *command, ":::", 1, 2, 3, 4, rows=4)
    done = unisono(*words, "--", *command, ":::", 1, *range(1000, 1600), 2, 3, 4)
    assert done.returncode == 3, done.stderr
    assert "4 ambiguous, 600 pending" in done.stderr
    assert len(server.requests) == 4


@pytest.mark.parametrize("between", ["--resume", "--retry-failed"])
@pytest.mark.parametrize("how", [[], ["--rebind"]])
def test_a_retry_with_a_key_that_was_killed_is_remembered_by_whatever_run_comes_next(
    unisono, start, tmp_path, between, how
):
    with ScriptedServer({"/o": [answer(404), BEGUN, answer(200)]}) as server:
        words = ["fetch", *POST, f"{server.url}/o", "-o", "r.jsonl"]
        assert unisono(*words).returncode == 1
        assert outcomes(tmp_path / "r.jsonl") == [("failed", "none")]
        killed_at(start, server, 2, *words, "--retry-failed", "--idempotency-key", *how)
        for mode in (between, "--retry-failed", "--resume"):
            done = unisono(*words, mode, *how)
            assert done.returncode == 1, done.stderr
            assert outcomes(tmp_path / "r.jsonl") == [("ambiguous", "maybe")]
        assert server.count("POST") == 2


def test_a_retry_with_a_key_that_was_killed_is_gone_on_with_by_a_resume_with_it(unisono, start, tmp_path):
    with ScriptedServer({"/o": [answer(404), BEGUN, answer(200)]}) as server:
        words = ["fetch", *POST, f"{server.url}/o", "-o", "r.jsonl", "--idempotency-key"]
        assert unisono(*words).returncode == 1
        killed_at(start, server, 2, *words, "--retry-failed")
        done = unisono(*words, "--resume")
        assert done.returncode == 0, done.stderr
        assert len({headers["idempotency-key"] for _, _, headers in server.ledger}) == 1


@pytest.mark.parametrize("refusal", [answer(404), answer(429, "Retry-After: 3600")])
def test_what_may_have_been_done_with_a_key_is_not_forgotten_when_the_next_attempt_is_refused(
    unisono, start, tmp_path, refusal
):
    with ScriptedServer({"/o": [BEGUN, refusal, answer(200)]}) as server:
        words = ["fetch", *POST, f"{server.url}/o", "-o", "r.jsonl", "--retries", "0"]
        killed_at(start, server, 1, *words, "--idempotency-key")
        assert unisono(*words, "--resume", "--idempotency-key").returncode == 1
        assert outcomes(tmp_path / "r.jsonl") == [("failed", "maybe")]
        for mode in ("--resume", "--retry-failed"):
            unisono(*words, mode)
        assert server.count("POST") == 2
        # With the key that its line says it is sent again.
        assert unisono(*words, "--retry-ambiguous", "--idempotency-key").returncode == 0
        assert len({headers["idempotency-key"] for _, _, headers in server.ledger}) == 1


@pytest.mark.parametrize("last", [[2, 0, 1], [0, 1, 2]])
def test_rows_without_ids_that_were_killed_twice_in_two_orders_are_not_sent_without_their_keys(
    unisono, start, server, tmp_path, last
):
    def rows(order):
        lines = [json.dumps({"url": f"{server.url}/held/{number}", "json": number}) + "\n" for number in order]
        (tmp_path / "in.jsonl").write_text("".join(lines))

    words = ["fetch", "--from", "in.jsonl", "-o", "r.jsonl", "--resume"]
    rows([0, 1, 2])
    process = start(*words, "--idempotency-key")
    server.wait_until(lambda: len(server.requests) == 3)
    process.kill()
    process.wait()
    # In another order, and it comes to one of them alone.
    rows([2, 0, 1])
    killed(start, server, *words, "--idempotency-key", "--limit", "1", rows=4)
    rows(last)
    done = unisono(*words)
    assert done.returncode == 1, done.stderr
    assert outcomes(tmp_path / "r.jsonl") == [("ambiguous", "maybe")] * 3
    assert len(server.requests) == 4
    assert not (tmp_path / "r.jsonl.run").exists()


@pytest.mark.parametrize("paged", [True, False], ids=["followed at first", "followed later"])
def test_a_row_that_runs_again_has_one_line_whether_pages_are_followed_or_not(unisono, server, tmp_path, paged):
    words = ["fetch", f"{server.url}/flaky/1", f"{server.url}/status/404", "-o", "r.jsonl", "--retries", "0"]
    pages = ["--paginate", "link"]
    assert unisono(*words, *(pages if paged else [])).returncode == 1
    ended = unisono(*words, "--retry-failed", *([] if paged else pages))
    assert "2 outcomes: 1 ok, 1 failed" in ended.stderr
    for again in (pages, []):
        assert unisono(*words, "--resume", *again).returncode == 1
        assert outcomes(tmp_path / "r.jsonl") == [("ok", "done"), ("failed", "none")]


@pytest.mark.parametrize("paged", [True, False], ids=["followed at first", "followed later"])
@pytest.mark.parametrize("end", [None, killed])
def test_the_first_page_keeps_the_key_of_its_row_whether_pages_are_followed_or_not(
    unisono, start, server, tmp_path, paged, end
):
    where = "held/{1..3}" if end else "status/500?{1..3}"
    words = ["fetch", *POST, f"{server.url}/{where}", "-o", "r.jsonl", "--idempotency-key", "--retries", "0"]
    first, second = (["--paginate", "link"], []) if paged else ([], ["--paginate", "link"])
    if end:
        end(start, server, *words, *first)
    else:
        assert unisono(*words, *first).returncode == 1
    unisono(*words, "--retry-failed", *second)
    assert all(len(sent) == 2 and sent[0] == sent[1] is not None for sent in keys(server).values()), keys(server)
    assert len(outcomes(tmp_path / "r.jsonl")) == 3


@pytest.mark.parametrize(("own", "derived"), [("abc", "abc-page-2"), ('"abc"', '"abc-page-2"')])
def test_each_page_of_a_row_that_brings_a_key_has_one_of_its_own_which_stays_the_same_in_each_run(
    unisono, start, tmp_path, own, derived
):
    first = answer(200, 'Link: </2>; rel="next"')
    with ScriptedServer({"/1": [first], "/2": [answer(500), BEGUN, answer(200)]}) as server:
        row = {"url": f"{server.url}/1", "method": "POST", "body": "hi", "idempotency_key": own}
        (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")
        words = ["fetch", "--from", "in.jsonl", "-o", "r.jsonl", "--paginate", "link", "--resume"]
        killed_at(start, server, 3, *words)
        done = unisono(*words)
        assert done.returncode == 0, done.stderr
        sent = [headers["idempotency-key"] for _, _, headers in server.ledger]
        assert sent == [own, derived, derived, derived]
        assert outcomes(tmp_path / "r.jsonl") == [("ok", "done")] * 2


@pytest.mark.parametrize("flag", ["--resume", "--adopt"])
def test_a_page_that_was_on_its_way_stays_in_doubt_when_the_line_before_it_was_cut_and_it_is_refused_next(
    unisono, start, tmp_path, flag
):
    first = answer(200, 'Link: </2>; rel="next"')
    with ScriptedServer({"/1": [first], "/2": [BEGUN, answer(400)]}) as server:
        words = ["fetch", *POST, f"{server.url}/1", "-o", "r.jsonl", "--paginate", "link"]
        killed_at(start, server, 2, *words)
        results = tmp_path / "r.jsonl"
        results.write_bytes(results.read_bytes()[:-5])
        if flag == "--adopt":
            (tmp_path / "r.jsonl.run").unlink()
        unisono(*words, flag)
        assert outcomes(results) == [("ambiguous", "maybe")]
        unisono(*words, "--retry-ambiguous")
        assert outcomes(results) == [("ok", "done"), ("ambiguous", "maybe")]
        unisono(*words, "--retry-failed")
        assert server.count("POST") == 4
