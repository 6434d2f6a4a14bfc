"""`unisono.Limiter`: limits without a batch, for threads and coroutines together."""

import asyncio
import threading
import time

import pytest
import uvloop

from unisono import Limiter, UsageError, batch


def wait_until(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "what was waited for did not happen"
        time.sleep(0.001)


class Visitors:
    """Threads that go in one after another, and stay until they are told to leave."""

    def __init__(self, limiter):
        self.limiter, self.order, self.threads = limiter, [], []

    def add(self, name, key=""):
        """Add one, and wait until it is in or in line."""
        leave = threading.Event()

        def visit():
            with self.limiter.of(key):
                self.order.append(name)
                leave.wait(60)

        before = self.limiter.waiting
        thread = threading.Thread(target=visit)
        self.threads.append((thread, leave))
        thread.start()
        wait_until(lambda: name in self.order or self.limiter.waiting > before)
        return leave

    def leave(self):
        for _, leave in self.threads:
            leave.set()
        for thread, _ in self.threads:
            thread.join(60)


@pytest.fixture
def visitors(request):
    made = []

    def make(limiter):
        made.append(Visitors(limiter))
        return made[-1]

    yield make
    for one in made:
        one.leave()


def test_never_more_than_the_limit_are_inside_and_who_asks_first_goes_first(visitors):
    crowd = visitors(Limiter(2))
    leave = [crowd.add(name) for name in "abcd"]
    assert (crowd.order, crowd.limiter.inside) == (["a", "b"], 2)
    leave[0].set()
    wait_until(lambda: crowd.order == ["a", "b", "c"])
    leave[1].set()
    wait_until(lambda: crowd.order == ["a", "b", "c", "d"])


def test_a_key_that_is_full_keeps_no_other_waiting(visitors):
    crowd = visitors(Limiter(10, per_key=1))
    for name, key in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        crowd.add(name, key)
    assert crowd.order == ["a1", "b1"]


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_threads_and_coroutines_share_one_limit(visitors, run):
    limiter = Limiter(1)
    crowd = visitors(limiter)
    leave = crowd.add("thread")

    async def main():
        async def enter():
            async with limiter:
                return "coroutine"

        task = asyncio.create_task(enter())
        while not limiter.waiting:
            await asyncio.sleep(0)
        leave.set()
        return await task

    assert run(main()) == "coroutine"
    assert limiter.inside == 0


def test_who_is_cancelled_while_waiting_or_in_the_moment_of_being_let_in_takes_no_place():
    async def main():
        limiter = Limiter(1)
        await limiter.aacquire()
        waiting = asyncio.create_task(limiter.aacquire())
        let_in = asyncio.create_task(limiter.aacquire())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        limiter.release()
        # It has the place now, and does not know yet.
        let_in.cancel()
        await asyncio.wait([let_in])
        assert let_in.cancelled()
        assert limiter.inside == 0
        async with limiter:
            pass

    asyncio.run(main())


def test_a_raised_limit_lets_in_those_who_wait(visitors):
    crowd = visitors(Limiter(1))
    for name in "abc":
        crowd.add(name)
    crowd.limiter.limit = 3
    wait_until(lambda: sorted(crowd.order) == ["a", "b", "c"])
    assert crowd.limiter.limit == 3


def test_a_rate_spreads_entries_over_time_and_can_be_taken_away():
    limiter = Limiter(rate="1/h")
    entered = []

    def enter(number):
        with limiter:
            entered.append(number)

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: limiter.waiting == 2)
    assert len(entered) == 1
    limiter.set_limits(rate="none")
    for thread in threads:
        thread.join(60)
    assert len(entered) == 3


def test_entries_at_a_rate_come_by_themselves_as_time_passes():
    limiter = Limiter(rate="200/s")
    begun = time.monotonic()
    for _ in range(21):
        with limiter:
            pass
    # Never faster than the rate; how much slower is the machine's business.
    assert time.monotonic() - begun >= 0.1


def test_a_limiter_is_shared_by_the_functions_of_several_batches():
    limiter, most = Limiter(3), 0

    async def work(_):
        nonlocal most
        async with limiter:
            most = max(most, limiter.inside)
            await asyncio.sleep(0)

    async def main():
        return await asyncio.gather(*(batch(work, range(50), limit=20)._run_on_loop() for _ in range(3)))

    assert [report.ok for report in asyncio.run(main())] == [50, 50, 50]
    assert most == 3


def test_what_was_not_taken_cannot_be_given_back():
    limiter = Limiter(1, per_key=1)
    with pytest.raises(RuntimeError, match="nobody is inside the limiter"):
        limiter.release()
    limiter.acquire("a")
    with pytest.raises(RuntimeError, match="with the key `b`"):
        limiter.release("b")
    limiter.release("a")


@pytest.mark.parametrize("bounds", [{"limit": 0}, {"rate": "often"}, {"limit": 1, "per_key": 0}])
def test_a_mistake_in_a_bound_is_said_at_once(bounds):
    with pytest.raises(UsageError):
        Limiter(**bounds)
