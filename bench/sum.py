"""Digests of trees in the page cache, against the programs that people use for it.

Trees: 4,000 files of 1 MiB, 100,000 of 4 KiB, and a mixed one (4 GiB, 1,000 of 1 MiB, 50,000 of 4 KiB), made once in a
folder that is removed at the end. Contenders take turns; medians of 5 rounds. The digests of each contender are compared
with ours in the first round. `openssl speed` on each core is what is often taken for the limit. Run it by
`make bench BENCH=sum`.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from peak import peak_of

RESULTS = Path(__file__).parent / "results"
COMMAND = Path(sys.executable).with_name("unisono")
CORES = len(os.sched_getaffinity(0))
MIB = 1 << 20

# What each is started with, in the tree's folder; the names of the files come on standard input where it says so.
SHA256: dict[str, str] = {
    "unisono sum": f"{COMMAND} sum -q .",
    "unisono sum, sha2 crate": f"{COMMAND} sum -q --kernel portable .",
    "unisono sum, SHA-NI": f"{COMMAND} sum -q --kernel sha-ni .",
    "xargs -P sha256sum": f"xargs -0 -P {CORES} -n 64 sha256sum < {{names}}",
    "hashdeep": f"hashdeep -c sha256 -j {CORES} -r -l .",
    "rhash": "rhash --sha256 -r .",
    "rclone": f"rclone hashsum SHA256 --checkers {CORES} .",
    "python pool, a file per task": f"{sys.executable} {__file__} --pool 1 {{names}}",
    "python pool, chunks": f"{sys.executable} {__file__} --pool 64 {{names}}",
}
BLAKE3: dict[str, str] = {
    "unisono sum": f"{COMMAND} sum -q -a blake3 .",
    "b3sum": "xargs -0 b3sum < {names}",
}


def make(folder: Path, sizes: list[tuple[str, int, int]]) -> None:
    """Files of pseudo-random content: `(subfolder, how many, how long)`."""
    noise = os.urandom(MIB)
    for name, count, size in sizes:
        for number in range(count):
            if number % 1000 == 0:
                part = folder / name / f"{number // 1000:03}"
                part.mkdir(parents=True)
            with (part / f"{number % 1000:03}").open("wb") as file:
                file.write(number.to_bytes(8, "little"))
                left = size - 8
                while left > 0:
                    file.write(noise[: min(left, MIB)])
                    left -= MIB


def digest(path: str) -> str:
    with open(path, "rb") as file:
        return f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path}"


def pool(chunk: int, names: str) -> None:
    """As in every tutorial."""
    paths = Path(names).read_bytes().rstrip(b"\0").decode().split("\0")
    with concurrent.futures.ProcessPoolExecutor(CORES) as workers:
        for line in workers.map(digest, paths, chunksize=chunk):
            print(line)


def turn(words: str, tree: Path, names: Path) -> tuple[float, float, float, bytes]:
    """Wall seconds, CPU seconds, peak MB of the largest process, and what it printed."""
    with tempfile.TemporaryFile() as out:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        begun = time.perf_counter()
        peak = peak_of(["bash", "-c", words.format(names=names)], cwd=tree, stdout=out, stderr=subprocess.DEVNULL)
        wall = time.perf_counter() - begun
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        out.seek(0)
        return wall, cpu, peak, out.read()


def digests(printed: bytes) -> set[bytes]:
    return set(re.findall(rb"\b[0-9a-f]{64}\b", printed))


def measure(
    name: str, contenders: dict[str, str], tree: Path, names: Path, rounds: int
) -> dict[str, list[list[float]]]:
    results: dict[str, list[list[float]]] = {contender: [] for contender in contenders}
    expected: set[bytes] = set()
    for at in range(rounds):
        order = list(contenders)
        for contender in order[at % len(order) :] + order[: at % len(order)]:
            wall, cpu, peak, printed = turn(contenders[contender], tree, names)
            found = digests(printed)
            expected = expected or found
            if found != expected:
                raise SystemExit(f"bench: the digests of {contender} differ on {name}")
            results[contender].append([wall, cpu, peak])
    return results


def openssl() -> float:
    """MB/s of one core on long messages, times the cores."""
    done = subprocess.run(
        ["openssl", "speed", "-evp", "sha256", "-bytes", "16384", "-seconds", "2", "-multi", str(CORES)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(re.search(r"([\d.]+)k\s*$", done.stdout.strip())[1]) / 1000


def versions() -> dict[str, str]:
    ask: dict[str, Callable[[], str]] = {
        "coreutils": lambda: run("sha256sum --version").split()[3],
        "hashdeep": lambda: run("hashdeep -V").strip(),
        "rhash": lambda: run("rhash --version").split()[1],
        "rclone": lambda: run("rclone version").split()[1],
        "b3sum": lambda: run("b3sum --version").split()[1],
        "unisono": lambda: run(f"{COMMAND} --version").split()[1],
    }
    return {name: version() for name, version in ask.items()}


def run(words: str) -> str:
    return subprocess.run(words, shell=True, capture_output=True, text=True, check=True).stdout


def table(title: str, results: dict[str, list[list[float]]], size: int) -> str:
    ours = statistics.median(one[0] for one in results["unisono sum"])
    lines = [f"| {title} | seconds | spread | MB/s | times ours | CPU s | peak MB |", "|---|---|---|---|---|---|---|"]
    for contender, turns in results.items():
        walls = [one[0] for one in turns]
        wall = statistics.median(walls)
        cpu, peak = statistics.median(one[1] for one in turns), statistics.median(one[2] for one in turns)
        lines.append(
            f"| {contender} | {wall:.2f} | {min(walls):.2f}-{max(walls):.2f} | {size / wall / 1e6:,.0f} | {wall / ours:.2f} "
            f"| {cpu:.2f} | {peak:.0f} |"
        )
    return "\n".join(lines)


TREES = {
    "4,000 x 1 MiB": [("large", 4000, MIB)],
    "100,000 x 4 KiB": [("small", 100_000, 4096)],
    "4 GiB + 1,000 x 1 MiB + 50,000 x 4 KiB": [("huge", 1, 4 << 30), ("large", 1000, MIB), ("small", 50_000, 4096)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pool", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pool:
        pool(int(options.pool[0]), options.pool[1])
    else:
        compare(options.rounds)


def compare(rounds: int) -> None:
    raw: dict[str, object] = {"versions": versions(), "rounds": rounds, "openssl_mb_per_s": openssl()}
    texts = []
    for title, sizes in TREES.items():
        folder = Path(tempfile.mkdtemp(prefix="unisono-bench-"))
        try:
            tree, names = folder / "tree", folder / "names"
            make(tree, sizes)
            found = sorted(path.relative_to(tree) for path in tree.rglob("*") if path.is_file())
            names.write_bytes(b"".join(os.fsencode(path) + b"\0" for path in found))
            total = sum(count * size for _, count, size in sizes)
            for algorithm, contenders in (("SHA-256", SHA256), ("BLAKE3", BLAKE3)):
                results = measure(title, contenders, tree, names, rounds)
                raw[f"{algorithm}, {title}"] = results
                texts.append(table(f"{algorithm}, {title}", results, total))
        finally:
            shutil.rmtree(folder)
    shown = ", ".join(f"{name} {version}" for name, version in raw["versions"].items())
    speed = f"`openssl speed` x {CORES} cores: {raw['openssl_mb_per_s']:,.0f} MB/s."
    text = "\n\n".join([*texts, f"Medians of {rounds} rounds. {speed} {shown}."])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "sum.json").write_text(json.dumps(raw) + "\n")
    (RESULTS / "sum.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
