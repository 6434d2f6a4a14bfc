"""Makes a release, but for the upload: `make release VERSION=1.2.3`, and with `DRY_RUN=1` says what it would do.

Refuses before anything is changed. Then, in this order: one commit with the version, the changelog and without the
files of `changes/`; wheels, source distribution and checksums from that commit, in target/dist; the tag. So there is a
tag only for what was built. Whatever fails after the commit is gone on with by the same command: the commit is known by
its subject.

The version stands in Cargo.toml alone, and the lock files follow. A version is three numbers, which Cargo and Python
order alike.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = Path("target", "dist")
MANIFEST = "Cargo.toml"
LOCKS = ("Cargo.lock", "fuzz/Cargo.lock")
CHANGELOG = "CHANGELOG.md"
SUMS = "SHA256SUMS"
HEADINGS = {"added": "Added", "changed": "Changed", "fixed": "Fixed"}

Version = tuple[int, ...]


class Refused(Exception):
    """Why there is no release, and what to do about it."""


def main(arguments: list[str] | None = None) -> None:
    """Releases from the folder above this one; ends the process with the reason where that cannot be."""
    parser = argparse.ArgumentParser(prog="release.py", description="Makes a release, but for the upload.")
    parser.add_argument("version", help="1.2.3")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--date", default=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}", help="[default: today]")
    parser.add_argument("--unisono", default=".venv/bin/unisono", help="the command that makes the checksums")
    options = parser.parse_args(arguments)
    try:
        Release(ROOT, options.version, options.date, options.unisono).make(dry=options.dry_run)
    except Refused as refusal:
        sys.exit(f"release: {refusal}")


@dataclass
class Release:
    """One version, made from a clone."""

    root: Path
    version: str
    date: str
    unisono: str

    @property
    def tag(self) -> str:
        """The name of its tag."""
        return f"v{self.version}"

    @property
    def subject(self) -> str:
        """The first line of its commit."""
        return f"release: {self.version}"

    def make(self, *, dry: bool) -> None:
        """Does what is still to be done of it."""
        self.check()
        is_committed = self.git("log", "-1", "--format=%s") == self.subject
        texts = {} if is_committed else self.texts()
        if dry:
            self.tell(texts)
            return
        if not is_committed:
            self.commit(texts)
        try:
            self.build()
        except (Refused, subprocess.CalledProcessError, OSError) as error:
            go_on = "Go on with the same command, or take the commit back: git reset --hard HEAD~1"
            raise Refused(f"{error}\nThe commit is there, and no tag. {go_on}") from error
        # Last, so that a tag stands for what was built.
        self.git("tag", "--annotate", self.tag, "--message", f"unisono {self.version}")
        print(f"{self.tag} is made: {self.root / DIST}. docs/releasing.md says how it is uploaded.")

    def check(self) -> None:
        """Refuses what must not be released, or cannot be."""
        wanted = parsed(self.version)
        if wanted is None:
            raise Refused(f"{self.version} is no version: three numbers, like 1.2.3")
        if left := self.git("status", "--porcelain"):
            raise Refused(f"there are changes that are not committed:\n{left}")
        tagged = [version for tag in self.git("tag").split() if (version := parsed(tag.removeprefix("v")))]
        if wanted in tagged:
            raise Refused(f"{self.tag} is there already")
        if tagged and wanted < max(tagged):
            raise Refused(f"{self.version} is not greater than what was released last, {shown(max(tagged))}")
        current = parsed(version_in((self.root / MANIFEST).read_text()))
        if current is not None and wanted < current:
            raise Refused(f"{self.version} is less than {shown(current)}, which {MANIFEST} has")

    def texts(self) -> dict[str, str | None]:
        """The files of its commit, and what they hold afterwards; None for those that go."""
        manifest = (self.root / MANIFEST).read_text()
        old = version_in(manifest)
        texts: dict[str, str | None] = {MANIFEST: with_version(manifest, self.version)}
        for lock in LOCKS:
            texts[lock] = with_locked(self.root.joinpath(lock).read_text(), old, self.version)
        fragments = collected(self.root / "changes")
        changelog = (self.root / CHANGELOG).read_text()
        texts[CHANGELOG] = with_section(changelog, section(self.version, self.date, fragments))
        return texts | {f"changes/{path.name}": None for paths in fragments.values() for path in paths}

    def commit(self, texts: dict[str, str | None]) -> None:
        """All of it or nothing: the tree was clean, so what is half done can be taken back whole."""
        try:
            for name, text in texts.items():
                path = self.root / name
                path.unlink() if text is None else path.write_text(text)
            # What the locks say must be what cargo makes of the manifest.
            self.run("cargo", "metadata", "--locked", "--offline", "--format-version", "1", quiet=True)
            self.git("add", "--all", "--", *texts)
            self.git("commit", "--quiet", "--message", self.subject)
        except (subprocess.CalledProcessError, OSError) as error:
            self.git("reset", "--quiet", "--hard")
            raise Refused(f"{error}\nNothing was changed.") from error

    def build(self) -> None:
        """Wheels, source distribution and checksums."""
        self.run("make", "wheels")
        self.run("make", "sdist")
        dist = self.root / DIST
        names = sorted(path.name for path in dist.iterdir() if path.name.endswith((".whl", ".tar.gz")))
        if strange := [
            name for name in names if not name.startswith((f"unisono-{self.version}-", f"unisono-{self.version}."))
        ]:
            raise Refused(f"{DIST} holds what is not {self.version}: {', '.join(strange)}")
        if {Path(name).suffix for name in names} != {".whl", ".gz"}:
            raise Refused(f"{DIST} lacks a wheel or the source distribution: {', '.join(names) or 'it is empty'}")
        unisono = self.root / self.unisono
        with (dist / SUMS).open("wb") as sums:
            subprocess.run([unisono, "sum", "--quiet", *names], cwd=dist, stdout=sums, check=True)
        subprocess.run([unisono, "sum", "--check", "--strict", SUMS], cwd=dist, check=True)

    def tell(self, texts: dict[str, str | None]) -> None:
        """What would be done, in the order in which it would be."""
        if texts:
            goes = sum(text is None for text in texts.values())
            changed = ", ".join(name for name, text in texts.items() if text is not None)
            print(f"commit `{self.subject}`: {changed}; {goes} files of changes/ go")
        else:
            print(f"commit `{self.subject}` is there")
        print(f"make wheels; make sdist; {DIST / SUMS} by unisono sum, checked\ntag {self.tag}")
        if changelog := texts.get(CHANGELOG):
            print("\n" + changelog[changelog.index(f"## {self.version} ") :].split("\n## ")[0].rstrip())

    def git(self, *words: str) -> str:
        """What git says."""
        return self.run("git", *words, quiet=True).rstrip("\n")

    def run(self, *words: str, quiet: bool = False) -> str:
        """What a command prints, where it is not to print it."""
        done = subprocess.run(
            words, cwd=self.root, text=True, check=True, stdout=subprocess.PIPE if quiet else None, env=environment()
        )
        return done.stdout or ""


def environment() -> dict[str, str]:
    """Without what make tells a make that it starts: these builds have options of their own."""
    return {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "VERSION", "VERSIONS")
    }


def parsed(text: str) -> Version | None:
    """A version as numbers that can be compared, if it is one."""
    is_one = re.fullmatch(r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){2}", text)
    return tuple(int(number) for number in text.split(".")) if is_one else None


def shown(version: Version) -> str:
    """A version as people write it."""
    return ".".join(map(str, version))


# Of the table, and not of one behind it.
IN_MANIFEST = re.compile(r'(?<=\[workspace\.package\]\n)((?:(?!\[).*\n)*?)version = "([^"]+)"')


def version_in(manifest: str) -> str:
    """The version that the workspace has."""
    if not (found := IN_MANIFEST.search(manifest)):
        raise Refused(f"{MANIFEST} has no version in [workspace.package]")
    return found[2]


def with_version(manifest: str, version: str) -> str:
    """The workspace's manifest with another version."""
    return IN_MANIFEST.sub(lambda found: f'{found[1]}version = "{version}"', manifest, count=1)


