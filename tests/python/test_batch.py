"""`unisono.batch` and `batch_all`: functions of the program under the engine."""

import asyncio
import concurrent.futures
import contextvars
import functools
import gc
import json
import os
import queue
import re
import signal
import socketserver
import subprocess
import sys
import textwrap
import threading
import traceback
import warnings
from collections import Counter

import anyio
import pytest
import uvloop

import unisono
from support.processes import is_alive, longer_and_longer, until
from unisono import FunctionAmbiguous, FunctionTimeout, UsageError, batch, batch_all
from unisono.errors import WorkerLost


async def double(number):
    await asyncio.sleep(0)
    return 2 * number


def triple(number):
    return 3 * number


def results(outcomes):
    return [outcome.result for outcome in outcomes]


class Gauge:
    """How many are inside, and the most that ever were, in all and by key."""

    def __init__(self):
        self.now, self.most = Counter(), Counter()

    async def visit(self, key):
        for name in ("all", key):
            self.now[name] += 1
            self.most[name] = max(self.most[name], self.now[name])
        for _ in range(5):
            await asyncio.sleep(0)
        for name in ("all", key):
            self.now[name] -= 1


# Where and how functions run.


def test_coroutines_run_on_the_callers_loop():
    loops = []

    async def note(_):
        loops.append(asyncio.get_running_loop())

    async def main():
        await batch(note, range(3))
        return asyncio.get_running_loop()

    assert set(loops) <= {asyncio.run(main())}
    assert len(loops) == 3


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_it_works_on_any_loop(runner):
    async def main():
        return sorted([outcome.result async for outcome in batch(double, range(100), limit=7)])

    assert runner(main()) == [2 * n for n in range(100)]


def test_without_a_loop_coroutines_go_on_while_the_program_looks_at_outcomes():
    began = queue.Queue()

    async def work(number):
        began.put(number)

    outcomes = iter(batch(work, range(50), limit=1))
    next(outcomes)
    # They all begin although no further outcome is asked for.
    assert sorted(began.get(timeout=60) for _ in range(50)) == list(range(50))
    assert len(list(outcomes)) == 49


def test_plain_functions_run_in_threads_unless_one_word_says_otherwise():
    names = {outcome.result for outcome in batch(lambda _: threading.current_thread().ident, range(4))}
    assert threading.get_ident() not in names
    assert sorted(results(batch(triple, range(20), executor="processes"))) == [3 * n for n in range(20)]


def test_any_executor_is_taken_and_left_as_it_is():
    with concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="mine") as executor:
        names = {
            outcome.result[:4]
            for outcome in batch(lambda _: threading.current_thread().name, [1, 2], executor=executor)
        }
        assert names == {"mine"}
        assert executor.submit(triple, 2).result() == 6


def test_a_plain_function_that_answers_an_awaitable_runs_on_the_loop_when_asked():
    outcomes = batch(lambda n: double(n), range(3), executor="loop", keep_order=True)
    assert results(outcomes) == [0, 2, 4]


def test_a_coroutine_that_nobody_awaits_is_no_result():
    (outcome,) = batch(lambda n: double(n), [1], executor="threads")
    assert outcome.kind == "failed"
    assert 'give executor="loop"' in str(outcome.error)


def test_partial_functions_and_callable_objects_are_seen_through():
    class Doubler:
        async def __call__(self, number):
            return await double(number)

    async def scaled(factor, number):
        return factor * number

    assert results(batch(Doubler(), [4])) == [8]
    assert results(batch(functools.partial(scaled, 3), [4])) == [12]


def test_tasks_are_named_after_function_and_item_and_see_the_context_of_the_caller():
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []

    async def look(host):
        seen.append((asyncio.current_task().get_name(), variable.get()))
        variable.set("changed by another call")

    async def main():
        variable.set("set by the caller")
        await batch(look, ["web-1", "web-2"], limit=1, keep_order=True)

    asyncio.run(main())
    assert seen == [("batch:look[web-1]", "set by the caller"), ("batch:look[web-2]", "set by the caller")]


