"""`unisono.Limiter` under cancellation, interruption, closed loops and forks: no place is ever lost."""

import asyncio
import contextlib
import ctypes
import gc
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import warnings

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st
from test_limiter import wait_until

from unisono import Limiter, UsageError

LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


class Stop(BaseException):
    """Comes into a thread from outside."""


def step(loop):
    """Let everything run that a loop has to run now."""
    for _ in range(3):
        loop.run_until_complete(asyncio.sleep(0))


class Visit:
    """One that wants to be inside: a task, a coroutine without one, or a thread."""

    def __init__(self, world, kind, key, at):
        self.world, self.kind, self.key = world, kind, key
        self.is_inside = self.is_over = False
        self.leave = threading.Event()
        self.loop = world.loops[at]
        if kind == "task":
            self.go_on = asyncio.Event()
            self.task = self.loop.create_task(self.visit())
        elif kind == "thread":
            before = world.limiter.waiting + world.limiter.inside
            self.thread = threading.Thread(target=self.stay)
            self.thread.start()
            wait_until(lambda: self.is_over or world.limiter.waiting + world.limiter.inside > before)

    async def visit(self):
        async with self.world.limiter.of(self.key):
            self.is_inside = True
            try:
                await self.go_on.wait()
            finally:
                self.is_inside = False

    def stay(self):
        with self.world.limiter.of(self.key):
            self.is_inside = True
            self.leave.wait(60)
            self.is_inside = False
        self.is_over = True

    def end(self, how):
        if self.is_over:
            return
        if self.kind == "task":
            if how == "leave":
                self.go_on.set()
            else:
                self.task.cancel()
        elif self.is_inside:
            # A thread that waits cannot be cancelled; it is interrupted in a test of its own.
            self.leave.set()
            self.thread.join(60)


class World:
    """A limiter, two loops that run only when they are told to, threads, and all laws after each step."""

    def __init__(self, new_loop, limit, per_key):
        self.limiter, self.limit, self.per_key = Limiter(limit, per_key=per_key), limit, per_key
        self.loops = [new_loop(), new_loop()]
        self.new_loop = new_loop
        self.visits = []

    def do(self, action, key, which):
        if action in ("task", "thread"):
            self.visits.append(Visit(self, action, key, which % 2))
        elif action == "step":
            step(self.loops[which % 2])
        elif action == "close":
            self.close(which % 2)
        elif self.visits:
            self.visits[-1 - which % len(self.visits)].end(action)
        self.check()

    def close(self, at):
        """A loop is closed with whatever is on it. Nothing of it goes on, so what was inside leaves here."""
        loop = self.loops[at]
        loop.close()
        self.loops[at] = self.new_loop()
        for visit in self.visits:
            if visit.kind == "task" and visit.loop is loop and not visit.is_over:
                visit.is_over = True
                if visit.is_inside:
                    visit.is_inside = False
                    self.limiter.release(visit.key)
                # Its coroutine is never finished, and would leave a second time when it is thrown away.
                kept.append(visit.task)

    def check(self):
        inside = [visit.key for visit in self.visits if visit.is_inside]
        assert len(inside) <= self.limit
        assert all(inside.count(key) <= self.per_key for key in inside)
        assert self.limiter.inside <= self.limit
        if self.limiter.waiting:
            # Whatever is free is free for none: the keys of all waiters are full.
            assert self.limiter.inside >= min(self.limit, self.per_key)

    def end(self):
        until = itertools.count()
        while any(not visit.is_over for visit in self.visits):
            for visit in self.visits:
                visit.end("cancel")
                visit.is_over |= visit.kind == "task" and visit.task.done()
            for loop in self.loops:
                step(loop)
            assert next(until) < 10_000
        for loop in self.loops:
            loop.close()
        assert (self.limiter.inside, self.limiter.waiting) == (0, 0)
        for _ in range(self.limit):
            with self.limiter.of("last"):
                pass


kept = []

ACTIONS = st.tuples(
    st.sampled_from(["task", "task", "task", "thread", "step", "step", "leave", "cancel", "cancel", "close"]),
    st.sampled_from("ab"),
    st.integers(0, 7),
)


@pytest.mark.parametrize("new_loop", LOOPS, ids=["asyncio", "uvloop"])
@settings(max_examples=150, deadline=None)
@given(st.lists(ACTIONS, max_size=40), st.integers(1, 3), st.integers(1, 2))
def test_whoever_is_cancelled_between_any_two_steps_takes_no_place_with_them(new_loop, actions, limit, per_key):
    world = World(new_loop, limit, per_key)
    try:
        for action, key, which in actions:
            world.do(action, key, which)
    finally:
        world.end()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_thousands_of_short_waits_that_run_out_of_time_lose_no_place(run):
    limiter, most = Limiter(limit=10, per_key=4), 0

    async def client(number):
        nonlocal most
        for _ in range(100):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(random.random() * 0.003), limiter.of(number % 3):
                    most = max(most, limiter.inside)
                    await asyncio.sleep(random.random() * 0.001)

    async def main():
        # Nothing but a timeout may come out of there.
        await asyncio.gather(*map(client, range(40)))

    run(main())
    assert most <= 10
    assert (limiter.inside, limiter.waiting) == (0, 0)


def test_a_coroutine_that_is_thrown_into_or_closed_at_its_wait_passes_the_place_on():
    for end in (lambda one: one.close(), lambda one: one.throw(Stop()), lambda one: None):
        limiter = Limiter(1)
        limiter.acquire()

        async def main(limiter=limiter, end=end):
            first, second = limiter.aacquire(), asyncio.ensure_future(limiter.aacquire())
            first.send(None)
            await asyncio.sleep(0)
            assert limiter.waiting == 2
            limiter.release()
            with contextlib.suppress(Stop):
                end(first)
            del first
            await second
            limiter.release()

        asyncio.run(main())
        assert (limiter.inside, limiter.waiting) == (0, 0)


