"""What `unisono.ProcessPool` promises, kept many times in a row: deaths, deadlines, and the end of the program.

    bench/pool_promises.py [--deaths 100] [--deadlines 100] [--kills 20]

- A worker is killed with SIGKILL under its task: that task fails with `WorkerDied`, 40 others around it give their results.
- A task runs past its deadline of 0.5 s: how late is it told? Its worker is warm (it has run a function of this module),
  so that the task's own clock and the pool's start together: a cold worker imports this module on the task's time, and
  would hide some milliseconds. Both bounds are shown: since the submission, and since what the task says was its start.
- The program is killed with SIGKILL in the middle of work: after 1 s no process of it is left, and nothing in /dev/shm.

The exit status is 1 when a promise is broken; lateness is shown and not judged, since a busy machine is late itself: the
table names its load. /dev/shm is one of our own, in a mount namespace (unshare(1)), since other programs use the
machine's. Leaves out speed, which is `pools.py`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import unisono

RESULTS = Path(__file__).parent / "results"
DEADLINE = 0.5
#: What the lateness of a deadline is held against.
PROMISED_MS = 5.0
#: Seconds until nothing of a killed program may be left.
GONE_AFTER = 1.0
PATIENCE = 60.0
MARK = "UNISONO_PROMISES"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def begin_and_stay(path: str) -> None:
    # The same clock in all processes (CLOCK_MONOTONIC, clock_gettime(2)).
    Path(path).write_text(str(time.monotonic_ns()))
    while True:
        time.sleep(3600)


def deaths(rounds: int) -> dict[str, int]:
    """Kills a worker in each round; counts what came of its own task and of the others."""
    kept = others = 0
    with unisono.ProcessPool(4) as pool:
        for _ in range(rounds):
            before = [pool.submit(pow, item, 2) for item in range(20)]
            dying = pool.submit(die)
            after = [pool.submit(pow, item, 3) for item in range(20)]
            error = dying.exception(PATIENCE)
            kept += isinstance(error, unisono.WorkerDied) and error.signal == signal.SIGKILL
            right = [item**2 for item in range(20)] + [item**3 for item in range(20)]
            others += [future.result(PATIENCE) for future in before + after] == right
    return {"rounds": rounds, "told as WorkerDied": kept, "all 40 others right": others}


def warm() -> None:
    pass


def deadlines(rounds: int) -> dict[str, float]:
    """How many milliseconds after its deadline each task was told to be late."""
    since_submitted, since_begun = [], []
    with unisono.ProcessPool(1) as pool, tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            path = f"{folder}/{number}"
            pool.submit(warm).result(PATIENCE)
            submitted = time.monotonic_ns()
            error = pool.task(timeout=DEADLINE).submit(begin_and_stay, path).exception(PATIENCE)
            told = time.monotonic_ns()
            if not isinstance(error, unisono.TaskTimeout):
                raise SystemExit(f"broken promise: a task past its deadline ended with {error!r}")
            since_submitted.append((told - submitted) / 1e6 - DEADLINE * 1e3)
            since_begun.append((told - int(Path(path).read_text())) / 1e6 - DEADLINE * 1e3)
    return {
        "rounds": rounds,
        "within 5 ms of the deadline, since submitted": sum(late <= PROMISED_MS for late in since_submitted),
        **{f"{name} ms late since submitted": value for name, value in spread(since_submitted).items()},
        **{f"{name} ms late since begun": value for name, value in spread(since_begun).items()},
    }


def spread(values: list[float]) -> dict[str, float]:
    """The least, the median, the 95th of a hundred, and the most."""
    values = sorted(values)
    return {
        "min": round(values[0], 2),
        "p50": round(statistics.median(values), 2),
        "p95": round(values[math.ceil(len(values) * 0.95) - 1], 2),
        "max": round(values[-1], 2),
    }


PROGRAM = """
import os, time, unisono
def busy():
    while True: pass
def echo(data): return data
if __name__ == "__main__":
    pool = unisono.ProcessPool(2)
    pool.submit(echo, bytearray(1_000_000)).result()
    futures = [pool.submit(busy) for _ in range(2)]
    while not all(future.running() for future in futures): os.sched_yield()
    print("busy", flush=True)
    time.sleep(3600)
