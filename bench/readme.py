"""Writes the table of the README from bench/results, or says that it is another one: `python bench/readme.py [--check]`.

A figure stands here by where it is to be found: file, first words of its table's head, row, column, and to how many digits it
is rounded; so that the README cannot say anything that no benchmark has printed.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
BEGIN, END = "<!-- bench/readme.py -->", "<!-- end -->"

ROWS = [
    (
        "`fetch`: CPU seconds for 10,000 calls, each outcome in a results file",
        "**{fetch||unisono fetch|CPU-s per 10,000|3}**",
        "pycurl {fetch||pycurl multi|CPU-s per 10,000|3} · ry {fetch||ry|CPU-s per 10,000|3} · curl -Z "
        "{fetch||curl -Z|CPU-s per 10,000|3} · aiohttp {fetch||aiohttp|CPU-s per 10,000|3} · reqstorm "
        "{fetch||reqstorm|CPU-s per 10,000|3} · httpx {fetch||httpx|CPU-s per 10,000|3}",
    ),
    (
        "`sum`: SHA-256 of 4,000 x 1 MiB, MB/s",
        "**{sum|SHA-256, 4,000|unisono sum|MB/s|3}**",
        "Python pool, chunked {sum|SHA-256, 4,000|python pool, chunks|MB/s|3} · rhash {sum|SHA-256, 4,000|rhash|MB/s|3} · "
        "rclone {sum|SHA-256, 4,000|rclone|MB/s|3} · xargs sha256sum {sum|SHA-256, 4,000|xargs -P sha256sum|MB/s|3} · "
        "hashdeep {sum|SHA-256, 4,000|hashdeep|MB/s|3}",
    ),
    (
        "`sum`: SHA-256 of 100,000 x 4 KiB, seconds",
        "**{sum|SHA-256, 100,000|unisono sum|seconds|3}**",
        "rhash {sum|SHA-256, 100,000|rhash|seconds|3} · Python pool, chunked "
        "{sum|SHA-256, 100,000|python pool, chunks|seconds|3} · xargs sha256sum "
        "{sum|SHA-256, 100,000|xargs -P sha256sum|seconds|3} · hashdeep {sum|SHA-256, 100,000|hashdeep|seconds|3} · "
        "rclone {sum|SHA-256, 100,000|rclone|seconds|3}",
    ),
    (
        "`sum`: BLAKE3 of 4,000 x 1 MiB, MB/s; of a tree with one file of 4 GiB, seconds",
        "**{sum|BLAKE3, 4,000|unisono sum|MB/s|3}**; **{sum|BLAKE3, 4 GiB|unisono sum|seconds|3}**",
        "b3sum {sum|BLAKE3, 4,000|b3sum|MB/s|3}; {sum|BLAKE3, 4 GiB|b3sum|seconds|3}",
    ),
    (
        "`each`: CPU of 5,000 commands, output captured, relative to a bare loop of `posix_spawn`",
        "**{each||unisono each|CPU relative|3}** (with a journal {each||unisono each -o|CPU relative|3})",
        "xargs {each||xargs|CPU relative|3} · moreutils {each||moreutils|CPU relative|3} · asyncio "
        "{each||asyncio|CPU relative|3} · GNU parallel {each||GNU parallel|CPU relative|3}",
    ),
    (
        "`init`: TERM to exit, ms; private memory, KiB",
        "**{init||unisono-init, static with musl|TERM to exit, ms|3}**; "
        "**{init||unisono-init, static with musl|private KiB|3}** (static)",
        "dumb-init {init||dumb-init|TERM to exit, ms|3}; {init||dumb-init|private KiB|3} · catatonit "
        "{init||catatonit|TERM to exit, ms|3}; {init||catatonit|private KiB|3} · tini "
        "{init||tini|TERM to exit, ms|3}; {init||tini|private KiB|3}",
    ),
    (
        "`batch`: CPU seconds for 100,000 trivial coroutines, 100 at a time; peak MiB",
        "**{batch||unisono.batch, asyncio|CPU|3}**; **{batch||unisono.batch, asyncio|peak|3}**",
        "`gather` and a semaphore {batch||gather and a semaphore, asyncio|CPU|3}; "
        "{batch||gather and a semaphore, asyncio|peak|3}",
    ),
    (
        "`pools`: tasks a second by `map`",
        "**{pools|tasks a second in processes|unisono.ProcessPool|map|3}**",
        "joblib {pools|tasks a second in processes|joblib|map|3} · multiprocessing.Pool "
        "{pools|tasks a second in processes|multiprocessing.Pool|map|3} · billiard "
        "{pools|tasks a second in processes|billiard|map|3} · pebble {pools|tasks a second in processes|pebble|map|3} · "
        "concurrent.futures {pools|tasks a second in processes|concurrent.futures.ProcessPoolExecutor|map|3}",
    ),
    (
        "`pools`: tasks a second, one at a time",
        "**{pools|tasks a second in processes|unisono.ProcessPool|one at a time|3}**",
        "pebble {pools|tasks a second in processes|pebble|one at a time|3} · billiard "
        "{pools|tasks a second in processes|billiard|one at a time|3} · concurrent.futures "
        "{pools|tasks a second in processes|concurrent.futures.ProcessPoolExecutor|one at a time|3} · "
        "multiprocessing.Pool {pools|tasks a second in processes|multiprocessing.Pool|one at a time|3}",
    ),
    (
        "`pools`: a 10 MB array from a worker, ms",
        "**{pools|tasks a second in processes|unisono.ProcessPool|10 MB array|2}**",
        "billiard {pools|tasks a second in processes|billiard|10 MB array|2} · concurrent.futures "
        "{pools|tasks a second in processes|concurrent.futures.ProcessPoolExecutor|10 MB array|2} · "
        "multiprocessing.Pool {pools|tasks a second in processes|multiprocessing.Pool|10 MB array|2}",
    ),
    (
        "`pools`: tasks a second in threads, by `submit`; one at a time",
        "**{pools|tasks a second in threads|unisono.ThreadPool|submit|3}**; "
        "**{pools|tasks a second in threads|unisono.ThreadPool|one at a time|3}**",
        "concurrent.futures {pools|tasks a second in threads|concurrent.futures.ThreadPoolExecutor|submit|3}; "
        "{pools|tasks a second in threads|concurrent.futures.ThreadPoolExecutor|one at a time|3}",
    ),
    (
        "`queues`: items a second, thread to thread; thread to coroutine",
        "**{queues||thread to thread|unisono|2}**; **{queues||thread to coroutine|unisono|2}**",
        "queue.Queue {queues||thread to thread|queue.Queue|2}; cannot · janus {queues||thread to thread|janus|2}; "
        "{queues||thread to coroutine|janus|2} · culsans {queues||thread to thread|culsans|2}; "
        "{queues||thread to coroutine|culsans|2}",
    ),
]


def tables(name: str) -> list[list[list[str]]]:
    """The tables of a page, each as rows of cells. A column that repeats another's name is told apart by the one before."""
    found: list[list[list[str]]] = []
    last = ""
    for line in (RESULTS / f"{name}.md").read_text().splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if not last.startswith("|"):
                found.append([])
            found[-1].append(cells)
        last = line
    for table in found:
        unit = ""
        for at, head in enumerate(table[0]):
            if head == "relative":
                table[0][at] = f"{unit} relative"
            elif head not in ("spread", "peak"):
                unit = head
    return found


