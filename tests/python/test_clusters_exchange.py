"""Requests on their way to workers, without a cluster: messages that are lost, repeated and refused."""

import io
import os
import time

import pytest

from support.processes import until
from unisono import UsageError, _native
from unisono.clusters import _bridge, _exchange, _remote, _remote_fetch
from unisono.clusters._cluster import ClusterWorker, Inbox

TOKEN = _remote.greet().token


@pytest.fixture
def options():
    return _native.remote_options()


@pytest.fixture
def requests(server):
    """Requests as bytes, by number, as an engine makes them."""
    run, remote_requests = _native.fetch_remote(keep_outcomes=True)
    run.set_total(3)
    run.push(0, [f"{server.url}/items/{n}" for n in range(3)])
    taken = []
    while len(taken) < 3:
        remote_requests.wait()
        taken += remote_requests.take()[0]
    yield taken
    run.abandon()


@pytest.fixture(autouse=True)
def _forgotten():
    yield
    _remote.farewell("test")


def batch(number, options, requests=(), stops=(), session="session", token=TOKEN):
    return _remote_fetch.RequestBatch(token, "test", session, number, options, list(requests), list(stops))


def collect(acknowledged, session="session"):
    return _remote_fetch.Collect(TOKEN, "test", session, acknowledged)


# The worker's side.


def test_a_post_is_taken_once_however_often_it_comes(options, requests, server):
    for _ in range(3):
        assert _remote.answer(batch(1, options, requests)) == _remote_fetch.TAKEN
    acknowledged, numbers = 0, []
    while len(numbers) < 3:
        acknowledged, ends = _remote.answer(collect(acknowledged))
        numbers += [number for number, _ in ends]
    assert sorted(numbers) == sorted(number for number, _ in requests)
    assert len(server.requests) == 3


def test_what_was_not_heard_is_told_again(options, requests):
    _remote.answer(batch(1, options, requests[:1]))
    told = _remote.answer(collect(0))
    assert told[0] == 1
    assert _remote.answer(collect(0)) == told
    _remote.answer(batch(2, None, requests[1:2]))
    again = _remote.answer(collect(told[0]))
    assert (again[0], [number for number, _ in again[1]]) == (2, [requests[1][0]])


def test_a_lane_that_has_ended_never_begins_again(options, requests, server):
    _remote.answer(batch(1, options))
    _remote.answer(_remote_fetch.Dismiss(TOKEN, "test", "session"))
    assert _remote.answer(collect(0)) is None
    assert _remote.answer(batch(1, options, requests)) == _remote_fetch.GONE
    assert _remote.answer(batch(1, None, requests, session="never begun")) == _remote_fetch.GONE
    assert server.requests == []


def test_what_has_ended_comes_in_pieces_when_it_is_large(options, requests, monkeypatch):
    monkeypatch.setattr(_remote_fetch, "_MOST_BYTES", 1)
    _remote.answer(batch(1, options, requests))
    acknowledged, numbers = 0, []
    while len(numbers) < 3:
        acknowledged, ends = _remote.answer(collect(acknowledged))
        assert len(ends) <= 1
        numbers += [number for number, _ in ends]
    assert (acknowledged, len(set(numbers))) == (3, 3)


def test_a_lane_at_which_nobody_looks_ends_by_itself(options, requests, server, monkeypatch):
    monkeypatch.setattr(_remote_fetch, "_LONGEST_UNSEEN", 0.05)
    _remote.answer(batch(1, options))
    fetcher = _remote_fetch._sessions.sessions["test", "session"].fetcher
    until(lambda: fetcher.is_over)
    assert _remote.answer(batch(2, None, requests)) == _remote_fetch.GONE
    assert _remote.answer(collect(0)) is None
    # The next question sweeps it away.
    _remote.answer(batch(1, options, session="another"))
    assert [name for _, name in _remote_fetch._sessions.sessions] == ["another"]
    assert server.requests == []


def test_another_process_takes_nothing(options, requests, server):
    assert _remote.answer(batch(1, options, requests, token="another")) == _remote_fetch.WRONG_PROCESS
    assert _remote.answer(_remote_fetch.Collect("another", "test", "session", 0)) is None
    assert server.requests == []


# Our side.


class Notes:
    """A run, as ends are told to it."""

    def __init__(self):
        self.ended, self.lost_ones, self.unsent_ones, self.why = [], [], [], None

    def give_back(self, ends):
        self.ended += [number for number, _ in ends]

    def lost(self, numbers, why):
        self.lost_ones += numbers

    def unsent(self, numbers, why):
        self.unsent_ones += numbers

    def give_up(self, why):
        self.why = why


