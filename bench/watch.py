"""What `unisono.watch` costs while nothing stands still: the CPU of its thread, and what its pings cost the loop.

An A/B cannot show a hundredth of a percent on a machine that is shared, so what is done is counted: the time on a core of
the watchdog's own thread (schedstat), and its pings times what one costs the loop, measured alone. Each program runs for
some seconds on each loop; `idle` sleeps, the others keep the loop busy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import unisono
from unisono._watch import watching

RESULTS = Path(__file__).parent / "results"
PROGRAMS = ("idle", "sleep(0)", "call_soon", "echo", "tasks")
STALLS = (1.0, 0.1)


async def idle(until: float) -> None:
    await asyncio.sleep(until - time.monotonic())


async def sleep_0(until: float) -> None:
    while time.monotonic() < until:
        await asyncio.sleep(0)


async def call_soon(until: float) -> None:
    loop, over = asyncio.get_running_loop(), asyncio.Event()

    def again() -> None:
        if time.monotonic() < until:
            loop.call_soon(again)
        else:
            over.set()

    again()
    await over.wait()


async def echo(until: float) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1024):
            writer.write(data)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        while time.monotonic() < until:
            writer.write(b"x" * 100)
            await reader.readexactly(100)
        writer.close()
        await writer.wait_closed()


async def tasks(until: float) -> None:
    async def nothing() -> None:
        await asyncio.sleep(0)

    while time.monotonic() < until:
        await asyncio.gather(*(nothing() for _ in range(100)))


def thread_cpu(name: str) -> float:
    """Seconds on a core of this process's thread of that name."""
    for task in Path("/proc/self/task").iterdir():
        if (task / "comm").read_text().strip() == name:
            return int((task / "schedstat").read_text().split()[0]) / 1e9
    return 0.0


def ping_cost(times: int = 20_000) -> float:
    """Seconds that a loop is busy with one ping: its wake-up, and the answer."""
    loop = asyncio.new_event_loop()
    guard = watching._state.guard
    assert guard is not None
    ping = guard.add(lambda records: None)
    loop.add_reader(ping.fileno(), ping)

    async def turns(pings: bool) -> float:
        begun = time.thread_time()
        for _ in range(times):
            if pings:
                os.write(ping.fileno(), (1).to_bytes(8, sys.byteorder))
            await asyncio.sleep(0)
        return time.thread_time() - begun

    with_pings, without = (loop.run_until_complete(turns(pings)) for pings in (True, False))
    begun = time.thread_time()
    for _ in range(times):
        os.write(ping.fileno(), (1).to_bytes(8, sys.byteorder))
    writes = time.thread_time() - begun
    loop.close()
    return (with_pings - without - writes) / times


def inner(name: str, stall: float, seconds: float) -> None:
    program = {"idle": idle, "sleep(0)": sleep_0, "call_soon": call_soon, "echo": echo, "tasks": tasks}[name]

    async def run() -> None:
        with unisono.watch(stall=stall) as watch:
            await asyncio.sleep(0)
            cpu, counts, begun = thread_cpu("unisono-watch"), watch.counts(), time.monotonic()
            await program(begun + seconds)
            lasted, after = time.monotonic() - begun, watch.counts()
            spent = thread_cpu("unisono-watch") - cpu
            pings = after["pings"] - counts["pings"]
            result = {
                "thread": spent / lasted,
                "pings": pings / lasted,
                "wakes": (after["wakes"] - counts["wakes"]) / lasted,
                "stalls": after["stalls"],
            }
        with unisono.watch(stall=60):
            result["ping_us"] = await asyncio.to_thread(ping_cost) * 1e6
        print(json.dumps(result))

    asyncio.run(run())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--inner", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inner:
        inner(options.inner[0], float(options.inner[1]), options.seconds)
        return
    lines = [
        "| program | stall | pings/s | a ping, µs | of the loop's time | the watchdog's thread, of a core | stalls told |",
        "|---|---|---|---|---|---|---|",
    ]
    for stall in STALLS:
        for loop in ("asyncio", "uvloop"):
            for name in PROGRAMS:
                words = ["-m", "unisono", "run", "--loop", loop, "--stall", str(stall), __file__]
                told = subprocess.run(
                    [sys.executable, *words, "--inner", name, str(stall), "--seconds", str(options.seconds)],
                    check=True,
                    capture_output=True,
                    text=True,
                )
                found = json.loads(told.stdout)
                share = found["pings"] * found["ping_us"] / 1e6
                lines.append(
                    f"| {name}, {loop} | {stall} s | {found['pings']:.1f} | {found['ping_us']:.1f} | {share:.4%} |"
                    f" {found['thread']:.3%} | {found['stalls']} |"
                )
                print(lines[-1], file=sys.stderr)
    text = "\n".join(lines) + "\n"
    (RESULTS / "watch.md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
