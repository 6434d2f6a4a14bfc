"""The garbage collector finds batches and outcomes that refer to themselves, by what functions were given, returned or raised."""

import asyncio
import gc
import weakref

import pytest

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
    ],
)
def test_the_collector_finds_a_cycle(cycle):
    box = Box()
    its = weakref.ref(box)
    cycle(box)
    del box

    def is_gone():
        # What the engine lets go of is freed as the program next calls it.
        _native.whole("limit", 1)
        gc.collect()
        return its() is None

    until(is_gone, "the end of what nothing refers to")


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
