"""Compress many files at once, each into a temporary file that is renamed when it is whole.

    python examples/compress_files.py /var/log/archive

Threads suffice, since zlib leaves the interpreter lock to others while it works (`unisono explain` shows it). A program
that looks for `name.gz` finds all of it or nothing, whatever happens in between; the original is removed only after
that. A failure leaves the original and no temporary file. Two of these programs on one folder are not thought of.
"""

import gzip
import os
import shutil
import sys
from pathlib import Path

import unisono


def compress(path):
    """Replace a file by its compressed twin; returns how many bytes that saved."""
    temporary = path.with_name(f".{path.name}.gz.tmp")
    try:
        with path.open("rb") as source, temporary.open("wb") as target:
            with gzip.GzipFile(fileobj=target, mode="wb") as packed:
                shutil.copyfileobj(source, packed, 1 << 20)
            # Without this, a power cut after the rename may leave the new name with nothing behind it.
            target.flush()
            os.fsync(target.fileno())
        saved = path.stat().st_size - temporary.stat().st_size
        temporary.rename(path.with_name(f"{path.name}.gz"))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    path.unlink()
    return saved


def main(folder):
    """Compress what is in a folder; returns the exit status."""
    files = sorted(path for path in folder.iterdir() if path.suffix != ".gz" and not path.name.startswith("."))
    saved = failed = 0
    for outcome in unisono.batch(compress, files, executor="threads", limit=os.cpu_count()):
        if outcome.ok:
            saved += outcome.result
        else:
            failed += 1
            print(f"{outcome.item.name}: {outcome.error}", file=sys.stderr)
    print(f"{len(files) - failed} files compressed, {saved} bytes saved, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/compress_files.py FOLDER")
    sys.exit(main(Path(sys.argv[1])))
