"""A system has only so many threads. Whatever cannot have one says so, loses no item, leaves nothing, and works again later."""

import gc
import json
import os
import queue
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import pytest

import unisono
from support.processes import until
from unisono import batch
from unisono._batches import batch as batches
from unisono.errors import RunError


async def on_a_loop(number):
    return number


def filled(kind):
    given = kind()
    for number in range(3):
        given.put(number)
    return given


@pytest.fixture
def no_threads(monkeypatch):
    """None whose name begins like this can be started."""

    def refuse(name):
        start = threading.Thread.start

        def start_or_not(thread):
            if thread.name.startswith(name):
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_or_not)

    return refuse


def nothing_is_left(before):
    def is_back():
        gc.collect()
        batches._prune_abandoned()
        return not batches._abandoned and open_now() <= before

    until(is_back, f"there were {before}, and that they")


def open_now():
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


@pytest.mark.parametrize(
    ("thread", "make"),
    [
        ("unisono-on_a_loop", lambda **options: batch(on_a_loop, range(3), **options)),
        ("unisono-abs", lambda **options: batch(abs, range(3), **options)),
        ("unisono-abs", lambda **options: batch(abs, range(3), executor="processes", **options)),
    ],
    ids=["coroutines", "threads", "processes"],
)
def test_a_batch_without_a_thread_to_serve_it_says_so_and_can_be_begun_again(
    no_threads, monkeypatch, tmp_path, thread, make
):
    # What is kept for the next time is there.
    make().run()
    nothing_is_left((2**20, 2**20))
    before = open_now()
    made = make(out=tmp_path / "out.jsonl")
    with monkeypatch.context():
        no_threads(thread)
        for _ in range(3):
            with pytest.raises(RunError, match=r"no thread to serve unisono-.*: can't start new thread"):
                made.run()
        monkeypatch.undo()
    # The file is that of the runs that came to nothing, which are waited for.
    assert made._options["out"] == tmp_path / "out.jsonl"
    nothing_is_left(before)
    again = make(out=tmp_path / "out.jsonl", resume=True)
    assert again.run().ok == 3
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("kind", [unisono.Queue, queue.Queue])
def test_items_of_a_queue_for_which_there_is_no_thread_stay_there(no_threads, monkeypatch, kind):
    given = filled(kind)
    made = batch(abs, given, limit=2)
    with monkeypatch.context():
        no_threads("unisono-items")
        with pytest.raises(RunError, match="no thread to take items from a queue"):
            next(made)
        monkeypatch.undo()
    assert given.qsize() == 3
    assert sorted(next(made).result for _ in range(3)) == [0, 1, 2]
    made.close()


def test_calls_for_which_there_is_no_thread_at_all_are_for_the_next_run(no_threads, monkeypatch, tmp_path):
    out = tmp_path / "out.jsonl"
    made = batch(abs, range(30), out=out, limit=2)
    kinds = []
    with monkeypatch.context():
        no_threads("batch_")
        with pytest.raises(RunError, match="no thread for batch: can't start new thread"):
            for outcome in made:
                kinds.append(outcome.kind)
                assert outcome.kind == "cancelled"
        monkeypatch.undo()
    assert len(kinds) == made.report.total
    assert made.report.total + made.report.pending == 30
    assert batch(abs, range(30), out=out, resume=True).run().ok == 30
    assert {json.loads(line)["outcome"] for line in out.read_text().splitlines()} == {"ok"}


def test_a_pool_without_any_thread_refuses_the_task_and_takes_it_later(no_threads, monkeypatch):
    with unisono.ThreadPool(2, max_pending=1) as pool:
        with monkeypatch.context():
            no_threads("ThreadPool")
            for _ in range(3):
                with pytest.raises(RunError, match="can't start new thread"):
                    pool.submit(abs, -1)
            monkeypatch.undo()
        assert pool.submit(abs, -1).result(60) == 1


# With the system's own limit, which root does not have: a program that has become another user's, and may have ever more
# threads. Each time something either works or raises an exception of ours, and nothing is left.

