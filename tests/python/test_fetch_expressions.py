"""`select=` and `paginate=`: no expression and no body can take the interpreter with it, or stop the program."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

import unisono
from support.processes import longer_and_longer
from unisono import fetch, fetch_all

BRACKETS = b"[" * 30_000 + b"]" * 30_000
HANGS_WHEN_TOLD = "if .hang then (def f: f; f) else .n + 1 end"


@pytest.mark.parametrize("expression", [".a", ".a + 1"])
def test_b1_thirty_thousand_brackets_fail_their_row_alone(server, expression):
    server.bodies |= {"deep": BRACKETS, "fine": b'{"a": 1}'}
    urls = [f"{server.url}/bodies/{name}" for name in ("deep", "fine")]
    deep, fine = fetch_all(urls, select=expression)
    assert (deep.kind, deep.error.kind) == ("failed", "select")
    assert "more than 512 levels of brackets" in str(deep.error)
    assert fine.kind == "ok"
    deep, fine = fetch_all(urls, paginate=f"next={expression}?" if expression == ".a" else "next=.b // empty | . + 1")
    assert (deep.kind, deep.error.kind) == ("failed", "pages")


def test_a2_a8_what_is_no_json_fails_and_what_does_more_than_compute_is_refused(server):
    server.bodies["a"] = b'{"total": 1, "count": 0}'
    (outcome,) = fetch_all([f"{server.url}/bodies/a"], select=".total / .count")
    assert (outcome.kind, outcome.error.kind, outcome.effect) == ("failed", "select", "done")
    server.requests.clear()
    for options in [{"select": "halt"}, {"select": "env"}, {"paginate": "next=halt_error(3)"}]:
        with pytest.raises(unisono.UsageError, match="cannot be used here"):
            fetch([f"{server.url}/items/1"], **options).run()
    assert server.requests == []


def test_b2_what_never_ends_or_eats_memory_fails_its_row_alone(server):
    server.bodies |= {"hang": b'{"hang": true}', **{str(n): f'{{"n": {n}}}'.encode() for n in range(5)}}
    urls = [f"{server.url}/bodies/{name}" for name in ("hang", *range(5))]
    for timeout in longer_and_longer(4):
        hung, *others = fetch_all(urls, select=HANGS_WHEN_TOLD, timeout=timeout, retries=0)
        # The others have the same time, which on a busy machine may not be enough.
        if all(outcome.ok for outcome in others):
            break
    assert (hung.kind, hung.error.kind) == ("failed", "select")
    assert [outcome.selected for outcome in others] == [n + 1 for n in range(5)]
    (outcome,) = fetch_all([f"{server.url}/bodies/1"], select='"x" * 2000000000')
    assert "it ran out of memory" in str(outcome.error)


def test_the_helper_imports_nothing_of_the_program_and_nothing_of_its_folder(server, tmp_path):
    server.bodies["a"] = b'{"n": 1}'
    # Either would be seen by the program that imports them.
    for name in ("json.py", "importlib.py", "sitecustomize.py", "unisono.py"):
        (tmp_path / name).write_text("raise SystemExit('imported')\n")
    program = tmp_path / "folder" / "program.py"
    program.parent.mkdir()
    program.write_text(
        textwrap.dedent(f"""
        print("begun")
        import os
        from unisono import fetch_all
        os.chdir({str(tmp_path)!r})
        os.environ["PYTHONPATH"] = {str(tmp_path)!r}
        print(fetch_all(["{server.url}/bodies/a"], select=".n + 1")[0].selected)
        """)
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.returncode) == ("begun\n2\n", 0), done.stderr


def test_c3_an_expression_gives_a_list_or_a_value_by_its_form_and_not_by_the_body(server):
    server.bodies |= {"two": b'{"items": [1, 2]}', "one": b'{"items": [1]}', "none": b'{"items": []}'}
    urls = [f"{server.url}/bodies/{name}" for name in ("two", "one", "none")]
    for expression, selected in [
        (".items[]", [[1, 2], [1], []]),
        (".items[] + 0", [[1, 2], [1], []]),
        ("first(.items[])", [1, 1, None]),
        (".items | length", [2, 1, 0]),
    ]:
        assert [outcome.selected for outcome in fetch_all(urls, select=expression, keep_order=True)] == selected, (
            expression
        )


def test_a_program_that_does_not_know_its_interpreter_has_plain_expressions(server, monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    server.bodies["a"] = b'{"n": 1}'
    (outcome,) = fetch_all([f"{server.url}/bodies/a"], select=".n")
    assert outcome.selected == 1
    with pytest.raises(unisono.UsageError, match="needs a process of its own"):
        fetch_all([f"{server.url}/bodies/a"], select=".n + 1")
