"""The first process of a container against its peers: from TERM to its exit, memory of its own, size of its file.

Each is started with `sleep` as its command, both plainly and as the real first process of a PID namespace. Once the
command runs, TERM is sent, and a pidfd tells when the supervisor has ended. Contenders take turns, 300 rounds by
default. `sleep` alone is the time that no supervisor can beat. Run it by `make bench BENCH=init`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import shutil
import signal
import statistics
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target"))
OURS = TARGET / "small" / "unisono-init"
# One file without any library; bench/run builds it where the toolchain can.
STATIC = TARGET / "x86_64-unknown-linux-musl" / "small" / "unisono-init"
CONTENDERS: dict[str, list[str]] = {
    "sleep alone": [],
    "tini": ["tini", "-s", "-g", "--"],
    "dumb-init": ["dumb-init", "--"],
    "catatonit": ["catatonit", "--"],
    "unisono-init": [str(OURS), "--"],
    **({"unisono-init, static with musl": [str(STATIC), "--"]} if STATIC.exists() else {}),
}
UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc"]


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def runs(pid: int, name: str) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == name
    except OSError:
        return False


def until(condition: object) -> object:
    deadline = time.monotonic() + 10
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise SystemExit("a contender does not start")
        time.sleep(0.0005)
    return found


def turn(words: list[str], first: bool) -> tuple[float, int]:
    """One round; answers milliseconds, and KiB that belong to the supervisor alone."""
    process = subprocess.Popen(
        [*(UNSHARE if first else []), *words, "sleep", "1000"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"]},
    )
    pid = until(lambda: children(process.pid))[0] if first else process.pid
    if words:
        command = until(lambda: next(iter(children(pid)), None) if runs(pid, Path(words[0]).name) else None)
        until(lambda: runs(command, "sleep"))
    else:
        until(lambda: runs(pid, "sleep"))
    # It has started its command, and must now come to the point where it waits.
    until(lambda: Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "S")
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    private = sum(map(int, re.findall(r"^Private_(?:Clean|Dirty): +(\d+) kB", rollup, re.MULTILINE)))
    ended = os.pidfd_open(pid)
    # The first process of a namespace takes no TERM that it did not ask for, and `sleep` asks for none.
    number = signal.SIGKILL if first and not words else signal.SIGTERM
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    begun = time.perf_counter()
    os.kill(pid, number)
    poll.poll(10_000)
    took = (time.perf_counter() - begun) * 1000
    os.close(ended)
    process.wait(10)
    return took, private


def behaviour(words: list[str]) -> list[str]:
    """What becomes of a clean-up that takes 0.3 s, and of a command that does not want to end, as the first process."""
    answers = []
    for own_session in (False, True):
        # The command ends at once; what it has started cleans up when it is asked to.
        cleaner = "trap 'sleep 0.3; echo cleaned; exit' TERM; echo ready; read line <&3"
        script = f'{"setsid" if own_session else ""} sh -c "$1" & wait'
        process, pid = as_first(words, ["sh", "-c", script, "sh", cleaner])
        os.kill(pid, signal.SIGTERM)
        answers.append("finishes" if "cleaned" in process.communicate(timeout=30)[0] else "is killed")
    process, pid = as_first(words, ["sh", "-c", "trap '' TERM; echo ready; read line <&3"])
    os.kill(pid, signal.SIGTERM)
    try:
        process.wait(3)
        answers.append("is killed")
    except subprocess.TimeoutExpired:
        answers.append("runs on")
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=30)
    return answers


def as_first(words: list[str], command: list[str]) -> tuple[subprocess.Popen[str], int]:
    """Starts it, and waits until the command says that it is ready; descriptor 3 is a pipe that nothing writes to."""
    reads, writes = os.pipe()
    process = subprocess.Popen(
        [*UNSHARE, "sh", "-c", f'exec 3<&{reads}; exec "$@"', "sh", *words, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        pass_fds=[reads, writes],
    )
    os.close(reads)
    os.close(writes)
    process.stdout.readline()
    return process, children(process.pid)[0]


def versions() -> dict[str, str]:
    found = {}
    for name in ("tini", "dumb-init", "catatonit"):
        done = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", name], capture_output=True, text=True, check=False
        )
        found[name] = done.stdout if done.returncode == 0 else "not a package of this system"
    found["unisono-init"] = subprocess.run(
        [OURS, "--version"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    return found


def table(results: dict[str, dict[str, list[float]]]) -> str:
    lines = [
        "| | TERM to exit, ms | 90th percentile | as PID 1, ms | 90th percentile | private KiB | file, KB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in results.items():
        cells = []
        for mode in ("plain", "first"):
            cells += [f"{statistics.median(one[mode]):.3f}", f"{statistics.quantiles(one[mode], n=10)[-1]:.3f}"]
        if CONTENDERS[name]:
            size = Path(shutil.which(CONTENDERS[name][0])).resolve().stat().st_size
            cells += [f"{statistics.median(one['private']):.0f}", f"{size / 1000:.0f}"]
        else:
            cells += ["–", "–"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args().rounds
    # Pages of a file that has just been built are dirty, and would count as if each process had written them.
    os.sync()
    results = {name: {"plain": [], "first": [], "private": []} for name in CONTENDERS}
    for at in range(rounds):
        # What comes first in a round may find the machine in another state, so they take turns at that too.
        names = list(CONTENDERS)
        for name in names[at % len(names) :] + names[: at % len(names)]:
            for mode in ("plain", "first"):
                took, private = turn(CONTENDERS[name], mode == "first")
                results[name][mode].append(took)
                results[name]["private"].append(private)
    RESULTS.mkdir(exist_ok=True)
    raw = {"versions": versions(), "rounds": rounds, "results": results}
    (RESULTS / "init.json").write_text(json.dumps(raw) + "\n")
    shown = ", ".join(f"{name} {version}" for name, version in raw["versions"].items())
    lines = ["| as PID 1, after TERM | clean-up in the group | clean-up in a session of its own | who ignores it |"]
    lines.append("|---|---|---|---|")
    for name, words in CONTENDERS.items():
        if words:
            graceful = [*words[:-1], "--grace", "2s", "--"] if name.startswith("unisono-init") else words
            lines.append(f"| {name} | {' | '.join(behaviour(graceful))} |")
    text = table(results) + "\n\n" + "\n".join(lines) + f"\n\nMedians of {rounds} rounds. {shown}."
    (RESULTS / "init.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
