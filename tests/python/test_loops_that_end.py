"""What becomes of what waits on an event loop, or is called on it, when the loop ends under it.

`asyncio.run` cancels all tasks, and closes the loop; a loop may also be closed at once, by another thread, or stopped and
left. Each item that was under way has an outcome, the task that goes on with the batch is told, and nothing is left behind.
"""

import asyncio
import collections
import contextlib
import gc
import itertools
import os
import subprocess
import sys
import textwrap
import threading

import pytest
import uvloop

import unisono
from support.processes import until
from unisono import _native, batch, batch_all
from unisono._batches import batch as batches
from unisono.errors import RunError, UsageError

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def complaints():
    """Of asyncio, as of tasks that had not ended when their loop was closed."""
    return []


@pytest.fixture(params=LOOPS)
def new_loop(request, complaints):
    def new():
        loop = LOOPS[request.param]()
        loop.set_exception_handler(lambda _, context: complaints.append(context["message"]))
        return loop

    yield new
    # What it has left may complain as it goes.
    gc.collect()


async def never(number):
    if number:
        await asyncio.Event().wait()


async def forever(_):
    await asyncio.Event().wait()


async def fails_once(number):
    if number == 1:
        raise LookupError
    await never(number)


async def fails(number):
    if number:
        raise LookupError


async def with_one_inside(number):
    """A batch in a batch: both are on the same loop."""
    async for _ in batch(never, itertools.count(), limit=2):
        if not number:
            return


async def counted():
    for number in itertools.count():
        yield number


def waiting_queue():
    queue = asyncio.Queue()
    for number in range(100):
        queue.put_nowait(number)
    return queue


KINDS = {
    "plain": lambda: batch(never, itertools.count(), limit=2),
    "ordered": lambda: batch(never, itertools.count(), limit=2, keep_order=True),
    "keyed": lambda: batch(never, itertools.count(), limit=4, key=lambda n: n % 2, per_key=1, ordered_by_key=True),
    "nested": lambda: batch(with_one_inside, itertools.count(), limit=2),
    "repeats": lambda: batch(fails_once, itertools.count(), limit=2, retries=60_000),
    "awaitables": lambda: batch_all((never(number) for number in range(50)), limit=2),
    "called": lambda: batch(lambda number: never(number), itertools.count(), limit=2, executor="loop"),
    "async items": lambda: batch(never, counted(), limit=2),
    "queue of asyncio": lambda: batch(never, waiting_queue(), limit=2),
}


def run(main, new_loop):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main)


def close(main, new_loop):
    loop = new_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.close()


def close_in_another_thread(main, new_loop):
    loop = new_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        closing = threading.Thread(target=loop.close)
        closing.start()
        closing.join(60)


def stop_and_close(main, new_loop):
    loop, results = new_loop(), []

    async def until_stopped():
        results.append(await main)
        loop.stop()
        await asyncio.Event().wait()

    task = loop.create_task(until_stopped())
    loop.run_forever()
    loop.close()
    del task
    return results[0]


WAYS = [run, close, close_in_another_thread, stop_and_close]


async def one_outcome_of(made):
    await anext(made)
    return made


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def threads():
    return len(os.listdir("/proc/self/task"))


def nothing_is_left(before):
    def is_back():
        # What the engine lets go of is freed as the program next calls it. With 3.12 and later, what a coroutine raised has
        # all frames of its loop, and so that may be an exception that the batch is in.
        _native.whole("limit", 1)
        gc.collect()
        batches._prune_abandoned()
        return not batches._abandoned and (descriptors(), threads()) <= before

    # A batch waits a moment for calls that it has stopped.
    until(is_back, f"there were {before}, and that they")


def test_asyncio_run_leaves_no_call_of_a_batch_that_has_not_ended(new_loop, complaints):
    run(one_outcome_of(KINDS["plain"]()), new_loop)
    nothing_is_left((2**20, 2**20))
    gc.disable()
    try:
        before = descriptors(), threads()
        for _ in range(50):
            run(one_outcome_of(KINDS["plain"]()), new_loop)
        # Without the garbage collector: none of it is in a cycle.
        batches._prune_abandoned()
        until(lambda: all(map(batches._has_ended, list(batches._abandoned))), "the end of what was left")
        batches._prune_abandoned()
        assert (descriptors(), threads()) <= before
    finally:
        gc.enable()
    assert complaints == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_whose_loop_ends_has_an_outcome_for_each_item_and_then_an_error(kind, way, new_loop):
    made = way(one_outcome_of(KINDS[kind]()), new_loop)
    kinds = collections.Counter(ok=1)
    with pytest.raises(RunError, match=r"the event loop that .* before"):
        for outcome in made:
            kinds[outcome.kind] += 1
    assert made.report.total == kinds.total()
    assert made.report.ok == 1
    assert kinds.keys() == {"ok", "cancelled"}
    assert made.report.pending in (None, 0)
    # It is said once.
    assert list(made) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [*KINDS, "fails"])
