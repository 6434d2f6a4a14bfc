"""The garbage collector finds batches and outcomes that refer to themselves, by what functions were given, returned or raised."""

import asyncio
import contextlib
import functools
import gc
import importlib
import os
import pickle
import subprocess
import sys
import tempfile
import textwrap
import weakref
from pathlib import Path

import pytest

import unisono
from support.processes import until
from unisono import _native, batch


class Box:
    pass


def untaken_outcomes(box, function, **options):
    box.batch = batch(function, range(3), limit=1, **options)
    next(box.batch)
    until(lambda: box.batch.progress["done"] == 3, "the end of all calls")


def of_what_was_raised(box):
    def raises(number):
        raise LookupError(box)

    untaken_outcomes(box, raises)


def of_what_was_returned(box):
    untaken_outcomes(box, lambda _: box)


def of_what_tells_the_key(box):
    def key(number):
        return str(box is None)

    untaken_outcomes(box, abs, key=key)


def of_taken_outcomes(box):
    box.outcomes = list(batch(lambda _: box, range(3)))


def of_results_that_were_looked_at(box):
    of_taken_outcomes(box)
    assert box.outcomes[0].result is box.outcomes[0].result is box


def of_errors_that_were_looked_at(box):
    def raises(number):
        raise LookupError(box)

    box.outcomes = list(batch(raises, range(3)))
    assert box.outcomes[0].error is box.outcomes[0].error
    assert box.outcomes[0].result is None


def of_items(box):
    box.outcomes = list(batch(id, [box]))


def of_frames_of_a_loop(box):
    async def raises(number):
        raise LookupError

    async def main():
        box.outcomes = [outcome async for outcome in batch(raises, range(3))]
        return box

    # With 3.12 and later, what a coroutine raised has all frames of its loop, and one of those has the task that returned.
    asyncio.run(main())


def of_what_a_client_asks_for_tokens(box):
    box.client = unisono.Client(token=lambda: box.name)


def of_what_an_async_client_asks_for_tokens(box):
    box.client = unisono.AsyncClient(token=lambda: box.name, retries=0)

    async def main():
        # Its engine begins with the first call.
        with contextlib.suppress(unisono.errors.Error):
            await box.client.get("http://127.0.0.1:1/")

    asyncio.run(main())


def of_what_a_run_asks_for_tokens(box):
    box.batch = unisono.fetch([], token=lambda: box.name)
    assert box.batch.run().total == 0


def pieces_of(box):
    yield b"a"
    yield str(id(box)).encode()


def of_a_call_whose_body_comes_in_once(box):
    with unisono.Client() as client:
        made = _native.CompletionQueue()
        request = unisono.Request("http://127.0.0.1:1/", content=pieces_of(box))
        box.call = client._engine.call(made, 1, request)


def of_an_attempt_whose_hook_has_its_client(box):
    box.client = unisono.Client(retries=0, event_hooks={"request": [lambda request: setattr(box, "sent", request)]})
    with contextlib.suppress(unisono.errors.Error):
        box.client.post("http://127.0.0.1:1/", content=pieces_of(box))


def of_what_calls_of_a_map_are_made_of(box):
    def numbers():
        yield from (1, 2, 3, id(box))

    with unisono.ProcessPool(1) as pool:
        box.results = pool.map(abs, numbers(), buffersize=1)
        assert next(box.results) == 1


def of_a_function_that_workers_know(box):
    # As of a plugin that is unloaded: nothing else refers to its module.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "unloaded.py").write_text("def give(value): return value")
        sys.path.insert(0, folder)
        try:
            box.plugin = importlib.import_module("unloaded")
            box.plugin.box = box
            # It is not shut down either.
            box.pool = unisono.ProcessPool(1)
            box.futures = [box.pool.submit(box.plugin.give, number) for number in range(2)]
            assert [future.result(60) for future in box.futures] == [0, 1]
        finally:
            sys.path.remove(folder)
            del sys.modules["unloaded"]


class Unsendable(Box):
    def __init__(self, box):
        self.box = box

    def __reduce__(self):
        raise pickle.PicklingError(self.box)


def of_a_function_that_cannot_be_sent(box):
    with unisono.ProcessPool(1) as pool:
        box.results = pool.map(functools.partial(abs, Unsendable(box)), [1])
        with pytest.raises(unisono.errors.UnpicklableError) as box.error:
            next(box.results)


def of_calls_that_cannot_be_sent(box):
    with unisono.ProcessPool(1) as pool:
        box.results = pool.map(abs, [1, Unsendable(box)])
        assert next(box.results) == 1


