"""A queue whose users vanish: cancelled, interrupted, forked, closed loops; and a queue under load."""

import asyncio
import gc
import os
import subprocess
import sys
import weakref
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from support.queues import BOUND, parked, run, threads, waiting_task
from unisono import Queue, QueueClosed, QueueEmpty, QueueFull

__all__ = ["threads"]

# Cancelling, timeouts, interrupts


def test_a_cancelled_aget_loses_no_item_and_no_place():
    async def main():
        queue = Queue()
        tasks = [await waiting_task(queue, queue.aget()) for _ in range(3)]
        queue.put(0)
        queue.put(1)
        # Both are served and have not gone on yet.
        tasks[0].cancel()
        tasks[1].cancel()
        done, _ = await asyncio.wait(tasks[:2])
        assert all(task.cancelled() for task in done)
        assert await tasks[2] == 0
        return await queue.aget()

    assert run(main()) == 1


def test_items_of_cancelled_agets_keep_their_order():
    async def main():
        queue = Queue()
        tasks = [await waiting_task(queue, queue.aget()) for _ in range(3)]
        for number in range(5):
            queue.put(number)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return queue.get_many(10)

    assert run(main()) == [0, 1, 2, 3, 4]


def test_the_item_of_a_cancelled_aput_was_not_put():
    async def main():
        queue = Queue(1)
        queue.put("old")
        first = await waiting_task(queue, queue.aput("cancelled"))
        second = await waiting_task(queue, queue.aput("new"))
        assert queue.get() == "old"
        # `first` has a place and has not gone on yet.
        first.cancel()
        await asyncio.wait([first, second])
        assert first.cancelled()
        return await queue.aget(), queue.empty()

    assert run(main()) == ("new", True)


def test_a_wait_that_timed_out_stands_in_line_no_longer(threads):
    queue = Queue()
    with pytest.raises(QueueEmpty):
        queue.get(timeout=0.001)
    assert queue.waiting() == (0, 0, 0)
    queue.put(1)
    assert queue.get_nowait() == 1


def test_an_aget_with_a_limit_loses_nothing():
    async def main():
        queue = Queue()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queue.aget(), 0.001)
        assert queue.waiting() == (0, 0, 0)

    run(main())


def test_a_task_that_is_forgotten_stands_in_line_no_longer():
    async def main():
        queue = Queue()
        waiting = queue.aget()
        waiting.send(None)
        assert queue.waiting() == (1, 0, 0)
        del waiting
        assert queue.waiting() == (0, 0, 0)
        queue.put(1)
        return queue.get_nowait()

    assert run(main()) == 1


@pytest.mark.parametrize("call", ["queue.get()", "queue.get_many(5)", "next(queue)", "full.put(1)", "busy.join()"])
def test_ctrl_c_interrupts_a_wait_in_the_main_thread(call):
    program = f"""
import os, signal, threading, unisono
queue, full, busy = unisono.Queue(), unisono.Queue(1), unisono.Queue()
full.put(0)
busy.put(0)
def interrupt():
    while not any(queue.waiting() + full.waiting() + busy.waiting()):
        os.sched_yield()
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", queue.waiting() + full.waiting() + busy.waiting())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=BOUND, check=False)
    assert (ended.stdout, ended.stderr) == ("interrupted (0, 0, 0, 0, 0, 0, 0, 0, 0)\n", "")


def test_daemon_threads_that_wait_at_the_end_of_a_program_do_not_disturb_its_end():
    # They wake while the interpreter is taken down, for as long as the destructor runs.
    program = """
import builtins, threading, unisono
queue, woken = unisono.Queue(), unisono.Queue()
def wait():
    while True:
        try:
            queue.get(timeout=0.0001)
        except unisono.QueueEmpty:
            woken.put(1)
for _ in range(4):
    threading.Thread(target=wait, daemon=True).start()
class Slow:
    def __del__(self):
        sum(range(3_000_000))
builtins.slow = Slow()
woken.get_many(100, max_wait=60)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=BOUND, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


# Loops, forks, collectors


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_any_number_of_loops_share_a_queue(threads, new_loop):
    def run(main):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main)

    queue, results = Queue(10), Queue()

    async def consume():
        async for item in queue:
            await results.aput(item)

    async def produce(first):
        for number in range(first, first + 1000):
            await queue.aput(number)

    consumers = [threads.submit(run, consume()) for _ in range(3)]
    producers = [threads.submit(run, produce(first)) for first in (0, 1000, 2000)]
    for producer in producers:
        producer.result(BOUND)
    queue.close()
    for consumer in consumers:
        consumer.result(BOUND)
    assert sorted(results.get_many(3000)) == list(range(3000))


