"""Files that rows write to (`--save`): whose a name is, what may be replaced, and what is left when all goes wrong."""

import base64
import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from support.installed import COMMAND
from support.processes import until


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def errors(rows: list[dict]) -> list[str]:
    return [row["error"]["message"] for row in sorted(rows, key=lambda row: row["row"]) if "error" in row]


def put(folder: Path, names: dict[str, str]) -> None:
    for name, text in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


# Whose a name is.


def test_a_name_belongs_to_the_first_row_that_asks_for_it_and_nothing_is_sent_for_the_others(
    unisono, server, tmp_path, lines
):
    (tmp_path / "in.csv").write_text("id,name\na,x\nb,y\nc,x\nd,x\n")
    done = unisono(
        "fetch", "--from", "in.csv", server.url + "/items/{id}", "--id", "{id}", "--save", "out/{name}", "-k"
    )
    assert done.returncode == 1
    rows = lines(done.stdout)
    assert [row["outcome"] for row in rows] == ["ok", "ok", "failed", "failed"]
    for row in rows[2:]:
        assert (row["error"]["kind"], row["effect"], row["attempts"]) == ("save", "none", 0)
        assert "`out/x`" in row["error"]["message"]
        assert "row `a` (line 2)" in row["error"]["message"]
    assert sorted(server.paths()) == ["/items/a", "/items/b"]
    assert json.loads((tmp_path / "out/x").read_text())["id"] == "a"


def test_no_command_is_started_whose_name_is_taken(unisono, tmp_path, lines):
    script = 'echo "$1"; touch "ran-${1%/*}"'
    words = ["each", "-q", "--save", "sv/{/}", "-o", "r.jsonl", "sh", "-c", script, "sh", "{}"]
    assert unisono(*words, ":::", "a/x", "b/x").returncode == 1
    assert listing(tmp_path) == ["r.jsonl", "ran-a", "sv/x"]
    failed = next(row for row in lines(tmp_path / "r.jsonl") if row["outcome"] == "failed")
    assert (failed["item"], failed["error"]["kind"], failed["effect"]) == ("b/x", "save", "none")
    assert "row `r0` (line 1)" in failed["error"]["message"]


def test_the_winner_is_the_first_of_the_input_and_not_the_first_that_is_done(unisono, tmp_path):
    (tmp_path / "gate").mkdir()
    # The first waits until a fourth, which has a name of its own, has run beside it.
    script = 'case $1 in a) until [ -e gate/open ]; do sleep 0.01; done;; d) touch gate/open;; esac; echo "$1"'
    (tmp_path / "in.csv").write_text("item,name\na,x\nb,x\nc,x\nd,y\n")
    words = ["each", "-q", "-j8", "--from", "in.csv", "--save", "out/{name}", "sh", "-c", script, "sh", "{item}"]
    assert unisono(*words).returncode == 1
    assert {name: (tmp_path / "out" / name).read_text() for name in ("x", "y")} == {"x": "a\n", "y": "d\n"}


@pytest.mark.parametrize("names", [("here/x", "there/x"), ("here/x", "here/link"), ("loose", "not-yet")])
def test_names_that_lead_to_one_file_by_links_are_one_name(unisono, tmp_path, lines, names):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").symlink_to("here")
    (tmp_path / "here/link").symlink_to("../there/x")
    (tmp_path / "loose").symlink_to("not-yet")
    rows = [{"folder": Path(name).parent.name or "here/..", "name": Path(name).name} for name in names]
    template = "{folder}/{name}" if rows[0]["folder"] != "here/.." else "{name}"
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["each", "--from", "in.jsonl", "-q", "--save", template, "-o", "r.jsonl", "echo", "{name}"]
    assert unisono(*words).returncode == 1
    assert "row `r0` (line 1)" in errors(lines(tmp_path / "r.jsonl"))[0]
    assert (tmp_path / "loose").is_symlink()
    assert (tmp_path / "here/link").is_symlink()


