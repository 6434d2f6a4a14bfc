"""A results file is gone on with: another input loses nothing, what was done is never forgotten, and `--rebind` goes by ids."""

import collections
import json
import resource
import shutil
import signal

import pytest

import unisono as module
from support.scripted_server import ScriptedServer, answer


def entries(path) -> dict[str, dict]:
    return {line["id"]: line for line in module.read_results(path)}


def rows(path, *named: tuple[str, str], **members: object) -> list[str]:
    """Rows of JSON, each with an id and an address, and the words that run them."""
    path.write_text("".join(json.dumps({"id": name, "url": url, **members}) + "\n" for name, url in named))
    return ["fetch", "--from", path.name, "--retries", "0", "-o", "r.jsonl"]


def posted(server) -> list[str]:
    return sorted(path for method, path, *_ in server.requests if method == "POST")


def kill_on_its_way(start, server, words: list[str], orders: int) -> None:
    """A run that is killed when so many orders were sent; those that are held have no answer by then, and have one later."""
    process = start(*words)
    server.wait_until(lambda: len(posted(server)) == orders)
    process.send_signal(signal.SIGKILL)
    process.wait()
    server.gate.set()


@pytest.mark.parametrize("how", ["copied", "moved", "its run file is lost"])
def test_results_without_an_outcome_are_not_new_ones_whatever_becomes_of_them(unisono, start, server, tmp_path, how):
    words = ["fetch", f"{server.url}/held/{{1..2}}", "-X", "POST", "-o", "r.jsonl"]
    kill_on_its_way(start, server, words, 2)
    out = tmp_path / "r.jsonl"
    assert out.read_bytes().startswith(b'{"run":"') and out.read_bytes().endswith(b'","open":1,')
    assert list(module.read_results(out)) == []
    if how == "its run file is lost":
        (tmp_path / "r.jsonl.run").unlink()
    else:
        (tmp_path / "d").mkdir()
        {"copied": shutil.copy, "moved": shutil.move}[how](out, tmp_path / "d/r.jsonl")
        words[-1] = "d/r.jsonl"
    for flags, status, says in [(["--resume"], 2, "has not ended"), ([], 2, "exists already")]:
        done = unisono(*words, *flags)
        assert (done.returncode, says in done.stderr) == (status, True), done.stderr
    assert unisono(*words, "--adopt").returncode == 1
    assert [line["outcome"] for line in module.read_results(tmp_path / words[-1])] == ["ambiguous"] * 2
    assert len(posted(server)) == 2


def test_a_run_of_no_rows_leaves_an_empty_file(unisono, tmp_path):
    (tmp_path / "none.jsonl").write_text("")
    assert unisono("fetch", "--from", "none.jsonl", "-o", "r.jsonl").returncode == 0
    assert (tmp_path / "r.jsonl").read_bytes() == b""
    assert not (tmp_path / "r.jsonl.run").exists()


@pytest.mark.parametrize("flag", ["--retry-failed", "--retry-ambiguous", "--resume"])
def test_another_input_is_refused_and_no_line_goes(unisono, tmp_path, flag):
    script = {"/a": [answer(200)], "/b": [answer(500)], "/c": [answer(500)], "/d": [answer(200)]}
    with ScriptedServer(script) as server:
        first = rows(
            tmp_path / "in.jsonl", ("a", server.url + "/a"), ("b", server.url + "/b"), ("c", server.url + "/c")
        )
        assert unisono(*first).returncode == 1
        before = (tmp_path / "r.jsonl").read_bytes()
        sent = len(server.ledger)
        for other in [("a", "/d"), ("b", "/d")]:
            urls = {"a": "/a", "b": "/b", "c": "/c", other[0]: other[1]}
            words = rows(tmp_path / "other.jsonl", *((name, server.url + url) for name, url in urls.items()))
            done = unisono(*words, flag)
            assert done.returncode == 2, done.stderr
            assert f"row {'abc'.index(other[0])} is not what it was" in done.stderr and "--rebind" in done.stderr
            assert (tmp_path / "r.jsonl").read_bytes() == before
        assert len(server.ledger) == sent


