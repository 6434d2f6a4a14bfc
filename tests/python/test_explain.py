"""`unisono.explain`: the rules on measurements written down by hand, and the seed cases with real functions.

How fast anything is depends on the machine, and this one may be busy. So a real case asks what the answer is and never
how large a number is. Where it takes free cores to tell, `cannot tell` is accepted, and only together with the finding
that the machine was busy (`answered`).
"""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import doctest
import functools
import importlib
import json
import os
import socketserver
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest

import unisono
from support import explained
from unisono.explaining import Blocking, Candidate, Measured, Spread, decide, machine
from unisono.explaining.lock import held_while
from unisono.explaining.subject import Subject

SUPPORT = Path(__file__).parents[1] / "support"


def measured(**changes):
    values = {
        "function": "work:parse",
        "coroutine": False,
        "samples": 10,
        "calls": 1000,
        "wall": 0.010,
        "cpu": 0.010,
        "queued": 0.0,
        "blocked": 0.0,
        "lock_held": 0.010,
        "lock_unknown": None,
        "item_size": 50,
        "result_size": 50,
        "pickling": 5e-6,
        "unpicklable": None,
        "memory": 1000,
        "repeats": 1.0,
        "loop": None,
        "cores": 4,
        "free_cores": Spread(3.9, 3.7, 4.0),
    }
    return Measured(**{**values, **changes})


def tried(model, workers, median, low=None, high=None, rounds=9, **more):
    spread = Spread(median, low or median * 0.95, high or median * 1.05)
    return Candidate(model=model, workers=workers, speedup=spread, rounds=rounds, **more)


def left_out(model, workers, why):
    return Candidate(model=model, workers=workers, excluded=why)


WAITING = {"cpu": 0.0001, "blocked": 0.0099, "lock_held": 0.0}
BUSY = {"free_cores": Spread(1.2, 1.0, 1.5)}


def test_what_computes_in_python_goes_to_processes():
    answer = decide(measured(), [tried("threads", 4, 0.95), tried("processes", 4, 3.6, start=0.36)])
    assert (answer.recommendation.model, answer.recommendation.workers) == ("processes", 4)
    assert answer.confidence == "high"
    assert "processes did 3.6x" in answer.reasons[0]
    assert any("holds the interpreter lock 100% of its time" in reason for reason in answer.reasons)
    # 0.36 s to start, 7.2 ms saved on each of the items.
    assert any("from about 50 items on" in reason for reason in answer.reasons)


def test_what_leaves_the_lock_goes_to_threads_though_processes_are_as_fast():
    answer = decide(measured(lock_held=0.0), [tried("threads", 4, 3.5), tried("processes", 4, 3.7)])
    assert answer.recommendation.model == "threads"
    assert any("4 processes were about as fast" in reason for reason in answer.reasons)


def test_what_leaves_the_lock_never_goes_to_processes_by_the_luck_of_their_rounds():
    disturbed = [tried("threads", 4, 2.0, low=1.3), tried("processes", 4, 3.7)]
    assert decide(measured(lock_held=0.0), disturbed).recommendation.model == "threads"
    # That processes gained shows that there is something to gain.
    disturbed = [tried("threads", 4, 2.0, low=0.9), tried("processes", 4, 3.7)]
    assert decide(measured(lock_held=0.0), disturbed).recommendation.model == "threads"
    # Threads have other costs than the lock, such as what they all write to.
    slow = [tried("threads", 4, 1.1, high=2.0), tried("processes", 4, 3.7)]
    assert decide(measured(lock_held=0.0), slow).recommendation.model == "processes"
    # What holds the lock for a part of its time bounds threads on a machine of many cores.
    bounded = [tried("threads", 16, 4.0), tried("processes", 16, 14.0)]
    assert decide(measured(lock_held=0.0025), bounded).recommendation.model == "processes"


def test_what_holds_a_lock_of_its_own_in_all_threads_goes_to_processes():
    trials = [tried("threads", 4, 1.0), tried("processes", 4, 3.7)]
    assert decide(measured(lock_held=0.0), trials).recommendation.model == "processes"