def test_a_closed_loop_takes_no_item_with_it():
    queue = Queue()
    loop = asyncio.new_event_loop()
    task = loop.create_task(queue.aget())
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert queue.waiting() == (1, 0, 0)
    loop.close()
    queue.put("item")
    assert queue.get_nowait() == "item"
    task._log_destroy_pending = False


def test_what_a_loop_was_called_for_and_did_not_fetch_before_it_was_closed_goes_to_others(threads):
    queue = Queue()
    loop = asyncio.new_event_loop()
    task = loop.create_task(queue.aget())
    loop.call_soon(loop.stop)
    loop.run_forever()
    queue.put("item")
    loop.close()
    assert queue.get(timeout=BOUND) == "item"
    task._log_destroy_pending = False


def test_many_coroutines_of_one_loop_are_woken_by_one_call():
    async def main():
        queue = Queue()
        tasks = [await waiting_task(queue, queue.aget()) for _ in range(100)]
        loop = asyncio.get_running_loop()
        calls = []
        original = loop.call_soon_threadsafe
        loop.call_soon_threadsafe = lambda *arguments: calls.append(original(*arguments))
        # The loop does not run meanwhile: it is this thread that waits for the other.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: [queue.put(number) for number in range(100)]).result(BOUND)
        made = len(calls)
        assert await asyncio.gather(*tasks) == list(range(100))
        return made

    assert run(main()) == 1


