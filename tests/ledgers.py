"""Rounds of `kill -9` and of what happens to results files, with orders that must not be placed twice: `make ledgers ROUNDS=200`.

Each round starts `unisono fetch` on orders of every kind, kills it at a random moment, does something to its results file or to
its world, and goes on until everything is decided. The server keeps a ledger of what it really did. At the end nothing is in it
twice, every row has its lines, and no line says of an order what the ledger denies.

Rounds are told apart by their seed, which is printed when one fails: `python tests/ledgers.py --seed 17`.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMAND = Path(sys.executable).with_name("unisono")
SCENARIOS = (
    "link",
    "rename",
    "copy",
    "full disk",
    "retry-failed",
    "plain",
    "damaged notes",
    "cut results",
    "another order",
    "keys",
)
ORDERS = 60
PAGES = 3


class Shop(ThreadingHTTPServer):
    """Takes orders, each of its own kind by its number, and keeps a ledger."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Counter)
        self.lock = threading.Condition()
        self.taken: collections.Counter[str] = collections.Counter()
        self.keys: collections.defaultdict[str, set[str]] = collections.defaultdict(set)
        self.asked: collections.Counter[str] = collections.Counter()
        self.requests = 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def wait_for(self, requests: int, process: subprocess.Popen[bytes]) -> None:
        """Until so many requests have come in, or the process has ended."""
        with self.lock:
            while self.requests < requests and process.poll() is None:
                self.lock.wait(0.02)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients are killed in the middle; that is what is tested."""


class Counter(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Shop

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        path = self.path.partition("?")[0]
        with self.server.lock:
            before = self.server.asked[f"{self.command} {path}"]
            self.server.asked[f"{self.command} {path}"] += 1
            self.server.requests += 1
            self.server.lock.notify_all()
        kind, _, rest = path.strip("/").partition("/")
        if self.command == "GET":
            # Receipts are refused for now when they are first asked for.
            refuses = kind == "receipts" and before == 0
            return self.reply(429 if refuses else 200, {"Retry-After": "0"} if refuses else {})
        if kind == "refused-at-first" and before == 0:
            return self.reply(503, {"Retry-After": "0"})
        if kind == "missing-at-first" and before == 0:
            return self.reply(404)
        self.take(path)
        if kind == "broken":
            return self.reply(500)
        if kind == "silent":
            self.close_connection = True
            return None
        if kind == "seen-elsewhere":
            return self.reply(303, {"Location": f"/receipts/{rest}?by=\\q"})
        if kind == "seen-nowhere":
            return self.reply(303, {"Location": "/nowhere"})
        if kind == "paged":
            number, page = map(int, rest.split("/"))
            more = {"Link": f'</paged/{number}/{page + 1}>; rel="next"'} if page < PAGES else {}
            return self.reply(200, more)
        return self.reply(201)

    do_POST = do_GET

    def take(self, path: str) -> None:
        key = self.headers.get("Idempotency-Key")
        with self.server.lock:
            # What comes again with its key is not done again.
            is_known = key in self.server.keys[path]
            self.server.taken[path] += not is_known
            if key is not None:
                self.server.keys[path].add(key)

    def reply(self, status: int, headers: dict[str, str] | None = None) -> None:
        body = b"{}" if self.path != "/nowhere" else b"<nothing>"
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


KINDS = (
    "plain",
    "refused-at-first",
    "missing-at-first",
    "broken",
    "silent",
    "seen-elsewhere",
    "seen-nowhere",
    "paged",
    "plain",
    "plain",
)


class Round:
    """One round, in a folder of its own."""

    def __init__(self, seed: int, scenario: str, folder: Path) -> None:
        self.random = random.Random(seed)
        self.scenario = scenario
        self.folder = folder
        self.results = folder / "results.jsonl"
        self.shop = Shop()
        self.said = ""
        # The input has come in another order, and was taken.
        self.is_another = False
        self.write(range(ORDERS))

    def write(self, order: Iterable[int]) -> None:
        rows = "".join(json.dumps(self.row(number)) + "\n" for number in order)
        (self.folder / "orders.jsonl").write_text(rows)

    def row(self, number: int) -> dict[str, object]:
        kind = KINDS[number % len(KINDS)]
        page = "/1" if kind == "paged" else ""
        return {"url": f"{self.shop.url}/{kind}/{number}{page}", "json": {"order": number}}

    def start(self, how: str, room: int | None = None, *more: str) -> subprocess.Popen[bytes]:
        words = ["fetch", "--from", "orders.jsonl", "-o", str(self.results), how, "--paginate", "link", "--limit", "8"]
        words += [*more, *(["--idempotency-key"] if self.scenario == "keys" else [])]

        def confine() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))

        return subprocess.Popen(
            [COMMAND, *words, "-q", "--proxy", "", "--retries", "2"],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=confine if room is not None else None,
        )

    def end(self, process: subprocess.Popen[bytes], allowed: tuple[int, ...]) -> int:
        try:
            _, said = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError("it did not end within a minute") from None
        self.said = said.decode()
        assert process.returncode in allowed, (process.returncode, self.said)
        return process.returncode

    def go_on(self, how: str) -> None:
        """Goes on, and adopts what is refused because notes or lines are gone."""
        if self.end(self.start(how), (0, 1, 2, 125)) in (2, 125):
            assert "--adopt" in self.said, self.said
            self.end(self.start(how, None, "--adopt"), (0, 1))

    def kill_half_way(self, how: str) -> bool:
        """Whether it was still at it, so that its results are an open file."""
        process = self.start(how)
        self.shop.wait_for(self.shop.requests + self.random.randrange(ORDERS), process)
        time.sleep(self.random.random() * 0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return process.returncode == -signal.SIGKILL

    def change_the_world(self, number: int, killed: bool) -> None:
        """What happens between a kill and the next run."""
        if self.scenario == "rename":
            moved = self.folder / f"moved-{number}.jsonl"
            if self.results.exists():
                self.results.rename(moved)
                self.results = moved
        elif self.scenario == "link":
            link = self.folder / f"link-{number}.jsonl"
            link.symlink_to(self.results.resolve().name)
            self.results = link
        elif self.scenario == "copy" and killed and self.results.exists() and self.results.stat().st_size > 0:
            # A copy of an open file has lost its notes: it is refused, and the original goes on.
            original, self.results = self.results, self.folder / f"copy-{number}.jsonl"
            shutil.copyfile(original, self.results)
            self.end(self.start("--resume"), (2,))
            self.results = original
        elif self.scenario == "full disk":
            size = self.results.stat().st_size if self.results.exists() else 0
            self.end(self.start("--resume", size + self.random.randrange(4000)), (0, 1, 125))

        elif self.scenario == "damaged notes":
            self.harm(Path(f"{self.results}.run"))
        elif self.scenario == "cut results" and Path(f"{self.results}.run").exists():
            os.truncate(self.results, self.random.randrange(self.results.stat().st_size + 1))
        elif self.scenario in ("another order", "keys"):
            # It is refused, unless nothing of it was begun, or each order is known by its key.
            self.write(self.random.sample(range(ORDERS), ORDERS))
            has_lines = self.results.exists() and b'"row"' in self.results.read_bytes()
            self.end(self.start("--resume"), (0, 1, 2))
            is_refused = "the input has changed" in self.said
            assert is_refused or not has_lines, "another order was taken for the same"
            assert not (is_refused and self.scenario == "keys") or has_lines, self.said
            self.is_another = not is_refused
            if is_refused:
                self.write(range(ORDERS))

    def harm(self, notes: Path) -> None:
        """Cuts the run file, or breaks some bytes of it."""
        if not notes.exists() or notes.stat().st_size == 0:
            return
        at = self.random.randrange(notes.stat().st_size)
        if self.random.random() < 0.5:
            os.truncate(notes, at)
        else:
            whole = bytearray(notes.read_bytes())
            # Its name for itself stays: a file without one is not its own, and is not touched.
            at = max(at, 8)
            whole[at : at + 20] = self.random.randbytes(len(whole[at : at + 20]))
            notes.write_bytes(whole)

    def play(self) -> None:
        for number in range(self.random.randrange(1, 4)):
            retries = self.scenario == "retry-failed" and number > 0
            killed = self.kill_half_way("--retry-failed" if retries else "--resume")
            self.change_the_world(number, killed)
            if self.is_another:
                break
        self.go_on("--resume")
        self.go_on("--retry-failed")
        self.check()

    def check(self) -> None:
        twice = {path: count for path, count in self.shop.taken.items() if count > 1}
        assert not twice, f"taken more than once: {twice}"
        seen: collections.Counter[tuple[int, int]] = collections.Counter()
        for text in self.results.read_text().splitlines():
            line = json.loads(text)
            seen[line["row"], line.get("page", 0)] += 1
            path = line["url"].removeprefix(self.shop.url).partition("?")[0]
            taken = self.shop.taken[path]
            assert line["effect"] != "done" or taken == 1, f"said to be done, and was not: {text}"
            assert line["effect"] != "none" or taken == 0, f"said not to be done, and was: {text}"
            assert line["outcome"] == "ok" or line["effect"] != "none", f"could have been done: {text}"
        assert max(seen.values()) == 1, "a page has two lines"
        assert {row for row, _ in seen} == set(range(ORDERS)), "a row has no line"
        assert not [name for name in os.listdir(self.folder) if ".tmp" in name or name.startswith(".unisono")]

    def close(self) -> None:
        self.shop.shutdown()
        self.shop.server_close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, help="this round alone")
    arguments = parser.parse_args()
    seeds = [arguments.seed] if arguments.seed is not None else range(arguments.rounds)
    played: collections.Counter[str] = collections.Counter()
    orders = failed = 0
    for seed in seeds:
        scenario = SCENARIOS[seed % len(SCENARIOS)]
        with tempfile.TemporaryDirectory(prefix="unisono-ledger-") as folder:
            game = Round(seed, scenario, Path(folder))
            try:
                game.play()
                played[scenario] += 1
                orders += sum(game.shop.taken.values())
            except AssertionError as error:
                failed += 1
                print(f"seed {seed} ({scenario}): {error}", file=sys.stderr)
            finally:
                game.close()
    for scenario, count in played.items():
        print(f"{scenario}: {count} rounds, no order twice")
    print(f"{orders} orders and pages taken, {failed} rounds failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