@pytest.mark.parametrize("is_eager", [False, True] if hasattr(asyncio, "eager_task_factory") else [False])
def test_it_works_within_a_task_group_with_and_without_eager_tasks(is_eager):
    async def main():
        if is_eager:
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        async with asyncio.TaskGroup() as group:

            async def one(start):
                return sorted(results([outcome async for outcome in batch(double, range(start, start + 10))]))

            tasks = [group.create_task(one(start)) for start in (0, 10)]
        return [task.result() for task in tasks]

    assert asyncio.run(main()) == [[2 * n for n in range(10)], [2 * n for n in range(10, 20)]]


def test_functions_written_with_anyio_run_as_they_are():
    async def work(number):
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, 0)
            return await anyio.to_thread.run_sync(triple, number)

    assert results(batch(work, range(5), keep_order=True)) == [0, 3, 6, 9, 12]


# Items.


def test_items_are_pulled_only_as_there_is_room():
    pulled = 0

    def items():
        nonlocal pulled
        for number in range(1_000_000):
            pulled += 1
            yield number

    outcomes = iter(batch(double, items(), limit=2))
    for _ in range(10):
        next(outcomes)
    outcomes.close()
    assert pulled < 10_000


def test_what_a_slow_iterator_has_yielded_is_begun_before_it_is_asked_for_more():
    begun = threading.Event()

    async def work(number):
        begun.set()
        return number

    def items():
        yield 1
        # An iterator that waits, as for lines of a log; longer than anything that is pulled together.
        threading.Event().wait(0.05)
        yield 2
        assert begun.wait(60)
        yield 3

    assert sorted(results(batch(work, items()))) == [1, 2, 3]


def test_items_may_come_from_an_async_iterable():
    async def items():
        for number in range(300):
            await asyncio.sleep(0)
            yield number

    async def main():
        return await batch(double, items(), limit=3, keep_order=True)

    assert results(asyncio.run(main()).outcomes) == [2 * n for n in range(300)]


@pytest.mark.parametrize("kind", ["for", "async for"])
def test_items_may_come_from_a_queue_that_is_fed_meanwhile(kind):
    items = unisono.Queue(maxsize=2)
    fed = threading.Event()

    def feed():
        for number in range(100):
            items.put(number)
        # The rest comes only once an outcome was taken: an empty queue does not keep one from being taken.
        assert fed.wait(60)
        items.put(100)
        items.close()

    thread = threading.Thread(target=feed)
    thread.start()
    outcomes = batch(double, items, limit=3)
    if kind == "for":
        numbers = [next(outcomes).result]
        fed.set()
        numbers += results(outcomes)
    else:

        async def main():
            numbers = [(await anext(outcomes)).result]
            fed.set()
            return numbers + [outcome.result async for outcome in outcomes]

        numbers = asyncio.run(main())
    thread.join()
    assert sorted(numbers) == [2 * number for number in range(101)]


def test_a_queue_of_the_standard_library_is_taken_from_until_the_batch_is_stopped():
    items = queue.Queue()
    for number in range(10):
        items.put(number)
    with batch(triple, items) as outcomes:
        assert sorted(next(outcomes).result for _ in range(10)) == [3 * number for number in range(10)]
        items.put(10)
        assert next(outcomes).result == 30
    assert outcomes.report.ok == 11

    async def main():
        items.put(11)
        async with batch(double, items) as outcomes:
            return (await anext(outcomes)).result

    assert asyncio.run(main()) == 22


def test_a_queue_of_asyncio_is_taken_from_until_the_batch_is_stopped():
    async def main():
        items = asyncio.Queue()
        for number in range(10):
            items.put_nowait(number)
        async with batch(double, items) as outcomes:
            return sorted([(await anext(outcomes)).result for _ in range(10)])

    assert asyncio.run(main()) == [2 * number for number in range(10)]


def test_coroutines_that_are_there_already_are_awaited_once_each():
    async def main():
        future = asyncio.get_running_loop().create_future()
        future.set_result("from a future")
        report = await batch_all([double(1), future, double(2)], keep_order=True)
        return results(report.outcomes)

    assert asyncio.run(main()) == [2, "from a future", 4]
    with pytest.raises(UsageError, match="runs only once"):
        batch_all([], retries=2)


def test_a_coroutine_that_was_pulled_but_never_begun_makes_no_complaint():
    async def main():
        stop = asyncio.Event()

        async def wait():
            await stop.wait()

        outcomes = batch_all([wait() for _ in range(5)], limit=1)
        async with outcomes:
            task = asyncio.ensure_future(anext(outcomes))
            while outcomes.progress["in_flight"] == 0:
                await asyncio.sleep(0)
            outcomes.cancel(abort=True)
            first = await task
            rest = [outcome.kind async for outcome in outcomes]
        return [first.kind, *rest]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert asyncio.run(main()) == ["cancelled"] * 5
        gc.collect()


