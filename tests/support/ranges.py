"""A real server of one body that can be had in parts, and that breaks off where it is told to."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterable, Iterator

CONTENT = bytes(range(256)) * 400


class Files(socketserver.ThreadingTCPServer):
    """Serves `content`: each connection gets as much of what it asks for as `cuts` says, and is cut then."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FilesHandler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/file"
        self.asked: list[dict[str, str]] = []
        self.cuts: Iterator[int | None] = iter(())
        self.tag: str | None = '"one"'
        self.extra: list[str] = []
        self.content = CONTENT
        self.takes_ranges = True
        # Whether it heeds the condition of a range; some servers do not.
        self.heeds_conditions = True
        # The most bytes of a part, whatever is asked for.
        self.most: int | None = None
        # What is cut is not closed before this is set.
        self.gate = threading.Event()
        self.gate.set()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def cut(self, *cuts: int | None) -> None:
        self.cuts = iter(cuts)

    def has(self, version: str | None) -> bool:
        return version == self.tag or f"Last-Modified: {version}" in self.extra

    def ranges(self) -> list[str | None]:
        return [asked.get("range") for asked in self.asked]

    def close(self) -> None:
        self.gate.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address) -> None:
        """Clients go away in the middle; that is what is tested."""


class FilesHandler(socketserver.StreamRequestHandler):
    server: Files

    def handle(self) -> None:
        asked = {}
        while line := self.rfile.readline().strip():
            name, _, value = line.decode().partition(":")
            asked[name.lower()] = value.strip()
        server = self.server
        server.asked.append(asked)
        head, body = self.answer(asked)
        cut = next(server.cuts, None)
        self.wfile.write(head + body[:cut])
        if cut is not None:
            server.gate.wait()

    def answer(self, asked: dict[str, str]) -> tuple[bytes, bytes]:
        server = self.server
        begin, status, lines = 0, "200 OK", list(server.extra)
        if server.tag is not None:
            lines.append(f"ETag: {server.tag}")
        is_same = server.has(asked.get("if-range")) or not server.heeds_conditions
        body = server.content
        if "range" in asked and server.takes_ranges and is_same:
            begin = int(asked["range"].removeprefix("bytes=").removesuffix("-"))
            body = server.content[begin:][: server.most]
            status = "206 Partial Content"
            lines.append(f"Content-Range: bytes {begin}-{begin + len(body) - 1}/{len(server.content)}")
        if not body and begin:
            status, lines = "416 X", [f"Content-Range: bytes */{len(server.content)}"]
            body = b"nothing is there"
        return head(status, [*lines, f"Content-Length: {len(body)}"]), body


def head(status: str, lines: Iterable[str]) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "Connection: close", "", ""]).encode()
