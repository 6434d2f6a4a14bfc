"""Files that items write to, and the canary, from Python: the same as on the command line (tests/cli/test_save.py)."""

import json
import os

import pytest

from unisono import UsageError, batch, commands, fetch, files


def test_a_name_belongs_to_the_first_request_and_nothing_is_sent_for_the_second(server, tmp_path):
    urls = [f"{server.url}/items/{number}" for number in (1, 2)]
    first, second = fetch(urls, save=str(tmp_path / "out/x"), keep_order=True)
    assert first.ok
    assert second.error.kind == "save"
    assert "row `r0`" in str(second.error)
    assert server.paths() == ["/items/1"]
    assert json.loads((tmp_path / "out/x").read_text())["id"] == 1


def test_a_name_belongs_to_the_first_command_with_and_without_items(tmp_path):
    for options in ({"commands": ["echo", "{}"], "items": ["a", "b"]}, {"commands": [["echo", "a"], ["echo", "b"]]}):
        report = commands.each(**options, save=tmp_path / "x", overwrite=True).run()
        assert (report.ok, report.exit_code) == (1, 1)
        assert (tmp_path / "x").read_text() == "a\n"


def test_what_is_there_is_replaced_only_where_that_is_said(server, tmp_path):
    (tmp_path / "x").write_text("mine")
    options = {"save": str(tmp_path / "x"), "out": tmp_path / "r.jsonl"}
    urls = [server.url + "/items/1"]
    assert fetch(urls, **options).run().ok == 0
    assert fetch(urls, retry_failed=True, **options).run().ok == 0
    assert (server.requests, (tmp_path / "x").read_text()) == ([], "mine")
    assert fetch(urls, retry_failed=True, overwrite=True, **options).run().ok == 1


@pytest.mark.parametrize("options", [{"select": ".a"}, {"paginate": "link"}])
def test_a_body_that_is_looked_into_is_not_saved(server, tmp_path, options):
    with pytest.raises(UsageError, match="save"):
        fetch([server.url], save=str(tmp_path / "x"), **options).run()


def test_a_slot_cannot_name_a_file(tmp_path):
    for make in (
        lambda: commands.each(["echo", "{}"], items=["a"], save="{%}"),
        lambda: commands.each([["echo"]], save="{%}"),
    ):
        with pytest.raises(UsageError, match="matter of luck"):
            make().run()


def test_overwrite_with_resume_and_nothing_saved_is_a_mistake(server, tmp_path):
    with pytest.raises(UsageError, match="not both"):
        fetch([server.url], out=tmp_path / "r", resume=True, overwrite=True).run()


def test_the_canary_is_waited_for_by_every_kind_of_work(server, tmp_path):
    ran = []

    def work(item):
        ran.append(item)
        if item == 1:
            raise ValueError(item)

    report = batch(work, range(100), canary=2).run()
    assert (report.stopped, report.exit_code, sorted(ran)) == ("Canary", 3, [0, 1])
    ran.clear()
    assert batch(work, [0, 2, 3, 4], canary=2).run().exit_code == 0
    report = fetch([server.url + "/status/404", server.url + "/items/1"], canary=1).run()
    assert (report.stopped, server.paths()) == ("Canary", ["/status/404"])
    report = commands.each([["false"], ["touch", str(tmp_path / "ran")]], canary=1).run()
    assert (report.stopped, (tmp_path / "ran").exists()) == ("Canary", False)
    assert files.digest([tmp_path / "gone", tmp_path], canary=1).run().stopped == "Canary"


@pytest.mark.parametrize("more", [{}, {"out": "r.jsonl"}])
def test_a_name_to_save_to_that_is_no_text_is_a_mistake_that_names_it(server, tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    for save in (os.fsdecode(b"a\xff"), b"a\xff", 5):
        with pytest.raises(UsageError, match="save must be text"):
            fetch([f"{server.url}/items/1"], save=save, **more).run()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["cacert", "cert", "cert_key", "netrc", "unix_socket"])
def test_a_file_that_is_named_in_bytes_is_the_file(server, tmp_path, name):
    path = os.fsencode(tmp_path) + b"/a\xff"
    more = {"cert": path} if name == "cert_key" else {}
    try:
        report = fetch([f"{server.url}/items/1"], retries=0, **{name: path}, **more).run()
    except UsageError as error:
        assert "No such file" in str(error)
    else:
        assert "No such file" in str(report.errors)
