"""Downloads: a file that has its name once it is whole, whatever breaks off on the way."""

import asyncio
import fcntl
import hashlib
import itertools
import json

import pytest

import unisono
from support.ranges import CONTENT, Files


@pytest.fixture
def files():
    server = Files()
    yield server
    server.close()


@pytest.fixture(params=["sync", "async"])
def download(request):
    def sync(url, path, **arguments):
        with unisono.Client() as client:
            return client.download(url, path, **arguments)

    def on_a_loop(url, path, **arguments):
        async def main():
            async with unisono.AsyncClient() as client:
                return await client.download(url, path, **arguments)

        return asyncio.run(main())

    return sync if request.param == "sync" else on_a_loop


def known_by(url):
    return hashlib.sha256(url.encode()).hexdigest()


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole_and_nothing_else_is_left(files, download, tmp_path):
    seen = []
    path = download(files.url, tmp_path / "a", progress=lambda received, total: seen.append((received, total)))
    assert (path, path.read_bytes(), left(tmp_path)) == (tmp_path / "a", CONTENT, ["a"])
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)
    assert files.asked[0]["accept-encoding"] == "identity"


def test_what_breaks_off_goes_on_where_it_ended(files, download, tmp_path):
    files.cuts = iter([30_000, 0, 0, 30_000, 0, None])
    assert download(files.url, tmp_path / "a").read_bytes() == CONTENT
    assert [asked.get("range") for asked in files.asked[1:]] == ["bytes=30000-"] * 3 + ["bytes=60000-"] * 2
    assert {asked["if-range"] for asked in files.asked[1:]} == {'"one"'}
    assert left(tmp_path) == ["a"]


def test_a_later_call_goes_on_as_well_and_a_new_version_begins_anew(files, download, tmp_path):
    files.cuts = iter([30_000, 0])
    with pytest.raises(unisono.ConnectError):
        download(files.url, tmp_path / "a", retries=0)
    assert left(tmp_path) == ["a.part", "a.part.json"]
    with pytest.raises(unisono.ConnectError):
        files.cuts = iter([10, 0])
        download(files.url, tmp_path / "a", retries=0)
    assert files.asked[-1]["range"] == "bytes=30010-"
    files.tag, files.content = '"two"', CONTENT[::-1]
    assert download(files.url, tmp_path / "a").read_bytes() == CONTENT[::-1]
    assert left(tmp_path) == ["a"]


def test_what_another_address_has_left_is_not_gone_on_with(files, download, tmp_path):
    (tmp_path / "a.part").write_bytes(b"x" * 100)
    (tmp_path / "a.part.json").write_text(
        json.dumps({"address": known_by("http://other/"), "validator": '"one"', "total": None})
    )
    assert download(files.url, tmp_path / "a").read_bytes() == CONTENT
    assert "range" not in files.asked[0]


@pytest.mark.parametrize(
    ("tag", "extra"),
    [
        (None, []),
        ('W/"one"', []),
        (None, ["Last-Modified: Sat, 01 Jan 2022 00:00:00 GMT", "Date: Sat, 01 Jan 2022 00:00:00 GMT"]),
    ],
)
def test_what_may_be_of_another_version_is_begun_anew(files, download, tmp_path, tag, extra):
    files.tag, files.extra, files.cuts = tag, extra, iter([30_000, None])
    assert download(files.url, tmp_path / "a").read_bytes() == CONTENT
    assert "range" not in files.asked[1]
    files.cuts = itertools.repeat(30_000)
    with pytest.raises(unisono.ConnectError):
        download(files.url, tmp_path / "b", retries=1)
    assert left(tmp_path) == ["a"]


def test_a_time_of_change_tells_versions_apart_when_it_is_past(files, download, tmp_path):
    changed = "Sat, 01 Jan 2022 00:00:00 GMT"
    files.tag, files.cuts = None, iter([30_000, None])
    files.extra = [f"Last-Modified: {changed}", "Date: Sat, 01 Jan 2022 00:00:01 GMT"]
    assert download(files.url, tmp_path / "a").read_bytes() == CONTENT
    assert (files.asked[1]["range"], files.asked[1]["if-range"]) == ("bytes=30000-", changed)


def test_a_server_without_ranges_sends_it_all_again(files, download, tmp_path):
    files.takes_ranges, files.cuts = False, iter([30_000, None])
    assert download(files.url, tmp_path / "a").read_bytes() == CONTENT


def test_a_part_that_has_it_all_already_is_whole_by_the_server_s_word(files, download, tmp_path):
    (tmp_path / "a.part").write_bytes(CONTENT)
    note = {"address": known_by(files.url), "validator": '"one"', "total": len(CONTENT)}
    (tmp_path / "a.part.json").write_text(json.dumps(note))
    assert download(files.url, tmp_path / "a").read_bytes() == CONTENT
    assert [asked.get("range") for asked in files.asked] == [f"bytes={len(CONTENT)}-"]


def test_a_file_that_is_there_is_replaced_only_on_request(files, download, tmp_path):
    (tmp_path / "a").write_bytes(b"mine")
    with pytest.raises(unisono.UsageError, match=r"is there already: overwrite=True replaces it"):
        download(files.url, tmp_path / "a")
    assert ((tmp_path / "a").read_bytes(), files.asked) == (b"mine", [])
    download(files.url, tmp_path / "a", overwrite=True)
    assert ((tmp_path / "a").read_bytes(), left(tmp_path)) == (CONTENT, ["a"])


def test_an_answer_that_is_no_success_leaves_nothing(server, download, tmp_path):
    with pytest.raises(unisono.StatusError):
        download(server.url + "/status/404", tmp_path / "a")
    assert left(tmp_path) == []


def test_two_downloads_never_write_one_file(files, download, tmp_path):
    with (tmp_path / "a.part").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(unisono.UsageError, match="being written by another download"):
            download(files.url, tmp_path / "a")
    for name in ["Range", "accept-encoding"]:
        with pytest.raises(unisono.UsageError, match="is a download's own"):
            download(files.url, tmp_path / "a", headers={name: "x"})


def test_no_link_is_followed_and_no_password_is_written_beside_the_file(files, download, tmp_path):
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    (tmp_path / "a.part").symlink_to(mine)
    with pytest.raises(unisono.UsageError, match="is a symbolic link, which is not followed"):
        download(files.url, tmp_path / "a")
    (tmp_path / "a.part").unlink()
    (tmp_path / "a.part.json").symlink_to(mine)
    assert download(files.url, tmp_path / "a").read_bytes() == CONTENT
    assert (mine.read_bytes(), left(tmp_path)) == (b"mine", ["a", "mine"])
    files.cuts = iter([30_000, 0])
    url = files.url.replace("//", "//ann:hunter2@")
    with pytest.raises(unisono.ConnectError):
        download(url, tmp_path / "b", retries=0)
    assert left(tmp_path) == ["a", "b.part", "b.part.json", "mine"]
    assert "hunter2" not in (tmp_path / "b.part.json").read_text()
    assert download(url, tmp_path / "b").read_bytes() == CONTENT
    assert files.asked[-1]["range"] == "bytes=30000-"


def test_progress_is_shown_on_a_line(files, download, tmp_path, capsys):
    download(files.url, tmp_path / "a", progress=True)
    assert capsys.readouterr().err.endswith("a: 0.1 of 0.1 MiB\n")