def of_what_is_walked(box):
    def paths():
        yield os.path.dirname(__file__)
        assert box

    box.walk = unisono.files.walk(paths())
    next(box.walk)


class Pieces:
    def __init__(self, box):
        self.box = box

    def __iter__(self):
        return iter([b"piece"])


def of_what_a_request_brings(box):
    box.request = unisono.Request("http://127.0.0.1:1/", content=Pieces(box))
    box.other = box.request.replace(method="PUT").with_headers({"x-one": "1"})
    assert box.other.content is box.request.content


@pytest.mark.parametrize(
    "cycle",
    [
        of_what_was_raised,
        of_what_was_returned,
        of_what_tells_the_key,
        of_taken_outcomes,
        of_results_that_were_looked_at,
        of_errors_that_were_looked_at,
        of_items,
        of_frames_of_a_loop,
        of_what_a_client_asks_for_tokens,
        of_what_an_async_client_asks_for_tokens,
        of_what_a_run_asks_for_tokens,
        of_what_calls_of_a_map_are_made_of,
        of_a_function_that_workers_know,
        of_a_function_that_cannot_be_sent,
        of_calls_that_cannot_be_sent,
        of_what_is_walked,
        of_what_a_request_brings,
        of_a_call_whose_body_comes_in_once,
        of_an_attempt_whose_hook_has_its_client,
    ],
)
def test_the_collector_finds_a_cycle(cycle):
    box = Box()
    its = weakref.ref(box)
    cycle(box)
    del box

    until(lambda: not gc.collect() and its() is None, "the end of what nothing refers to")


@pytest.mark.parametrize("ends", ["by its loop", "by itself"])
def test_what_an_engine_lets_go_of_is_freed_without_a_call_of_it(ends):
    async def raises(number, box):
        raise LookupError(box)

    async def main():
        box = Box()
        made = batch(lambda number: raises(number, box), range(1), executor="loop", retries=50)
        waiting = asyncio.ensure_future(anext(made))
        while made.progress.get("retries", 0) < 1:
            await asyncio.sleep(0)
        # Its exception is in the engine, which waits for the next attempt.
        if ends == "by itself":
            made.close()
        waiting.cancel()
        return weakref.ref(box)

    its = asyncio.run(main())
    until(lambda: not gc.collect() and its() is None, "the end of what nothing refers to")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_the_collector_of_a_child_of_fork_leaves_the_cycles_of_its_parent_as_they_are(server):
    class Api:
        def __init__(self):
            self.client = unisono.Client(base_url=server.url, token=self.token)
            self.pool = unisono.ThreadPool(2)
            self.task = self.pool.submit(lambda: self)
            self.processes = unisono.ProcessPool(1)
            self.results = self.processes.map(abs, iter([1, 2, 3]))
            self.batch = batch(lambda _: self, range(3))
            self.outcomes = [next(self.batch)]

        def token(self):
            return "secret"

    api = Api()
    assert api.task.result(60) is api
    for _ in range(5):
        child = os.fork()
        if not child:
            status = 1
            try:
                gc.collect()
                del api
                gc.collect()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert api.client.get("/items/1").status_code == 200
    assert list(api.results) == [1, 2, 3]
    assert [outcome.result is api for outcome in [*api.outcomes, *api.batch]] == [True] * 3
    its = weakref.ref(api)
    api.pool.shutdown()
    api.processes.shutdown()
    del api
    until(lambda: not gc.collect() and its() is None, "the end of what nothing refers to")


def test_a_child_of_fork_may_collect_and_drop_a_batch_whatever_its_engine_was_at():
    program = """
        import gc, os, signal, warnings, unisono

        warnings.simplefilter("ignore")
        batch = unisono.batch(abs, range(100_000), limit=4)
        for at, _ in enumerate(batch):
            if at % 25 == 0 and at < 10_000:
                child = os.fork()
                if not child:
                    signal.alarm(30)
                    gc.collect(0)
                    del batch
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0, at
        print("ok")
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("ok\n", "", 0)


def test_what_is_in_use_stays_as_it_is():
    def raises(number):
        raise LookupError(number)

    made = batch(raises, range(300), limit=3)
    outcomes = [next(made)]
    # While the engine adds to what waits.
    while made.progress["done"] < 200:
        gc.collect(0)
    for outcome in made:
        outcomes.append(outcome)
        gc.collect(0)
    gc.collect()
    assert sorted(outcome.error.args[0] for outcome in outcomes) == list(range(300))
    assert all(outcome.error.__traceback__ is not None for outcome in outcomes)