def test_standard_error_beside_one_item_is_not_the_output_of_another(unisono, tmp_path, lines):
    words = ["each", "-q", "--save", "out/{}", "-o", "r.jsonl", "sh", "-c", "echo out-$1; echo err-$1 >&2", "sh", "{}"]
    assert unisono(*words, ":::", "a", "a.stderr").returncode == 1
    assert (tmp_path / "out/a.stderr").read_text() == "err-a\n"
    row = next(row for row in lines(tmp_path / "r.jsonl") if row["outcome"] == "ok")
    assert (row["saved"], row["saved_stderr"]) == ("out/a", "out/a.stderr")


def test_a_folder_that_one_row_needs_is_not_the_file_of_another(unisono, tmp_path, lines):
    # Each link leads to a file in a folder that is not there yet: the second is that folder.
    (tmp_path / "a").symlink_to("new/deep/x")
    (tmp_path / "b").symlink_to("new/deep")
    for items in (["a", "b"], ["b", "a"]):
        done = unisono("each", "-q", "--save", "{}", "-o", "r.jsonl", "--overwrite", "echo", ":::", *items)
        assert done.returncode == 1
        assert "row `r0` (line 1)" in errors(lines(tmp_path / "r.jsonl"))[0]
        shutil.rmtree(tmp_path / "new")


@pytest.mark.parametrize("name", ["r.jsonl", "r.jsonl.run", "in.csv", "./r.jsonl", "link"])
def test_no_row_writes_to_the_files_of_the_run_itself(unisono, tmp_path, server, lines, name):
    (tmp_path / "in.csv").write_text("id\n1\n")
    (tmp_path / "link").symlink_to("r.jsonl")
    words = ["--from", "in.csv", server.url + "/items/{id}", "--save", name, "-o", "r.jsonl", "--overwrite"]
    done = unisono("fetch", *words)
    if name == "link":
        assert done.returncode == 1
        (row,) = lines(tmp_path / "r.jsonl")
        assert (row["error"]["kind"], row["effect"]) == ("save", "none")
        assert "run" in row["error"]["message"]
    else:
        # A name without a place in it is known before anything is opened.
        assert done.returncode == 2
        assert "nothing was opened" in done.stderr
    assert (tmp_path / "in.csv").read_text() == "id\n1\n"
    assert server.requests == []


def test_a_slot_is_refused_as_a_name(unisono):
    done = unisono("each", "--save", "out/{%}", "echo", ":::", "a")
    assert done.returncode == 2
    assert "matter of luck" in done.stderr


# Across runs.


def test_after_a_resume_on_a_reordered_input_names_are_still_whose_they_were(unisono, tmp_path, lines):
    words = ["each", "-q", "--save", "out/{#}", "-o", "r.jsonl", "--resume", "echo", "{}", ":::"]
    assert unisono(*words, "a", "b", "c").returncode == 0
    before = {name: (tmp_path / "out" / name).read_text() for name in "123"}
    done = unisono(*words, "new", "c", "b", "a")
    assert done.returncode == 1
    assert {name: (tmp_path / "out" / name).read_text() for name in "123"} == before
    (error,) = errors(lines(tmp_path / "r.jsonl"))
    assert "`out/1` is where row `r0` of an earlier run was saved to" in error


def test_a_row_that_was_refused_does_not_win_by_being_tried_again(unisono, tmp_path, lines):
    words = ["each", "-q", "--save", "sv/{/}", "-o", "r.jsonl", "echo", "{}", ":::"]
    assert unisono(*words, "a/x", "b/x").returncode == 1
    for order in (["a/x", "b/x"], ["b/x", "a/x"], ["b/x"]):
        assert unisono(*[*words[:6], "--retry-failed", *words[6:]], *order).returncode == 1
        assert (tmp_path / "sv/x").read_text() == "a/x\n"
        assert sorted(row["outcome"] for row in lines(tmp_path / "r.jsonl")) == ["failed", "ok"]