SWEEP = """
    import asyncio, ctypes, gc, json, os, resource, sys, time
    import unisono
    from unisono._batches import batch as batches

    async def on_a_loop(number):
        return number

    def pass_by_threads():
        limiter = unisono.Limiter(rate="1000/s burst 1")
        for _ in range(3):
            with limiter:
                pass
        return [limiter.inside, limiter.waiting]

    def pass_on_a_loop():
        limiter = unisono.Limiter(rate="1000/s burst 1")
        async def main():
            for _ in range(3):
                async with limiter:
                    pass
        asyncio.run(main())
        return [limiter.inside, limiter.waiting]

    def bound_by_a_rate():
        # A waiter gets in, whether or not there is a thread for the rate that comes meanwhile.
        async def main():
            limiter = unisono.Limiter(limit=1)
            await limiter.aacquire()
            waits = asyncio.create_task(limiter.aacquire())
            await asyncio.sleep(0)
            try:
                limiter.set_limits(limit=3, rate="1000/s")
            except RuntimeError:
                assert limiter.limit == 1
                limiter.release()
                raise
            finally:
                async with asyncio.timeout(60):
                    await waits
            return limiter.inside
        return asyncio.run(main())

    def ask():
        with unisono.Client() as client:
            return client.get(URL).status_code

    def ask_on_a_loop():
        async def main():
            async with unisono.AsyncClient() as client:
                return (await client.get(URL)).status_code
        return asyncio.run(main())

    def ends(made):
        kinds = sorted(outcome.kind for outcome in made)
        return kinds if made.report.pending in (0, None) else "pending"

    def on_their_loop():
        async def main():
            made = unisono.batch(on_a_loop, range(3))
            return sorted([outcome.kind async for outcome in made])
        return asyncio.run(main())

    def of_a_queue():
        given = unisono.Queue()
        for number in range(3):
            given.put(number)
        given.close()
        return ends(unisono.batch(abs, given))

    def by_a_pool():
        with unisono.ThreadPool(4) as pool:
            return list(pool.map(abs, range(3)))

    OPERATIONS = {
        "pass_by_threads": (pass_by_threads, [0, 0]),
        "pass_on_a_loop": (pass_on_a_loop, [0, 0]),
        "bound_by_a_rate": (bound_by_a_rate, 2),
        "ask": (ask, 200),
        "ask_on_a_loop": (ask_on_a_loop, 200),
        "fetch": (lambda: ends(unisono.fetch([URL] * 3)), ["ok"] * 3),
        "select": (lambda: ends(unisono.fetch([URL] * 3, select=".id")), ["ok"] * 3),
        "digest": (lambda: ends(unisono.files.digest([FOLDER])), ["ok"] * 3),
        "commands": (lambda: ends(unisono.commands.each([["true"]] * 3)), ["ok"] * 3),
        "coroutines": (lambda: ends(unisono.batch(on_a_loop, range(3))), ["ok"] * 3),
        "on_their_loop": (on_their_loop, ["ok"] * 3),
        "threads": (lambda: ends(unisono.batch(abs, range(3))), ["ok"] * 3),
        "results": (lambda: ends(unisono.batch(abs, range(3), out=f"{FOLDER}/../{time.time()}")), ["ok"] * 3),
        "of_a_queue": (of_a_queue, ["ok"] * 3),
        "by_a_pool": (by_a_pool, [0, 1, 2]),
    }
    URL, FOLDER, uid = sys.argv[1], sys.argv[2], int(sys.argv[3])

    def now():
        gc.collect()
        batches._prune_abandoned()
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    def settled(most):
        deadline = time.monotonic() + 60
        while any(map(int.__gt__, now(), most)):
            assert time.monotonic() < deadline, f"there were {most}, and are {now()}"
            time.sleep(0.005)

    # Whatever is imported late is, before it may not be read any more.
    for operation, right in OPERATIONS.values():
        assert operation() == right, operation
    settled((10**6, 1))
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    # A process that becomes another user's may not look at itself until it says so (PR_SET_DUMPABLE, prctl(2)).
    ctypes.CDLL(None).prctl(4, 1)
    before, hard = now(), resource.getrlimit(resource.RLIMIT_NPROC)[1]
    for name, (operation, right) in OPERATIONS.items():
        found = []
        for threads in range(1, 12):
            resource.setrlimit(resource.RLIMIT_NPROC, (threads, hard))
            try:
                came = operation()
                found.append("ok" if came == right else came)
            except (unisono.Error, RuntimeError) as error:
                found.append(f"{type(error).__name__}: {error}")
            resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
            settled(before)
        print(json.dumps([name, found]), flush=True)
"""


@pytest.fixture
def tmp_path_of_everybody():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o777)
        yield path


def test_whatever_has_fewer_threads_than_it_wants_works_or_says_so_and_leaves_nothing(server, tmp_path_of_everybody):
    if os.getuid() != 0:
        pytest.skip("a user of whom there is nothing else is for root alone to become")
    # Folders of pytest are for no other user.
    folder = tmp_path_of_everybody / "files"
    folder.mkdir()
    for name in "abc":
        (folder / name).write_text(name)
    # Of each user the kernel counts all threads there are.
    uid = 1_000_000 + os.getpid()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SWEEP), f"{server.url}/items/1", folder, str(uid)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = dict(map(json.loads, done.stdout.splitlines()))
    for name, found in told.items():
        assert "ok" in found, (name, found)
        for end in found:
            # A kind of outcome for each of three items, or an exception that names threads.
            if isinstance(end, str):
                assert end == "ok" or "thread" in end or "Resource temporarily unavailable" in end, (name, end)
            else:
                assert len(end) == 3, (name, end)
    assert "panicked" not in done.stderr