def with_locked(lock: str, old: str, version: str) -> str:
    """A lock file in which our crates have another version; one from a registry has a source behind it."""
    ours = rf'^(name = "unisono-[^"]+"\n)version = "{re.escape(old)}"\n(?!source = )'
    return re.sub(ours, lambda found: f'{found[1]}version = "{version}"\n', lock, flags=re.MULTILINE)


def collected(folder: Path) -> dict[str, list[Path]]:
    """The files of `changes/` by what they say; README.md says how they are written."""
    fragments: dict[str, list[Path]] = {kind: [] for kind in HEADINGS}
    for path in sorted(folder.glob("*")):
        if path.name == "README.md":
            continue
        kind = path.name.removesuffix(".md").rpartition(".")[2]
        if path.suffix != ".md" or kind not in fragments:
            raise Refused(
                f"changes/{path.name}: its name must end with {', '.join(f'.{kind}.md' for kind in HEADINGS)}"
            )
        fragments[kind].append(path)
    if not any(fragments.values()):
        raise Refused("changes/ is empty: there is nothing to release")
    return fragments


def section(version: str, date: str, fragments: dict[str, list[Path]]) -> str:
    """What the changelog says of a version."""
    parts = [f"## {version} ({date})\n"]
    for kind, paths in fragments.items():
        if paths:
            parts.append(f"### {HEADINGS[kind]}\n")
            parts.append("\n".join(entry(path.read_text()) for path in paths) + "\n")
    return "\n".join(parts)


def entry(text: str) -> str:
    """A change as an item of a list, its further lines indented."""
    first, *others = text.strip().splitlines()
    return "\n".join([f"- {first}", *(f"  {line}".rstrip() for line in others)])


def with_section(changelog: str, text: str) -> str:
    """The changelog with a version before those that it has."""
    head, mark, rest = changelog.partition("\n## ")
    return f"{head.rstrip()}\n\n{text}" + (f"{mark}{rest}" if mark else "")


if __name__ == "__main__":
    main()