def test_after_a_fork_the_child_has_the_items_and_nobody_waits(threads):
    empty, full = Queue(), Queue()
    waiting = parked(threads, empty, empty.get)
    full.put("item")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        empty.put("own")
        text = f"{empty.waiting()} {empty.get_nowait()} {full.get_nowait()}"
        os.write(writer, text.encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with open(reader) as said:
        assert said.read() == "(0, 0, 0) own item"
    empty.put("parent")
    assert waiting.result(BOUND) == "parent"


def test_a_queue_in_a_cycle_is_collected():
    class Thing:
        pass

    queue = Queue()
    thing = Thing()
    thing.queue = queue
    queue.put(thing)
    gone = weakref.ref(thing)
    del queue, thing
    gc.collect()
    assert gone() is None


def test_a_destructor_may_put_into_the_queue_that_drops_it():
    queue = Queue()

    class Loud:
        def __del__(self):
            if not queue.closed:
                queue.put("dropped")

    queue.put(Loud())
    queue.get()
    assert queue.get_nowait() == "dropped"


# Many at once, and what is done


def test_get_many_takes_what_is_there_and_waits_for_the_first(threads):
    queue = Queue()
    for number in range(5):
        queue.put(number)
    assert queue.get_many(3) == [0, 1, 2]
    assert queue.get_many(10) == [3, 4]
    first = parked(threads, queue, queue.get_many, 10)
    queue.put(5)
    assert first.result(BOUND) == [5]
    with pytest.raises(QueueEmpty):
        queue.get_many(1, timeout=0.001)
    with pytest.raises(ValueError):
        queue.get_many(0)


def test_get_many_ends_when_it_has_as_many_as_it_wants(threads):
    queue = Queue()
    many = parked(threads, queue, lambda: queue.get_many(3, max_wait=BOUND * 10))
    for number in range(4):
        queue.put(number)
    assert many.result(BOUND) == [0, 1, 2]
    assert queue.get_nowait() == 3


def test_get_many_hands_over_what_it_has_when_the_queue_is_closed(threads):
    queue = Queue()
    queue.put(1)
    many = parked(threads, queue, lambda: queue.get_many(3, max_wait=BOUND * 10))
    queue.close()
    assert many.result(BOUND) == [1]


def test_get_many_lets_everybody_in_who_waits_for_room(threads):
    queue = Queue(2)
    queue.put(0)
    queue.put(1)
    waiting = [parked(threads, queue, queue.put, number) for number in (2, 3, 4)]
    assert queue.get_many(10) == [0, 1, 2, 3, 4]
    for future in waiting:
        future.result(BOUND)


def test_a_cancelled_aget_many_puts_back_what_it_had_in_its_order():
    async def main():
        queue = Queue()
        for number in range(3):
            queue.put(number)
        task = await waiting_task(queue, queue.aget_many(5, max_wait=BOUND * 10))
        assert queue.empty()
        task.cancel()
        await asyncio.wait([task])
        queue.put(3)
        assert await queue.aget_many(10, max_wait=0.001) == [0, 1, 2, 3]
        queue.put(4)
        queue.close()
        assert await queue.aget_many(10, max_wait=BOUND * 10) == [4]
        with pytest.raises(QueueClosed):
            await queue.aget_many(1)
        with pytest.raises(ValueError):
            await queue.aget_many(0)

    run(main())


def test_join_waits_until_everything_is_done(threads):
    async def main():
        queue = Queue()
        await queue.ajoin()
        queue.join()
        for number in range(3):
            queue.put(number)
        with pytest.raises(TimeoutError, match="3 items"):
            await asyncio.to_thread(queue.join, timeout=0.001)
        joins = [asyncio.create_task(queue.ajoin()), asyncio.wrap_future(threads.submit(queue.join))]
        queue.get_many(3)
        queue.task_done(2)
        await asyncio.sleep(0)
        assert not any(join.done() for join in joins)
        queue.task_done()
        await asyncio.gather(*joins)
        with pytest.raises(ValueError):
            queue.task_done()

    run(main())


# Against a model, and under load


@settings(deadline=None, database=None)
@given(
    maxsize=st.integers(0, 3),
    steps=st.lists(st.sampled_from(["put", "get", "cancel get", "cancel put", "close", "run"]), max_size=60),
)
def test_whatever_happens_nothing_is_lost_or_doubled_and_the_order_holds(maxsize, steps):
    """Coroutines of one loop put, take and are cancelled at any time: what came out is what went in, in its order."""

    async def main():
        queue = Queue(maxsize)
        puts, gets, taken = [], [], []
        cancelled = set()

        async def take():
            item = await queue.aget()
            taken.append(item)

        for step in steps:
            if step == "put":
                puts.append(asyncio.create_task(queue.aput(len(puts))))
            elif step == "get":
                gets.append(asyncio.create_task(take()))
            elif step == "cancel put" and puts:
                puts[len(gets) % len(puts)].cancel()
            elif step == "cancel get" and gets:
                gets[len(puts) % len(gets)].cancel()
            elif step == "close":
                queue.close()
            else:
                await asyncio.sleep(0)
        queue.close()
        await asyncio.gather(*puts, *gets, return_exceptions=True)
        taken += list(queue)
        cancelled = {number for number, put in enumerate(puts) if put.cancelled() or put.exception()}
        assert Counter(taken) == Counter(set(range(len(puts))) - cancelled)
        assert queue.waiting() == (0, 0, 0)
        return taken

    run(main())


@settings(deadline=None, database=None)
@given(maxsize=st.integers(0, 3), steps=st.lists(st.sampled_from(["put", "get", "many", "back", "close"])))
def test_calls_that_do_not_wait_agree_with_a_model(maxsize, steps):
    queue, model, closed = Queue(maxsize), deque(), False
    for number, step in enumerate(steps):
        if step == "close":
            queue.close()
            closed = True
        elif step == "put":
            if closed:
                with pytest.raises(QueueClosed):
                    queue.put_nowait(number)
            elif maxsize and len(model) >= maxsize:
                with pytest.raises(QueueFull):
                    queue.put_nowait(number)
            else:
                queue.put_nowait(number)
                model.append(number)
        elif not model:
            with pytest.raises(QueueClosed if closed else QueueEmpty):
                queue.get_nowait()
        elif step == "get":
            assert queue.get_nowait() == model.popleft()
        elif step == "many":
            assert queue.get_many(2) == [model.popleft() for _ in range(min(2, len(model)))]
        else:
            queue._give_back(queue._take(2))
        assert (len(queue), queue.full()) == (len(model), bool(maxsize) and len(model) >= maxsize)


@pytest.mark.parametrize("maxsize", [0, 1, 10])
def test_eight_threads_and_eight_coroutines_on_each_end_lose_nothing(threads, maxsize):
    queue, count = Queue(maxsize), 500

    def produce(first):
        for number in range(first, first + count):
            queue.put(number)

    def consume():
        return list(queue)

    async def main():
        async def aproduce(first):
            for number in range(first, first + count):
                await queue.aput(number)

        async def aconsume():
            return [item async for item in queue]

        consumers = [asyncio.wrap_future(threads.submit(consume)) for _ in range(8)]
        consumers += [asyncio.create_task(aconsume()) for _ in range(8)]
        producers = [asyncio.wrap_future(threads.submit(produce, n * count)) for n in range(8)]
        producers += [asyncio.create_task(aproduce(n * count)) for n in range(8, 16)]
        await asyncio.gather(*producers)
        queue.close()
        return await asyncio.gather(*consumers)

    taken = run(main())
    assert sorted(item for items in taken for item in items) == list(range(16 * count))
    # Each consumer sees what one producer put in the order in which it put it.
    for items in taken:
        for n in range(16):
            of_one = [item for item in items if item // count == n]
            assert of_one == sorted(of_one)