def test_lines_of_items_that_are_not_in_this_input_stay_when_each_runs_again_what_failed(unisono, lines, tmp_path):
    words = ["each", "-o", "r.jsonl", "--", "sh", "-c", 'test -e "$1"', "sh", "{}", ":::"]
    assert unisono(*words, "a", "b", "c").returncode == 1
    (tmp_path / "b").touch()
    done = unisono(words[0], "--retry-failed", *words[1:], "b", "new")
    assert "2 outcomes of earlier runs belong to no item of this input; they are kept" in done.stderr
    by_item = {line["item"]: (line["row"], line["outcome"]) for line in lines(tmp_path / "r.jsonl")}
    # What runs again keeps its number.
    assert by_item == {"a": (0, "failed"), "b": (1, "ok"), "c": (2, "failed"), "new": (4, "failed")}


def test_lines_of_items_that_are_not_in_this_input_stay_when_python_calls_again_what_failed(tmp_path):
    out = tmp_path / "r.jsonl"
    missing = {1, 2, 3}

    def call(number: int) -> int:
        if number in missing:
            raise ValueError(number)
        return number

    module.batch(call, [1, 2, 3], out=out).run()
    missing.remove(2)
    report = module.batch(call, [2, 4], out=out, retry_failed=True).run()
    assert sorted((line["item"], line["outcome"]) for line in module.read_results(out)) == [
        (1, "failed"),
        (2, "ok"),
        (3, "failed"),
        (4, "ok"),
    ]
    assert (report.ok, report.failed) == (2, 2)


def test_another_input_is_refused_by_python_and_no_line_goes(tmp_path):
    with ScriptedServer({"/a": [answer(200)], "/b": [answer(500)], "/d": [answer(200)]}) as server:
        out = tmp_path / "r.jsonl"
        module.fetch([server.url + "/a", server.url + "/b"], out=out, retries=0).run()
        before = out.read_bytes()
        for other in (["/d", "/b"], ["/a", "/d"], ["/a"]):
            with pytest.raises(module.UsageError, match="the input has changed"):
                module.fetch([server.url + path for path in other], out=out, retry_failed=True).run()
            assert out.read_bytes() == before


def test_a_row_that_made_no_sense_may_be_mended_and_tried_again(unisono, server, lines, tmp_path):
    (tmp_path / "in.csv").write_text("id,x\n1,one\n2\n")
    words = ["fetch", "--from", "in.csv", f"{server.url}/items/{{id}}?x={{x}}", "-o", "r.jsonl"]
    assert unisono(*words).returncode == 1
    (tmp_path / "in.csv").write_text("id,x\n1,one\n2,two\n")
    assert unisono(*words, "--resume").returncode == 2
    assert unisono(*words, "--retry-failed").returncode == 0
    assert [line["outcome"] for line in lines(tmp_path / "r.jsonl")] == ["ok", "ok"]


def test_what_may_have_been_done_stays_so_when_a_later_attempt_does_nothing(unisono, lines, tmp_path):
    # Cut off after it was read, then refused, then accepted.
    with ScriptedServer({"/o": [b"", answer(429, "Retry-After: 100000")]}) as server:
        words = ["fetch", server.url + "/o", "-X", "POST", "-o", "r.jsonl", "--retries", "0"]
        assert unisono(*words).returncode == 1
        for flag in ("--retry-ambiguous", "--resume", "--retry-failed"):
            assert unisono(*words, flag).returncode == 1
            [line] = lines(tmp_path / "r.jsonl")
            assert (line["outcome"], line["effect"]) == ("ambiguous", "maybe"), flag
        assert server.count("POST") == 2


def test_rows_that_never_started_are_not_counted_among_what_could_not_be_kept(server, unisono, start, tmp_path):
    words = ["fetch", f"{server.url}/held/{{1..9}}", "-X", "POST", "-j", "2", "-o", "r.jsonl"]
    process = start(*words)
    server.wait_until(lambda: len(server.requests) == 2)
    (tmp_path / "r.jsonl").unlink()
    server.gate.set()
    _, said = process.communicate()
    assert process.returncode == 125
    assert "2 outcomes could not be kept" in said, said


def test_a_disk_that_is_full_when_the_run_begins_leaves_nothing(server, unisono, tmp_path):
    def bounded() -> None:
        # Room for the run file's header, and not for one byte more in any file but the smallest.
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))

    done = unisono("fetch", server.url + "/items/1", "-o", "r.jsonl", preexec_fn=bounded)
    assert done.returncode == 125, done.stderr
    assert server.requests == []
    assert list(tmp_path.iterdir()) == []