class Scripted:
    """A cluster whose places answer as a test says."""

    address = "the cluster"

    def __init__(self, answers):
        self.answers, self.asked, self.said = answers, [], []

    def ask(self, place, question, then):
        self.asked.append((place.name, question))
        said = self.answers(place, question)
        if said is not None:
            self.said.append((then, said))

    def tell(self, made):
        """All that was answered, and what comes of it."""
        made.flush()
        while self.said:
            then, said = self.said.pop(0)
            then(*said)
            made.flush()


def exchange(answers, *names):
    notes, cluster = Notes(), Scripted(answers)
    places = [ClusterWorker(name, name, 1) for name in names]
    made = _exchange.RemoteExchange(cluster, "test", Inbox(), places, b"", notes, "run")
    return made, notes, cluster, places


def send(made, numbers, stops=()):
    made._on_send([(number, b"") for number in numbers], list(stops))
    made._cluster.tell(made)


def taken(_place, question):
    return (_remote_fetch.TAKEN, None) if isinstance(question, _remote_fetch.RequestBatch) else None


def carried(cluster, name):
    batches = (
        asked for place, asked in cluster.asked if place == name and isinstance(asked, _remote_fetch.RequestBatch)
    )
    return [number for asked in batches for number, _ in asked.requests]


def test_requests_are_spread_evenly_and_one_by_one_in_turns():
    made, _, cluster, _ = exchange(taken, "a", "b")
    send(made, range(6))
    assert (len(carried(cluster, "a")), len(carried(cluster, "b"))) == (3, 3)
    alone, _, cluster, _ = exchange(
        lambda _, asked: (
            (_remote_fetch.TAKEN, None) if isinstance(asked, _remote_fetch.RequestBatch) else ((1, [(0, b"")]), None)
        ),
        "a",
        "b",
    )
    for _ in range(4):
        send(alone, [0])
    assert {place for place, _ in cluster.asked} == {"a", "b"}


def test_a_message_that_fails_is_sent_again_as_it_was_and_given_up_after_three_times():
    made, notes, cluster, _ = exchange(
        lambda place, asked: (None, "no route") if place.name == "a" else taken(place, asked), "a", "b"
    )
    send(made, [1, 2])
    batches = [asked for place, asked in cluster.asked if place == "a"]
    assert len(batches) == 3
    assert len({asked.number for asked in batches}) == 1
    assert (notes.lost_ones, notes.ended) == ([1], [])
    # And is left alone for a while.
    send(made, [3])
    assert carried(cluster, "b") == [2, 3]
    assert len([place for place, _ in cluster.asked if place == "a"]) == 3


@pytest.mark.parametrize("answer", [_remote_fetch.GONE, _remote_fetch.WRONG_PROCESS])
def test_what_a_worker_says_that_it_has_not_begun_goes_to_another(answer):
    made, notes, cluster, _ = exchange(
        lambda place, asked: (answer, None) if place.name == "a" else taken(place, asked), "a", "b"
    )
    send(made, [1, 2])
    assert sorted(carried(cluster, "b")) == [1, 2]
    assert (notes.lost_ones, notes.unsent_ones) == ([], [])


def test_a_worker_that_has_forgotten_the_run_is_told_of_it_again():
    def answers(_place, asked):
        if isinstance(asked, _remote_fetch.RequestBatch):
            return (_remote_fetch.GONE if asked.number == 2 else _remote_fetch.TAKEN, None)
        return ((1, [(1, b"")]), None) if asked.acknowledged == 0 else None

    made, notes, cluster, _ = exchange(answers, "a")
    send(made, [1])
    send(made, [2])
    batches = [asked for _, asked in cluster.asked if isinstance(asked, _remote_fetch.RequestBatch)]
    assert [(asked.number, len(asked.requests), asked.options) for asked in batches] == [
        (1, 1, b""),
        (2, 1, None),
        (1, 1, b""),
    ]
    assert batches[0].session == batches[1].session != batches[2].session
    assert (notes.lost_ones, notes.unsent_ones) == ([], [])


def test_large_requests_do_not_all_travel_together(monkeypatch):
    monkeypatch.setattr(_exchange, "_MOST_BYTES", 10)
    made, _, cluster, _ = exchange(taken, "a")
    made._on_send([(number, bytes(6)) for number in range(3)], [])
    cluster.tell(made)
    assert [len(asked.requests) for _, asked in cluster.asked if isinstance(asked, _remote_fetch.RequestBatch)] == [
        1,
        1,
        1,
    ]
    assert carried(cluster, "a") == [0, 1, 2]


