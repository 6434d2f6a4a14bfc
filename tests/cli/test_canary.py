"""`--canary N`: the first N must be ok before anything else starts."""

import json

import pytest

from support.scripted_server import ScriptedServer, answer


def test_nothing_else_starts_before_the_first_have_ended_ok(start, server):
    urls = [f"{server.url}/held/0", f"{server.url}/held/1", server.url + "/items/{3..40}"]
    process = start("fetch", *urls, "--canary", "3", "-k", "--progress", "json")
    server.wait_until(lambda: len(server.requests) == 3)
    shown = json.loads(process.stderr.readline())
    assert shown["canary"] == {"ok": 1, "of": 3}
    assert sorted(server.paths()) == ["/held/0", "/held/1", "/items/3"]
    server.gate.set()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert [json.loads(line)["row"] for line in out.splitlines()] == list(range(40))


@pytest.mark.parametrize("out", [[], ["-o", "r.jsonl", "--resume"]])
def test_the_first_that_does_not_end_ok_stops_the_run_and_a_resume_goes_on(unisono, server, tmp_path, lines, out):
    (tmp_path / "in.csv").write_text("path\nitems/1\nflaky/4\n" + "".join(f"items/{n}\n" for n in range(2, 40)))
    words = ["fetch", "--from", "in.csv", server.url + "/{+path}", "--canary", "2", "--retries", "0", *out]
    done = unisono(*words)
    assert done.returncode == 3
    assert "--canary" in done.stderr
    assert "38 pending" in done.stderr
    assert sorted(server.paths()) == ["/flaky/4", "/items/1"]
    if not out:
        # Going on would stop at the same rows again, and there is nothing to go on with.
        assert "next: the same command begins anew; with `-o FILE` it keeps what is done" in done.stderr
        assert "--resume" not in done.stderr
    if out:
        # What was kept counts as it ended: nothing starts, until the canary is well.
        assert unisono(*words).returncode == 3
        assert len(server.requests) == 2
        for _ in range(3):
            assert unisono(*words, "--retry-failed").returncode == 3
        assert unisono(*words, "--retry-failed").returncode == 0
        assert [row["outcome"] for row in lines(tmp_path / "r.jsonl")] == ["ok"] * 40


def test_a_row_of_several_pages_counts_when_its_last_page_has_ended(unisono, server, tmp_path, lines):
    (tmp_path / "in").write_text(f"{server.url}/pages/1\n{server.url}/pages/3\n{server.url}/pages/2\n")
    words = ["fetch", "--from", "in", "--paginate", "link", "--canary", "1", "-j", "8", "-o", "r.jsonl"]
    assert unisono(*words).returncode == 0
    order = [(row["row"], row["page"]) for row in lines(tmp_path / "r.jsonl")]
    assert order[:3] == [(0, 1), (0, 2), (0, 3)]
    assert len(order) == 6


def test_commands_and_files_have_it_as_well(unisono, tmp_path):
    script = "[ $1 -ge 2 ] && touch started-$1; [ $1 -ne 1 ]"
    done = unisono("each", "-j", "8", "--canary", "2", "sh", "-c", script, "sh", "{}", ":::", *range(9))
    assert done.returncode == 3
    assert list(tmp_path.glob("started-*")) == []
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    assert unisono("sum", "--canary", "1", "a-gone", "b").returncode == 3
    done = unisono("sum", "--canary", "1", "a", "b", "gone")
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 2)


def test_a_row_that_cannot_be_understood_is_a_bad_canary(unisono, server, tmp_path):
    (tmp_path / "in.jsonl").write_text(f'{{"url": "nonsense"}}\n{{"url": "{server.url}/items/1"}}\n')
    assert unisono("fetch", "--from", "in.jsonl", "--canary", "1").returncode == 3
    assert server.requests == []


def test_a_canary_longer_than_the_input_is_the_input(unisono, server):
    assert unisono("fetch", server.url + "/items/{1..3}", "--canary", "100").returncode == 0
    assert len(server.requests) == 3


def test_a_name_that_is_taken_is_a_bad_canary(unisono, server):
    done = unisono("fetch", server.url + "/items/{1..9}", "--save", "x", "--canary", "2")
    assert done.returncode == 3
    assert len(server.requests) <= 1


def test_an_interrupt_while_the_canary_is_waited_for_is_an_interrupt(start, server):
    process = start("fetch", server.url + "/held/1", server.url + "/items/1", "--canary", "1", "--grace", "100ms")
    server.wait_until(lambda: server.requests)
    process.terminate()
    assert process.wait(30) == 143
    assert server.paths() == ["/held/1"]


@pytest.mark.parametrize(
    ("said", "option", "needless"),
    [(answer(404), "--retry-failed", "--resume"), (b"", "--retry-ambiguous", "--retry-failed")],
)
def test_the_hint_of_a_canary_that_is_kept_names_the_option_that_tries_it_again(
    unisono, tmp_path, said, option, needless
):
    with ScriptedServer({"/first": [said, answer(201)], "/other": [answer(201)]}) as server:
        (tmp_path / "in").write_text(f"{server.url}/first\n" + f"{server.url}/other\n" * 3)
        words = ["fetch", "--from", "in", "-X", "POST", "-o", "r.jsonl"]
        for again in ("--resume", needless):
            done = unisono(*words, "--canary", "1", again)
            assert (done.returncode, server.count("POST")) == (3, 1)
            assert f"the same command with {option} tries the canary again" in done.stderr
            assert "with --resume and without --canary the others run" in done.stderr
            assert ("may be done twice" in done.stderr) == (option == "--retry-ambiguous")
        assert unisono(*words, "--canary", "1", option).returncode == 0
        assert server.count("POST") == 5
        # And the other way that the hint names.
        (tmp_path / "r.jsonl").unlink()
        server.ledger.clear()
        assert unisono(*words, "--canary", "1").returncode == 3
        assert unisono(*words, "--resume").returncode == 1
        assert server.count("POST") == 4
