"""What is read must not be what is written: refused before anything is opened, whatever it is called."""

import json

import pytest


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("id\n1\n2\n")
    (tmp_path / "soft").symlink_to("in.csv")
    (tmp_path / "hard").hardlink_to(path)
    (tmp_path / "folder").symlink_to(".")
    return path


def refused(done, rows):
    assert done.returncode == 2, done.stderr
    assert "is the same file as" in done.stderr
    assert rows.read_text() == "id\n1\n2\n"


@pytest.mark.parametrize("name", ["in.csv", "./in.csv", "soft", "hard", "folder/in.csv"])
@pytest.mark.parametrize("how", [["--overwrite"], ["--resume"], []])
def test_fetch_refuses_to_write_to_its_rows(unisono, server, rows, name, how):
    done = unisono("fetch", "--from", "in.csv", server.url + "/items/{id}", "-o", name, *how)
    refused(done, rows)
    assert "--from `in.csv`" in done.stderr
    assert f"--out `{name}`" in done.stderr
    assert server.requests == []


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_a_redirected_standard_input_is_seen_through(unisono, server, rows, name):
    with rows.open() as stdin:
        words = ["fetch", "--from", name, "--input-format", "csv", server.url + "/items/{id}", "-o", "in.csv"]
        refused(unisono(*words, "--overwrite", stdin=stdin), rows)


@pytest.mark.parametrize("flag", ["--data", "--json", "-H"])
def test_what_a_body_or_header_is_read_from_is_an_input_too(unisono, server, rows, flag):
    refused(unisono("fetch", server.url, flag, "@in.csv", "-o", "soft", "--overwrite"), rows)


def test_a_run_file_is_no_input(unisono, server, tmp_path):
    run_file = tmp_path / "r.jsonl.run"
    run_file.write_text("http://localhost/\n")
    assert unisono("fetch", "--from", "r.jsonl.run", "-o", "r.jsonl").returncode == 2
    assert run_file.read_text() == "http://localhost/\n"


def test_bodies_are_not_saved_over_the_rows_or_the_results(unisono, server, rows):
    refused(unisono("fetch", "--from", "in.csv", server.url + "/items/{id}", "--save", "hard"), rows)
    done = unisono("fetch", server.url + "/items/1", "--save", "folder/r.jsonl", "-o", "r.jsonl")
    assert done.returncode == 2
    assert server.requests == []


def test_rows_are_not_appended_to_while_they_are_read(unisono, server, rows):
    with rows.open("a") as stdout:
        done = unisono(
            "fetch", "--from", "in.csv", server.url + "/items/{id}", capture_output=False, stdout=stdout, stderr=-1
        )
    refused(done, rows)
    with rows.open("a") as stdout:
        done = unisono("each", "--from", "in.csv", "--", "echo", capture_output=False, stdout=stdout, stderr=-1)
    refused(done, rows)


@pytest.mark.parametrize(
    "words",
    [
        ["each", "--from", "in.csv", "-o", "hard", "--overwrite", "--", "echo", "{id}"],
        ["each", "-o", "soft", "--overwrite", "--", "echo", "::::", "in.csv"],
        ["each", "--from", "in.csv", "--save", "soft", "--", "echo", "{id}"],
        ["sum", "in.csv", "-o", "hard", "--overwrite"],
        ["sum", "--from", "in.csv", "-o", "soft", "--overwrite"],
        ["sum", "--check", "in.csv", "-o", "hard", "--overwrite"],
    ],
)
def test_each_and_sum_refuse_it_as_well(unisono, rows, words):
    refused(unisono(*words), rows)


def test_the_results_of_a_manifest_are_no_input_of_it(unisono, tmp_path):
    (tmp_path / "out.jsonl").write_text("x")
    assert unisono("sum", "out.jsonl", "-o", "out", "--overwrite").returncode == 2
    assert (tmp_path / "out.jsonl").read_text() == "x"


def test_different_files_go_on_as_ever(unisono, server, rows, tmp_path):
    done = unisono("fetch", "--from", "in.csv", server.url + "/items/{id}", "-o", "r.jsonl", "--save", "b-{id}")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["outcome"] for line in (tmp_path / "r.jsonl").read_text().splitlines()] == ["ok", "ok"]
