"""`unisono.retry`: repeats without a batch."""

import asyncio
import functools
import inspect
import warnings

import pytest

from unisono import Client, ProcessPool, ThreadPool, UsageError, batch, retry, spawn


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
    tried, why = raised.value.__notes__
    assert tried == f"tried {flaky.calls} times"
    assert why == "not repeated more: the deadline is too near, or the budget of repeats is used up"
    assert flaky.calls < 60_000


def test_a_call_without_a_budget_for_its_repeats_says_so():
    @quick(retries=3)
    def call():
        raise ConnectionError

    notes = []
    for _ in range(300):
        with pytest.raises(ConnectionError) as raised:
            call()
        notes.append(raised.value.__notes__)
    assert notes[0] == ["tried 4 times"]
    assert notes[-1] == ["not repeated more: the budget of repeats is used up"]
    assert all(note[0] == "tried 4 times" or "budget" in note[-1] for note in notes)


def test_what_shares_a_budget_is_said_by_a_function():
    with pytest.raises(UsageError, match="key must be a function, not 5"):
        quick(retries=3, key=5)


def test_generators_cannot_be_repeated():
    with pytest.raises(UsageError, match="generator"):

        @quick()
        def numbers():
            yield 1


class Async:
    """An object that is called as a coroutine function is."""

    def __init__(self, flaky):
        self.flaky = flaky

    async def __call__(self, *_):
        await asyncio.sleep(0)
        return self.flaky()


async def call_flaky(flaky):
    await asyncio.sleep(0)
    return flaky()


@pytest.mark.parametrize(
    "make",
    [
        Async,
        lambda flaky: functools.partial(Async(flaky), 1),
        lambda flaky: functools.partial(call_flaky, flaky),
        lambda flaky: lambda: call_flaky(flaky),
        lambda flaky: lambda: asyncio.ensure_future(call_flaky(flaky)),
        lambda flaky: Async(flaky).__call__,
    ],
    ids=["object", "partial of an object", "partial", "lambda", "lambda with a task", "method"],
)
def test_whatever_returns_a_coroutine_is_repeated_on_the_loop(make):
    flaky = Flaky(2)

    async def main():
        return await quick(retries=3)(make(flaky))()

    assert (asyncio.run(main()), flaky.calls) == (3, 3)


def test_a_coroutine_that_fails_for_good_says_how_often_it_was_tried():
    flaky = Flaky(9)
    with pytest.raises(ConnectionError, match="call 3") as raised:
        asyncio.run(quick(retries=2)(lambda: call_flaky(flaky))())
    assert raised.value.__notes__ == ["tried 3 times"]


def test_an_object_that_can_be_awaited_is_a_value_where_no_loop_runs():
    class Later:
        def __await__(self):
            yield

    later = Later()
    assert quick()(lambda: later)() is later


@pytest.mark.parametrize(
    "ends",
    [
        KeyboardInterrupt,
        SystemExit,
        GeneratorExit,
        asyncio.CancelledError,
        lambda: BaseExceptionGroup("g", [ValueError(), KeyboardInterrupt()]),
        lambda: BaseExceptionGroup("g", [BaseExceptionGroup("h", [asyncio.CancelledError()])]),
    ],
)
def test_what_ends_more_than_a_call_is_never_repeated(ends):
    for predicate in (lambda _: True, (ValueError, BaseExceptionGroup)):
        flaky = Flaky(9, lambda _: ends())
        with pytest.raises(type(ends())):
            quick(retry_on=predicate)(lambda flaky=flaky: flaky())()
        assert flaky.calls == 1
        asynchronous = Flaky(9, lambda _: ends())
        # Driven by hand, since a loop has ideas of its own about these.
        coroutine = quick(retry_on=predicate)(Later(asynchronous))()
        with pytest.raises(type(ends())):
            coroutine.send(None)
        assert asynchronous.calls == 1


class Later:
    def __init__(self, flaky):
        self.flaky = flaky

    async def __call__(self):
        return self.flaky()


