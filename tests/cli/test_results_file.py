"""A results file is a file and not a name: links, renames, copies, and what happens to it while it is written."""

import base64
import json
import os
import re
import resource
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

import unisono as module
from support.installed import COMMAND
from support.scripted_server import ScriptedServer, answer

ROWS = 6


def posts(server) -> int:
    with server.lock:
        return sum(method == "POST" for method, *_ in server.requests)


def words(server, *more: object) -> list[object]:
    """POSTs of which the server holds back the last three until its gate opens."""
    addresses = [f"{server.url}/items/{row}" for row in range(3)] + [f"{server.url}/held/{row}" for row in range(3)]
    return ["fetch", *addresses, "-X", "POST", "--limit", "6", *more]


def kill_midway(server, start, out: object) -> None:
    """A run of six POSTs that is killed when three are done and written, and three are under way."""
    process = start(*words(server, "-o", out))
    path = Path(process.args[-1])
    path = path if path.is_absolute() else Path(start.folder) / path

    def is_midway() -> bool:
        return posts(server) == ROWS and path.exists() and path.read_bytes().count(b"\n") == 3

    server.wait_until(is_midway)
    process.send_signal(signal.SIGKILL)
    process.wait()
    server.gate.set()


@pytest.fixture
def start(start, tmp_path):
    start.folder = tmp_path
    return start


def outcomes(lines, path: Path) -> list[str]:
    return sorted(line["outcome"] for line in lines(path))


ENDED = ["ambiguous"] * 3 + ["ok"] * 3


def symbolic(folder: Path) -> tuple[str, str]:
    (folder / "link.jsonl").symlink_to("r.jsonl")
    return "r.jsonl", "link.jsonl"


def dangling(folder: Path) -> tuple[str, str]:
    (folder / "deep").mkdir()
    (folder / "link.jsonl").symlink_to("deep/target.jsonl")
    return "link.jsonl", "deep/target.jsonl"


def folder_link(folder: Path) -> tuple[str, str]:
    (folder / "real").mkdir()
    (folder / "linked").symlink_to("real")
    return "real/r.jsonl", "linked/r.jsonl"


def spelled(folder: Path) -> tuple[str, str]:
    (folder / "d").mkdir()
    return "r.jsonl", "d/.././r.jsonl"


def absolute(folder: Path) -> tuple[str, str]:
    return "r.jsonl", str(folder / "r.jsonl")


NAMES = [symbolic, dangling, folder_link, spelled, absolute]


@pytest.mark.parametrize("names", NAMES)
def test_a_second_run_under_any_name_is_refused_with_the_process_of_the_first(server, unisono, start, tmp_path, names):
    one, other = names(tmp_path)
    process = start(*words(server, "-o", one))
    server.wait_until(lambda: posts(server) == ROWS)
    for flag in ("--resume", "--retry-ambiguous", "--overwrite", "--adopt"):
        done = unisono(*words(server, "-o", other, flag))
        assert done.returncode == 2, done.stderr
        assert f"in use by another run (process {process.pid})" in done.stderr
    assert posts(server) == ROWS
    server.gate.set()
    assert process.wait() == 0


@pytest.mark.parametrize("names", NAMES)
def test_what_was_killed_under_one_name_is_resumed_under_another(server, unisono, start, lines, tmp_path, names):
    one, other = names(tmp_path)
    kill_midway(server, start, one)
    assert unisono(*words(server, "-o", other, "--resume")).returncode == 1
    assert outcomes(lines, tmp_path / other) == ENDED
    assert posts(server) == ROWS
    assert not list(tmp_path.rglob("*.run"))


def test_a_file_that_was_renamed_after_a_kill_is_known_again(server, unisono, start, lines, tmp_path):
    kill_midway(server, start, "r.jsonl")
    (tmp_path / "r.jsonl").rename(tmp_path / "s.jsonl")
    assert unisono(*words(server, "-o", "s.jsonl", "--resume")).returncode == 1
    assert outcomes(lines, tmp_path / "s.jsonl") == ENDED
    assert posts(server) == ROWS
    assert sorted(os.listdir(tmp_path)) == ["s.jsonl"]


