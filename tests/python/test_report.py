"""What a report says as text, and where it does not know a number."""

import pytest

import unisono
from unisono import UsageError, batch, commands
from unisono._batches.report import KINDS, Report


def fail(number):
    raise LookupError(number)


@pytest.mark.parametrize("options", [{}, {"out": "results.jsonl"}], ids=["kept", "written"])
def test_how_many_are_pending_of_an_input_that_did_not_end_is_not_known(options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = batch(fail, iter(range(100_000)), limit=2, max_failures=1, **options).run()
    assert report.pending is None
    report = batch(
        fail, list(range(100_000)), limit=2, max_failures=1, **options, **({"overwrite": True} if options else {})
    )
    report = report.run()
    assert report.pending + report.total == 100_000


def numbers(**changes):
    made = {
        "counts": dict.fromkeys(KINDS, 0) | {"ok": 3, "failed": 5},
        "kept": dict.fromkeys(KINDS, 0),
        "passing": {},
        "pending": 0,
        "retries": 0,
        "bytes": 0,
        "seconds": 100.0,
        "latency": (None, None, None),
        "errors": [],
        "failures": [],
        "warnings": [],
        "malformed": 0,
        "stopped": None,
        "exit_code": 1,
        "keys": {},
    }
    return made | changes


def host(**changes):
    return dict.fromkeys(KINDS, 0) | {"throttled_seconds": 0.0, "away_seconds": 0.0} | changes


def test_a_report_says_how_long_hosts_were_away_and_what_runs_again():
    hosts = {"db-2": host(ok=1, away_seconds=65.4), "db-1": host(ok=2, failed=5)}
    text = str(Report(numbers(keys=hosts, passing={"connect": 2, "away": 3}), [], key="host"))
    assert "\ndb-2: away for 1m5s\n" in text
    assert text.endswith(
        "note: resume=True runs 2 connect, 3 away again: decided by a host's absence or a limit, not by the item"
    )
    assert "away" not in str(Report(numbers(keys={"db-1": host(ok=2)}), []))


def test_an_outcome_says_where_standard_error_was_saved(tmp_path):
    words = ["sh", "-c", "echo out; echo err >&2"]
    (outcome,) = commands.each([words], save=tmp_path / "x")
    assert (outcome.result.saved, outcome.result.saved_stderr) == (tmp_path / "x", tmp_path / "x.stderr")
    assert outcome.result.saved_stderr.read_text() == "err\n"
    (outcome,) = commands.each([words])
    assert (outcome.result.saved, outcome.result.saved_stderr) == (None, None)


def test_results_are_kept_in_any_path_that_open_takes(tmp_path):
    for out in (str(tmp_path / "a"), tmp_path / "b", bytes(tmp_path / "c"), bytes(tmp_path / "\udcff")):
        assert batch(str, [1], out=out).run().ok == 1
        assert [line["item"] for line in unisono.read_results(out)] == [1]


@pytest.mark.parametrize("out", [3, True, ["a"], 1.5])
def test_results_that_are_no_path_are_refused_in_our_words(out):
    with pytest.raises(UsageError, match=r"^out: expected a path \(str, bytes or os\.PathLike\), not "):
        batch(str, [1], out=out).run()