def test_a_worker_that_leaves_loses_what_was_posted_and_nothing_else():
    made, notes, cluster, places = exchange(
        lambda place, asked: taken(place, asked) if place.name == "b" else None, "a", "b"
    )
    send(made, [1, 2])
    # The batch to `a` is still on its way, so these wait behind it.
    send(made, [3, 4])
    gone = places[0]
    places.remove(gone)
    made.on_left(gone, "its power is off")
    cluster.tell(made)
    assert notes.lost_ones == [1]
    assert sorted(carried(cluster, "b")) == [2, 3, 4]


def test_what_waits_is_stopped_here_and_what_was_posted_there():
    made, notes, cluster, places = exchange(taken, "a")
    send(made, [1])
    places.clear()
    send(made, [2], stops=[2, 1, 99])
    assert notes.unsent_ones == [2]
    assert cluster.asked[-1][1].stops == [1]


def test_a_number_that_is_used_again_is_not_stopped_for_what_had_it_before():
    ends = []

    def answers(_place, asked):
        if isinstance(asked, _remote_fetch.RequestBatch):
            return (_remote_fetch.TAKEN, None) if asked.number == 1 else None
        return ends.pop() if ends else None

    made, notes, cluster, places = exchange(answers, "a")
    send(made, [1, 2])
    # A batch is on its way, so that the stop waits behind it; meanwhile 1 ends by itself.
    send(made, [3])
    send(made, [], stops=[1])
    session = made._sessions[places[0]]
    assert session.stops == [1]
    made._collected(session, (1, [(1, b"")]), None)
    assert (notes.ended, session.stops) == ([1], [])


def test_a_cluster_that_breaks_is_said_before_any_end():
    made, notes, _, _ = exchange(taken, "a")
    order = []
    notes.give_up = lambda why: order.append(why)
    notes.lost = lambda numbers, why: order.append(numbers)
    send(made, [1])
    made.on_broken("gone")
    assert order == ["gone", [1]]
    send(made, [2])
    assert notes.unsent_ones == [2]


def test_without_workers_requests_wait_for_a_minute():
    made, notes, _, _ = exchange(taken)
    send(made, [1])
    made.look_after(time.monotonic())
    assert notes.unsent_ones == []
    made.look_after(made.next_look())
    assert notes.unsent_ones == [1]


# The pipe to the command.


def pipe_of(given, said):
    pipe = _bridge._Pipe(given, said)
    pipe.begin()
    return pipe


def test_frames_of_a_pipe_are_read_as_they_were_written_until_it_ends():
    read, write = os.pipe()
    back, answers = os.pipe()
    with os.fdopen(read, "rb") as given, os.fdopen(write, "wb") as end, os.fdopen(answers, "wb") as said:
        pipe = pipe_of(given, said)

        def frame(kind, data):
            end.write(_bridge._HEAD.pack(len(data), kind) + data)
            end.flush()

        frame(b"O", f"{_native.__version__}\n".encode() + b"opt\nions")
        assert pipe.first() == b"opt\nions"
        frame(b"S", _bridge._NUMBER.pack(7) + b"request")
        pipe.wait()
        assert pipe.take() == ([(7, b"request")], [], False)
        frame(b"X", _bridge._NUMBER.pack(7))
        end.close()
        stops, is_over = [], False
        while not is_over:
            pipe.wait()
            _, more, is_over = pipe.take()
            stops += more
        assert stops == [7]
        # In one go: what had the number has ended, and was to be stopped before it had.
        numbered = [(b"X", b""), (b"S", b"another")]
        again = b"".join(
            _bridge._HEAD.pack(8 + len(data), kind) + _bridge._NUMBER.pack(7) + data for kind, data in numbered
        )
        second = pipe_of(io.BytesIO(again), said)
        second.is_over.wait()
        second.wait()
        assert second.take() == ([(7, b"another")], [], True)
        pipe.give_back([(7, b"end")])
        assert os.read(back, 100) == _bridge._HEAD.pack(11, b"E") + _bridge._NUMBER.pack(7) + b"end"
    os.close(back)


def test_a_command_of_another_version_is_refused_and_one_that_has_gone_is_not_waited_for():
    hello = b"0.0.1\noptions"
    other = pipe_of(io.BytesIO(_bridge._HEAD.pack(len(hello), b"O") + hello), io.BytesIO())
    with pytest.raises(UsageError, match="install them together"):
        other.first()
    assert pipe_of(io.BytesIO(b"\x05"), io.BytesIO()).first() is None
