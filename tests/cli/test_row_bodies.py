"""Rows that bring forms, forms with files, and files."""

import json


def test_rows_bring_forms_and_files(unisono, server, lines, tmp_path):
    server.bodies["sink"] = b"{}"
    (tmp_path / "a.txt").write_bytes(b"of a path")
    address = server.url + "/bodies/sink"
    rows = [
        {"url": address, "form": {"a": [1, "x y"], "b": None}},
        {"url": address, "multipart": {"t": "text", "f": {"file": "a.txt", "type": "text/plain"}}},
        {"url": address, "method": "PUT", "body_file": "a.txt"},
        {"url": address, "body_file": "no-such"},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = unisono("fetch", "--from", "in.jsonl", "-k", "--limit", "1")
    assert [row["outcome"] for row in lines(done.stdout)] == ["ok", "ok", "ok", "failed"]
    assert "`body_file`: cannot read `no-such`" in lines(done.stdout)[3]["error"]["message"]
    form, multipart, file = server.requests
    assert (form[0], form[3]) == ("POST", b"a=1&a=x+y")
    boundary = multipart[2]["content-type"].removeprefix("multipart/form-data; boundary=")
    assert (
        multipart[3]
        == (
            f'--{boundary}\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n'
            f'of a path\r\n--{boundary}\r\nContent-Disposition: form-data; name="t"\r\n\r\ntext\r\n--{boundary}--\r\n'
        ).encode()
    )
    assert (file[0], file[3]) == ("PUT", b"of a path")


def test_a_dry_run_says_how_long_a_body_is(unisono, tmp_path):
    (tmp_path / "in.jsonl").write_text(json.dumps({"url": "http://host/", "form": {"a": 1}}) + "\n")
    done = unisono("fetch", "--from", "in.jsonl", "--dry-run")
    assert json.loads(done.stdout.splitlines()[0])["body_bytes"] == 3
