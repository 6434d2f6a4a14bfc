"""A thousand of each kind of early end, and what is left of them: descriptors, threads, processes and objects are counted.

What is counted is waited for, since an engine that is told to end takes a moment for it; what does not come back to what it
was is a leak. Objects may differ by a few, as caches fill; one for each end would be a thousand.
"""

import asyncio
import contextlib
import gc
import itertools
import os
import queue
import threading

import pytest

import unisono
from support.processes import children, until
from unisono import batch
from unisono._batches import batch as batches
from unisono._pools import process_pool
from unisono._pools.futures import Future

TIMES = 1000
# Of ends that take a process or a whole event loop each.
FEW = 40
VERY_FEW = 5


def open_now():
    """Descriptors, threads and child processes; a zygote is kept for the next pool."""
    return len(os.listdir("/proc/self/fd")), threading.active_count(), len(children(os.getpid()))


def native_threads():
    return len(os.listdir("/proc/self/task"))


def objects():
    gc.collect()
    return len(gc.get_objects())


def at_once(number):
    return number


async def on_a_loop(number):
    return number


async def never(number):
    if number:
        await asyncio.Event().wait()


# Each is one early end.


def break_out_of_threads(_):
    for _ in batch(at_once, itertools.count(), limit=2):
        break


def break_out_of_coroutines(_):
    for _ in batch(on_a_loop, itertools.count(), limit=2):
        break


def an_exception(_):
    with contextlib.suppress(LookupError):
        for _ in batch(at_once, itertools.count(), limit=2):
            raise LookupError


def an_exception_out_of_items(_):
    def items():
        yield 1
        raise LookupError

    with contextlib.suppress(LookupError):
        batch(at_once, items(), limit=2).run()


def a_generator_that_is_not_finished(_):
    def passed_on():
        yield from batch(at_once, itertools.count(), limit=2)

    next(passed_on())


def dropped_before_it_starts(_):
    batch(at_once, itertools.count(), limit=2)


def dropped_as_it_runs(_):
    next(batch(at_once, itertools.count(), limit=2))


def closed(_):
    outcomes = batch(at_once, itertools.count(), limit=2)
    next(outcomes)
    outcomes.close()


def left_with(_):
    with batch(at_once, itertools.count(), limit=2) as outcomes:
        next(outcomes)


def from_a_queue(_):
    given = unisono.Queue()
    for number in range(100):
        given.put(number)
    next(batch(at_once, given, limit=2))


def from_a_standard_queue(_):
    given = queue.Queue()
    for number in range(100):
        given.put(number)
    next(batch(at_once, given, limit=2))


def files(_):
    for _ in unisono.files.digest(itertools.repeat(__file__)):
        break


def requests(server):
    for _ in unisono.fetch((f"{server.url}/items/{number}" for number in itertools.count()), limit=2):
        break


def a_client(server):
    with unisono.Client() as client:
        client.get(f"{server.url}/items/1")


def a_client_that_is_dropped(server):
    unisono.Client().get(f"{server.url}/items/1")


def a_map_of_a_shared_pool(_):
    next(iter(THREADS.map(at_once, range(20))))


def an_imap_of_a_shared_pool(_):
    next(PROCESSES.imap(at_once, range(20)))


def a_queue_that_nobody_fills(_):
    with contextlib.suppress(unisono.QueueEmpty):
        unisono.Queue().get(timeout=0)


PLAIN = [
    break_out_of_threads,
    break_out_of_coroutines,
    an_exception,
    an_exception_out_of_items,
    a_generator_that_is_not_finished,
    dropped_before_it_starts,
    dropped_as_it_runs,
    closed,
    left_with,
    from_a_queue,
    from_a_standard_queue,
    files,
    requests,
    a_client,
    a_client_that_is_dropped,
    a_map_of_a_shared_pool,
    an_imap_of_a_shared_pool,
    a_queue_that_nobody_fills,
]


def commands(_):
    for _ in unisono.commands.each(itertools.repeat(["true"]), limit=2):
        break


def processes(_):
    for _ in batch(at_once, itertools.count(), executor="processes", limit=1):
        break


def a_thread_pool(_):
    with unisono.ThreadPool(2) as pool:
        next(iter(pool.map(at_once, range(20))))


SLOW = [commands, processes, a_thread_pool]


async def one_outcome():
    outcomes = batch(never, itertools.count(), limit=2)
    await anext(outcomes)
    return outcomes


def a_loop_that_is_closed_under_it(_):
    asyncio.run(one_outcome())


def a_loop_that_is_closed_at_once(_):
    loop = asyncio.new_event_loop()
    # It complains of tasks that had not ended; and what is logged is kept by pytest, with the task.
    loop.set_exception_handler(lambda *_: None)
    loop.run_until_complete(one_outcome())
    loop.close()


