"""Run the README's first example and its first Python example with the given interpreter's installation."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from support.interpreters import path_of
from support.server import Server

README = Path(__file__).parents[1] / "README.md"


def main() -> None:
    python = Path(sys.argv[1])
    text = README.read_text()
    shell = re.search(r"^```sh run\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    code = re.search(r"^```python run\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert shell is not None
    assert code is not None
    server = Server()
    environment = {**os.environ, "API": server.url, "PATH": path_of(python)}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["bash", "-euc", shell[1]], check=True, cwd=folder, env=environment)
        assert len(Path(folder, "items.jsonl").read_text().splitlines()) == 500
        subprocess.run([python, "-c", code[1]], check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    print("the README's first examples run from a fresh environment")


main()