def test_what_waits_gets_as_many_threads_as_paid():
    trials = [tried("threads", 8, 7.8), tried("processes", 4, 3.9), tried("threads", 32, 30.0)]
    answer = decide(measured(**WAITING), trials)
    assert (answer.recommendation.model, answer.recommendation.workers) == ("threads", 32)
    assert any("more than 32 at once were not tried" in reason for reason in answer.reasons)


def test_many_threads_that_bring_no_more_than_few_are_not_recommended():
    answer = decide(measured(**WAITING), [tried("threads", 8, 5.5), tried("threads", 32, 5.9)])
    assert answer.recommendation.workers == 8


def test_a_plain_loop_wins_where_pickling_costs_more_than_the_work():
    tiny = measured(wall=1e-6, cpu=1e-6, lock_held=1e-6, pickling=6e-6)
    answer = decide(tiny, [tried("threads", 4, 0.02), tried("processes", 4, 0.3)])
    assert answer.recommendation.model == "sequential"
    assert any("costs more than doing it" in reason for reason in answer.reasons)


def test_a_plain_loop_wins_on_a_busy_machine_if_free_cores_would_not_change_it():
    tiny = measured(wall=1e-6, cpu=1e-6, lock_held=1e-6, **BUSY)
    assert decide(tiny, [tried("processes", 4, 0.1)]).recommendation.model == "sequential"


def test_what_uses_all_cores_by_itself_is_left_alone():
    answer = decide(measured(cpu=0.038, lock_held=0.001), [tried("threads", 4, 1.0), tried("processes", 4, 0.9)])
    assert answer.recommendation.model == "sequential"
    assert any("uses 3.8 cores by itself" in reason for reason in answer.reasons)


def test_a_busy_machine_that_could_hide_a_gain_means_that_it_cannot_be_told():
    answer = decide(measured(**BUSY), [tried("threads", 4, 0.9), tried("processes", 4, 1.1, 0.9, 1.14)])
    assert answer.recommendation.model is None
    assert answer.confidence == "none"
    assert any(reason.startswith("the machine was busy: 1.2 (1.0 to 1.5) of 4 cores") for reason in answer.reasons)


def test_threads_under_a_held_lock_could_not_gain_on_a_free_machine_either():
    why = "the function cannot be pickled"
    answer = decide(measured(**BUSY), [tried("threads", 4, 0.98), left_out("processes", 4, why)])
    assert answer.reasons[0] == f"cannot tell: only processes could be faster, and they could not be tried: {why}"


def test_a_range_that_is_too_wide_means_that_it_cannot_be_told():
    answer = decide(measured(), [tried("processes", 4, 1.8, low=0.8, high=3.5)])
    assert answer.recommendation.model is None
    assert "between 0.8 and 3.5 times" in answer.reasons[0]


def test_one_round_is_not_enough_to_tell():
    slow = measured(**{**WAITING, "wall": 2.0, "blocked": 1.99})
    answer = decide(slow, [tried("threads", 8, 7.9, rounds=1), tried("processes", 4, 3.9, rounds=1)])
    assert answer.recommendation.model is None
    assert "one round only" in answer.reasons[0]
    assert "A budget of about 32 s would do" in answer.reasons[0]


def test_a_candidate_with_one_round_is_not_recommended_over_one_with_many():
    answer = decide(measured(**WAITING), [tried("threads", 8, 7.8), tried("threads", 32, 30.0, rounds=1)])
    assert answer.recommendation.workers == 8


def test_one_bad_round_of_threads_does_not_make_processes_win():
    trials = [tried("threads", 4, 3.4, low=0.9), tried("processes", 4, 3.6)]
    answer = decide(measured(lock_held=0.0), trials)
    assert (answer.recommendation.model, answer.confidence) == ("threads", "low")


def test_a_gain_that_cannot_be_means_that_it_cannot_be_told():
    # Seen on a machine with a load of 13: pure Python, in two threads, up to 4.4 times as fast.
    answer = decide(measured(), [tried("threads", 2, 1.9, 1.2, 4.4), tried("processes", 2, 1.5, 0.4, 2.2)])
    assert answer.recommendation.model is None
    assert "which they cannot be" in answer.reasons[0]


