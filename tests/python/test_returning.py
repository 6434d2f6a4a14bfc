"""A batch that ends early gives back to its queue what it has not begun: each item was begun or is in the queue."""

import asyncio
import contextlib
import gc
import queue
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvloop

import unisono
from support.processes import until
from unisono import batch

MANY = 1_000


class Work:
    """Functions that note what they were called with, and wait until they may go on once some have ended."""

    def __init__(self, kind, fails=False):
        self.begun = []
        self.fails = fails
        self.call = {"threads": self.in_thread, "loop": self.on_loop}[kind]

    def in_thread(self, item):
        self.begun.append(item)
        if self.fails:
            raise LookupError(item)
        return item

    async def on_loop(self, item):
        # Without a pause before it is noted, within which it could be stopped.
        ended = self.in_thread(item)
        await asyncio.sleep(0)
        return ended


def filled(kind):
    items = kind()
    for number in range(MANY):
        items.put_nowait(number)
    return items


def rest_of(items):
    left = []
    with contextlib.suppress(queue.Empty, asyncio.QueueEmpty, unisono.errors.QueueClosed):
        while True:
            left.append(items.get_nowait())
    return left


def check(work, items, outcomes=None):
    left = rest_of(items)
    assert left == sorted(left), "in their order"
    assert sorted(work.begun + left) == list(range(MANY)), "each was begun or is there, and none is both"
    if outcomes is not None:
        assert sorted(outcome.item for outcome in outcomes) == sorted(work.begun)


QUEUES = [unisono.Queue, queue.Queue]
PLACES = ["threads", "loop"]


@pytest.mark.parametrize("kind", QUEUES)
@pytest.mark.parametrize("place", PLACES)
def test_what_a_cancelled_batch_has_not_begun_is_back_in_the_queue_at_its_end(kind, place):
    work, items = Work(place), filled(kind)
    outcomes = []
    with batch(work.call, items, limit=3) as taken:
        for outcome in taken:
            outcomes.append(outcome)
            if len(outcomes) == 5:
                taken.cancel()
    check(work, items, outcomes)
    assert taken.report.total == len(outcomes)


@pytest.mark.parametrize("kind", QUEUES)
@pytest.mark.parametrize("place", PLACES)
def test_what_a_batch_that_failed_too_often_has_not_begun_is_back_in_the_queue_at_its_end(kind, place):
    work, items = Work(place, fails=True), filled(kind)
    check(work, items, list(batch(work.call, items, limit=3, max_failures=5)))


@pytest.mark.parametrize("way", ["run", "await"])
@pytest.mark.parametrize("place", PLACES)
def test_where_outcomes_go_to_a_file_what_was_not_begun_is_back_in_the_queue_as_well(way, place, tmp_path):
    work, items = Work(place, fails=True), filled(unisono.Queue)
    stopped = batch(work.call, items, limit=3, max_failures=5, out=tmp_path / "results.jsonl")

    async def main():
        return await stopped

    report = stopped.run() if way == "run" else asyncio.run(main())
    assert report.total == len(work.begun)
    check(work, items)


@pytest.mark.parametrize("kind", QUEUES)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("way", ["break", "close", "error"])
def test_what_a_batch_that_is_left_has_not_begun_comes_back_to_the_queue(kind, place, way):
    work, items = Work(place), filled(kind)
    taken = batch(work.call, items, limit=3)
    with contextlib.suppress(LookupError):
        for outcome in taken:
            if outcome.item >= 5:
                if way == "error":
                    raise LookupError
                break
    if way == "close":
        taken.close()
    del taken
    gc.collect()
    until(lambda: items.qsize() + len(work.begun) == MANY)
    assert sorted(work.begun + rest_of(items)) == list(range(MANY))


@pytest.mark.parametrize("kind", [*QUEUES, asyncio.Queue])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("way", ["cancel", "aclose", "max_failures"])
def test_on_an_event_loop_what_was_not_begun_is_back_in_the_queue_at_the_end(kind, place, way):
    async def main():
        work, items = Work(place, fails=way == "max_failures"), filled(kind)
        taken = batch(work.call, items, limit=3, max_failures=5)
        count = 0
        async for _ in taken:
            count += 1
            if count == 4:
                if way == "cancel":
                    taken.cancel()
                elif way == "aclose":
                    await taken.aclose()
        while way == "aclose" and items.qsize() + len(work.begun) < MANY:
            await asyncio.sleep(0)
        assert sorted(work.begun + rest_of(items)) == list(range(MANY))

    asyncio.run(main())


def functions(items, out):
    return batch(Work("threads").call, items, limit=3, out=out)


