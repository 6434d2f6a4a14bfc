"""What becomes of a batch whose loop is left early: it ends, by its reference count alone, as a dropped file is closed.

The collector of cycles is off throughout. An engine has a thread of its own, so that none is left says that nothing is
started, sent or waited for any more.
"""

import asyncio
import contextlib
import gc
import itertools
import os
import queue
import socketserver
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import uvloop

import unisono

RUNS = {"asyncio": asyncio.run, "uvloop": uvloop.run}


@pytest.fixture(params=RUNS)
def run(request):
    return RUNS[request.param]


@pytest.fixture(autouse=True)
def without_the_collector_of_cycles():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Holding(socketserver.ThreadingTCPServer):
    """Answers `/now` once three other requests are in, and those never; it sees when they are given up."""

    daemon_threads = allow_reuse_address = True
    request_queue_size = 512

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Answer)
        self.lock = threading.Lock()
        self.held, self.given_up = 0, 0
        self.three_are_in = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def handle_error(self, request, client_address):
        """Clients go away in the middle; that is what is tested."""

    class Answer(socketserver.StreamRequestHandler):
        def handle(self):
            while line := self.rfile.readline():
                while self.rfile.readline().strip():
                    pass
                if b"/now" in line:
                    self.server.three_are_in.wait(30)
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                    continue
                with self.server.lock:
                    self.server.held += 1
                    if self.server.held >= 3:
                        self.server.three_are_in.set()
                with contextlib.suppress(OSError):
                    self.rfile.read(1)
                with self.server.lock:
                    self.server.given_up += 1


@pytest.fixture
def holding():
    with Holding() as server:
        yield server
        server.three_are_in.set()
        server.shutdown()


def addresses(server):
    yield f"{server.url}/now"
    for number in itertools.count():
        yield f"{server.url}/held/{number}"


def engines():
    """How many engines of batches there are in this process."""
    found = 0
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found += (task / "comm").read_text() == "unisono-run\n"
    return found


def wait_until(condition):
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "what was waited for did not happen"
        time.sleep(0.002)


