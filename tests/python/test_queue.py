"""A queue between threads and coroutines: its interface, its order, and its end."""

import asyncio
import queue as standard
import re
import sys

import pytest
import uvloop

from support.queues import BOUND, parked, run, threads, waiting_task
from unisono import Error, Queue, QueueClosed, QueueEmpty, QueueFull, UsageError

__all__ = ["threads"]

# The interface of `queue.Queue` and `asyncio.Queue`


def test_items_come_out_in_the_order_in_which_they_went_in():
    queue = Queue()
    for number in range(1000):
        queue.put(number)
    assert [queue.get() for _ in range(1000)] == list(range(1000))


def test_what_callers_of_both_modules_catch_is_raised():
    queue = Queue(1)
    for kind in (standard.Empty, asyncio.QueueEmpty, QueueEmpty, Error):
        with pytest.raises(kind):
            queue.get_nowait()
    with pytest.raises(standard.Empty):
        queue.get(block=False)
    with pytest.raises(standard.Empty):
        queue.get(timeout=0.001)
    queue.put_nowait(1)
    for kind in (standard.Full, asyncio.QueueFull, QueueFull, Error):
        with pytest.raises(kind):
            queue.put_nowait(2)
    with pytest.raises(standard.Full):
        queue.put(2, block=False)
    with pytest.raises(standard.Full):
        queue.put(2, timeout=0.001)
    assert [queue.get(), queue.qsize()] == [1, 0]


def test_a_closed_queue_raises_what_the_standard_ones_raise_from_3_13_on():
    queue = Queue()
    queue.shutdown()
    standard_ones = [standard.ShutDown, asyncio.QueueShutDown] if sys.version_info >= (3, 13) else []
    for kind in (QueueClosed, Error, *standard_ones):
        with pytest.raises(kind):
            queue.get()


def test_a_queue_says_how_much_is_in_it():
    queue = Queue(2)
    assert (len(queue), queue.empty(), queue.full(), queue.maxsize, bool(queue)) == (0, True, False, 2, True)
    queue.put(1)
    queue.put(2)
    assert (len(queue), queue.empty(), queue.full(), queue.qsize()) == (2, False, True, 2)
    queue.close()
    assert repr(queue) == "<Queue items=2 maxsize=2 closed>"


def test_a_maxsize_of_zero_or_less_is_no_bound():
    for maxsize in (0, -1):
        queue = Queue(maxsize)
        for number in range(10_000):
            queue.put_nowait(number)
        assert not queue.full()


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_a_timeout_that_is_none_is_refused(seconds):
    with pytest.raises(ValueError):
        Queue().get(timeout=seconds)


def test_a_timeout_longer_than_any_clock_is_none(threads):
    queue = Queue()
    got = parked(threads, queue, queue.get, True, 1e300)
    queue.put(1)
    assert got.result(BOUND) == 1


def test_a_tuple_and_an_exception_are_items_like_any_other():
    items = [(1, 2), StopIteration(3), None, ValueError("x")]

    async def main():
        queue = Queue()
        for item in items:
            await queue.aput(item)
        return [await queue.aget() for _ in items]

    assert run(main()) == items


def test_a_coroutine_of_a_queue_can_be_a_task_or_be_waited_for_with_a_limit():
    async def main():
        queue = Queue()
        task = asyncio.create_task(queue.aget())
        await asyncio.wait_for(queue.aput((1, 2)), 5)
        assert "QueueWait" in repr(queue.aget())
        return await task

    assert run(main()) == (1, 2)
    queue = Queue()
    queue.put(3)
    assert asyncio.run(queue.aget()) == 3


def test_a_coroutine_of_a_queue_is_awaited_once():
    async def main():
        queue = Queue()
        queue.put(1)
        one = queue.aget()
        assert await one == 1
        with pytest.raises(RuntimeError, match="already awaited"):
            await one

    run(main())


def test_waiting_without_a_loop_is_an_error_and_leaves_nobody_in_line():
    queue = Queue()
    with pytest.raises(RuntimeError, match="no running event loop"):
        queue.aget().send(None)
    queue.put(1)
    assert queue.get_nowait() == 1


# Order of the waiters


def test_threads_are_served_in_order_of_arrival(threads):
    queue = Queue()
    waiting = [parked(threads, queue, queue.get) for _ in range(8)]
    for number in range(8):
        queue.put(number)
    assert [future.result(BOUND) for future in waiting] == list(range(8))


def test_threads_and_coroutines_are_served_in_one_order(threads):
    async def main():
        queue = Queue()
        order = []
        for _ in range(4):
            order.append(asyncio.wrap_future(parked(threads, queue, queue.get)))
            order.append(await waiting_task(queue, queue.aget()))
        for number in range(8):
            queue.put(number)
        return await asyncio.gather(*order)

    assert run(main()) == list(range(8))