# Outcomes.


def test_a_failure_is_an_outcome_that_keeps_the_exception_with_its_traceback():
    def inner():
        raise LookupError("no such host")

    async def work(number):
        if number == 1:
            inner()
        return number

    report = batch(work, range(3), keep_order=True).run()
    good, bad, other = report.outcomes
    assert (good.result, other.result, bad.result, bad.kind) == (0, 2, None, "failed")
    assert isinstance(bad.error, LookupError)
    assert "inner" in "".join(traceback.format_exception(bad.error))
    with pytest.raises(LookupError, match="no such host"):
        bad.check()
    assert good.check() == 0
    assert report.errors == [("raised", "LookupError: no such host", 1, "r1")]


def test_the_report_raises_all_failures_together():
    async def work(item):
        raise ValueError(item) if item == "a" else KeyError(item)

    report = batch(work, list("ab")).run()
    with pytest.raises(ExceptionGroup, match="2 of 2 items did not end well") as raised:
        report.raise_for_failures()
    assert {type(error) for error in raised.value.exceptions} == {ValueError, KeyError}
    batch(double, range(3)).run().raise_for_failures()


def test_outcomes_that_were_iterated_over_are_raised_as_well():
    async def work(_):
        raise ValueError("all of them")

    outcomes = batch(work, range(1000))
    assert sum(1 for _ in outcomes) == 1000
    with pytest.raises(ExceptionGroup, match="1000 of 1000") as raised:
        outcomes.report.raise_for_failures()
    assert len(raised.value.exceptions) == 100


def test_the_report_has_the_first_outcomes_that_did_not_end_well_and_no_more_than_a_hundred():
    report = unisono.batch(int, [str(number) if number % 2 else "x" for number in range(400)], keep_order=True).run()
    assert report.failed == 200
    assert [outcome.item for outcome in report.first_failures] == ["x"] * 100
    assert all(isinstance(outcome.error, ValueError) for outcome in report.first_failures)
    assert unisono.batch(int, ["1"]).run().first_failures == []


def double_sum(first, second):
    return 2 * (first + second)


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_items_may_be_the_arguments_of_a_call(executor):
    batch = unisono.starmap(double_sum, [(1, 2), [3, 4], (5,), "ab", 7], executor=executor, keep_order=True)
    outcomes = list(batch)
    assert [outcome.result for outcome in outcomes] == [6, 14, None, None, None]
    assert [outcome.item for outcome in outcomes] == [(1, 2), [3, 4], (5,), "ab", 7]
    assert "missing 1 required positional argument" in str(outcomes[2].error)
    assert str(outcomes[3].error) == "a str is no list of arguments: give tuples, as ('ab',)"
    assert isinstance(outcomes[4].error, TypeError)


def test_arguments_of_coroutine_functions_and_of_functions_that_return_awaitables():
    async def add(first, second):
        return asyncio.current_task().get_name(), first + second

    async def main():
        pairs = [(1, 2), (3, 4)]
        found = await unisono.starmap(add, pairs, keep_order=True)
        returned = await unisono.starmap(lambda *pair: add(*pair), pairs, executor="loop", keep_order=True)
        assert [outcome.result for outcome in found.outcomes] == [("batch:add[r0]", 3), ("batch:add[r1]", 7)]
        assert [outcome.result[1] for outcome in returned.outcomes] == [3, 7]

    asyncio.run(main())


def test_arguments_are_known_again_by_their_value(tmp_path):
    out = tmp_path / "results.jsonl"
    unisono.starmap(double_sum, [(1, 2)], out=out).run()
    report = unisono.starmap(double_sum, [(1, 2), (2, 2)], out=out, resume=True).run()
    assert (report.ok, report.kept["ok"]) == (2, 1)


def test_failures_of_an_earlier_run_are_raised_as_a_count(tmp_path):
    async def work(item):
        if item == "b":
            raise ValueError(item)

    options = {"out": tmp_path / "r.jsonl", "resume": True}
    batch(work, list("abc"), **options).run()
    with pytest.raises(ExceptionGroup, match="1 of 3 items did not end well, 1 of them in an earlier run"):
        batch(work, list("abc"), **options).run().raise_for_failures()


