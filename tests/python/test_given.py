"""What a batch is given: many things, and none of the files that it writes."""

import asyncio
import collections
import io
import queue
import subprocess
import sys
import types

import pytest

import unisono
from unisono import commands, files

ONE = [
    "http://h/",
    b"ab",
    bytearray(b"ab"),
    memoryview(b"ab"),
    {"url": "http://h/"},
    types.MappingProxyType({"a": 1}),
    7,
]
BATCHES = {
    "fetch": lambda given: unisono.fetch(given),
    "fetch_all": lambda given: unisono.fetch_all(given),
    "batch": lambda given: unisono.batch(len, given),
    "batch in processes": lambda given: unisono.batch(len, given, executor="processes"),
    "batch_all": lambda given: unisono.batch_all(given),
    "commands": lambda given: commands.each(given),
    "items of commands": lambda given: commands.each(["echo", "{}"], items=given),
    "samples": lambda given: unisono.explain(len, given, budget=0.1),
}


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("given", ONE, ids=lambda given: type(given).__name__)
def test_one_thing_where_many_are_meant_is_refused_at_once(name, given):
    with pytest.raises(unisono.UsageError, match=r"several|list of commands"):
        BATCHES[name](given)


@pytest.mark.parametrize(
    "given", [bytearray(b"ab"), memoryview(b"ab"), {"a": 1}, 7], ids=lambda given: type(given).__name__
)
@pytest.mark.parametrize(
    "take", [files.digest, files.verify, lambda given: list(files.walk(given)), lambda given: files.each(len, given)]
)
def test_what_is_no_path_and_not_many_is_refused(take, given):
    with pytest.raises(unisono.UsageError, match="several"):
        take(given)


@pytest.mark.parametrize("kind", [str, lambda path: str(path).encode(), lambda path: path])
def test_a_path_alone_stands_for_itself(tmp_path, kind):
    path = tmp_path / "ab"
    path.write_text("x")
    report = files.digest(kind(path)).run()
    assert [outcome.kind for outcome in report.outcomes] == ["ok"]
    assert [found.path.name for found in files.walk(kind(path))] == ["ab"]
    assert files.each(lambda path: path.name, kind(path)).run().outcomes[0].result == "ab"


def test_everything_that_is_many_is_taken():
    async def some():
        yield "a"

    filled: queue.Queue[str] = queue.Queue()
    for given in (
        ["a"],
        ("a",),
        {"a"},
        iter("a"),
        (x for x in "a"),
        collections.deque("a"),
        io.StringIO("a"),
        {"a": 1}.keys(),
    ):
        assert [outcome.result for outcome in unisono.batch(len, given)] == [1]
    for given in (filled, asyncio.Queue(), unisono.Queue(), some()):
        unisono.batch(len, given).close()


def test_results_are_not_written_to_what_is_read(tmp_path, server):
    path = tmp_path / "in.txt"
    text = f"{server.url}/items/1\n"
    path.write_text(text)
    (tmp_path / "soft").symlink_to("in.txt")
    out = {"out": tmp_path / "soft", "overwrite": True}
    with path.open() as rows:
        for batch in (
            unisono.fetch(rows, **out),
            unisono.batch(len, rows, **out),
            unisono.fetch([server.url], netrc=path, **out),
            unisono.fetch([server.url], cacert=str(path), **out),
            unisono.fetch([server.url], out=tmp_path / "r.jsonl", save=str(tmp_path / "r.jsonl")),
            files.digest([path], **out),
            files.digest(path, **out),
            files.verify(path, **out),
        ):
            with pytest.raises(unisono.UsageError, match="is the same file as"):
                batch.run()
    with pytest.raises(unisono.UsageError, match="is the same file as"):
        files.each(len, [path], **out)
    assert path.read_text() == text
    assert server.requests == []


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_progress_that_cannot_be_shown_stops_no_batch(redirection):
    program = "import unisono; print(unisono.batch(len, ['ab'], progress=True).run().ok)"
    script = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-c", program]
    done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "1\n")


def test_reports_and_outcomes_show_no_control_characters():
    def fail(_item):
        raise ValueError("x\rdone\x1b[2K\x9b\u202e\nforged")

    report = unisono.batch(fail, ["a"]).run()
    shown = [*str(report).split("\n"), repr(report.outcomes[0])]
    assert "\\rdone\\x1b[2K\\x9b\\u{202e}\\nforged" in str(report)
    assert not any(character in line for line in shown for character in "\r\x1b\x9b\u202e")
    assert not any(line.startswith("forged") for line in shown)


def test_a_body_of_json_may_begin_with_a_byte_order_mark():
    import http.server
    import threading

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = b'\xef\xbb\xbf{"n": [1]}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as marked:
        threading.Thread(target=marked.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{marked.server_address[1]}/"
        plain, selected, computed = unisono.fetch_all([address], retries=0) + [
            outcome for select in (".n", ".n|map(.+1)") for outcome in unisono.fetch_all([address], select=select)
        ]
        marked.shutdown()
    assert plain.result.json() == {"n": [1]}
    assert selected.selected == [1]
    assert computed.selected == [2]
