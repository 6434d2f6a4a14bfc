"""What is said of words that make no sense: what was meant, and how it is written."""

import os

import pytest

from unisono import Limiter, UsageError, fetch


@pytest.mark.parametrize("option", ["--limit", "--per-host", "--canary"])
def test_none_of_what_must_be_at_least_one_is_refused_with_what_to_give(unisono, option):
    done = unisono("fetch", option, "0", "http://localhost")
    assert (done.returncode, "expected a whole number from 1 on, as `8`" in done.stderr) == (2, True)
    assert "number would be zero" not in done.stderr


@pytest.mark.parametrize(
    ("words", "tip"),
    [
        (["fetch", "-d", "a=b", "http://localhost"], "--data"),
        (["fetch", "--retry", "3", "http://localhost"], "--retries"),
        (["each", "--retry", "3", "--", "true"], "--retries"),
    ],
)
def test_a_word_of_another_program_is_answered_with_the_option_that_is_meant(unisono, words, tip):
    done = unisono(*words)
    assert (done.returncode, f"tip: a similar argument exists: '{tip}'\n" in done.stderr) == (2, True), done.stderr
    assert "retry-" not in done.stderr
    assert "-- " not in done.stderr


def test_a_command_that_is_one_word_with_blanks_is_refused_with_both_right_ways(unisono, tmp_path):
    done = unisono("each", "-o", "r.jsonl", "--", "echo {}", ":::", "1")
    assert done.returncode == 2
    assert "`echo {}` is one word, and so the name of one program" in done.stderr
    assert "`unisono each -- echo {}`" in done.stderr
    assert "`unisono each --shell 'echo {}'`" in done.stderr
    assert not (tmp_path / "r.jsonl").exists()
    # The second is what it says.
    assert unisono("each", "--shell", "echo {}", ":::", "1").stdout == "1\n"


@pytest.mark.parametrize("place", [".", "bin"])
def test_a_program_whose_name_has_blanks_runs(unisono, tmp_path, monkeypatch, place):
    (tmp_path / place).mkdir(exist_ok=True)
    program = tmp_path / place / "echo it"
    program.write_text("#!/bin/sh\necho done\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=os.pathsep)
    done = unisono("each", "--", "echo it" if place == "bin" else "./echo it", ":::", "1")
    assert done.stdout == "done\n", done.stderr


@pytest.mark.parametrize("command", [["fetch", "http://localhost/{id}"], ["each", "--", "echo", "{id}"]])
def test_a_table_with_another_separator_is_told_from_one_without_the_column(unisono, tmp_path, command):
    (tmp_path / "t.csv").write_text("id;name\n1;a\n")
    done = unisono(command[0], "--from", "t.csv", *command[1:])
    assert "separated by `;`" in done.stderr and "--colsep ';'" in done.stderr, done.stderr
    read = unisono("each", "-k", "--from", "t.csv", "--input-format", "lines", "--colsep", ";", "--", "echo", "{1}")
    assert read.stdout == "id\n1\n"


@pytest.mark.parametrize("given", [5, 0.5])
def test_a_rate_that_is_a_number_alone_is_answered_with_one_that_says_in_which_time(given):
    for refused in (lambda: Limiter(rate=given), lambda: fetch(["http://localhost"], rate=given).run()):
        with pytest.raises(UsageError, match=f'as "{given}/s" for {given} in a second, not {given}'):
            refused()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fetch", "--from", "pipe"], "waiting until the pipe `pipe` is opened to be written to"),
        (["each", "--from", "pipe", "--", "echo", "{}"], "waiting until the pipe `pipe` is opened to be written to"),
        (["each", "--", "echo", "{}", "::::", "pipe"], "waiting until the pipe `pipe` is opened to be written to"),
        (["sum", "--check", "pipe"], "waiting until the pipe `pipe` is opened to be written to"),
        (["sum", "-o", "pipe", "file"], "waiting until the pipe `pipe` is opened to be read from"),
    ],
)
def test_what_waits_for_the_other_end_of_a_pipe_says_so_once(start, tmp_path, words, says):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("text")
    process = start(*words)
    assert process.stderr.readline() == f"{says}\n"
    with open(tmp_path / "pipe", "r" if "read" in says else "w"):
        pass
    _, rest = process.communicate(timeout=60)
    assert "waiting" not in rest


def test_one_outcome_that_was_lost_is_not_several(start, server, tmp_path):
    process = start("fetch", f"{server.url}/held", "-o", "r.jsonl")
    server.wait_until(lambda: server.in_flight == 1)
    (tmp_path / "r.jsonl").unlink()
    server.gate.set()
    assert "1 outcome could not be kept\n" in process.communicate(timeout=60)[1]