def test_a_row_that_runs_again_replaces_what_it_has_saved_itself(unisono, tmp_path, lines):
    script = 'echo "$(cat word)"; cat err >&2; exit "$(cat status)"'
    words = [
        "each",
        "-q",
        "--save",
        "out/{}",
        "-o",
        "r.jsonl",
        "--retry-failed",
        "sh",
        "-c",
        script,
        "sh",
        "{}",
        ":::",
        "a",
    ]
    put(tmp_path, {"word": "first", "err": "trouble", "status": "3"})
    assert unisono(*words).returncode == 1
    assert listing(tmp_path / "out") == ["a", "a.stderr"]
    put(tmp_path, {"word": "second", "err": "", "status": "4"})
    assert unisono(*words).returncode == 1
    assert (tmp_path / "out/a").read_text() == "second\n"
    put(tmp_path, {"word": "third", "status": "0"})
    assert unisono(*words).returncode == 0
    assert (tmp_path / "out/a").read_text() == "third\n"


def test_what_an_attempt_before_has_printed_to_standard_error_does_not_stay(unisono, tmp_path):
    script = "if [ -e again ]; then echo fine; else touch again; echo bad >&2; exit 1; fi"
    assert unisono("each", "-q", "--retries", "1", "--save", "out/{}", "sh", "-c", script, ":::", "a").returncode == 0
    assert listing(tmp_path / "out") == ["a"]


def kill_and_resume(start, words: list[str], dice: random.Random) -> int:
    """Kills runs at random moments until one comes through; returns how many were killed."""
    for kills in range(1000):
        process = start(*words)
        try:
            # Later and later, or on a busy machine none would ever come through.
            process.wait(timeout=0.03 + dice.random() * 0.3 * 1.1**kills)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        if process.returncode >= 0:
            return kills
    raise AssertionError("no run comes through")


def test_kill_and_resume_at_any_moment_leave_each_file_whole_and_its_owners(start, unisono, server, tmp_path, lines):
    rows = [f"{server.url}/items/{number}" for number in range(400)]
    (tmp_path / "in.csv").write_text(
        "url,name\n" + "".join(f"{url},{n // 2 * 2 if n % 10 == 1 else n}\n" for n, url in enumerate(rows))
    )
    words = [
        "fetch",
        "--from",
        "in.csv",
        "--save",
        "out/{name}",
        "-o",
        "r.jsonl",
        "--resume",
        "-q",
        "-j",
        "4",
        "--rate",
        "400/s",
    ]
    assert kill_and_resume(start, words, random.Random(7)) >= 2
    outcomes = {row["row"]: row for row in lines(tmp_path / "r.jsonl")}
    assert len(outcomes) == 400
    for number, row in outcomes.items():
        expected = "failed" if number % 10 == 1 else "ok"
        assert (number, row["outcome"]) == (number, expected), row
        if expected == "ok":
            assert json.loads((tmp_path / "out" / str(number)).read_text())["id"] == number
    assert listing(tmp_path / "out") == sorted(str(n) for n in range(400) if n % 10 != 1)
    # A run that was killed as it ended may have left what the next one takes away.
    unisono(*words)
    assert [name for name in listing(tmp_path) if not name.startswith("out/")] == ["in.csv", "r.jsonl"]


def test_commands_that_bear_it_run_again_after_a_kill_and_replace_their_own_files(start, unisono, tmp_path, lines):
    words = ["each", "-q", "-j4", "--idempotent", "--save", "out/{}", "-o", "r.jsonl", "--resume"]
    words += ["sh", "-c", "echo $1; echo e$1 >&2; sleep 0.01", "sh", "{}", ":::", *map(str, range(150))]
    assert kill_and_resume(start, words, random.Random(11)) >= 1
    rows = lines(tmp_path / "r.jsonl")
    assert [row["outcome"] for row in rows] == ["ok"] * 150, errors(rows)
    for number in range(150):
        assert (tmp_path / f"out/{number}").read_text() == f"{number}\n"
        assert (tmp_path / f"out/{number}.stderr").read_text() == f"e{number}\n"
    unisono(*words)
    assert [name for name in listing(tmp_path) if "part" in name or "saves" in name] == []