def test_a_report_prints_only_numbers_that_it_has():
    async def work(item):
        if item.attempts.append(1) or len(item.attempts) < 3:
            raise ValueError

    class Item:
        def __init__(self):
            self.attempts = []

    report = batch(work, [Item()], retries=2).run()
    line = str(report).splitlines()[2]
    assert re.fullmatch(r"1 outcome in \d+\.\d s · p50 \S+ \S+ p95 \S+ \S+ p99 \S+ \S+ · 2 retries", line)


def test_a_coroutine_that_cancels_itself_has_failed():
    async def work(_):
        raise asyncio.CancelledError

    (outcome,) = batch(work, [1])
    assert outcome.kind == "failed"
    assert isinstance(outcome.error, asyncio.CancelledError)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_an_exit_in_a_coroutine_without_a_loop_of_the_caller_is_what_that_call_raised(kind):
    async def work(number):
        await asyncio.sleep(0)
        if number == 3:
            raise kind(7)
        return number

    outcomes = list(batch(work, range(20), limit=2, keep_order=True))
    assert [outcome.row for outcome in outcomes if not outcome.ok] == [3]
    assert isinstance(outcomes[3].error, kind)


def test_a_function_that_raises_at_once_what_is_no_exception_settles_its_call():
    def work(number):
        if number == 3:
            raise (asyncio.CancelledError if number % 2 else SystemExit)(7)
        return asyncio.sleep(0, number)

    async def main():
        return await batch(work, range(20), executor="loop", limit=2)

    assert batch(work, range(20), executor="loop", limit=2).run().ok == 19
    assert asyncio.run(main()).ok == 19


def test_calls_that_are_cancelled_as_their_loop_ends_are_for_the_next_run(tmp_path):
    out, called = tmp_path / "results.jsonl", []

    async def work(number):
        called.append(number)
        await asyncio.sleep(0)
        if number >= 5 and is_first:
            await asyncio.Event().wait()
        return number

    async def main():
        async for outcome in batch(work, range(50), limit=4, out=out):
            if outcome.row == 4:
                sys.exit(4)

    is_first = True
    with pytest.raises(SystemExit):
        asyncio.run(main())
    is_first = False
    report = batch(work, range(50), limit=4, out=out, resume=True).run()
    assert (report.total, report.ok) == (50, 50)
    # What was done is not done again.
    assert max(Counter(called)[number] for number in range(5)) == 1


def test_what_a_program_that_ends_does_not_begin_any_more_has_not_failed(tmp_path):
    program = """
        import sys, threading, unisono
        begun = threading.Event()
        def work(number):
            begun.set()
            return number
        run = unisono.batch(work, iter(range(100_000)), limit=2, out=sys.argv[1]).run
        threading.Thread(target=run, daemon=True).start()
        begun.wait()
    """
    out = tmp_path / "results.jsonl"
    command = [sys.executable, "-c", textwrap.dedent(program), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stderr, done.returncode) == ("", 0)
    assert {line["outcome"] for line in unisono.read_results(out)} <= {"ok", "cancelled"}


