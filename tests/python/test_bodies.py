"""Bodies: forms, forms with files, and what is in files, as calls, requests and rows send them."""

import email
import email.policy
import io
import itertools
import json
import re

import pytest

import unisono


def sent(server, **arguments):
    """What came in of one POST: its headers and its body."""
    with unisono.Client() as client:
        assert client.post(server.url + "/bodies/sink", **arguments).status_code == 200
    _, _, headers, body = server.requests[-1]
    return headers, body


@pytest.fixture(autouse=True)
def sink(server):
    server.bodies["sink"] = b"{}"


def parts(headers, body):
    """By the standard library: disposition, media type and content of each part."""
    head = f"Content-Type: {headers['content-type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + body, policy=email.policy.HTTP)
    assert not message.defects
    return [
        (str(part["content-disposition"]), part.get("content-type"), part.get_payload(decode=True))
        for part in message.iter_parts()
    ]


def test_a_mapping_or_pairs_are_a_form_as_a_browser_sends_it(server):
    form = {"q": "a b&c=é", "n": [1, None, True], "none": None, "empty": ""}
    headers, body = sent(server, data=form)
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert body == b"q=a+b%26c%3D%C3%A9&n=1&n=true&empty="
    assert sent(server, data=[("a", 1), ("a", 2)])[1] == b"a=1&a=2"
    assert sent(server, data={"a": 1}, headers={"Content-Type": "x/y"})[0]["content-type"] == "x/y"


def test_data_that_is_no_form_is_sent_as_it_is(server):
    for data in ["té", "té".encode(), bytearray("té".encode()), io.BytesIO("té".encode())]:
        headers, body = sent(server, data=data)
        assert body == "té".encode()
        assert "content-type" not in headers


def test_a_request_has_one_body(server):
    given = {"json": 1, "content": "x", "data": {"a": 1}}
    for one, other in itertools.combinations(given, 2):
        with pytest.raises(unisono.UsageError, match="a request has one body"):
            unisono.Request(server.url, **{one: given[one], other: given[other]})


def test_fields_and_files_come_as_the_standard_library_reads_them(server, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"of a path")
    (tmp_path / "b.gz").write_bytes(b"packed")
    with (tmp_path / "b.gz").open("rb") as opened:
        headers, body = sent(
            server,
            data={"field": ["x", True], "left": None},
            files={
                "path": tmp_path / "a.txt",
                "open": ("b.gz", opened),
                "bytes": b"raw",
                "named": ("n.json", "{}"),
                "typed": ("n", b"1", "x/y"),
                "several": [("1.txt", b"1"), ("2.txt", tmp_path / "a.txt")],
                "none": None,
            },
        )
    assert int(headers["content-length"]) == len(body)
    found = parts(headers, body)
    assert [part[0] for part in found] == [
        'form-data; name="field"',
        'form-data; name="field"',
        'form-data; name="path"; filename="a.txt"',
        'form-data; name="open"; filename="b.gz"',
        'form-data; name="bytes"; filename="bytes"',
        'form-data; name="named"; filename="n.json"',
        'form-data; name="typed"; filename="n"',
        'form-data; name="several"; filename="1.txt"',
        'form-data; name="several"; filename="2.txt"',
    ]
    binary = "application/octet-stream"
    assert [part[1] for part in found[2:]] == [
        *["text/plain", binary, binary, "application/json", "x/y", "text/plain", "text/plain"]
    ]
    assert [part[2] for part in found] == [
        *[b"x", b"true", b"of a path", b"packed", b"raw", b"{}", b"1", b"1", b"of a path"]
    ]


def test_no_name_of_a_part_ends_its_header(server):
    _, body = sent(server, files={'a"\r\nX: y': ('b"\n', b"")})
    assert b'name="a%22%0D%0AX: y"; filename="b%22%0A"\r\n' in body


def test_the_boundary_of_a_form_is_made_up_for_each_and_is_the_same_in_all_attempts(server):
    with unisono.Client(retries=2) as client:
        for number in range(2):
            client.put(server.url + f"/flaky/1?{number}", files={"f": b"x"})
    boundaries = [re.search("boundary=(.*)", headers["content-type"])[1] for _, _, headers, _ in server.requests]
    assert (len(boundaries), len(set(boundaries))) == (4, 2)
    with pytest.raises(unisono.FetchInputError, match="a form with files has a `Content-Type` of its own"):
        sent(server, files={"f": b"x"}, headers={"Content-Type": "multipart/form-data"})
    # That of a client is for other bodies.
    with unisono.Client(headers={"Content-Type": "application/json"}) as client:
        client.post(server.url + "/bodies/sink", files={"f": b"x"})
    assert parts(server.requests[-1][2], server.requests[-1][3])[0][2] == b"x"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"files": {"f": "a.txt"}}, "files: `f` is text, which may be meant as a path.*pathlib.Path"),
        ({"files": {"f": ("a",)}}, r"files: `f`: expected \(name, content\)"),
        ({"files": {"f": ("a", b"", "x\ny")}}, "media type of part `f`"),
        ({"files": b"x"}, "files= must be a mapping or a list of pairs"),
        ({"files": {"f": b""}, "data": b"x"}, "data= beside files= must be a mapping"),
        ({"files": {"f": io.StringIO("x")}}, "open the file in binary mode"),
        ({"content": 7}, "content must be text, bytes, a path"),
    ],
)
def test_what_cannot_be_a_body_is_refused_with_what_it_should_be(arguments, said):
    with pytest.raises(unisono.UsageError, match=said):
        unisono.Request("http://host/", **arguments)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(unisono.UsageError, match=r"content: cannot read `.*no-such`: No such file"):
        unisono.Request("http://host/", content=tmp_path / "no-such")


def test_rows_that_are_mappings_have_the_words_of_requests_and_of_rows_of_json(server, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"of a path")
    rows = [
        {"data": {"a": 1}},
        {"form": {"a": 1}},
        {"files": {"f": tmp_path / "a.txt"}},
        {"multipart": {"f": {"file": str(tmp_path / "a.txt"), "type": "text/plain"}}},
        {"content": tmp_path / "a.txt"},
        {"body_file": str(tmp_path / "a.txt")},
    ]
    address = server.url + "/bodies/sink"
    for batch in [unisono.fetch, unisono.Client(auth=lambda request: request).batch]:
        server.requests.clear()
        assert [outcome.kind for outcome in batch([{"url": address, **row} for row in rows], limit=1)] == ["ok"] * 6
        bodies = [(headers.get("content-type"), body) for _, _, headers, body in server.requests]
        assert bodies[0] == bodies[1] == ("application/x-www-form-urlencoded", b"a=1")
        assert parts(*server.requests[2][2:]) == parts(*server.requests[3][2:])
        assert bodies[4] == bodies[5] == (None, b"of a path")
    (broken,) = unisono.fetch([{"url": address, "form": {"a": 1}, "json": 1}])
    assert "both `json` and" in str(broken.error) or "a request has one" in str(broken.error)


def test_a_form_with_files_is_known_again_by_its_parts(server, tmp_path):
    out = tmp_path / "out.jsonl"

    def run(content, **options):
        row = {"url": server.url + "/bodies/sink", "files": {"f": content}}
        batch = unisono.fetch([row], out=out, **options)
        return [outcome.kind for outcome in batch]

    run(b"x")
    run(b"x", resume=True)
    assert len(server.requests) == 1
    with pytest.raises(unisono.UsageError, match="row 0 is not what it was"):
        run(b"y", resume=True)
    assert json.loads(out.read_text().splitlines()[0])["outcome"] == "ok"