def coroutines(items, out):
    return batch(Work("loop").call, items, limit=3, out=out)


def commands(items, out):
    return unisono.commands.each(["true", "{}"], items=items, limit=3, out=out)


REFUSED = [functions, coroutines, commands]


def check_refused(refused, items):
    """With no thread that dies of the refusal, which pytest would tell."""
    assert rest_of(items) == list(range(MANY)), "nothing has begun"
    refused.close()
    del refused
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "unisono-returns":
            thread.join()
    assert not rest_of(items)


@pytest.mark.parametrize("kind", QUEUES)
@pytest.mark.parametrize("work", REFUSED)
@pytest.mark.parametrize("way", ["run", "for"])
def test_what_a_refused_batch_has_taken_is_back_in_the_queue_as_the_refusal_is_raised(kind, work, way, tmp_path):
    out, items = tmp_path / "results.jsonl", filled(kind)
    out.write_text('{"no": "result"}\n')
    refused = work(items, out)
    with pytest.raises(unisono.UsageError, match="results"):
        refused.run() if way == "run" else list(refused)
    check_refused(refused, items)


@pytest.mark.parametrize("kind", [*QUEUES, asyncio.Queue])
@pytest.mark.parametrize("work", REFUSED)
@pytest.mark.parametrize("way", ["await", "async for"])
def test_on_an_event_loop_what_a_refused_batch_has_taken_is_back_as_well(kind, work, way, tmp_path):
    async def main():
        items = filled(kind)
        refused = work(items, tmp_path / "missing" / "results.jsonl")
        with pytest.raises(unisono.RunError, match="missing"):
            if way == "await":
                await refused
            else:
                async for _ in refused:
                    pass
        check_refused(refused, items)

    asyncio.run(main())


class HeldUp(ThreadPoolExecutor):
    """Takes no call in before it may."""

    def __init__(self):
        super().__init__(3)
        self.was_given, self.may_go = threading.Event(), threading.Event()

    def submit(self, *call):
        self.was_given.set()
        self.may_go.wait()
        return super().submit(*call)


@pytest.mark.parametrize("kind", [*QUEUES, asyncio.Queue])
def test_what_a_run_has_not_waited_for_is_back_once_the_thread_that_begins_calls_has_come_to_it(kind):
    work, items = Work("threads"), kind()
    items.put_nowait(0)

    async def main(executor):
        taken = batch(work.call, items, limit=3, executor=executor)
        first = asyncio.create_task(anext(taken))
        while not executor.was_given.is_set():
            await asyncio.sleep(0)
        # The thread hands in the first call, and so takes none of the others.
        for number in range(1, MANY):
            items.put_nowait(number)
        while taken.progress["in_flight"] < 3:
            await asyncio.sleep(0)
        await taken.aclose()
        await asyncio.gather(first, return_exceptions=True)

    with HeldUp() as executor:
        asyncio.run(main(executor))
        assert not work.begun
        executor.may_go.set()
        until(lambda: items.qsize() + len(work.begun) == MANY)
    assert sorted(work.begun + rest_of(items)) == list(range(MANY))


@pytest.mark.filterwarnings("ignore:a plain `for` over a batch waits:RuntimeWarning")
@pytest.mark.parametrize("end", ["goes on", "is closed", "is closed with tasks that have not begun"])
def test_what_a_busy_loop_was_handed_is_back_in_the_queue_whether_the_loop_ends_or_goes_on(end):
    # Which a thread takes from, also while the loop is busy.
    work, items = Work("loop"), filled(queue.Queue)
    taken = batch(work.call, items, limit=3)
    loop = asyncio.new_event_loop()

    async def main():
        async for _ in taken:
            # What the engine hands to the loop meanwhile, the loop does not take.
            until(lambda: items.qsize() + taken.progress["done"] + 3 == MANY and taken.progress["in_flight"] == 3)
            break
        if end == "is closed":
            # With this turn, and so it takes nothing; otherwise with the next one, in which it takes and begins nothing.
            loop.stop()
        elif end == "goes on":
            taken.close()
            # Waits for the end of the run, as it is on the loop.
            assert not list(taken)
            async with asyncio.timeout(60):
                while items.qsize() + len(work.begun) < MANY:
                    await asyncio.sleep(0)

    task = loop.create_task(main())
    task.add_done_callback(lambda _: loop.stop())
    loop.run_forever()
    task.result()
    loop.close()
    taken.close()
    until(lambda: items.qsize() + len(work.begun) == MANY)
    assert sorted(work.begun + rest_of(items)) == list(range(MANY))


