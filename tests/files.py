"""The last section of ARCHITECTURE.md: every file with the first sentence of its header.

    python3 tests/files.py            0 where the section is what the files say, 1 and the difference where it is not
    python3 tests/files.py --write    writes it

Run by tests/architecture.sh.
"""

import re
import sys
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parent.parent
MAP = ROOT / "ARCHITECTURE.md"
HEADING = "## Every file"


def files() -> list[Path]:
    """What is shipped: sources, and neither tests nor what is generated."""
    rust = [path for path in ROOT.glob("crates/*/src/**/*.rs") if not path.stem.endswith("tests")]
    python = [
        path for path in ROOT.glob("python/unisono*/**/*.py") if path.name != "__init__.py" or path.stat().st_size
    ]
    return sorted([*rust, *python], key=lambda path: (path.parts[: len(ROOT.parts) + 2], path))


def header(path: Path) -> str:
    """The first sentence of a file's header."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".rs":
        lines = [
            line.removeprefix("//!").strip() for line in text.split("\n\n")[0].splitlines() if line.startswith("//!")
        ]
    else:
        lines = text.partition('"""')[2].partition('"""')[0].splitlines()
    paragraph = " ".join(line.strip() for line in lines[: lines.index("") if "" in lines else None])
    sentence = re.split(r"(?<=\.) ", paragraph.strip())[0].rstrip(".:")
    # Links of rustdoc lead nowhere here.
    return re.sub(r"\[(`[^`]+`|[^\]]+)\](\([^)]*\))?", r"\1", sentence)


def section() -> str:
    """The section as the files have it."""
    lines = [
        HEADING,
        "",
        "By `tests/files.py --write`, from the first sentence of each; in crates, below `src/`. Tests lie beside the code as",
        "`*_tests.rs`, in `tests/` of each crate, and, for the command and Python, in `tests/`.",
        "",
    ]
    for folder, group in groupby(files(), key=lambda path: "/".join(path.relative_to(ROOT).parts[:2])):
        lines += [f"**{folder}**", ""]
        for path in group:
            name = path.relative_to(ROOT / folder).as_posix().removeprefix("src/")
            lines.append(f"- `{name}`: {header(path)}")
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    text = MAP.read_text(encoding="utf-8")
    above, _, _ = text.partition(HEADING + "\n")
    wanted = above.rstrip("\n") + "\n\n" + section()
    if sys.argv[1:] == ["--write"]:
        MAP.write_text(wanted, encoding="utf-8")
        return 0
    missing = [path for path in files() if not header(path)]
    for path in missing:
        print(f"architecture: {path.relative_to(ROOT)} has no header", file=sys.stderr)
    if wanted != text:
        print(
            "architecture: the list of files in ARCHITECTURE.md is not theirs: python3 tests/files.py --write",
            file=sys.stderr,
        )
    return bool(missing) or wanted != text


if __name__ == "__main__":
    sys.exit(main())
