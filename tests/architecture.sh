#!/usr/bin/env bash
# The rules of the architecture (ARCHITECTURE.md, "Invariants") that no compiler checks.
set -euo pipefail
cd "$(dirname "$0")/.."
engines="core sys batch journal net http hash files commands workers select watch"
failed=0

complain() {
    echo "architecture: $*" >&2
    failed=1
}

for crate in $engines runner init cli; do
    if cargo tree -q -p "unisono-$crate" -e normal --prefix none | grep -q '^pyo3 '; then
        complain "unisono-$crate depends on pyo3"
    fi
done

python3 tests/crates.py || failed=1
python3 tests/circles.py || failed=1
python3 tests/files.py || failed=1
# The map leads to files that are there.
while read -r path; do
    [ -e "$path" ] || complain "ARCHITECTURE.md leads to $path, which is not there"
done < <(python3 tests/crates.py --paths)

for manifest in crates/*/Cargo.toml; do
    crate=$(basename "$(dirname "$manifest")")
    # These hold the unsafe code that there is, each in places of its own.
    if [[ "$crate" =~ ^unisono-(bare|hash|python|sys)$ ]]; then
        grep -q '^unsafe_code = "deny"' "$manifest" || complain "$crate does not deny unsafe code"
    else
        grep -A1 '^\[lints\]' "$manifest" | grep -q '^workspace = true' || complain "$crate does not take the workspace's lints"
    fi
done
grep -q '^unsafe_code = "forbid"' Cargo.toml || complain "the workspace does not forbid unsafe code"
if grep -rnE '^\s*unsafe |[^a-z_]unsafe \{|allow\(unsafe_code\)' crates/*/src --include='*.rs' | grep -vE '^crates/unisono-(bare|sys)/|^crates/unisono-hash/src/arch/x86_64/|^crates/unisono-python/src/ffi/'; then
    complain "unsafe code outside of its places"
fi

# What runs, with file and line: a file up to its tests, and no file of tests.
code() {
    find "$1" -name '*.rs' -not -name '*tests.rs' -not -path '*/tests/*' -exec awk '
        FNR == 1 { over = 0; marked = 0 }
        marked { marked = 0; if ($0 !~ /;$/) over = 1 }
        /^#\[cfg\(test\)\]/ { marked = 1 }
        !over { print FILENAME ":" FNR ":" $0 }' {} +
}

for crate in $engines; do
    # Tests and documentation may; what runs may not.
    if code "crates/unisono-$crate/src" |
        grep -E '^[^:]*:[0-9]*:[^/]*(\bprintln!|\beprintln!|\bprint!|\beprint!|\bdbg!|env::var|signal_hook|tokio::signal|tokio::process)'; then
        complain "unisono-$crate prints, reads the environment or handles signals"
    fi
done
# Runtimes, tasks and time have one place each (clippy.toml). Only what is built is looked at: tests are free.
if ! cargo clippy --quiet --workspace -- -A clippy::all -D clippy::disallowed_methods -D clippy::disallowed_types; then
    complain "a runtime, a task or a time comes from elsewhere than unisono-core"
fi
for crate in $engines runner; do
    if [ "$crate" != core ] && code "crates/unisono-$crate/src" | grep -E '^[^:]*:[0-9]*:[^/]*\bReactor\b'; then
        complain "unisono-$crate makes itself a home; only faces do"
    fi
done
if LC_ALL=C.UTF-8 grep -rnE --include='*.rs' '^.{121,}$' crates | grep -E '^[^:]*:[0-9]+: *//'; then
    complain "comments are wider than 120 characters"
fi
# Words that the field has another one for (ARCHITECTURE.md, "Glossary").
coined='Crew|Bell|Bed|Desk|DeskBell|Underway|CounterDesk|Errands?|FarFetcher|far_options|is_elsewhere|LoopHands|ExecutorHands|Mailbox|Letters'
coined+='|Nursery|Theatre|Puppet|puppets|hush|mourned|last_words|_births|_goodbye|HttpJob|Hashed|Worked'
if grep -rnwE "$coined" crates python/unisono ARCHITECTURE.md --include='*.rs' --include='*.py' --include='*.pyi' --include='*.md'; then
    complain "a coined word has come back"
fi
if grep -rnE '^\s*(///|//!|""") ?Answers ' crates python/unisono --include='*.rs' --include='*.py' | grep -vE 'request|HTTP|with|properly|since'; then
    complain "functions return; only peers answer"
fi
# One owner each for what is done after a fork and at the end of the program.
if grep -rnE 'register_at_fork|atexit\.register|_register_atexit|pthread_atfork' crates/*/src python/unisono --include='*.rs' --include='*.py' |
    grep -vE '^crates/unisono-sys/src/(forks|private)\.rs|^python/unisono/_(forks|shutdown)\.py'; then
    complain "something else than its owner asks to be told of forks or of the end"
fi
if grep -rn 'from conftest import' tests bench --include='*.py'; then
    complain "something is imported from a conftest, of which each folder of tests may have one"
fi
if find tests -name 'test_*.py' -printf '%f\n' | sort | uniq -d | grep .; then
    complain "two modules of tests have one name, with which pytest imports only one of them"
fi
exit $failed
