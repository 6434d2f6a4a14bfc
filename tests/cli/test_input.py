"""Inputs that are broken, marked, or end early: nothing of them is lost without a word."""

import json
import os
import resource
import subprocess

import pytest

from support.installed import COMMAND

BOM = b"\xef\xbb\xbf"


def test_a_stray_quote_stops_the_input_and_names_the_line_on_which_it_opened(unisono, server, lines, tmp_path):
    rows = [f"{n},v{n}\n" for n in range(1000)]
    rows[3] = '3,"v3\n'
    (tmp_path / "in.csv").write_text("id,v\n" + "".join(rows))
    words = ["fetch", "--from", "in.csv", server.url + "/items/{id}?v={v}", "-o", "r.jsonl"]
    done = unisono(*words)
    assert done.returncode == 125
    assert "`in.csv`" in done.stderr
    assert "line 5: the quote that opens there is never closed" in done.stderr
    assert "997 pending" in done.stderr
    assert [row["outcome"] for row in lines(tmp_path / "r.jsonl")] == ["ok"] * 3
    # Mended, it goes on where it stopped.
    (tmp_path / "in.csv").write_text("id,v\n" + "".join(rows).replace('"', ""))
    assert unisono(*words, "--resume").returncode == 0
    assert sorted(row["row"] for row in lines(tmp_path / "r.jsonl")) == list(range(1000))
    assert len(server.requests) == 1000


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('id,v\n1,a\n2,"b\n3,c\n4,"d"\n', 3),
        ('id,v\n1,"a\n2,""\n3,c\n', 2),
        ('id,v\n1,"a\n2,b\n3,c\n4,d\n5,a"\n6,e\n', 2),
        ('id,"v\n1,a\n', 1),
    ],
)
@pytest.mark.parametrize("command", ["fetch", "each"])
def test_every_kind_of_stray_quote_is_found_out(unisono, server, tmp_path, text, line, command):
    (tmp_path / "in.csv").write_text(text)
    tail = [server.url + "/items/{id}"] if command == "fetch" else ["--", "echo", "{id}"]
    done = unisono(command, "--from", "in.csv", *tail)
    assert done.returncode == 125
    assert f"line {line}: the quote that opens there" in done.stderr


def test_rows_that_do_not_fit_the_header_are_outcomes_of_their_own(unisono, server, lines, tmp_path):
    (tmp_path / "in.csv").write_bytes(b'id,v\n1,a\n2\n3,c,d\n4,"x"y\n5,\xff\n6,\0\n7,g\n')
    done = unisono("fetch", "--from", "in.csv", server.url + "/items/{id}?v={v}", "-k")
    assert done.returncode == 1
    rows = lines(done.stdout)
    assert [row["outcome"] for row in rows] == ["ok", *["failed"] * 5, "ok"]
    assert [row["error"]["kind"] for row in rows[1:6]] == ["input"] * 5
    assert [row["error"]["where"] for row in rows[1:6]] == [f"in.csv:{n}" for n in range(3, 8)]


def test_values_in_quotes_may_have_lines_and_are_not_counted_as_rows(unisono, server, lines, tmp_path):
    (tmp_path / "in.csv").write_text('id,v\n1,"a\nb\nc"\n\n2,x\n')
    done = unisono("fetch", "--from", "in.csv", server.url + "/items/{id}?v={v}")
    assert done.returncode == 0
    assert "pending" not in done.stderr
    assert sorted(server.paths()) == ["/items/1?v=a%0Ab%0Ac", "/items/2?v=x"]


def test_comments_and_empty_lines_are_not_pending(unisono, server, tmp_path):
    (tmp_path / "in.txt").write_text(f"# addresses\n\n{server.url}/items/1\n")
    done = unisono("fetch", "--from", "in.txt")
    assert (done.returncode, "pending" in done.stderr) == (0, False)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_table_may_end_its_lines_in_any_way(unisono, server, tmp_path, end):
    (tmp_path / "in.csv").write_bytes(end.join(["id,v", "1,a", "2,b", ""]).encode())
    assert unisono("fetch", "--from", "in.csv", server.url + "/items/{id}?v={v}").returncode == 0
    assert sorted(server.paths()) == ["/items/1?v=a", "/items/2?v=b"]


@pytest.mark.parametrize("name", ["in.txt", "in.jsonl"])
def test_lines_that_end_with_cr_alone_are_a_failure_that_says_so(unisono, server, lines, tmp_path, name):
    quote = '"' if name.endswith("jsonl") else ""
    (tmp_path / name).write_bytes("".join(f"{quote}{server.url}/items/{n}{quote}\r" for n in range(3)).encode())
    done = unisono("fetch", "--from", name)
    assert done.returncode == 1
    assert "carriage return" in done.stdout
    assert server.requests == []


def test_a_broken_line_of_json_is_an_outcome_and_the_rest_goes_on(unisono, server, lines, tmp_path):
    good = f'{{"url": "{server.url}/items/1"}}\n'
    (tmp_path / "in.jsonl").write_text(good + '{"url": "http://x\n' + good)
    done = unisono("fetch", "--from", "in.jsonl", "-k")
    assert done.returncode == 1
    assert [row["outcome"] for row in lines(done.stdout)] == ["ok", "failed", "ok"]
    assert lines(done.stdout)[1]["error"]["where"] == "in.jsonl:2"


