"""docs/results.schema.json, held against lines of every kind of work that the installed command and package have written.

It is exact both ways: each line is valid, each member of the schema stands in some line, and a line with anything else is refused.
"""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from support.disks import small_disk
from support.host_servers import free_port
from support.installed import COMMAND
from support.processes import until
from support.server import Server

ROOT = Path(__file__).parents[1]
SCHEMA = json.loads((ROOT / "docs/results.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
ERROR_KINDS = re.findall(r'=> "(\w+)"', (ROOT / "crates/unisono-core/src/error_kind.rs").read_text())

# Some of these fill a disk of a mebibyte.
LARGE = b"x" * 20_000


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def command(folder, *words, **options):
    done = subprocess.run([COMMAND, *words], capture_output=True, timeout=120, cwd=folder, check=False, **options)
    assert done.returncode in (0, 1, 124, 125), done.stderr
    return done


def killed(folder, is_under_way, *words):
    """Starts a run, and kills it once its work is under way."""
    run = subprocess.Popen([COMMAND, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    until(is_under_way)
    run.kill()
    run.wait()


@pytest.fixture(scope="module")
def server():
    server = Server()
    server.bodies.update(text=b"no JSON", bytes=b"\xff\xfe\xfd", large=LARGE)
    yield server
    server.gate.set()
    server.shutdown()
    server.server_close()


def lines_of_fetch(folder, server, away):
    def fetch(*words):
        command(folder, "fetch", *words, "-o", "r.jsonl", "--overwrite", "-q", "--retries", "0")
        return read(folder / "r.jsonl")

    api = server.url
    found = fetch(f"{api}/items/1", f"{api}/redirect", f"{api}/status/404", f"{away}/", "--include-headers")
    found += fetch(f"{api}/bodies/text", f"{api}/bodies/bytes", f"{api}/later", f"{api}/cut", f"{api}/torn-gzip")
    found += fetch(f"{api}/items/1", "--body", "none", "--select", ".id")
    found += fetch(f"{api}/pages/1", "--paginate", "link")
    found += fetch(f"{api}/items/1", "--save", "body")
    found += fetch(f"{api}/held", "--deadline", "50ms")
    found += fetch(f"{api}/held", f"{api}/held", "--limit", "1", "--stop-after", "50ms", "--grace", "0s")
    found += fetch(f"{api}/drop", "-X", "POST")
    found += fetch(f"{api}/drop", "-X", "POST", "--idempotency-key")
    (folder / "rows.jsonl").write_text(f'{{"url": "{api}/items/1", "id": "\u2028"}}\n{{"url": 1}}\n')
    found += fetch("--from", "rows.jsonl")
    # What a run that was killed had under way.
    words = ["fetch", "-X", "POST", f"{api}/held", "-o", "killed.jsonl", "-q", "--paginate", "link"]
    before = server.in_flight
    killed(folder, lambda: server.in_flight > before, *words)
    command(folder, words[0], "--resume", *words[1:])
    found += read(folder / "killed.jsonl")
    # What it may have started of a row that is not in the input any more.
    server.bodies["first"] = json.dumps({"next": f"{api}/held"}).encode()
    (folder / "one.jsonl").write_text(json.dumps({"id": "one", "method": "POST", "url": f"{api}/bodies/first"}) + "\n")
    (folder / "other.jsonl").write_text(json.dumps({"id": "other", "url": f"{api}/items/1"}) + "\n")
    words = ["fetch", "-o", "gone.jsonl", "-q", "--paginate", "next=.next", "--from"]
    before = server.in_flight
    gone = folder / "gone.jsonl"
    # The line of the first page is written by a thread of its own, while the second page is under way.
    killed(folder, lambda: server.in_flight > before and '"next"' in gone.read_text(), *words, "one.jsonl")
    (folder / "gone.jsonl.run").unlink()
    command(folder, *words, "other.jsonl", "--rebind", "--adopt")
    found += read(folder / "gone.jsonl")
    # What it had sent of a row that had a line, and that the next run did not come to.
    words = [
        "fetch",
        "-X",
        "POST",
        f"{api}/held?{{1..2}}",
        "-o",
        "stopped.jsonl",
        "-q",
        "--idempotency-key",
        "--resume",
    ]
    command(folder, *words, "--limit", "1", "--stop-after", "50ms", "--grace", "0s")
    before = server.in_flight
    killed(folder, lambda: server.in_flight > before + 1, *words)
    command(folder, *words, "--stop-after", "0.000001s")
    found += read(folder / "stopped.jsonl")
    # What there was no room for.
    with small_disk(folder / "disk", "1m") as disk:
        command(folder, "fetch", "-X", "POST", f"{api}/bodies/large?{{1..200}}", "-o", disk / "r.jsonl", "-q")
        found += read(disk / "r.jsonl")
    return found


def lines_of_each(folder, server, away):
    def each(*words):
        command(folder, "each", "-o", "e.jsonl", "--overwrite", "-q", *words)
        return read(folder / "e.jsonl")

    shell = ["--items-are-code", "--", "sh", "-c", "{}", ":::"]
    found = each(*shell, "echo out; echo err >&2", "exit 3", "kill -9 $$", "printf '\\377'; printf '\\376' >&2")
    found += each("--", "/no/such/{}", ":::", b"\xff", "plain")
    found += each("--brief", *shell, "echo out; echo err >&2")
    found += each(*shell, "head -c 2000000 /dev/zero | tr '\\0' x; head -c 2000000 /dev/zero | tr '\\0' y >&2")
    found += each("--save", "saved", *shell, "echo out; echo err >&2")
    found += each("--save", b"saved-\xff", *shell, "echo out; echo err >&2")
    found += each("--timeout", "50ms", "--idempotent", "--", "sleep", "{}", ":::", "60")
    found += each("--stop-after", "50ms", "--grace", "0s", "--limit", "1", "--", "sleep", "{}", ":::", "60", "61")
    found += each(*shell, "sleep 60 & sleep 61 &")
    found += each("--leave-running", *shell, "sleep 60 & echo $!")
    os.kill(int(found[-1]["stdout"]), signal.SIGKILL)
    ran = folder / "ran"
    words = [
        "each",
        "-o",
        "killed-each.jsonl",
        "-q",
        "--",
        "sh",
        "-c",
        f"echo $$ >{ran}; exec sleep 60",
        "sh",
        "{}",
        ":::",
        "1",
    ]
    killed(folder, lambda: ran.exists() and ran.read_text().endswith("\n"), *words)
    command(folder, words[0], "--resume", *words[1:])
    return found + read(folder / "killed-each.jsonl")


ALGORITHMS = ["sha256", "sha512", "sha1", "md5", "blake3", "blake2b", "xxh3-128", "crc32c"]


def lines_of_files(folder, server, away):
    def files(*words):
        command(folder, "sum", "--format", "jsonl", *words, "-o", "s.jsonl", "--overwrite", "-q")
        return read(folder / "s.jsonl")

    (folder / "plain").write_bytes(b"text")
    Path(os.fsdecode(bytes(folder) + b"/name-\xff")).write_bytes(b"")
    (folder / "link").symlink_to("plain")
    os.mkfifo(folder / "fifo")
    every = [word for name in ALGORITHMS for word in ("-a", name)]
    found = files(*every, "plain", b"name-\xff", "link", "missing")
    (folder / "SUMS").write_text(f"{'0' * 64}  plain\n{'0' * 64}  missing\nnonsense\n")
    found += files("--check", "SUMS")
    (folder / "tree").mkdir()
    os.mkfifo(folder / "tree/fifo")
    found += files("tree")
    found += files("fifo", "--deadline", "50ms")
    return found


FUNCTIONS = """
import json, os, signal, sys, time
import unisono

def work(item):
    if item == "raise":
        raise ValueError("no")
    if item == "deep":
        return json.loads("[" * 200 + "]" * 200)
    if item == "sleep":
        os.write(1, b"asleep")
        time.sleep(60)
    return [item]

deep = json.loads("[" * 200 + "]" * 200)
async def hang(item):
    import asyncio
    await asyncio.sleep(60)

mode, out = sys.argv[1:]
if mode == "all":
    unisono.batch(work, ["a", {"b": 1}, 2.5, b"bytes", "raise", "deep", deep], out=out).run()
elif mode == "deadline":
    unisono.batch(hang, ["x"], deadline=0.05, idempotent=True, out=out).run()
elif mode == "stop":
    unisono.batch(hang, ["x", "y"], limit=1, stop_after=0.05, grace=0, out=out).run()
else:
    unisono.batch(work, ["sleep"], out=out, resume=mode == "resumed").run()
"""


def lines_of_functions(folder, server, away):
    (folder / "functions.py").write_text(FUNCTIONS)
    python = [sys.executable, "functions.py"]
    found = []
    for mode in ("all", "deadline", "stop"):
        subprocess.run([*python, mode, f"{mode}.jsonl"], cwd=folder, check=True, timeout=120)
        found += read(folder / f"{mode}.jsonl")
    with subprocess.Popen([*python, "killed", "f.jsonl"], cwd=folder, stdout=subprocess.PIPE) as program:
        assert program.stdout.read(6) == b"asleep"
        program.send_signal(signal.SIGKILL)
    subprocess.run([*python, "resumed", "f.jsonl"], cwd=folder, check=True, timeout=120)
    return found + read(folder / "f.jsonl")


MAKERS = {"fetch": lines_of_fetch, "each": lines_of_each, "file": lines_of_files, "function": lines_of_functions}


@pytest.fixture(scope="module")
def written(tmp_path_factory, server):
    """Real lines, by kind of work."""
    away = f"http://127.0.0.1:{free_port()}"
    return {kind: maker(tmp_path_factory.mktemp(kind), server, away) for kind, maker in MAKERS.items()}


def properties(kind):
    own, common = SCHEMA["$defs"][kind]["properties"], SCHEMA["$defs"]["outcome"]["properties"]
    return {**common, **own}


def only(kind):
    return jsonschema.Draft202012Validator({**SCHEMA, "oneOf": [{"$ref": f"#/$defs/{kind}"}]})


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("kind", MAKERS)
def test_every_line_of_a_kind_of_work_is_valid_as_that_and_as_no_other(written, kind):
    for line in written[kind]:
        assert [error.message for error in only(kind).iter_errors(line)] == [], line
        assert VALIDATOR.is_valid(line), line
        assert not any(only(other).is_valid(line) for other in MAKERS if other != kind)


@pytest.mark.parametrize("kind", MAKERS)
def test_the_lines_are_of_every_outcome_that_there_is_of_that_kind(written, kind):
    every = {"ok", "failed", "timed_out", "cancelled", "ambiguous"}
    expected = {"ok", "failed", "timed_out", "skipped"} if kind == "file" else every
    assert {line["outcome"] for line in written[kind]} >= expected


@pytest.mark.parametrize("kind", MAKERS)
def test_every_member_of_the_schema_stands_in_a_real_line(written, kind):
    seen = {name for line in written[kind] for name in line}
    ours = properties(kind).keys() - SCHEMA["$defs"]["outcome"]["properties"].keys()
    assert ours <= seen
    common = {name for lines in written.values() for line in lines for name in line}
    assert SCHEMA["$defs"]["outcome"]["properties"].keys() <= common


def test_the_last_page_that_may_have_been_begun_is_a_number_or_any(written):
    line = next(line for line in written["fetch"] if line.get("next"))
    for begun_to, is_valid in ((3, True), (None, True), (0, False), ("3", False)):
        assert VALIDATOR.is_valid({**line, "begun_to": begun_to}) == is_valid


def wrong(line):
    """Lines that differ from a valid one in one thing, and what that is."""
    for name in line:
        yield f"{name} under another name", {**{key: line[key] for key in line if key != name}, f"{name}s": line[name]}
        if name not in ("body", "item", "result"):
            yield f"{name} of another type", {**line, name: [[line[name]]]}
    for name in ("row", "id", "fp", "outcome", "effect", "repeatable", "attempts", "seconds"):
        yield f"without {name}", {key: line[key] for key in line if key != name}
    yield "a digit too few", {**line, "fp": line["fp"][1:]}
    yield "an outcome that is none", {**line, "outcome": "done"}
    yield "a negative time", {**line, "seconds": -0.5}
    yield "half a first line", {**{key: line[key] for key in line if key != "run"}, "open": 1}
    if line["outcome"] == "failed":
        yield "a failure without its error", {key: line[key] for key in line if key != "error"}
    if "error" in line:
        for member in ({"kind": "tired"}, {"further": 1}, {"message": None}):
            yield f"an error with {member}", {**line, "error": {**line["error"], **member}}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_line_with_anything_wrong_is_refused(written, kind):
    shapes = {tuple(line): line for line in written[kind]}
    for line in shapes.values():
        for what, planted in wrong(line):
            assert not VALIDATOR.is_valid(planted), (what, planted)


def test_the_kinds_of_errors_are_those_of_the_engine():
    assert sorted(SCHEMA["$defs"]["error"]["properties"]["kind"]["enum"]) == sorted(ERROR_KINDS)


def test_every_member_is_described():
    for kind in (*MAKERS, "outcome", "error"):
        for name, schema in SCHEMA["$defs"][kind]["properties"].items():
            if name != "error":
                assert schema["description"].endswith("."), (kind, name)


def test_the_page_names_every_member_of_the_schema_and_no_other():
    page = (ROOT / "docs/results.md").read_text()
    section = page[page.index("## Every member") :].split("\n## ")[0]
    words = {"fetch": "fetch", "each": "each", "file": "sum", "function": "batch"}
    table = {word: set() for word in words.values()}
    for names, lines_of in re.findall(r"^\| (`.*?`) \| (\w+)(?:, the first one)? \|", section, re.MULTILINE):
        for word in words.values() if lines_of == "all" else [lines_of]:
            table[word] |= set(re.findall(r"`([\w-]+)`", names))
    assert table == {word: set(properties(kind)) for kind, word in words.items()}
    assert "(results.schema.json)" in section
