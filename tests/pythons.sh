#!/usr/bin/env bash
# What holds with the interpreter of .venv holds with the others that are supported: for each of them a wheel, in an
# environment of its own, and there the interpreter's own tests with our pools, the tests of Python, and the stub.
#
#   tests/pythons.sh                  3.12 and 3.13
#   tests/pythons.sh 3.13             only that one
#   tests/pythons.sh 3.13 -k queue    only those of the tests of Python, as pytest takes it
#
# An interpreter is found as `pythonX.Y`, or in pyenv's folder; `TESTS=FOLDER` holds its own tests where it came without.
# What is not here is not run, which is said at the end. The environments stay in target/pythons.
#
# No part of CI, whose machines have one interpreter; `make nightly` runs it.
set -euo pipefail
cd "$(dirname "$0")/.."
export UNISONO_PROFILE="${UNISONO_PROFILE:-demo}"

versions=(3.12 3.13)
if [[ ${1:-} =~ ^3\.[0-9]+$ ]]; then
    versions=("$1")
    shift
fi
failed=() not_run=()

# The path of the interpreter, if there is one that starts: a shim of pyenv's may stand for none.
interpreter() {
    local python
    for python in "$(command -v "python$1")" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if "$python" -c '' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    return 1
}

# Runs a command, and remembers it when it fails.
check() {
    printf '\n==== %s\n' "$*"
    "$@" || failed+=("$*")
}

for version in "${versions[@]}"; do
    if ! python=$(interpreter "$version"); then
        not_run+=("Python $version: there is neither a python$version nor one of pyenv's here")
        continue
    fi
    here=target/pythons/$version
    [ -x "$here/bin/python" ] || "$python" -m venv "$here"
    ours=$PWD/$here/bin/python
    pip=("$ours" -m pip install --quiet --disable-pip-version-check)
    mapfile -t needed < <("$ours" -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["dev"], sep="\n")')
    "${pip[@]}" 'maturin>=1.9,<2' "${needed[@]}"
    PATH="$PWD/$here/bin:$PATH" "${pip[@]}" --no-build-isolation --force-reinstall --no-deps .

    suites=("pool --pool processes")
    if [ -n "${TESTS:-}" ] || "$ours" -c 'import test.test_concurrent_futures' 2>/dev/null; then
        suites+=("futures --pool threads" "futures --pool processes")
    else
        not_run+=("Python $version: its own tests of executors are not with it (pyenv's 3.11.7 and 3.12.1 leave them out); TESTS=FOLDER names where they are")
    fi
    for suite in "${suites[@]}"; do
        # shellcheck disable=SC2086 (words)
        check "$ours" tests/conformance/run.py $suite ${TESTS:+--tests "$TESTS"}
    done
    check "$ours" -m pytest -p no:cacheprovider tests/python "$@"
    check "$ours" -m mypy.stubtest unisono._native
done

printf '\n'
[ ${#not_run[@]} -eq 0 ] || printf 'NOT RUN: %s\n' "${not_run[@]}" >&2
[ ${#failed[@]} -eq 0 ] || printf 'FAILED: %s\n' "${failed[@]}" >&2
[ ${#failed[@]} -eq 0 ]