def test_threads_that_seem_faster_though_they_hold_the_lock_are_not_believed():
    answer = decide(measured(), [tried("threads", 4, 1.6), tried("processes", 4, 3.6)])
    assert answer.recommendation.model == "processes"
    assert decide(measured(), [tried("threads", 4, 1.6)]).recommendation.model is None


def test_what_computes_and_waits_for_cores_cannot_be_told():
    starved = measured(cpu=0.002, queued=0.008)
    answer = decide(starved, [tried("processes", 4, 1.9)])
    assert answer.recommendation.model is None
    assert answer.reasons[0].startswith("cannot tell: what computes had to share its cores")
    assert answer.reasons[1].startswith("the machine was busy")


def test_a_wide_range_gives_little_confidence():
    answer = decide(measured(**WAITING), [tried("threads", 8, 4.3, 2.1, 6.1)])
    assert (answer.recommendation.model, answer.confidence) == ("threads", "low")


def test_without_any_trial_it_cannot_be_told():
    answer = decide(measured(), [left_out("threads", 4, "no time"), left_out("processes", 4, "no time")])
    assert answer.recommendation.model is None
    assert "no candidate could be tried" in answer.reasons[0]


def test_a_cache_that_answers_repeats_means_that_it_cannot_be_told():
    answer = decide(measured(repeats=400.0), [tried("processes", 4, 0.1)])
    assert answer.recommendation.model is None
    assert "repeats measure the cache" in answer.reasons[0]


def test_fewer_rounds_give_less_confidence():
    def confidence(rounds):
        return decide(measured(), [tried("processes", 4, 3.6, rounds=rounds)]).confidence

    assert [confidence(rounds) for rounds in (2, 4, 9)] == ["low", "medium", "high"]


def test_a_coroutine_that_waits_in_its_loop_gets_the_trap_named_and_threads():
    loop = Blocking(share=0.99, longest=0.02, working=0.01, where="app.py:7 in ask: time.sleep(0.02)")
    waits = measured(coroutine=True, loop=loop, **WAITING)
    answer = decide(waits, [tried("coroutines", 8, 1.0), tried("threads", 8, 7.5)])
    assert answer.recommendation.model == "threads"
    trap = next(reason for reason in answer.reasons if reason.startswith("trap"))
    assert "20 ms at a stretch by waiting without `await`, at app.py:7 in ask: time.sleep(0.02)" in trap
    assert "asyncio.to_thread" in trap


def test_a_coroutine_that_computes_gets_the_trap_named_and_processes():
    loop = Blocking(share=0.98, longest=0.05, working=0.99, where="app.py:9 in burn: crunch()")
    answer = decide(
        measured(coroutine=True, loop=loop, lock_held=None, lock_unknown="it is a coroutine"),
        [tried("coroutines", 8, 1.0), tried("processes", 4, 3.6)],
    )
    assert answer.recommendation.model == "processes"
    assert any("run_in_executor" in reason for reason in answer.reasons)


def test_an_answer_is_a_table_and_data():
    candidates = [tried("threads", 4, 0.95), left_out("processes", 4, "it cannot be pickled")]
    answer = decide(measured(lock_held=None, lock_unknown="too few looks at it"), candidates)
    text = str(answer)
    assert "not measured: too few looks at it" in text
    assert "left out: it cannot be pickled" in text
    data = json.loads(json.dumps(answer.to_dict()))
    assert data["measured"]["wall"] == 0.010
    assert data["candidates"][0]["speedup"] == {"median": 0.95, "low": 0.95 * 0.95, "high": 0.95 * 1.05}
    assert data["recommendation"]["model"] is None
    with pytest.raises(AttributeError):
        answer.confidence = "high"


def test_a_spread_leaves_out_the_outermost_of_many():
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert Spread.of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 70.0]) == Spread(4.0, 2.0, 6.0)


def explain(words, items, *options, start=(sys.executable, "-m", "unisono")):
    """Run it in a process of its own, as its worker processes' tracker lives as long as the interpreter."""
    command = [*start, "explain", words, "--items", "-", "--jsonl", "--json", *options]
    text = "".join(json.dumps(item) + "\n" for item in items)
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=300, cwd=SUPPORT, check=False)