def figure(place: str) -> str:
    """One figure, rounded."""
    name, head, row, column, digits = place.split("|")
    table = next(table for table in tables(name) if table[0][0].startswith(head))
    cells = next(cells for cells in table if cells[0] == row)
    number = re.match(r"[\d,.]+", cells[table[0].index(column)])
    if number is None:
        raise SystemExit(f"bench/readme.py: no figure at {place}")
    value = float(number[0].replace(",", ""))
    # To so many significant digits, as people write numbers.
    shown = float(f"{value:.{digits}g}")
    return f"{shown:,.0f}" if shown >= 100 else f"{shown:.{digits}g}"


def table() -> str:
    lines = ["| `make bench BENCH=` | unisono | beside |", "|---|---|---|"]
    for cells in ROWS:
        filled = [re.sub(r"\{([^}]*)\}", lambda match: figure(match[1]), cell) for cell in cells]
        lines.append(f"| {' | '.join(filled)} |")
    return "\n".join(lines)


def main() -> int:
    readme = ROOT / "README.md"
    text = readme.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END, 1)[1]
    fresh = f"{before}{BEGIN}\n{table()}\n{END}{after}"
    if "--check" in sys.argv[1:]:
        if fresh != text:
            print("README.md: its table is not what bench/results says (run `python bench/readme.py`)", file=sys.stderr)
            return 1
        return 0
    readme.write_text(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main())
