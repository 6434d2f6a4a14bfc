"""Credentials and headers from Python: never shown, never smuggled."""

import traceback

import pytest

import unisono
from unisono import _native

PASSWORDS = ["hun/ter2", "hun#ter2", "hun?ter2", "hun@ter2", "hun:ter2", "/hunter2", "hun ter2"]


# By name, since a traceback shows lines of this file.
LEAK = "ter2"


def shown(error):
    return "".join(traceback.format_exception(error)) + repr(error) + str(error)


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("begin", ["http://", "http:/", "http:", "//", "", "ftp://"])
def test_a_password_is_in_no_outcome_exception_or_repr(server, password, begin):
    address = f"{begin}bob:{password}@{server.url.removeprefix('http://')}/items/1"
    request = unisono.Request(address, headers={"X-A": "1"})
    for item in (address, request, {"url": address}):
        for outcome in unisono.fetch([item], retries=0):
            error = outcome.error
            text = repr(outcome) + repr(outcome.result) + str(outcome.url) + outcome.id
            assert LEAK not in text + (shown(error) if error is not None else "")
    assert LEAK not in repr(request)
    with unisono.Client(retries=0) as client:
        try:
            assert LEAK not in repr(client.get(address))
        except unisono.Error as error:
            assert LEAK not in shown(error)


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_of_a_proxy_cluster_or_template_is_in_no_exception(monkeypatch, server, password):
    for options in (
        {"proxy": f"http:/bob:{password}@h"},
        {"proxy": f"x://bob:{password}@h"},
        {"proxy": f"bob:{password}@h:1:1"},
        {"template": f"http://bob:{password}@h/{{1..x}}"},
        {"on": f"dask://bob:{password}@h:1"},
        {"on": f"bob:{password}@h:1"},
    ):
        with pytest.raises(unisono.Error) as caught:
            unisono.fetch_all([server.url], **options)
        assert LEAK not in shown(caught.value)
    with pytest.raises(unisono.UsageError) as caught:
        unisono.batch(len, ["a"], executor=f"dask:/bob:{password}@h:1").run()
    assert LEAK not in str(caught.value)
    monkeypatch.setenv("http_proxy", f"http:/bob:{password}@h")
    with pytest.raises(unisono.UsageError) as caught:
        unisono.fetch_all([server.url])
    assert LEAK not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("Content-Length", "3"), ("transfer-encoding", "chunked"), ("Connection", "close"), ("Expect", "100-continue"),
     ("Host", ""), ("X-A", "b\r\nX-C: d"), ("X-A", "b\0"), ("X\r\nA", "b"), ("Proxy-Authorization", "x")],
)  # fmt: skip
def test_a_header_that_would_cut_or_smuggle_is_refused(server, name, value):
    with pytest.raises(unisono.UsageError):
        unisono.fetch_all([server.url + "/echo"], headers={name: value})
    (outcome,) = unisono.fetch_all([unisono.Request(server.url + "/echo", headers={name: value}, content="longer")])
    assert (outcome.kind, outcome.error.kind) == ("failed", "input")
    with unisono.Client() as client, pytest.raises(unisono.Error):
        client.post(server.url + "/echo", headers={name: value}, content="longer")
    assert server.requests == []


def test_the_repr_of_headers_leaves_out_passwords_and_cookies_and_the_values_do_not():
    pairs = [("Location", "http://bob:hun/ter2@h/"), ("Set-Cookie", "a=hunter2"), ("Link", "<//b:ter2@h/>; rel=next")]
    headers = unisono.Headers([*pairs, ("X-Mail", "me@x.org")])
    assert LEAK not in repr(headers)
    assert "me@x.org" in repr(headers)
    assert headers["location"] == "http://bob:hun/ter2@h/"


def test_what_might_be_a_password_is_hidden():
    assert _native.redacted("http://bob:p/w@host/x") == "http://***@host/x"
