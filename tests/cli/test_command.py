"""`unisono fetch`, as a person at a terminal meets it."""

import json
import os
import re
import signal
import subprocess

import pytest

from support.installed import COMMAND


def test_a_range_of_urls_becomes_one_line_each(unisono, server, lines):
    done = unisono("fetch", server.url + "/items/{1..3}")
    assert done.returncode == 0
    rows = sorted(lines(done.stdout), key=lambda row: row["row"])
    assert [row["body"]["id"] for row in rows] == [1, 2, 3]
    assert [row["outcome"] for row in rows] == ["ok"] * 3
    assert "3 ok" in done.stderr


def test_a_typo_in_a_flag_names_the_flag_that_was_meant(unisono):
    done = unisono("fetch", "--froom", "x")
    assert done.returncode == 2
    assert "--from" in done.stderr
    assert done.stdout == ""


def test_help_shows_examples_and_exit_statuses(unisono):
    done = unisono("fetch", "--help")
    assert done.returncode == 0
    assert "Examples:" in done.stdout
    assert "Exit status:" in done.stdout


@pytest.mark.parametrize("name", ["empty.csv", "empty.jsonl", "empty.txt"])
def test_empty_input_is_a_success_that_says_so(unisono, tmp_path, server, name):
    (tmp_path / name).write_text("")
    done = unisono("fetch", "--from", name, server.url + "/items/{id}")
    assert done.returncode == 0
    assert "nothing to do" in done.stderr


def test_a_member_that_rows_lack_is_named_with_the_row_and_stops_nothing(unisono, tmp_path, server, lines):
    (tmp_path / "in.jsonl").write_text('{"id": 1, "day": 7}\n{"id": 2}\n{"id": 3, "day": 8}\n')
    done = unisono("fetch", "--from", "in.jsonl", server.url + "/items/{day}")
    assert done.returncode == 1
    rows = {row["row"]: row for row in lines(done.stdout)}
    assert [rows[number]["outcome"] for number in (0, 1, 2)] == ["ok", "failed", "ok"]
    assert rows[1]["error"]["kind"] == "input"
    assert rows[1]["error"]["where"] == "in.jsonl:2"
    assert "`day`" in rows[1]["error"]["message"]
    assert sorted(server.paths()) == ["/items/7", "/items/8"]


def test_a_file_that_is_not_there_is_an_error_with_a_hint(unisono):
    done = unisono("fetch", "--from", "nowhere.csv")
    assert done.returncode == 2
    assert "nowhere.csv" in done.stderr
    assert "hint" in done.stderr


def test_csv_columns_are_percent_encoded_where_they_stand(unisono, tmp_path, server):
    (tmp_path / "in.csv").write_text('id,q\n"a/b","x&y=1"\n')
    assert unisono("fetch", "--from", "in.csv", server.url + "/items/{id}?q={q}").returncode == 0
    assert server.paths() == ["/items/a%2Fb?q=x%26y%3D1"]


def test_a_jsonl_row_wins_over_the_flags(unisono, tmp_path, server, lines):
    row = {
        "id": "one",
        "url": server.url + "/echo",
        "method": "PUT",
        "headers": {"X-A": "1"},
        "params": {"p": 2},
        "json": {"n": 1},
    }
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")
    done = unisono("fetch", "--from", "in.jsonl", "-X", "POST", "-H", "X-A: 0")
    seen = lines(done.stdout)[0]["body"]
    assert (seen["method"], seen["path"], seen["headers"]["x-a"]) == ("PUT", "/echo?p=2", "1")
    assert json.loads(seen["body"]) == {"n": 1}
    assert lines(done.stdout)[0]["id"] == "one"


def test_duplicate_ids_are_refused_by_name(unisono, tmp_path, server, lines):
    row = json.dumps({"id": "twin", "url": server.url + "/items/1"})
    (tmp_path / "in.jsonl").write_text(f"{row}\n{row}\n")
    done = unisono("fetch", "--from", "in.jsonl")
    assert done.returncode == 1
    kinds = sorted(row["outcome"] for row in lines(done.stdout))
    assert kinds == ["failed", "ok"]
    assert "`twin`" in done.stdout


