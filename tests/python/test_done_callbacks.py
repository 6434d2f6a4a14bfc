"""Callbacks of futures that end more than themselves: they end no thread of a pool, and keep nothing waiting."""

import asyncio
import contextlib
import logging
import sys
import threading

import pytest

import unisono

LONG = 60


class Ends(BaseException):
    """What no `except Exception` takes."""


ENDINGS = [SystemExit, KeyboardInterrupt, GeneratorExit, Ends]
POOLS = [unisono.ThreadPool, unisono.ProcessPool]


def raising(ending):
    def end(_):
        raise ending

    return end


def pass_gate(gate):
    """Nothing goes on before the gate is opened, so that callbacks are there when their task ends."""
    pause = threading.Event()
    while not gate.exists():
        pause.wait(0.01)


@contextlib.contextmanager
def pool_with_gate(make, folder):
    gate = folder / "is open"
    with make(1) as pool:
        try:
            yield pool, gate
        finally:
            gate.touch()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("make", POOLS)
def test_a_callback_that_ends_takes_no_other_callback_and_no_later_task_with_it(tmp_path, make, ending):
    with pool_with_gate(make, tmp_path) as (pool, gate):
        future = pool.submit(pass_gate, gate)
        told = threading.Event()
        future.add_done_callback(raising(ending))
        future.add_done_callback(lambda _: told.set())
        gate.touch()
        assert told.wait(LONG)
        assert pool.submit(abs, -1).result(LONG) == 1
        later = threading.Event()
        pool.submit(abs, -2).add_done_callback(lambda _: later.set())
        assert later.wait(LONG)


@pytest.mark.parametrize("make", POOLS)
def test_a_loop_hears_of_a_task_behind_a_callback_that_ended(tmp_path, make):
    async def main(pool, gate):
        future = pool.submit(pass_gate, gate)
        future.add_done_callback(raising(SystemExit))
        gate.touch()
        async with asyncio.timeout(LONG):
            await asyncio.wrap_future(future)
            return await asyncio.wrap_future(pool.submit(abs, -3))

    with pool_with_gate(make, tmp_path) as (pool, gate):
        assert asyncio.run(main(pool, gate)) == 3


@pytest.mark.parametrize("make", POOLS)
def test_a_callback_of_map_async_that_ends_keeps_nobody_waiting_for_its_result(tmp_path, make):
    with pool_with_gate(make, tmp_path) as (pool, gate):
        pool.submit(pass_gate, gate)
        returned = pool.map_async(abs, [-1], callback=raising(SystemExit))
        failed = pool.map_async(int, ["x"], error_callback=raising(SystemExit))
        gate.touch()
        assert returned.get(LONG) == [1]
        with pytest.raises(ValueError, match="invalid literal"):
            failed.get(LONG)
        assert pool.apply(abs, (-2,)) == 2


def test_who_cancels_a_task_gets_what_its_callback_raised_after_all_were_called(tmp_path):
    with pool_with_gate(unisono.ThreadPool, tmp_path) as (pool, gate):
        pool.submit(pass_gate, gate)
        waiting = pool.submit(abs, -1)
        called = []
        waiting.add_done_callback(raising(KeyboardInterrupt))
        waiting.add_done_callback(called.append)
        with pytest.raises(KeyboardInterrupt):
            waiting.cancel()
    assert called == [waiting]


def speak(text):
    logging.getLogger("test_done_callbacks").warning(text)


def test_a_handler_of_records_that_ends_keeps_none_of_those_behind_it():
    heard = []

    class Handler(logging.Handler):
        def emit(self, record):
            heard.append(record.getMessage())
            if heard == ["one"]:
                sys.exit(3)

    logger = logging.getLogger("test_done_callbacks")
    handler = Handler()
    logger.addHandler(handler)
    try:
        with unisono.ProcessPool(1) as pool:
            pool.submit(speak, "one").result(LONG)
            pool.submit(speak, "two").result(LONG)
    finally:
        logger.removeHandler(handler)
    assert heard == ["one", "two"]
