"""`unisono.retry`: repeats without a batch."""

import asyncio
import inspect

import pytest

from unisono import UsageError, retry


class Flaky:
    """Fails so many times before it does not."""

    def __init__(self, failures, error=ConnectionError):
        self.left, self.calls, self.error = failures, 0, error

    def __call__(self):
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error(f"call {self.calls}")
        return self.calls


def quick(**options):
    return retry(**{"retry_on": ConnectionError, "base": "1ms", **options})


def test_a_decorated_function_is_called_until_it_does_not_fail():
    flaky = Flaky(2)
    assert quick(retries=3)(lambda: flaky())() == 3


def test_the_last_exception_is_raised_as_it_is_with_a_note_of_how_often_it_was_tried():
    flaky = Flaky(9)
    with pytest.raises(ConnectionError, match="call 3") as raised:
        quick(retries=2)(lambda: flaky())()
    assert raised.value.__notes__ == ["tried 3 times"]


def test_what_was_not_asked_for_is_raised_at_once():
    flaky = Flaky(1, ValueError)
    with pytest.raises(ValueError, match="call 1") as raised:
        quick()(lambda: flaky())()
    assert not hasattr(raised.value, "__notes__")


def test_a_predicate_may_decide():
    flaky = Flaky(5, OSError)
    with pytest.raises(OSError, match="call 2"):
        quick(retry_on=lambda error: "call 1" in str(error))(lambda: flaky())()


def test_coroutine_functions_stay_coroutine_functions():
    flaky = Flaky(2)

    @quick(retries=3)
    async def call(*, unit):
        """Calls."""
        await asyncio.sleep(0)
        return flaky(), unit

    assert inspect.iscoroutinefunction(call)
    assert call.__doc__ == "Calls."
    assert asyncio.run(call(unit="ms")) == (3, "ms")


def test_as_a_loop_it_repeats_a_block_with_and_without_an_event_loop():
    flaky, numbers = Flaky(2), []
    for attempt in quick(retries=3):
        with attempt:
            numbers.append(attempt.number)
            flaky()
    assert numbers == [1, 2, 3]

    async def main():
        flaky = Flaky(1)
        async for attempt in quick(retries=3):
            with attempt:
                flaky()
        return flaky.calls

    assert asyncio.run(main()) == 2


def test_a_block_may_be_left_early():
    def first():
        for attempt in quick():
            with attempt:
                return attempt.number
        return None

    assert first() == 1


def test_a_cancelled_coroutine_is_not_repeated():
    calls = []

    @retry(retry_on=Exception, base="1ms")
    async def wait():
        calls.append(1)
        await asyncio.Event().wait()

    async def main():
        task = asyncio.create_task(wait())
        while not calls:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())
    assert calls == [1]


def test_a_budget_bounds_the_repeats_of_all_calls_together_so_an_outage_does_not_multiply_the_load():
    flaky = Flaky(10**9)
    call = quick(retries=3, base=1e-6, cap=1e-6)(lambda: flaky())
    for _ in range(1000):
        with pytest.raises(ConnectionError):
            call()
    # A hundred on credit, and one for five first attempts.
    assert 1000 + 100 <= flaky.calls <= 1000 + 100 + 200 + 1


def test_keys_have_budgets_of_their_own():
    calls = {"down": 0, "up": 0}

    @quick(retries=1, base=1e-6, cap=1e-6, key=lambda host: host)
    def call(host):
        calls[host] += 1
        raise ConnectionError

    for _ in range(300):
        with pytest.raises(ConnectionError):
            call("down")
    used = calls["down"]
    with pytest.raises(ConnectionError):
        call("up")
    assert used < 500
    assert calls["up"] == 2


def test_no_repeat_starts_after_the_deadline():
    flaky = Flaky(10**9)
    with pytest.raises(ConnectionError) as raised:
        quick(retries=60_000, deadline=0.1, base="5ms", cap="5ms")(lambda: flaky())()
    assert raised.value.__notes__ == [f"tried {flaky.calls} times"]
    assert flaky.calls < 60_000


def test_generators_cannot_be_repeated():
    with pytest.raises(UsageError, match="generator"):

        @quick()
        def numbers():
            yield 1
