"""What becomes of many calls while their host restarts, limits or drains: `make hosts`.

Each scenario has a real server, in front of an application with a ledger, and something that happens to it in the middle.
unisono, curl and httpx go through it in turns. The table is written into docs/hosts.md; it is an error if unisono loses a row,
if an order is placed twice, or if the host is met by more at once than the limit when it comes back.
tests/cli/test_hosts.py runs smaller ones of the same scenarios.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from support.host_servers import Apache, Application, Haproxy, Nginx, Node, Program, Uvicorn
from support.installed import COMMAND

LIMIT = 20
NGINX = ("nginx", "nginx-light")
PAGE = Path(__file__).parent.parent / "docs" / "hosts.md"


@dataclass
class Run:
    """A client that goes through its rows while something happens to the server."""

    server: Program
    application: Application
    client: subprocess.Popen[str]
    rows: int

    def reaches(self, share: float) -> bool:
        """Waits until this share of the rows is done; false when the client is through before."""
        wanted = share * self.rows
        self.application.wait_until(lambda: self.application.done >= wanted or self.client.poll() is not None)
        return self.application.done >= wanted and self.client.poll() is None


@dataclass(frozen=True)
class Scenario:
    """What stands in the table, and how it is played."""

    name: str
    server: Callable[[Path, Application], Program]
    happens: Callable[[Run], None]
    # What it needs, and Debian's package that has it.
    program: tuple[str, str] | None
    # How many rows show it, and how many are enough to test it.
    rows: int = 1500
    few: int = 300
    method: str = "GET"
    options: tuple[str, ...] = ()
    http2: bool = False
    # The host was away, and comes back.
    returns: bool = False
    # It takes longer than a test should, or another test has more of it.
    only_here: bool = False

    @property
    def slug(self) -> str:
        words = "".join(letter if letter.isalnum() else " " for letter in self.name.lower())
        return "-".join(words.split())


@dataclass
class Result:
    """How a contender fared."""

    ok: int
    ambiguous: int = 0
    # Orders that were carried out more than once.
    twice: int = 0
    # Most requests at once in the application after the host came back.
    most: int = 0
    seconds: float = 0.0
    # How the others ended.
    others: dict[str, int] = field(default_factory=dict)

    def cell(self) -> str:
        extra = [f"{self.ambiguous:,} ambiguous"] if self.ambiguous else []
        extra += [f"**{self.twice:,} twice**"] if self.twice else []
        return f"{self.ok:,}" + (f" ({', '.join(extra)})" if extra else "")


def nothing(run: Run) -> None:
    """The server is as it is."""


def restarted(run: Run, *, away: float, with_signal: int = signal.SIGTERM) -> None:
    """A third of the way through it ends, and starts again after so many seconds."""
    run.reaches(1 / 3)
    run.server.stop(with_signal)
    run.application.forget_most()
    time.sleep(away)
    run.server.start()


def reloaded(run: Run) -> None:
    """It reads its configuration again, with new workers, while the old ones finish; four times."""
    for share in (0.2, 0.4, 0.6, 0.8):
        if run.reaches(share):
            run.server.tell(signal.SIGHUP)


def restart(away: float, text: str, **more: object) -> Scenario:
    happens = partial(restarted, away=away)
    return Scenario(text, Nginx, happens, NGINX, returns=True, **more)


SCENARIOS = [
    restart(0.05, "nginx is stopped, and back after 0.05 s"),
    restart(0.3, "nginx is stopped, and back after 0.3 s"),
    restart(3, "nginx is stopped, and back after 3 s"),
    restart(30, "nginx is stopped, and back after 30 s", only_here=True),
    restart(0.3, "the same after 0.3 s, with POSTs", method="POST"),
    Scenario(
        "nginx ends what it has begun (QUIT), and is back after 0.3 s",
        Nginx,
        partial(restarted, away=0.3, with_signal=signal.SIGQUIT),
        NGINX,
        method="POST",
        returns=True,
    ),
    Scenario("nginx reloads four times", Nginx, reloaded, NGINX),
    Scenario(
        "nginx with `limit_req` of 50/s, which answers 503",
        partial(Nginx, zones="limit_req_zone $server_port zone=rate:1m rate=50r/s;", limits="limit_req zone=rate;"),
        nothing,
        NGINX,
        rows=600,
        few=100,
    ),
    Scenario(
        "nginx with `limit_conn` of 4, which answers 503",
        partial(Nginx, zones="limit_conn_zone $server_port zone=most:1m;", limits="limit_conn most 4;"),
        nothing,
        NGINX,
    ),
    Scenario("haproxy with a queue of 0.1 s, which answers 503", Haproxy, nothing, ("haproxy", "haproxy"), few=200),
    Scenario(
        "Apache with four workers, which keep connections for 1 s",
        partial(Apache, kept=1),
        nothing,
        ("apache2", "apache2-bin"),
        only_here=True,
    ),
    Scenario(
        "the same for 5 s, its default", partial(Apache, kept=5), nothing, ("apache2", "apache2-bin"), only_here=True
    ),
    Scenario(
        "uvicorn is stopped, and back after 0.3 s",
        Uvicorn,
        partial(restarted, away=0.3),
        None,
        returns=True,
        few=200,
    ),
    Scenario(
        "nginx over HTTP/2, ten requests to a connection",
        partial(Nginx, listen="http2", limits="keepalive_requests 10;"),
        nothing,
        NGINX,
        options=("--http2",),
        http2=True,
    ),
    Scenario(
        "node over HTTP/2, eight streams to a connection",
        Node,
        nothing,
        ("node", "nodejs"),
        options=("--http2",),
        http2=True,
    ),
]


def addresses(scenario: Scenario, server: Program, rows: int) -> list[str]:
    kind = "orders" if scenario.method == "POST" else "items"
    return [f"{server.url}/{kind}/{number}" for number in range(rows)]


def of_unisono(scenario: Scenario, urls: list[str], folder: Path) -> tuple[list[str], Callable[[str], Result]]:
    calls, out = folder / "calls.jsonl", folder / "results.jsonl"
    calls.write_text("".join(json.dumps({"url": url, "method": scenario.method}) + "\n" for url in urls))
    command = [str(COMMAND), "fetch", "--from", str(calls), "-o", str(out), "-j", str(LIMIT), "--progress", "none"]

    def count(_: str) -> Result:
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        result = Result(ok=sum(line["outcome"] == "ok" for line in lines))
        result.ambiguous = sum(line["outcome"] == "ambiguous" for line in lines)
        for line in lines:
            if line["outcome"] not in {"ok", "ambiguous"}:
                what = f"{line['outcome']}/{line['error']['kind']}: {line['error']['message']}"
                result.others[what] = result.others.get(what, 0) + 1
        return result

    return [*command, "--proxy", "", *scenario.options], count


def of_curl(scenario: Scenario, urls: list[str], folder: Path) -> tuple[list[str], Callable[[str], Result]]:
    bodies = folder / "bodies"
    bodies.mkdir()
    config = folder / "curl.conf"
    config.write_text("".join(f'url = "{url}"\noutput = "{bodies / str(n)}"\n' for n, url in enumerate(urls)))
    retries = ["-Z", "--parallel-max", str(LIMIT), "--retry", "3", "--retry-all-errors"]
    command = [
        "curl",
        "-q",
        "-s",
        *retries,
        "-X",
        scenario.method,
        "-w",
        "%{response_code} %{exitcode}\n",
    ]

    def count(said: str) -> Result:
        return Result(ok=said.splitlines().count("200 0"))

    return [*command, "--noproxy", "*", "-K", str(config)], count


def of_httpx(scenario: Scenario, urls: list[str], folder: Path) -> tuple[list[str], Callable[[str], Result]]:
    given = folder / "urls"
    given.write_text("\n".join(urls))
    command = [sys.executable, "-c", _HTTPX, str(given), scenario.method, str(LIMIT), "2" if scenario.http2 else "1"]
    return command, lambda said: Result(ok=int(said))


CONTENDERS = {"unisono": of_unisono, "curl": of_curl, "httpx": of_httpx}


def play(scenario: Scenario, contender: str, rows: int, folder: Path) -> Result:
    """Runs a scenario with one contender; returns how it fared."""
    application = Application()
    places = [folder / "server", folder / "client"]
    for place in places:
        place.mkdir(parents=True)
    server = scenario.server(places[0], application)
    try:
        server.start()
        urls = addresses(scenario, server, rows)
        command, count = CONTENDERS[contender](scenario, urls, places[1])
        begun = time.monotonic()
        with (places[1] / "said").open("w+") as said, (places[1] / "errors").open("w+") as errors:
            client = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=errors, text=True)
            try:
                scenario.happens(Run(server, application, client, rows))
                client.wait(600)
            finally:
                if client.poll() is None:
                    client.kill()
                    client.wait()
            seconds = time.monotonic() - begun
            said.seek(0)
            result = count(said.read())
        result.seconds = seconds
        result.most = application.most_in_flight
        result.twice = sum(count > 1 for count in application.orders.values())
        return result
    finally:
        server.stop()
        application.close()


def faults(scenario: Scenario, result: Result, rows: int) -> list[str]:
    """What is not as unisono promises it."""
    found = []
    # Of the POSTs that a server cut off it is not known what became: those that were under way, and a few that reached it while it
    # ended, when it took connections and nothing else.
    allowed = 2 * LIMIT if scenario.method == "POST" else 0
    if result.ok + result.ambiguous != rows or result.ambiguous > allowed:
        found.append(f"{result.ok} ok and {result.ambiguous} ambiguous of {rows}; others: {result.others}")
    if result.twice:
        found.append(f"{result.twice} orders were placed twice")
    if scenario.returns and result.most > LIMIT:
        found.append(f"{result.most} at once when it was back")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--contenders", default=",".join(CONTENDERS), help="which, with commas between them")
    parser.add_argument("--only", default="", help="scenarios with this in their names")
    parser.add_argument("--write", action="store_true", help=f"write the table into {PAGE.name}")
    arguments = parser.parse_args()
    contenders = arguments.contenders.split(",")
    scenarios = [scenario for scenario in SCENARIOS if arguments.only in scenario.slug]
    programs = {scenario.program for scenario in scenarios if scenario.program is not None}
    packages = [package for program, package in sorted(programs) if shutil.which(program) is None]
    if packages:
        print(f"not installed: {', '.join(packages)}; apt-get install {' '.join(packages)}", file=sys.stderr)
        return 2
    table = ["| what happens | rows | " + " | ".join(contenders) + " |", "|---|---|" + "---|" * len(contenders)]
    found = []
    for scenario in scenarios:
        cells = []
        for contender in contenders:
            # curl fails by itself where it reuses connections of HTTP/2 without TLS in parallel (exit 16, 7.88).
            if scenario.http2 and contender == "curl":
                cells.append("–")
                continue
            with tempfile.TemporaryDirectory() as folder:
                result = play(scenario, contender, scenario.rows, Path(folder))
            print(f"{scenario.slug}: {contender}: {result}", file=sys.stderr, flush=True)
            cells.append(result.cell())
            if contender == "unisono":
                found += [f"{scenario.name}: {fault}" for fault in faults(scenario, result, scenario.rows)]
        table.append(f"| {scenario.name} | {scenario.rows:,} | {' | '.join(cells)} |")
    print("\n".join(table))
    if arguments.write:
        before, _, rest = PAGE.read_text().partition(_BEGIN)
        _, _, after = rest.partition(_END)
        PAGE.write_text(f"{before}{_BEGIN}\n" + "\n".join(table) + f"\n{_END}{after}")
    print("\n".join(found), file=sys.stderr)
    return 1 if found else 0


_BEGIN, _END = "<!-- table: hosts -->", "<!-- end -->"

_HTTPX = """
import asyncio, sys
import httpx

async def main():
    urls = open(sys.argv[1]).read().split()
    method, limit, http2 = sys.argv[2], int(sys.argv[3]), sys.argv[4] == "2"
    # Without TLS, HTTP/2 has to be known of before.
    transport = httpx.AsyncHTTPTransport(retries=3, http1=not http2, http2=http2)
    at_once = asyncio.Semaphore(limit)
    async with httpx.AsyncClient(transport=transport, timeout=30) as client:
        async def one(url):
            async with at_once:
                try:
                    return (await client.request(method, url)).status_code == 200
                except httpx.HTTPError:
                    return False
        print(sum(await asyncio.gather(*map(one, urls))))

asyncio.run(main())
"""

if __name__ == "__main__":
    sys.exit(main())