def test_nothing_is_left_of_a_batch_that_goes_with_its_loop(kind, way, new_loop, monkeypatch):
    # A queue of asyncio raises as its loop has gone; and pytest keeps the last such exception, with all that it refers to.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)

    def end():
        # Where calls fail, what they raised lies in wait to be taken.
        made = batch(fails, itertools.count(), limit=2) if kind == "fails" else KINDS[kind]()
        way(one_outcome_of(made), new_loop)

    end()
    nothing_is_left((2**20, 2**20))
    before = descriptors(), threads()
    for _ in range(10):
        end()
    nothing_is_left(before)


def test_the_outcome_of_a_call_whose_loop_was_closed_says_so(new_loop):
    made = batch(never, range(3), limit=3)
    close(one_outcome_of(made), new_loop)
    outcomes = []
    with pytest.raises(RunError):
        outcomes.extend(made)
    assert sorted(str(outcome.error) for outcome in outcomes) == [f"r{n}: its event loop has ended" for n in (1, 2)]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("retries", [0, 3])
@pytest.mark.parametrize("turns", range(5))
def test_a_call_that_ended_in_the_last_turn_of_its_loop_has_its_own_outcome(turns, retries, fails, new_loop):
    loop, goes_on, waits = new_loop(), asyncio.Event(), asyncio.Event()

    async def work(number):
        if number:
            waits.set()
            await goes_on.wait()
            if fails:
                raise LookupError

    made = batch(work, range(2), limit=2, retries=retries)

    async def main():
        await anext(made)
        await waits.wait()
        goes_on.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        loop.stop()
        await asyncio.Event().wait()

    task = loop.create_task(main())
    loop.run_forever()
    loop.close()
    assert not task.done()
    kinds = []
    with contextlib.suppress(RunError):
        kinds.extend(outcome.kind for outcome in made)
    # It goes on in the turn after it could, and ends there. Loops differ in whether they finish the turn in which they stop.
    own = "ok" if not fails else "cancelled" if retries else "failed"
    assert kinds == [own] or (turns == 0 and kinds == ["cancelled"])


def test_a_batch_that_has_ended_before_its_loop_raises_nothing(new_loop):
    async def main():
        made = batch(never, [0, 0], limit=2)
        return made, [outcome.kind async for outcome in made]

    made, kinds = run(main(), new_loop)
    assert kinds == ["ok", "ok"]
    assert list(made) == []


@pytest.mark.parametrize("leave", ["cancel", "close"])
def test_a_batch_that_its_owner_stopped_raises_nothing_when_its_loop_ends(leave, new_loop):
    made = batch(never, range(30), limit=2)

    async def main():
        await anext(made)
        getattr(made, leave)()

    run(main(), new_loop)
    assert {outcome.kind for outcome in made} <= {"cancelled"}


def test_a_thread_that_waits_for_outcomes_hears_that_the_loop_of_their_calls_was_closed(new_loop):
    made = batch(never, range(30), limit=2)
    loop = new_loop()
    loop.run_until_complete(one_outcome_of(made))
    ends = []

    def take():
        try:
            ends.extend(outcome.kind for outcome in made)
        except RunError as error:
            ends.append(error)

    thread = threading.Thread(target=take)
    thread.start()
    until(lambda: made._waiting, "the wait of the thread")
    loop.close()
    thread.join(60)
    assert isinstance(ends[-1], RunError)
    assert made.report.total == 30


@pytest.mark.filterwarnings("ignore:a plain `for` over a batch waits:RuntimeWarning")
def test_a_batch_is_not_waited_for_on_the_thread_that_its_loop_needs(new_loop):
    made = batch(never, range(30), limit=2)
    loop = new_loop()
    loop.run_until_complete(one_outcome_of(made))
    with pytest.raises(UsageError, match="an event loop that cannot run while this thread waits"):
        list(made)

    async def elsewhere():
        async for _ in made:
            pass

    with pytest.raises(UsageError, match="an event loop that cannot run while this thread waits"):
        asyncio.run(elsewhere())

    async def beside_itself():
        list(made)

    with pytest.raises(UsageError, match="an event loop that cannot run while this thread waits"):
        loop.run_until_complete(beside_itself())
    made.cancel(abort=True)

    async def rest():
        return [outcome.kind async for outcome in made]

    # Where they can run, they go on.
    assert set(loop.run_until_complete(rest())) == {"cancelled"}
    loop.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_nobody_has_any_more_ends_its_calls_without_being_closed():
    made = batch(never, itertools.count(), limit=2)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(one_outcome_of(made))
    run_of = made._run
    del made, loop

    def has_ended():
        gc.collect()
        return batches._has_ended(run_of)

    until(has_ended, "the end of the run")


