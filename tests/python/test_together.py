"""`gather` and `first`: nothing is lost, nothing outlives the scope, and what cancels reaches all of it."""

import asyncio
import contextvars
import copy
import gc
import warnings
from datetime import timedelta

import pytest
import uvloop

import unisono

RUNS = {"asyncio": asyncio.run, "uvloop": uvloop.run}


@pytest.fixture(params=RUNS)
def run(request):
    return RUNS[request.param]


@pytest.fixture(autouse=True)
def nothing_is_left_unawaited():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()


class Scene:
    """Coroutines that say what became of them."""

    def __init__(self):
        self.began, self.ended = [], []
        self.has_begun = asyncio.Event()

    async def value(self, value):
        self.began.append(value)
        await asyncio.sleep(0)
        self.ended.append(value)
        return value

    async def fails(self, error):
        await asyncio.sleep(0)
        raise error

    async def never(self, name="never"):
        self.began.append(name)
        self.has_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            # What cancels waits for this too.
            await asyncio.sleep(0)
            self.ended.append(name)


def others():
    return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


def test_outcomes_are_found_by_name_by_place_and_in_order(run):
    async def main():
        scene = Scene()
        gathered = await unisono.gather(scene.value(1), scene.value(2), users=scene.value("u"), posts=scene.value("p"))
        assert gathered.users.result == gathered["users"].check() == "u"
        assert gathered[1].result == 2
        assert [outcome.result for outcome in gathered] == [1, 2, "u", "p"]
        assert list(gathered.outcomes) == [0, 1, "users", "posts"]
        assert len(gathered) == 4
        assert "users" in dir(gathered)
        with pytest.raises(AttributeError, match="'usres', only number 0, number 1, `users`, `posts`"):
            gathered.usres
        with pytest.raises(KeyError, match="nothing was gathered as 7"):
            gathered[7]

    run(main())


def test_a_required_one_that_fails_cancels_the_others_waits_for_them_and_raises_with_all_outcomes(run):
    async def main():
        scene = Scene()
        with pytest.raises(unisono.GroupError, match="`users` did not end well, of 3 awaitables") as raised:
            await unisono.gather(
                quick=scene.value("q"), users=scene.fails(LookupError("no users")), posts=scene.never()
            )
        assert scene.ended == ["q", "never"]
        assert others() == []
        error = raised.value
        assert [str(one) for one in error.exceptions] == ["no users"]
        assert {name: outcome.kind for name, outcome in error.outcomes.items()} == {
            "quick": "ok",
            "users": "failed",
            "posts": "cancelled",
        }
        assert error.outcomes["quick"].result == "q"
        matched, rest = error.split(LookupError)
        assert (matched.outcomes, rest) == (error.outcomes, None)

    run(main())


def test_what_is_not_required_may_fail_and_takes_nothing_with_it(run):
    async def main():
        scene = Scene()
        gathered = await unisono.gather(
            users=scene.value("u"), advice=scene.fails(OSError("none")), required=("users",)
        )
        assert gathered.users.result == "u"
        assert repr(gathered.advice.error) == "OSError('none')"
        assert not gathered.advice.ok

    run(main())


def test_a_required_one_that_fails_cancels_those_that_are_not(run):
    async def main():
        scene = Scene()
        with pytest.raises(unisono.GroupError) as raised:
            await unisono.gather(a=scene.fails(OSError()), b=scene.never(), required=["a"])
        assert raised.value.outcomes["b"].kind == "cancelled"
        assert scene.ended == ["never"]

    run(main())


def test_the_timeout_ends_what_is_not_done_and_keeps_what_is(run):
    async def main():
        scene = Scene()
        gathered = await unisono.gather(done=scene.value(1), slow=scene.never(), timeout=0.05, required=["done"])
        assert gathered.done.result == 1
        assert isinstance(gathered.slow.error, TimeoutError)
        assert gathered.slow.kind == "timed_out"
        assert scene.ended == [1, "never"]

    run(main())


def test_the_timeout_raises_when_a_required_one_is_missing(run):
    async def main():
        scene = Scene()
        with pytest.raises(unisono.GroupError, match="`a`, `b` did not end well") as raised:
            # A busy machine may leave a third no time to be done, which is not what this is about.
            await unisono.gather(a=scene.never("a"), b=scene.never("b"), timeout="50ms")
        assert all(isinstance(error, TimeoutError) for error in raised.value.exceptions)
        assert sorted(scene.ended) == ["a", "b"]

    run(main())