def test_what_was_changed_since_a_kill_is_not_ours_any_more(start, unisono, server, tmp_path, lines):
    (tmp_path / "in").write_text("".join(f"{server.url}/{path}\n" for path in ("items/1", "held/2")))
    words = ["fetch", "--from", "in", "--save", "out/{line}", "-o", "r.jsonl", "--resume", "-q"]
    process = start(*words)
    server.wait_until(lambda: (tmp_path / "out").exists() and listing(tmp_path / "out"))
    process.kill()
    process.communicate()
    # As if its line had not been written: the run was killed between the two.
    (tmp_path / "r.jsonl").write_text("")
    (ours,) = (tmp_path / "out").iterdir()
    ours.write_text("by hand")
    server.gate.set()
    assert unisono(*words).returncode == 1
    assert ours.read_text() == "by hand"
    assert "is there already" in errors(lines(tmp_path / "r.jsonl"))[0]


def wait_for(path: Path) -> None:
    until(path.exists)


def interrupt_after_the_first(start, folder: Path, words: list[str]) -> None:
    """Kills a run whose second command is under way, and takes away the line of the first.

    It is as if the run had been killed between the files of the first and its line.
    """
    process = start(*words)
    wait_for(folder / "began")
    process.kill()
    process.communicate()
    (folder / "r.jsonl").write_text("")


# What is in `halt` is what its commands do first when it is there.
IN_DOUBT = """
[ ! -e halt ] || . ./halt
[ "$1" = a ] || { touch began; while :; do sleep 1; done; }
echo "$1"
[ -e quiet ] || echo "e$1" >&2
"""
SAVE_IN_DOUBT = ["each", "-q", "-j1", "--save", "out/{}", "-o", "r.jsonl", "--resume"]
RUN_IN_DOUBT = ["--", "sh", "-c", IN_DOUBT, "sh", "{}", ":::", "a", "b"]


def run_in_doubt(*options: str) -> list[str]:
    """The same run again, over its first item alone: the other one is not in this input, so it stays as it is."""
    return [*SAVE_IN_DOUBT[:-1], *options, *RUN_IN_DOUBT[:-1]]


def row_in_doubt(lines, folder: Path) -> dict:
    return next(row for row in lines(folder / "r.jsonl") if row["item"] == "a")


def test_a_row_in_doubt_says_what_it_has_saved_and_keeps_its_names(start, unisono, tmp_path, lines):
    interrupt_after_the_first(start, tmp_path, SAVE_IN_DOUBT + RUN_IN_DOUBT)
    assert unisono(*SAVE_IN_DOUBT, *RUN_IN_DOUBT).returncode == 1
    rows = {row["item"]: row for row in lines(tmp_path / "r.jsonl")}
    assert [rows[item]["outcome"] for item in "ab"] == ["ambiguous", "ambiguous"]
    assert [rows[item].get("saved") for item in "ab"] == ["out/a", None]
    assert [rows[item].get("saved_stderr") for item in "ab"] == ["out/a.stderr", None]
    assert unisono(*run_in_doubt("--retry-ambiguous")).returncode == 1
    rows = {row["item"]: row["outcome"] for row in lines(tmp_path / "r.jsonl")}
    assert rows == {"a": "ok", "b": "ambiguous"}


def test_a_row_that_is_refused_still_says_what_it_has_saved_and_replaces_it_later(start, unisono, tmp_path, lines):
    put(tmp_path, {"quiet": ""})
    interrupt_after_the_first(start, tmp_path, SAVE_IN_DOUBT + RUN_IN_DOUBT)
    put(tmp_path, {"out/a.stderr": "mine"})
    # Whether its line or the log of the killed run knows it makes no difference.
    for option in ("--resume", "--retry-ambiguous", "--retry-ambiguous"):
        assert unisono(*run_in_doubt(option)).returncode == 1
        row = row_in_doubt(lines, tmp_path)
        kind = "interrupted" if option == "--resume" else "save"
        assert (row["outcome"], row["error"]["kind"], row["saved"]) == ("ambiguous", kind, "out/a")
        assert "saved_stderr" not in row
        assert (tmp_path / "out/a.stderr").read_text() == "mine"
    (tmp_path / "out/a.stderr").unlink()
    unisono(*run_in_doubt("--retry-ambiguous"))
    row = row_in_doubt(lines, tmp_path)
    assert (row["outcome"], row["saved"]) == ("ok", "out/a")