"""


def kills(rounds: int) -> dict[str, float]:
    """Kills a program with busy workers in each round; how long until nothing of it is left."""
    clean = clean_memory = 0
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "program.py")
        script.write_text(PROGRAM)
        for number in range(rounds):
            mark = f"{os.getpid()}-{number}"
            program = subprocess.Popen(
                [sys.executable, str(script)], stdout=subprocess.PIPE, env={**os.environ, MARK: mark}
            )
            if program.stdout is None or program.stdout.readline() != b"busy\n":
                raise SystemExit("the program that is to be killed did not get busy")
            before = marked(mark)
            if len(before) < 4:
                raise SystemExit(f"the program, its zygote and two workers were expected, and found was {before}")
            program.kill()
            program.wait()
            program.stdout.close()
            start = time.monotonic()
            while (left := marked(mark)) and time.monotonic() < start + PATIENCE:
                time.sleep(0.002)
            seconds.append(time.monotonic() - start)
            clean += seconds[-1] <= GONE_AFTER
            clean_memory += not os.listdir("/dev/shm")
            for process in left:
                os.kill(process, signal.SIGKILL)
    return {
        "rounds": rounds,
        "no process after 1 s": clean,
        "nothing in /dev/shm": clean_memory,
        "p50 ms": round(statistics.median(seconds) * 1e3, 1),
        "max ms": round(max(seconds) * 1e3, 1),
    }


def marked(mark: str) -> list[int]:
    """The processes that carry the mark in their environment and are no zombies."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "environ").read_bytes().split(b"\0")
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if f"{MARK}={mark}".encode() in words and state not in "ZX":
                found.append(int(folder.name))
    return found


def in_own_namespace() -> None:
    """Start again where /dev/shm is ours alone, unless that has been done."""
    if os.environ.get(MARK) == "inside":
        return
    for flags in ("-m", "-rm"):
        words = ["unshare", flags, "sh", "-c", 'mount -t tmpfs none /dev/shm && exec "$@"', "sh"]
        if subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0:
            os.environ[MARK] = "inside"
            os.execvp(words[0], [*words, sys.executable, __file__, *sys.argv[1:]])
    raise SystemExit("bench: a mount namespace is needed, and unshare(1) is not there or not allowed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deaths", type=int, default=100)
    parser.add_argument("--deadlines", type=int, default=100)
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    in_own_namespace()
    load = [os.getloadavg()[0]]
    measured = {}
    for name, measure, rounds in (
        ("a worker is killed", deaths, options.deaths),
        ("a deadline of 0.5 s", deadlines, options.deadlines),
        ("the program is killed", kills, options.kills),
    ):
        measured[name] = measure(rounds)
        load.append(os.getloadavg()[0])
        print(f"{name}: {measured[name]}", flush=True)
    about = {
        "python": platform.python_version(),
        "unisono": unisono.__version__,
        "cores": len(os.sched_getaffinity(0)),
        "load before and after each": [round(value, 1) for value in load],
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"about": about, "measured": measured}, indent=2)
    (RESULTS / "pool_promises.json").write_text(text + "\n")
    (RESULTS / "pool_promises.md").write_text(table(about, measured))
    died, killed = measured["a worker is killed"], measured["the program is killed"]
    kept = died["rounds"] == died["told as WorkerDied"] == died["all 40 others right"]
    kept &= killed["rounds"] == killed["no process after 1 s"] == killed["nothing in /dev/shm"]
    return 0 if kept else 1


def table(about: dict[str, object], measured: dict[str, dict[str, float]]) -> str:
    lines = [
        "# What the process pool promises, again and again",
        "",
        ", ".join(f"{name} {value}" for name, value in about.items()) + " (one-minute averages).",
        "",
        "| promise | measured |",
        "|---|---|",
    ]
    for name, values in measured.items():
        lines.append(f"| {name} | {', '.join(f'{key}: {value}' for key, value in values.items())} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