@pytest.mark.parametrize("together", ["gather", "first"])
def test_a_cancellation_from_outside_ends_all_and_goes_on(run, together):
    async def main():
        scene = Scene()
        task = asyncio.create_task(getattr(unisono, together)(scene.never("a"), scene.never("b")))
        await scene.has_begun.wait()
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert sorted(scene.ended) == sorted(scene.began)
        assert others() == []

    run(main())


def test_a_timeout_of_asyncio_around_it_is_told_as_such(run):
    async def main():
        scene = Scene()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await unisono.gather(a=scene.never(), b=scene.fails(OSError()), required=())
        assert scene.ended == ["never"]
        assert others() == []

    run(main())


def test_a_child_that_swallows_its_cancellation_does_not_hang_the_scope(run):
    async def main():
        release = asyncio.Event()

        async def stubborn():
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue
            return "at last"

        with pytest.raises(unisono.GroupError) as raised:
            await unisono.gather(bad=Scene().fails(OSError()), stubborn=stubborn())
        assert raised.value.outcomes["stubborn"].kind == "ambiguous"
        assert len(others()) == 1
        release.set()
        await asyncio.wait(others())

    run(main())


def test_a_child_that_is_cancelled_by_another_hand_is_an_outcome_and_cancels_no_caller(run):
    async def main():
        task = asyncio.create_task(Scene().never())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(unisono.GroupError) as raised:
            await unisono.gather(task=task)
        (error,) = raised.value.exceptions
        assert isinstance(error, unisono.FunctionError)
        assert isinstance(error.__cause__, asyncio.CancelledError)
        gathered = await unisono.gather(mine=task, required=())
        assert isinstance(gathered.mine.error, asyncio.CancelledError)

    run(main())


@pytest.mark.parametrize("together", ["gather", "first"])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_reaches_the_caller_after_the_others_have_ended(run, kind, together):
    ended = []

    async def other():
        try:
            await asyncio.Event().wait()
        finally:
            # At once: `run` cancels all tasks of its loop, those that are being cancelled once more.
            ended.append("other")

    async def main():
        await getattr(unisono, together)(other(), Scene().fails(kind("now")))

    with pytest.raises(kind, match="now"):
        run(main())
    assert ended == ["other"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"posts": 7}, "`posts` is of type int, which cannot be awaited"),
        ({"posts": asyncio.sleep}, "`posts` is a function, which cannot be awaited: call it"),
        ({"required": ["usres"]}, "required: there is no 'usres', only number 0, `users`"),
        ({"required": "users"}, r"required: give several names, as \['users'\]"),
        ({"required": [[]]}, r"required: there is no \[\], only number 0, `users`"),
        ({"return_exceptions": True}, r"`return_exceptions` is of type bool.*: each has its outcome.*required=\(\)"),
        ({"tiemout": 5}, r"`tiemout` is of type int, which cannot be awaited: did you mean timeout=\?"),
        ({"required": 5}, r"required: give names and places, as \[5\], not 5"),
        ({"timeout": -1}, "timeout must be a number of seconds, at least 0, not -1"),
        ({"timeout": "soon"}, "timeout: "),
        ({"outcomes": None}, "`outcomes` is of type NoneType"),
    ],
)
def test_what_cannot_be_gathered_is_named_and_no_coroutine_complains(run, arguments, said):
    async def main():
        scene = Scene()
        with pytest.raises(unisono.UsageError, match=said):
            await unisono.gather(scene.value(1), users=scene.value(2), **arguments)
        assert scene.began == []

    run(main())


@pytest.mark.parametrize("together", ["gather", "first"])
def test_a_list_of_awaitables_is_refused_with_what_to_type_and_no_coroutine_in_it_complains(run, together):
    async def main():
        scene = Scene()
        for several in ([scene.value(1), scene.value(2)], (scene.value(1),)):
            with pytest.raises(
                unisono.UsageError, match=rf"number 0 is of type .*one by one, as {together}\(\*awaitables"
            ):
                await getattr(unisono, together)(several)
        assert scene.began == []

    run(main())


def test_a_mapping_of_awaitables_is_gathered_by_its_names(run):
    async def main():
        scene = Scene()
        with pytest.raises(unisono.UsageError, match=r"by name, as gather\(\*\*awaitables\)"):
            await unisono.gather({"a": scene.value(1)})
        assert scene.began == []

    run(main())


