"""Bulk HTTP against the peers: 20,000 distinct URLs, 505 bytes of JSON each, 50 in flight, nginx on loopback.

Contenders take turns, five rounds by default; what is kept is the median and the spread. CPU seconds are those of the
contender's process and its children, memory is its peak. Run it by `make bench BENCH=fetch`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results"
BIN = Path(sys.executable).parent
LIMIT = 50
FILES = 2000

NGINX = """
worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 10000000; default_type application/json; root {folder}/root; http2 on;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;
  scgi_temp_path {folder}/s;
  server {{ listen {port} backlog=1024; }}
  server {{ listen 127.0.0.1:{tls} ssl backlog=1024; ssl_certificate {folder}/cert; ssl_certificate_key {folder}/key; }}
}}
"""


SLOW = """
import asyncio
ANSWER = b'HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: 11\\r\\n\\r\\n{"ok":true}'
class Slow(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        asyncio.get_running_loop().call_later(0.05, self.transport.write, ANSWER)
async def main():
    server = await asyncio.get_running_loop().create_server(Slow, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


class Server:
    """nginx with its files, over HTTP and over TLS."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        items = folder / "root/items"
        items.mkdir(parents=True)
        for n in range(1, FILES + 1):
            body = json.dumps({"id": n, "name": f"item {n}", "tags": ["a", "b"], "text": ""})
            padded = body[:-2] + "x" * (505 - len(body)) + body[-2:]
            (items / str(n)).write_text(padded)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE",
             "-keyout", folder / "key", "-out", folder / "cert"],
            check=True, capture_output=True,
        )  # fmt: skip
        self.port, self.tls, self.certificate = free_port(), free_port(), folder / "cert"
        text = NGINX.format(folder=folder, port=self.port, tls=self.tls)
        # `http2 on` is younger than some nginx; without it the TLS server listens with the old word.
        version = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
        if tuple(map(int, re.search(r"(\d+)\.(\d+)", version).groups())) < (1, 25):
            text = text.replace(" http2 on;", "").replace("ssl backlog", "ssl http2 backlog")
        (folder / "nginx.conf").write_text(text)
        self.process = subprocess.Popen(["nginx", "-c", folder / "nginx.conf", "-p", folder], stderr=subprocess.DEVNULL)
        self.slow = subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE, text=True)
        self.slow_url = f"http://127.0.0.1:{self.slow.stdout.readline().strip()}"
        self.url = f"http://127.0.0.1:{self.port}"
        self.tls_url = f"https://127.0.0.1:{self.tls}"
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)
        raise SystemExit("nginx does not start")

    def stop(self) -> None:
        for process in (self.process, self.slow):
            process.terminate()
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def measure(words: list[object], requests: int) -> dict[str, float]:
    begun = time.monotonic()
    process = subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    peak = Peak(process.pid)
    output = process.stdout.read().decode(errors="replace")
    errors = process.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{words[0]} ended with {process.returncode}: {errors[-500:]}")
    if output.strip().isdigit() and int(output) != requests:
        raise RuntimeError(f"{words[0]} got {output.strip()} of {requests}")
    cpu = usage.ru_utime + usage.ru_stime
    return {"cpu": cpu / requests * 10_000, "mb": peak.stop() / 1024, "rate": requests / seconds}


class Peak(threading.Thread):
    """Watches the peak memory of a process, in KiB: rusage would count what this process had when it forked."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.status, self.peak, self.ended = Path(f"/proc/{pid}/status"), 0, threading.Event()
        self.start()

    def run(self) -> None:
        while not self.ended.wait(0.01):
            with contextlib.suppress(OSError):
                found = re.search(r"VmHWM:\s+(\d+)", self.status.read_text())
                self.peak = max(self.peak, int(found[1])) if found else self.peak

    def stop(self) -> int:
        self.ended.set()
        self.join()
        return self.peak


def wrk(url: str) -> dict[str, float]:
    words = ["wrk", "-t1", f"-c{LIMIT}", "-d2s", f"{url}/items/7"]
    begun = os.times()
    output = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    ended = os.times()
    requests = int(re.search(r"(\d+) requests in", output)[1])
    cpu = ended.children_user + ended.children_system - begun.children_user - begun.children_system
    return {
        "cpu": cpu / requests * 10_000,
        "mb": float("nan"),
        "rate": float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1]),
    }


def curl_config(folder: Path, urls: list[str], name: str) -> Path:
    path = folder / name
    path.write_text("".join(f'url = "{url}"\noutput = "/dev/null"\n' for url in urls))
    return path