@pytest.mark.parametrize("named", [BaseException, KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_who_names_what_is_never_repeated_is_refused(named):
    for retry_on in (named, (ValueError, named)):
        with pytest.raises(UsageError, match="never repeated"):
            retry(retry_on=retry_on)
    with pytest.raises(UsageError, match="retry_on"):
        batch(len, ["a"], retry_on=named)


@pytest.mark.parametrize("retry_on", [(), "ValueError", 5, (ValueError, 5)])
def test_what_is_no_exception_type_is_refused(retry_on):
    with pytest.raises(UsageError, match="retry_on: expected exception types"):
        retry(retry_on=retry_on)


def test_an_exception_class_of_the_program_may_be_repeated_whatever_its_base():
    class Restart(BaseException):
        pass

    flaky = Flaky(1, Restart)
    assert quick(retry_on=Restart)(lambda: flaky())() == 2


def numbers(*_):
    yield 1


async def later_numbers(*_):
    yield 1


class Numbers:
    def __call__(self, *_):
        yield 1


@pytest.mark.parametrize("make", [later_numbers, call_flaky, Later(None), functools.partial(call_flaky, 1)])
def test_what_answers_at_once_is_no_coroutine_function(make):
    refused = {
        "retry_on": [lambda: retry(retry_on=make), lambda: batch(len, ["a"], retry_on=make)],
        "away_on": [lambda: batch(len, ["a"], key=str, away_on=make)],
        "key": [
            lambda: retry(retry_on=OSError, key=make),
            lambda: batch(len, ["a"], key=make),
            lambda: in_a_pool(key=make),
        ],
        "id": [lambda: batch(len, ["a"], id=make)],
        "serialize": [lambda: batch(len, ["a"], serialize=make)],
        "progress": [lambda: batch(len, ["a"], progress=make)],
        "initializer": [lambda: ProcessPool(1, initializer=make), lambda: ThreadPool(1, initializer=make)],
        "what a job calls": [lambda: spawn(make)],
        "hook": [lambda: Client(event_hooks={"request": [make]})],
    }
    for name, calls in refused.items():
        for call in calls:
            with pytest.raises(UsageError, match=f"{name}.* must be a plain function"):
                call()


def in_a_pool(**terms):
    with ProcessPool(1) as pool:
        pool.task(**terms)


def test_a_hook_that_nobody_calls_is_refused():
    with pytest.raises(UsageError, match="none for 'requests'"):
        Client(event_hooks={"requests": [print]})


@pytest.mark.parametrize("make", [numbers, later_numbers, Numbers(), functools.partial(numbers, 1)])
def test_whatever_makes_generators_is_refused_with_the_way_out(make):
    with pytest.raises(UsageError, match="generator"):
        quick()(make)
    with pytest.raises(UsageError, match=r"runs nothing: give a function that takes what it yields"):
        batch(make, [1])


def test_a_generator_that_a_call_returns_is_no_result():
    with pytest.raises(UsageError, match="generator"):
        quick(retry_on=Exception)(lambda: numbers())()
    with pytest.raises(UsageError, match="generator"):
        asyncio.run(call_with_loop(quick()(lambda: later_numbers())))


async def call_with_loop(call):
    return call()


def test_what_a_batch_has_not_run_is_not_ok():
    outcomes = batch(lambda item: numbers(item), [1], executor="threads").run().outcomes
    outcomes += batch(lambda item: later_numbers(item), [1], executor="threads").run().outcomes
    outcomes += batch(lambda item: call_flaky(lambda: item), [1], executor="threads").run().outcomes
    assert [(outcome.kind, outcome.attempts) for outcome in outcomes] == [("failed", 1)] * 3
    assert all("nothing has run" in str(outcome.error) for outcome in outcomes[:2])
    assert "nobody awaits" in str(outcomes[2].error)


def test_a_class_whose_objects_are_coroutine_functions_is_called_as_the_class_it_is():
    outcome = batch(Async, [Flaky(0)]).run().outcomes[0]
    assert isinstance(outcome.result, Async)


def test_a_wait_that_is_cancelled_or_interrupted_ends_the_call():
    calls = []

    @retry(retry_on=ConnectionError, retries=5, base="1h", cap="1h", deadline="none")
    async def call():
        calls.append(1)
        raise ConnectionError

    async def main():
        task = asyncio.create_task(call())
        while not calls:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())
    assert calls == [1]


@pytest.mark.parametrize("as_loop", [False, True])
def test_a_call_that_is_cancelled_at_any_of_its_awaits_ends_there(as_loop):
    """After each number of turns of the loop: in each attempt, and in each wait between two."""

    async def work(calls):
        calls.append(1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        raise ConnectionError

    async def call(calls, policy):
        if not as_loop:
            return await policy(work)(calls)
        async for attempt in policy:
            with attempt:
                await work(calls)
        return None

    async def main():
        for turns in range(10_000):
            calls = []
            task = asyncio.create_task(call(calls, quick(retries=3, base=1e-9, cap=1e-9)))
            for _ in range(turns):
                await asyncio.sleep(0)
            begun = len(calls)
            task.cancel()
            await asyncio.wait([task])
            assert len(calls) == begun
            if not task.cancelled():
                # It was over before.
                assert isinstance(task.exception(), ConnectionError)
                assert begun == 4
                return
        raise AssertionError("it never ends")

    asyncio.run(main())


# A plain function on the thread of a running loop.


def failing_once(kind):
    calls = []

    @retry(retry_on=OSError, base="20ms")
    def decorated():
        calls.append(1)
        if len(calls) == 1:
            raise OSError

    def looped():
        for attempt in retry(retry_on=OSError, base="20ms"):
            with attempt:
                calls.append(1)
                if len(calls) == 1:
                    raise OSError

    return decorated if kind == "decorator" else looped


@pytest.mark.parametrize("kind", ["decorator", "loop"])
def test_a_plain_function_that_waits_for_its_repeat_on_a_running_loop_is_warned_of_where_it_is_called(kind):
    async def main():
        failing_once(kind)()

    with pytest.warns(RuntimeWarning, match="the event loop that runs in this thread") as told:
        asyncio.run(main())
    assert [warning.filename for warning in told] == [__file__]
    assert "asyncio.to_thread" in str(told[0].message) and "async for" in str(told[0].message)


@pytest.mark.parametrize("kind", ["decorator", "loop"])
def test_nothing_is_said_where_no_loop_waits_for_a_repeat(kind):
    async def elsewhere():
        await asyncio.to_thread(failing_once(kind))

    async def not_repeated():
        assert retry(retry_on=OSError)(abs)(-1) == 1

    async def repeated_on_the_loop():
        async for attempt in retry(retry_on=OSError, base="20ms"):
            with attempt:
                if attempt.number == 1:
                    raise OSError

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        failing_once(kind)()
        for way in (elsewhere, not_repeated, repeated_on_the_loop):
            asyncio.run(way())
