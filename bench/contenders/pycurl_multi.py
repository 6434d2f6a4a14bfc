"""pycurl's multi interface with a pool of handles."""

import io
import json
import sys

import pycurl


def main(urls: list[str], limit: int) -> int:
    multi = pycurl.CurlMulti()
    handles = [pycurl.Curl() for _ in range(limit)]
    queue, ok = iter(urls), 0

    def start(handle: pycurl.Curl) -> bool:
        url = next(queue, None)
        if url is None:
            return False
        handle.body = io.BytesIO()
        handle.setopt(pycurl.URL, url)
        handle.setopt(pycurl.WRITEDATA, handle.body)
        multi.add_handle(handle)
        return True

    running = sum(start(handle) for handle in handles)
    while running:
        multi.perform()
        multi.select(1.0)
        _, done, failed = multi.info_read()
        for handle in [*done, *(failure[0] for failure in failed)]:
            multi.remove_handle(handle)
            json.loads(handle.body.getvalue())["id"]
            ok += handle.getinfo(pycurl.RESPONSE_CODE) == 200
            running -= not start(handle)
    return ok


print(main(open(sys.argv[1]).read().split(), int(sys.argv[2])))