def test_the_child_of_a_call_that_forks_ends_when_the_call_returns_in_it():
    program = """
        import os, unisono

        def work(number):
            if not (child := os.fork()):
                return number
            assert os.waitpid(child, 0)[1] == 0
            return number

        print(unisono.batch(work, range(10), limit=2).run().ok)
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("10\n", "", 0)


def test_a_report_keeps_its_outcomes_when_it_is_asked_for_again():
    async def main():
        outcomes = batch(double, range(5))
        return await outcomes, await outcomes

    first, second = asyncio.run(main())
    assert first is second
    assert len(first.outcomes) == 5
    again = batch(triple, range(5))
    assert again.run() is again.run()
    assert len(again.run().outcomes) == 5


# Limits, retries, times.


def test_limits_hold_in_all_and_by_key():
    gauge = Gauge()
    report = batch(gauge.visit, ["red", "green"] * 50, limit=5, key=str, per_key=3).run()
    assert report.ok == 100
    assert gauge.most == {"all": 5, "red": 3, "green": 3}
    assert set(report.by_key()) == {"red", "green"}


def test_what_is_no_function_is_refused_before_anything_is_pulled():
    with pytest.raises(UsageError, match="must be a function, not int"):
        batch(5, [1])


def test_limits_that_are_set_before_the_start_hold_and_start_nothing():
    now, most, pulled, three_are_in = Counter(), [], [], asyncio.Barrier(3)

    def items():
        for number in range(21):
            pulled.append(number)
            yield number

    async def visit(_):
        now["in"] += 1
        most.append(now["in"])
        # Three meet, however long each takes to come.
        async with asyncio.timeout(60):
            await three_are_in.wait()
        # Others may come before they have gone.
        await asyncio.sleep(0)
        now["in"] -= 1

    outcomes = batch(visit, items(), limit=5, rate="1/h", key=str, per_key=5)
    outcomes.set_limits(limit=3, rate="none", per_key=1)
    assert pulled == []
    assert outcomes.limit == 3
    assert outcomes.run().ok == 21
    assert max(most) == 3


def test_the_limit_can_be_changed_while_it_runs():
    async def main():
        inside, release = 0, asyncio.Event()
        reached = asyncio.Event()

        async def work(_):
            nonlocal inside
            inside += 1
            if inside == 8:
                reached.set()
            await release.wait()

        outcomes = batch(work, range(20), limit=2)
        consumer = asyncio.ensure_future(outcomes._run_on_loop())
        while inside < 2:
            await asyncio.sleep(0)
        outcomes.limit = 8
        await asyncio.wait_for(reached.wait(), 60)
        release.set()
        return (await consumer).ok

    assert asyncio.run(main()) == 20


def test_only_what_is_asked_for_is_tried_again():
    attempts = Counter()

    async def work(item):
        attempts[item] += 1
        if attempts[item] < 3:
            raise ConnectionError if item == "flaky" else ValueError
        return attempts[item]

    options = {"retries": 5, "retry_on": ConnectionError, "keep_order": True}
    flaky, wrong = batch(work, ["flaky", "wrong"], **options).run().outcomes
    assert (flaky.result, flaky.attempts, wrong.kind, wrong.attempts) == (3, 3, "failed", 1)
    attempts.clear()
    (outcome,) = batch(work, ["flaky"])
    assert (outcome.kind, attempts["flaky"]) == ("failed", 1)


def test_a_predicate_decides_what_is_tried_again_and_its_own_mistake_is_an_outcome():
    async def work(_):
        raise OSError(7, "seven")

    (again,) = batch(work, [1], retries=1, retry_on=lambda error: error.errno == 7)
    assert again.attempts == 2
    (mistaken,) = batch(work, [1], retries=1, retry_on=lambda error: error.no_such_thing)
    assert (mistaken.kind, mistaken.attempts) == ("failed", 1)
    assert isinstance(mistaken.error, AttributeError)


def test_a_coroutine_that_times_out_is_cancelled():
    cancelled = []

    async def work(number):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise

    for timeout in longer_and_longer(0.05):
        (outcome,) = batch(work, [1], timeout=timeout)
        # On a busy machine it may not have begun by then.
        if cancelled:
            break
    assert (outcome.kind, cancelled) == ("timed_out", [1])
    assert isinstance(outcome.error, FunctionTimeout)
    assert isinstance(outcome.error, TimeoutError)


def test_a_timeout_is_tried_again_only_when_retry_on_says_so():
    async def work(_):
        await asyncio.Event().wait()

    (outcome,) = batch(work, [1], timeout=0.01, retries=2, retry_on=TimeoutError)
    assert (outcome.kind, outcome.attempts) == ("timed_out", 3)
    (outcome,) = batch(work, [1], timeout=0.01, retries=2, retry_on=OSError)
    # A TimeoutError is an OSError.
    assert outcome.attempts == 3
    (outcome,) = batch(work, [1], timeout=0.01, retries=2, retry_on=ValueError)
    assert outcome.attempts == 1


def test_a_coroutine_that_swallows_its_cancellation_is_named_and_does_not_hang_the_batch():
    release = threading.Event()

    async def swallow_and_return(_):
        begun.append(True)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "late"

    async def swallow_and_stay(_):
        begun.append(True)
        while not release.is_set():
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if release.is_set():
                    raise

    begun = []
    for timeout in longer_and_longer(0.05):
        (outcome,) = batch(swallow_and_return, [1], timeout=timeout)
        # On a busy machine it may not have begun by then.
        if begun:
            break
    assert (outcome.kind, outcome.result) == ("timed_out", None)
    assert "it was cancelled, but returned" in str(outcome.error)

    async def main():
        begun.clear()
        for timeout in longer_and_longer(0.05):
            report = await batch(swallow_and_stay, [1], timeout=timeout)
            if begun:
                break
        release.set()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        return report

    report = asyncio.run(main())
    assert "swallowed its cancellation" in str(report.outcomes[0].error)
    assert isinstance(report.outcomes[0].error, FunctionAmbiguous)
    assert report.warnings == ["1 attempt could not be stopped"]


def test_a_thread_cannot_be_stopped_so_its_outcome_says_so_and_it_keeps_its_place():
    release, began = threading.Event(), []

    def work(number):
        began.append(number)
        release.wait()

    for timeout in longer_and_longer(0.05):
        outcomes = batch(work, range(3), limit=2, timeout=timeout)
        first, second = next(outcomes), next(outcomes)
        # On a busy machine they may not have begun by then.
        if len(began) == 2:
            break
        outcomes.cancel()
        release.set()
        list(outcomes)
        release.clear()
        began.clear()
    assert {first.kind, second.kind} == {"ambiguous"}
    assert "a thread cannot be stopped" in str(first.error)
    # Both places are still taken.
    assert sorted(began) == [0, 1]
    assert outcomes.progress["in_flight"] == 2
    release.set()
    assert next(outcomes).kind == "ok"


@pytest.mark.parametrize(("idempotent", "kind"), [(False, "ambiguous"), (True, "timed_out")])
def test_a_lost_call_whose_time_ends_while_it_waits_for_its_repeat_may_have_taken_effect(idempotent, kind):
    def lost(_):
        raise WorkerLost("its worker has gone")

    options = {"retries": 50, "retry_on": WorkerLost, "deadline": 0.3, "idempotent": idempotent}
    (outcome,) = batch(lost, [1], **options)
    assert (outcome.kind, outcome.error.kind) == (kind, "deadline")


def write_down_and_hang(path):
    with open(path, "w") as file:
        file.write(f"{os.getpid()}\n")
    signal.pause()


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_call_in_a_process_that_times_out_is_killed(tmp_path):
    path = tmp_path / "pid"
    with unisono.ProcessPool(1) as pool:
        # The time of a call begins when it is submitted, so its worker is there before.
        pool.submit(os.getpid).result()
        for timeout in longer_and_longer(1):
            (outcome,) = batch(write_down_and_hang, [str(path)], executor=pool, timeout=timeout)
            if path.exists() and path.read_text().endswith("\n"):
                break
    assert (outcome.kind, outcome.attempts) == ("timed_out", 1)
    pid = int(path.read_text())
    until(lambda: not is_alive(pid))


def test_a_worker_that_dies_fails_its_own_item_and_no_other():
    outcomes = {outcome.item: outcome for outcome in batch(die_for, ["a", "die", "b", "c"], executor="processes")}
    assert [outcomes[item].result for item in "abc"] == ["a", "b", "c"]
    assert outcomes["die"].kind == "failed"
    assert isinstance(outcomes["die"].error, unisono.WorkerDied)


def die_for(item):
    return die(item) if item == "die" else item


def test_an_item_has_a_deadline_over_all_its_attempts():
    async def work(_):
        raise ValueError

    (outcome,) = batch(work, [1], retries=60_000, deadline=0.3)
    assert outcome.kind == "timed_out"
    assert "deadline" in str(outcome.error)


def test_too_many_failures_end_the_batch_and_what_was_not_begun_is_pending_or_cancelled():
    async def work(number):
        if number < 3:
            raise ValueError
        await asyncio.sleep(0)

    report = batch(work, range(1000), limit=1, max_failures=3).run()
    assert report.failed == 3
    assert report.total + report.pending == 1000
    assert report.exit_code == 3


# Stopping.


def test_cancelling_the_consumer_cancels_what_runs_waits_for_it_and_accounts_for_all():
    ended = []

    async def main():
        begun, both_run = [], asyncio.Event()

        async def work(number):
            begun.append(number)
            if len(begun) == 2:
                both_run.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                ended.append(number)

        outcomes = batch(work, range(4), limit=2)
        consumer = asyncio.ensure_future(outcomes._run_on_loop())
        await both_run.wait()
        consumer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await consumer
        assert sorted(ended) == [0, 1]
        return outcomes.report

    report = asyncio.run(main())
    assert report.cancelled + report.pending == 4
    assert report.cancelled >= 2


def test_leaving_a_batch_early_in_an_async_with_block_lets_what_runs_finish():
    finished = []

    async def work(number):
        await asyncio.sleep(0)
        finished.append(number)

    async def main():
        async with batch(work, range(1000), limit=4) as outcomes:
            async for _ in outcomes:
                break
        return outcomes.report

    report = asyncio.run(main())
    assert report.ok == len(finished)
    assert report.ok < 1000


# Results on disk.


def test_results_are_kept_and_a_resume_calls_only_for_what_is_left(tmp_path):
    out = tmp_path / "results.jsonl"
    called = []

    async def work(item):
        called.append(item["host"])
        if item["host"] == "bad":
            raise ValueError("no")
        return {"ip": "::1"}

    hosts = [{"host": name} for name in ("web-1", "bad")]
    first = batch(work, hosts, out=out).run()
    assert (first.ok, first.failed) == (1, 1)
    lines = sorted(map(json.loads, out.read_text().splitlines()), key=lambda line: line["row"])
    assert [(line["item"], line["outcome"], line.get("result")) for line in lines] == [
        ({"host": "web-1"}, "ok", {"ip": "::1"}),
        ({"host": "bad"}, "failed", None),
    ]
    assert lines[1]["error"] == {"kind": "raised", "message": "ValueError: no"}
    called.clear()
    # In another order, and with one more: items are known by their content.
    hosts.insert(0, {"host": "web-2"})
    second = batch(work, hosts, out=out, resume=True).run()
    assert called == ["web-2"]
    assert (second.ok, second.failed, second.kept["ok"]) == (2, 1, 1)
    called.clear()
    batch(work, hosts, out=out, retry_failed=True).run()
    assert called == ["bad"]


def test_a_result_that_json_does_not_have_is_said_so_and_a_serializer_helps(tmp_path):
    (outcome,) = batch(lambda _: {1, 2}, [1], out=tmp_path / "a.jsonl")
    assert outcome.kind == "failed"
    assert "give serialize=" in str(outcome.error)
    (outcome,) = batch(lambda _: {1, 2}, [1], out=tmp_path / "b.jsonl", serialize=sorted)
    assert outcome.result == {1, 2}
    assert json.loads((tmp_path / "b.jsonl").read_text())["result"] == [1, 2]


def test_items_that_nothing_tells_apart_need_a_name(tmp_path):
    items = [lambda: 1, lambda: 2]
    report = batch(lambda item: item(), items, out=tmp_path / "a.jsonl").run()
    assert report.failed == 2
    assert "give id=" in report.errors[0][1]
    report = batch(lambda item: item(), items, out=tmp_path / "b.jsonl", id=lambda item: item()).run()
    assert report.ok == 2


class Cloud(socketserver.ThreadingTCPServer):
    """Creates the machine whose name it is sent, as often as it is asked to."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, tell_at):
        super().__init__(("127.0.0.1", 0), self.Create)
        self.created, self.tell_at, self.half_done = Counter(), tell_at, threading.Event()

    class Create(socketserver.StreamRequestHandler):
        def handle(self):
            name = self.rfile.readline().decode().strip()
            if not name:
                # Killed before it could ask for anything.
                return
            self.server.created[name] += 1
            if len(self.server.created) >= self.server.tell_at:
                self.server.half_done.set()
            self.wfile.write(b"created\n")


