"""Parse the access logs of a folder in worker processes, and add up what each found.

    python examples/parse_logs.py /var/log/nginx

Each process counts one file and sends back a small `Counter`, not the lines: what crosses between processes is what
costs. A file that cannot be read is an outcome of its own, so the totals of the others are not lost and the exit status
tells. It does not split a file, so one huge log keeps one process busy.
"""

import re
import sys
from collections import Counter
from pathlib import Path

import unisono

# The common log format: host, identity, user, [time], "request", status, bytes.
LINE = re.compile(r'^(\S+) \S+ \S+ \[[^]]*\] "[^"]*" (\d{3}) ')


def parse(path):
    """How often each status occurs in a file; lines that are none of the format are counted as `bad`."""
    found = Counter()
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            match = LINE.match(line)
            found[match[2] if match else "bad"] += 1
    return found


def main(folder):
    """Print the totals; returns the exit status."""
    totals, unread = Counter(), 0
    for outcome in unisono.batch(parse, sorted(folder.glob("*.log")), executor="processes"):
        if outcome.ok:
            totals += outcome.result
        else:
            unread += 1
            print(f"{outcome.item.name}: {outcome.error}", file=sys.stderr)
    for status, count in sorted(totals.items()):
        print(status, count)
    return 1 if unread else 0


# Worker processes import this file as well, and must not begin anew.
if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/parse_logs.py FOLDER")
    sys.exit(main(Path(sys.argv[1])))