async def until(condition):
    """On the loop, since a loop that stands could not have stopped anything."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "what was waited for did not happen"
        await asyncio.sleep(0.002)


# How a loop is left.


async def by_break(batch):
    async for _ in batch():
        break


async def by_an_exception(batch):
    with contextlib.suppress(LookupError):
        async for _ in batch():
            raise LookupError


async def by_cancelling_its_body(batch):
    inside = asyncio.Event()

    async def consume():
        async for _ in batch():
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(consume())
    await inside.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def by_cancelling_its_wait(batch):
    taken = asyncio.Event()

    async def consume():
        async for _ in batch():
            taken.set()

    task = asyncio.create_task(consume())
    await taken.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def by_dropping_a_generator(batch):
    async def passed_on():
        async for outcome in batch():
            yield outcome

    generator = passed_on()
    await anext(generator)
    del generator


async def by_dropping_the_iterator(batch):
    iterator = aiter(batch())
    await anext(iterator)
    del iterator


async def by_dropping_it_in_another_thread(batch):
    given = [batch()]
    await anext(given[0])
    await asyncio.to_thread(given.clear)


async def by_closing_the_iterator(batch):
    async with contextlib.aclosing(batch()) as outcomes:
        async for _ in outcomes:
            break
    assert outcomes.report.total >= 1
    assert [outcome async for outcome in outcomes] == []


WAYS = [
    by_break,
    by_an_exception,
    by_cancelling_its_body,
    by_cancelling_its_wait,
    by_dropping_a_generator,
    by_dropping_the_iterator,
    by_dropping_it_in_another_thread,
    by_closing_the_iterator,
]


@pytest.mark.parametrize("leave", WAYS, ids=lambda way: way.__name__)
def test_a_loop_over_requests_that_is_left_gives_up_what_is_sent_and_sends_no_more(run, holding, leave):
    async def main():
        await leave(lambda: unisono.fetch(addresses(holding), limit=4))
        await until(lambda: not engines() and holding.given_up == holding.held)

    run(main())
    assert holding.held <= 4


def test_a_plain_loop_over_requests_that_is_left_does_the_same(holding):
    for _ in unisono.fetch(addresses(holding), limit=4):
        break
    wait_until(lambda: not engines() and holding.given_up == holding.held)
    assert holding.held <= 4


# What a batch may be.


async def forever(number):
    if number:
        await asyncio.Event().wait()


def at_once(number):
    return number


class Endless:
    """Items without end."""

    def __init__(self, kind):
        self.kind = kind

    def __call__(self):
        if self.kind == "async":
            return self.later()
        if self.kind == "iterable":
            return itertools.count()
        given = unisono.Queue() if self.kind == "queue" else queue.Queue()
        for number in range(10_000):
            given.put(number)
        return given

    async def later(self):
        for number in itertools.count():
            yield number


def requests(server):
    return unisono.fetch((f"{server.url}/items/{n}" for n in itertools.count()), limit=4)


def pages(server):
    return unisono.fetch((f"{server.url}/pages/0?{n}" for n in itertools.count()), limit=4, paginate="link")


def waiting_for_a_rate(server):
    return unisono.fetch((f"{server.url}/items/{n}" for n in itertools.count()), limit=4, rate="1/h")


def waiting_for_another_attempt(server):
    urls = (f"{server.url}/{'items' if not n else 'status'}/{503 if n else 0}" for n in itertools.count())
    return unisono.fetch(urls, limit=4, retries=50)


def coroutines(server):
    return unisono.batch(forever, itertools.count(), limit=4)


def threads(server):
    return unisono.batch(at_once, itertools.count(), limit=4)


def processes(server):
    return unisono.batch(at_once, itertools.count(), executor="processes", limit=2)


def an_executor_of_theirs(server):
    return unisono.batch(at_once, itertools.count(), executor=SHARED, limit=2)


def commands(server):
    def all_commands():
        yield ["true"]
        while True:
            yield ["sleep", "1000"]

    return unisono.commands.each(all_commands(), limit=3)


def digests(server):
    return unisono.files.digest(itertools.repeat(__file__))


def files(server):
    return unisono.files.each(at_once, itertools.repeat(__file__))


def from_an_async_iterable(server):
    return unisono.batch(at_once, Endless("async")(), limit=4)


def from_a_queue(server):
    return unisono.batch(at_once, Endless("queue")(), limit=4)


def from_a_standard_queue(server):
    return unisono.batch(at_once, Endless("standard")(), limit=4)


SHARED = ThreadPoolExecutor(2)
ASYNC_ALONE = [from_an_async_iterable]
KINDS = [
    requests,
    pages,
    waiting_for_a_rate,
    waiting_for_another_attempt,
    coroutines,
    threads,
    processes,
    an_executor_of_theirs,
    commands,
    digests,
    files,
    from_a_queue,
    from_a_standard_queue,
]


@pytest.mark.parametrize("make", [*KINDS, *ASYNC_ALONE], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("leave", [by_break, by_cancelling_its_body, by_closing_the_iterator], ids=lambda w: w.__name__)
def test_every_kind_of_batch_ends_when_its_loop_is_left(run, server, make, leave):
    async def main():
        await leave(lambda: make(server))
        await until(lambda: not engines())

    run(main())


@pytest.mark.parametrize("make", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_batch_ends_when_a_plain_loop_is_left(server, make):
    for _ in make(server):
        break
    wait_until(lambda: not engines())


@pytest.mark.parametrize("make", [*KINDS, *ASYNC_ALONE], ids=lambda kind: kind.__name__)
def test_a_batch_that_nobody_has_any_more_is_freed_at_once(server, make):
    async def main():
        batch = make(server)
        gone = weakref.ref(batch)
        await anext(batch)
        del batch
        return gone()

    assert asyncio.run(main()) is None


def test_a_batch_may_outlive_its_loop_and_ends_when_it_is_dropped(run, holding):
    async def main():
        batch = unisono.fetch(addresses(holding), limit=4)
        await anext(batch)
        return batch

    kept = [run(main())]
    assert engines() == 1
    kept.clear()
    wait_until(lambda: not engines() and holding.given_up == holding.held)


def test_coroutines_whose_loop_was_closed_are_over_and_the_batch_says_so(run):
    batch = unisono.batch(forever, range(10), limit=4)

    async def main():
        async for _ in batch:
            break

    run(main())
    ends = []
    with pytest.raises(unisono.errors.RunError, match="the event loop that `forever` was called on has ended"):
        ends.extend(outcome.kind for outcome in batch)
    assert batch.report.total == 10
    assert batch.report.ok == 1
    assert list(batch) == []


def test_a_task_that_waits_for_outcomes_is_kept_by_its_loop(run, holding):
    """Nothing but the loop has the task; the loop must, as it has any task that waits for a socket."""
    done = []

    async def consume():
        async for outcome in unisono.fetch([f"{holding.url}/now"]):
            done.append(outcome.kind)

    async def main():
        asyncio.create_task(consume())  # noqa: RUF006
        await until(lambda: engines() == 1)
        gc.collect()
        holding.three_are_in.set()
        await until(lambda: done)

    run(main())
    assert done == ["ok"]


def test_a_batch_with_a_name_can_be_gone_on_with(run, server):
    async def main():
        batch = unisono.fetch((f"{server.url}/items/{n}" for n in range(2000)), limit=4)
        first = await anext(batch)
        return [first.row, *[outcome.row async for outcome in batch]], batch.report.ok

    rows, ok = run(main())
    assert sorted(rows) == list(range(2000))
    assert ok == 2000


def test_a_batch_with_a_name_waits_once_as_many_outcomes_are_ready_as_it_keeps(server):
    batch = unisono.fetch((f"{server.url}/items/{n}" for n in itertools.count()), limit=4)
    next(batch)
    # Nothing is pulled while nothing iterates, so what was pulled is all that can be sent.
    wait_until(lambda: batch.progress["in_flight"] == 0)
    assert len(server.requests) == batch.progress["done"] < 1000
    batch.close()


def test_two_tasks_may_take_from_one_batch(run, server):
    async def main():
        batch = unisono.fetch((f"{server.url}/items/{n}" for n in range(400)), limit=4)

        async def take():
            return [outcome.row async for outcome in batch]

        parts = await asyncio.wait_for(asyncio.gather(take(), take(), take()), 60)
        return sorted(row for part in parts for row in part)

    assert run(main()) == list(range(400))


def test_several_threads_may_take_from_one_batch():
    def items():
        yield from range(2000)

    batch = unisono.batch(at_once, items(), limit=4)
    parts = [[] for _ in range(3)]
    threads = [threading.Thread(target=lambda part=part: part.extend(batch), daemon=True) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert sorted(outcome.row for part in parts for outcome in part) == list(range(2000))


def test_items_that_are_taken_from_their_own_batch_are_refused():
    def items():
        yield 1
        yield from (outcome.result for outcome in batch)

    batch = unisono.batch(at_once, items())
    with pytest.raises(unisono.UsageError, match="the batch that they are for"):
        list(batch)
    assert batch.report.ok == 1


def test_async_items_that_are_cancelled_are_an_error_of_the_input(run):
    async def items():
        yield 1
        raise asyncio.CancelledError("the inventory gave up")

    async def main():
        batch = unisono.batch(at_once, items())
        with pytest.raises(asyncio.CancelledError, match="inventory"):
            async for _ in batch:
                pass
        return batch.report.ok

    assert run(main()) == 1


def test_what_was_under_way_has_its_line_in_the_results(run, holding, tmp_path, lines):
    out = tmp_path / "results.jsonl"

    async def main():
        async for _ in unisono.fetch(addresses(holding), limit=4, out=out):
            break
        await until(lambda: not engines())

    run(main())
    ends = lines(out)
    assert [end["outcome"] for end in ends if end["row"] == 0] == ["ok"]
    assert [end["outcome"] for end in ends if end["row"] in (1, 2, 3)] == ["cancelled"] * 3
    assert not Path(f"{out}.run").exists()


@pytest.mark.parametrize("leave", [by_break, by_closing_the_iterator], ids=lambda way: way.__name__)
def test_calls_that_were_stopped_are_for_the_next_run_and_those_that_ended_are_not(run, tmp_path, lines, leave):
    out, called = tmp_path / "results.jsonl", []
    is_first = True

    async def work(number):
        called.append(number)
        if number and is_first:
            await asyncio.Event().wait()
        return number

    async def main():
        await leave(lambda: unisono.batch(work, range(50), limit=4, out=out))
        await until(lambda: not engines())

    run(main())
    assert {(line["outcome"], line["effect"]) for line in lines(out)} == {("ok", "done"), ("cancelled", "none")}
    is_first = False
    assert unisono.batch(work, range(50), limit=4, out=out, resume=True).run().ok == 50
    assert called.count(0) == 1


def test_a_block_that_is_to_cancel_stops_what_runs_and_waits_for_that(run, holding, tmp_path, lines):
    out = tmp_path / "results.jsonl"

    async def main():
        async with unisono.fetch(addresses(holding), limit=4, out=out, on_exit="cancel") as batch:
            async for _ in batch:
                break
        # At once: the block has waited.
        assert (batch.report.ok, batch.report.cancelled >= 3) == (1, True)

    run(main())
    assert [end["outcome"] for end in lines(out) if end["row"] in (1, 2, 3)] == ["cancelled"] * 3
    assert not Path(f"{out}.run").exists()


def test_a_plain_block_that_is_to_cancel_does_the_same(holding):
    with unisono.fetch(addresses(holding), limit=4, on_exit="cancel") as batch:
        for _ in batch:
            break
    assert (batch.report.ok, batch.report.cancelled >= 3) == (1, True)


@pytest.mark.parametrize(("on_exit", "left"), [("cancel", {0}), ("finish", {0, 1, 2, 3})])
@pytest.mark.parametrize("face", ["async with", "with"])
def test_what_a_block_lets_finish_is_done_and_what_it_cancels_is_for_the_next_run(tmp_path, lines, face, on_exit, left):
    out, called = tmp_path / "results.jsonl", []
    begun = asyncio.Semaphore(0)
    is_first = True

    async def work(number):
        called.append(number)
        if number and is_first:
            begun.release()
            if on_exit == "cancel":
                await asyncio.Event().wait()
            # It ends after the block was left.
            await asyncio.sleep(0.01)
        else:
            for _ in range(3 if is_first else 0):
                await begun.acquire()
        return number

    def batch(**options):
        return unisono.batch(work, range(4), limit=4, out=out, **options)

    async def main():
        async with batch(on_exit=on_exit) as outcomes:
            async for _ in outcomes:
                break

    if face == "with":
        with batch(on_exit=on_exit) as outcomes:
            for _ in outcomes:
                break
    else:
        asyncio.run(main())
    assert {line["item"] for line in lines(out) if line["outcome"] == "ok"} == left
    assert {(line["outcome"], line["effect"]) for line in lines(out)} <= {("ok", "done"), ("cancelled", "none")}
    is_first = False
    assert batch(resume=True).run().ok == 4
    assert len(called) == 4 + (4 - len(left))


def test_how_a_block_is_left_is_one_of_two_words():
    with pytest.raises(unisono.UsageError, match='on_exit is "finish" or "cancel", not \'stop\''):
        unisono.batch(abs, [1], on_exit="stop")


def test_threads_that_could_not_be_stopped_are_ambiguous(tmp_path, lines):
    out, over, four_run = tmp_path / "results.jsonl", threading.Event(), threading.Barrier(4)

    def work(number):
        if number < 4:
            four_run.wait(30)
        if number:
            over.wait(30)
        return number

    for _ in unisono.batch(work, range(50), limit=4, out=out):
        break
    wait_until(lambda: not engines())
    over.set()
    ends = {line["row"]: (line["outcome"], line["effect"]) for line in lines(out)}
    assert ends.pop(0) == ("ok", "done")
    assert {ends[row] for row in (1, 2, 3)} == {("ambiguous", "maybe")}
    assert set(ends.values()) <= {("ambiguous", "maybe"), ("cancelled", "none")}


def test_commands_that_were_stopped_are_for_the_next_run(tmp_path, lines):
    out, gate = tmp_path / "results.jsonl", tmp_path / "gate"
    words = ["sh", "-c", 'test "$1" = 0 || test -e "$2" || exec sleep 1000', "-", "{}", str(gate)]

    def batch(**options):
        return unisono.commands.each(words, items=range(20), limit=3, out=out, **options)

    for _ in batch():
        break
    wait_until(lambda: not engines())
    assert {line["outcome"] for line in lines(out)} <= {"ok", "cancelled"}
    gate.touch()
    assert batch(resume=True).run().ok == 20


@pytest.mark.parametrize("make", [coroutines, threads, commands, digests], ids=lambda kind: kind.__name__)
def test_the_next_batch_waits_for_one_that_was_left_with_the_same_results(run, server, make, tmp_path):
    """Nothing else can: the one that was left has no name any more."""
    out = tmp_path / "results.jsonl"
    again = {}

    def batch():
        made = make(server)
        made._options.update({"out": out, **again})
        return made

    async def main():
        for _ in range(3):
            await by_break(batch)
            again["overwrite"] = True
            # The same by another name.
            again["out"] = tmp_path / "." / "results.jsonl"

    run(main())
    for _ in batch():
        break


def test_a_thousand_loops_that_were_left_leave_nothing(run, server):
    def counts():
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), len(gc.get_objects())

    async def leave(times):
        for _ in range(times):
            await by_break(lambda: unisono.batch(at_once_on_loop, Endless("async")(), limit=2))
            await by_break(lambda: unisono.batch(at_once_on_loop, itertools.count(), limit=2))
            await by_break(lambda: unisono.files.digest(itertools.repeat(__file__)))
            if engines() > 20:
                await until(lambda: not engines())
        await until(lambda: not engines())

    async def main():
        await leave(20)
        before = counts()
        await leave(330)
        return before, counts()

    before, after = run(main())
    # The last few have ended, but are let go of by the next.
    assert after[0] <= before[0] + 30
    assert after[1] <= before[1] + 5
    assert after[2] <= before[2] + 3000


async def at_once_on_loop(number):
    return number


@pytest.mark.filterwarnings("error")
def test_coroutines_that_were_pulled_and_never_begun_make_no_complaint(run):
    async def main():
        await by_break(lambda: unisono.batch_all((forever(number) for number in itertools.count()), limit=2))
        await until(lambda: not engines())

    run(main())


def test_a_child_of_fork_that_drops_a_batch_takes_nothing_from_its_parent(tmp_path):
    """The child shares the parent's selector: it must not end the parent's watch."""
    program = """
        import asyncio, os, unisono

        async def work(number):
            await asyncio.sleep(0)
            return number

        async def main():
            batch = unisono.batch(work, range(1000), limit=2)
            await anext(batch)
            child = os.fork()
            if not child:
                del batch
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            return len([outcome async for outcome in batch])

        print(asyncio.run(main()))
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("999\n", "", 0)