@pytest.mark.parametrize("kind", [*QUEUES, asyncio.Queue])
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_calls_that_a_loop_cancels_as_it_ends_before_they_have_begun_are_back_in_the_queue(kind, run):
    for turns in range(6):
        work, items = Work("loop"), filled(kind)
        taken = batch(work.call, items, limit=3)

        async def main(taken=taken, turns=turns):
            await anext(taken)
            if kind is queue.Queue:
                # A thread takes from it meanwhile. What the engine has handed on by then becomes tasks in the turn in
                # which the loop ends, which cancels them at once.
                until(lambda: taken.progress["in_flight"] == 3)
            for _ in range(turns):
                await asyncio.sleep(0)

        run(main())
        taken.close()
        until(lambda items=items, work=work: items.qsize() + len(work.begun) == MANY)
        assert sorted(work.begun + rest_of(items)) == list(range(MANY))


@pytest.mark.parametrize("kind", QUEUES)
@pytest.mark.parametrize("place", [*PLACES, "commands"])
def test_what_had_begun_as_an_engine_failed_does_not_go_back_and_is_named(kind, place, tmp_path, caplog):
    items, gate = filled(kind), threading.Event()

    def in_thread(number):
        (tmp_path / str(number)).touch()
        gate.wait()

    async def on_loop(number):
        (tmp_path / str(number)).touch()
        await asyncio.Event().wait()

    made = {
        "threads": lambda: batch(in_thread, items, limit=3),
        "loop": lambda: batch(on_loop, items, limit=3),
        "commands": lambda: unisono.commands.each(
            ["sh", "-c", 'touch "$1" && exec sleep 1000', "-", f"{tmp_path}/{{}}"], items=items, limit=3
        ),
    }
    taken, raised = made[place](), []

    def take():
        try:
            list(taken)
        except unisono.RunError as error:
            raised.append(error)

    taker = threading.Thread(target=take)
    taker.start()
    until(lambda: len(list(tmp_path.iterdir())) == 3)
    # It ends as by a panic: at once, and without an account.
    taken._run.kill()
    taker.join()
    gate.set()
    assert raised
    until(lambda: items.qsize() == MANY - 3)
    assert rest_of(items) == list(range(3, MANY))
    (record,) = [record for record in caplog.records if record.name == "unisono.batch"]
    assert record.getMessage().startswith("3 items of a queue had begun as their run failed")
    assert record.getMessage().endswith(": 0, 1, 2")


class Uncancellable(ThreadPoolExecutor):
    """A future of its second call raises when it is to be cancelled."""

    def __init__(self):
        super().__init__(3)
        self.given = 0

    def submit(self, *call):
        future = super().submit(*call)
        self.given += 1
        if self.given == 2:
            future.cancel = self.refuse
        return future

    def refuse(self):
        raise OSError("no connection to the scheduler")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_call_that_is_on_its_way_back_as_the_thread_that_makes_calls_fails_has_its_outcome(tmp_path):
    items, begun = filled(unisono.Queue), []
    is_asked, may_write, may_fail = threading.Event(), threading.Event(), threading.Event()
    all_begun = threading.Barrier(3)

    def work(number):
        begun.append(number)
        # Else its end could be told by the thread that makes calls.
        all_begun.wait()
        if number == 2:
            may_fail.wait()
            raise LookupError(number)
        if number == 1:
            may_write.wait()
        return number

    def serialize(number):
        if number == 0:
            is_asked.set()
            may_write.wait()
        return number

    earlier = set(threading.enumerate())

    def calls_are_made():
        return any(thread.name == "unisono-work" for thread in set(threading.enumerate()) - earlier)

    with Uncancellable() as executor, contextlib.ExitStack() as at_last:
        # The executor waits for its threads, and these wait for this: also where something else has failed.
        at_last.callback(may_fail.set)
        at_last.callback(may_write.set)
        taken = batch(
            work,
            items,
            limit=3,
            executor=executor,
            max_failures=1,
            out=tmp_path / "results.jsonl",
            serialize=serialize,
        )
        outcomes = []
        taker = threading.Thread(target=lambda: outcomes.extend(taken))
        taker.start()
        assert is_asked.wait(60)
        # The batch stops by this, and what has not begun is to be taken back.
        may_fail.set()
        until(lambda: not calls_are_made())
        may_write.set()
        taker.join()
    assert sorted((outcome.item, outcome.kind) for outcome in outcomes) == [(0, "ok"), (1, "ok"), (2, "failed")]
    assert sorted(begun + rest_of(items)) == list(range(MANY))


