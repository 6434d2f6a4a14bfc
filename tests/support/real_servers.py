"""Servers as people run them (nginx, node, Apache), each in a folder and on ports of its own.

They are Debian's packages, which `.ci/run` installs; elsewhere a test that needs one is skipped with a word on how to get it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


def needs(program: str, package: str) -> str:
    """The program's path; where it is missing the test is skipped, and fails in continuous integration."""
    found = shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
    if found is not None:
        return found
    why = f"{program} is not installed (apt-get install {package})"
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def certificate(folder: Path) -> None:
    """Writes `key.pem` and `cert.pem`, which no client trusts."""
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out cert.pem -days 2"
    subprocess.run(
        [needs("openssl", "openssl"), *words.split(), "-subj", "/CN=localhost"],
        cwd=folder,
        capture_output=True,
        check=True,
    )


@contextlib.contextmanager
def running(words: list[str], folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server in the foreground, from when it listens on this port."""
    log = folder / "output"
    with log.open("wb") as output:
        process = subprocess.Popen(words, cwd=folder, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
                break
            assert process.poll() is None and time.monotonic() < until, log.read_text(errors="replace")
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Nginx:
    """nginx with one worker; `access` is its log, a line with method, status and path for each request."""

    def __init__(self, folder: Path, server: str, *, listen: str = "") -> None:
        self.program = needs("nginx", "nginx-light")
        self.folder = folder
        self.port = free_port()
        self.access = folder / "access.log"
        temporary = "\n".join(
            f"{kind}_temp_path temporary;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(f"""
            daemon off; pid nginx.pid; error_log error.log; worker_processes 1; {user}
            events {{ worker_connections 1024; }}
            http {{
                log_format line "$request_method $status $request_uri"; access_log access.log line;
                {temporary}
                server {{ listen 127.0.0.1:{self.port} {listen}; {server} }}
            }}
        """)

    def start(self) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        # Before the configuration is read, messages go to a path of the build's.
        words = [self.program, "-p", str(self.folder), "-e", "error.log", "-c", "nginx.conf"]
        return running(words, self.folder, self.port)

    def served(self, method: str) -> int:
        """How many requests with this method were answered with 200."""
        return sum(line.startswith(f"{method} 200 ") for line in self.access.read_text().splitlines())


class Node:
    """A program for node, which finds the port to listen on in `process.argv[2]`."""

    def __init__(self, folder: Path, program: str) -> None:
        self.node = needs("node", "nodejs")
        self.folder = folder
        self.port = free_port()
        (folder / "server.js").write_text(program)

    def start(self) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        return running([self.node, "server.js", str(self.port)], self.folder, self.port)


class Apache:
    """Apache with the event MPM and so many workers, in front of another server."""

    def __init__(self, folder: Path, behind: str, *, workers: int) -> None:
        self.program = needs("apache2", "apache2-bin")
        self.folder = folder
        self.port = free_port()
        self.access = folder / "access.log"
        modules = "\n".join(
            f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so"
            for name in ("mpm_event", "authz_core", "proxy", "proxy_http")
        )
        (folder / "apache.conf").write_text(f"""
            ServerRoot {folder}
            ServerName localhost
            PidFile apache.pid
            DefaultRuntimeDir {folder}
            Listen 127.0.0.1:{self.port}
            ErrorLog error.log
            {modules}
            CustomLog access.log "%m %>s %U"
            KeepAlive On
            KeepAliveTimeout 5
            StartServers 1
            ServerLimit 1
            ThreadsPerChild {workers}
            ThreadLimit {workers}
            MinSpareThreads 1
            MaxSpareThreads {workers}
            MaxRequestWorkers {workers}
            ProxyPass / {behind}/
        """)

    def start(self) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        words = [self.program, "-d", str(self.folder), "-f", str(self.folder / "apache.conf"), "-DFOREGROUND"]
        return running(words, self.folder, self.port)

    def served(self, method: str) -> int:
        """How many requests with this method were answered with 200."""
        return sum(line.startswith(f"{method} 200 ") for line in self.access.read_text().splitlines())