@pytest.mark.parametrize("is_stopped", [True, False])
def test_a_row_whose_next_run_saves_nothing_keeps_what_it_has_saved(start, unisono, tmp_path, lines, is_stopped):
    interrupt_after_the_first(start, tmp_path, SAVE_IN_DOUBT + RUN_IN_DOUBT)
    assert unisono(*run_in_doubt("--resume")).returncode == 1
    again = run_in_doubt("--retry-ambiguous")
    if is_stopped:
        put(tmp_path, {"halt": "touch halted; while :; do sleep 1; done"})
        process = start(*again)
        wait_for(tmp_path / "halted")
        process.terminate()
        process.communicate()
    else:
        # Without `--save`, what it prints goes to its line, and the files are still there.
        put(tmp_path, {"halt": "exit 3"})
        assert unisono(*[word for word in again if word not in ("--save", "out/{}")]).returncode == 1
    row = row_in_doubt(lines, tmp_path)
    assert (row["outcome"], row["saved"], row["saved_stderr"]) == ("ambiguous", "out/a", "out/a.stderr")
    for name in ("halt", "out/a"):
        (tmp_path / name).unlink()
    put(tmp_path, {"quiet": ""})
    unisono(*run_in_doubt("--retry-ambiguous"))
    row = row_in_doubt(lines, tmp_path)
    assert (row["outcome"], row["saved"]) == ("ok", "out/a"), row
    assert listing(tmp_path / "out") == ["a"]


def test_a_row_whose_next_request_fails_keeps_what_its_row_has_saved(start, unisono, server, tmp_path, lines):
    (tmp_path / "in").write_text("".join(f"{server.url}/{path}\n" for path in ("items/1", "held/2")))
    words = ["fetch", "-q", "-j1", "--from", "in", "--data", "x", "-o", "r.jsonl"]
    process = start(*words, "--resume", "--save", "out/{line}")
    server.wait_until(lambda: any("held" in path for path in server.paths()))
    process.kill()
    process.communicate()
    # As if its line had not been written: the run was killed between the two.
    (tmp_path / "r.jsonl").write_text("")
    server.gate.set()
    (ours,) = listing(tmp_path)[1:2]
    length = (tmp_path / ours).stat().st_size
    again = ["--retry-ambiguous", "--save", "out/{line}"]
    unanswered = ["--proxy", "http://127.0.0.1:1", "--retries", "0"]
    for options in (["--resume", *again[1:]], [*again, *unanswered], [*again[:1], *unanswered]):
        assert unisono(*words, *options).returncode == 1
        row = next(row for row in lines(tmp_path / "r.jsonl") if row["row"] == 0)
        assert (row["outcome"], row.get("saved"), row.get("saved_bytes")) == ("ambiguous", ours, length), options
    assert unisono(*words, *again).returncode == 0
    rows = lines(tmp_path / "r.jsonl")
    assert [row["outcome"] for row in rows] == ["ok", "ok"], errors(rows)


def test_a_part_that_a_killed_run_has_left_goes_and_one_that_is_in_use_stays(unisono, tmp_path, server):
    fcntl = pytest.importorskip("fcntl")
    put(tmp_path, {"out/.unisono-0123456789abcdef.part": "left", "out/.unisono-fedcba9876543210.part": "in use"})
    with (tmp_path / "out/.unisono-fedcba9876543210.part").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert unisono("fetch", server.url + "/items/1", "--save", "out/a").returncode == 0
        assert listing(tmp_path / "out") == [".unisono-fedcba9876543210.part", "a"]


# What may be replaced.


def test_a_file_that_is_not_ours_is_left_alone_and_nothing_is_sent(unisono, server, tmp_path, lines):
    put(tmp_path, {"out/1": "mine"})
    words = ["fetch", server.url + "/items/1", "--save", "out/1"]
    done = unisono(*words)
    assert done.returncode == 1
    (row,) = lines(done.stdout)
    assert (row["error"]["kind"], row["effect"]) == ("save", "none")
    assert "--overwrite" in row["error"]["message"]
    assert (server.requests, (tmp_path / "out/1").read_text()) == ([], "mine")
    assert unisono(*words, "--overwrite").returncode == 0
    assert json.loads((tmp_path / "out/1").read_text())["id"] == 1


