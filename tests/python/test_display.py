"""Progress as it is shown: on a terminal, in a log, and how its numbers are reckoned, by a clock of its own."""

import io

import pytest

from unisono._batches.display import Display


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Run:
    """A run whose numbers are said by the test."""

    def __init__(self, **numbers):
        self.numbers = {
            "done": 0,
            "total": 100,
            "kept": 0,
            "failed": 0,
            "timed_out": 0,
            "ambiguous": 0,
            "in_flight": 5,
            "bytes": 0,
            "waiting_for": [],
            **numbers,
        }

    def progress(self):
        return dict(self.numbers)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def shown(monkeypatch, stream, clock, steps):
    """What is written when so many seconds pass before each of the numbers is shown, and the last of them end it."""
    monkeypatch.setattr("sys.stderr", stream)
    display = Display(True, clock)
    for seconds, numbers in steps:
        clock.now += seconds
        display.show(Run(**numbers))
    display.end(Run(**steps[-1][1]))
    return stream.getvalue()


def test_on_a_terminal_one_line_is_written_anew(monkeypatch, clock):
    steps = [(0, {}), (1, {"done": 50, "failed": 2}), (0.1, {"done": 55}), (0.9, {"done": 100, "in_flight": 0})]
    text = shown(monkeypatch, Terminal(), clock, steps)
    lines = [line.rstrip() for line in text.split("\r")]
    assert lines[1:] == [
        "0/100 done · 0/s · 5 in flight",
        "50/100 done · 50/s · 5 in flight · 2 not ok · 1s left",
        "100/100 done · 50/s · 0 in flight",
        "100/100 done · 50/s · 0 in flight",
    ]
    assert text.endswith("\n")


def test_a_shorter_line_leaves_nothing_of_a_longer_one(monkeypatch, clock):
    steps = [(0, {"waiting_for": ["api.example"]}), (1, {"done": 1})]
    _, longer, shorter, _ = shown(monkeypatch, Terminal(), clock, steps).split("\r")
    assert len(shorter) >= len(longer)


def test_a_log_gets_a_line_every_five_seconds_and_one_at_the_end(monkeypatch, clock):
    steps = [(0, {})] + [(1, {"done": 10 * second}) for second in range(1, 11)]
    text = shown(monkeypatch, io.StringIO(), clock, steps)
    assert text.splitlines() == [
        "5s: 50/100 done · 10/s · 5 in flight · 5s left",
        "10s: 100/100 done · 10/s · 5 in flight",
        "10s: 100/100 done · 10/s · 5 in flight",
    ]


def test_a_short_run_is_one_line_of_a_log(monkeypatch, clock):
    assert shown(monkeypatch, io.StringIO(), clock, [(0, {}), (0.5, {"done": 100})]).count("\n") == 1


def test_what_an_earlier_run_did_is_no_pace(monkeypatch, clock):
    text = shown(monkeypatch, Terminal(), clock, [(1, {"done": 90, "kept": 80})])
    assert "90/100 done · 10/s · 5 in flight · 1s left" in text


def test_a_callable_gets_the_numbers_and_nothing_is_written(monkeypatch, clock):
    seen, stream = [], Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    display = Display(seen.append, clock)
    display.show(Run(done=1))
    display.end(Run(done=2))
    assert ([numbers["done"] for numbers in seen], stream.getvalue()) == ([1, 2], "")


def test_nothing_is_asked_and_written_unless_progress_is_wanted(monkeypatch, clock):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    display = Display(False, clock)
    display.show(None)
    display.end(None)
    assert (display.every, stream.getvalue()) == (None, "")