def test_who_waits_for_room_is_let_in_in_order_of_arrival(threads):
    async def main():
        queue = Queue(1)
        queue.put(0)
        tasks = []
        for number in range(1, 8, 2):
            tasks.append(asyncio.wrap_future(parked(threads, queue, queue.put, number)))
            tasks.append(await waiting_task(queue, queue.aput(number + 1)))
        got = [await queue.aget() for _ in range(9)]
        await asyncio.gather(*tasks)
        return got

    assert run(main()) == list(range(9))


def test_an_item_belongs_to_who_waited_and_not_to_who_comes_later():
    async def main():
        queue = Queue()
        first = await waiting_task(queue, queue.aget())
        queue.put("first")
        with pytest.raises(QueueEmpty):
            queue.get_nowait()
        assert await first == "first"

    run(main())


def test_one_item_wakes_one(threads):
    queue = Queue()
    waiting = [parked(threads, queue, queue.get) for _ in range(5)]
    queue.put("item")
    assert waiting[0].result(BOUND) == "item"
    assert queue.waiting() == (4, 0, 0)
    queue.close()


# Closing


def test_consumers_drain_a_closed_queue_and_end():
    queue = Queue()
    queue.put(1)
    queue.put(2)
    queue.close()
    with pytest.raises(QueueClosed):
        queue.put(3)
    assert list(queue) == [1, 2]
    with pytest.raises(QueueClosed):
        queue.get()
    assert queue.closed


def test_coroutines_drain_a_closed_queue_and_end():
    async def main():
        queue = Queue()
        await queue.aput(1)
        queue.close()
        with pytest.raises(QueueClosed):
            await queue.aput(2)
        got = [item async for item in queue]
        with pytest.raises(QueueClosed):
            await queue.aget()
        return got

    assert run(main()) == [1]


def test_closing_ends_everybody_who_waits(threads):
    async def main():
        empty, full = Queue(), Queue(1)
        full.put(0)
        waiting = [asyncio.wrap_future(parked(threads, empty, list, empty))]
        waiting.append(asyncio.wrap_future(parked(threads, empty, empty.get)))
        waiting.append(asyncio.wrap_future(parked(threads, full, full.put, 1)))
        waiting.append(await waiting_task(empty, empty.aget()))
        waiting.append(await waiting_task(full, full.aput(2)))
        empty.close()
        full.close()
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert ends[0] == []
        assert [type(end) for end in ends[1:]] == [QueueClosed] * 4
        # What was refused was not put.
        assert list(full) == [0]

    run(main())


def test_closing_ends_an_iteration_that_waits():
    async def main():
        queue = Queue()

        async def consume():
            return [item async for item in queue]

        task = await waiting_task(queue, consume())
        queue.put(1)
        queue.close()
        return await task

    assert run(main()) == [1]


def test_an_immediate_close_throws_away_what_is_left_and_counts_it_as_done():
    queue = Queue()
    for number in range(3):
        queue.put(number)
    queue.get()
    queue.shutdown(immediate=True)
    assert (list(queue), queue.unfinished_tasks) == ([], 1)
    queue.task_done()
    queue.join(BOUND)


def test_closing_twice_is_closing_once():
    queue = Queue()
    queue.close()
    queue.close()
    assert list(queue) == []


@pytest.mark.parametrize("loop_run", [asyncio.run, uvloop.run])
def test_a_call_that_would_keep_its_loop_waiting_is_refused_and_names_what_to_await(loop_run):
    queue, full, some = Queue(), Queue(maxsize=1), Queue()
    full.put(1)
    some.put("first")
    some.put("second")
    waiting = {
        "await queue.aget()": [queue.get, lambda: queue.get(timeout=60)],
        "await queue.aget_many(count)": [lambda: queue.get_many(2), lambda: some.get_many(3, max_wait=60)],
        "await queue.aput(item)": [lambda: full.put(2), lambda: full.put(2, timeout=60)],
        "await queue.ajoin()": [full.join],
        "async for": [lambda: next(iter(queue))],
    }

    async def main():
        for instead, calls in waiting.items():
            for call in calls:
                with pytest.raises(UsageError, match=re.escape(f"use `{instead}`")):
                    call()
        # What need not wait is done.
        queue.put("item")
        assert (queue.get(), full.get()) == ("item", 1)
        with pytest.raises(QueueEmpty):
            queue.get(block=False)
        assert queue.waiting() == full.waiting() == some.waiting() == (0, 0, 0)
        # Nothing of a refused call is lost, and a closed queue keeps nothing waiting.
        assert some.get_many(3) == ["first", "second"]
        some.put("third")
        some.close()
        assert some.get_many(3, max_wait=60) == ["third"]

    loop_run(main())
