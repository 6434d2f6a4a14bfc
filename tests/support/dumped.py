"""Runs a program that waits, and dumps it from a thread once it has come to rest: what `test_dump_*.py` start.

    python tests/support/dumped.py stuck FILE [uvloop]     a program of examples/stuck
    python tests/support/dumped.py healthy [uvloop] [NAME...]   programs of support/healthy.py, one after another

Prints, of a stuck program, its dump as text, and of each healthy one its name and its dump as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import runpy
import sys
import threading
from pathlib import Path

import unisono

# It has come to rest when so many looks in a row saw the same: more than the moments that programs sleep.
SAME = 10
BETWEEN = 0.03


def looked_at() -> dict:
    file = io.StringIO()
    unisono.dump(json=True, file=file)
    return json.loads(file.getvalue())


def what_moves(seen: dict) -> list:
    tasks = [(task["name"], task["at"], task["waits"]) for task in seen["tasks"]]
    threads = sorted(str(thread["stack"]) for thread in seen["threads"])
    return [tasks, threads]


def at_rest() -> dict:
    pause = threading.Event()
    last, same = None, 0
    while same < SAME:
        pause.wait(BETWEEN)
        seen = looked_at()
        now = what_moves(seen)
        is_ready = any(task["waits"] in ("ready", "running") for task in seen["tasks"])
        same = same + 1 if seen["tasks"] and now == last and not is_ready else 0
        last = now
    return seen


def dump_and_end() -> None:
    at_rest()
    unisono.dump(file=sys.stdout)
    sys.stdout.flush()
    os._exit(0)


def run_stuck(path: str) -> None:
    threading.Thread(target=dump_and_end, name="asks why", daemon=True).start()
    sys.argv = [path]
    runpy.run_path(path, run_name="__main__")


def run_healthy(program) -> None:
    def dump_and_stop(loop, task):
        print(json.dumps([program.__name__, at_rest()]), flush=True)
        loop.call_soon_threadsafe(task.cancel)

    async def main():
        asks = threading.Thread(
            target=dump_and_stop, args=(asyncio.get_running_loop(), asyncio.current_task()), daemon=True
        )
        asks.start()
        await program()

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(main())


if __name__ == "__main__":
    kind, *words = sys.argv[1:]
    if "uvloop" in words:
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        words.remove("uvloop")
    sys.path.insert(0, str(Path(__file__).parents[1]))
    if kind == "stuck":
        run_stuck(words[0])
    else:
        from support import healthy

        for each in healthy.PROGRAMS:
            if not words or each.__name__ in words:
                run_healthy(each)
        os._exit(0)