def test_bad_rows_are_outcomes_that_name_their_line(unisono, tmp_path, server, lines):
    (tmp_path / "in.jsonl").write_bytes(b'{"url": "%s/items/1"}\nnot json\n\xff\n["array"]\n' % server.url.encode())
    rows = lines(unisono("fetch", "--from", "in.jsonl", "-k").stdout)
    assert [row["outcome"] for row in rows] == ["ok", "failed", "failed", "failed"]
    assert [row["error"]["where"] for row in rows[1:]] == ["in.jsonl:2", "in.jsonl:3", "in.jsonl:4"]


def test_a_second_run_on_the_same_file_is_refused_until_told_how(unisono, server, tmp_path):
    url = server.url + "/items/{1..2}"
    assert unisono("fetch", url, "-o", "r.jsonl").returncode == 0
    again = unisono("fetch", url, "-o", "r.jsonl")
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert "--resume" in again.stderr
    assert unisono("fetch", url, "-o", "r.jsonl", "--resume").returncode == 0
    assert len(server.requests) == 2
    assert unisono("fetch", url, "-o", "r.jsonl", "--overwrite").returncode == 0
    assert len(server.requests) == 4
    assert oct((tmp_path / "r.jsonl").stat().st_mode & 0o777) == "0o600"


def test_resume_on_a_file_that_is_not_there_starts_from_the_beginning(unisono, server, lines, tmp_path):
    assert unisono("fetch", server.url + "/items/{1..2}", "-o", "r.jsonl", "--resume").returncode == 0
    assert len(lines(tmp_path / "r.jsonl")) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.jsonl"]


def test_retry_failed_runs_again_what_failed_and_leaves_one_line_per_row(unisono, server, lines, tmp_path):
    urls = [server.url + "/items/1", server.url + "/flaky/1"]
    first = unisono("fetch", *urls, "-o", "r.jsonl", "--retries", "0")
    assert first.returncode == 1
    assert "--retry-failed" in first.stderr
    assert unisono("fetch", *urls, "-o", "r.jsonl", "--retry-failed").returncode == 0
    assert sorted(row["row"] for row in lines(tmp_path / "r.jsonl")) == [0, 1]
    assert server.counts["/items/1"] == 1


def test_a_changed_input_is_refused_before_anything_runs(unisono, server, tmp_path):
    assert unisono("fetch", server.url + "/items/{1..3}", "-o", "r.jsonl").returncode == 0
    before = (tmp_path / "r.jsonl").read_bytes()
    done = unisono("fetch", server.url + "/items/{2..9}", "-o", "r.jsonl", "--resume")
    assert done.returncode == 2
    assert "row 0" in done.stderr
    assert (tmp_path / "r.jsonl").read_bytes() == before
    assert len(server.requests) == 3


def test_keep_order_holds_on_standard_output_and_in_a_file(unisono, server, lines, tmp_path):
    urls = [server.url + "/flaky/1", *(server.url + f"/items/{n}" for n in range(20))]
    done = unisono("fetch", *urls, "-k")
    assert [row["row"] for row in lines(done.stdout)] == list(range(21))
    unisono("fetch", *urls, "-k", "-o", "r.jsonl")
    assert [row["row"] for row in lines(tmp_path / "r.jsonl")] == list(range(21))


def test_select_keeps_only_what_matters(unisono, server, lines):
    done = unisono("fetch", server.url + "/items/5", "--select", "{n: .id}")
    assert lines(done.stdout)[0]["body"] == {"n": 5}
    assert unisono("fetch", server.url + "/items/5", "--select", ".[").returncode == 2


def test_pages_are_outcomes_of_their_own_and_a_resume_goes_on_after_the_last(unisono, server, lines, tmp_path):
    words = ["fetch", server.url + "/pages/1", "--paginate", "link", "-o", "r.jsonl", "--resume"]
    assert unisono(*words, "--max-pages", "2").returncode == 0
    rows = lines(tmp_path / "r.jsonl")
    assert [(row["page"], row["next"]) for row in rows] == [(1, f"{server.url}/pages/2"), (2, f"{server.url}/pages/3")]
    assert unisono(*words).returncode == 0
    assert [row["page"] for row in lines(tmp_path / "r.jsonl")] == [1, 2, 3]
    assert server.counts["/pages/1"] == 1