class Shared:
    """Functions that look at how many items of their queue are neither ended nor in it."""

    def __init__(self, kind, items):
        self.items, self.ended, self.most = items, 0, 0
        self.lock = threading.Lock()
        self.call = {"threads": self.in_thread, "loop": self.on_loop}[kind]

    def in_thread(self, item):
        with self.lock:
            self.most = max(self.most, MANY - self.items.qsize() - self.ended)
            self.ended += 1

    async def on_loop(self, item):
        await asyncio.sleep(0)
        self.in_thread(item)


@pytest.mark.parametrize("kind", QUEUES)
@pytest.mark.parametrize("place", ["threads", "loop"])
@pytest.mark.parametrize(("retries", "most"), [(0, 3), (2, 6)])
def test_no_more_is_taken_from_a_queue_than_can_begin(kind, place, retries, most):
    items = filled(kind)
    work = Shared(place, items)
    with batch(work.call, items, limit=3, retries=retries, retry_on=OSError) as outcomes:
        for _ in range(300):
            next(outcomes)
    assert 1 <= work.most <= most


@pytest.mark.parametrize("kind", [*QUEUES, asyncio.Queue])
@pytest.mark.parametrize("place", ["threads", "loop"])
def test_no_more_is_taken_from_a_queue_than_can_begin_on_an_event_loop(kind, place):
    async def main():
        items = filled(kind)
        work = Shared(place, items)
        async with batch(work.call, items, limit=3) as outcomes:
            for _ in range(300):
                await anext(outcomes)
        return work.most

    assert 1 <= asyncio.run(main()) <= 3


@pytest.mark.parametrize("kind", QUEUES)
def test_another_consumer_is_served_while_all_that_can_begin_has_begun(kind):
    items = kind()
    may_go, begun = threading.Event(), threading.Semaphore(0)

    def work(item):
        begun.release()
        may_go.wait()
        return item

    outcomes = batch(work, items, limit=2)
    taker = threading.Thread(target=lambda: taken.extend(outcome.item for outcome in outcomes))
    taken = []
    taker.start()
    for number in range(2):
        items.put(number)
    for _ in range(2):
        begun.acquire()
    for number in range(2, 10):
        items.put(number)
        assert items.get() == number
    outcomes.cancel()
    may_go.set()
    taker.join()
    assert sorted(taken) == [0, 1]


@pytest.mark.parametrize("kind", QUEUES)
def test_what_may_begin_is_taken_also_while_the_program_is_busy_with_an_outcome(kind):
    items = filled(kind)
    begun = threading.Event()

    def work(item):
        if item == 100:
            begun.set()
        return item

    with batch(work, items, limit=2) as outcomes:
        next(outcomes)
        assert begun.wait(60)


def test_what_may_begin_is_taken_also_while_a_coroutine_is_busy_with_an_outcome():
    async def main():
        items = filled(asyncio.Queue)
        begun = asyncio.Event()

        async def work(item):
            if item == 100:
                begun.set()

        async with batch(work, items, limit=2) as outcomes:
            await anext(outcomes)
            await asyncio.wait_for(begun.wait(), 60)

    asyncio.run(main())


@pytest.mark.parametrize("kind", [unisono.Queue, asyncio.Queue])
def test_more_is_taken_from_a_queue_as_the_limit_is_raised(kind):
    async def main():
        items, begun, may_go = filled(kind), set(), asyncio.Event()

        async def work(item):
            begun.add(item)
            await may_go.wait()

        async with batch(work, items, limit=1) as outcomes:
            waiting = asyncio.create_task(anext(outcomes))
            while not begun:
                await asyncio.sleep(0.001)
            outcomes.limit = 5
            while len(begun) < 5:
                await asyncio.sleep(0.001)
            may_go.set()
            await waiting

    asyncio.run(main())


def test_a_consumer_of_an_asyncio_queue_that_waits_is_served_what_comes_back():
    async def main():
        items = asyncio.Queue()
        for number in range(10):
            items.put_nowait(number)
        begun = []

        async def work(item):
            begun.append(item)
            await asyncio.Event().wait()

        # With a key it looks ahead.
        taken = batch(work, items, limit=1, key=str)
        first = asyncio.ensure_future(anext(taken))
        while items.qsize() or not begun:
            await asyncio.sleep(0)
        other = asyncio.ensure_future(items.get())
        taken.cancel(abort=True)
        with contextlib.suppress(StopAsyncIteration):
            await first
        await taken.aclose()
        assert await other == 1
        assert rest_of(items) == list(range(2, 10))

    asyncio.run(main())


def test_commands_that_were_not_begun_are_back_in_the_queue():
    items = filled(unisono.Queue)
    begun = set()
    with unisono.commands.each(["true", "{}"], items=items, limit=2) as taken:
        for outcome in taken:
            begun.add(outcome.item)
            taken.cancel()
    assert sorted(begun.union(rest_of(items))) == list(range(MANY))


