"""Bodies: forms, forms with files, and what is in files, as calls, requests and rows send them."""

import asyncio
import email
import email.policy
import gzip
import io
import itertools
import json
import re
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading

import pytest

import unisono
from unisono.testing import FakeTransport


def sent(server, **arguments):
    """What came in of one POST: its headers and its body."""
    with unisono.Client() as client:
        assert client.post(server.url + "/bodies/sink", **arguments).status_code == 200
    _, _, headers, body = server.requests[-1]
    return headers, body


@pytest.fixture(autouse=True)
def sink(server):
    server.bodies["sink"] = b"{}"


def parts(headers, body):
    """By the standard library: disposition, media type and content of each part."""
    head = f"Content-Type: {headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    assert not message.defects
    return [
        (str(part["content-disposition"]), part.get("content-type"), part.get_payload(decode=True))
        for part in message.iter_parts()
    ]


def test_a_mapping_or_pairs_are_a_form_as_a_browser_sends_it(server):
    form = {"q": "a b&c=é", "n": [1, None, True], "none": None, "empty": ""}
    headers, body = sent(server, data=form)
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert body == b"q=a+b%26c%3D%C3%A9&n=1&n=true&empty="
    assert sent(server, data=[("a", 1), ("a", 2)])[1] == b"a=1&a=2"
    assert sent(server, data={"a": 1}, headers={"Content-Type": "x/y"})[0]["content-type"] == "x/y"


def test_data_that_is_no_form_is_sent_as_it_is(server):
    for data in ["té", "té".encode(), bytearray("té".encode()), io.BytesIO("té".encode())]:
        headers, body = sent(server, data=data)
        assert body == "té".encode()
        assert "content-type" not in headers


def test_a_request_has_one_body(server):
    given = {"json": 1, "content": "x", "data": {"a": 1}}
    for one, other in itertools.combinations(given, 2):
        with pytest.raises(unisono.UsageError, match="a request has one body"):
            unisono.Request(server.url, **{one: given[one], other: given[other]})


def test_fields_and_files_come_as_the_standard_library_reads_them(server, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"of a path")
    (tmp_path / "b.gz").write_bytes(b"packed")
    with (tmp_path / "b.gz").open("rb") as opened:
        headers, body = sent(
            server,
            data={"field": ["x", True], "left": None},
            files={
                "path": tmp_path / "a.txt",
                "open": opened,
                "bytes": b"raw",
                "named": ("n.json", "{}"),
                "typed": ("n", b"1", "x/y"),
                "several": [("1.txt", b"1"), ("2.txt", tmp_path / "a.txt")],
                "none": None,
            },
        )
    assert int(headers["content-length"]) == len(body)
    found = parts(headers, body)
    assert [part[0] for part in found] == [
        'form-data; name="field"',
        'form-data; name="field"',
        'form-data; name="path"; filename="a.txt"',
        'form-data; name="open"; filename="b.gz"',
        'form-data; name="bytes"; filename="bytes"',
        'form-data; name="named"; filename="n.json"',
        'form-data; name="typed"; filename="n"',
        'form-data; name="several"; filename="1.txt"',
        'form-data; name="several"; filename="2.txt"',
    ]
    binary = "application/octet-stream"
    assert [part[1] for part in found[2:]] == [
        *["text/plain", binary, binary, "application/json", "x/y", "text/plain", "text/plain"]
    ]
    assert [part[2] for part in found] == [
        *[b"x", b"true", b"of a path", b"packed", b"raw", b"{}", b"1", b"1", b"of a path"]
    ]


def test_no_name_of_a_part_ends_its_header(server):
    _, body = sent(server, files={'a"\r\nX: y': ('b"\n', b"")})
    assert b'name="a%22%0D%0AX: y"; filename="b%22%0A"\r\n' in body