PROVISION = """
    import asyncio, sys, unisono

    async def provision(name):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
        writer.write(f"{name}\\n".encode())
        answer = await reader.readline()
        writer.close()
        return answer.decode()

    names = [f"machine-{number}" for number in range(200)]
    report = unisono.batch(provision, names, limit=10, out=sys.argv[2], resume=True).run()
    print(report.ok, report.ambiguous, report.total)
"""


def test_two_hundred_machines_with_a_kill_in_the_middle_are_never_created_twice(tmp_path):
    script = tmp_path / "provision.py"
    script.write_text(textwrap.dedent(PROVISION))
    with Cloud(tell_at=70) as cloud:
        threading.Thread(target=cloud.serve_forever, daemon=True).start()
        command = [sys.executable, str(script), str(cloud.server_address[1]), str(tmp_path / "results.jsonl")]
        with subprocess.Popen(command) as killed:
            assert cloud.half_done.wait(60)
            killed.kill()
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
        cloud.shutdown()
    ok, ambiguous, total = map(int, done.stdout.split())
    assert ok + ambiguous == total == 200
    # No more than were in flight, and nothing that was in flight is called again.
    assert ambiguous <= 10
    assert max(cloud.created.values()) == 1
    assert len(cloud.created) >= ok


# Mistakes.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": "elsewhere"}, 'none of "threads", "processes" and "loop"'),
        ({"executor": 7}, "expected a concurrent.futures.Executor"),
        ({"retry_on": "ValueError"}, "expected exception types"),
        ({"per_key": 3}, "need key="),
        ({"resume": True}, "need out="),
        ({"limit": 0}, "limit"),
    ],
)
def test_a_mistake_in_an_option_is_said_before_anything_runs(options, message):
    called = []
    with pytest.raises(UsageError, match=message):
        batch(called.append, [1], **options).run()
    assert called == []


