"""Which version of HTTP is spoken, and where an answer over HTTP/2 ends, on every face of the package."""

import asyncio
import socketserver
import struct
import threading

import pytest

import unisono

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4
END_STREAM, END_HEADERS = 1, 4
NO_ERROR = 0


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


class Peer(socketserver.StreamRequestHandler):
    """Speaks the version that the client begins with, and leaves answers over HTTP/2 to `/half` in the middle."""

    def handle(self):
        first = self.rfile.readline()
        self.server.first_lines.append(first)
        if not PREFACE.startswith(first):
            while self.rfile.readline() not in (b"\r\n", b""):
                pass
            self.wfile.write(b"HTTP/1.1 200 X\r\nContent-Length: 5\r\nConnection: close\r\n\r\nwhole")
            return
        self.rfile.read(len(PREFACE) - len(first))
        self.wfile.write(frame(SETTINGS, 0, 0))
        while head := self.rfile.read(9):
            length, kind, flags, stream = int.from_bytes(head[:3]), head[3], head[4], int.from_bytes(head[5:])
            self.rfile.read(length)
            if kind in (HEADERS, DATA) and flags & END_STREAM:
                # The eighth field of the static table of HPACK is `:status: 200`.
                self.wfile.write(frame(HEADERS, END_HEADERS, stream, b"\x88"))
                if self.server.leaves:
                    self.wfile.write(
                        frame(DATA, 0, stream, b"half") + frame(RST_STREAM, 0, stream, struct.pack(">I", NO_ERROR))
                    )
                else:
                    self.wfile.write(frame(DATA, END_STREAM, stream, b"whole"))


@pytest.fixture
def peer():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Peer) as server:
        server.daemon_threads, server.first_lines, server.leaves = True, [], False
        server.url = f"http://127.0.0.1:{server.server_address[1]}/"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def by_fetch(url, method, **options):
    [outcome] = unisono.fetch([{"url": url, "method": method}], retries=0, **options)
    return outcome.check().text


def by_client(url, method, **options):
    with unisono.Client(retries=0, **options) as client:
        return client.request(method, url).text


def by_stream(url, method, **options):
    with unisono.Client(retries=0, **options) as client, client.stream(method, url) as response:
        return b"".join(response.iter_bytes()).decode()


def by_async_client(url, method, **options):
    async def main():
        async with unisono.AsyncClient(retries=0, **options) as client:
            return (await client.request(method, url)).text

    return asyncio.run(main())


def by_async_stream(url, method, **options):
    async def main():
        async with unisono.AsyncClient(retries=0, **options) as client, client.stream(method, url) as response:
            return b"".join([piece async for piece in response.aiter_bytes()]).decode()

    return asyncio.run(main())


FACES = [by_fetch, by_client, by_stream, by_async_client, by_async_stream]


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    ("options", "version"),
    [
        ({}, 1),
        ({"http1": True}, 1),
        ({"http2": False}, 1),
        ({"http1": True, "http2": False}, 1),
        ({"http2": True}, 2),
        ({"http1": False}, 2),
        ({"http1": False, "http2": True}, 2),
    ],
)
def test_without_tls_http2_is_spoken_by_prior_knowledge_where_it_alone_is_asked_for(peer, face, options, version):
    assert face(peer.url, "GET", **options) == "whole"
    assert [line.startswith(b"PRI ") for line in peer.first_lines] == [version == 2]


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("face", FACES)
def test_each_of_the_two_versions_alone_is_refused_with_the_way_out(peer, face, both):
    with pytest.raises(unisono.UsageError, match="give one of them, or neither for what a server prefers"):
        face(peer.url, "GET", http1=both, http2=both)
    assert peer.first_lines == []


@pytest.mark.parametrize("face", FACES)
def test_an_answer_that_is_left_without_an_error_before_its_end_is_no_answer(peer, face):
    peer.leaves = True
    with pytest.raises(unisono.ConnectError) as caught:
        face(peer.url, "GET", http2=True)
    assert (caught.value.kind, caught.value.effect) == ("incomplete_body", "maybe")
    with pytest.raises(unisono.FetchAmbiguous) as caught:
        face(peer.url, "POST", http2=True)
    assert (caught.value.kind, caught.value.effect) == ("incomplete_body", "maybe")