def test_the_boundary_of_a_form_is_made_up_for_each_and_is_the_same_in_all_attempts(server):
    with unisono.Client(retries=2) as client:
        for number in range(2):
            client.put(server.url + f"/flaky/1?{number}", files={"f": b"x"})
    boundaries = [re.search("boundary=(.*)", headers["content-type"])[1] for _, _, headers, _ in server.requests]
    assert (len(boundaries), len(set(boundaries))) == (4, 2)
    with pytest.raises(unisono.FetchInputError, match="a form with files has a `Content-Type` of its own"):
        sent(server, files={"f": b"x"}, headers={"Content-Type": "multipart/form-data"})
    # That of a client is for other bodies.
    with unisono.Client(headers={"Content-Type": "application/json"}) as client:
        client.post(server.url + "/bodies/sink", files={"f": b"x"})
    assert parts(server.requests[-1][2], server.requests[-1][3])[0][2] == b"x"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"files": {"f": "a.txt"}}, "files: `f` is text, which may be meant as a path.*pathlib.Path"),
        ({"files": {"f": ("a",)}}, r"files: `f`: expected \(name, content\)"),
        ({"files": {"f": ("a", b"", "x\ny")}}, "media type of part `f`"),
        ({"files": b"x"}, "files= must be a mapping or a list of pairs"),
        ({"files": {"f": b""}, "data": b"x"}, "data= beside files= must be a mapping"),
        ({"files": {"f": io.StringIO("x")}}, "open the file in binary mode"),
        ({"content": 7}, "content must be text, bytes, a path"),
        ({"content": {"a": 1}}, "an iterable of bytes, not "),
    ],
)
def test_what_cannot_be_a_body_is_refused_with_what_it_should_be(arguments, said):
    with pytest.raises(unisono.UsageError, match=said):
        unisono.Request("http://host/", **arguments)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(unisono.UsageError, match=r"content: cannot read `.*no-such`: No such file"):
        unisono.Request("http://host/", content=tmp_path / "no-such")


def test_rows_that_are_mappings_have_the_words_of_requests_and_of_rows_of_json(server, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"of a path")
    rows = [
        {"data": {"a": 1}},
        {"form": {"a": 1}},
        {"files": {"f": tmp_path / "a.txt"}},
        {"multipart": {"f": {"file": str(tmp_path / "a.txt"), "type": "text/plain"}}},
        {"content": tmp_path / "a.txt"},
        {"body_file": str(tmp_path / "a.txt")},
    ]
    address = server.url + "/bodies/sink"
    for batch in [unisono.fetch, unisono.Client(auth=lambda request: request).batch]:
        server.requests.clear()
        assert [outcome.kind for outcome in batch([{"url": address, **row} for row in rows], limit=1)] == ["ok"] * 6
        bodies = [(headers.get("content-type"), body) for _, _, headers, body in server.requests]
        assert bodies[0] == bodies[1] == ("application/x-www-form-urlencoded", b"a=1")
        assert parts(*server.requests[2][2:]) == parts(*server.requests[3][2:])
        assert bodies[4] == bodies[5] == (None, b"of a path")
    (broken,) = unisono.fetch([{"url": address, "form": {"a": 1}, "json": 1}])
    assert "both `json` and" in str(broken.error) or "a request has one" in str(broken.error)


def test_a_form_with_files_is_known_again_by_its_parts(server, tmp_path):
    out = tmp_path / "out.jsonl"

    def run(content, **options):
        row = {"url": server.url + "/bodies/sink", "files": {"f": content}}
        batch = unisono.fetch([row], out=out, **options)
        return [outcome.kind for outcome in batch]

    run(b"x")
    run(b"x", resume=True)
    assert len(server.requests) == 1
    with pytest.raises(unisono.UsageError, match="row 0 is not what it was"):
        run(b"y", resume=True)
    assert json.loads(out.read_text().splitlines()[0])["outcome"] == "ok"


class Sink(socketserver.ThreadingTCPServer):
    """Counts what comes in of each body, keeps the heads, and does as `script` says before it answers."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, script=None) -> None:
        super().__init__(("127.0.0.1", 0), SinkHandler)
        self.script = script
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.sizes: list[int] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class SinkHandler(socketserver.StreamRequestHandler):
    server: Sink

    def handle(self) -> None:
        while True:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                if not (line := self.rfile.readline()):
                    return
                head += line
            self.server.heads.append(head.decode().lower())
            size, body = 0, b""
            for piece in self.pieces(head.decode().lower()):
                size += len(piece)
                body = (body + piece)[:1000]
            self.server.bodies.append(body)
            self.server.sizes.append(size)
            answer = self.server.script(self) if self.server.script else None
            self.wfile.write(answer or b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def pieces(self, head):
        if "transfer-encoding: chunked" in head:
            while size := int(self.rfile.readline() or b"0", 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(re.search(r"content-length: (\d+)", head)[1])
        while left and (piece := self.rfile.read1(min(left, 1 << 20))):
            left -= len(piece)
            yield piece


@pytest.fixture
def sinks():
    """Starts servers that count bodies."""
    started = []

    def start(script=None):
        started.append(Sink(script))
        threading.Thread(target=started[-1].serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return started[-1]

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


UPLOAD = """
import pathlib, sys, unisono
def peak():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
with unisono.Client() as client:
    client.put(sys.argv[1], content=b"x" * 1000)
    before = peak()
    client.put(sys.argv[1], content=pathlib.Path(sys.argv[2]), timeout="none")
    client.put(sys.argv[1], files={"f": pathlib.Path(sys.argv[2])}, timeout="none")
    client.put(sys.argv[1], content=(bytes(1 << 16) for _ in range(1 << 12)), timeout="none")