def test_rebind_knows_rows_by_their_ids_wherever_they_stand(unisono, lines, tmp_path):
    script = {f"/{name}": [answer(200)] for name in "abcde"} | {"/f": [answer(500), answer(200)]}
    with ScriptedServer(script) as server:
        url = server.url
        words = rows(tmp_path / "in.jsonl", ("a", url + "/a"), ("f", url + "/f"), ("b", url + "/b"), ("c", url + "/c"))
        assert unisono(*words).returncode == 1
        # Another order, one gone, two new.
        words = rows(
            tmp_path / "in.jsonl",
            ("d", url + "/d"),
            ("c", url + "/c"),
            ("a", url + "/a"),
            ("e", url + "/e"),
            ("f", url + "/f"),
        )
        assert unisono(*words, "--resume").returncode == 2
        done = unisono(*words, "--rebind", "--retry-failed")
        assert done.returncode == 0, done.stderr
        assert "1 row of earlier runs is not in this input, and its outcome is kept: `b`" in done.stderr
        by_id = {name: (line["row"], line["outcome"]) for name, line in entries(tmp_path / "r.jsonl").items()}
        assert by_id == {
            "a": (0, "ok"),
            "f": (1, "ok"),
            "b": (2, "ok"),
            "c": (3, "ok"),
            "d": (4, "ok"),
            "e": (7, "ok"),
        }
        assert sorted(path for _, path, _ in server.ledger) == ["/a", "/b", "/c", "/d", "/e", "/f", "/f"]
        assert unisono(*words, "--rebind").returncode == 0
        assert len(server.ledger) == 7


@pytest.mark.parametrize(
    ("names", "urls", "says"),
    [
        ("ab", ("/a", "/x"), "the row `b` asks for something else than it did when it was row 1"),
        ("aab", ("/a", "/a", "/b"), "two rows of the input have the id `a`"),
        ("ba", ("/b", "/x"), "its url was"),
    ],
)
def test_rebind_refuses_what_it_cannot_tell_apart_before_anything_runs(unisono, tmp_path, names, urls, says):
    with ScriptedServer({path: [answer(200)] for path in ("/a", "/b", "/x", "/new")}) as server:
        words = rows(tmp_path / "in.jsonl", ("a", server.url + "/a"), ("b", server.url + "/b"))
        assert unisono(*words).returncode == 0
        before = (tmp_path / "r.jsonl").read_bytes()
        pairs = [("new", server.url + "/new"), *zip(names, (server.url + url for url in urls), strict=True)]
        words = rows(tmp_path / "in.jsonl", *pairs)
        done = unisono(*words, "--rebind")
        assert done.returncode == 2, done.stderr
        assert says in done.stderr, done.stderr
        assert (tmp_path / "r.jsonl").read_bytes() == before
        assert len(server.ledger) == 2


def test_orders_that_were_on_their_way_stay_in_doubt_by_their_ids_across_rebind(unisono, start, server, tmp_path):
    url = server.url
    order = {"json": {"order": 1}}
    words = rows(
        tmp_path / "in.jsonl", ("x", url + "/held/1"), ("y", url + "/held/2"), ("z", url + "/items/3"), **order
    )
    kill_on_its_way(start, server, words, 3)
    done = [name for name, line in entries(tmp_path / "r.jsonl").items() if line["outcome"] == "ok"]
    assert done in ([], ["z"])
    words = rows(
        tmp_path / "in.jsonl", ("new", url + "/items/9"), ("z", url + "/items/3"), ("y", url + "/held/2"), **order
    )
    for _ in range(2):
        assert unisono(*words, "--rebind").returncode == 1
        lines = entries(tmp_path / "r.jsonl")
        assert lines["y"]["outcome"] == "ambiguous" and lines["new"]["outcome"] == "ok"
    # The one that was gone is still in doubt when it is back.
    words = rows(tmp_path / "in.jsonl", ("x", url + "/held/1"), ("y", url + "/held/2"), **order)
    assert unisono(*words, "--rebind").returncode == 1
    assert entries(tmp_path / "r.jsonl")["x"]["outcome"] == "ambiguous"
    assert posted(server) == sorted(["/held/1", "/held/2", "/items/3", "/items/9"])