def test_a_file_that_appears_while_its_row_runs_is_left_alone(start, server, tmp_path):
    process = start("fetch", server.url + "/held/1", "--data", "x", "--save", "out/1")
    server.wait_until(lambda: server.requests)
    put(tmp_path, {"out/1": "mine"})
    server.gate.set()
    (row,) = map(json.loads, process.communicate()[0].splitlines())
    assert (row["outcome"], row["error"]["kind"], row["effect"]) == ("failed", "save", "done")
    assert (tmp_path / "out/1").read_text() == "mine"
    assert listing(tmp_path / "out") == ["1"]


def test_overwrite_with_resume_concerns_saved_files_alone(unisono, server, tmp_path, lines):
    words = ["fetch", "--from", "in.csv", server.url + "/items/{id}", "--save", "out/{id}", "-o", "r.jsonl"]
    (tmp_path / "in.csv").write_text("id\n1\n2\n")
    put(tmp_path, {"out/2": "mine"})
    assert unisono(*words).returncode == 1
    assert unisono(*words, "--retry-failed").returncode == 1
    assert (tmp_path / "out/2").read_text() == "mine"
    assert unisono(*words, "--retry-failed", "--overwrite").returncode == 0
    assert json.loads((tmp_path / "out/2").read_text())["id"] == 2
    assert sorted(server.paths()) == ["/items/1", "/items/2"]


@pytest.mark.parametrize("words", [["--overwrite"], ["--overwrite", "--resume", "-o", "r.jsonl"]])
def test_overwrite_without_anything_to_replace_is_a_mistake(unisono, server, words):
    done = unisono("fetch", server.url + "/items/1", *words)
    assert done.returncode == 2
    assert "--overwrite" in done.stderr
    assert server.requests == []