print(peak() - before)
"""


def test_an_upload_takes_the_same_memory_whatever_its_length(sinks, tmp_path):
    sink = sinks()
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(256 << 20)
    words = [sys.executable, "-c", UPLOAD, sink.url, str(tmp_path / "sparse")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert sink.sizes[1] == sink.sizes[3] == 256 << 20
    assert sink.sizes[2] > 256 << 20
    assert int(done.stdout) < 24 << 10, "KiB"


def test_an_open_file_is_sent_from_where_it_stands_and_stays_there(sinks, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"0123456789")
    sink = sinks()
    with (tmp_path / "a.txt").open("rb") as opened, tempfile.NamedTemporaryFile() as temporary:
        temporary.write(b"buffered")
        temporary.seek(2)
        opened.read(4)
        with unisono.Client() as client:
            request = unisono.Request(sink.url, method="PUT", content=opened)
            assert request.content is opened
            client.send(request)
            client.send(request)
            client.put(sink.url, data=temporary)
            client.post(sink.url, files={"f": opened})
        assert (opened.tell(), temporary.tell()) == (4, 2)
    assert sink.bodies[:3] == [b"456789", b"456789", b"ffered"]
    assert b'filename="a.txt"' in sink.bodies[3]
    assert b"\r\n\r\n456789\r\n" in sink.bodies[3]
    assert "content-length: 6" in sink.heads[0]


def test_what_a_packed_file_unpacks_is_sent_and_not_what_is_on_disk(sinks, tmp_path):
    sink = sinks()
    with gzip.open(tmp_path / "a.gz", "wb") as packed:
        packed.write(b"x" * 100_000)
    with gzip.open(tmp_path / "a.gz", "rb") as packed, unisono.Client() as client:
        client.put(sink.url, content=packed)
    assert sink.sizes == [100_000]


async def async_pieces():
    yield b"one "
    await asyncio.sleep(0)
    yield bytearray(b"two")


def send(kind, url, content, **options):
    if kind == "sync":
        with unisono.Client(**options) as client:
            return client.put(url, content=content)

    async def main():
        async with unisono.AsyncClient(**options) as client:
            return await client.put(url, content=content)

    return asyncio.run(main())


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_comes_in_once_is_taken_from_as_it_is_sent(sinks, kind):
    sink, threads = sinks(), set()

    def pieces():
        for piece in (b"one ", b"", b"two"):
            threads.add(threading.get_ident())
            yield piece

    for content in [pieces(), iter([b"one ", b"two"]), async_pieces()]:
        if kind == "async" or not hasattr(content, "__aiter__"):
            assert send(kind, sink.url, content).status_code == 200
    assert set(sink.bodies) == {b"one two"}
    assert all("transfer-encoding: chunked" in head for head in sink.heads)
    # It may use what belongs to the thread of the call.
    assert threads == {threading.get_ident()}


class OnlyRead:
    """Has a `read` and nothing else, and says how much was asked for at once."""

    def __init__(self, content):
        self.asked = []
        self._content = io.BytesIO(content)

    def read(self, size=-1):
        self.asked.append(size)
        return self._content.read(size)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_parts_that_can_only_be_read_are_read_as_they_are_sent(sinks, kind):
    sink = sinks()
    one, other = OnlyRead(b"1" * 200_000), OnlyRead(b"2" * 300)
    files = {"one": one, "between": b"raw", "other": ("n.bin", other)}
    if kind == "sync":
        with unisono.Client() as client:
            assert client.post(sink.url, files=files).status_code == 200
    else:

        async def main():
            async with unisono.AsyncClient() as client:
                assert (await client.post(sink.url, files=files)).status_code == 200

        asyncio.run(main())
    assert "transfer-encoding: chunked" in sink.heads[0]
    assert 200_300 < sink.sizes[0] < 201_500
    # To their ends, and never as a whole.
    assert (len(one.asked), len(other.asked), min(one.asked + other.asked) > 0) == (5, 2, True)


def test_a_form_whose_part_comes_in_once_is_sent_once_and_is_for_calls(sinks):
    dropping = sinks(lambda handler: handler.request.shutdown(socket.SHUT_RDWR) or b"x")
    with unisono.Client(retries=3) as client:
        with pytest.raises(unisono.FetchAmbiguous):
            client.put(dropping.url, files={"f": OnlyRead(b"1")})
        assert len(dropping.heads) == 1
        with pytest.raises(unisono.FetchError, match="must be bytes, not str"):
            client.put(dropping.url, files={"f": OnlyText()})
    with pytest.raises(unisono.UsageError, match="open the file in binary mode"):
        unisono.Request(dropping.url, files={"f": io.StringIO("x")})
    (outcome,) = unisono.fetch([{"url": dropping.url, "files": {"f": OnlyRead(b"1")}}])
    assert "its body comes in once, which is for a call of a client" in str(outcome.error)


class OnlyText:
    def read(self, size=-1):
        return "text"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_a_generator_raises_ends_the_call_with_that_cause(sinks, kind):
    sink = sinks()

    def broken():
        yield b"one"
        raise ValueError("no two")

    with pytest.raises(unisono.FetchError, match=r"could not be brought: ValueError: no two") as caught:
        send(kind, sink.url, broken(), retries=3)
    assert isinstance(caught.value.__cause__, ValueError)
    for content, said in [(["text"], "must be bytes, not str"), (io.StringIO("x"), "must be bytes, not str")]:
        with pytest.raises(unisono.FetchError, match=said):
            send(kind, sink.url, content)
    if kind == "sync":
        with pytest.raises(unisono.FetchError, match="send it with an AsyncClient"):
            send(kind, sink.url, async_pieces())


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_comes_in_once_is_sent_once(sinks, kind):
    refusing = sinks(lambda handler: b"HTTP/1.1 503 X\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n")
    assert send(kind, refusing.url, iter([b"one"]), retries=3).status_code == 503
    assert len(refusing.heads) == 1

    def drop(handler):
        handler.request.shutdown(socket.SHUT_RDWR)
        return b"x"

    dropping = sinks(drop)
    with pytest.raises(unisono.FetchAmbiguous):
        send(kind, dropping.url, iter([b"one"]), retries=3)
    assert len(dropping.heads) == 1
    request = unisono.Request(refusing.url, method="PUT", content=iter([b"one"]))
    with unisono.Client() as client:
        client.send(request)
        with pytest.raises(unisono.UsageError, match="comes in once, and was sent already"):
            client.send(request)
    for row in [request, {"url": refusing.url, "content": iter([b"x"])}]:
        (outcome,) = unisono.fetch([row])
        assert "its body comes in once, which is for a call of a client" in str(outcome.error)


def test_a_call_that_times_out_leaves_its_async_generator_ended(sinks):
    sink, ended = sinks(), []

    async def endless():
        try:
            yield b"one"
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def main():
        async with unisono.AsyncClient(retries=0) as client:
            with pytest.raises(unisono.FetchError):
                await client.post(sink.url, content=endless(), timeout=0.2)

    asyncio.run(main())
    assert ended == [True]


def test_a_file_that_changes_meanwhile_is_another_request(sinks, tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"one")
    sink, out = sinks(), tmp_path / "out.jsonl"
    request = unisono.Request(sink.url, method="PUT", content=path)
    assert [outcome.kind for outcome in unisono.fetch([request], out=out)] == ["ok"]
    path.write_bytes(b"longer")
    with unisono.Client() as client, pytest.raises(unisono.FetchError, match="has changed since the request was made"):
        client.send(request)
    with pytest.raises(unisono.UsageError, match="row 0 is not what it was"):
        list(unisono.fetch([unisono.Request(sink.url, method="PUT", content=path)], out=out, resume=True))
    assert sink.sizes[0] == 3
    # Of the one that changed the head may have come, and never a body.
    assert not any(sink.sizes[1:])


def test_the_transport_of_tests_takes_in_what_comes_in_chunks():
    with FakeTransport() as fake, unisono.Client(transport=fake) as client:
        fake.on("PUT", "/x")
        for content in [iter([b"one ", b"two"]), b"three"]:
            client.put("http://a.example/x", content=content)
    assert [request.content for request in fake.requests] == [b"one two", b"three"]