def test_a_row_has_so_many_pages_over_all_runs_and_a_resume_with_more_goes_on(unisono, server, lines, tmp_path):
    words = ["fetch", server.url + "/pages/1", "--paginate", "link", "-o", "r.jsonl", "--resume"]
    asked = []
    for most in (1, 1, 2, 1, 2, 3):
        done = unisono(*words, "--max-pages", most)
        assert done.returncode == 0, done.stderr
        asked.append([row["page"] for row in lines(tmp_path / "r.jsonl")])
        assert ("1 row has more pages than --max-pages" in done.stderr) == (most < 3), done.stderr
    assert asked == [[1], [1], [1, 2], [1, 2], [1, 2], [1, 2, 3]]
    assert [path for _, path, _, _ in server.requests] == ["/pages/1", "/pages/2", "/pages/3"]
    assert "at least 1" in unisono(*words, "--max-pages", "0").stderr


def test_a_resume_that_follows_no_pages_leaves_rows_that_have_more_as_they_are(unisono, server, lines, tmp_path):
    words = ["fetch", server.url + "/pages/1", "-o", "r.jsonl", "--resume"]
    unisono(*words, "--paginate", "link", "--max-pages", "2")
    done = unisono(*words)
    assert (done.returncode, len(lines(tmp_path / "r.jsonl"))) == (0, 2)
    assert "1 row has further pages in the results file (the first: r0)" in done.stderr
    assert unisono(*words, "--paginate", "link").returncode == 0
    assert [row["page"] for row in lines(tmp_path / "r.jsonl")] == [1, 2, 3]


def test_of_an_option_with_one_value_the_last_counts_and_lists_collect(unisono, server, lines):
    words = [
        "--retries",
        "7",
        "--max-pages",
        "5",
        "--limit",
        "3",
        "--user",
        "a:b",
        "-X",
        "PUT",
        "--id",
        "x",
        "-q",
        "-q",
    ]
    last = ["--retries", "0", "--id", "y", "-X", "POST", "-H", "A: 1", "-H", "B: 2"]
    done = unisono("fetch", server.url + "/status/500", *words, *last)
    assert [(row["id"], row["method"], row["attempts"]) for row in lines(done.stdout)] == [("y", "POST", 1)]
    assert len(server.requests) == 1
    assert (server.requests[0][2]["a"], server.requests[0][2]["b"]) == ("1", "2")