def contenders(folder: Path, server: Server, rows: int) -> dict[str, object]:
    urls = [f"{server.url}/items/{n % FILES + 1}?{n // FILES}" for n in range(rows)]
    listed = folder / "urls.txt"
    listed.write_text("\n".join(urls))
    python, out = sys.executable, folder / "out.jsonl"
    own = HERE / "contenders"

    def process(*words: object) -> object:
        return lambda: measure(list(words), rows)

    curl = ["curl", "-sZ", "--parallel-max", LIMIT, "-K", curl_config(folder, urls, "curl.cfg")]
    reqstorm = [BIN / "reqstorm", listed, "-o", out]
    return {
        "wrk (no parsing)": lambda: wrk(server.url),
        "curl -Z": process(*curl),
        "pycurl multi": process(python, own / "pycurl_multi.py", listed, LIMIT),
        "ry": process(python, own / "ry_gather.py", listed, LIMIT),
        "aiohttp": process(python, own / "aiohttp_gather.py", listed, LIMIT),
        "aiohttp + uvloop": process(python, own / "aiohttp_gather.py", listed, LIMIT, "uvloop"),
        "httpx": process(python, own / "httpx_gather.py", listed, LIMIT),
        "reqstorm": process(*reqstorm),
        "unisono fetch": process(
            BIN / "unisono", "fetch", "--from", listed, "-o", out, "--overwrite", "-j", LIMIT, "-q", "--proxy", ""
        ),
        "unisono: for": process(python, own / "unisono_python.py", listed, LIMIT, "for"),
        "unisono: async for": process(python, own / "unisono_python.py", listed, LIMIT, "async-for"),
        "unisono: await client.get": process(python, own / "unisono_python.py", listed, LIMIT, "await"),
    }


def more(folder: Path, server: Server, rows: int) -> dict[str, object]:
    """unisono fetch and curl -Z under other conditions."""
    out = folder / "out.jsonl"
    base = [BIN / "unisono", "fetch", "-o", out, "--overwrite", "-q", "--proxy", ""]
    secure = [f"{server.tls_url}/items/{n % FILES + 1}?{n // FILES}" for n in range(rows)]
    listed = folder / "secure.txt"
    listed.write_text("\n".join(secure))
    curl = [
        "curl",
        "-sZ",
        "--cacert",
        server.certificate,
        "--parallel-max",
        LIMIT,
        "-K",
        curl_config(folder, secure, "secure.cfg"),
    ]
    ours = [*base, "-j", LIMIT, "--cacert", server.certificate, "--from", listed]
    hosts = "{" + ",".join(f"127.0.0.{n}" for n in range(1, 11)) + "}"
    many = f"http://{hosts}:{server.port}/items/{{1..{rows // 10}}}"
    slow = [f"{server.slow_url}/{n}" for n in range(5000)]
    million = f"{server.url}/items/{{1..{FILES}}}?{{1..500}}"
    return {
        "TLS, HTTP/1.1: curl -Z": (rows, [*curl, "--http1.1"]),
        "TLS, HTTP/1.1: unisono fetch": (rows, [*ours, "--http1"]),
        "TLS, HTTP/2: curl -Z": (rows, [*curl, "--http2"]),
        "TLS, HTTP/2: unisono fetch": (rows, [*ours, "--http2"]),
        "50 ms server: curl -Z": (
            5000,
            [*curl[:2], "--parallel-max", LIMIT, "-K", curl_config(folder, slow, "slow.cfg")],
        ),
        "50 ms server: unisono fetch": (5000, [*base, "-j", LIMIT, f"{server.slow_url}/{{1..5000}}"]),
        "1,000 rows: unisono fetch": (1000, [*base, "-j", LIMIT, f"{server.url}/items/{{1..1000}}"]),
        "1,000,000 rows: unisono fetch": (1_000_000, [*base, "-j", LIMIT, million]),
        "10 hosts: unisono fetch": (rows, [*base, "-j", LIMIT, many]),
    }