def test_a_loop_of_a_call_that_closes_all_async_generators_ends_the_batch():
    async def work(number):
        if number == 3:
            await asyncio.get_running_loop().shutdown_asyncgens()
        await asyncio.sleep(0)

    made = batch(work, range(30), limit=2)
    assert {outcome.kind for outcome in made} == {"ok", "cancelled"}
    assert made.report.total + made.report.pending == 30


def test_items_whose_loop_was_closed_are_an_error_of_the_input(server, new_loop):
    async def addresses():
        yield f"{server.url}/items/1"
        await asyncio.Event().wait()

    made = unisono.fetch(addresses())
    close(one_outcome_of(made), new_loop)

    async def rest():
        return [outcome async for outcome in made]

    for way in (lambda: list(made), lambda: asyncio.run(rest())):
        with contextlib.suppress(RunError):
            assert way() == []
    assert made.report.total == 1


def test_whoever_waits_on_another_loop_hears_that_the_loop_of_the_items_was_closed(server, new_loop):
    async def addresses():
        yield f"{server.url}/items/1"
        await asyncio.Event().wait()

    made = unisono.fetch(addresses())
    loop = new_loop()
    loop.run_until_complete(one_outcome_of(made))
    waits, ends = threading.Event(), []

    async def rest():
        asyncio.get_running_loop().call_soon(waits.set)
        async for _ in made:
            pass

    def take():
        try:
            asyncio.run(rest())
        except RunError as error:
            ends.append(error)

    thread = threading.Thread(target=take)
    thread.start()
    assert waits.wait(60)
    loop.close()
    thread.join(60)
    assert "closed before their end" in str(ends[0])


@pytest.mark.parametrize("way", WAYS)
def test_batches_of_other_work_outlive_the_loop_that_they_were_begun_on(way, server, new_loop, tmp_path):
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    for made, total in (
        (unisono.fetch([f"{server.url}/items/{number}" for number in range(50)], limit=2), 50),
        (unisono.commands.each([["true"]] * 5, limit=1), 5),
        (unisono.files.digest([tmp_path]), 2),
        (batch(str, range(50), limit=2), 50),
    ):
        way(one_outcome_of(made), new_loop)
        assert {outcome.kind for outcome in made} == {"ok"}
        assert made.report.ok == total


@pytest.mark.parametrize("way", WAYS)
def test_calls_of_a_client_whose_loop_was_closed_give_their_places_to_others(way, server, new_loop):
    client = unisono.AsyncClient(base_url=server.url, limit=1)
    held = []

    async def leave():
        held.append(asyncio.ensure_future(client.get("/held")))
        while not server.in_flight:
            await asyncio.sleep(0.001)

    way(leave(), new_loop)

    async def main():
        # Without that it would wait for as long as the answer does.
        async with asyncio.timeout(20):
            return (await client.get("/items/1")).status_code

    assert asyncio.run(main()) == 200
    asyncio.run(client.aclose())
    held.clear()


def test_the_answer_of_a_stream_is_read_on_its_own_loop(server, new_loop):
    client = unisono.AsyncClient(base_url=server.url)
    loop = new_loop()
    block = client.stream("GET", "/stream/1000000")
    response = loop.run_until_complete(block.__aenter__())
    with pytest.raises(UsageError, match="read it there"):
        asyncio.run(response.aread())
    loop.run_until_complete(block.__aexit__(None, None, None))
    loop.run_until_complete(client.aclose())
    loop.close()


def test_a_program_that_ends_with_a_loop_left_open_under_a_batch_ends():
    program = """
        import asyncio, itertools, unisono

        async def never(number):
            if number:
                await asyncio.Event().wait()

        async def main():
            made = unisono.batch(never, itertools.count(), limit=2)
            await anext(made)
            return made

        loop = asyncio.new_event_loop()
        made = loop.run_until_complete(main())
        print("left")
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "left\n"
    assert "Traceback" not in ended.stderr