@pytest.mark.parametrize("name", ["in.txt", "in.csv", "in.tsv", "in.jsonl"])
def test_a_byte_order_mark_is_no_part_of_the_first_row(unisono, server, tmp_path, name):
    texts = {
        "in.txt": f"{server.url}/items/1\n",
        "in.csv": f'"url",v\n{server.url}/items/1,2\n',
        "in.tsv": f"url\tv\n{server.url}/items/1\t2\n",
        "in.jsonl": f'{{"url": "{server.url}/items/1"}}\n',
    }
    (tmp_path / name).write_bytes(BOM + texts[name].encode())
    assert unisono("fetch", "--from", name).returncode == 0
    assert server.paths() == ["/items/1"]


def test_a_byte_order_mark_is_dropped_from_items_names_and_manifests_too(unisono, tmp_path):
    (tmp_path / "in.txt").write_bytes(BOM + b"a\nb\n")
    assert unisono("each", "--from", "in.txt", "-k", "--", "echo", "[{}]").stdout == "[a]\n[b]\n"
    (tmp_path / "a").write_text("x")
    (tmp_path / "names").write_bytes(BOM + b"a\n")
    listed = unisono("sum", "--from", "names")
    assert listed.returncode == 0
    (tmp_path / "SUMS").write_bytes(BOM + listed.stdout.encode())
    assert unisono("sum", "--check", "SUMS").stdout == "a: OK\n"


@pytest.mark.parametrize("name", ["in.txt", "in.csv", "in.jsonl"])
@pytest.mark.parametrize("command", ["fetch", "each"])
def test_utf_16_is_named_and_nothing_is_run(unisono, server, tmp_path, name, command):
    (tmp_path / name).write_bytes("id\nx\n".encode("utf-16"))
    tail = [server.url + "/items/{id}"] if command == "fetch" else ["--", "touch", "done"]
    done = unisono(command, "--from", name, *tail)
    assert done.returncode == 125
    assert "UTF-16" in done.stderr
    assert "iconv" in done.stderr
    assert "input is empty" not in done.stderr
    assert server.requests == []
    assert not (tmp_path / "done").exists()


def test_a_body_of_json_may_begin_with_a_byte_order_mark(unisono, server, lines, tmp_path):
    (tmp_path / "body.json").write_bytes(BOM + b'{"n": 1}')
    done = unisono("fetch", server.url + "/echo", "--json", "@body.json")
    assert lines(done.stdout)[0]["body"]["body"] == '{"n": 1}'
    (tmp_path / "body.json").write_bytes('{"n": 1}'.encode("utf-16"))
    done = unisono("fetch", server.url + "/echo", "--json", "@body.json")
    assert done.returncode == 2
    assert "UTF-16" in done.stderr


@pytest.mark.parametrize("words", [["fetch", "--from", "-", "http://127.0.0.1:1/{line}"], ["each", "--", "echo"]])
def test_a_standard_input_that_is_closed_or_a_folder_is_no_empty_one(tmp_path, words):

    for redirection, why in [("<&-", "closed"), (f"<{tmp_path}", "directory")]:
        script = ["sh", "-c", f'exec "$@" {redirection}', "sh", COMMAND, *words]
        done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 2
        assert why in done.stderr


def test_a_line_longer_than_a_row_may_be_is_refused_with_bounded_memory(tmp_path):

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    reader, writer = os.pipe()
    process = subprocess.Popen(
        [COMMAND, "each", "--", "echo"], stdin=reader, stderr=subprocess.PIPE, text=True, preexec_fn=limit
    )
    os.close(reader)
    try:
        for _ in range(2000):
            os.write(writer, b"x" * (1 << 20))
    except BrokenPipeError:
        pass
    os.close(writer)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 125
    assert "line 1 has more than 64 MiB" in stderr


@pytest.mark.parametrize(
    "text",
    ["{-9223372036854775808..9223372036854775807}", "{1..99999999999999999999}", "{1..1e9}", "{,}", "{0..10..0}"],
)
def test_a_range_that_cannot_be_counted_is_an_error_and_not_an_empty_run(unisono, server, text):
    done = unisono("fetch", f"{server.url}/items/{text}")
    assert done.returncode == 2
    assert text in done.stderr
    assert server.requests == []


def test_more_combinations_than_can_be_counted_are_an_error(unisono, server):
    done = unisono("fetch", server.url + "/{1..9999999999}/{1..9999999999}")
    assert done.returncode == 2
    assert "more combinations" in done.stderr


@pytest.mark.parametrize("name", ["data", "content", "form", "payload", "text"])
def test_a_row_that_calls_its_body_by_another_name_is_not_sent_without_one(unisono, server, lines, tmp_path, name):
    row = {"url": server.url + "/echo", "method": "POST", name: "x"}
    rows = [row, {**row, "body": "b"}, {"url": server.url + "/items/1", name: "x"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = unisono("fetch", "--from", "in.jsonl", "-k")
    assert done.returncode == 1
    # With a body, or with a method that has none, it is a column like any other.
    refused, *others = lines(done.stdout)
    assert [row["outcome"] for row in others] == ["ok", "ok"]
    assert (refused["outcome"], refused["effect"], refused["error"]["kind"]) == ("failed", "none", "input")
    assert f"`{name}` is no member of a request" in refused["error"]["message"]
    assert len(server.requests) == 2
