"""A results file whose run was killed, copied without its run file: refused, until `adopt=True` takes it as it is."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import unisono

# The first item of each is done, and the second never ends.
FACES = {
    "fetch": "unisono.fetch([f'{url}/items/1', f'{url}/held'], limit=1, **options)",
    "fetch_what_must_not_be_repeated": (
        "unisono.fetch([{'url': f'{url}/items/1'}, {'url': f'{url}/held', 'method': 'POST'}], limit=1, **options)"
    ),
    "digest": "unisono.files.digest([folder / 'a', folder / 'pipe'], limit=1, **options)",
    "files_each": "unisono.files.each(forever, [folder / 'a', folder / 'pipe'], limit=1, **options)",
    "commands_each": (
        "unisono.commands.each([['true'], ['sh', '-c', 'exec cat >\"$1\"', '-', f'{folder}/pipe']], limit=1, **options)"
    ),
    "coroutines": "unisono.batch(forever_on_loop, [str(folder / 'a'), 'pipe'], limit=1, **options)",
    "threads": "unisono.batch(forever, [str(folder / 'a'), 'pipe'], limit=1, **options)",
}
# What becomes of the second, which is not known to have been started or not.
IDEMPOTENT = ("fetch", "digest")

BEGIN = """
    import asyncio, sys, threading, unisono
    from pathlib import Path

    url, folder = sys.argv[1], Path(sys.argv[2])

    def forever(path):
        if not str(path).endswith("a"):
            threading.Event().wait()

    async def forever_on_loop(path):
        if not path.endswith("a"):
            await asyncio.Event().wait()

    options = {"out": folder / "r.jsonl"}
"""


def forever(path):
    """What never ended in the run that was killed does now."""


async def forever_on_loop(path):
    pass


def killed(face, url, folder):
    """Leaves the results file of a run that was killed when its first item was done."""
    (folder / "a").write_text("a")
    os.mkfifo(folder / "pipe")
    # Something must come first, and the line of what has ended is written a moment later.
    program = textwrap.dedent(BEGIN) + f"for _ in {FACES[face]}: print('done', flush=True)\n"
    with subprocess.Popen(
        [sys.executable, "-c", program, url, str(folder)], stdout=subprocess.PIPE, text=True
    ) as begun:
        while begun.stdout.readline() != "done\n":
            assert begun.poll() is None
        while b"\n" not in (folder / "r.jsonl").read_bytes():
            assert begun.poll() is None
        begun.kill()
    # Python has no guardian, so a command may be left that waits for the other end of the pipe.
    end = os.open(folder / "pipe", os.O_RDWR | os.O_NONBLOCK)
    (folder / "pipe").unlink()
    return end


@pytest.mark.parametrize("face", FACES)
def test_a_copy_is_refused_until_it_is_adopted(server, tmp_path, lines, face):
    end = killed(face, server.url, tmp_path)
    (tmp_path / "pipe").write_text("b")
    server.gate.set()
    copy = shutil.copy(tmp_path / "r.jsonl", tmp_path / "copy.jsonl")
    before = Path(copy).read_bytes()

    def batch(**options):
        options["out"] = copy
        names = {"unisono": unisono, "url": server.url, "folder": tmp_path, "options": options}
        return eval(FACES[face], {**globals(), **names})

    for refused in ({"resume": True}, {"retry_failed": True}, {"retry_ambiguous": True}):
        with pytest.raises(unisono.UsageError, match=r"has not ended.*adopt=True"):
            batch(**refused).run()
    assert Path(copy).read_bytes() == before
    report = batch(adopt=True).run()
    assert report.kept["ok"] == 1
    assert report.total == 2
    assert (report.ok, report.ambiguous) == ((2, 0) if face in IDEMPOTENT else (1, 1))
    # From here on it is a file like any other.
    again = batch(resume=True).run()
    assert sum(again.kept.values()) == 2
    assert [line["outcome"] for line in lines(Path(copy))].count("ok") == report.ok
    if report.ambiguous:
        assert batch(retry_ambiguous=True).run().ok == 2
    os.close(end)


def test_adopting_needs_a_results_file():
    for make in (
        lambda: unisono.fetch([], adopt=True),
        lambda: unisono.files.digest([], adopt=True),
        lambda: unisono.commands.each([], adopt=True),
        lambda: unisono.batch(forever, [], adopt=True),
        lambda: unisono.files.each(forever, [], adopt=True),
    ):
        with pytest.raises(unisono.UsageError, match=r"adopt.* need out="):
            make().run()