def answered(name, models, items=range(10), *options):
    """The answer; it is one of these models, or says that the machine was too busy to tell, or disturbed the rounds."""
    done = explain(f"explained:{name}", items, *options)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    if answer["recommendation"]["model"] is None:
        if any("disturbed the rounds" in reason for reason in answer["reasons"]):
            return answer
        assert any(reason.startswith("the machine was busy") for reason in answer["reasons"]), answer["reasons"]
        free = answer["measured"]["free_cores"]
        assert free["low"] < 0.7 * answer["measured"]["cores"] or answer["measured"]["queued"] > 0
    else:
        assert answer["recommendation"]["model"] in models, answer
        assert answer["recommendation"]["speedup"] or models == {"sequential"}
    return answer


def test_a_function_that_sleeps_goes_to_many_threads():
    answer = answered("sleep", {"threads"})
    # None where the machine was too busy to tell.
    assert (answer["recommendation"]["workers"] or 8) >= 8
    assert answer["measured"]["blocked"] > 0.5 * answer["measured"]["wall"]


def test_a_function_that_waits_for_a_server_goes_to_threads():
    class Slow(socketserver.BaseRequestHandler):
        def handle(self):
            threading.Event().wait(0.02)
            self.request.sendall(b"done")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 256

    with Server(("127.0.0.1", 0), Slow) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            answered("read_socket", {"threads"}, [list(server.server_address)] * 5)
        finally:
            server.shutdown()
            thread.join()


def test_a_function_that_computes_in_python_goes_to_processes():
    answer = answered("compute", {"processes"})
    assert answer["measured"]["unpicklable"] is None


@pytest.mark.parametrize("name", ["digest", "compress"])
def test_a_function_that_leaves_the_lock_goes_to_threads(name):
    answered(name, {"threads"})


def test_numpy_that_leaves_the_lock_goes_to_threads_or_processes_by_what_was_measured():
    pytest.importorskip("numpy")
    # On a machine that others use it may be that nothing gained.
    answer = answered("sines", {"threads", "processes", "sequential"})
    model = answer["recommendation"]["model"]
    gains = {c["model"]: c["speedup"] for c in answer["candidates"] if c["speedup"]}
    if model == "processes":
        # On a busy machine a round may show more than there are cores; such a gain is not believed.
        assert gains["processes"]["median"] > gains["threads"]["median"] or gains["threads"]["median"] > os.cpu_count()
    elif model == "threads":
        assert gains["threads"]["median"] >= 1.15
    elif model == "sequential":
        assert all(gain["high"] < 1.15 for gain in gains.values())


def test_mixed_work_gets_more_workers_than_waiting_or_computing_alone_would_say():
    answer = answered("mixed", {"threads", "processes"})
    assert 0 < answer["measured"]["blocked"] < answer["measured"]["wall"]


def test_a_tiny_task_stays_in_a_plain_loop():
    answer = answered("tiny", {"sequential"})
    assert answer["measured"]["pickling"] > answer["measured"]["wall"]


def test_a_coroutine_that_awaits_goes_to_coroutines():
    answer = answered("wait", {"coroutines"})
    assert answer["measured"]["loop"]["share"] < 0.5


def test_a_coroutine_that_sleeps_in_its_loop_is_found_with_its_line():
    answer = answered("block", {"threads"})
    assert "in block: time.sleep(0.02)" in answer["measured"]["loop"]["where"]
    assert any(reason.startswith("trap: the coroutine blocks its event loop") for reason in answer["reasons"])


def test_a_coroutine_that_computes_goes_to_processes():
    answer = answered("burn", {"processes"})
    assert answer["measured"]["loop"]["working"] > 0.5 or answer["measured"]["queued"] > 0


def test_a_cached_function_is_seen_through():
    done = explain("explained:cached", range(10), "--budget", "1")
    assert "repeats measure the cache" in json.loads(done.stdout)["reasons"][0]


def test_large_items_stay_where_they_are():
    answer = answered("count_bytes", {"sequential"}, ["x" * 1_000_000] * 3)
    assert answer["measured"]["item_size"] > 1_000_000


