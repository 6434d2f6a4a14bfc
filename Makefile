# Everything a newcomer needs: `make demo` and `make test` set up what they need in .venv.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The demo profile builds quickly from nothing; `make bench` measures the release profile.
export UNISONO_PROFILE ?= demo

SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find crates python -type f \( -name '*.rs' -o -name 'Cargo.toml' -o -name '*.py' -o -name '*.pyi' \) -not -path '*/unisono.data/*')

.PHONY: help demo test lint bench fuzz nightly ledgers hosts wheels sdist release docs clean FORCE
help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

demo: $(VENV)/installed ## build, install into .venv, and run the proof: 5,000 calls of a bad API, killed half way
	$(BIN)/unisono demo

test: $(VENV)/installed $(VENV)/dev ## all tests: engine, command line, Python
	cargo test --workspace
	RUSTFLAGS="$$RUSTFLAGS --cfg loom" cargo test -p unisono-workers --lib --target-dir target/loom
	cargo build --locked --profile small -p unisono-init
	$(BIN)/python -m pytest $(PYTEST)

lint: $(VENV)/installed $(VENV)/dev ## formatting, lints, types, and the rules of the architecture
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy -p unisono-init --profile small -- -D warnings
	$(BIN)/ruff format --check python tests bench docs examples release
	$(BIN)/ruff check python tests bench docs examples release
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest unisono._native
	tests/architecture.sh
	PATH="$(CURDIR)/$(BIN):$$PATH" cargo deny --locked check licenses bans sources
	$(BIN)/python bench/readme.py --check

bench: ## measure against pinned peers: make bench BENCH=fetch
	bench/run $(BENCH)

fuzz: ## each fuzz target for TIME seconds: make fuzz TIME=60 (needs a nightly toolchain and cargo-fuzz)
	fuzz/run $(or $(TIME),60) $(TARGETS)

nightly: $(VENV)/installed $(VENV)/dev ## what takes long: many random histories of runs, all tests on each CPython that is here, installs from source, restarts of real servers, each fuzz target for ten minutes
	UNISONO_WORLD_CASES=$(or $(CASES),20000) cargo test -p unisono-runner --test world
	$(BIN)/python tests/matrix.py --write
	$(BIN)/python tests/installs.py
	$(BIN)/python tests/hosts.py --contenders unisono
	fuzz/run $(or $(TIME),600)

ledgers: $(VENV)/installed ## kill -9 and links, renames, copies, full disks, with the server's own ledger: make ledgers ROUNDS=200
	$(BIN)/python tests/ledgers.py --rounds $(or $(ROUNDS),200)

hosts: $(VENV)/installed $(VENV)/dev $(VENV)/hosts ## restarts, limits and drains of real servers, beside curl and httpx; writes the table of docs/hosts.md
	$(BIN)/python tests/hosts.py --write

wheels: $(VENV)/profile $(VENV)/wheels ## a wheel per CPython in target/dist, audited, each tried where its interpreter is here: make wheels VERSIONS=3.13
	PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONPATH=python/build:tests UNISONO_PROFILE=$(or $(WHEEL_PROFILE),release) $(BIN)/python release/wheels.py $(VERSIONS)

sdist: $(VENV)/profile $(VENV)/wheels ## the source distribution in target/dist
	PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONPATH=python/build $(BIN)/python -c 'import unisono_build; unisono_build.build_sdist("target/dist")'

release: $(VENV)/installed ## all of a release but the upload: make release VERSION=1.2.3 (DRY_RUN=1 says what it would do)
	$(BIN)/python release/release.py $(or $(VERSION),$(error name the version: make release VERSION=1.2.3)) $(if $(DRY_RUN),--dry-run)

docs: $(VENV)/installed ## rustdoc and the Python reference, into target/doc
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	$(BIN)/python docs/reference.py target/doc/python

clean: ## remove what was built
	rm -rf $(VENV) target python/unisono.data THIRD-PARTY-LICENSES unisono.cyclonedx.json

# Says first what is missing. Written anew only with another profile or a new environment, so that PYTHON= and
# UNISONO_PROFILE= are followed and nothing is built twice.
$(VENV)/profile: FORCE
	@$(PYTHON) python/build/environment.py $(VENV) $(UNISONO_PROFILE)
FORCE:

# Not through pip, which would keep what cargo shows to itself.
$(VENV)/installed: $(VENV)/profile $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'maturin>=1.9,<2'
	@rm -rf $(VENV)/wheel
	PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONPATH=python/build $(BIN)/python -m unisono_build $(VENV)/wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps $(VENV)/wheel/*.whl
	@touch $@

$(VENV)/dev $(VENV)/hosts $(VENV)/wheels: $(VENV)/%: $(VENV)/profile pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$($(BIN)/python tests/support/packages.py $*)
	@touch $@
