"""What may have taken effect is never done twice: not by a retry, a redirect, a page, `--resume` or `--retry-failed`."""

import pytest

import unisono as module
from support.scripted_server import ScriptedServer, answer

SEE = answer(303, "Location: /result")
CUT = b"HTTP/1.1 201 Created\r\nContent-Length: 20\r\nConnection: close\r\n\r\n{}"

# What the server does with the POST and with what follows, further flags, and how the row ends.
ENDS = {
    "not HTTP": ({"/o": [b"SSH-2.0-OpenSSH\r\n"]}, [], "ambiguous", "maybe"),
    "closed": ({"/o": [b""]}, [], "ambiguous", "maybe"),
    "a body cut short": ({"/o": [CUT]}, [], "ambiguous", "maybe"),
    **{f"status {code}": ({"/o": [answer(code)]}, [], "ambiguous", "maybe") for code in (500, 503, 520, 522, 529, 599)},
    "503 that is not for now, with a wait": ({"/o": [answer(500, "Retry-After: 1")]}, [], "ambiguous", "maybe"),
    "303 to a 404": ({"/o": [SEE], "/result": [answer(404)]}, [], "failed", "done"),
    "302 to a 400": ({"/o": [answer(302, "Location: /result")], "/result": [answer(400)]}, [], "failed", "done"),
    "303 to a bad address": ({"/o": [answer(303, "Location: http://[::")]}, [], "failed", "done"),
    "303 in a circle": ({"/o": [SEE], "/result": [SEE]}, [], "failed", "done"),
    "201 that was not expected": ({"/o": [answer(201)]}, ["--expect", "200"], "failed", "done"),
    "a selection that fails": ({"/o": [answer(201)]}, ["--select", ".a.b.c | error"], "failed", "done"),
    "a body that is too large": ({"/o": [answer(201, body=b"x" * 99)]}, ["--max-body", "9B"], "failed", "done"),
    "a broken coding": (
        {"/o": [answer(201, "Content-Encoding: gzip", body=b"this is no gzip at all")]},
        [],
        "failed",
        "done",
    ),
    "next page unknown": ({"/o": [answer(201, body=b'{"n":7}')]}, ["--paginate", "next=.n"], "failed", "done"),
}


@pytest.mark.parametrize("case", ENDS)
def test_a_post_that_may_have_taken_effect_is_sent_once_by_all_runs_together(unisono, lines, tmp_path, case):
    script, flags, outcome, effect = ENDS[case]
    with ScriptedServer(script) as server:
        words = ["fetch", server.url + "/o", "-X", "POST", *flags, "-o", "o.jsonl"]
        assert unisono(*words).returncode == 1
        for again in ("--resume", "--retry-failed", "--resume"):
            assert unisono(*words, again).returncode == 1
        [line] = lines(tmp_path / "o.jsonl")
        assert (line["outcome"], line["effect"], line["repeatable"]) == (outcome, effect, False)
        assert server.count("POST") == 1
        unisono(*words, "--retry-ambiguous")
        assert server.count("POST") == 2


@pytest.mark.parametrize("status", [400, 404, 409, 422, 501])
def test_a_post_that_was_refused_is_sent_again_by_retry_failed_and_by_nothing_else(unisono, lines, tmp_path, status):
    with ScriptedServer({"/o": [answer(status), answer(201)]}) as server:
        words = ["fetch", server.url + "/o", "-X", "POST", "-o", "o.jsonl"]
        assert unisono(*words).returncode == 1
        assert [line["effect"] for line in lines(tmp_path / "o.jsonl")] == ["none"]
        assert unisono(*words, "--resume").returncode == 1
        assert server.count("POST") == 1
        assert unisono(*words, "--retry-failed").returncode == 0
        assert server.count("POST") == 2
        assert [(line["outcome"], line["effect"]) for line in lines(tmp_path / "o.jsonl")] == [("ok", "done")]


@pytest.mark.parametrize("later", [answer(429, "Retry-After: 1"), answer(503, "Retry-After: 0"), answer(502), b""])
def test_a_page_that_refuses_for_now_is_asked_again_and_not_the_post_that_led_to_it(unisono, lines, later):
    with ScriptedServer({"/o": [SEE], "/result": [later, answer(200, body=b'{"id":7}')]}) as server:
        done = unisono("fetch", server.url + "/o", "-X", "POST")
        assert done.returncode == 0, done.stderr
        assert [line["body"] for line in lines(done.stdout)] == [{"id": 7}]
        assert [entry[0] for entry in server.ledger] == ["POST", "GET", "GET"]


def test_a_refreshed_token_at_a_later_hop_does_not_send_the_post_again(unisono, tmp_path):
    script = {"/o": [SEE], "/result": [answer(401), answer(401), answer(401)]}
    with ScriptedServer(script) as server:
        words = ["fetch", server.url + "/o", "-X", "POST", "--token-command", "date +%N", "-o", "o.jsonl"]
        assert unisono(*words).returncode == 1
        unisono(*words, "--retry-failed")
        assert server.count("POST") == 1