def test_repeat_bounds_the_calls_of_all_experiments_together():
    calls = []
    answer = unisono.explain(lambda item: calls.append(item), range(5), budget=0.5, repeat=7)
    assert len(calls) == answer.measured.calls <= 35


@pytest.mark.parametrize("most", [1, 2, 5, 40])
def test_max_calls_bounds_the_calls_of_all_experiments_together_and_is_said_first(most, caplog):
    calls = []

    def work(item):
        # How often it is called is known by now.
        assert f"on 5 samples {most} time" in caplog.text
        calls.append(item)

    with caplog.at_level("INFO", "unisono.explain"):
        answer = unisono.explain(work, range(5), budget=0.5, max_calls=most)
    assert len(calls) == answer.measured.calls <= most


def test_the_shell_says_first_what_it_will_do_and_bounds_it():
    done = explain("explained:tiny", range(5), "--budget", "0.5", "--max-calls", "7")
    assert done.stderr == "note: calls explained:tiny for real, 7 times at most\n"
    assert json.loads(done.stdout)["measured"]["calls"] <= 7


@pytest.mark.parametrize("is_coroutine", [False, True])
def test_a_call_that_does_not_end_is_given_up_when_the_budget_is_over(is_coroutine, monkeypatch):
    # All samples are run once, however long the first takes on a busy machine.
    monkeypatch.setattr("unisono.explaining.experiment._LEARNING", 1000)
    for_ever = threading.Event()

    def hang(item):
        if item == "b":
            for_ever.wait()

    async def hang_on_a_loop(item):
        if item == "b":
            await asyncio.Event().wait()

    try:
        with pytest.raises(
            unisono.SampleFailed, match=r"had not ended on sample 1 after 500 ms, which is the whole budget"
        ):
            unisono.explain(hang_on_a_loop if is_coroutine else hang, ["a", "b", "c"], budget=0.5)
    finally:
        for_ever.set()


def test_the_shell_does_not_wait_for_a_call_that_does_not_end():
    done = explain("explained:hangs", range(3), "--budget", "0.5")
    assert (done.returncode, done.stdout) == (1, "")
    assert "had not ended on sample 0" in done.stderr


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
@pytest.mark.parametrize("is_coroutine", [False, True])
def test_whatever_a_function_raises_is_a_sample_that_failed(kind, is_coroutine):
    def leave(item):
        raise kind(f"as of {item}")

    async def leave_on_a_loop(item):
        raise kind(f"as of {item}")

    with pytest.raises(unisono.SampleFailed, match=f"{kind.__name__}: as of a") as caught:
        unisono.explain(leave_on_a_loop if is_coroutine else leave, ["a", "b"], budget=0.5)
    assert isinstance(caught.value.__cause__, kind)


def test_an_exit_that_comes_only_with_others_at_once_loses_that_candidate():
    answer = unisono.explain(lambda item: explained.leave_if_not_alone(item), range(4), budget=1, max_workers=4)
    threads = [candidate for candidate in answer.candidates if candidate.model == "threads"]
    assert any("SystemExit" in (candidate.excluded or "") for candidate in threads), answer


async def makes_async(item):
    yield item


def makes(item):
    yield item


@pytest.mark.parametrize(
    "make", [makes, makes_async, functools.partial(makes), lambda item: makes(item), lambda item: makes_async(item)]
)
def test_what_makes_generators_is_refused_since_a_call_of_it_runs_nothing(make):
    with pytest.raises(unisono.UsageError, match="generator"):
        unisono.explain(make, [1, 2], budget=0.5)


# What is recommended is run as it is printed.


class Client:
    def ask(self, item):
        return item

    async def ask_on_a_loop(self, item):
        return item

    @classmethod
    def make(cls, item):
        return item

    @staticmethod
    def plain(item):
        return item

    def __call__(self, item):
        return item


class AsyncClient:
    async def __call__(self, item):
        return item


def ask(item):
    return item


async def ask_on_a_loop(item):
    return item


def nested():
    def inner(item):
        return item

    return inner


