"""Worker pools against the peers: tasks that do nothing, two workers, processes first and then threads.

Contenders take turns, five rounds by default, each in a fresh interpreter; what is kept is the median and the spread. A
case that a contender does not have is left out of the table. Peers are in pinned versions (the extra `bench-pools`);
one that is not installed is said so.

"1 ms tasks" is no rate: tasks that sleep for a millisecond tell how long they took, and what is shown is the share of
the workers' time that these are (1.00: a worker has its next task the moment that it is through with the last).
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
from collections.abc import Iterable
from pathlib import Path

Runs = dict[str, dict[str, list[float]]]

HERE = Path(__file__).parent
RESULTS = HERE / "results"
ARRAY, SHORT = "10 MB array", "1 ms tasks"

PROGRAM = r"""
import asyncio, json, sys, time
contender, count = sys.argv[1], int(sys.argv[2])

def same(value):
    return value

def array(size):
    import numpy
    return numpy.ones(size)

def short(_):
    begun = time.perf_counter()
    time.sleep(0.001)
    return time.perf_counter() - begun

def busy(maps):
    begun = time.perf_counter()
    worked = sum(maps(range(2000)))
    return worked / 2 / (time.perf_counter() - begun)

def timed(times, work):
    begun = time.perf_counter()
    work()
    return times / (time.perf_counter() - begun)

async def gather(pool, times):
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(pool, same, n) for n in range(times)))

def executor(pool):
    maps = lambda items: pool.map(same, items)
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
    yield "1 ms tasks", busy(lambda items: pool.map(short, items))

def arrays(pool):
    yield "10 MB array", 1 / max(timed(1, lambda: pool.submit(array, 1_250_000).result()) for _ in range(10))

def mp_pool(pool):
    pool.map(same, range(100))
    some = count // 10
    yield "one at a time", timed(some, lambda: [pool.apply(same, (n,)) for n in range(some)])
    yield "map", timed(count, lambda: pool.map(same, range(count), chunksize=1))
    yield "1 ms tasks", busy(lambda items: pool.map(short, items, chunksize=1))

def mp_arrays(pool):
    yield "10 MB array", 1 / max(timed(1, lambda: pool.apply(array, (1_250_000,))) for _ in range(10))

def measure():
    if contender == "unisono.ProcessPool":
        import unisono
        with unisono.ProcessPool(2) as pool:
            yield from executor(pool)
            yield from arrays(pool)
    elif contender == "concurrent.futures.ProcessPoolExecutor":
        from concurrent.futures import ProcessPoolExecutor
        with ProcessPoolExecutor(2) as pool:
            yield from executor(pool)
            yield from arrays(pool)
    elif contender == "loky":
        from loky import ProcessPoolExecutor
        with ProcessPoolExecutor(2) as pool:
            yield from executor(pool)
            yield from arrays(pool)
    elif contender == "multiprocessing.Pool":
        import multiprocessing
        with multiprocessing.Pool(2) as pool:
            yield from mp_pool(pool)
            yield from mp_arrays(pool)
    elif contender == "billiard":
        import billiard.pool
        pool = billiard.pool.Pool(2)
        yield from mp_pool(pool)
        yield from mp_arrays(pool)
        pool.terminate()
    elif contender == "unisono.ThreadPool":
        import unisono
        with unisono.ThreadPool(2) as pool:
            yield from executor(pool)
    elif contender == "concurrent.futures.ThreadPoolExecutor":
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(2) as pool:
            yield from executor(pool)
    elif contender == "multiprocessing.pool.ThreadPool":
        import multiprocessing.pool
        with multiprocessing.pool.ThreadPool(2) as pool:
            yield from mp_pool(pool)
    elif contender == "pebble":
        import pebble
        with pebble.ProcessPool(2) as pool:
            pool.submit(same, None, 0).result()
            some = count // 10
            yield "one at a time", timed(some, lambda: [pool.submit(same, None, n).result() for n in range(some)])
            yield "map", timed(count, lambda: list(pool.map(same, range(count)).result()))
            yield "1 ms tasks", busy(lambda items: pool.map(short, items).result())
    elif contender == "mpire":
        import mpire
        with mpire.WorkerPool(2) as pool:
            pool.map(same, range(100))
            yield "map", timed(count, lambda: pool.map(same, range(count), chunk_size=1))
            yield "1 ms tasks", busy(lambda items: pool.map(short, items, chunk_size=1))
    elif contender == "joblib":
        import joblib
        with joblib.Parallel(2) as parallel:
            parallel(joblib.delayed(same)(n) for n in range(100))
            yield "map", timed(count, lambda: parallel(joblib.delayed(same)(n) for n in range(count)))
            yield "1 ms tasks", busy(lambda items: parallel(joblib.delayed(short)(n) for n in items))

if __name__ == "__main__":
    print(json.dumps(dict(measure())))
"""

#: What each table is of, its cases, and what is compared in it, with the module that must be installed.
TABLES = {
    "tasks a second in processes": (
        ("one at a time", "map", "submit", "gather", SHORT, ARRAY),
        {
            "unisono.ProcessPool": "unisono",
            "concurrent.futures.ProcessPoolExecutor": "concurrent.futures",
            "multiprocessing.Pool": "multiprocessing",
            "billiard": "billiard",
            "pebble": "pebble",
            "mpire": "mpire",
            "loky": "loky",
            "joblib": "joblib",
        },
    ),
    "tasks a second in threads": (
        ("one at a time", "map", "submit", "gather", SHORT),
        {
            "unisono.ThreadPool": "unisono",
            "concurrent.futures.ThreadPoolExecutor": "concurrent.futures",
            "multiprocessing.pool.ThreadPool": "multiprocessing",
        },
    ),
}


def measure(contender: str, program: Path, count: int) -> dict[str, float]:
    words = [sys.executable, str(program), contender, str(count)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=True)
    return json.loads(done.stdout)


def cell(case: str, taken: list[float]) -> str:
    middle, least, most = statistics.median(taken), min(taken), max(taken)
    if case == ARRAY:
        return f"{middle * 1e3:.2f} ms ({least * 1e3:.2f}-{most * 1e3:.2f})"
    if case == SHORT:
        return f"{middle:.3f} ({least:.3f}-{most:.3f})"
    return f"{middle:,.0f} ({least:,.0f}-{most:,.0f})"


def table(head: str, cases: tuple[str, ...], names: Iterable[str], runs: Runs) -> list[str]:
    lines = [f"| {head} | " + " | ".join(cases) + " |", "|---|" + "---|" * len(cases)]
    for contender in names:
        if contender not in runs:
            lines.append(f"| {contender} | not installed |" + " |" * (len(cases) - 1))
            continue
        cells = [cell(case, taken) if (taken := runs[contender].get(case)) else "" for case in cases]
        lines.append(f"| {contender} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    runs: Runs = {}
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program.py"
        program.write_text(PROGRAM)
        for head, (cases, contenders) in TABLES.items():
            there = [contender for contender, module in contenders.items() if importlib.util.find_spec(module)]
            for _ in range(options.rounds):
                for contender in there:
                    for case, rate in measure(contender, program, options.count).items():
                        runs.setdefault(contender, {}).setdefault(case, []).append(rate)
            lines += [*table(head, cases, contenders, runs), ""]
    (RESULTS / "pools.md").write_text("\n".join(lines[:-1]) + "\n")
    numbers = {"count": options.count, "cores": os.cpu_count(), "load": os.getloadavg(), "runs": runs}
    (RESULTS / "pools.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print("\n".join(lines[:-1]))


if __name__ == "__main__":
    main()