def test_orders_on_their_way_that_are_gone_from_the_input_get_their_lines_and_are_named(
    unisono, start, server, tmp_path
):
    url = server.url
    named = [('x "1"\\', url + "/held/1"), ("y", url + "/held/2"), ("z", url + "/held/3")]
    words = rows(tmp_path / "in.jsonl", *named, json={"order": 1})
    kill_on_its_way(start, server, words, 3)
    words = rows(tmp_path / "in.jsonl", ("new", url + "/items/9"), named[2], json={"order": 1})
    for told in (
        '2 rows that an earlier run had started when it was killed are not in this input, and they stay in doubt: `x "1"\\`, `y`',
        '2 rows of earlier runs are not in this input, and their outcomes are kept: `x "1"\\`, `y`',
    ):
        done = unisono(*words, "--rebind")
        assert done.returncode == 1
        assert told in done.stderr, done.stderr
        assert "3 ambiguous" in done.stderr and "pending" not in done.stderr
        lines = entries(tmp_path / "r.jsonl")
        assert {name: line["outcome"] for name, line in lines.items()} == {
            'x "1"\\': "ambiguous",
            "y": "ambiguous",
            "z": "ambiguous",
            "new": "ok",
        }
        assert all(lines[name]["effect"] == "maybe" for name, _ in named)
        # Nothing is in doubt that has no line.
        assert not (tmp_path / "r.jsonl.run").exists()
    # When they are back they are what their lines say.
    words = rows(tmp_path / "in.jsonl", *named, ("new", url + "/items/9"), json={"order": 1})
    assert unisono(*words, "--rebind").returncode == 1
    assert len(posted(server)) == 4
    assert unisono(*words, "--rebind", "--retry-ambiguous").returncode == 0
    assert len(posted(server)) == 7


def test_an_order_with_a_key_that_is_gone_from_the_input_is_named_and_goes_on_when_it_is_back(
    unisono, start, server, tmp_path
):
    named = [("a", f"{server.url}/held/1"), ("b", f"{server.url}/held/2")]
    words = [*rows(tmp_path / "in.jsonl", *named, json={"order": 1}), "--idempotency-key"]
    kill_on_its_way(start, server, words, 2)
    words = [*rows(tmp_path / "in.jsonl", named[1], json={"order": 1}), "--idempotency-key"]
    done = unisono(*words, "--rebind")
    assert done.returncode == 0, done.stderr
    assert (
        "1 row that an earlier run had started when it was killed is not in this input, and it stays in doubt: `a`"
        in (done.stderr)
    )
    words = rows(tmp_path / "in.jsonl", *named, json={"order": 1})
    assert unisono(*words, "--rebind", "--idempotency-key").returncode == 0
    sent = [headers["idempotency-key"] for _, path, headers, _ in server.requests if path == "/held/1"]
    assert len(sent) == 2 and len(set(sent)) == 1


def test_a_row_that_was_on_its_way_and_is_gone_is_an_outcome_in_python_too(unisono, start, server, tmp_path):
    words = rows(tmp_path / "in.jsonl", ("x", f"{server.url}/held/1"), json={"order": 1})
    kill_on_its_way(start, server, words, 1)
    batch = module.fetch([{"id": "y", "url": f"{server.url}/items/1"}], out=tmp_path / "r.jsonl", rebind=True)
    ended = {outcome.id: outcome.kind for outcome in batch}
    assert ended == {"x": "ambiguous", "y": "ok"}
    assert any("`x`" in warning for warning in batch.report.warnings)
    assert entries(tmp_path / "r.jsonl")["x"]["outcome"] == "ambiguous"


def test_an_order_keeps_its_key_wherever_its_row_stands(unisono, start, server, tmp_path):
    order = {"json": {"order": 1}}
    named = [(f"o{number}", f"{server.url}/held/{number}") for number in range(4)]
    words = [*rows(tmp_path / "in.jsonl", *named, **order), "--idempotency-key"]
    kill_on_its_way(start, server, words, 4)
    words = [*rows(tmp_path / "in.jsonl", *reversed(named[1:]), **order), "--idempotency-key"]
    assert unisono(*words, "--rebind").returncode == 0
    keys: dict[str, set[str]] = {}
    for _, path, headers, _ in server.requests:
        keys.setdefault(path, set()).add(headers["idempotency-key"])
    assert len(server.requests) == 7
    assert all(len(of_one) == 1 for of_one in keys.values()) and len(set.union(*keys.values())) == 4, keys


def test_rows_that_ask_for_the_same_stand_where_their_ids_do_when_rebind_keeps_the_order(unisono, server, tmp_path):
    url = f"{server.url}/items/1"
    named = [(name, url) for name in "abc"]
    assert unisono(*rows(tmp_path / "in.jsonl", *named)).returncode == 0
    order = ["c", "new", "a", "b"]
    words = rows(tmp_path / "in.jsonl", *((name, url) for name in order))
    assert unisono(*words, "--rebind", "--keep-order").returncode == 0
    assert list(entries(tmp_path / "r.jsonl")) == order
    assert len(server.requests) == 4