def test_with_a_key_a_post_is_repeated_under_the_same_key_and_each_page_has_its_own(unisono, lines, tmp_path):
    page = answer(200, 'Link: </p2>; rel="next"')
    with ScriptedServer({"/p1": [answer(500), page], "/p2": [answer(503), answer(200)]}) as server:
        words = ["fetch", server.url + "/p1", "-X", "POST", "--paginate", "link", "--idempotency-key"]
        assert unisono(*words, "-o", "o.jsonl").returncode == 0
        keys = [(path, headers["idempotency-key"]) for _, path, headers in server.ledger]
        assert [path for path, _ in keys] == ["/p1", "/p1", "/p2", "/p2"]
        assert len(set(keys)) == 2
        assert len({key for _, key in keys}) == 2
        assert [line["repeatable"] for line in lines(tmp_path / "o.jsonl")] == [True, True]


def test_a_later_page_of_a_post_that_may_have_taken_effect_is_not_asked_again(unisono, lines, tmp_path):
    page = answer(200, 'Link: </p2>; rel="next"')
    with ScriptedServer({"/p1": [page], "/p2": [answer(500)]}) as server:
        words = ["fetch", server.url + "/p1", "-X", "POST", "--paginate", "link", "-o", "o.jsonl"]
        for flags in ([], ["--resume"], ["--retry-failed"]):
            assert unisono(*words, *flags).returncode == 1
            found = [(line["page"], line["outcome"], line["effect"]) for line in lines(tmp_path / "o.jsonl")]
            assert found == [(1, "ok", "done"), (2, "ambiguous", "maybe")]
        assert server.count("POST") == 2


def test_the_summary_promises_of_each_option_what_it_does(unisono, tmp_path):
    dead = answer(303, "Location: http://127.0.0.1:1/result")
    script = {"/dead": [dead], "/wrong": [SEE], "/result": [answer(404)], "/refused": [answer(400), answer(201)]}
    with ScriptedServer(script) as server:
        words = ["fetch", "-X", "POST", "--retries", "0", "--host-away", "0", "-o", "o.jsonl"]
        urls = [server.url + path for path in ("/dead", "/wrong")]
        for flags in ([], ["--resume"], ["--retry-failed"]):
            done = unisono(*words, *urls, *flags)
            assert (done.returncode, server.count("POST")) == (1, 2)
            assert "the same command with --retry-ambiguous does again 2 rows that may have been done" in done.stderr
            assert "may be done twice" in done.stderr
            assert "--retry-failed" not in done.stderr
        unisono(*words, *urls, "--retry-ambiguous")
        assert server.count("POST") == 4
        mixed = [*urls, server.url + "/refused"]
        done = unisono(*words, *mixed, "--overwrite")
        assert "with --retry-failed runs again 1 row that failed or timed out; with --retry-ambiguous" in done.stderr
        assert "does again 2 rows" in done.stderr
        before = server.count("POST")
        done = unisono(*words, *mixed, "--retry-failed")
        assert server.count("POST") == before + 1
        assert "--retry-failed" not in done.stderr


def test_from_python_the_effect_is_told_and_obeyed(tmp_path):
    with ScriptedServer({"/o": [SEE], "/result": [answer(404)]}) as server:
        calls = [{"url": server.url + "/o", "method": "POST"}]
        for again in ({}, {"resume": True}, {"retry_failed": True}):
            batch = module.fetch(calls, out=tmp_path / "o.jsonl", **again)
            assert [(outcome.kind, outcome.effect) for outcome in batch] in ([("failed", "done")], [])
        assert server.count("POST") == 1


def test_a_client_does_not_send_a_post_again_for_what_became_of_its_result():
    with ScriptedServer({"/o": [SEE], "/result": [answer(502), answer(200, body=b"[1]")]}) as server:
        with module.Client() as client:
            assert client.post(server.url + "/o").json() == [1]
        assert [entry[0] for entry in server.ledger] == ["POST", "GET", "GET"]


def test_a_command_whose_output_can_be_saved_nowhere_is_not_started(unisono, lines, tmp_path):
    (tmp_path / "file").write_text("")
    # Below a file there can be no folder, so that what is printed cannot be saved.
    words = [
        "each",
        "--save",
        "file/{}",
        "-o",
        "o.jsonl",
        "--",
        "sh",
        "-c",
        'echo run >> runs; echo "$1"',
        "sh",
        "{}",
        ":::",
        "a",
    ]
    for flags in ([], ["--retry-failed"]):
        assert unisono(*words[:1], *flags, *words[1:]).returncode == 1
    [line] = lines(tmp_path / "o.jsonl")
    assert (line["outcome"], line["error"]["kind"]) == ("failed", "save")
    # That is found before it is started.
    assert line["effect"] == "none"
    assert not (tmp_path / "runs").exists()


def test_a_command_that_says_that_it_failed_is_run_again_by_retry_failed(unisono, lines, tmp_path):
    words = ["-o", "o.jsonl", "--", "sh", "-c", "echo run >> runs; exit 3", ":::", "a"]
    for flags in ([], ["--resume"], ["--retry-failed"]):
        assert unisono("each", *flags, *words).returncode == 1
    assert (tmp_path / "runs").read_text().count("run") == 2
    assert [line["effect"] for line in lines(tmp_path / "o.jsonl")] == ["none"]
