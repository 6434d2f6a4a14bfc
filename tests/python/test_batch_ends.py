"""Every way in which what serves a batch can end, and every way in which what feeds it or takes from it can.

Whatever it is, each item has its outcome, nothing waits for ever, and what is to hear of it does.
"""

import asyncio
import itertools
import os
import queue
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest
import uvloop

import unisono
from support.processes import until
from unisono import batch

RUNS = {"asyncio": asyncio.run, "uvloop": uvloop.run}


def counts(report):
    return Counter(
        {kind: count for kind in ("ok", "failed", "cancelled", "ambiguous") if (count := getattr(report, kind))}
    )


# The thread or loop that calls.


def cancel_everything():
    for task in asyncio.all_tasks():
        task.cancel()


def stop_the_loop():
    asyncio.get_running_loop().stop()


def stop_the_loop_twice():
    loop = asyncio.get_running_loop()

    def stop():
        loop.stop()
        loop.call_soon(loop.stop)

    loop.call_soon(stop)


def fork_a_child_that_ends():
    child = os.fork()
    if not child:
        os._exit(3)
    os.waitpid(child, 0)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("disturb", [cancel_everything, stop_the_loop, stop_the_loop_twice, fork_a_child_that_ends])
def test_whatever_a_coroutine_does_to_a_loop_of_ours_every_item_has_its_outcome(disturb):
    async def work(number):
        if number == 3:
            disturb()
        await asyncio.sleep(0)
        return number

    outcomes = list(batch(work, range(30), limit=4))
    assert sorted(outcome.row for outcome in outcomes) == list(range(30))
    assert {outcome.kind for outcome in outcomes} <= {"ok", "cancelled"}
    assert sum(outcome.ok for outcome in outcomes) >= 26


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("way", ["done callback", "callback"])
def test_an_exit_out_of_a_callback_on_a_loop_of_ours_reaches_whoever_takes_the_outcomes(kind, way):
    async def work(number):
        def leave(*_):
            raise kind(7)

        if number == 3:
            if way == "callback":
                asyncio.get_running_loop().call_soon(leave)
            else:
                asyncio.current_task().add_done_callback(leave)
        await asyncio.sleep(0)
        return number

    outcomes = batch(work, range(30), limit=2)
    with pytest.raises(kind):
        outcomes.run()
    assert outcomes.report.total + outcomes.report.pending == 30
    assert counts(outcomes.report).keys() <= {"ok", "cancelled"}


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit, LookupError])
def test_functions_that_raise_at_once_all_of_them_settle_all_their_calls(kind):
    def work(number):
        raise kind(number)

    outcomes = list(batch(work, range(20), executor="loop", limit=7))
    assert sorted(outcome.row for outcome in outcomes) == list(range(20))
    assert all(isinstance(outcome.error, kind) for outcome in outcomes)
    outcomes = batch(work, range(20), executor="loop", limit=7)

    async def main():
        return await outcomes

    if kind in (SystemExit, KeyboardInterrupt):
        with pytest.raises(kind):
            asyncio.run(main())
    else:
        asyncio.run(main())
    assert outcomes.report.total + outcomes.report.pending == 20
    assert outcomes.report.failed >= 1


def test_a_loop_that_its_owner_stops_leaves_an_account():
    async def work(number):
        if number == 3:
            stop_the_loop()
        await asyncio.sleep(0)

    outcomes = batch(work, range(30), limit=2)

    async def main():
        await outcomes

    with pytest.raises(RuntimeError, match="Event loop stopped"):
        asyncio.run(main())
    assert outcomes.report.total + outcomes.report.pending == 30


class Refusing(Executor):
    """An executor that takes some calls, and then raises."""

    def __init__(self, kind):
        self.kind, self.taken, self.inner = kind, 0, ThreadPoolExecutor(1)

    def submit(self, function, /, *arguments, **keywords) -> Future:
        self.taken += 1
        if self.taken > 3:
            raise self.kind("no more")
        return self.inner.submit(function, *arguments, **keywords)