def a_client_whose_loop_is_closed(server):
    async def main():
        return await unisono.AsyncClient().get(f"{server.url}/items/1")

    asyncio.run(main())


CLOSED = [a_loop_that_is_closed_under_it, a_loop_that_is_closed_at_once, a_client_whose_loop_is_closed]


async def break_out_of_async_for(_):
    async for _ in batch(on_a_loop, itertools.count(), limit=2):
        break


async def an_async_generator(_):
    async def items():
        for number in itertools.count():
            yield number

    async for _ in batch(on_a_loop, items(), limit=2):
        break


async def aclosed(_):
    outcomes = batch(never, itertools.count(), limit=2)
    await anext(outcomes)
    await outcomes.aclose()


async def a_cancelled_task(_):
    begun = asyncio.Event()

    async def work(number):
        begun.set()
        await asyncio.Event().wait()

    async def wait():
        await batch(work, range(10), limit=2)

    task = asyncio.create_task(wait())
    await begun.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def requests_on_a_loop(server):
    async for _ in unisono.fetch((f"{server.url}/items/{number}" for number in itertools.count()), limit=2):
        break


async def a_client_on_a_loop(server):
    async with unisono.AsyncClient() as client:
        await client.get(f"{server.url}/items/1")


async def a_cancelled_get(_):
    given = unisono.Queue()
    task = asyncio.create_task(given.aget())
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


ON_A_LOOP = [
    break_out_of_async_for,
    an_async_generator,
    aclosed,
    a_cancelled_task,
    requests_on_a_loop,
    a_client_on_a_loop,
    a_cancelled_get,
]


class Forgetful(list):
    """What the server notes of requests is not to be counted."""

    def append(self, _):
        pass


@pytest.fixture
def server(server):
    server.requests = Forgetful()
    return server


@pytest.fixture(scope="module", autouse=True)
def shared_pools():
    global THREADS, PROCESSES
    with unisono.ThreadPool(2) as THREADS, unisono.Pool(1) as PROCESSES:
        yield


def is_quiet():
    batches._prune_abandoned()
    return not batches._abandoned


def few_objects(times):
    """Caches and interned names, whatever the number of ends; a batch that stays is dozens of objects."""
    return 150 + times / 4


# Each ends a pool in its own way, and a future of it is kept.


def shut_down(kept):
    with unisono.ProcessPool(1) as pool:
        kept.append(pool.submit(abs, -1))


def shut_down_without_waiting(kept):
    pool = unisono.ProcessPool(1)
    kept.append(pool.submit(abs, -1))
    pool.shutdown(wait=False)


def dropped(kept):
    kept.append(unisono.ProcessPool(1).submit(abs, -1))


def terminated(kept):
    with unisono.Pool(1) as pool:
        kept.append(pool.submit(abs, -1))


def cancelled(kept):
    with unisono.ProcessPool(1) as pool:
        kept.append(pool.submit(abs, -1))
        pool.shutdown(cancel_futures=True)


def large_arguments_and_results(kept):
    with unisono.ProcessPool(1) as pool:
        kept.append(pool.submit(len, bytes(1 << 20)))


def without_its_zygote(kept):
    pool = unisono.ProcessPool(1)
    kept.append(pool.submit(abs, -1))
    unisono._pools.spawning.stop_zygotes()
    pool.shutdown()


def without_a_worker_that_starts(kept):
    pool = unisono.ProcessPool(1, initializer=fail)
    kept.append(pool.submit(abs, -1))
    assert isinstance(kept[-1].exception(), unisono.PoolBroken)
    # It is never shut down: a pool that is broken has nothing left to do.
    kept.append(pool)


def of_forks(kept):
    with unisono.ProcessPool(1, start_method="fork") as pool:
        kept.append(pool.submit(abs, -1))


def a_job(kept):
    job = unisono.spawn(abs, -1)
    job.join()
    kept.append(job)


def fail():
    raise ValueError


POOLS = [
    shut_down,
    shut_down_without_waiting,
    dropped,
    terminated,
    cancelled,
    large_arguments_and_results,
    without_its_zygote,
    without_a_worker_that_starts,
    of_forks,
    a_job,
]
# Each takes an interpreter that starts.
SLOW_POOLS = [without_its_zygote, without_a_worker_that_starts]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("end", POOLS, ids=lambda end: end.__name__)
def test_what_is_kept_of_a_pool_that_has_ended_keeps_no_descriptor(end):
    kept = []

    def times(count):
        for _ in range(count):
            end(kept)
        until(lambda: all(one.done() for one in kept if isinstance(one, Future)), "the ends of tasks")
        # Not before, or another one would be started for what is left to do.
        unisono._pools.spawning.stop_zygotes()

    times(1)
    until(lambda: not process_pool._POOLS.keys() - {PROCESSES._engine}, "the end of the pool")
    before = open_now()
    times(VERY_FEW if end in SLOW_POOLS else FEW)
    until(
        lambda: all(now <= then for now, then in zip(open_now(), before)),
        f"{before} descriptors, threads and processes",
    )


