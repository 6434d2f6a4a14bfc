"""Circles of files: no file needs, by any way, a file that needs it. Run by tests/architecture.sh.

A name counts where it is defined, whichever file hands it on: `use crate::Outcome` needs `outcome.rs`, not `lib.rs`.
Looked at are the files of each crate, the children of each of its modules (a folder is one child), and the modules of
the Python package, with what they import inside of functions. Imports for types alone are left out, and so is what is
compiled for tests alone. Not seen: what macros write, and methods of a value that comes from elsewhere.
"""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
Words = tuple[str, ...]
VISIBLE = r"(?:pub(?:\([^)]*\))?\s+)?"
DEFINED = re.compile(
    rf"^{VISIBLE}(?:(?:async|unsafe|const|extern \"\") )*"
    r"(?:struct|enum|union|trait|fn|type|static|const|macro_rules!)\s+(?:mut\s+)?(\w+)",
    re.MULTILINE,
)
MODULE = re.compile(rf"^\s*{VISIBLE}mod\s+(\w+)\s*;", re.MULTILINE)
IMPORT = re.compile(rf"^\s*({VISIBLE})use\s+([^;]+);", re.MULTILINE)
PATH = re.compile(r"(?<![\w:])((?:[a-z_]\w*::)+)(\w+)")
ONLY_TESTS = re.compile(
    rf"^\s*#\[cfg\((?:all\()?(?:test|loom)[^\n]*\]\s*(?:#\[[^\n]*\]\s*)*{VISIBLE}mod\s+\w+\s*;", re.MULTILINE
)
TESTS = re.compile(r"^#\[cfg\(test\)\]\s*(?:#\[[^\n]*\]\s*)*mod\s+\w+\s*\{", re.MULTILINE)


