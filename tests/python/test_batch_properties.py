"""What holds for every batch of functions, whatever they do and wherever they run.

The engine's own properties are tested on its state machine; here it is driven by an event loop, by threads and by worker
processes.
"""

import asyncio
import threading
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unisono import batch

# What an item does: it belongs to a key, takes so many turns, and ends well or does not.
ITEMS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.booleans()).map(lambda item: (*item,)), max_size=40
)
LIMITS = st.fixed_dictionaries({"limit": st.integers(1, 6), "per_key": st.integers(1, 3)})
# After how many outcomes it is stopped, and whether what runs is let finish.
STOPS = st.none() | st.tuples(st.integers(0, 40), st.booleans())


def many(function):
    # What is tried is real threads and tasks, which take their time on a busy machine.
    quiet = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
    return settings(max_examples=60, deadline=None, suppress_health_check=quiet)(function)


class Room:
    """Counts the calls that are inside, in all and by key."""

    def __init__(self):
        self.lock, self.inside, self.most = threading.Lock(), Counter(), Counter()

    def enter(self, key):
        with self.lock:
            for name in ("all", key):
                self.inside[name] += 1
                self.most[name] = max(self.most[name], self.inside[name])

    def leave(self, key):
        with self.lock:
            for name in ("all", key):
                self.inside[name] -= 1


def on_the_loop(room):
    async def work(item):
        key, turns, ends_well = item
        room.enter(key)
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
            if not ends_well:
                raise ValueError(item)
            return item
        finally:
            room.leave(key)

    return work


def in_a_thread(room):
    def work(item):
        key, turns, ends_well = item
        room.enter(key)
        try:
            for _ in range(turns):
                threading.Event().wait(0)
            if not ends_well:
                raise ValueError(item)
            return item
        finally:
            room.leave(key)

    return work


def in_a_process(item):
    if not item[2]:
        raise ValueError(item)
    return item


def check(items, limits, stop, function, room=None, **options):
    outcomes = []
    running = batch(function, items, key=lambda item: item[0], **limits, **options)
    for outcome in running:
        outcomes.append(outcome)
        if stop is not None and len(outcomes) == stop[0] + 1:
            running.cancel(abort=stop[1])
    report = running.report
    # Every item that was pulled has exactly one outcome, which is that of its own call.
    rows = [outcome.row for outcome in outcomes]
    assert len(set(rows)) == len(rows)
    for outcome in outcomes:
        assert outcome.item is items[outcome.row]
        if outcome.kind in ("ok", "failed"):
            assert outcome.ok == outcome.item[2]
            assert outcome.result == (outcome.item if outcome.ok else None)
            assert outcome.ok or outcome.error.args == (outcome.item,)
    kinds = Counter(outcome.kind for outcome in outcomes)
    assert (report.ok, report.failed, report.cancelled) == (kinds["ok"], kinds["failed"], kinds["cancelled"])
    assert report.total + report.pending == len(items)
    if stop is None:
        assert set(kinds) <= {"ok", "failed"}
        assert len(outcomes) == len(items)
    if room is not None:
        assert room.most["all"] <= limits["limit"]
        assert all(most <= limits["per_key"] for key, most in room.most.items() if key != "all")
        assert not +room.inside


@many
@given(ITEMS, LIMITS, STOPS)
def test_a_batch_of_coroutines_accounts_for_every_item_within_its_limits(items, limits, stop):
    room = Room()
    check(items, limits, stop, on_the_loop(room), room)


@many
@given(ITEMS, LIMITS, STOPS.filter(lambda stop: stop is None or not stop[1]))
def test_a_batch_in_threads_accounts_for_every_item_within_its_limits(items, limits, stop):
    room = Room()
    check(items, limits, stop, in_a_thread(room), room)


@pytest.fixture(scope="module")
def pool():
    with ProcessPoolExecutor(2) as executor:
        yield executor


@many
@given(ITEMS, LIMITS, STOPS.filter(lambda stop: stop is None or not stop[1]))
def test_a_batch_in_worker_processes_accounts_for_every_item(pool, items, limits, stop):
    check(items, limits, stop, in_a_process, executor=pool)