def test_a_fork_of_the_program_lets_go_of_its_parents_pool_alone(tmp_path):
    """What the child drops is its own copy: the parent's pool works as before."""
    with unisono.ProcessPool(1) as pool:
        kept = [pool.submit(abs, -1)]
        assert kept[0].result() == 1
        child = os.fork()
        if child == 0:
            status = 1
            try:
                kept.clear()
                del pool
                gc.collect()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert list(pool.map(abs, [-1, -2])) == [1, 2]


# Each is kept when it has ended.


def run_to_its_end(_):
    run = batch(at_once, range(3), limit=2)
    run.run()
    return run


def closed_early(_):
    run = batch(at_once, itertools.count(), limit=2)
    next(run)
    run.close()
    return run


def coroutines_to_their_end(_):
    run = batch(on_a_loop, range(3), limit=2)
    run.run()
    return run


def on_a_loop_to_its_end(_):
    async def main():
        run = batch(on_a_loop, range(3), limit=2)
        await run
        return run

    return asyncio.run(main())


def requests_to_their_end(server):
    run = unisono.fetch([f"{server.url}/items/{number}" for number in range(3)], limit=2)
    run.run()
    return run


def files_to_their_end(_):
    run = unisono.files.digest([__file__])
    run.run()
    return run


def commands_to_their_end(_):
    run = unisono.commands.each(["true"], items=["a"])
    run.run()
    return run


KEPT = [
    run_to_its_end,
    closed_early,
    coroutines_to_their_end,
    on_a_loop_to_its_end,
    requests_to_their_end,
    files_to_their_end,
    commands_to_their_end,
]


@pytest.mark.parametrize("make", KEPT, ids=lambda make: make.__name__)
def test_a_batch_that_is_kept_after_its_end_keeps_no_descriptor(make, server):
    kept = [make(server)]
    before = open_now()[0], native_threads()
    kept += [make(server) for _ in range(FEW)]
    until(
        lambda: open_now()[0] <= before[0] and native_threads() <= before[1],
        f"{before} descriptors and threads",
    )


@pytest.mark.parametrize(
    "end", [break_out_of_threads, break_out_of_coroutines, from_a_queue, files, requests, commands, processes]
)
def test_a_loop_that_was_left_keeps_no_descriptor_until_the_next_batch(end, server):
    end(server)
    until(is_quiet, "the end of what was left")
    before = open_now()[0], native_threads()
    end(server)
    # Nothing looks after what was left, and no other batch starts.
    until(
        lambda: open_now()[0] <= before[0] and native_threads() <= before[1],
        f"{before} descriptors and threads",
    )


class Census:
    """Counts before and after."""

    def __init__(self):
        until(is_quiet, "the end of what was left")
        self.objects, self.threads, self.open = objects(), native_threads(), open_now()

    def check(self, times):
        until(is_quiet, "the end of what was left")

        def is_back():
            gc.collect()
            return all(now <= before for now, before in zip(open_now(), self.open)) and native_threads() <= self.threads

        until(
            is_back,
            f"descriptors, threads and processes: were {self.open, self.threads}, are {open_now(), native_threads()}; that they",
        )
        assert objects() - self.objects < few_objects(times)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("end", [*PLAIN, *SLOW, *CLOSED], ids=lambda end: end.__name__)
def test_nothing_is_left_of_a_thousand_early_ends(end, server):
    times = FEW if end in SLOW else TIMES
    for _ in range(20):
        end(server)
    census = Census()
    for _ in range(times):
        end(server)
    census.check(times)


@pytest.mark.parametrize("end", ON_A_LOOP, ids=lambda end: end.__name__)
def test_nothing_is_left_of_a_thousand_early_ends_on_one_event_loop(end, server):
    async def main():
        for _ in range(20):
            await end(server)
        # On the loop as well something may have to be done for it.
        while not is_quiet():
            await asyncio.sleep(0.01)
        before = objects(), native_threads(), open_now()
        for _ in range(TIMES):
            await end(server)
        deadline = asyncio.get_running_loop().time() + 60
        while not is_quiet() or native_threads() > before[1] or any(map(int.__gt__, open_now(), before[2])):
            gc.collect()
            now = native_threads(), open_now()
            assert asyncio.get_running_loop().time() < deadline, f"there were {before[1:]}, and are {now}"
            await asyncio.sleep(0.01)
        assert objects() - before[0] < few_objects(TIMES)

    asyncio.run(main())