def test_two_files_that_have_changed_names_each_find_their_notes(server, unisono, start, lines, tmp_path):
    kill_midway(server, start, "r.jsonl")
    (tmp_path / "r.jsonl").rename(tmp_path / "x")
    # Another run takes the old name, before the new one was looked at.
    assert unisono("fetch", server.url + "/items/9", "-o", "r.jsonl").returncode == 0
    assert unisono("fetch", server.url + "/items/9", "-o", "r.jsonl", "--resume").returncode == 0
    assert unisono(*words(server, "-o", "x", "--resume")).returncode == 1
    assert outcomes(lines, tmp_path / "x") == ENDED
    assert posts(server) == ROWS


def test_a_copy_of_what_has_not_ended_is_refused_until_it_is_adopted(server, unisono, start, lines, tmp_path):
    kill_midway(server, start, "r.jsonl")
    copy = tmp_path / "copy.jsonl"
    shutil.copy(tmp_path / "r.jsonl", copy)
    before = copy.read_bytes()
    for flag in ("--resume", "--retry-failed", "--retry-ambiguous"):
        done = unisono(*words(server, "-o", copy, flag))
        assert done.returncode == 2
        assert "has not ended" in done.stderr and "--adopt" in done.stderr
        assert copy.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["copy.jsonl", "r.jsonl", "r.jsonl.run"]
    assert unisono(*words(server, "-o", copy, "--adopt")).returncode == 1
    assert outcomes(lines, copy) == ENDED
    assert "notes" in lines(copy)[-1]["error"]["message"]
    # The original still knows what it knew.
    assert unisono(*words(server, "-o", "r.jsonl", "--resume")).returncode == 1
    assert outcomes(lines, tmp_path / "r.jsonl") == ENDED
    assert posts(server) == ROWS
    # Now that both have ended, each may be taken anywhere.
    assert unisono(*words(server, "-o", copy, "--resume")).returncode == 1
    assert posts(server) == ROWS


def test_a_copy_with_its_run_file_is_a_copy_all_the_same(server, unisono, start, tmp_path):
    (tmp_path / "a").mkdir()
    kill_midway(server, start, "a/r.jsonl")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    done = unisono(*words(server, "-o", "b/r.jsonl", "--resume"))
    assert done.returncode == 2 and "--adopt" in done.stderr
    assert unisono(*words(server, "-o", "b/r.jsonl", "--adopt")).returncode == 1
    assert posts(server) == ROWS


def test_results_whose_run_file_was_lost_are_adopted_and_what_can_be_repeated_runs(
    server, unisono, start, lines, tmp_path
):
    kill_midway(server, start, "r.jsonl")
    (tmp_path / "r.jsonl.run").unlink()
    assert unisono(*words(server, "-o", "r.jsonl", "--resume")).returncode == 2
    # Stopped before it has come to its end, it still knows that notes are lost.
    stopped = unisono(*words(server, "-o", "r.jsonl", "--adopt", "--max-failures", "1"))
    assert stopped.returncode != 0
    assert unisono(*words(server, "-o", "r.jsonl", "--resume")).returncode == 1
    assert outcomes(lines, tmp_path / "r.jsonl") == ENDED
    assert posts(server) == ROWS
    assert unisono(*words(server, "-o", "r.jsonl", "--retry-ambiguous")).returncode == 0
    assert posts(server) == ROWS + 3


def test_what_has_ended_may_be_copied_moved_and_resumed_anywhere(server, unisono, lines, tmp_path):
    few = ["fetch", *(f"{server.url}/items/{row}" for row in range(3)), "-X", "POST"]
    assert unisono(*few, "-o", "r.jsonl").returncode == 0
    first = lines(tmp_path / "r.jsonl")[0]
    assert first["open"] == 0 and re.fullmatch("[0-9a-f]{16}", first["run"])
    (tmp_path / "d").mkdir()
    shutil.copy(tmp_path / "r.jsonl", tmp_path / "d/copy.jsonl")
    (tmp_path / "r.jsonl").rename(tmp_path / "moved.jsonl")
    for path in ("d/copy.jsonl", "moved.jsonl"):
        assert unisono(*few, "-o", path, "--resume").returncode == 0
    assert posts(server) == 3