@pytest.mark.parametrize("seconds", [1])
def test_exceptions_that_come_into_threads_from_outside_lose_no_place(seconds):
    limiter, wanted = Limiter(2, per_key=1), threading.Event()
    entered = []

    def work(key):
        while not wanted.is_set():
            with contextlib.suppress(Stop):
                try:
                    with limiter.of(key):
                        entered.append(key)
                except Stop:
                    pass

    # The loop of a thread may be hit outside of its `suppress`; then it is over, which is as good an end.
    threading.excepthook, before = lambda _: None, threading.excepthook
    try:
        threads = [threading.Thread(target=work, args=(number % 2,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for number in range(2000):
            thread = threads[number % 4]
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Stop))
            os.sched_yield()
        wanted.set()
        for thread in threads:
            thread.join(60)
    finally:
        threading.excepthook = before
    assert entered
    assert (limiter.inside, limiter.waiting) == (0, 0)


def test_ctrl_c_in_a_waiter_loses_no_place_and_comes_at_once():
    limiter = Limiter(1)
    limiter.acquire()
    for _ in range(20):
        killer = threading.Thread(
            target=lambda: (wait_until(lambda: limiter.waiting == 1), os.kill(os.getpid(), signal.SIGINT))
        )
        killer.start()
        with pytest.raises(KeyboardInterrupt), limiter:
            raise AssertionError("nobody has left")
        killer.join()
        assert limiter.waiting == 0
    limiter.release()
    with limiter:
        assert limiter.inside == 1


@pytest.mark.parametrize("new_loop", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("order", ["given, then closed", "closed, then given", "another waits meanwhile"])
def test_a_loop_that_is_closed_with_a_waiter_passes_its_place_on(new_loop, order):
    limiter = Limiter(1)
    limiter.acquire()
    loop = new_loop()
    # Kept, so that it is not its end that gives the place back.
    task = loop.create_task(limiter.aacquire())
    loop.run_until_complete(asyncio.sleep(0))
    assert limiter.waiting == 1
    thread = threading.Thread(target=limiter.acquire)
    if order == "another waits meanwhile":
        thread.start()
        wait_until(lambda: limiter.waiting == 2)
    if order == "closed, then given":
        loop.close()
        limiter.release()
    else:
        limiter.release()
        assert limiter.inside == 1
        loop.close()
    if order != "another waits meanwhile":
        thread.start()
    thread.join(60)
    assert not task.done()
    assert (limiter.inside, limiter.waiting) == (1, 0)
    task._log_destroy_pending = False


def test_a_task_that_is_forgotten_at_its_wait_is_forgotten_by_the_limiter():
    async def main():
        limiter = Limiter(1)
        async with limiter:
            task = asyncio.create_task(limiter.aacquire())
            await asyncio.sleep(0)
            task._log_destroy_pending = False
            task.cancel()
            await asyncio.sleep(0)
            assert limiter.waiting == 0
        return limiter

    limiter = asyncio.run(main())
    assert limiter.inside == 0


def test_in_the_child_of_a_fork_only_who_forked_is_inside_and_nobody_waits():
    limiter, leave = Limiter(3), threading.Event()
    threads = [threading.Thread(target=lambda: limiter.__enter__() and leave.wait(60) and limiter.release())]
    threads[0].start()
    wait_until(lambda: limiter.inside == 1)
    with limiter, limiter:
        threads.append(threading.Thread(target=lambda: limiter.__enter__() and limiter.release()))
        threads[1].start()
        wait_until(lambda: limiter.waiting == 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            status = 0 if (limiter.inside, limiter.waiting) == (2, 0) else 1
            limiter.release()
            with limiter, limiter:
                status += limiter.inside != 3
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    leave.set()
    for thread in threads:
        thread.join(60)
    assert (limiter.inside, limiter.waiting) == (0, 0)


@pytest.mark.parametrize("rate", ["1/h", "5000/s"])
def test_a_program_ends_while_others_wait_for_a_rate(rate):
    program = f"""
import asyncio, threading
from unisono import Limiter
limiter = Limiter(rate={rate!r})
async def main():
    await asyncio.gather(*(limiter.aacquire() for _ in range(50_000)))
for target in (lambda: [limiter.acquire() for _ in range(50_000)], lambda: asyncio.run(main())):
    threading.Thread(target=target, daemon=True).start()
while not limiter.waiting:
    pass
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_plain_block_that_would_keep_a_loop_waiting_is_refused():
    limiter = Limiter(1)

    async def main():
        with limiter:
            # There is a place, so nothing waits.
            with pytest.raises(UsageError, match="async with limiter"):
                limiter.acquire()
            with pytest.raises(UsageError, match=r"async with limiter.of\(key\)"), limiter.of("a"):
                pass
        assert (limiter.inside, limiter.waiting) == (0, 0)

    asyncio.run(main())


def test_a_limiter_that_is_waited_for_and_forgotten_is_collected():
    import weakref

    class Mine(Limiter):
        pass

    async def main():
        limiter = Mine(1)
        await limiter.aacquire()
        task = asyncio.create_task(limiter.aacquire())
        await asyncio.sleep(0)
        task._log_destroy_pending = False
        return weakref.ref(limiter)

    loop = asyncio.new_event_loop()
    limiter = loop.run_until_complete(main())
    loop.close()
    del loop
    gc.collect()
    assert limiter() is None
