"""`docs/migrating.md`: small programs for httpx, aiohttp and requests, and what is edited in each for it to run with ours.

The programs lie in `migrating/before` and `migrating/after`; `python tests/python/migrating.py --write` writes the page.
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "migrating"
PAGE = Path(__file__).parent.parent.parent / "docs" / "migrating.md"
NAMES = sorted(path.stem for path in (FOLDER / "before").glob("*.py"))
TITLES = {"httpx": "From httpx", "aiohttp": "From aiohttp", "requests": "From requests"}

INTRO = """# Coming from httpx, aiohttp or requests

Twelve small programs after the quickstarts of these libraries, and all that is edited in each so that it runs with `unisono`: the import, and two lines at
most. A test runs them, and makes this page (`tests/python/migrating.py`).

What is otherwise met first: an answer is returned whatever its status, and is complete (`response.text` and `response.json()` need no `await`); redirects are
followed; an attempt that failed is repeated where that does no harm (`retries=0` tries once); 20 requests are under way at once (`limit=`). A keyword of
another library is answered by its word here, as `ArgumentError: Client() got an unexpected keyword argument 'proxies': here it is proxy=...`. What is done for
many addresses is shorter as a batch, with an outcome for each: `client.batch(urls)` ([clients.md](clients.md)).
"""


def program(name: str, when: str) -> list[str]:
    """The lines of a program, without what it prints."""
    lines = (FOLDER / when / f"{name}.py").read_text().splitlines()
    return [line for line in lines if not line.startswith("# prints: ")]


def prints(name: str) -> list[str]:
    """What a program prints."""
    lines = (FOLDER / "after" / f"{name}.py").read_text().splitlines()
    return [line.removeprefix("# prints: ") for line in lines if line.startswith("# prints: ")]


def changes(name: str) -> list[str]:
    """What is edited in a program, as the lines of a diff."""
    made = difflib.unified_diff(program(name, "before"), program(name, "after"), n=100, lineterm="")
    return [line for line in list(made)[3:] if not line.startswith(" # ")]


def edited(name: str) -> tuple[int, int]:
    """How many lines go and how many come, beside imports."""
    made = [line for line in changes(name) if line[1:].split(" ")[0] not in ("import", "from")]
    return sum(line.startswith("-") for line in made), sum(line.startswith("+") for line in made)


def page() -> str:
    """The page, from the programs."""
    text, last = [INTRO], ""
    for name in NAMES:
        library = name.partition("_")[0]
        if library != last:
            text.append(f"## {TITLES[library]}\n")
            last = library
        title = program(name, "before")[0].removeprefix("# ")
        text.append("\n".join([title, "", "```diff", *(line.rstrip() for line in changes(name)), "```", ""]))
    return "\n".join(text)


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    PAGE.write_text(page())