def test_links_stay_and_what_they_lead_to_is_replaced_whole(unisono, server, tmp_path):
    put(tmp_path, {"far/real": "old", "other": "x"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").symlink_to("../far/real")
    (tmp_path / "out/b").symlink_to("../far/new")
    os.link(tmp_path / "other", tmp_path / "out/c")
    (tmp_path / "far/real").chmod(0o640)
    (tmp_path / "in.csv").write_text("id\na\nb\nc\n")
    words = ["fetch", "--from", "in.csv", server.url + "/items/{id}", "--save", "out/{id}", "-q", "--overwrite"]
    assert unisono(*words).returncode == 0
    assert [os.readlink(tmp_path / "out" / name) for name in "ab"] == ["../far/real", "../far/new"]
    assert [json.loads((tmp_path / "far" / name).read_text())["id"] for name in ("real", "new")] == ["a", "b"]
    assert stat.S_IMODE((tmp_path / "far/real").stat().st_mode) == 0o640, "it keeps the permissions that it had"
    assert (tmp_path / "other").read_text() == "x", "the other names of a file keep what they had"
    assert json.loads((tmp_path / "out/c").read_text())["id"] == "c"


def test_a_pipe_gets_whole_bodies_one_after_the_other_and_stays_a_pipe(start, server, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    process = start("fetch", server.url + "/big/{1..3}", "--save", "pipe", "-q")
    with (tmp_path / "pipe").open() as pipe:
        bodies = pipe.read()
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    decoder = json.JSONDecoder()
    seen = set()
    while bodies:
        value, end = decoder.raw_decode(bodies)
        seen.add(value["id"])
        bodies = bodies[end:]
    assert seen == {1, 2, 3}
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_many_commands_write_to_one_pipe_and_what_they_print_to_standard_error_stays_in_the_results(
    start, tmp_path, lines
):
    os.mkfifo(tmp_path / "pipe")
    words = ["each", "-q", "--save", "pipe", "-o", "r.jsonl", "sh", "-c", "echo out-$1; echo err-$1 >&2", "sh", "{}"]
    process = start(*words, ":::", "a", "b", "c")
    with (tmp_path / "pipe").open() as pipe:
        assert sorted(pipe.read().split()) == ["out-a", "out-b", "out-c"]
    assert process.wait(60) == 0, process.communicate()
    rows = {row["item"]: row for row in lines(tmp_path / "r.jsonl")}
    assert {item: (row["saved"], row["stderr"]) for item, row in rows.items()} == {
        item: ("pipe", f"err-{item}\n") for item in "abc"
    }
    assert listing(tmp_path) == ["pipe", "r.jsonl"]


def test_a_pipe_that_nobody_reads_does_not_outlast_its_row(unisono, server, tmp_path, lines):
    os.mkfifo(tmp_path / "pipe")
    done = unisono("fetch", server.url + "/items/1", "--save", "pipe", "--timeout", "300ms", "--retries", "0")
    (row,) = lines(done.stdout)
    assert (row["outcome"], row["error"]["kind"], row["effect"]) == ("failed", "save", "done")


def test_a_row_whose_pipe_has_lost_its_reader_is_done_and_not_saved_at_once(start, server, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    words = [
        "fetch",
        server.url + "/big/{1..9}",
        "--data",
        "x",
        "--save",
        "pipe",
        "-q",
        "-o",
        "r.jsonl",
        "--limit",
        "1",
    ]
    process = start(*words)
    with (tmp_path / "pipe").open("rb", buffering=0) as pipe:
        assert pipe.read(1)
    assert process.wait(60) == 1
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    ends = [(row["outcome"], row["effect"], row.get("error", {}).get("kind")) for row in rows]
    assert set(ends) <= {("ok", "done", None), ("failed", "done", "save")}, ends
    assert len(ends) == 9 and ends[-1] == ("failed", "done", "save")


def test_a_command_whose_pipe_nobody_reads_can_be_stopped(start, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    words = ["each", "-q", "--grace", "100ms", "--save", "pipe", "-o", "r.jsonl", "sh", "-c", "touch ran", ":::", "a"]
    process = start(*words)
    until((tmp_path / "ran").exists)
    process.terminate()
    assert process.wait(30) == 143
    (row,) = map(json.loads, (tmp_path / "r.jsonl").read_text().splitlines())
    assert (row["error"]["kind"], row["effect"]) == ("save", "done")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes nodes of devices")
def test_a_device_is_written_to_and_stays_one(unisono, server, tmp_path, lines):
    # Our own, in our own folder: 1, 3 takes everything, and 1, 7 is always full.
    try:
        for name, minor in (("null", 3), ("full", 7)):
            os.mknod(tmp_path / name, 0o600 | stat.S_IFCHR, os.makedev(1, minor))
            (tmp_path / name).open("w").close()
    except PermissionError:
        pytest.skip("no devices may be made or opened here")
    done = unisono("fetch", server.url + "/items/{1..3}", "--save", "null", "-q")
    assert [row["saved"] for row in lines(done.stdout)] == ["null"] * 3
    done = unisono("fetch", server.url + "/orders", "--json", '{"order": 1}', "--save", "full")
    (row,) = lines(done.stdout)
    assert (row["outcome"], row["error"]["kind"], row["effect"]) == ("failed", "save", "done")
    assert all(stat.S_ISCHR((tmp_path / name).stat().st_mode) for name in ("null", "full"))


@pytest.mark.parametrize("name", ["folder", "folder/", "file/x", "circle", "nowhere/x", "x" * 300])
def test_what_cannot_be_a_file_is_refused_before_anything_is_sent(unisono, server, tmp_path, lines, name):
    put(tmp_path, {"file": "mine"})
    (tmp_path / "folder").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "nowhere").symlink_to("gone")
    done = unisono("fetch", server.url + "/items/1", "--save", name, "--overwrite")
    (row,) = lines(done.stdout)
    assert (row["error"]["kind"], row["effect"], row["attempts"]) == ("save", "none", 0)
    assert server.requests == []


def test_a_folder_that_cannot_be_written_to_is_found_before_anything_is_sent(unisono, server, tmp_path):
    (tmp_path / "out").mkdir(mode=0o500)
    words = ["fetch", server.url + "/items/1", "--save", "out/a"]
    if os.geteuid() == 0:
        # Without its capabilities nothing more is allowed to root than to any user.
        bare = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", COMMAND, *words]
        done = subprocess.run(bare, cwd=tmp_path, capture_output=True, check=False)
    else:
        done = unisono(*words)
    assert done.returncode == 1
    assert server.requests == []


# How files come to be.


def test_files_and_folders_get_the_modes_that_the_umask_leaves(start, server, tmp_path):
    process = start("fetch", server.url + "/items/1", "--save", "a/b/c", umask=0o027)
    process.communicate()
    assert process.returncode == 0
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "a/b/c")]
    assert [oct(mode) for mode in modes] == ["0o750", "0o750", "0o640"]


def test_a_body_that_does_not_come_whole_leaves_nothing_and_a_kill_neither(unisono, start, server, tmp_path):
    assert unisono("fetch", server.url + "/cut", "--save", "out/a", "--retries", "0").returncode == 1
    process = start("fetch", server.url + "/cut", "--save", "out/a", "--retries", "9")
    server.wait_until(lambda: server.counts["/cut"] >= 2)
    process.kill()
    process.communicate()
    assert listing(tmp_path) == []


def test_a_file_that_grows_too_large_for_the_disk_fails_its_row_and_leaves_nothing(start, server, tmp_path):
    # A limit of the process stands in for a full disk; its signal is ignored, so that writing fails as it does there.
    script = f"trap '' XFSZ; ulimit -f 64; exec '{Path(sys.executable).with_name('unisono')}' \"$@\""
    words = ["fetch", server.url + "/big/1", "--data", "x", "--save", "out/a"]
    done = subprocess.run(
        ["bash", "-c", script, "unisono", *words], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    (row,) = map(json.loads, done.stdout.splitlines())
    assert (row["outcome"], row["error"]["kind"], row["effect"]) == ("failed", "save", "done")
    assert listing(tmp_path) == []
    assert len(server.requests) == 1


def test_a_post_that_was_done_and_could_not_be_saved_is_not_sent_again(start, unisono, server, tmp_path, lines):
    process = start("fetch", server.url + "/held/1", "--data", "x", "--save", "out/1", "-o", "r.jsonl")
    server.wait_until(lambda: server.requests)
    put(tmp_path, {"out/1": "mine"})
    server.gate.set()
    process.communicate()
    words = ["fetch", server.url + "/held/1", "--data", "x", "--save", "out/1", "-o", "r.jsonl", "--retry-failed"]
    assert unisono(*words, "--overwrite").returncode == 1
    assert len(server.requests) == 1


def test_names_that_are_no_text_are_told_as_they_are(unisono, tmp_path, lines):
    template = os.fsdecode(b"out/\xff-{}")
    words = ["each", "-q", "--save", template, "-o", "r.jsonl", "--retry-failed", "sh", "-c", "exit 1", ":::", "a"]
    for _ in range(2):
        assert unisono(*words).returncode == 1
        (row,) = lines(tmp_path / "r.jsonl")
        assert (row["outcome"], row["error"]["kind"]) == ("failed", "exit")
    assert os.listdir(os.fsencode(tmp_path / "out")) == [b"\xff-a"]
    assert base64.b64decode(row["saved_base64"]) == b"out/\xff-a"


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_a_stop_ends_is_cancelled_and_runs_again_also_where_what_it_prints_is_saved(
    start, unisono, tmp_path, lines, stop
):
    script = 'echo begun >>"begun-$1"; [ -e done ] || sleep 60; echo "$1"'
    words = ["each", "-q", "-j", "2", "--grace", "0s", "-o", "r.jsonl", "--save", "out/{}"]
    words += ["--resume", "--", "sh", "-c", script, "sh", "{}", ":::", "a", "b"]
    process = start(*words)
    until(lambda: (tmp_path / "begun-a").exists() and (tmp_path / "begun-b").exists())
    process.send_signal(stop)
    process.communicate()
    ends = [(line["outcome"], line["effect"], line["error"]["kind"]) for line in lines(tmp_path / "r.jsonl")]
    assert ends == [("cancelled", "none", "cancelled")] * 2
    (tmp_path / "done").touch()
    assert unisono(*words).returncode == 0
    assert [(tmp_path / "out" / name).read_text() for name in "ab"] == ["a\n", "b\n"]
