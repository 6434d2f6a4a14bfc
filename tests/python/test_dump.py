"""`unisono.dump()`: what it shows, where it can be called, and what it never touches."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import subprocess
import sys
import textwrap
import threading

import pytest

import unisono
from support.processes import PATIENCE


def dumped(**options):
    file = io.StringIO()
    unisono.dump(file=file, **options)
    return file.getvalue()


def seen():
    return json.loads(dumped(json=True))


def task_named(name, dump):
    return next(task for task in dump["tasks"] if task["name"] == name)


def run_program(program, *, cwd):
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=cwd, check=False)


def waits_in(*coroutines):
    """What the tasks of some coroutines wait for, after a turn of the loop."""

    async def main():
        tasks = [asyncio.create_task(coroutine, name=f"t{number}") for number, coroutine in enumerate(coroutines)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        dump = seen()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return [task_named(f"t{number}", dump)["text"] for number in range(len(coroutines))]

    return asyncio.run(main())


async def sleeps():
    await asyncio.sleep(60)


async def in_queue():
    await asyncio.Queue().get()


async def in_event():
    await asyncio.wait_for(asyncio.Event().wait(), 60)


async def in_lock():
    lock = asyncio.Lock()
    await lock.acquire()
    await lock.acquire()


async def in_condition():
    condition = asyncio.Condition()
    async with condition:
        await condition.wait()


async def in_future():
    await asyncio.get_running_loop().create_future()


def test_it_says_what_each_task_waits_in():
    texts = waits_in(sleeps(), in_queue(), in_lock(), in_condition(), in_future())
    assert texts[0].startswith("sleeps for another ")
    assert texts[1:] == [
        "waits in Queue.get() of Queue #1",
        "waits in Lock.acquire() of Lock #1",
        "waits in Condition.wait() of Condition #1",
        "waits for a future",
    ]


def test_a_lock_is_shown_with_its_holder_and_the_line_that_took_it():
    async def main():
        lock = asyncio.Lock()

        async def holds():
            async with lock:
                await asyncio.sleep(60)

        async def waits():
            async with lock:
                pass

        async with asyncio.TaskGroup() as group:
            holder = group.create_task(holds(), name="holder")
            waiter = group.create_task(waits(), name="waiter")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            dump = seen()
            holder.cancel()
            waiter.cancel()
        return dump

    dump = asyncio.run(main())
    line = in_source("async with lock:\n                await asyncio.sleep(60)")
    assert f"held by 'holder' since {__file__}:{line}" in task_named("waiter", dump)["text"].replace(
        dump["tasks"][0]["at"]["file"], __file__
    )
    assert [hold["since"]["line"] for hold in task_named("holder", dump)["holds"]] == [line]


def in_source(text):
    with open(__file__) as file:
        return file.read().split(text)[0].count("\n") + 1


def test_the_lines_of_an_asynchronous_generator_are_shown():
    async def rows():
        yield 1
        await asyncio.sleep(60)

    async def reads():
        async for _ in rows():
            pass

    async def main():
        task = asyncio.create_task(reads(), name="reads")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        dump = seen()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return dump

    stack = task_named("reads", asyncio.run(main()))["stack"]
    own = [site["function"].rsplit(".", 1)[-1] for site in stack if not site["is_framework"]]
    assert own == ["reads", "rows"]


class Hostile:
    """Whatever is asked of it ends the test."""

    def __repr__(self):
        raise AssertionError("repr")

    __str__ = __repr__

    def __eq__(self, other):
        raise AssertionError("eq")

    def __hash__(self):
        return 1

    def __bool__(self):
        raise AssertionError("bool")

    def __getattr__(self, name):
        raise AssertionError(name)

    @property
    def _waiters(self):
        raise AssertionError("property")


class HostileTask(asyncio.Task):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)

    def __getattribute__(self, name):
        if sys._getframe(1).f_code.co_filename == unisono._watch.dump.__file__:
            raise AssertionError(name)
        return super().__getattribute__(name)

    @property
    def _fut_waiter(self):
        raise AssertionError("property")


def test_nothing_of_the_program_is_called_compared_or_shown():
    called = []

    class Name(str):
        __slots__ = ()

        def __str__(self):
            called.append("name")
            return "shown"

    async def waits(secret):
        password = Hostile()
        event = asyncio.Event()
        event.extra = {Hostile(): password}
        await event.wait()
        return secret

    async def main():
        loop = asyncio.get_running_loop()
        asyncio.current_task().set_name("Task-1")
        task = HostileTask(waits("hunter2"), loop=loop, name="plain")
        other = loop.create_task(waits("hunter2"))
        other.set_name(Name("a name with methods"))
        called.clear()
        await asyncio.sleep(0)
        text, dump = dumped(), dumped(json=True)
        for each in (task, other):
            each.cancel()
        await asyncio.wait([task, other])
        return text, dump

    text, dump = asyncio.run(main())
    assert not called
    assert "hunter2" not in text + dump
    seen_tasks = json.loads(dump)["tasks"]
    assert sorted((task["name"], task["waits"]) for task in seen_tasks) == [
        ("Task-1", "running"),
        ("plain", "thing"),
        ("shown", "thing"),
    ]


def test_the_collector_is_left_as_it_was():
    for on in (True, False):
        (gc.enable if on else gc.disable)()
        try:
            dumped()
            assert gc.isenabled() is on
        finally:
            gc.enable()


def test_a_look_leaves_no_reference_behind():
    async def main():
        kept = asyncio.Event()

        async def waits(event):
            await event.wait()

        task = asyncio.create_task(waits(kept))
        await asyncio.sleep(0)
        dumped()
        before = sys.getrefcount(kept), sys.getrefcount(task)
        for _ in range(5):
            dumped()
        after = sys.getrefcount(kept), sys.getrefcount(task)
        task.cancel()
        return before, after

    before, after = asyncio.run(main())
    assert before == after


def test_it_works_from_another_thread_and_for_several_loops():
    ready, over = threading.Barrier(3), threading.Event()

    def run(name):
        async def main():
            asyncio.current_task().set_name(name)
            ready.wait()
            await asyncio.to_thread(over.wait)

        asyncio.run(main())

    threads = [threading.Thread(target=run, args=(f"main-{number}",)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        ready.wait()
        dump = seen()
        while not all(task_named(f"main-{number}", dump)["waits"] == "job" for number in range(2)):
            dump = seen()
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert len(dump["loops"]) == 2
    assert {loop["thread"] is not None for loop in dump["loops"]} == {True}


def test_a_program_without_asyncio_shows_its_threads(tmp_path):
    done = run_program("import unisono; unisono.dump()", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "0 tasks on 0 loops, 1 thread" in done.stderr
    assert "'MainThread' (asked for this) at <string>:1 in <module>" in done.stderr


def test_it_goes_to_a_path_or_a_stream(tmp_path):
    path = tmp_path / "dump.txt"
    unisono.dump(file=path)
    assert path.read_text().startswith("process ")
    unisono.dump(json=True, file=str(path))
    assert json.loads(path.read_text())["findings"] == []


def test_a_finding_that_has_moved_on_is_not_believed():
    """The workers wait for each other's items again and again; no look may call that the end."""

    async def main():
        lock, queue, over = asyncio.Lock(), asyncio.Queue(), False
        found = []

        def looks():
            nonlocal over
            for _ in range(20):
                found.extend(seen()["findings"])
            over = True

        async def leaf():
            async with lock:
                await asyncio.sleep(0)
            await queue.put(1)
            await queue.get()

        thread = threading.Thread(target=looks)
        thread.start()
        while not over:
            await asyncio.gather(*(leaf() for _ in range(50)))
        thread.join()
        return found

    assert asyncio.run(main()) == []


@pytest.mark.parametrize("count", [1_000])
def test_many_tasks_with_one_stack_are_one_line(count):
    async def main():
        queue = asyncio.Queue()
        tasks = [asyncio.create_task(queue.get()) for _ in range(count)]
        await asyncio.sleep(0)
        text = dumped()
        for task in tasks:
            task.cancel()
        return text

    text = asyncio.run(main())
    assert f"{count} tasks (" in text
    assert len(text.splitlines()) < 30
