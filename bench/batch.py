"""Coroutines under limits: 100,000 trivial ones, 100 at a time, against what is written by hand.

Each run is a process of its own; contenders take turns, five rounds by default; what is kept is the median and the spread.
`gather` holds a task per item, so its memory grows with their number; a second column shows it at four times as many.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results"

COMMON = """
import asyncio, sys, time
count, limit, loop = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
async def work(number):
    return number
"""

CONTENDERS = {
    "gather and a semaphore": """
async def main():
    slots = asyncio.Semaphore(limit)
    async def one(number):
        async with slots:
            return await work(number)
    await asyncio.gather(*(one(number) for number in range(count)))
""",
    "workers on a queue": """
async def main():
    queue = asyncio.Queue(limit)
    async def worker():
        while (number := await queue.get()) is not None:
            await work(number)
    workers = [asyncio.create_task(worker()) for _ in range(limit)]
    for number in range(count):
        await queue.put(number)
    for _ in workers:
        await queue.put(None)
    await asyncio.gather(*workers)
""",
    # Named before the clock starts, as the others' modules are imported before: the package imports it when it is asked for.
    "unisono.batch": """
import unisono
unisono.batch
async def main():
    ok = 0
    async for outcome in unisono.batch(work, range(count), limit=limit):
        ok += outcome.ok
    assert ok == count
""",
}

TAIL = """
if loop == "uvloop":
    import uvloop
    run = uvloop.run
else:
    run = asyncio.run
begun, used = time.perf_counter(), time.process_time()
run(main())
status = open("/proc/self/status").read()
peak = int(status.partition("VmHWM:")[2].split()[0]) // 1024
print(time.perf_counter() - begun, time.process_time() - used, peak)
"""


def measure(program: str, count: int, limit: int, loop: str) -> list[float]:
    """Wall seconds, CPU seconds and peak memory in MiB, without the start of the interpreter."""
    command = [sys.executable, "-c", COMMON + program + TAIL, str(count), str(limit), loop]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(word) for word in done.stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    contender = [(name, loop) for name in CONTENDERS for loop in ("asyncio", "uvloop")]
    runs: dict[str, list[list[float]]] = {f"{name}, {loop}": [] for name, loop in contender}
    for _ in range(options.rounds):
        for name, loop in contender:
            runs[f"{name}, {loop}"].append(measure(CONTENDERS[name], options.count, options.limit, loop))
    larger = {
        f"{name}, {loop}": measure(CONTENDERS[name], 4 * options.count, options.limit, loop)[2]
        for name, loop in contender
    }
    base = statistics.median(run[1] for run in runs["gather and a semaphore, asyncio"])
    lines = ["| | CPU | spread | relative | wall | peak | at 4 x the items |", "|---|---|---|---|---|---|---|"]
    for name, taken in runs.items():
        wall, cpu, peak = (statistics.median(column) for column in zip(*taken))
        used = sorted(run[1] for run in taken)
        lines.append(
            f"| {name} | {cpu:.2f} s | {used[0]:.2f}-{used[-1]:.2f} | {cpu / base:.2f} | {wall:.2f} s"
            f" | {peak:.0f} MiB | {larger[name]:.0f} MiB |"
        )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "batch.md").write_text("\n".join(lines) + "\n")
    numbers = {**vars(options), "cores": os.cpu_count(), "runs": runs, "larger": larger, "at": time.time()}
    (RESULTS / "batch.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