def without_ids(path, urls):
    path.write_text("".join(json.dumps({"url": url, "json": {"order": 1}}) + "\n" for url in urls))
    return ["fetch", "--from", str(path), "-o", "r.jsonl", "--retries", "0"]


@pytest.mark.parametrize("flag", ["--resume", "--retry-failed", "--rebind"])
def test_an_order_without_an_id_keeps_its_key_when_the_input_is_in_another_order(
    unisono, start, server, tmp_path, flag
):
    """Killed before there is a line, so nothing tells where a row had stood."""
    urls = [f"{server.url}/held/{number}" for number in (0, 1, 2, 1)]
    kill_on_its_way(start, server, [*without_ids(tmp_path / "in.jsonl", urls), "--idempotency-key"], 4)
    words = without_ids(tmp_path / "in.jsonl", [f"{server.url}/items/9", *reversed(urls)])
    assert unisono(*words, "--idempotency-key", flag).returncode == 0
    keys: dict[str, set[str]] = {}
    for _, path, headers, _ in server.requests:
        keys.setdefault(path, set()).add(headers["idempotency-key"])
    # Two of them ask for the same and are two orders all the same.
    assert {path: len(of_one) for path, of_one in keys.items()} == {
        "/held/0": 1,
        "/held/1": 2,
        "/held/2": 1,
        "/items/9": 1,
    }
    assert len(set.union(*keys.values())) == 5
    assert len(server.requests) == 9


@pytest.mark.parametrize("change", ["order", "ids"])
def test_orders_on_their_way_are_held_against_the_input_before_there_is_a_line(
    unisono, start, server, tmp_path, change
):
    named = [(f"o{number}", f"{server.url}/held/{number if change == 'order' else 0}") for number in range(3)]
    words = rows(tmp_path / "in.jsonl", *named, json={"order": 1})
    kill_on_its_way(start, server, words, 3)
    for order in (named[1:], [named[1], named[0], named[2]], [("new", named[2][1]), *named]):
        done = unisono(*rows(tmp_path / "in.jsonl", *order, json={"order": 1}), "--resume")
        assert done.returncode == 2, done.stderr
        assert "the input has changed" in done.stderr and "row 0" in done.stderr
    assert len(posted(server)) == 3


def test_rebind_from_python(tmp_path):
    with ScriptedServer({f"/{name}": [answer(200)] for name in "abc"}) as server:
        out = tmp_path / "r.jsonl"
        row = {name: {"url": f"{server.url}/{name}", "id": name} for name in "abc"}
        module.fetch([row["a"], row["b"]], out=out).run()
        report = module.fetch([row["c"], row["b"]], out=out, rebind=True).run()
        assert sorted(entries(out)) == ["a", "b", "c"]
        assert any("`a`" in warning for warning in report.warnings)
        with pytest.raises(module.UsageError, match="two rows of the input"):
            module.fetch([row["c"], row["c"]], out=out, rebind=True).run()
        assert len(server.ledger) == 3
        # Items of a function are known by what they are, with it as without.
        calls: list[int] = []
        squares = tmp_path / "squares.jsonl"
        module.batch(calls.append, [1, 2], out=squares).run()
        module.batch(calls.append, [2, 3, 1], out=squares, rebind=True).run()
        assert sorted(calls) == [1, 2, 3]


def test_rebind_of_commands_is_what_they_do_in_any_case(unisono, lines, tmp_path):
    words = ["-o", "r.jsonl", "--", "echo", "{}", ":::"]
    assert unisono("each", *words, "a", "b").returncode == 0
    assert unisono("each", "--rebind", *words, "b", "c").returncode == 0
    assert sorted(line["item"] for line in lines(tmp_path / "r.jsonl")) == ["a", "b", "c"]


