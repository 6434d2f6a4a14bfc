"""What is said of words that make no sense: what was meant, and how it is written."""

import os
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from support.real_servers import certificate
from unisono import Limiter, UsageError, fetch


def test_a_certificate_that_is_not_trusted_says_what_to_type_to_those_as_well_who_typed_the_k_of_curl(
    unisono, tmp_path
):
    certificate(tmp_path)
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        done = unisono("fetch", "-k", f"https://127.0.0.1:{server.server_address[1]}/", "--retries", "0")
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 1
    assert "--insecure trusts any" in done.stderr and "-k is --keep-order" in done.stderr, done.stderr


@pytest.mark.parametrize("option", ["--limit", "--per-host", "--canary"])
def test_none_of_what_must_be_at_least_one_is_refused_with_what_to_give(unisono, option):
    done = unisono("fetch", option, "0", "http://localhost")
    assert (done.returncode, "expected a whole number from 1 on, as `8`" in done.stderr) == (2, True)
    assert "number would be zero" not in done.stderr


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (["fetch", "-d", "a=b"], "`unisono fetch` has no option `-d`", "`--data TEXT` is the body"),
        (["fetch", "--retry", "3"], "has no option `--retry`", "`--retries N`"),
        (["each", "--retry", "3", "--", "true"], "has no option `--retry`", "`--retries N`"),
        (["sum", "--retry", "3"], "has no option `--retry`", "`--retries N`"),
        (["fetch", "--concurrency", "3"], "has no option `--concurrency`", "`--limit N` (`-j N`)"),
        (["each", "--concurrency=3", "--", "true"], "has no option `--concurrency`", "`--limit N` (`-j N`)"),
        (["fetch", "--jobs", "3"], "has no option `--jobs`", "`--limit N` (`-j N`)"),
        (["each", "--jobs", "3", "--", "true"], "has no option `--jobs`", "`--limit N` (`-j N`)"),
        (["sum", "--jobs", "3"], "has no option `--jobs`", "`--limit N` (`-j N`)"),
        (["fetch", "--max-time", "3"], "has no option `--max-time`", "`--deadline TIME`"),
        (["each", "--max-time", "3", "--", "true"], "has no option `--max-time`", "`--timeout TIME`"),
        (["fetch", "--output", "x"], "has no option `--output`", "`--save FILE` writes a body"),
        (["each", "--output", "x", "--", "true"], "has no option `--output`", "`--out FILE` (`-o FILE`)"),
        (["sum", "--output", "x"], "has no option `--output`", "`--out FILE` (`-o FILE`)"),
        (["fetch", "-fsSL"], "has no option `-f`", "redirects are followed already"),
        (["fetch", "--froom", "x"], "has no option `--froom`", "did you mean `--from`?"),
        (["fetch", "--zzz"], "has no option `--zzz`", "`unisono fetch --help` lists"),
        (["sum", "-Q"], "has no option `-Q`", "`unisono sum --help` lists"),
        (["get"], "`get` is no command of unisono", "that is `unisono fetch URL`"),
        (["http://localhost/"], "is no command of unisono", "that is `unisono fetch URL`"),
        (["fetsh"], "`fetsh` is no command of unisono", "did you mean `unisono fetch`?"),
        (["-j4", "fetch"], "`unisono` has no option `-j`", "behind the command: `unisono fetch -j`"),
        (["doctor", "more"], "`more` is one word too many for `unisono doctor`", "--help"),
        (["fetch", "--timeout", "-1s"], "`--timeout`: `-1s` is not a duration", "`--timeout TIME`: Longest time"),
        (["fetch", "--limit", "-1"], "`--limit -1`: expected a whole number from 1 on", "`--limit N`: Most items"),
        (["fetch", "-j", "-1"], "`--limit -1`: expected a whole number from 1 on", "`--limit N`: Most items"),
        (["fetch", "--limit", "0"], "`--limit 0`: expected a whole number from 1 on", "`--limit N`: Most items"),
        (["fetch", "--limit"], "`--limit` needs a value", "`--limit N`: Most items"),
        (["fetch", "--retries", "70000"], "`--retries 70000`: it is more than there can be", "`--retries N`: "),
        (["fetch", "--max-failures", "x"], "`--max-failures x`: expected a whole number", "`--max-failures N`: "),
        (["each", "--expect", "0,x", "--", "true"], "`--expect x`: expected exit codes", "`--expect LIST`: "),
        (["each", "--load", "x", "--", "true"], "`--load x`: expected a load", "`--load LOAD`: "),
        (["fetch", "--body", "yaml"], "`--body yaml`: expected `json`, `text`, `base64` or `none`", "`--body HOW`: "),
        (["fetch", "--body"], "`--body` needs a value: `json`, `text`, `base64` or `none`", "`--body HOW`: "),
        (["fetch", "--resume"], "`--resume` needs `--out FILE`", "add `--out FILE`"),
        (["fetch", "--resume", "--adopt"], "`--out FILE` is not there, and several options", "add `--out FILE`"),
        (["each", "--block", "10", "--", "cat"], "`--block` needs `--pipe`", "add `--pipe`"),
        (["fetch", "--json", "1", "--data", "2"], "`--json` and `--data` do not go together", "give one of them"),
        (["fetch", "--quiet=3"], "`--quiet` takes no value", "`--quiet`: No progress"),
        (["init"], "`unisono init` needs `COMMAND`", "`unisono init --help`"),
        (["completions"], "`unisono completions` needs `TARGET`", "`unisono completions --help`"),
        (["completions", "x"], "`TARGET x`: expected `bash`", "`TARGET`: For which shell"),
        (["each"], "there is no command", "`unisono each -- gzip {} ::: *.log`"),
    ],
)
def test_c10_what_the_parser_refuses_is_said_in_our_words_with_what_to_type(unisono, tmp_path, words, error, hint):
    done = unisono(*words, *(["http://localhost"] if words[0] == "fetch" and words[-1] not in LAST else []))
    said = done.stderr.splitlines()
    assert (done.returncode, len(said)) == (2, 2), done.stderr
    assert said[0].startswith("error: ") and error in said[0], done.stderr
    assert said[1].startswith("hint: ") and hint in said[1], done.stderr
    assert list(tmp_path.iterdir()) == []


# What has no value, since nothing may follow.
LAST = ["--limit", "--body"]


def test_c10_a_word_that_is_no_text_is_refused_with_where_it_can_stand(unisono):
    done = unisono("fetch", os.fsdecode(b"http://\xff/"))
    assert (done.returncode, "is not UTF-8" in done.stderr) == (2, True), done.stderr


def test_c10_a_folder_that_takes_no_files_is_not_to_be_created(unisono):
    done = unisono("fetch", "-o", "/proc/x", "http://localhost")
    assert "cannot create `/proc/x`" in done.stderr and "no file can be made in that folder" in done.stderr


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