inner = nested()
CALLABLES = {
    "a function": ask,
    "a coroutine function": ask_on_a_loop,
    "a nested function": inner,
    "a lambda": lambda item: item,
    "a bound method": Client().ask,
    "a bound coroutine method": Client().ask_on_a_loop,
    "a class method": Client.make,
    "a static method": Client.plain,
    "an object": Client(),
    "an object on a loop": AsyncClient(),
    "a partial": functools.partial(ask),
    "a partial on a loop": functools.partial(ask_on_a_loop),
    "a builtin": len,
    "a class": str,
    "a bound builtin": {"a": "b"}.get,
    "a method of a class": str.upper,
    "a partial of a method": functools.partial(Client().ask),
    "a partial of an object": functools.partial(Client()),
}


@pytest.mark.parametrize("model", ["sequential", "threads", "processes", "coroutines"])
@pytest.mark.parametrize("name", CALLABLES)
def test_the_code_that_is_recommended_runs_as_it_is_printed(name, model, monkeypatch):
    function = CALLABLES[name]
    subject = Subject(function, ["a", "b"], None)
    if model == "coroutines" and not subject.coroutine:
        return
    what = measured(function=subject.name, unnamed=subject.unnamed, coroutine=subject.coroutine, lock_held=0.0)
    what = dataclasses.replace(
        what, loop=Blocking(share=0, longest=0, working=0, where=None) if subject.coroutine else None
    )
    trials = (
        [tried("threads", 2, 0.9)]
        if model == "sequential"
        else [tried(model, 2, 1.9, chunk=2 if model == "processes" else 1)]
    )
    recommendation = decide(what, trials).recommendation
    assert recommendation.model == model
    # Its own name is there, and `function` only where that is said.
    there = globals() | {"items": ["a", "b"]}
    if "  # function: what was explained, " in recommendation.code:
        there["function"] = function
    else:
        assert subject.unnamed is None
    # Workers are told apart from what is called there, which is the pool's business.
    monkeypatch.setattr(unisono, "ProcessPool", lambda workers: unisono.ThreadPool(workers))
    *statements, last = ast.parse(recommendation.code).body
    exec(compile(ast.Module(statements, []), "recommended", "exec"), there)
    found = eval(compile(ast.Expression(last.value), "recommended", "eval"), there)
    found = [outcome.check() for outcome in found.outcomes] if model == "coroutines" else list(found)
    expected = [function(item) for item in ["a", "b"]]
    if subject.coroutine:
        expected = [asyncio.run(one) for one in expected]
    assert sorted(map(str, found)) == sorted(map(str, expected))
    assert recommendation.code.splitlines()[0] in str(decide(what, trials))


def test_a_function_that_fails_is_reported_with_its_item():
    with pytest.raises(
        unisono.SampleFailed, match=r"failed on sample 3 \(3\): ValueError: three is too much"
    ) as caught:
        unisono.explain(explained.fail_on_three, range(10))
    assert (caught.value.item, caught.value.index) == (3, 3)
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_function_that_fails_later_is_reported_with_its_item_as_well():
    calls = []

    async def fail_later(item):
        calls.append(item)
        if len(calls) > 20:
            raise ConnectionError("the server is tired of it")

    with pytest.raises(unisono.SampleFailed, match="ConnectionError: the server is tired of it") as caught:
        unisono.explain(fail_later, ["a", "b"])
    assert caught.value.item in {"a", "b"}


def test_a_function_that_fails_only_with_others_at_once_loses_that_candidate():
    answer = unisono.explain(lambda item: explained.not_at_once(item), range(4), budget=1, max_workers=4)
    threads = [candidate for candidate in answer.candidates if candidate.model == "threads"]
    assert any("two at once" in (candidate.excluded or "") for candidate in threads), answer


# What ends a hang is patience, and what bounds the rest are calls, enough for each model to be tried: no budget is used up
# before it hangs.
BOUNDED = {"budget": 60, "max_calls": 2000}


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("unisono.explaining.trials._LEAST_PATIENCE", 1.0)
    monkeypatch.setattr("unisono.explaining.trials._PATIENCE", 1)


def test_a_function_that_hangs_when_threads_call_it_at_once_ends_it_with_that_news(impatient):
    try:
        with pytest.raises(unisono.SampleFailed, match=r"hangs when \d threads call it at once"):
            unisono.explain(explained.hangs_at_once, range(4), **BOUNDED)
    finally:
        explained.FOR_EVER.set()