def test_coroutines_of_a_queue_that_were_not_begun_come_back_whole():
    items = unisono.Queue()
    begun = []

    async def work(number):
        begun.append(number)

    for number in range(100):
        items.put(work(number))
    with unisono.batch_all(items, limit=2) as taken:
        outcomes = [next(taken)]
        taken.cancel()
        outcomes.extend(taken)
    left = rest_of(items)
    # What had been handed to the loop and had not begun there is spent by that, and has its outcome.
    spent = [outcome.row for outcome in outcomes if outcome.kind == "cancelled"]

    async def go_on():
        for coroutine in left:
            await coroutine

    asyncio.run(go_on())
    assert sorted(begun + spent) == list(range(100))


def test_a_full_queue_of_the_standard_library_takes_back_what_was_not_begun():
    items = queue.Queue(maxsize=4)
    for number in range(4):
        items.put(number)
    may_go = threading.Event()
    begun = threading.Event()

    def work(item):
        begun.set()
        may_go.wait()

    # With a key it looks ahead, among them for one that may begin.
    taken = batch(work, items, limit=1, key=str)
    taker = threading.Thread(target=lambda: list(taken))
    taker.start()
    begun.wait()
    until(items.empty)
    for number in range(4, 8):
        items.put(number)
    taken.cancel()
    may_go.set()
    taker.join()
    assert rest_of(items) == list(range(1, 8))


def test_a_queue_that_is_closed_gives_what_comes_back_to_whoever_drains_it():
    work, items = Work("threads", fails=True), filled(unisono.Queue)
    items.close()
    list(batch(work.call, items, limit=3, max_failures=2))
    assert sorted(work.begun + list(items)) == list(range(MANY))


def killed_at_its_first(path):
    """A run that was killed while its first item was called, which leaves that in doubt."""
    program = (
        "import os, signal, sys, unisono\n"
        "def call(item): os.kill(os.getpid(), signal.SIGKILL)\n"
        "unisono.batch(call, [0, 1, 2, 3], executor='threads', limit=1, out=sys.argv[1], resume=True).run()\n"
    )
    assert subprocess.run([sys.executable, "-c", program, path]).returncode == -signal.SIGKILL


@pytest.mark.parametrize("stop", [{"max_failures": 2}, {"canary": 1}])
@pytest.mark.parametrize("place", [1, 300])
def test_what_is_in_doubt_is_looked_for_in_a_queue_behind_more_than_can_begin_and_the_others_go_back(
    stop, place, tmp_path
):
    killed_at_its_first(tmp_path / "o.jsonl")
    begun, items = [], unisono.Queue()
    for number in [*range(1, place + 1), 0]:
        items.put(number)
    items.close()

    def call(item):
        begun.append(item)
        raise LookupError(item)

    report = batch(call, items, executor="threads", limit=1, out=tmp_path / "o.jsonl", resume=True, **stop).run()
    left = rest_of(items)
    # What is in doubt counts as one that did not end well, and was told before anything began.
    assert (report.ambiguous, report.stopped) == (1, "Canary" if "canary" in stop else "MaxFailures")
    assert [*begun, *left] == list(range(1, place + 1)), "each was begun or is there, and none is both"
    assert len(begun) == 1


def test_an_open_queue_that_does_not_give_what_is_in_doubt_holds_up_what_it_gave_for_some_seconds(tmp_path):
    killed_at_its_first(tmp_path / "o.jsonl")
    items = unisono.Queue()
    for number in (3, 2, 1):
        items.put(number)

    def call(item):
        if item == 1:
            items.close()
        return item

    report = batch(
        call, items, executor="threads", limit=1, out=tmp_path / "o.jsonl", resume=True, max_failures=5
    ).run()
    # It is not in the input any more, and so stays in doubt.
    assert report.ok == 3
    assert "left in doubt" in "".join(report.warnings)


def test_what_goes_back_is_known_by_its_place_and_not_by_the_number_that_its_line_has(tmp_path):
    # Rows of a second run are counted on from those of the first.
    batch(int, range(5), executor="threads", out=tmp_path / "o.jsonl", resume=True).run()
    work, items = Work("threads", fails=True), unisono.Queue()
    for number in range(100, 400):
        items.put(number)
    items.close()
    batch(work.call, items, executor="threads", limit=4, max_failures=3, out=tmp_path / "o.jsonl", resume=True).run()
    left = rest_of(items)
    assert sorted(work.begun + left) == list(range(100, 400)), "each was begun or is there, and none is both"