def test_a_coroutine_function_cannot_be_sent_to_threads():
    with pytest.raises(UsageError, match="coroutine function"):
        batch(double, [1], executor="threads")


def test_an_iterable_that_raises_is_raised_once_all_before_it_is_accounted_for():
    def items():
        yield from range(3)
        raise LookupError("the inventory is gone")

    outcomes = batch(double, items())
    with pytest.raises(LookupError, match="inventory"):
        list(outcomes)
    assert outcomes.report.ok == 3


def test_a_program_ends_cleanly_with_a_batch_under_way():
    program = """
        import asyncio, unisono
        async def forever(n):
            await asyncio.Event().wait()
        batch = iter(unisono.batch(forever, range(3)))
        pending = unisono.batch(__import__("time").sleep, [0.01, 0.02], timeout=20)
        print(next(pending).kind)
        import threading
        threading.Thread(target=list, args=(batch,), daemon=True).start()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("ok\n", "", 0)


def test_the_numbers_of_a_batch_can_be_looked_at_and_shown(capsys):
    seen = []
    report = batch(double, range(10), progress=seen.append).run()
    assert report.ok == 10
    assert seen[-1]["done"] == 10
    batch(double, range(10), progress=True).run()
    assert "10/10 done" in capsys.readouterr().err
    assert unisono.FunctionOptions.__total__ is False


def test_a_results_file_is_read_back_without_a_torn_line_and_a_foreign_one_is_refused(tmp_path):
    out = tmp_path / "results.jsonl"
    batch(triple, range(3), out=out, keep_order=True).run()
    with out.open("a") as file:
        file.write('{"row":3,"id"')
    lines = list(unisono.read_results(out, deserialize=float))
    assert [(line["item"], line["result"]) for line in lines] == [(0, 0.0), (1, 3.0), (2, 6.0)]
    out.write_text("[]\n")
    with pytest.raises(UsageError, match="line 1: no result"):
        list(unisono.read_results(out))


class Unspeakable(Exception):
    """Raises again when it is asked for its text: a common slip, where an argument is no text."""

    def __str__(self):
        raise self.args[0]


@pytest.mark.parametrize("mistake", [TypeError("no text"), SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["the function", "serialize", "retry_on"])
def test_whatever_an_exception_does_when_it_is_asked_its_call_has_an_outcome_and_no_other_suffers(
    mistake, where, tmp_path
):
    def raises(*_):
        raise Unspeakable(mistake)

    def work(number):
        return raises() if number == 0 and where != "serialize" else number

    options = {"retry_on": raises, "retries": 1} if where == "retry_on" else {}
    if where == "serialize":
        options = {"out": tmp_path / "r.jsonl", "serialize": lambda number: number or raises()}
    outcomes = {outcome.item: outcome.kind for outcome in batch(work, range(4), executor="threads", **options)}
    assert outcomes == {0: "failed", 1: "ok", 2: "ok", 3: "ok"}


@pytest.mark.parametrize("option", ["key", "id", "serialize"])
def test_an_option_that_is_asked_about_items_must_be_a_function(option):
    with pytest.raises(unisono.UsageError, match=f"{option} must be a function, not 'zone'"):
        unisono.batch(abs, [1], **{option: "zone"})
