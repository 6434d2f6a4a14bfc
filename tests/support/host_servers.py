"""Real servers as people run them, in front of an application that keeps a ledger of what it did.

Each is started on a port of loopback that it keeps, so that it can be stopped and started again as a deployment does. What
they write is in a folder of their own.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from support.processes import PATIENCE


class Application:
    """An HTTP server that takes 30 ms for an answer, and counts what it did.

    `GET /items/N` and `POST /orders/N`. On an event loop in a thread of its own.
    """

    TAKES = 0.03

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.items: collections.Counter[str] = collections.Counter()
        self.orders: collections.Counter[str] = collections.Counter()
        self.in_flight = 0
        self.most_in_flight = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(PATIENCE)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()
        self._loop.close()

    @property
    def done(self) -> int:
        """How many requests were carried out."""
        return self.items.total() + self.orders.total()

    def wait_until(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, seconds), "what was waited for did not happen"

    def forget_most(self) -> None:
        """What is in flight from now on is counted anew, once nothing is."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.in_flight == 0, 30), "the application has something to do"
            self.most_in_flight = 0

    def _run(self, started: threading.Event) -> None:
        async def main() -> None:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=512)
            self.port = server.sockets[0].getsockname()[1]
            started.set()
            await self._stopped.wait()
            server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._loop.run_until_complete(main())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            """The client went away in the middle, which is what is tested, or this ends."""
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line = await reader.readline()
        if not line:
            return False
        method, path, _ = line.decode().split(" ", 2)
        length = 0
        while (header := await reader.readline()).strip():
            name, _, value = header.decode().partition(":")
            length = int(value) if name.lower() == "content-length" else length
        await reader.readexactly(length)
        with self.changed:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            (self.orders if method == "POST" else self.items)[path] += 1
            self.changed.notify_all()
        try:
            await asyncio.sleep(self.TAKES)
        finally:
            with self.changed:
                self.in_flight -= 1
                self.changed.notify_all()
        body = b'{"ok":true}'
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        writer.write(head + body)
        await writer.drain()
        return True


class Program:
    """A server program that can be started, told something by a signal, and started again."""

    def __init__(self, folder: Path, application: Application) -> None:
        self.folder, self.application = folder, application
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.configure()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def configure(self) -> None:
        """Writes what the program reads."""

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            # In a session of its own, since Apache ends all of its process group.
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + 30
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            said = (self.folder / "log").read_text(errors="replace")
            assert self.process.poll() is None, f"{self.command()[0]} did not start: {said}"
            assert time.monotonic() < until, f"{self.command()[0]} does not listen: {said}"
            time.sleep(0.005)

    def tell(self, signal_number: int) -> None:
        assert self.process is not None
        self.process.send_signal(signal_number)

    def stop(self, signal_number: int = signal.SIGTERM) -> None:
        """Ends it; nothing listens any more when this returns."""
        if self.process is not None:
            self.process.send_signal(signal_number)
            self.process.wait(60)
            self.process = None


class Nginx(Program):
    """nginx as a proxy; `limits` are further lines of the server, and `zones` of all."""

    def __init__(
        self, folder: Path, application: Application, *, zones: str = "", limits: str = "", listen: str = ""
    ) -> None:
        self.zones, self.limits, self.listen = zones, limits, listen
        super().__init__(folder, application)

    def configure(self) -> None:
        # Started by root, its workers would be another user's, which may not enter the folder.
        user = "user root root;" if os.geteuid() == 0 else ""
        temporary = " ".join(f"{name}_temp_path {self.folder}/{name};" for name in _TEMPORARY)
        (self.folder / "nginx.conf").write_text(f"""
            {user} worker_processes 1; daemon off; pid {self.folder}/pid; error_log {self.folder}/error.log;
            events {{ worker_connections 1024; }}
            http {{
              access_log off; {temporary} {self.zones}
              upstream application {{ server 127.0.0.1:{self.application.port}; keepalive 64; }}
              server {{
                listen 127.0.0.1:{self.port} {self.listen} backlog=1024; {self.limits}
                location / {{
                  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://application;
                  proxy_next_upstream off;
                }}
              }}
            }}
        """)

    def command(self) -> list[str]:
        folder = str(self.folder)
        return ["nginx", "-p", folder, "-e", f"{folder}/error.log", "-c", f"{folder}/nginx.conf"]

    def reload(self) -> None:
        self.tell(signal.SIGHUP)


