"""What is wrong with every item: said once, before the first of them, and nothing is kept of it."""

import json
import os
import signal
import subprocess

import pytest

from support.installed import COMMAND
from support.processes import children, until
from support.terminals import Terminal


@pytest.mark.parametrize(
    ("command", "error", "hint"),
    [
        (["echo {} | wc -c"], "`echo {} | wc -c` is one word", "`unisono each --shell 'echo {} | wc -c'`"),
        (["nosuchcmd", "{}"], "there is no program `nosuchcmd` in the folders of PATH", "check its name"),
        (["./nosuch", "{}"], "there is no program `./nosuch`", "check its name"),
        (["--env", "PATH=/nowhere", "cat", "{}"], "there is no program `cat`", "check its name"),
        (["--cwd", "sub", "./tool", "{}"], "there is no program `./tool`", "check its name"),
        (["./plain", "{}"], "`./plain` is a file that may not be executed", "`chmod +x ./plain`"),
        (["cd", "{}"], "there is no program `cd`", "it is a word of the shell"),
        (["doit", "{}"], "there is no program `doit`", "`unisono each -- bash -c 'doit \"$@\"' bash {}`"),
    ],
)
def test_c9_a_program_that_is_not_there_is_said_once_and_nothing_is_kept(unisono, tmp_path, command, error, hint):
    (tmp_path / "sub").mkdir()
    (tmp_path / "plain").write_text("")
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "tool").chmod(0o755)
    environment = {**os.environ, "BASH_FUNC_doit%%": "() { echo $1; }"}
    done = unisono("each", "-o", "r.jsonl", *command, input="1\n2\n", env=environment)
    said = done.stderr.splitlines()
    assert (done.returncode, len(said)) == (2, 2), done.stderr
    assert error in said[0] and hint in said[1], done.stderr
    assert not (tmp_path / "r.jsonl").exists()
    # So the line that was meant begins from nothing.
    done = unisono("each", "-o", "r.jsonl", "--resume", "echo", input="1\n2\n")
    assert (done.returncode, sorted(done.stdout.split())) == (0, ["1", "2"]), done.stderr


