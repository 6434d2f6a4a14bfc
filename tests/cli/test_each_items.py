"""`unisono each`: where items come from, where they go, and that none of them is ever run as code."""

import os
import subprocess

import pytest

# Where items come from.


def test_linked_sources_go_together_and_the_shorter_says_how_many_there_are(unisono, tmp_path):
    (tmp_path / "f").write_text("l1\nl2\n")
    # What GNU parallel 20221122 prints for each.
    for words, lines in [
        (["a", "b", "c", ":::+", "x", "y"], ["a x", "b y"]),
        (["a", "b", ":::+", "x", "y", "z", ":::", "1", "2"], ["a x 1", "a x 2", "b y 1", "b y 2"]),
        (["a", "b", ":::", "1", "2", ":::+", "x", "y"], ["a 1 x", "a 2 y", "b 1 x", "b 2 y"]),
        (["a", "b", "::::+", "f"], ["a l1", "b l2"]),
    ]:
        assert unisono("each", "-kq", "echo", ":::", *words).stdout.splitlines() == lines
    assert unisono("each", "-kq", "echo", "{2}{1}", "::::", "f", ":::+", "A", "B").stdout == "Al1\nBl2\n"
    done = unisono("each", "echo", ":::+", "a")
    assert (done.returncode, "a source before it" in done.stderr) == (2, True)


@pytest.mark.parametrize("mark", [":::++", ":::x", "::::-", ":::::"])
def test_what_begins_as_a_source_and_is_none_is_refused(unisono, tmp_path, mark):
    (tmp_path / "kept").touch()
    done = unisono("each", "--", "rm", ":::", "other", mark, "kept")
    assert (done.returncode, mark in done.stderr, "hint" in done.stderr) == (2, True, True)
    assert (tmp_path / "kept").exists()


def test_a_dash_among_files_of_items_is_standard_input_once(unisono, tmp_path):
    (tmp_path / "f").write_text("x\ny\n")
    assert unisono("each", "-kq", "echo", "::::", "-", "f", input="1\n2").stdout == "1 x\n1 y\n2 x\n2 y\n"
    assert unisono("each", "-kq", "echo", "::::", "-", ":::+", "a", "b", input="1\n2").stdout == "1 a\n2 b\n"
    done = unisono("each", "echo", "::::", "-", "-", input="1\n")
    assert (done.returncode, "once" in done.stderr) == (2, True)


def test_items_are_parted_into_columns(unisono, tmp_path, lines):
    done = unisono("each", "-kq", "--colsep", r"\s*[;,]\s*", "echo", "<{2}> <{1.}> <{}>", input="a.b ; c\nd,e\n")
    assert done.stdout == "<c> <a> <a.b c>\n<e> <d> <d e>\n"
    assert unisono("each", "-kq", "-C", "|", "echo", "{3}{1}", ":::", "a|b", "c", ":::", "x").stdout.splitlines() == [
        "xa"
    ]
    done = unisono("each", "-q", "-C", ",", "-o", "r.jsonl", "echo", "{2}", input="a\n")
    assert (done.returncode, lines(tmp_path / "r.jsonl")[0]["error"]["kind"]) == (1, "input")
    for words in (["-C", "", "echo", "{1}"], ["-C", ",*", "echo", "{1}"], ["-C", ",", "echo"]):
        assert unisono("each", *words, ":::", "a").returncode == 2


# Where items go.


def test_any_place_counts_and_the_item_is_not_put_at_the_end_as_well(unisono, tmp_path):
    (tmp_path / "d").mkdir()
    for words, printed in [
        (["echo", "--seed", "{#}"], "--seed 1\n"),
        (["echo", "{%}"], "1\n"),
        (["--cwd", "{}", "--", "pwd"], f"{tmp_path}/d\n"),
        (["--env", "X={}", "--", "sh", "-c", "echo $X $#"], "d 0\n"),
        (["--stdin", "{}", "--", "cat"], "d"),
        (["--save", "out/{}", "--", "echo", "x"], "x\n"),
        (["--key", "{}", "--", "echo", "x"], "x\n"),
        (["--shell", "--", 'echo "$1" $#'], "d 1\n"),
        (["--shell", "--", "echo $UNISONO_ITEM"], "d\n"),
        (["--key", "1", "--", "echo"], "d\n"),
        (["echo"], "d\n"),
    ]:
        assert unisono("each", "-q", *words, ":::", "d").stdout == printed, words


# Items are no code.

EVIL = [
    "$(touch x)",
    "`touch x`",
    "'; touch x; '",
    '"; touch x; "',
    "\ntouch x\n",
    "; touch x",
    "\\'; touch x #",
    "E\ntouch x\n",
]


