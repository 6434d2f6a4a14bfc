"""`Client.pages` and `AsyncClient.pages`: one page at a time, none lost and none twice, and each error says of which."""

import asyncio
import json
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

import unisono
from unisono._http import pages as unisono_pages


class Listing(ThreadingHTTPServer):
    """Pages by number, each with all that may say where the next one is."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Answer)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.last, self.asked, self.heads = 3, [], []
        # By page: what stands in its body in place of the next address, and its status.
        self.next, self.status = {}, {}
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.server.asked.append(self.path)
            self.server.heads.append({name.lower(): value for name, value in self.headers.items()})
            query = parse_qs(urlsplit(self.path).query)
            page = int(query.get("page", ["1"])[0])
            is_last = page >= self.server.last
            following = self.server.next.get(page, None if is_last else f"/list?size=2&page={page + 1}")
            items = [] if page > self.server.last else [f"{page}a", f"{page}b"]
            body = json.dumps({"next": following, "items": items}).encode()
            self.send_response(self.server.status.get(page, 200))
            self.send_header("Content-Length", str(len(body)))
            if following:
                self.send_header("Link", f'<{following}>; rel="next"')
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass


@pytest.fixture
def listing():
    with Listing() as server:
        yield server
        server.shutdown()


class Face:
    """Pages by either client, as a list; what they raise is kept."""

    def __init__(self, is_async):
        self.is_async = is_async

    def run(self, listing, url="/list", *, most=None, select=None, options=None, **arguments):
        """The pages or items, the iterator, and what it raised."""
        options = {"base_url": listing.url, "retries": 0, **(options or {})}
        got = []
        if not self.is_async:
            with unisono.Client(**options) as client:
                pages = client.pages(url, **arguments)
                try:
                    for one in pages if select is None else pages.items(select):
                        got.append(one)
                        if len(got) == most:
                            break
                except unisono.Error as error:
                    return got, pages, error
            return got, pages, None

        async def main():
            async with unisono.AsyncClient(**options) as client:
                pages = client.pages(url, **arguments)
                try:
                    async for one in pages if select is None else pages.items(select):
                        got.append(one)
                        if len(got) == most:
                            break
                except unisono.Error as error:
                    return got, pages, error
            return got, pages, None

        return asyncio.run(main())


@pytest.fixture(params=[False, True], ids=["Client", "AsyncClient"])
def face(request):
    return Face(request.param)


WAYS = {
    "link": {"link": True},
    "next": {"next": ".next"},
    "page": {"page": "page", "until": ".items|length<2"},
}


@pytest.mark.parametrize("way", WAYS)
def test_every_page_comes_once_and_in_order(face, listing, way):
    pages, at, error = face.run(listing, params={"size": 2}, **WAYS[way])
    assert error is None
    assert [page.json()["items"] for page in pages][:3] == [["1a", "1b"], ["2a", "2b"], ["3a", "3b"]]
    assert all(isinstance(page, unisono.Response) for page in pages)
    # That of the first page, the parameters of the call stand in no further address twice.
    assert listing.asked[:3] == ["/list?size=2", "/list?size=2&page=2", "/list?size=2&page=3"]
    assert len(listing.asked) == len(pages) == (4 if way == "page" else 3)
    assert at.following is None


def test_items_come_one_by_one_and_no_page_before_it_is_wanted(face, listing):
    items, _, error = face.run(listing, next=".next", select=".items[]", most=3)
    assert (items, error) == (["1a", "1b", "2a"], None)
    assert len(listing.asked) == 2


def test_a_program_goes_on_where_it_was(face, listing):
    pages, at, _ = face.run(listing, link=True, most=2)
    assert at.position == f"{listing.url}/list?size=2&page=2"
    assert at.following == f"{listing.url}/list?size=2&page=3"
    rest, _, _ = face.run(listing, link=True, start=at.following)
    assert [page.json()["items"][0] for page in pages + rest] == ["1a", "2a", "3a"]
    again, _, _ = face.run(listing, link=True, start=at.position, most=1)
    assert again[0].json()["items"][0] == "2a"


def test_a_page_that_fails_is_named_and_may_be_asked_for_again(face, listing):
    listing.status[2] = 404
    pages, at, error = face.run(listing, link=True)
    assert len(pages) == 1
    assert isinstance(error, unisono.StatusError)
    assert str(error).startswith("page 2: HTTP 404 Not Found for ")
    assert error.response.json()["items"] == ["2a", "2b"]
    listing.status.clear()
    rest, _, error = face.run(listing, link=True, start=at.position)
    assert ([page.json()["items"][0] for page in rest], error) == (["2a", "3a"], None)


def test_a_page_that_does_not_come_is_named(face, listing, away):
    pages, at, error = face.run(listing, f"http://127.0.0.1:{away}/", link=True)
    assert (pages, at.position) == ([], None)
    assert isinstance(error, unisono.ConnectError)
    assert str(error).startswith("page 1: ")


@pytest.mark.parametrize(
    ("following", "said"),
    [
        ("/list?size=2&page=2", "page 2: the next page is this page again"),
        ("/list?page=1", "page 2: the next page is page 1 again: the pages go round in a circle"),
        (7, "page 2: the next page is not an address: 7"),
        ("http://localhost:1/", "page 2: the next page is at http://localhost:1, and what a client sends along"),
    ],
)
def test_what_is_no_next_page_is_told_after_the_page_itself(face, listing, following, said):
    listing.next[2] = following
    pages, _, error = face.run(listing, "/list?page=1", next=".next")
    assert [page.json()["items"][0] for page in pages] == ["1a", "2a"]
    assert isinstance(error, unisono.DecodeError)
    assert str(error).startswith(said)
    assert (error.kind, error.effect) == ("pages", "done")
    assert error.response.json()["items"] == ["2a", "2b"]
    assert len(listing.asked) == 2


def test_most_pages_are_bounded_and_that_is_told_when_it_was_not_asked_for(face, listing, monkeypatch):
    pages, at, _ = face.run(listing, link=True, max_pages=2)
    assert (len(pages), at.following) == (2, f"{listing.url}/list?size=2&page=3")
    assert unisono_pages.MOST_PAGES == 1000
    monkeypatch.setattr(unisono_pages, "MOST_PAGES", 2)
    with pytest.warns(RuntimeWarning, match=r"/list has more than 2 pages, .*: give max_pages="):
        pages, _, _ = face.run(listing, link=True)
    assert len(pages) == 2
    listing.last = 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(face.run(listing, link=True)[0]) == 2


def test_names_and_passwords_of_an_address_go_along_to_further_pages(face, listing):
    address = listing.url.replace("//", "//bob:s3@")
    pages, _, error = face.run(listing, f"{address}/list", link=True)
    assert (len(pages), error) == (3, None)
    assert {head["authorization"] for head in listing.heads} == {"Basic Ym9iOnMz"}


def test_an_expression_that_fails_on_a_page_says_on_which(face, listing):
    items, _, error = face.run(listing, link=True, select=".items.first")
    assert items == []
    assert isinstance(error, unisono.DecodeError)
    assert str(error).startswith("page 1: `.items.first`: ")
    assert error.kind == "select"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "pages: say in one way how the next one is found"),
        ({"link": True, "next": ".next"}, "pages: say in one way"),
        ({"page": "page"}, "pages: until= is missing"),
        ({"until": ".x"}, "pages: page= is missing"),
        ({"next": ".["}, "is not a jq expression"),
        ({"next": "[.x] | add"}, "is not of the plain part of jq"),
        ({"link": True, "max_pages": 0}, "max_pages"),
        ({"link": True, "retries": -1}, "retries"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(face, listing, arguments, said):
    client = unisono.AsyncClient(base_url=listing.url) if face.is_async else unisono.Client(base_url=listing.url)
    with pytest.raises(unisono.UsageError, match=said):
        client.pages("/list", **arguments)
    assert listing.asked == []


def test_a_page_whose_wait_is_cancelled_is_asked_for_again(listing):
    async def main():
        async with unisono.AsyncClient(base_url=listing.url) as client:
            pages = client.pages("/list", link=True)
            await anext(pages)
            task = asyncio.ensure_future(anext(pages))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return [page.json()["items"][0] async for page in pages]

    assert asyncio.run(main()) == ["2a", "3a"]
