"""Worker pools against the peers: tasks that do nothing, two workers.

Contenders take turns, five rounds by default, each in a fresh interpreter; what is kept is the median and the spread. A
case that a contender does not have is left out of the table. Peers are in pinned versions (`PEERS`); one that is not
installed is said so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PEERS = ["billiard==4.3.2", "joblib==1.6.0", "loky==3.7.0", "mpire==2.10.2", "numpy==2.4.6", "pebble==5.2.3"]
CASES = ("one at a time", "map", "submit", "gather", "10 MB array")

PROGRAM = r"""
import asyncio, json, sys, time
who, count = sys.argv[1], int(sys.argv[2])

def same(value):
    return value

def array(size):
    import numpy
    return numpy.ones(size)

def timed(times, work):
    begun = time.perf_counter()
    work()
    return times / (time.perf_counter() - begun)

async def gather(pool, times):
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(pool, same, n) for n in range(times)))

def executor(pool, maps):
    pool.submit(same, 0).result()
    list(maps(range(100)))
    some = count // 10
    yield "one at a time", timed(some, lambda: [pool.submit(same, n).result() for n in range(some)])
    yield "map", timed(count, lambda: list(maps(range(count))))
    def submit():
        futures = [pool.submit(same, n) for n in range(count)]
        for future in futures:
            future.result()
    yield "submit", timed(count, submit)
    yield "gather", timed(count // 4, lambda: asyncio.run(gather(pool, count // 4)))
    yield "10 MB array", 1 / max(timed(1, lambda: pool.submit(array, 1_250_000).result()) for _ in range(10))

def mp_pool(pool):
    pool.map(same, range(100))
    some = count // 10
    yield "one at a time", timed(some, lambda: [pool.apply(same, (n,)) for n in range(some)])
    yield "map", timed(count, lambda: pool.map(same, range(count), chunksize=1))
    yield "10 MB array", 1 / max(timed(1, lambda: pool.apply(array, (1_250_000,))) for _ in range(10))

def measure():
    if who == "unisono":
        import unisono
        with unisono.ProcessPool(2) as pool:
            yield from executor(pool, lambda items: pool.map(same, items))
    elif who == "concurrent.futures":
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(2) as pool:
            yield from executor(pool, lambda items: pool.map(same, items))
    elif who == "loky":
        from loky import ProcessPoolExecutor
        with ProcessPoolExecutor(2) as pool:
            yield from executor(pool, lambda items: pool.map(same, items))
    elif who == "multiprocessing.Pool":
        import multiprocessing
        with multiprocessing.Pool(2) as pool:
            yield from mp_pool(pool)
    elif who == "billiard":
        import billiard.pool
        pool = billiard.pool.Pool(2)
        yield from mp_pool(pool)
        pool.terminate()
    elif who == "pebble":
        import pebble
        with pebble.ProcessPool(2) as pool:
            pool.submit(same, None, 0).result()
            some = count // 10
            yield "one at a time", timed(some, lambda: [pool.submit(same, None, n).result() for n in range(some)])
            yield "map", timed(count, lambda: list(pool.map(same, range(count)).result()))
    elif who == "mpire":
        import mpire
        with mpire.WorkerPool(2) as pool:
            pool.map(same, range(100))
            yield "map", timed(count, lambda: pool.map(same, range(count), chunk_size=1))
    elif who == "joblib":
        import joblib
        with joblib.Parallel(2) as parallel:
            parallel(joblib.delayed(same)(n) for n in range(100))
            yield "map", timed(count, lambda: parallel(joblib.delayed(same)(n) for n in range(count)))

if __name__ == "__main__":
    print(json.dumps(dict(measure())))
"""

CONTENDERS = {
    "unisono": "unisono",
    "concurrent.futures": "concurrent.futures",
    "multiprocessing.Pool": "multiprocessing",
    "billiard": "billiard",
    "pebble": "pebble",
    "mpire": "mpire",
    "loky": "loky",
    "joblib": "joblib",
}


def measure(who: str, program: Path, count: int) -> dict[str, float]:
    words = [sys.executable, str(program), who, str(count)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=True)
    return json.loads(done.stdout)


def cell(case: str, taken: list[float]) -> str:
    middle, least, most = statistics.median(taken), min(taken), max(taken)
    if case == "10 MB array":
        return f"{middle * 1e3:.2f} ms ({least * 1e3:.2f}-{most * 1e3:.2f})"
    return f"{middle:,.0f} ({least:,.0f}-{most:,.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", action="store_true", help="print what is to be installed, and end")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.peers:
        print(*PEERS)
        return
    RESULTS.mkdir(exist_ok=True)
    folder = tempfile.TemporaryDirectory()
    program = Path(folder.name) / "program.py"
    program.write_text(PROGRAM)
    there = [who for who, module in CONTENDERS.items() if importlib.util.find_spec(module)]
    runs: dict[str, dict[str, list[float]]] = {who: {case: [] for case in CASES} for who in there}
    try:
        for _ in range(options.rounds):
            for who in there:
                for case, rate in measure(who, program, options.count).items():
                    runs[who][case].append(rate)
    finally:
        folder.cleanup()
    lines = ["| tasks per second | " + " | ".join(CASES) + " |", "|---|" + "---|" * len(CASES)]
    for who in CONTENDERS:
        if who not in runs:
            lines.append(f"| {who} | not installed |" + " |" * (len(CASES) - 1))
            continue
        cells = [cell(case, taken) if (taken := runs[who][case]) else "" for case in CASES]
        lines.append(f"| {who} | " + " | ".join(cells) + " |")
    (RESULTS / "pools.md").write_text("\n".join(lines) + "\n")
    numbers = {"count": options.count, "cores": os.cpu_count(), "load": os.getloadavg(), "runs": runs}
    (RESULTS / "pools.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
