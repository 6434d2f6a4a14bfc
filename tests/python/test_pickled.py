"""Outcomes, responses, requests and errors go to other processes and come back as what they were."""

import copy
import pickle
import subprocess
import sys

import pytest

import unisono
from unisono import Client, Request, batch, commands, fetch, files

LONG = 60


def same(thing):
    """What has come back from a process that is started anew."""
    again = "import pickle, sys; sys.stdout.buffer.write(pickle.dumps(pickle.load(sys.stdin.buffer)))"
    done = subprocess.run(
        [sys.executable, "-c", again], input=pickle.dumps(thing), stdout=subprocess.PIPE, timeout=LONG
    )
    assert done.returncode == 0
    return pickle.loads(done.stdout)


def shown(outcome):
    """What an outcome says of itself."""
    names = [name for name in dir(outcome) if not name.startswith("_") and name not in ("check", "result", "error")]
    values = {name: getattr(outcome, name) for name in names}
    item = values.pop("item")
    error = outcome.error
    return (
        repr(outcome),
        outcome._number,
        values,
        repr(item),
        None if error is None else (type(error), str(error), error.args),
    )


def described(result):
    names = [name for name in dir(result) if not name.startswith("_")]
    return {name: repr(value) for name in names if not callable(value := getattr(result, name, None))}


def raising(item):
    try:
        raise KeyError(item)
    except KeyError as inner:
        error = OSError(f"no {item}")
        error.add_note("a note")
        raise error from inner


def outcomes_of(kind, server, tmp_path):
    if kind == "requests":
        asked = [
            server.url + "/items/1",
            Request(
                server.url + "/echo", json={"a": 1}, headers={"X-A": "1"}, timeout=5, expect="2xx", auth=("a", "b")
            ),
            {"url": server.url + "/status/404"},
            server.url + "/later",
            "http://127.0.0.1:9/",
            "no address",
            server.url + "/cut",
        ]
        return fetch(asked, retries=0, host_away=0, keep_order=True, max_wait=1).run().outcomes
    if kind == "pages":
        return fetch([server.url + "/pages/1"], paginate="link", select=".page", keep_order=True).run().outcomes
    if kind == "files":
        (tmp_path / "a").write_text("text")
        (tmp_path / "link").symlink_to("a")
        made = files.digest([tmp_path, tmp_path / "missing"], algorithms=["md5", "blake3"], keep_order=True)
        return made.run().outcomes
    if kind == "commands":
        words = [["echo", "a"], ["sh", "-c", "echo no >&2; exit 3"], ["no-such-program"], ["sh", "-c", "kill -9 $$"]]
        words.append(["head", "-c", "3000000", "/dev/zero"])
        return commands.each(words, keep_order=True).run().outcomes
    return batch(raising, ["a"]).run().outcomes + batch(len, ["bc"]).run().outcomes


@pytest.mark.parametrize("kind", ["requests", "pages", "files", "commands", "functions"])
def test_an_outcome_is_the_same_in_another_process(kind, server, tmp_path):
    outcomes = outcomes_of(kind, server, tmp_path)
    for outcome, again in zip(outcomes, same(outcomes), strict=True):
        assert shown(again) == shown(outcome)
        assert type(again) is type(outcome)
        assert described(again.result) == described(outcome.result)
    assert shown(copy.copy(outcomes[0])) == shown(outcomes[0])


def test_what_a_function_raised_keeps_its_cause_and_its_notes(server, tmp_path):
    again = same(outcomes_of("functions", server, tmp_path))[0].error
    assert (repr(again), again.__notes__) == ("OSError('no a')", ["a note"])
    assert repr(again.__cause__) == "KeyError('a')"


def test_a_response_and_its_error_are_the_same_in_another_process(server):
    with Client() as client:
        response = client.get(server.url + "/status/404")
    again = same(response)
    assert described(again) == described(response)
    assert again.json() == {"status": 404}
    with pytest.raises(unisono.StatusError) as raised:
        response.raise_for_status()
    raised.value.add_note("a note")
    raised.value.__cause__ = OSError("why")
    error = same(raised.value)
    assert (str(error), error.__notes__, error.kind, error.attempts) == (str(raised.value), ["a note"], "status", 1)
    assert error.response.status_code == 404
    assert repr(error.__cause__) == "OSError('why')"
    assert error.__suppress_context__


def test_a_request_that_was_pickled_is_sent_as_it_was(server):
    request = Request(
        server.url + "/echo",
        method="PUT",
        id="x",
        params={"a": [1, True]},
        headers={"X-A": "1"},
        json={"ü": 1},
        timeout="none",
        deadline=60,
        retries=2,
        expect=[200, "404"],
        follow_redirects=False,
        cookies={"c": "1"},
        auth=("me", "pw"),
        idempotency_key=True,
    )
    again = same(request)
    assert (repr(again), again.id, again.headers, again.content) == (
        repr(request),
        "x",
        [("X-A", "1")],
        b'{"\xc3\xbc":1}',
    )
    with Client() as client:
        assert client.send(again).json() == client.send(request).json()


@pytest.mark.parametrize(
    "kind", [one for one in vars(unisono.errors).values() if isinstance(one, type) and issubclass(one, unisono.Error)]
)
def test_every_error_comes_back_with_its_fields_its_cause_and_its_notes(kind):
    error = kind("why", [ValueError("inner")]) if issubclass(kind, ExceptionGroup) else kind("why")
    error.kind_of_mine = "x"
    error.add_note("a note")
    error.__cause__ = unisono.Error("inner")
    error.__cause__.__cause__ = KeyError("innermost")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.__dict__) == (kind, str(error), error.__dict__)
    assert repr(again) == repr(error)
    assert (repr(again.__cause__), repr(again.__cause__.__cause__)) == ("Error('inner')", "KeyError('innermost')")


def test_what_cannot_be_pickled_is_said_by_what_it_is():
    outcome = batch(lambda item: item, [lambda: None]).run().outcomes[0]
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(outcome)
