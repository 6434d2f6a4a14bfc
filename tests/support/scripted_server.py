"""A server that answers with given bytes, path by path, and keeps a ledger of what it was asked."""

from __future__ import annotations

import socketserver
import threading


def answer(status: int, *headers: str, body: bytes = b"{}") -> bytes:
    head = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class ScriptedServer(socketserver.ThreadingTCPServer):
    """Each path has its answers in turn, of which the last one repeats. Empty bytes close the connection unanswered."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, script: dict[str, list[bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.lock = threading.Lock()
        # Method, path and headers of each request, in their order.
        self.ledger: list[tuple[str, str, dict[str, str]]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address) -> None:
        """Clients go away in the middle; that is what is tested."""

    def count(self, method: str) -> int:
        with self.lock:
            return sum(entry[0] == method for entry in self.ledger)


class _Handler(socketserver.StreamRequestHandler):
    server: ScriptedServer

    def handle(self) -> None:
        while self.request_is_answered():
            pass

    def request_is_answered(self) -> bool:
        line = self.rfile.readline().split()
        if len(line) != 3:
            return False
        headers = {}
        while (header := self.rfile.readline().strip()) != b"":
            name, _, value = header.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        self.rfile.read(int(headers.get("content-length", 0)))
        method, path = line[0].decode(), line[1].decode()
        with self.server.lock:
            before = sum(entry[:2] == (method, path) for entry in self.server.ledger)
            self.server.ledger.append((method, path, headers))
        answers = self.server.script.get(path.partition("?")[0], [answer(404)])
        said = answers[min(before, len(answers) - 1)]
        self.wfile.write(said)
        self.wfile.flush()
        return said.startswith(b"HTTP/1.1") and b"Connection: close" not in said