def cycles(needs: Mapping[Words, set[Words]]) -> list[list[Words]]:
    """Each set of nodes that all lead to each other (Tarjan's strongly connected components, but for single ones)."""
    index: dict[Words, int] = {}
    low: dict[Words, int] = {}
    stack: list[Words] = []
    found: list[list[Words]] = []

    def visit(node: Words) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(needs.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(needs):
        if node not in index:
            visit(node)
    return found


def leaves(tree: str, prefix: Words = ()) -> Iterator[tuple[Words, str]]:
    """`a::{b, c as d}` as paths, each with the name that it has here."""
    tree = tree.strip()
    group = re.fullmatch(r"((?:\w+\s*::\s*)*)\{(.*)\}", tree, re.DOTALL)
    if group:
        depth, part = 0, ""
        for char in group[2] + ",":
            depth += (char == "{") - (char == "}")
            if char == "," and not depth:
                if part.strip():
                    yield from leaves(part, (*prefix, *re.findall(r"\w+", group[1])))
                part = ""
            else:
                part += char
        return
    path, _, name = tree.partition(" as ")
    words = (*prefix, *re.findall(r"\w+|\*", path))
    if words[-1] == "self":
        words = words[:-1]
    yield words, name.strip() or words[-1]


class Crate:
    """The modules of a crate, each by its path from the root, and the modules that each needs."""

    def __init__(self, root: Path) -> None:
        self.texts: dict[Words, str] = {}
        self.imports: dict[Words, list[tuple[bool, Words, str]]] = {}
        self.read((), root)
        self.needs = {module: set(self.needed(module)) - {module} for module in self.texts}

    def read(self, module: Words, path: Path) -> None:
        """Reads a module's file and those of its children."""
        text = re.sub(r"//[^\n]*", "", path.read_text())
        text = re.sub(r'"(?:[^"\\]|\\.)*"', '""', text, flags=re.DOTALL)
        text = TESTS.split(ONLY_TESTS.sub("", text))[0]
        self.texts[module] = text
        self.imports[module] = [
            (bool(visible), words, name) for visible, tree in IMPORT.findall(text) for words, name in leaves(tree)
        ]
        beside = path.parent if path.name in {"lib.rs", "main.rs", "mod.rs"} else path.with_suffix("")
        for name in MODULE.findall(text):
            for child in (beside / f"{name}.rs", beside / name / "mod.rs"):
                if child.exists():
                    self.read((*module, name), child)

    def from_root(self, module: Words, words: Words) -> Words | None:
        """What words in a module's text mean from the crate's root. None when they lead out of the crate."""
        if words[0] == "crate":
            return words[1:]
        if words[0] in {"self", "super"}:
            here = module[: len(module) - words.count("super")]
            return (*here, *(word for word in words if word not in {"self", "super"}))
        return (*module, *words) if (*module, words[0]) in self.texts else None

    def definition(self, words: Words, seen: frozenset[Words] = frozenset()) -> Words | None:
        """The module in whose file the thing is defined to which these words lead from the root."""
        module: Words = ()
        for at, word in enumerate(words):
            if (*module, word) in self.texts:
                module = (*module, word)
                continue
            if words in seen or word in DEFINED.findall(self.texts[module]):
                return module
            for _, path, name in self.imports[module]:
                further = self.from_root(module, path)
                if further is None or name not in {word, "*"}:
                    continue
                rest = (*further[:-1], *words[at:]) if name == "*" else (*further, *words[at + 1 :])
                found = self.definition(rest, seen | {words})
                if found is not None:
                    return found
            return None
        # A module as such: what is used of it stands elsewhere in the text.
        return None

    def needed(self, module: Words) -> Iterator[Words]:
        """The modules that define what a module's text names."""
        body = IMPORT.sub("", self.texts[module])
        here = {name: path for _, path, name in self.imports[module]}
        # What is only handed on is not needed here.
        named = [path for visible, path, name in self.imports[module] if not visible or re.search(rf"\b{name}\b", body)]
        for head, last in PATH.findall(body):
            words = (*head.split("::")[:-1], last)
            named.append((*here[words[0]], *words[1:]) if words[0] in here else words)
        # A star stands for all that there is.
        for path in [path for path in named if path[-1] == "*"]:
            there = self.from_root(module, path[:-1])
            if there in self.texts:
                named += [("crate", *there, name) for _, _, name in self.imports[there]]
                named += [("crate", *there, name) for name in DEFINED.findall(self.texts[there])]
        for path in named:
            whole = self.from_root(module, path)
            # The longest part that leads somewhere: what follows is a variant, a method or a constant of it.
            if whole is not None:
                homes = (self.definition(whole[:length]) for length in range(len(whole), 0, -1))
                yield from [home for home in homes if home is not None][:1]

    def among_children(self) -> Iterator[list[Words]]:
        """The circles between children of one module, where each stands for all that is in it."""
        for parent in self.texts:
            depth = len(parent) + 1
            needs: dict[Words, set[Words]] = {}
            for module, others in self.needs.items():
                if len(module) >= depth and module[: depth - 1] == parent:
                    beside = {other[:depth] for other in others if len(other) >= depth and other[: depth - 1] == parent}
                    needs.setdefault(module[:depth], set()).update(beside - {module[:depth]})
            yield from cycles(needs)


def imported(module: Words, path: Path, modules: Mapping[Words, Path], native: set[Words]) -> Iterator[Words]:
    """The modules of the package that a module imports, inside of functions as well, but not for types alone."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    package = module if path.name == "__init__.py" else module[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (words for name in node.names if (words := tuple(name.name.split("."))) in modules)
        elif isinstance(node, ast.ImportFrom):
            outer = package[: len(package) - node.level + 1] if node.level else ()
            base = (*outer, *(node.module.split(".") if node.module else ()))
            for name in node.names:
                found = (*base, name.name)
                yield from [words for words in (found, base) if words in modules and found not in native][:1]


def python_cycles(package: Path) -> list[list[Words]]:
    """The circles among the modules of a package."""
    files = {path.relative_to(package.parent).with_suffix("").parts: path for path in package.rglob("*.py")}
    modules = {words[:-1] if words[-1] == "__init__" else words: path for words, path in files.items()}
    native = {path.relative_to(package.parent).with_suffix("").parts for path in package.rglob("*.pyi")}
    return cycles({name: set(imported(name, path, modules, native)) - {name} for name, path in modules.items()})


def main() -> int:
    """Prints each circle with the needs that close it."""
    circles = 0
    for root in sorted([*ROOT.glob("crates/*/src/lib.rs"), *ROOT.glob("crates/*/src/main.rs")]):
        crate = Crate(root)
        found = cycles(crate.needs)
        for circle in [*found, *(each for each in crate.among_children() if each not in found)]:
            circles += 1
            names = ", ".join("::".join(words) or root.stem for words in circle)
            print(f"architecture: {root.parts[-3]}: a circle of files: {names}", file=sys.stderr)
            for words in circle:
                inside = ", ".join(
                    "::".join(other) or root.stem for other in sorted(crate.needs.get(words, ())) if other in circle
                )
                print(f"    {'::'.join(words) or root.stem} needs {inside}", file=sys.stderr)
    for circle in python_cycles(ROOT / "python/unisono"):
        circles += 1
        print(f"architecture: python: a circle of modules: {', '.join(map('.'.join, circle))}", file=sys.stderr)
    return bool(circles)


if __name__ == "__main__":
    sys.exit(main())