@pytest.mark.parametrize("kind", [RuntimeError, SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit])
def test_an_executor_that_raises_as_it_is_given_a_call_fails_that_call(kind):
    outcomes = list(batch(str, range(10), executor=Refusing(kind), limit=2))
    assert sorted(outcome.row for outcome in outcomes) == list(range(10))
    assert [outcome.ok for outcome in outcomes].count(True) == 3
    assert all(isinstance(outcome.error, kind) for outcome in outcomes if not outcome.ok)


def test_a_program_whose_main_thread_ends_while_a_batch_runs_ends_as_well():
    program = """
        import asyncio, sys, threading, unisono
        begun = threading.Event()
        async def work(number):
            begun.set()
            await asyncio.sleep(0)
        def numbers():
            number = 0
            while True:
                yield number
        threading.Thread(target=lambda: unisono.batch(work, numbers(), limit=2).run(), daemon=True).start()
        begun.wait()
        sys.exit(3)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (3, "")


# What items come from.


class Raising:
    """Three items, and then this; as a plain iterator and as an asynchronous one."""

    def __init__(self, raises):
        self.raises, self.given = raises, 0

    def _next(self):
        self.given += 1
        if self.given > 3:
            raise self.raises
        return self.given

    def __iter__(self):
        return self

    def __next__(self):
        return self._next()


class RaisingAsync(Raising):
    __iter__ = None

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)
        return self._next()


async def on_a_loop(number):
    return number


def take(outcomes, way, into, run=asyncio.run):
    """Take all outcomes, their kinds into a list; what is raised goes on to the caller."""

    async def main():
        async for outcome in outcomes:
            into.append(outcome.kind)

    async def wait():
        await outcomes

    if way == "for":
        into.extend(outcome.kind for outcome in outcomes)
    elif way == "run":
        outcomes.run()
    else:
        run(main() if way == "async for" else wait())


@pytest.mark.parametrize("function", [str, on_a_loop], ids=["threads", "loop"])
@pytest.mark.parametrize("way", ["for", "run", "async for", "await"])
@pytest.mark.parametrize("kind", [asyncio.CancelledError, GeneratorExit, LookupError])
def test_what_items_raise_is_raised_once_all_before_it_have_their_outcomes(kind, way, function):
    sources = [Raising] if way in ("for", "run") else [Raising, RaisingAsync]
    for source in sources:
        outcomes, got = batch(function, source(kind("the inventory")), limit=2), []
        with pytest.raises(kind):
            take(outcomes, way, got)
        assert (outcomes.report.ok, outcomes.report.pending) == (3, None)
        assert got == (["ok"] * 3 if "for" in way else [])


@pytest.mark.parametrize("way", ["for", "run", "async for", "await"])
def test_items_that_raise_the_end_of_the_other_kind_of_iteration_have_failed(way):
    outcomes = batch(str, Raising(StopAsyncIteration()), limit=2)
    with pytest.raises(RuntimeError, match="the items raised StopAsyncIteration"):
        take(outcomes, way, [])
    assert outcomes.report.ok == 3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_exit_out_of_items_ends_the_loop_at_once_with_an_account_and_no_complaint(kind, run, capfd):
    outcomes = batch(on_a_loop, RaisingAsync(kind()), limit=2)
    with pytest.raises(kind):
        take(outcomes, "async for", [], run)
    assert outcomes.report.total == 3
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_exit_out_of_plain_items_loses_none_of_those_before_it(kind):
    outcomes, got = batch(str, Raising(kind()), limit=2), []
    with pytest.raises(kind):
        take(outcomes, "for", got)
    # A loop that goes on nevertheless finds them all.
    assert len(got) + len(list(outcomes)) == 3
    assert (outcomes.report.ok, outcomes.report.pending) == (3, None)


# What takes outcomes.


def test_tasks_of_two_loops_take_from_one_batch():
    for function in (str, on_a_loop):
        outcomes, got = batch(function, range(500), limit=4), []

        async def main(outcomes=outcomes, got=got):
            async for outcome in outcomes:
                got.append(outcome.row)
                await asyncio.sleep(0)

        threads = [threading.Thread(target=lambda main=main: asyncio.run(main()), daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(got) == list(range(500))


def test_threads_and_tasks_take_from_one_batch_together():
    outcomes, got = batch(str, range(1000), limit=4), []

    async def main():
        async for outcome in outcomes:
            got.append(outcome.row)

    def consume():
        got.extend(outcome.row for outcome in outcomes)

    threads = [
        threading.Thread(target=target, daemon=True) for target in (consume, consume, lambda: asyncio.run(main()))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(got) == list(range(1000))


def test_several_who_wait_for_the_report_all_get_it(tmp_path):
    for options in ({}, {"out": tmp_path / "results.jsonl"}):
        outcomes = batch(str, range(100), limit=4, **options)

        async def main(outcomes=outcomes):
            async def wait():
                return (await outcomes).ok

            return await asyncio.gather(*(wait() for _ in range(3)))

        assert asyncio.run(main()) == [100, 100, 100]


# Stopping from outside.


@pytest.mark.parametrize("kind", ["threads", "theirs", "processes"])
def test_nothing_that_an_executor_was_given_begins_after_a_cancel(kind, tmp_path):
    executors = {
        "threads": lambda: "threads",
        "theirs": lambda: ThreadPoolExecutor(2),
        "processes": lambda: unisono.ProcessPool(2),
    }
    given = executors[kind]()
    try:
        outcomes = batch(begin_and_wait, [(number, tmp_path) for number in range(50)], executor=given, limit=20)
        thread = threading.Thread(target=outcomes.run)
        thread.start()
        until(lambda: len(list(tmp_path.glob("begun-*"))) >= 2)
        outcomes.cancel()
        already = len(list(tmp_path.glob("begun-*")))
        (tmp_path / "release").touch()
        thread.join(60)
        begun = len(list(tmp_path.glob("begun-*")))
        # Threads of ours take whatever they are given at once.
        assert begun == already if kind != "threads" else begun <= 20
        assert (outcomes.report.ok, outcomes.report.ok + outcomes.report.cancelled) == (begun, outcomes.report.total)
    finally:
        if not isinstance(given, str):
            given.shutdown()


def begin_and_wait(item):
    number, folder = item
    (folder / f"begun-{number}").touch()
    while not (folder / "release").exists():
        time.sleep(0.002)


@pytest.mark.parametrize("retries", [0, 3])
@pytest.mark.parametrize("executor", ["threads", "processes", "loop"])
def test_a_call_that_fails_before_the_engine_hears_of_a_cancel_has_failed_unless_it_had_repeats(executor, retries):
    def cancel_and_agree(_error):
        # It is asked between the end of a call and the moment in which the engine hears of that.
        outcomes.cancel(abort=True)
        return True

    function = fail_on_the_loop if executor == "loop" else fail
    outcomes = batch(function, range(1), executor=executor, retries=retries, retry_on=cancel_and_agree)
    (outcome,) = outcomes
    if retries:
        assert (outcome.kind, outcome.attempts) == ("cancelled", 1)
    else:
        assert (outcome.kind, repr(outcome.error), outcome.attempts) == ("failed", "LookupError(7)", 1)


def fail(number):
    raise LookupError(number + 7)


async def fail_on_the_loop(number):
    fail(number)


@pytest.mark.parametrize("kind", ["fetch", "commands", "functions"])
def test_what_waits_for_its_repeat_when_its_batch_is_cancelled_is_left_to_the_next_run(kind, server):
    kinds = {
        "fetch": lambda: unisono.fetch([f"{server.url}/status/500"], retries=100, retry_budget="none"),
        "commands": lambda: unisono.commands.each([["false"]], retries=100),
        "functions": lambda: batch(fail, range(1), retries=100),
    }
    outcomes = kinds[kind]()
    taken = []
    thread = threading.Thread(target=lambda: taken.extend(outcomes))
    thread.start()
    until(lambda: outcomes.progress.get("retries", 0) >= 1)
    outcomes.cancel()
    thread.join(60)
    # Whether it waits or runs, there is no further attempt; a resume repeats what is cancelled.
    (outcome,) = taken
    assert (outcome.kind, bool(outcome.error)) == ("cancelled", True)
    assert outcome.attempts < 100


@pytest.mark.parametrize("is_async", [False, True])
def test_no_coroutine_begins_after_a_cancel(is_async):
    begun, ended = [], []

    async def work(number):
        begun.append(number)
        if number == 3:
            outcomes.cancel()
            ended.append(len(begun))
        await asyncio.sleep(0)

    outcomes = batch(work, range(1000), limit=20)

    async def main():
        return await outcomes

    report = asyncio.run(main()) if is_async else outcomes.run()
    assert len(begun) == ended[0]
    assert (report.ok, report.total + report.pending) == (len(begun), 1000)


def test_coroutines_that_were_to_begin_and_do_not_make_no_complaint():
    async def work(number):
        if number == 3:
            outcomes.cancel()

    outcomes = unisono.batch_all([work(number) for number in range(20)], limit=10)
    report = outcomes.run()
    assert report.ok >= 4
    assert report.total == 20


@pytest.mark.parametrize("abort", [False, True])
@pytest.mark.parametrize("way", ["run", "for", "await", "async for"])
def test_a_batch_that_is_cancelled_before_it_starts_ends_at_once_and_pulls_nothing(abort, way):
    pulled, called = [], []

    def items():
        for number in range(10):
            pulled.append(number)
            yield number

    async def later():
        for number in items():
            yield number

    sources = [items, lambda: list(range(10)), queue.Queue] + ([later] if way in ("await", "async for") else [])
    for source in sources:
        outcomes, got = batch(called.append, source()), []
        outcomes.cancel(abort=abort)
        take(outcomes, way, got)
        assert (got, pulled, called, outcomes.report.total) == ([], [], [], 0)


@pytest.mark.parametrize("leave", [lambda batch: batch.close(), lambda batch: batch.__exit__(None, None, None)])
def test_a_batch_that_was_left_before_it_started_begins_nothing(leave):
    called = []
    outcomes = batch(called.append, [1, 2, 3])
    leave(outcomes)
    assert list(outcomes) == called == []


def test_a_cancel_that_comes_while_a_batch_is_started_by_another_thread_is_never_lost():
    for _ in range(200):
        outcomes = batch(str, itertools.count(), limit=2)
        thread = threading.Thread(target=outcomes.cancel)
        thread.start()
        for _ in outcomes:
            pass
        thread.join()
        assert outcomes.report.cancelled + outcomes.report.ok == outcomes.report.total


@pytest.mark.parametrize("executor", [None, "threads"])
def test_a_stop_that_is_asked_for_by_the_last_call_of_all_is_in_the_report(executor):
    def last(number):
        outcomes.cancel()
        return number

    async def last_on_a_loop(number):
        return last(number)

    work = last if executor else last_on_a_loop
    # Whether the end of the call or the stop was seen first was a matter of luck.
    for _ in range(100):
        outcomes = batch(work, [1], executor=executor)
        report = outcomes.run()
        assert (report.ok, report.stopped, report.exit_code) == (1, "Requested", 130)


# What looks on.


@pytest.mark.parametrize("way", ["run", "for", "await", "async for"])
def test_a_progress_that_raises_is_dropped_with_a_warning_and_the_batch_goes_on(way):
    asked = []

    def progress(numbers):
        asked.append(numbers)
        raise LookupError("nobody looks")

    outcomes = batch(str, range(100), limit=2, progress=progress)
    with pytest.warns(RuntimeWarning, match=r"progress= raised LookupError\('nobody looks'\)") as warned:
        take(outcomes, way, [])
    assert (outcomes.report.ok, len(asked), len(warned)) == (100, 1, 1)


def test_an_exit_out_of_progress_reaches_whoever_waits():
    def progress(_):
        raise KeyboardInterrupt

    outcomes = batch(str, range(100), limit=2, progress=progress)
    with pytest.raises(KeyboardInterrupt), outcomes:
        list(outcomes)
    assert outcomes.report.total <= 100