def versions() -> dict[str, str]:
    found = {}
    for name in ("aiohttp", "httpx", "pycurl", "reqstorm", "ry", "uvloop", "unisono"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    for tool, flag in (("curl", "--version"), ("nginx", "-v"), ("wrk", "-v")):
        done = subprocess.run([tool, flag], capture_output=True, text=True, check=False)
        found[tool] = (done.stdout + done.stderr).splitlines()[0]
    return found


def table(results: dict[str, list[dict[str, float]]], failed: dict[str, str]) -> str:
    def middle(name: str, what: str) -> float:
        return statistics.median(one[what] for one in results[name])

    best = middle("wrk (no parsing)", "rate") if "wrk (no parsing)" in results else float("nan")
    curl = middle("curl -Z", "cpu") if "curl -Z" in results else float("nan")
    lines = [
        "| | CPU-s per 10,000 | spread | of curl -Z | peak MB | requests/s | of wrk |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, rounds in results.items():
        values = [one["cpu"] for one in rounds]
        memory = middle(name, "mb")
        shown = "–" if memory != memory else f"{memory:.0f}"
        lines.append(
            f"| {name} | {middle(name, 'cpu'):.3f} | {min(values):.3f}–{max(values):.3f} | {middle(name, 'cpu') / curl:.2f}"
            f" | {shown} | {middle(name, 'rate'):,.0f} | {middle(name, 'rate') / best:.2f} |"
        )
    lines += [f"| {name} | could not run: {why} | | | | | |" for name, why in failed.items()]
    return "\n".join(lines)


def plot(results: dict[str, list[dict[str, float]]]) -> str:
    """CPU seconds per 10,000 as bars; the longest are cut."""
    shown = {name: statistics.median(one["cpu"] for one in rounds) for name, rounds in results.items()}
    cut = 4 * statistics.median(shown.values())
    bars = []
    for at, (name, value) in enumerate(sorted(shown.items(), key=lambda pair: pair[1])):
        width, y = 420 * min(value, cut) / cut, 24 + at * 22
        colour = "#2a7" if name.startswith("unisono") else "#89a"
        bars.append(
            f'<text x="190" y="{y + 12}" text-anchor="end">{name}</text>'
            f'<rect x="198" y="{y}" width="{width:.0f}" height="15" fill="{colour}"/>'
            f'<text x="{202 + width:.0f}" y="{y + 12}">{value:.3f}</text>'
        )
    height = 30 + 22 * len(bars)
    style = 'font-family="sans-serif" font-size="12"'
    title = '<text x="198" y="14">CPU seconds per 10,000 requests</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="700" height="{height}" {style}>{title}{"".join(bars)}</svg>\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="contenders whose name contains this")
    parser.add_argument("--skip", default="httpx", help="contenders that run one round only, since they take so long")
    arguments = parser.parse_args()
    results: dict[str, list[dict[str, float]]] = {}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = Server(folder)
        try:
            for turn in range(arguments.rounds):
                for contender, run in contenders(folder, server, arguments.rows).items():
                    if (
                        arguments.only not in contender
                        or contender in failed
                        or (turn and arguments.skip and arguments.skip in contender)
                    ):
                        continue
                    try:
                        results.setdefault(contender, []).append(run())
                        print(f"round {turn + 1}: {contender}: {results[contender][-1]}", flush=True)
                    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
                        results.pop(contender, None)
                        failed[contender] = str(error).splitlines()[-1][:120]
                        print(f"{contender}: {error}", file=sys.stderr)
            others: dict[str, list[dict[str, float]]] = {}
            for turn in range(arguments.rounds):
                for contender, (rows, words) in more(folder, server, arguments.rows).items():
                    if arguments.only not in contender or (turn and rows > 100_000) or contender in failed:
                        continue
                    try:
                        others.setdefault(contender, []).append(measure(words, rows))
                        print(f"round {turn + 1}: {contender}: {others[contender][-1]}", flush=True)
                    except (RuntimeError, OSError) as error:
                        others.pop(contender, None)
                        failed[contender] = str(error).splitlines()[-1][:120]
                        print(f"{contender}: {error}", file=sys.stderr)
        finally:
            server.stop()
    RESULTS.mkdir(exist_ok=True)
    raw = {"versions": versions(), "rows": arguments.rows, "main": results, "more": others, "failed": failed}
    (RESULTS / "fetch.json").write_text(json.dumps(raw, indent=1) + "\n")
    text = table(results, failed)
    second = ["| | CPU-s per 10,000 | peak MB | requests/s |", "|---|---|---|---|"]
    for contender, rounds in others.items():
        cpu, mb, rate = (statistics.median(one[what] for one in rounds) for what in ("cpu", "mb", "rate"))
        second.append(f"| {contender} | {cpu:.3f} | {mb:.0f} | {rate:,.0f} |")
    (RESULTS / "fetch.md").write_text(text + "\n\n" + "\n".join(second) + "\n")
    (RESULTS / "fetch.svg").write_text(plot(results))
    print(text, "\n", "\n".join(second), sep="\n")


if __name__ == "__main__":
    main()