@pytest.mark.parametrize("key", [[], ["--idempotency-key"]])
def test_a_row_that_a_killed_run_had_sent_is_in_doubt_in_its_line_when_the_next_run_stops_before_its_turn(
    unisono, start, server, tmp_path, key
):
    urls = ("a", "/status/400"), ("b", "/held/1"), ("c", "/held/2")
    words = rows(tmp_path / "in.jsonl", *((name, server.url + path) for name, path in urls), method="POST") + key
    unisono(*words, "--resume", "--limit", "1", "--max-failures", "1")
    assert {name: line["effect"] for name, line in entries(tmp_path / "r.jsonl").items()} == dict.fromkeys(
        "abc", "none"
    )
    kill_on_its_way(start, server, [*words, "--resume"], 3)
    for _ in range(2):
        stopped = unisono(*words, "--resume", "--stop-after", "0.000001s")
        assert stopped.returncode == 124, stopped.stderr
        lines = entries(tmp_path / "r.jsonl")
        told = {name: (line["outcome"], line["effect"]) for name, line in lines.items()}
        doubt = ("cancelled" if key else "ambiguous", "maybe")
        assert told == {"a": ("failed", "none"), "b": doubt, "c": doubt}
        assert "had started it" in lines["b"]["error"]["message"]
    unisono(*words, "--resume")
    sent = collections.Counter(path for _, path, *_ in server.requests)
    assert sent == {"/status/400": 1, "/held/1": 1 + bool(key), "/held/2": 1 + bool(key)}
    if key:
        assert len({headers["idempotency-key"] for *_, headers, _ in server.requests}) == 3


def test_what_a_lost_run_may_have_sent_and_the_input_that_adopts_lacks_is_not_sent_when_it_is_back(
    unisono, start, server, tmp_path
):
    urls = [("a", server.url + "/status/400"), ("b", server.url + "/held/1"), ("c", server.url + "/held/2")]
    words = rows(tmp_path / "in.jsonl", *urls, method="POST")
    unisono(*words, "--resume", "--limit", "1", "--max-failures", "1")
    kill_on_its_way(start, server, [*words, "--resume"], 3)
    (tmp_path / "r.jsonl.run").unlink()
    rows(tmp_path / "in.jsonl", urls[0], method="POST")
    assert unisono(*words, "--adopt", "--rebind").returncode == 1
    rows(tmp_path / "in.jsonl", *urls, method="POST")
    for how in ("--resume", "--retry-failed"):
        assert unisono(*words, how, "--rebind").returncode == 1
    assert {name: line["outcome"] for name, line in entries(tmp_path / "r.jsonl").items()} == dict.fromkeys(
        "abc", "ambiguous"
    )
    assert posted(server) == ["/held/1", "/held/2", "/status/400"]


def test_a_page_behind_a_lost_line_stays_in_doubt_when_it_is_asked_for_again_and_refused(
    unisono, start, server, tmp_path
):
    out = tmp_path / "r.jsonl"
    words = ["fetch", f"{server.url}/held-pages/1", "-X", "POST", "--paginate", "link", "-o", out]
    kill_on_its_way(start, server, words, 2)
    # The line of the first page is torn, as a power cut leaves it.
    out.write_bytes(out.read_bytes()[:-5])

    def told() -> list[tuple[str, str]]:
        return [(line["outcome"], line["effect"]) for line in module.read_results(out)]

    unisono(*words, "--resume")
    assert told() == [("ambiguous", "maybe")]
    unisono(*words, "--retry-ambiguous")
    assert told() == [("ok", "done"), ("ambiguous", "maybe")]
    for how in ("--resume", "--retry-failed"):
        unisono(*words, how)
    assert posted(server) == ["/held-pages/1"] * 2 + ["/held-pages/2"] * 2


def test_a_line_of_a_row_that_a_killed_run_had_sent_keeps_what_it_says_when_rebind_has_no_such_row(
    unisono, start, server, tmp_path
):
    urls = [("a", server.url + "/status/400"), ("b", server.url + "/held/1"), ("c", server.url + "/held/2")]
    words = rows(tmp_path / "in.jsonl", *urls, method="POST")
    unisono(*words, "--resume", "--limit", "1", "--max-failures", "1")
    kill_on_its_way(start, server, [*words, "--resume"], 3)
    rows(tmp_path / "in.jsonl", urls[0], method="POST")
    for says in ("2 rows that an earlier run had started", "2 rows of earlier runs are not in this input"):
        done = unisono(*words, "--rebind")
        assert (done.returncode, says in done.stderr) == (1, True), done.stderr
        assert "2 ambiguous" in done.stderr and "pending" not in done.stderr, done.stderr
        lines = entries(tmp_path / "r.jsonl")
        for name, url in urls[1:]:
            assert (lines[name]["outcome"], lines[name]["effect"], lines[name]["url"]) == ("ambiguous", "maybe", url)
            assert "had started it" in lines[name]["error"]["message"]
        # Nothing is in doubt that no line tells of.
        assert not (tmp_path / "r.jsonl.run").exists()
    rows(tmp_path / "in.jsonl", *urls, method="POST")
    assert unisono(*words, "--rebind").returncode == 1
    assert posted(server) == ["/held/1", "/held/2", "/status/400"]
