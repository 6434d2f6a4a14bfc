"""`--select` and `--paginate`: no expression and no body can take the command with it, stop it, or end in what is no JSON."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from support.processes import longer_and_longer

BRACKETS = b"[" * 30_000 + b"]" * 30_000
# It never ends where the body says so, and is as good as any other elsewhere.
HANGS_WHEN_TOLD = "if .hang then (def f: f; f) else .n + 1 end"


def only(done) -> dict:
    (line,) = done.stdout.splitlines()
    return strictly(line)


def strictly(line: str) -> dict:
    """Reads a line as JSON; Python's own reader takes NaN and Infinity as well."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON: {line}")

    return json.loads(line, parse_constant=refuse)


def helpers(parent: int) -> list[int]:
    """The processes that evaluate expressions for this one."""
    found = []
    for task in Path(f"/proc/{parent}/task").glob("*/children"):
        for child in task.read_text().split():
            words = Path(f"/proc/{child}/cmdline")
            if words.exists() and b"evaluate-expressions" in words.read_bytes():
                found.append(int(child))
    return found


def is_there(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        (".total / .count", "infinite"),
        (".count / .count", "not a number"),
        ("infinite", "infinite"),
        ("[nan]", "not a number"),
        ('"x" | tobytes', "bytes"),
        ("{(.count): 1} | .", "name"),
    ],
)
def test_a2_what_json_cannot_hold_fails_its_row_and_is_never_a_line(unisono, server, expression, why):
    server.bodies["a"] = b'{"total": 1, "count": 0}'
    line = only(unisono("fetch", f"{server.url}/bodies/a", "--select", expression, "-q"))
    assert (line["outcome"], line["error"]["kind"], line["effect"]) == ("failed", "select", "done")
    assert why in line["error"]["message"]


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize(
    ("expression", "bodies"),
    [
        (".items[].id", [["a", "b"], ["a"], []]),
        ('.items[] | select(.id == "a") | .id', [["a"], ["a"], []]),
        ("[.items[].id]", [["a", "b"], ["a"], []]),
        (".n, .m", [[1, None], [1, None], [1, None]]),
        (".n", [1, 1, 1]),
        ("select(.items[0]) | .n", [1, 1, "none"]),
        (".items | map(.id)", [["a", "b"], ["a"], []]),
    ],
)
def test_c3_the_form_of_an_expression_says_its_shape_and_no_body_changes_it(unisono, server, expression, bodies, plain):
    for number, count in enumerate((2, 1, 0)):
        items = [{"id": name} for name in "ab"[:count]]
        server.bodies[f"{number}"] = json.dumps({"n": 1, "items": items}).encode()
    # What text can do is not of the plain part.
    expression = expression if plain else f"def own: .; own | {expression}"
    done = unisono("fetch", f"{server.url}/bodies/{{0..2}}", "--select", expression, "-k")
    assert done.returncode == 0, done.stderr
    assert [strictly(line).get("body", "none") for line in done.stdout.splitlines()] == bodies


@pytest.mark.parametrize("how", ["next=.total / .count", "page=page,until=.total / .count"])
def test_a2_pages_that_depend_on_what_json_cannot_hold_fail(unisono, server, how):
    server.bodies["a"] = b'{"total": 1, "count": 0}'
    line = only(unisono("fetch", f"{server.url}/bodies/a", "--paginate", how, "-q"))
    assert line["outcome"] == "failed"
    assert "infinite" in line["error"]["message"]


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ("halt", "halt"),
        (".a | halt_error(3)", "halt_error"),
        ("env.HOME", "env"),
        ("$ENV", "$ENV"),
        ("[inputs]", "inputs"),
        ("input_filename", "input_filename"),
        ("debug", "debug"),
        ("stderr", "stderr"),
    ],
)
@pytest.mark.parametrize("option", ["--select={}", "--paginate=next={}", "--paginate=page=p,until={}"])
def test_a8_what_does_more_than_compute_is_refused_before_anything_is_sent(unisono, server, expression, name, option):
    done = unisono("fetch", f"{server.url}/items/1", option.format(expression))
    assert done.returncode == 2
    assert f"`{name}` cannot be used here" in done.stderr
    assert server.requests == []


@pytest.mark.parametrize(
    "option", ["--select=.a", "--select=.a + 1", "--paginate=next=.next", "--paginate=next=.next + 1"]
)
def test_b1_thirty_thousand_brackets_fail_their_row_alone(unisono, server, option):
    server.bodies |= {"deep": BRACKETS, "fine": b'{"a": 1}'}
    urls = [f"{server.url}/bodies/{name}" for name in ("deep", "fine")]
    done = unisono("fetch", *urls, option, "-k", "-q", "--body", "none")
    deep, fine = map(strictly, done.stdout.splitlines())
    assert deep["outcome"] == "failed"
    assert "more than 512 levels of brackets" in deep["error"]["message"]
    # `null + 1` is no address.
    assert fine["outcome"] == ("failed" if option.endswith("next + 1") else "ok")