@pytest.mark.parametrize(
    "script",
    [
        'echo "{}"',
        "echo '{}'",
        "cat <<E\n{}\nE",
        "cat <<'E'\n{}\nE",
        "echo `echo {}`",
        "echo # {}",
        "echo $(( {} ))",
        "echo ${A:-{}}",
        "echo \\{}",
        'echo "$(echo "{}")"',
        "echo a #",
        "cd . ;",
        "sh -c {}",
        "eval {}",
    ],
)
def test_a_place_where_an_item_could_be_code_is_refused_before_anything_starts(unisono, tmp_path, script):
    for item in EVIL:
        done = unisono("each", "--shell", "--", "touch started;" + script, ":::", item)
        assert done.returncode == 2, done.stderr
        assert os.listdir(tmp_path) == []
        assert "$1" in done.stderr
    if "{}" in script and "eval" not in script and "-c" not in script:
        assert "UNISONO_ITEM" in done.stderr


def test_the_ways_that_a_refusal_names_work_with_any_item(unisono, tmp_path):
    for item in [*EVIL, "", " a  b ", "*", "-n", "\\", "ü"]:
        for script in [
            'printf %s "$1"',
            'printf %s "$UNISONO_ITEM"',
            "printf %s {}",
            "cat <<E\n$1\nE",
            "printf %s \"$(printf %s {}; echo .)\" | sed '$s/.$//'",
        ]:
            printed = unisono("each", "-q", "--shell", "--", script, ":::", item).stdout
            assert printed.rstrip("\n") == item.rstrip("\n"), script
        words = ["sh", "-c", 'printf %s "$1"', "sh", "{}"]
        assert unisono("each", "-q", *words, ":::", item).stdout == item
    assert unisono("each", "-q", "--shell", "--", 'echo "$2-$1"', ":::", "a", ":::", "b").stdout == "b-a\n"
    (tmp_path / "in.csv").write_text("name\n$(touch x)\n")
    done = unisono("each", "-q", "--from", "in.csv", "--shell", "--", 'echo "{name}"')
    assert (done.returncode, "--env" in done.stderr) == (2, True)
    words = ["--from", "in.csv", "--shell", "--env", "name={name}", "--", 'echo "$name"']
    assert unisono("each", "-q", *words).stdout == "$(touch x)\n"
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["sh", "-c", "echo {}"],
        ["bash", "-ic", "echo '{}'"],
        ["env", "A=1", "sh", "-c", "echo {}"],
        ["timeout", "5", "sh", "-c", "echo {}"],
        ["nice", "nohup", "setsid", "sh", "-ec", "echo {}"],
        ["python3", "-c", "print('{}')"],
        ["perl", "-e", 'print "{}"'],
        ["xargs", "-I", "@", "sh", "-c", "echo {}"],
        ["su", "-c", "echo {}"],
        ["docker", "exec", "x", "sh", "-c", "echo {}"],
        ["sudo", "-u", "nobody", "bash", "-o", "pipefail", "-c", "echo {}"],
    ],
)
def test_an_item_within_code_for_another_interpreter_is_refused(unisono, tmp_path, words):
    done = unisono("each", "--", *words, ":::", "$(touch x)")
    assert (done.returncode, os.listdir(tmp_path)) == (2, [])
    assert "--items-are-code" in done.stderr
    assert "$1" in done.stderr
    mine = [word.replace("{}", "ITEM") for word in words]
    assert unisono("each", "-I", "ITEM", "--", *mine, ":::", "x").returncode == 2


def test_insisting_runs_items_as_code_and_a_whole_script_is_only_warned_of(unisono):
    words = ["each", "-q", "--items-are-code", "sh", "-c", "echo {}", ":::", "$((6 * 7))"]
    done = unisono(*words)
    assert (done.stdout, done.stderr) == ("42\n", "")
    done = unisono("each", "-q", "sh", "-c", "{}", ":::", "echo $((6 * 7))")
    assert (done.stdout, "run as code" in done.stderr) == ("42\n", True)
    assert unisono("each", "--stdin", "echo {}", "sh", ":::", "a").returncode == 2


def test_what_a_shell_of_another_host_would_run_fails_its_own_row(unisono, tmp_path, lines, monkeypatch):
    ssh = tmp_path / "bin/ssh"
    ssh.parent.mkdir()
    ssh.write_text('#!/bin/sh\nshift\nexec sh -c "$*"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    done = unisono(
        "each", "-kq", "-o", "r.jsonl", "ssh", "host", "echo", "{}", ":::", "web-1", "$(touch x)", "a;touch x"
    )
    assert (done.returncode, done.stdout) == (1, "web-1\n")
    assert [row["outcome"] for row in lines(tmp_path / "r.jsonl")] == ["ok", "failed", "failed"]
    assert not (tmp_path / "x").exists()


def test_a_dry_run_of_a_script_runs_the_same_in_a_shell(unisono):
    printed = unisono("each", "--dry-run", "--shell", "--", 'printf "%s|" {} "$1"', ":::", "a'b $x").stdout
    assert subprocess.run(["sh", "-c", printed], capture_output=True, text=True, check=True).stdout == "a'b $x|a'b $x|"