def test_saved_bodies_stay_in_their_folder(unisono, server, tmp_path, lines):
    (tmp_path / "in.csv").write_text("id\na\n..\nx/y\n")
    done = unisono("fetch", "--from", "in.csv", server.url + "/items/fixed", "--save", "out/{id}.json", "-k")
    rows = lines(done.stdout)
    assert [row["outcome"] for row in rows] == ["ok", "failed", "ok"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.json", "x%2Fy.json"]
    assert json.loads((tmp_path / "out/a.json").read_text())["id"] == "fixed"


def test_a_dry_run_shows_what_would_be_sent_and_sends_nothing(unisono, server, lines):
    done = unisono("fetch", server.url + "/items/{1..2}", "--dry-run")
    assert [row["url"] for row in lines(done.stdout)] == [f"{server.url}/items/{n}" for n in (1, 2)]
    assert server.requests == []


def test_secrets_are_nowhere_to_be_seen(unisono, server, tmp_path):
    secret = "hunter2hunter2"
    host = server.url.removeprefix("http://")
    environment = {**os.environ, "TOKEN": secret}
    refused = unisono("fetch", f"http://user:{secret}@{host}/", f"ftp://u:{secret}@x/")
    assert (refused.returncode, "neither http nor https" in refused.stderr) == (2, True)
    assert secret not in refused.stderr
    done = unisono(
        "fetch",
        f"http://user:{secret}@{host}/status/500",
        f"http://user:{secret}@127.0.0.1:1/x",
        "-H",
        f"Cookie: session={secret}",
        "--bearer-env",
        "TOKEN",
        "--retries",
        "1",
        "--host-away",
        "0",
        "-v",
        "-o",
        "r.jsonl",
        env=environment,
    )
    assert done.returncode == 1
    shown = done.stdout + done.stderr + (tmp_path / "r.jsonl").read_text()
    assert "HTTP 500" in shown
    assert secret not in shown
    assert any(secret in headers.get("authorization", "") for _, _, headers, _ in server.requests)


def test_a_token_command_is_asked_again_when_its_token_is_refused(unisono, server, tmp_path, lines):
    command = 'n=$(cat n 2>/dev/null || echo 0); echo $((n+1)) > n; echo "t$((n+1))"'
    done = unisono("fetch", server.url + "/private/t2?{1..20}", "--token-command", command)
    assert [row["outcome"] for row in lines(done.stdout)] == ["ok"] * 20
    assert (tmp_path / "n").read_text() == "2\n"


def test_idempotency_keys_are_the_same_on_each_attempt_and_after_a_resume(unisono, server, tmp_path):
    url = server.url + "/flaky/2"
    words = ["fetch", url, "--json", "{}", "--idempotency-key", "-o", "r.jsonl"]
    assert unisono(*words, "--retries", "0").returncode == 1
    assert unisono(*words, "--retry-failed").returncode == 0
    keys = {headers["idempotency-key"] for _, _, headers, _ in server.requests}
    assert (len(server.requests), len(keys)) == (3, 1)


def test_a_post_is_never_repeated_by_itself(unisono, server, lines, tmp_path):
    words = ["fetch", server.url + "/drop", "--data", "x", "-o", "r.jsonl"]
    assert unisono(*words).returncode == 1
    assert unisono(*words, "--retry-failed").returncode == 1
    assert lines(tmp_path / "r.jsonl")[0]["outcome"] == "ambiguous"
    assert len(server.requests) == 1
    unisono(*words, "--retry-ambiguous")
    assert len(server.requests) == 2


def test_a_wait_that_is_too_long_is_left_to_a_later_resume(unisono, server, lines, tmp_path):
    words = ["fetch", server.url + "/later", "-o", "r.jsonl", "--resume"]
    assert unisono(*words).returncode == 1
    error = lines(tmp_path / "r.jsonl")[0]["error"]
    assert error["kind"] == "rate_limited"
    assert error["retry_at"] > 1_700_000_000
    unisono(*words)
    assert len(server.requests) == 2


def test_max_failures_stops_and_says_so(unisono, server):
    done = unisono("fetch", server.url + "/status/404?{1..500}", "--max-failures", "3", "-j", "1", "-q")
    assert done.returncode == 3
    assert 3 <= len(server.requests) < 500


def test_stop_after_ends_with_its_own_status(unisono, server):
    done = unisono(
        "fetch",
        server.url + "/items/{1..100000}",
        "--stop-after",
        "200ms",
        "--rate",
        "20/s",
        "--grace",
        "1s",
        "-o",
        "r.jsonl",
    )
    assert done.returncode == 124
    assert "pending" in done.stderr
    assert "--resume" in done.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_first_signal_lets_finish_what_runs(start, server, lines, tmp_path, number, status):
    process = start("fetch", server.url + "/held/{1..100}", "-j", "4", "-o", "r.jsonl")
    server.wait_until(lambda: len(server.requests) == 4)
    process.send_signal(number)
    assert "may finish" in process.stderr.readline()
    server.gate.set()
    assert process.wait(30) == status
    rows = lines(tmp_path / "r.jsonl")
    assert sum(row["outcome"] == "ok" for row in rows) == 4
    assert {row["outcome"] for row in rows} <= {"ok", "cancelled"}
    assert len(server.requests) == 4


def test_a_second_interrupt_stops_at_once_and_a_resume_does_the_rest(start, unisono, server, lines, tmp_path):
    words = ["fetch", server.url + "/held/{1..20}", "-j", "4", "-o", "r.jsonl"]
    process = start(*words)
    server.wait_until(lambda: len(server.requests) == 4)
    process.send_signal(signal.SIGINT)
    assert "may finish" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert {row["outcome"] for row in lines(tmp_path / "r.jsonl")} == {"cancelled"}
    server.gate.set()
    assert unisono(*words, "--resume").returncode == 0
    rows = lines(tmp_path / "r.jsonl")
    assert sorted(row["row"] for row in rows) == list(range(20))
    assert {row["outcome"] for row in rows} == {"ok"}


def test_a_reader_that_leaves_ends_the_run_quietly(server):
    script = f"'{COMMAND}' fetch '{server.url}/items/{{1..20000}}' -q | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 141
    assert len(done.stdout.splitlines()) == 1
    assert "panic" not in done.stderr
    assert len(server.requests) < 20000


def test_a_closed_and_a_full_output_are_our_own_failure(unisono, server):
    with open("/dev/full", "w") as full:
        done = unisono("fetch", server.url + "/items/1", stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert done.returncode == 125
    assert "No space left" in done.stderr


def test_a_full_disk_loses_no_outcome(unisono, server, lines, tmp_path):
    url = server.url + "/items/{1..4000}"
    words = ["fetch", url, "-o", "r.jsonl", "-q"]
    limited = subprocess.list2cmdline(words)
    script = f"trap '' XFSZ; ulimit -f 100; exec '{COMMAND}' {limited}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 125
    assert "File too large" in done.stderr
    rows = lines(tmp_path / "r.jsonl")
    assert len({row["row"] for row in rows}) == len(rows)
    assert unisono(*words, "--resume").returncode == 0
    rows = lines(tmp_path / "r.jsonl")
    assert sorted(row["row"] for row in rows) == list(range(4000))


def test_a_read_only_folder_is_named(unisono, server, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    # Root may write anywhere but where the kernel itself says no.
    path = "/sys/kernel/r.jsonl" if os.geteuid() == 0 else folder / "r.jsonl"
    done = unisono("fetch", server.url + "/items/1", "-o", path)
    assert done.returncode == 125
    assert str(path) in done.stderr
    assert server.requests == []


def test_two_runs_on_one_file_are_refused(start, unisono, server):
    words = ["fetch", server.url + "/held/{1..4}", "-o", "r.jsonl", "--resume"]
    first = start(*words)
    server.wait_until(lambda: len(server.requests) >= 1)
    second = unisono(*words)
    assert second.returncode == 2
    assert f"process {first.pid}" in second.stderr
    server.gate.set()
    assert first.wait(30) == 0


def test_progress_is_plain_where_there_is_no_terminal_and_json_when_asked(unisono, server):
    done = unisono("fetch", server.url + "/items/{1..40}", "--rate", "20/s", "--progress", "json")
    line = next(line for line in done.stderr.splitlines() if line.startswith("{"))
    assert {"done", "total", "ok", "in_flight", "per_second"} <= json.loads(line).keys()
    assert "\x1b" not in done.stderr


def test_verbose_shows_each_retry_and_its_reason(unisono, server):
    done = unisono("fetch", server.url + "/flaky/1", "-v")
    assert re.search(r"r0: retry after attempt 1 in [0-9.]+ s: HTTP 503", done.stderr)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "man"])
def test_completions_and_the_man_page_come_from_the_parser(unisono, shell):
    done = unisono("completions", shell)
    assert done.returncode == 0
    assert "retry-failed" in done.stdout.replace("\\-", "-")


def test_the_man_pages_are_one_per_command_and_only_pages_take_a_folder(unisono, tmp_path):
    folder = tmp_path / "share" / "man1"
    assert unisono("completions", "man", "--folder", folder).returncode == 0
    assert {"unisono.1", "unisono-fetch.1", "unisono-each.1", "unisono-sum.1"} <= {
        path.name for path in folder.iterdir()
    }
    assert not [path.name for path in folder.iterdir() if "evaluate" in path.name]
    assert "retry-failed" in (folder / "unisono-fetch.1").read_text().replace("\\-", "-")
    refused = unisono("completions", "bash", "--folder", tmp_path / "none")
    assert refused.returncode == 2
    assert "--folder is for `man`" in refused.stderr
    (tmp_path / "file").touch()
    blocked = unisono("completions", "man", "--folder", tmp_path / "file")
    assert blocked.returncode == 125
    assert "the man pages cannot be written to" in blocked.stderr