@pytest.mark.parametrize("expression", ["def f: 1 + f; f", '"x" * 2000000000', HANGS_WHEN_TOLD])
def test_b1_b2_a_row_that_ends_its_process_is_no_poison(unisono, server, tmp_path, expression):
    server.bodies |= {"a": b'{"n": 1, "hang": true}'}
    words = ["fetch", f"{server.url}/bodies/a", "--select", expression, "-o", "r.jsonl", "-q", "--timeout", "8s"]
    done = unisono(*words)
    assert done.returncode == 1
    line = strictly((tmp_path / "r.jsonl").read_text())
    assert (line["outcome"], line["error"]["kind"], line["attempts"]) == ("failed", "select", 1)
    again = unisono(*words, "--resume")
    assert again.returncode == 1
    assert server.counts["/bodies/a"] == 1, "its outcome is known"


def test_b2_an_expression_that_never_ends_holds_up_no_other_row_for_good(unisono, server):
    server.bodies |= {"hang": b'{"hang": true}', **{str(n): f'{{"n": {n}}}'.encode() for n in range(20)}}
    urls = [f"{server.url}/bodies/{name}" for name in ("hang", *range(20))]
    for timeout in longer_and_longer(4):
        words = ["--select", HANGS_WHEN_TOLD, "--timeout", f"{timeout}s", "--retries", "0", "-k", "-q"]
        hung, *others = map(strictly, unisono("fetch", *urls, *words).stdout.splitlines())
        # The others have the same time, which on a busy machine may not be enough.
        if all(line["outcome"] == "ok" for line in others):
            break
    assert (hung["outcome"], hung["error"]["kind"]) == ("failed", "select")
    assert "it took longer than" in hung["error"]["message"]
    assert [line["body"] for line in others] == [n + 1 for n in range(20)]


@pytest.mark.parametrize("option", ["--select", "--paginate"])
def test_b2_ctrl_c_ends_a_run_whose_expression_never_ends(start, server, option):
    server.bodies["a"] = b'{"hang": true}'
    expression = HANGS_WHEN_TOLD if option == "--select" else f"next={HANGS_WHEN_TOLD}"
    running = start("fetch", f"{server.url}/bodies/a", option, expression, "--grace", "0s")
    server.wait_until(lambda: helpers(running.pid))
    (helper,) = helpers(running.pid)
    # As from a terminal: to the whole group, of which the helper is none.
    assert os.getpgid(helper) == helper
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 130
    assert not is_there(helper)


def test_a_helper_never_outlives_the_run_that_was_killed(start, server):
    server.bodies["a"] = b'{"hang": true}'
    running = start("fetch", f"{server.url}/bodies/a", "--select", HANGS_WHEN_TOLD)
    server.wait_until(lambda: helpers(running.pid))
    (helper,) = helpers(running.pid)
    running.kill()
    running.wait(60)
    server.wait_until(lambda: not is_there(helper))


def test_a_helper_that_is_killed_costs_no_row(start, server):
    server.bodies |= {str(n): f'{{"n": {n}}}'.encode() for n in range(100)}
    urls = [f"{server.url}/bodies/{n}" for n in range(100)]
    running = start("fetch", f"{server.url}/held", *urls, "--select", ".n + 1", "--limit", "1", "--keep-order")
    # The first row is held, so that the others come when we say so.
    server.wait_until(lambda: server.in_flight == 1)
    server.gate.set()
    server.wait_until(lambda: helpers(running.pid))
    for helper in helpers(running.pid):
        os.kill(helper, signal.SIGKILL)
    stdout, _ = running.communicate(timeout=120)
    lines = [strictly(line) for line in stdout.splitlines()]
    assert [line["body"] for line in lines] == [1, *range(1, 101)]


def test_plain_expressions_start_no_process_and_others_one(unisono, server, tmp_path):
    """The plain ones do not even need a program to start."""
    server.bodies["a"] = b'{"a": {"b": 1.10}, "l": [1, 2]}'
    line = only(unisono("fetch", f"{server.url}/bodies/a", "--select", "{b: .a.b, n: .l | length}", "-q"))
    assert line["body"] == {"b": 1.10, "n": 2}
    assert only(unisono("fetch", f"{server.url}/bodies/a", "--select", ".l | add", "-q"))["body"] == 3


def test_the_word_that_starts_a_helper_is_for_runs_alone(unisono):
    assert "evaluate-expressions" not in unisono("--help").stdout
    done = unisono("evaluate-expressions", stdin=None)
    assert done.returncode == 2
    assert "runs start this by themselves" in done.stderr