def test_c9_what_the_hint_says_of_a_function_of_bash_runs_it(tmp_path):
    line = """doit() { echo "<$1>"; }; export -f doit; unisono each -- bash -c 'doit "$@"' bash {} ::: 'a b'"""
    environment = {"PATH": f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "<a b>\n", done.stderr


def test_c9_a_program_whose_name_depends_on_the_item_fails_that_item(unisono):
    done = unisono("each", "-q", "{}", ":::", "true", "nosuchcmd")
    assert (done.returncode, "1 × spawn: `nosuchcmd` cannot be started" in done.stderr) == (1, True), done.stderr


@pytest.mark.parametrize(
    ("name", "text", "words", "error", "hint"),
    [
        ("in.csv", "id,n\n1,a\n", ["fetch", "{url}/items/{day}"], "no column `day` (there are: id, n)", None),
        ("in.csv", "id,n\n1,a\n", ["each", "--", "echo", "{day}"], "no column `day` (there are: id, n)", None),
        ("in.csv", "id,n\n1,a\n", ["fetch"], "no column `url`", "have a column `url`"),
        ("in.csv", "id;n\n1;a\n", ["each", "--", "echo", "{id}"], "separated by `;`", None),
        ("in.txt", "id,n\n1,a\n", ["fetch", "{url}/items/{id}"], "is the input CSV?", None),
        (
            "in.jsonl",
            '[{"id": 1}]',
            ["fetch", "{url}/items/{id}"],
            "JSON that begins with an array",
            "`jq -c '.[]' FILE`",
        ),
        ("in.jsonl", '[\n{"id": 1}\n]', ["each", "--", "echo", "{id}"], "begins with an array", "`jq -c '.[]' FILE`"),
        ("in.json", '{\n"id": 1\n}', ["fetch", "{url}/items/{id}"], "an object over several lines", "`jq -c . FILE`"),
        (
            "in.jsonl",
            '{"id": 1, "n": 2}\n',
            ["fetch", "{url}/items/{day}"],
            "no member `day` in its first row (there are: id, n)",
            None,
        ),
        (
            "in.jsonl",
            '{"id": 1}\n',
            ["fetch", "{url}/items/{id}", "--save", "{day}"],
            "no member `day` in its first row",
            None,
        ),
        ("in.jsonl", '{"id": 1}\n', ["each", "--", "echo", "{day}"], "no member `day` in its first row", None),
        ("in.jsonl", '"a"\n', ["each", "--", "echo", "{day}"], "in its first row, which is a string", None),
        ("in.jsonl", '{"id": 1}\n', ["fetch"], "no member `url` in its first row", "have a member `url`"),
        ("in.txt", '{"url": "http://h/"}\n', ["fetch"], "its first line is JSON", "`--input-format jsonl`"),
    ],
)
def test_c9_what_is_wrong_with_every_row_is_said_once_and_nothing_is_kept(
    unisono, server, tmp_path, name, text, words, error, hint
):
    (tmp_path / name).write_text(text)
    words = [words[0], "--from", name, "-o", "r.jsonl", *(word.replace("{url}", server.url) for word in words[1:])]
    done = unisono(*words)
    said = done.stderr.splitlines()
    assert (done.returncode, len(said)) == (2, 2 if hint else 1), done.stderr
    assert said[0].startswith(f"error: `{name}`: ") and error in said[0], done.stderr
    assert hint is None or hint in said[1], done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert server.requests == []


@pytest.mark.parametrize("words", [["fetch", "{url}/items/{day}"], ["each", "--", "echo", "{day}"]])
def test_a_member_that_the_first_row_has_and_another_lacks_fails_that_row(unisono, server, tmp_path, lines, words):
    # What is no text, or no row, says nothing of the others.
    for number, first in enumerate(['{"day": 1}', '{"day": null}', "torn"]):
        (tmp_path / "in.jsonl").write_text(first + '\n{"n": 2}\n{"day": 3}\n')
        words = [word.replace("{url}", server.url) for word in words]
        done = unisono(words[0], "--from", "in.jsonl", "-o", f"{number}.jsonl", *words[1:])
        assert done.returncode == 1, done.stderr
        rows = sorted(lines(tmp_path / f"{number}.jsonl"), key=lambda row: row["row"])
        assert [row["outcome"] for row in rows] == ["ok" if number == 0 else "failed", "failed", "ok"]
        assert (rows[1]["error"]["kind"], rows[1]["error"]["message"]) == ("input", "no member `day`")


def test_a_first_row_that_brings_its_own_address_and_id_lacks_nothing(unisono, server, tmp_path):
    row = {"url": server.url + "/items/1", "id": "a"}
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + '\n{"n": 2}\n')
    done = unisono("fetch", "--from", "in.jsonl", server.url + "/items/{n}", "--id", "b{n}", "-q")
    assert done.returncode == 0, done.stdout
    (tmp_path / "in.jsonl").write_text(json.dumps(row["url"]) + "\n")
    assert unisono("fetch", "--from", "in.jsonl", server.url + "/items/{n}", "-q").returncode == 0


@pytest.mark.parametrize(
    ("words", "what"),
    [(["each", "--", "echo", "<{}>"], "items"), (["fetch", "--from", "-", "--dry-run"], "rows")],
)
def test_c9_what_is_typed_at_a_terminal_is_asked_for(tmp_path, words, what):
    one = Terminal(COMMAND, *words, cwd=tmp_path)
    try:
        one.shows(f"reading {what} from the terminal, one per line (Ctrl-D ends them)")
        one.types("http://localhost/a\n\x04")
        one.shows("http://localhost/a" if what == "rows" else "<http://localhost/a>")
        assert one.ends() == 0
    finally:
        one.close()


@pytest.mark.parametrize("how", ["csv", "jsonl"])
def test_c9_a_run_whose_header_does_not_come_is_ended_by_ctrl_c(start, how):
    words = ["each", "--from", "-", "--input-format", how, "--", "echo", "{id}"]
    process = start(*words, stdin=subprocess.PIPE)
    until(lambda: children(process.pid))
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) in (130, -signal.SIGINT)
