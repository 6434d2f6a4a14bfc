"""A command per item against the peers: 5,000 x `/bin/true ITEM`, two at a time.

Contenders take turns, five rounds by default; what is kept is the median and the spread, relative to a bare loop of
`posix_spawn` and `waitpid` in C. Peers are Debian packages: `findutils` (xargs), `parallel`, `moreutils`
(`parallel.moreutils`), `gcc`. One that is missing is said so in the table.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from peak import peak_of

HERE = Path(__file__).parent
RESULTS = HERE / "results"
UNISONO = os.environ.get("UNISONO", str(Path(sys.executable).with_name("unisono")))

BARE = r"""
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
extern char **environ;
int main(int argc, char **argv) {
    int count = atoi(argv[1]), jobs = atoi(argv[2]), running = 0;
    for (int n = 0; n < count; n++) {
        if (running == jobs) { wait(0); running--; }
        char item[16];
        snprintf(item, sizeof item, "%d", n);
        char *words[] = {"/bin/true", item, 0};
        pid_t pid;
        if (posix_spawn(&pid, words[0], 0, 0, words, environ)) return 1;
        running++;
    }
    while (running--) wait(0);
}
"""

ASYNCIO = """
import asyncio, sys
async def main(count, jobs):
    limit = asyncio.Semaphore(jobs)
    async def one(n):
        async with limit:
            process = await asyncio.create_subprocess_exec("/bin/true", str(n), stdout=-1, stderr=-1)
            await process.communicate()
    await asyncio.gather(*map(one, range(count)))
asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
"""


def contenders(folder: Path, count: int, jobs: int) -> dict[str, list[str] | None]:
    """The command of each; `None` for one that is not installed."""
    items = str(folder / "items")
    Path(items).write_text("".join(f"{n}\n" for n in range(count)))
    numbers = [str(n) for n in range(count)]
    found = {"posix_spawn": None, "xargs": None, "GNU parallel": None, "moreutils": None}
    if compiler := shutil.which("cc"):
        (folder / "bare.c").write_text(BARE)
        subprocess.run([compiler, "-O2", "-o", folder / "bare", folder / "bare.c"], check=True)
        found["posix_spawn"] = [str(folder / "bare"), str(count), str(jobs)]
    if xargs := shutil.which("xargs"):
        found["xargs"] = [xargs, "-a", items, "-n1", f"-P{jobs}", "/bin/true"]
    if parallel := shutil.which("parallel"):
        version = subprocess.run([parallel, "--version"], capture_output=True, text=True, check=False)
        if "GNU parallel" in version.stdout:
            found["GNU parallel"] = [parallel, f"-j{jobs}", "-a", items, "/bin/true", "{}"]
    if moreutils := shutil.which("parallel.moreutils"):
        found["moreutils"] = [moreutils, "-j", str(jobs), "/bin/true", "--", *numbers]
    each = [UNISONO, "each", "-q", "-j", str(jobs), "--from", items]
    return {
        **found,
        "asyncio": [sys.executable, "-c", ASYNCIO, str(count), str(jobs)],
        "unisono each": [*each, "--", "/bin/true", "{}"],
        "unisono each -o": [*each, "-o", str(folder / "r.jsonl"), "--overwrite", "--", "/bin/true", "{}"],
    }


def measure(words: list[str]) -> tuple[float, float, float]:
    """Wall and CPU seconds, those of all its children included, and the peak of its largest process in MB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    peak = peak_of(words, stdin=subprocess.DEVNULL)
    wall = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        words = contenders(Path(name), options.count, options.jobs)
        runs: dict[str, list[tuple[float, float, float]]] = {contender: [] for contender in words}
        for _ in range(options.rounds):
            for contender, command in words.items():
                if command:
                    runs[contender].append(measure(command))
    lines = ["| | wall | spread | relative | CPU | spread | relative | peak |", "|---|---|---|---|---|---|---|---|"]
    bare = runs["posix_spawn"]
    base, base_cpu = [statistics.median(run[at] for run in bare) if bare else None for at in (0, 1)]
    for contender, taken in runs.items():
        if not taken:
            lines.append(f"| {contender} | not installed | | | | | | |")
            continue
        cells = [contender]
        for at, of in ((0, base), (1, base_cpu)):
            seconds = sorted(run[at] for run in taken)
            middle = statistics.median(seconds)
            cells += [f"{middle:.2f} s", f"{seconds[0]:.2f}-{seconds[-1]:.2f}", f"{middle / of:.2f}" if of else ""]
        cells.append(f"{statistics.median(peak for _, _, peak in taken):.0f} MB")
        lines.append(f"| {' | '.join(cells)} |")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "each.md").write_text("\n".join(lines) + "\n")
    numbers = {"count": options.count, "jobs": options.jobs, "cores": os.cpu_count(), "runs": runs}
    (RESULTS / "each.json").write_text(json.dumps(numbers, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
