"""A queue between threads and coroutines against the peers: items a second from one end to the other.

Contenders take turns, five rounds by default, each run in a process of its own; what is kept is the median and the
spread. `queue.Queue` cannot be awaited, so it has no coroutines at its ends; neither can `asyncio.Queue` be used from
threads. Peers that are not installed are said so in the table.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
CONTENDERS = ["unisono", "queue.Queue", "janus", "culsans"]
CASES = {
    "thread to thread": (1, 1, "put", "get"),
    "thread to thread, maxsize 100": (1, 1, "put", "get"),
    "thread to coroutine": (1, 1, "put", "aget"),
    "thread to coroutine, maxsize 100": (1, 1, "put", "aget"),
    "coroutine to thread": (1, 1, "aput", "get"),
    "coroutine to thread, maxsize 100": (1, 1, "aput", "get"),
    "8 threads to 8": (8, 8, "put", "get"),
    "8 threads to 8, maxsize 100": (8, 8, "put", "get"),
}


def ends(contender: str, maxsize: int) -> dict[str, object]:
    """The calls of a contender's queue; made where a loop runs, since some insist on one."""
    if contender == "unisono":
        from unisono import Queue

        queue = Queue(maxsize)
        return {"put": queue.put, "get": queue.get, "aput": queue.aput, "aget": queue.aget}
    if contender == "queue.Queue":
        from queue import Queue

        queue = Queue(maxsize)
        return {"put": queue.put, "get": queue.get}
    queue = importlib.import_module(contender).Queue(maxsize)
    return {
        "put": queue.sync_q.put,
        "get": queue.sync_q.get,
        "aput": queue.async_q.put,
        "aget": queue.async_q.get,
    }


async def run(contender: str, case: str, count: int) -> float:
    """Items a second."""
    producers, consumers, put_name, get_name = CASES[case]
    calls = ends(contender, 100 if "maxsize" in case else 0)
    put, get = calls[put_name], calls[get_name]
    each = count // producers

    def thread_put():
        for number in range(each):
            put(number)

    def thread_get():
        for _ in range(each):
            get()

    async def coroutine_put():
        for number in range(each):
            await put(number)

    async def coroutine_get():
        for _ in range(each):
            await get()

    bodies = [(thread_put, coroutine_put)] * producers, [(thread_get, coroutine_get)] * consumers
    threads, coroutines = [], []
    for name, side in ((put_name, bodies[0]), (get_name, bodies[1])):
        for in_thread, in_coroutine in side:
            if name.startswith("a"):
                coroutines.append(in_coroutine())
            else:
                threads.append(threading.Thread(target=in_thread))
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    await asyncio.gather(*coroutines)
    # Nothing else runs on this loop by now.
    for thread in threads:
        thread.join()
    return each * producers / (time.perf_counter() - begun)


def measure(contender: str, case: str, count: int) -> float | str:
    """In a process of its own: items a second, or why there is no number."""
    if contender == "queue.Queue" and "coroutine" in case:
        return "has no coroutines"
    words = [sys.executable, __file__, "--inner", contender, case, "--count", str(count)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    if "ModuleNotFoundError" in ended.stderr:
        return "not installed"
    if ended.returncode:
        raise RuntimeError(ended.stderr)
    return float(ended.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=80_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--inner", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inner:
        print(asyncio.run(run(*options.inner, options.count)))
        return
    runs: dict[str, dict[str, list[float | str]]] = {
        case: {contender: [] for contender in CONTENDERS} for case in CASES
    }
    for _ in range(options.rounds):
        for case, taken in runs.items():
            for contender, numbers in taken.items():
                numbers.append(measure(contender, case, options.count))
    versions = {}
    for contender in ("janus", "culsans", "unisono"):
        try:
            versions[contender] = importlib.metadata.version(contender)
        except importlib.metadata.PackageNotFoundError:
            versions[contender] = "not installed"
    lines = ["| items a second | " + " | ".join(CONTENDERS) + " |", "|---" * (len(CONTENDERS) + 1) + "|"]
    for case, taken in runs.items():
        cells = []
        for numbers in taken.values():
            if isinstance(numbers[0], str):
                cells.append(numbers[0])
            else:
                cells.append(f"{statistics.median(numbers):,.0f} ({min(numbers):,.0f}-{max(numbers):,.0f})")
        lines.append(f"| {case} | " + " | ".join(cells) + " |")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "queues.md").write_text("\n".join(lines) + "\n")
    numbers = {
        "count": options.count,
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "versions": versions,
        "runs": runs,
    }
    (RESULTS / "queues.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
