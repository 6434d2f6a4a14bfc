"""What strangers name and say, on a real terminal: nothing of it is acted on; and as data, nothing of it is changed."""

import json
import os
import pty
import re
import subprocess

import pytest

from support.installed import COMMAND

# A carriage return and a summary, colours, a title, C1, DEL, and a change of direction.
NASTY = "x\rdone: 9 outcomes: 9 ok\x1b[2K\x1b]0;t\x07\x9b31m\x7f\u202egpj"
FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def on_terminal(words, cwd, stream="both", stdin=""):
    """Runs the command with a terminal as standard output, standard error or both; what the terminal was sent."""
    leader, follower = pty.openpty()
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    streams |= {name: follower for name in streams if stream in (name, "both")}
    # Our own colours are known to be there; what is looked for is what others put in.
    env = {**os.environ, "NO_COLOR": "1"}
    process = subprocess.Popen([COMMAND, *words], cwd=cwd, env=env, stdin=subprocess.PIPE, **streams)
    os.close(follower)
    process.stdin.write(stdin.encode())
    process.stdin.close()
    sent = b""
    try:
        while piece := os.read(leader, 1 << 16):
            sent += piece
    except OSError:
        # The other side has been closed by the last holder.
        pass
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    process.wait(30)
    os.close(leader)
    # The terminal itself puts a carriage return before each line feed.
    return sent.decode().replace("\r\n", "\n")


def safe(text):
    assert not FORBIDDEN.search(text), ascii(text)
    assert "\ndone: 9 outcomes" not in text
    return text


SHOW = ["--progress", "none", "--color", "never"]


def test_messages_about_rows_move_no_cursor(server, tmp_path):
    row = json.dumps({"id": NASTY, "url": server.url + "/flaky/1"})
    (tmp_path / "in.jsonl").write_text(f"{row}\n{row}\n")
    text = safe(on_terminal(["fetch", "--from", "in.jsonl", "-v", *SHOW], tmp_path, "stderr"))
    assert r"x\rdone: 9 outcomes: 9 ok\x1b[2K" in text
    assert "done: 2 outcomes: 1 ok, 1 failed" in text


def test_progress_and_summary_show_only_their_own_escapes(server, tmp_path):
    (tmp_path / "in.jsonl").write_text(json.dumps({"id": NASTY, "url": server.url + "/status/404"}))
    text = on_terminal(["fetch", "--from", "in.jsonl", "--color", "always"], tmp_path, "stderr")
    safe(re.sub(r"\r?\x1b\[(2K|[0-9;]*m)", "", text))


def test_results_on_a_terminal_are_the_same_json_without_control_characters(server, tmp_path):
    rows = [json.dumps({"id": NASTY, "url": server.url + "/items/1"}, ensure_ascii=False)]
    (tmp_path / "in.jsonl").write_text("\n".join(rows), encoding="utf-8")
    text = safe(on_terminal(["fetch", "--from", "in.jsonl", "-q"], tmp_path, "stdout"))
    assert json.loads(text)["id"] == NASTY
    text = safe(on_terminal(["fetch", "--from", "in.jsonl", "--dry-run"], tmp_path, "stdout"))
    assert json.loads(text)["id"] == NASTY


def test_a_failed_row_is_shown_safely_on_both_streams(tmp_path):
    (tmp_path / "in.csv").write_text(f'id\n"{NASTY}"\n')
    safe(on_terminal(["fetch", "--from", "in.csv", "http://{id}/", *SHOW], tmp_path))


def test_names_of_files_are_safe_on_a_terminal_and_exact_in_a_pipe(unisono, tmp_path):
    name = NASTY.replace("\r", "").replace("/", "")
    (tmp_path / name).write_text("x")
    (tmp_path / ("gone" + name)).symlink_to("nowhere")
    listed = unisono("sum", ".", "-q", text=False).stdout
    assert os.fsencode(name) in listed
    text = safe(on_terminal(["sum", ".", *SHOW], tmp_path))
    assert r"\x1b[2K" in text
    for flag in ["--tag", "--zero"]:
        safe(on_terminal(["sum", flag, ".", *SHOW], tmp_path))
    (tmp_path / "SUMS").write_bytes(listed)
    assert unisono("sum", "--check", "SUMS", "-q").returncode == 0
    safe(on_terminal(["sum", "--check", "SUMS", "--extra", ".", *SHOW], tmp_path))


def test_tags_are_safe_and_what_commands_print_is_theirs(unisono, tmp_path):
    words = ["each", "--tag", "-0", "--", "printf", "\\033[31mred\\n#%s", "-"]
    text = on_terminal([*words, *SHOW][:1] + SHOW + words[1:], tmp_path, stdin=NASTY)
    # The item in front of its line is made safe; the colour is the command's own.
    assert r"x\rdone: 9 outcomes" in text
    assert "\x1b[31mred" in text
    assert "\x1b[2K" not in text.split("red")[0]
    done = unisono("each", "--", "printf", "%s", ":::", NASTY, text=False)
    assert done.stdout == NASTY.encode()


def test_a_dry_run_of_commands_is_safe_on_a_terminal(tmp_path):
    safe(on_terminal(["each", "--dry-run", "--", "echo", ":::", NASTY], tmp_path))


@pytest.mark.parametrize(
    "words",
    [
        ["fetch", f"--{NASTY}"],
        ["fetch", "--retries", NASTY, "http://localhost/"],
        ["fetch", "--from", NASTY],
        ["fetch", f"{{{NASTY}"],
        ["fetch", f"http://{NASTY}/", "--retries", "0", *SHOW],
        ["fetch", "--header", NASTY, "http://localhost/"],
        ["fetch", "--select", NASTY, "http://localhost/"],
        ["sum", NASTY, *SHOW],
        ["each", *SHOW, "--", NASTY, ":::", "a"],
        [NASTY],
    ],
)
def test_errors_that_repeat_an_argument_are_safe(tmp_path, words):
    safe(on_terminal(words, tmp_path))