def test_a_name_that_means_something_else_is_refused(run):
    async def main():
        with pytest.raises(unisono.UsageError, match="`outcomes` means something else"):
            await unisono.gather(outcomes=Scene().value(1))

    run(main())


def test_one_coroutine_under_two_names_is_refused_and_a_task_is_not(run):
    async def main():
        coroutine = Scene().value(1)
        with pytest.raises(unisono.UsageError, match="`a`, `b` are one coroutine"):
            await unisono.gather(a=coroutine, b=coroutine)
        task = asyncio.create_task(Scene().value(2))
        assert [outcome.result for outcome in await unisono.gather(a=task, b=task)] == [2, 2]

    run(main())


def test_a_batch_is_gathered_as_its_report_and_an_empty_scope_as_nothing(run):
    async def main():
        gathered = await unisono.gather(numbers=unisono.batch(int, ["1", "x"]), future=asyncio.sleep(0, "slept"))
        assert (gathered.numbers.result.ok, gathered.numbers.result.failed) == (1, 1)
        assert gathered.future.result == "slept"
        assert list(await unisono.gather()) == []

    run(main())


def test_children_see_the_variables_of_their_caller(run):
    variable = contextvars.ContextVar("variable")

    async def main():
        variable.set("callers")

        async def child():
            return variable.get()

        assert (await unisono.gather(child()))[0].result == "callers"

    run(main())


def test_the_first_success_wins_and_the_others_are_cancelled_and_waited_for(run):
    async def main():
        scene = Scene()
        result = await unisono.first(scene.never(), scene.fails(OSError()), scene.value("won"))
        assert result == "won"
        assert scene.ended == ["won", "never"]
        assert others() == []

    run(main())


def test_when_all_fail_the_error_has_each_of_them(run):
    async def main():
        scene = Scene()
        with pytest.raises(unisono.GroupError, match="none of 2 awaitables succeeded") as raised:
            await unisono.first(scene.fails(OSError("a")), scene.fails(ValueError("b")), delay=0)
        assert [str(error) for error in raised.value.exceptions] == ["a", "b"]
        assert list(raised.value.outcomes) == [0, 1]

    run(main())


def test_the_next_begins_when_one_has_failed_and_not_before_its_delay_otherwise(run):
    async def main():
        scene = Scene()
        ways = scene.fails(OSError()), scene.value("second"), scene.value("third")
        assert await unisono.first(*ways, delay=3600) == "second"
        assert scene.began == ["second"]

    run(main())


def test_the_next_begins_beside_one_that_is_slow(run):
    async def main():
        scene = Scene()
        ways = scene.never("primary"), scene.value("hedge"), scene.value("third")
        assert await unisono.first(*ways, delay=0.05) == "hedge"
        assert scene.began[:2] == ["primary", "hedge"]
        assert "primary" in scene.ended
        assert others() == []

    run(main())


def test_there_must_be_something_to_await(run):
    async def main():
        with pytest.raises(unisono.UsageError, match="nothing to await"):
            await unisono.first()
        for delay in (-1, "soon"):
            with pytest.raises(unisono.UsageError, match="delay"):
                await unisono.first(Scene().value(1), delay=delay)
        # A word that it does not have leaves no coroutine that complains.
        with pytest.raises(unisono.ArgumentError, match="timeout"):
            await unisono.first(Scene().value(1), timeout=1)

    run(main())


@pytest.mark.parametrize("delay", ["1h", timedelta(hours=1), "none"])
def test_the_delay_is_a_time_as_everywhere(run, delay):
    async def main():
        scene = Scene()
        ways = scene.fails(OSError()), scene.value("second"), scene.value("third")
        assert await unisono.first(*ways, delay=delay) == "second"
        assert scene.began == ["second"]

    run(main())


def test_the_error_of_a_group_is_the_same_in_another_process(run):
    async def main():
        scene = Scene()
        with pytest.raises(unisono.GroupError) as raised:
            await unisono.gather(users=scene.fails(LookupError("no users")), done=scene.value(1), required=["users"])
        raised.value.add_note("of the page")
        return raised.value

    error = run(main())
    with unisono.ProcessPool(1) as pool:
        came = pool.submit(copy.copy, error).result(60)
    assert type(came) is unisono.GroupError
    assert (str(came), came.__notes__) == (str(error), ["of the page"])
    assert [repr(one) for one in came.exceptions] == ["LookupError('no users')"]
    assert {name: (outcome.kind, outcome.result) for name, outcome in came.outcomes.items()} == {
        "users": ("failed", None),
        "done": ("ok", 1),
    }