def test_a_file_with_several_hard_links_is_refused_and_says_why(server, unisono, tmp_path):
    few = ["fetch", server.url + "/items/1", "-o", "r.jsonl"]
    assert unisono(*few).returncode == 0
    os.link(tmp_path / "r.jsonl", tmp_path / "other.jsonl")
    for flag in ("--resume", "--overwrite"):
        done = unisono(*few, flag)
        assert done.returncode == 2
        assert "2 names (hard links)" in done.stderr and "copy it" in done.stderr
    (tmp_path / "other.jsonl").unlink()
    assert unisono(*few, "--resume").returncode == 0


@pytest.mark.parametrize("how", ["removed", "replaced", "renamed"])
def test_a_file_that_is_taken_away_while_it_is_written_ends_the_run_with_125(
    server, unisono, start, lines, tmp_path, how
):
    process = start(*words(server, "-o", "r.jsonl"))
    path = tmp_path / "r.jsonl"
    server.wait_until(lambda: path.exists() and path.read_bytes().count(b"\n") == 3)
    if how == "removed":
        path.unlink()
    elif how == "replaced":
        (tmp_path / "other").write_text("precious\n")
        (tmp_path / "other").rename(path)
    else:
        path.rename(tmp_path / "away.jsonl")
    server.gate.set()
    _, said = process.communicate()
    assert process.returncode == 125, said
    if how == "renamed":
        assert "was renamed" in said and "could not be kept" not in said
        assert unisono(*words(server, "-o", "away.jsonl", "--resume")).returncode == 0
        assert outcomes(lines, tmp_path / "away.jsonl") == ["ok"] * 6
    else:
        assert "was removed" in said and "6 outcomes could not be kept" in said
    if how == "replaced":
        assert path.read_text() == "precious\n"
    if how == "removed":
        # What had been started is noted still.
        assert unisono(*words(server, "-o", "r.jsonl", "--resume")).returncode == 1
        assert outcomes(lines, path) == ["ambiguous"] * 6
    assert posts(server) == ROWS


PLANTED = [".run.new", ".compact", ".sorted", ".tmp"]


def test_links_that_somebody_has_planted_are_neither_followed_nor_emptied(server, unisono, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious\n")
    for suffix in PLANTED:
        (tmp_path / f"r.jsonl{suffix}").symlink_to(precious)
    few = [
        "fetch",
        server.url + "/status/500",
        server.url + "/items/1",
        "-o",
        "r.jsonl",
        "--retries",
        "0",
        "--keep-order",
    ]
    for flag in ([], ["--retry-failed"], ["--resume"]):
        assert unisono(*few, *flag).returncode == 1
    assert precious.read_text() == "precious\n"
    (tmp_path / "s.jsonl.run").symlink_to(precious)
    done = unisono("fetch", server.url + "/items/1", "-o", "s.jsonl")
    assert done.returncode != 0 and "s.jsonl.run" in done.stderr
    assert precious.read_text() == "precious\n"
    assert (tmp_path / "s.jsonl.run").is_symlink() and not (tmp_path / "s.jsonl").exists()


def test_a_broken_line_is_named_and_not_skipped(server, unisono, tmp_path):
    few = ["fetch", *(f"{server.url}/items/{row}" for row in range(3)), "-X", "POST", "-o", "r.jsonl", "--limit", "1"]
    assert unisono(*few).returncode == 0
    path = tmp_path / "r.jsonl"
    whole = path.read_bytes().splitlines(keepends=True)
    broken = [whole[0], whole[1].replace(b'"body":{', b'"body":{{'), whole[2]]
    path.write_bytes(b"".join(broken))
    done = unisono(*few, "--resume")
    assert done.returncode != 0
    assert f"damaged at line 2 (byte {len(whole[0])})" in done.stderr
    assert path.read_bytes() == b"".join(broken)
    # The last line as well, since a kill never leaves its line feed. Without that its row was done, as far as it can be read.
    path.write_bytes(whole[0] + whole[1] + whole[2].replace(b'"body":{', b'"body":{{'))
    done = unisono(*few, "--resume")
    assert done.returncode == 125 and "damaged at line 3" in done.stderr
    path.write_bytes(whole[0] + whole[1] + whole[2].replace(b'"body":{', b'"body":{{').removesuffix(b"\n"))
    assert unisono(*few, "--resume").returncode == 1
    assert [json.loads(line)["outcome"] for line in path.read_bytes().splitlines()] == ["ok", "ok", "ambiguous"]
    assert posts(server) == 3


@pytest.mark.parametrize(("row", "what"), [(17179869183, "row 17179869183"), (2**53 + 1, "line 2"), (2**64, "line 2")])
def test_an_absurd_row_number_costs_no_memory_and_is_named(server, unisono, tmp_path, row, what):
    few = ["fetch", server.url + "/items/1", "-o", "r.jsonl"]
    assert unisono(*few).returncode == 0
    line = f'{{"row":{row},"id":"x","fp":"00000000000000ff","outcome":"ok","effect":"done","repeatable":true,"x":1}}\n'
    with (tmp_path / "r.jsonl").open("a") as file:
        file.write(line)

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))

    done = unisono(*few, "--resume", preexec_fn=bounded)
    assert done.returncode in (2, 125)
    assert what in done.stderr, done.stderr