class Haproxy(Program):
    """haproxy with a queue: so many requests at once, and the others wait no longer than this before they get a 503."""

    def configure(self) -> None:
        (self.folder / "haproxy.cfg").write_text(f"""
global
  maxconn 1000
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  timeout queue 100ms
frontend all
  bind 127.0.0.1:{self.port}
  default_backend application
backend application
  server one 127.0.0.1:{self.application.port} maxconn 4
""")

    def command(self) -> list[str]:
        return ["haproxy", "-db", "-f", str(self.folder / "haproxy.cfg")]


class Apache(Program):
    """Apache with four workers, each of which stays with its connection for as long as that is kept alive."""

    def __init__(self, folder: Path, application: Application, *, kept: int) -> None:
        self.kept = kept
        super().__init__(folder, application)

    def configure(self) -> None:
        modules = Path("/usr/lib/apache2/modules")
        names = ("mpm_prefork", "authz_core", "proxy", "proxy_http")
        loaded = "\n".join(f"LoadModule {name}_module {modules}/mod_{name}.so" for name in names)
        # Started by root, it insists on workers that are another user's.
        user = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
        (self.folder / "apache.conf").write_text(f"""
{loaded}
ServerRoot {self.folder}
ServerName localhost
DefaultRuntimeDir {self.folder}
PidFile {self.folder}/pid
ErrorLog {self.folder}/error.log
{user}
Listen 127.0.0.1:{self.port}
StartServers 4
MinSpareServers 1
MaxSpareServers 4
ServerLimit 4
MaxRequestWorkers 4
KeepAlive On
KeepAliveTimeout {self.kept}
ProxyPass / http://127.0.0.1:{self.application.port}/
""")

    def command(self) -> list[str]:
        return ["apache2", "-DFOREGROUND", "-f", str(self.folder / "apache.conf")]


class Uvicorn(Program):
    """An ASGI application under uvicorn, as `uvicorn app:app` runs it; it hands on to the ledger."""

    def configure(self) -> None:
        (self.folder / "application.py").write_text(_ASGI.format(port=self.application.port))

    def command(self) -> list[str]:
        program = [sys.executable, "-m", "uvicorn", "--app-dir", str(self.folder), "application:application"]
        return [*program, "--host", "127.0.0.1", "--port", str(self.port), "--no-access-log"]


class Node(Program):
    """node's own HTTP/2 server, without TLS, with eight streams to a connection."""

    def configure(self) -> None:
        (self.folder / "server.js").write_text(_NODE % {"port": self.port, "application": self.application.port})

    def command(self) -> list[str]:
        return ["node", str(self.folder / "server.js")]


def free_port() -> int:
    """A port of loopback that nothing listens on, for a server that comes back to it.

    Not one of those that the system gives to connections: while the server is away, one of them could get it, and a client
    that looks for the server can even meet itself there.
    """
    first, _ = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    while True:
        port = random.randrange(10_000, first)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")

_ASGI = """
import asyncio


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({{"type": message["type"] + ".complete"}})
            if message["type"] == "lifespan.shutdown":
                return
    while (await receive()).get("more_body"):
        pass
    reader, writer = await asyncio.open_connection("127.0.0.1", {port})
    writer.write(f"{{scope['method']}} {{scope['path']}} HTTP/1.1\\r\\n\\r\\n".encode())
    while (await reader.readline()).strip():
        pass
    body = await reader.readexactly(11)
    writer.close()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"11")]
    await send({{"type": "http.response.start", "status": 200, "headers": headers}})
    await send({{"type": "http.response.body", "body": body}})
"""

_NODE = """
const http = require("node:http");
const http2 = require("node:http2");
const agent = new http.Agent({ keepAlive: true });
const server = http2.createServer({ settings: { maxConcurrentStreams: 8 } });
server.on("stream", (stream, headers) => {
  stream.on("error", () => {});
  stream.resume();
  stream.on("end", () => {
    const target = { port: %(application)d, path: headers[":path"], method: headers[":method"], agent };
    http.request(target, (answer) => {
      if (stream.destroyed) return answer.resume();
      stream.respond({ ":status": answer.statusCode, "content-type": "application/json" });
      answer.pipe(stream);
    }).end();
  });
});
server.listen(%(port)d, "127.0.0.1");
"""
