"""How much is shown: `-q` and `-qq`."""

import subprocess


def test_c11_quiet_shows_errors_and_twice_quiet_nothing(unisono, server):
    urls = [f"{server.url}/status/404", f"{server.url}/status/403", f"{server.url}/items/1"]
    quiet, silent = (unisono("fetch", "-k", option, *urls) for option in ("-q", "-qq"))
    assert [done.returncode for done in (quiet, silent)] == [1, 1]
    assert quiet.stderr.splitlines() == [
        "error: 1 × status: HTTP 403 Forbidden (first: r1)",
        "error: 1 × status: HTTP 404 Not Found (first: r0)",
    ]
    assert silent.stderr == ""
    assert unisono("fetch", "-q", urls[-1]).stderr == ""
    assert unisono("each", "-qq", "--", "sh", "-c", "exit 3", ":::", "1").stderr == ""
    # What went wrong on our side is no silence's business.
    with open("/dev/full", "w") as full:
        done = unisono("fetch", "-qq", urls[-1], stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert (done.returncode, "No space left on device" in done.stderr) == (125, True)