NASTY = ['\\q"', "\x85\u2028\u2029\x7f", "'\t\r", "é😀", "\ufeff\ufffe"]


@pytest.mark.parametrize("end", ["?x=\\q", "?x=%22\\", "/\\\\d", '?q="', "?<>`{}|^"])
def test_a_redirect_to_any_address_makes_a_line_that_is_json_and_the_post_is_sent_once(unisono, lines, tmp_path, end):
    see = answer(303, f"Location: /o/7{end}")
    with ScriptedServer({"/o": [see]}) as server:
        for flag in ("--resume", "--resume", "--retry-failed"):
            unisono("fetch", server.url + "/o", "-X", "POST", "--include-headers", "-o", "o.jsonl", flag)
        [line] = lines(tmp_path / "o.jsonl")
        assert line["effect"] == "done"
        assert server.count("POST") == 1


def test_whatever_a_command_says_in_whatever_bytes_is_read_back(unisono, lines, tmp_path):
    bytes_of_all_kinds = bytes(range(1, 256))
    (tmp_path / "all").write_bytes(bytes_of_all_kinds)
    items = [*NASTY, b"\xff\xc3(\\"]
    words = ["each", "-o", "e.jsonl", "--", "sh", "-c", 'printf %s "$1"; cat all >&2', "sh", "{}", ":::", *items]
    done = subprocess.run([COMMAND, *words], cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    read = lines(tmp_path / "e.jsonl")
    assert len(read) == len(items)
    by_item = {line.get("item", line.get("item_base64")): line for line in read}
    assert set(NASTY) < set(by_item)
    assert all(base64.b64decode(line["stderr_base64"]) == bytes_of_all_kinds for line in read)
    # As Python reads it, and as a resume does: nothing runs again.
    assert [line["row"] for line in module.read_results(tmp_path / "e.jsonl")] == [line["row"] for line in read]
    before = (tmp_path / "e.jsonl").read_bytes()
    words.insert(1, "--resume")
    assert subprocess.run([COMMAND, *words], cwd=tmp_path, timeout=60, check=False).returncode == 0
    assert (tmp_path / "e.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "body", [b'{"half":"\\ud800"}', b"[" * 30_000, b"[" * 200 + b"]" * 200, b"1e999", b"\xff\\", b'"\xe2\x80\xa8"']
)
def test_whatever_a_server_sends_is_read_back(unisono, lines, tmp_path, body):
    with ScriptedServer({"/o": [answer(200, 'X: a\\"\xff', body=body)]}) as server:
        assert unisono("fetch", server.url + "/o", "--include-headers", "-o", "o.jsonl").returncode == 0
        [line] = (tmp_path / "o.jsonl").read_bytes().decode().removesuffix("\n").split("\n")
        assert json.loads(line)["outcome"] == "ok"
        assert [line["outcome"] for line in module.read_results(tmp_path / "o.jsonl")] == ["ok"]
        assert unisono("fetch", server.url + "/o", "--include-headers", "-o", "o.jsonl", "--resume").returncode == 0
        assert server.count("GET") == 1


@pytest.mark.parametrize("torn", [b'{"row":1,"id":"\xc3', b"\xff", b"[" * 100_000, b'{"row":1'])
def test_reading_leaves_out_a_torn_end_and_names_a_broken_line(tmp_path, torn):
    line = b'{"run":"00000000000000ff","open":1,"row":0,"id":"r0","outcome":"ok"}\n'
    path = tmp_path / "r.jsonl"
    path.write_bytes(line + torn)
    assert list(module.read_results(path)) == [{"row": 0, "id": "r0", "outcome": "ok"}]
    path.write_bytes(line + torn + b"\n" + line)
    with pytest.raises(module.UsageError, match=rf"line 2: .*byte {len(line)}\b"):
        list(module.read_results(path))


def killed_with_notes(start, server, tmp_path):
    """A run that was killed with two lines on the disk and two more orders on their way."""
    (tmp_path / "orders.jsonl").write_text(
        "".join(
            f'{{"url":"{server.url}/{kind}/{n}","json":{{"order":{n}}}}}\n'
            for n, kind in enumerate(["orders"] * 2 + ["held"] * 2)
        )
    )
    words = ["fetch", "--from", "orders.jsonl", "-o", "r.jsonl"]
    process = start(*words)
    server.wait_until(lambda: len(server.requests) == 4 and (tmp_path / "r.jsonl").read_text().count("\n") == 2)
    process.kill()
    process.wait()
    server.gate.set()
    return words


def posted(server):
    return sorted(path for method, path, _, _ in server.requests if method == "POST")


def test_an_open_file_that_has_lost_its_first_line_does_not_lose_its_notes(unisono, start, server, lines, tmp_path):
    words = killed_with_notes(start, server, tmp_path)
    text = (tmp_path / "r.jsonl").read_text()
    (tmp_path / "edited.jsonl").write_text(text.partition("\n")[2])
    (tmp_path / "edited.jsonl").rename(tmp_path / "r.jsonl")
    before = posted(server)
    done = unisono(*words, "--resume")
    assert done.returncode == 2
    assert "edited or replaced" in done.stderr
    assert "--adopt" in done.stderr
    assert unisono(*words, "--resume", "--adopt").returncode == 1
    assert posted(server) == before
    assert sorted(line["outcome"] for line in lines(tmp_path / "r.jsonl")) == ["ambiguous"] * 3 + ["ok"]


def test_a_copy_that_was_taken_with_its_notes_before_there_was_a_line_is_refused(unisono, start, server, tmp_path):
    words = ["fetch", f"{server.url}/held/{{1..2}}", "-X", "POST", "-o", "r.jsonl"]
    process = start(*words)
    server.wait_until(lambda: len(server.requests) == 2)
    process.kill()
    process.wait()
    server.gate.set()
    for suffix in ("", ".run"):
        (tmp_path / f"c.jsonl{suffix}").write_bytes((tmp_path / f"r.jsonl{suffix}").read_bytes())
    done = unisono(*words[:-1], "c.jsonl", "--resume")
    assert done.returncode == 2, done.stderr
    assert len(server.requests) == 2


@pytest.mark.parametrize("harm", ["cut", "damaged", "emptied", "taken out of"])
def test_a_run_file_that_was_cut_or_damaged_is_not_believed(unisono, start, server, lines, tmp_path, harm):
    words = killed_with_notes(start, server, tmp_path)
    path = tmp_path / "r.jsonl.run"
    notes = path.read_bytes()
    # The last two notes are of the orders that were on their way.
    harmed = {
        "cut": notes[:-80],
        "damaged": notes[:-10] + bytes([notes[-10] ^ 1]) + notes[-9:],
        "emptied": b"",
        "taken out of": notes[:-120] + notes[-40:],
    }
    path.write_bytes(harmed[harm])
    before = posted(server)
    for _ in range(2):
        done = unisono(*words, "--resume")
        assert done.returncode == (2 if harm == "emptied" else 125)
        assert "--adopt" in done.stderr and ("r.jsonl.run` is damaged" in done.stderr) == (harm != "emptied"), (
            done.stderr
        )
        assert path.read_bytes() == harmed[harm]
    assert unisono(*words, "--resume", "--adopt").returncode == 1
    assert unisono(*words, "--resume").returncode == 1
    assert posted(server) == before
    assert outcomes(lines, tmp_path / "r.jsonl") == ["ambiguous"] * 2 + ["ok"] * 2


def test_rows_that_could_not_be_noted_since_the_file_was_renamed_run_in_the_next_run(
    unisono, start, server, lines, tmp_path
):
    words = ["fetch", f"{server.url}/held/{{1..6}}", "-X", "POST", "-j", "2", "-o", "n.jsonl"]
    process = start(*words)
    server.wait_until(lambda: len(server.requests) == 2)
    (tmp_path / "n.jsonl").rename(tmp_path / "n2.jsonl")
    server.gate.set()
    process.communicate()
    assert process.returncode == 125
    assert unisono(*words[:-1], "n2.jsonl", "--resume").returncode == 0
    assert posted(server) == sorted(f"/held/{n}" for n in range(1, 7))
    assert len(lines(tmp_path / "n2.jsonl")) == 6


def test_no_command_starts_once_its_results_are_gone_though_it_was_noted_before(start, tmp_path):
    """Sixteen are noted together; the third takes the file away."""
    script = 'echo "$1" >> started; if [ "$1" = 3 ]; then mv r.jsonl moved.jsonl; fi'
    process = start("each", "-j", "1", "-o", "r.jsonl", "--", "sh", "-c", script, "sh", "{}", ":::", *range(1, 30))
    _, said = process.communicate()
    assert process.returncode == 125
    assert "renamed or replaced" in said
    assert (tmp_path / "started").read_text().split() == ["1", "2", "3"]


def test_results_that_other_programs_have_handled_are_read_and_brought_into_shape(server, unisono, tmp_path):
    path, other = tmp_path / "r.jsonl", tmp_path / "other.jsonl"
    words = ["fetch", f"{server.url}/items/{{1..4}}", "-X", "POST"]
    assert unisono(*words, "-o", path).returncode == 0
    whole = path.read_bytes()
    shapes = {
        "no line feed": whole.removesuffix(b"\n"),
        "CR LF": whole.replace(b"\n", b"\r\n"),
        "empty lines": b"\n" + whole + b"\n\n",
        "joined": whole.replace(b"\n", b"", 2),
    }
    for name, shape in shapes.items():
        other.write_bytes(shape)
        assert len(list(module.read_results(other))) == 4, name
        done = unisono(*words, "-o", other, "--resume")
        assert done.returncode == 0, (name, done.stderr)
        assert other.read_bytes() == whole, name
    assert posts(server) == 4


@pytest.mark.parametrize("length", [0, 300])
def test_results_that_are_cut_while_they_are_written_are_not_called_whole(unisono, start, server, tmp_path, length):
    words = ["fetch", f"{server.url}/held/{{1..6}}", "-X", "POST", "-j", "2", "-o", "r.jsonl"]
    process = start(*words[:1], f"{server.url}/orders?{{1..3}}", "--data", '{"order":1}', *words[1:])
    server.wait_until(lambda: len(server.requests) == 5 and (tmp_path / "r.jsonl").read_bytes().count(b"\n") == 3)
    os.truncate(tmp_path / "r.jsonl", length)
    server.gate.set()
    _, said = process.communicate()
    assert process.returncode == 125
    assert "`r.jsonl` was cut while it was written: it has " in said
    assert len(server.requests) == 5, "nothing more is started"
    assert (tmp_path / "r.jsonl").stat().st_size == length, "nothing is written behind a hole"
    again = [*words[:1], f"{server.url}/orders?{{1..3}}", "--data", '{"order":1}', *words[1:]]
    assert unisono(*again, "--resume").returncode == 1
    assert len(server.requests) == 9 and len(set(server.paths())) == 9, "what may have been done is not done again"
