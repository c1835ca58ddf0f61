# make demo    replay a real year of a grocery chain through the engine
# make test    every test, Rust and Python
#
# Each does its own set-up, into .venv and target, once. Needed: make, Rust, a C compiler, Python 3.11 or
# newer with venv; tools/need.sh says what is missing.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test bench lint format generate lock clean
MAKEFLAGS += --no-builtin-rules

# Where rustup puts cargo; a shell that was open before does not know it yet.
export PATH := $(PATH):$(HOME)/.cargo/bin
BIN := .venv/bin
# One interpreter for every build, so that nothing is built twice.
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python
SOURCES := $(shell find src_rust grpc Cargo.toml Cargo.lock pyproject.toml .cargo \
    -name '*.rs' -o -name '*.proto' -o -name 'Cargo.*' -o -name pyproject.toml -o -name config.toml)

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile
	@echo 'make lint    format, clippy, ruff, mypy, stubs, protos, licences'
	@echo 'make format generate lock bench clean'

demo: .venv/.built
	$(BIN)/onecard demo

# The binding has no tests of its own, and would need a libpython to link with.
test: .venv/.built
	cargo test --release --locked --workspace --exclude onecard-py
	$(BIN)/python -m pytest

# W1 to W8 in one table; `python -m bench ID` measures one. Takes about half an hour.
bench: .venv/.built
	$(BIN)/python -m bench

lint: .venv/.built
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest onecard._core --allowlist tools/stubtest.txt --ignore-unused-allowlist
	$(BIN)/buf lint
	$(BIN)/python tools/dependencies.py

format: .venv/.locked
	cargo fmt --all
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

generate: .venv/.locked
	$(BIN)/python tools/generate.py

# Every dependency of every extra, for every platform and Python, with hashes.
lock: .venv/.locked
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --generate-hashes \
	    --custom-compile-command 'make lock' --upgrade pyproject.toml --output-file requirements.lock

clean:
	rm -rf .venv target build dist engine/onecard/_core*.so

.venv/.locked: requirements.lock
	python=$$(sh tools/need.sh) && "$$python" -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes --requirement requirements.lock
	@touch $@

.venv/.built: .venv/.locked $(SOURCES)
	@sh tools/need.sh >/dev/null
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/maturin develop --release --locked
	@touch $@