def test_the_shell_does_not_wait_for_threads_that_hang():
    code = (
        "import sys; from unisono.explaining import shell, trials; trials._LEAST_PATIENCE, trials._PATIENCE = 1.0, 1; "
        "words = ['explained:hangs_at_once', '--items', '-', '--budget', '60', '--max-calls', '2000']; "
        "sys.exit(shell.main(words))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, input="a\nb\n", capture_output=True, text=True, timeout=120, cwd=SUPPORT, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "\nerror: explained:hangs_at_once hangs when " in done.stderr


def test_processes_that_hang_are_killed_and_only_they_are_excluded(impatient):
    answer = unisono.explain(explained.hangs_elsewhere, range(4), max_workers=4, **BOUNDED)
    excluded = {candidate.model: candidate.excluded for candidate in answer.candidates}
    assert "was killed" in excluded["processes"]
    assert excluded["threads"] is None
    assert answer.recommendation.model != "processes"


class Busy:
    """A machine on which all threads wait for a core, until it has been looked at so many times."""

    def __init__(self, looks):
        self.looks, self.is_over = looks, threading.Event()

    def queues(self, _processes):
        self.looks -= 1
        if self.looks == 0:
            self.is_over.set()
        # More with each look than any time that has passed since the one before.
        return {"a thread": -1000.0 * self.looks}


@pytest.fixture
def busy(monkeypatch):
    busy = Busy(looks=6)
    monkeypatch.setattr("unisono.explaining.machine._queues", busy.queues)
    yield busy
    busy.is_over.set()


def test_a_call_that_waits_for_a_core_is_no_hang(busy):
    answer = unisono.explain(lambda _: busy.is_over.wait(), range(2), budget=0.1)
    assert answer.measured.samples == 1
    assert busy.looks <= 0


def test_calls_in_threads_that_wait_for_a_core_do_not_hang(busy, monkeypatch):
    monkeypatch.setattr("unisono.explaining.trials._LEAST_PATIENCE", 0.01)
    monkeypatch.setattr("unisono.explaining.trials._PATIENCE", 0)
    threads = []

    def ask(_):
        threads.append(threading.get_ident())
        if threads[0] != threading.get_ident():
            busy.is_over.wait()
        time.sleep(0.002)

    answer = unisono.explain(ask, range(2), **BOUNDED)
    assert busy.looks <= 0
    assert next(one.excluded for one in answer.candidates if one.model == "threads") is None


def test_coroutines_that_wait_for_a_core_do_not_hang(busy, monkeypatch):
    monkeypatch.setattr("unisono.explaining.trials._LEAST_PATIENCE", 0.01)
    monkeypatch.setattr("unisono.explaining.trials._PATIENCE", 0)
    under_way = []

    async def ask(_):
        under_way.append(asyncio.get_running_loop())
        try:
            # Alone it goes on; with others it waits.
            await asyncio.sleep(0.002)
            while len(under_way) > 1 and not busy.is_over.is_set():
                await asyncio.sleep(0.001)
        finally:
            under_way.pop()

    answer = unisono.explain(ask, range(2), **BOUNDED)
    assert busy.looks <= 0
    assert next(one.excluded for one in answer.candidates if one.model == "coroutines") is None


def test_the_time_of_a_hang_stands_still_while_a_thread_waits_for_a_core_or_nobody_looks(monkeypatch):
    now, queues = [0.0], {}
    monkeypatch.setattr(machine, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(machine, "_queues", lambda _: dict(queues))
    served = machine.Served(longest=1.0)

    def passed(seconds, **late):
        now[0] += seconds
        queues.update({name: queues.get(name, 0.0) + more for name, more in late.items()})
        return served.passed()

    assert passed(0.75) == 0.75
    # Of two that wait at once, the longer time; all the others may wait for it.
    assert passed(0.75, one=0.5, other=0.25) == 1.0
    assert passed(0.75, one=0.75, other=0.75) == 1.0
    # It was not even looked, since the program was stopped, or the machine.
    assert passed(100.0) == 2.0
    queues.clear()
    # A thread that is new has waited since it was started.
    assert passed(0.5, new=0.25) == 2.25


def test_how_long_threads_wait_for_a_core_is_known_for_other_processes_and_none_for_those_that_have_gone():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        found = machine._queues([process.pid, os.getpid()])
        assert {Path(task).parts[2] for task in found} == {str(process.pid), str(os.getpid())}
        assert all(seconds >= 0 for seconds in found.values())
    assert machine._queues([process.pid]) == {}


def test_a_lambda_is_not_sent_to_processes_and_the_reason_is_told():
    answer = unisono.explain(lambda number: explained.compute(number), range(3), budget=0.5)
    (processes,) = [candidate for candidate in answer.candidates if candidate.model == "processes"]
    assert "cannot be pickled" in processes.excluded


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": []}, "no samples"),
        ({"budget": 0}, "budget"),
        ({"repeat": 0}, "repeat"),
        ({"max_workers": 1}, "max_workers"),
        ({"max_calls": 0}, "max_calls"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(unisono.UsageError, match=message):
        unisono.explain(explained.tiny, **{"samples": [1], **options})


def test_it_does_not_block_an_event_loop():
    async def main():
        unisono.explain(explained.wait, [1])

    with pytest.raises(unisono.UsageError, match=r"asyncio\.to_thread"):
        asyncio.run(main())


def test_a_function_that_answers_an_awaitable_is_refused():
    with pytest.raises(unisono.UsageError, match="give a coroutine function itself"):
        unisono.explain(explained.answer_later, [1])


def test_the_lock_is_seen_as_held_by_python_code():
    held = held_while(lambda: [explained.compute(1) for _ in range(100)])
    assert held.share is None or held.share > 0.5
    assert (held.share is None) == (held.unknown is not None)


def test_the_lock_is_seen_as_free_while_a_function_sleeps():
    held = held_while(lambda: time.sleep(0.1))
    assert held.share is None or held.share < 0.5


def test_the_shell_prints_the_table(tmp_path):
    (tmp_path / "work.py").write_text("import time\ndef ask(line):\n    assert line in 'ab'\n    time.sleep(0.01)\n")
    (tmp_path / "items.txt").write_text("a\nb\n")
    command = [sys.executable, "-m", "unisono", "explain", "work.py:ask", "--items", "items.txt", "--budget", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("work:ask\n\na call")
    assert "\nuse: " in done.stdout


def test_the_native_command_hands_over():
    native = Path(sys.executable).with_name("unisono")
    done = explain("explained:fail_on_three", range(5), start=[native])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "note: calls explained:fail_on_three for real, again and again (--max-calls bounds that)\n"
        "error: explained:fail_on_three failed on sample 3 (3): ValueError: three is too much\n"
    )


def test_what_is_not_for_python_is_handed_to_the_native_command():
    command = [sys.executable, "-m", "unisono", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == f"unisono {unisono.__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("explained", "`explained` is not MODULE:FUNCTION"),
        ("nowhere:f", "cannot import `nowhere`"),
        ("explained:nothing", "`explained` has no `nothing`"),
        ("explained:time", "is not a function"),
    ],
)
def test_wrong_words_are_told(words, message):
    done = explain(words, [1])
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_lines_that_are_no_json_are_told_by_number(tmp_path):
    (tmp_path / "items.jsonl").write_text("1\nx\n")
    command = [sys.executable, "-m", "unisono", "explain", "explained:tiny", "--items", tmp_path / "items.jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=SUPPORT, check=False)
    assert done.returncode == 2
    assert "items.jsonl, line 2: not JSON" in done.stderr


@pytest.mark.parametrize("name", ["unisono.explaining.answer", "unisono.explaining.table"])
def test_the_examples_in_a_module_are_true(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_a_program_without_a_guard_is_told_about_it(tmp_path):
    (tmp_path / "work.py").write_text(
        "import unisono\ndef work(n):\n    return sum(range(10_000))\n"
        "answer = unisono.explain(work, range(3), budget=0.5)\nprint(answer)\n"
    )
    command = [sys.executable, "work.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "if __name__" in done.stdout
