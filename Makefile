# Everything one does with a checkout. Needs only Python 3.11 or newer: each target makes what it needs inside the
# checkout (.venv, .cache), from requirements locked with hashes, and leaves everything outside it alone.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
PYTHON ?=
PYTEST_ARGS ?= -n auto --dist loadfile

export PIP_CACHE_DIR := $(CURDIR)/.cache/pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export BUF_CACHE_DIR := $(CURDIR)/.cache/buf

.PHONY: help demo up test torture check format generate lock guards bench bench-pressed bench-waiting clean

help: ## say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/runtime ## watch a plan drafted, approved and carried out, offline, in half a minute
	@$(BIN)/assent demo $(ARGS)

up: .venv/runtime ## run the three services over an embedded PostgreSQL, data in .assent, until Ctrl-C
	@$(BIN)/assent up $(ARGS)

test: .venv/dev ## run every test
	@GRPC_VERBOSITY=NONE $(BIN)/python -m pytest $(PYTEST_ARGS) $(ARGS)

check: .venv/dev ## format, lint, types, layers, contracts, generated code
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/python proto/generate.py --check
	$(BIN)/buf lint
	$(BIN)/buf format proto --diff --exit-code
	@scripts/breaking
	$(BIN)/lint-imports --no-logo --cache-dir .cache/import_linter
	$(BIN)/mypy

format: .venv/dev ## rewrite the sources in the house style
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format --quiet .
	$(BIN)/buf format proto --write

generate: .venv/dev ## regenerate gen/ from proto/
	$(BIN)/python proto/generate.py

guards: .venv/dev ## remove each guard that a promise stands on, and see a test go red (many minutes)
	@$(BIN)/python scripts/guards.py $(ARGS)

torture: .venv/dev ## die at every failpoint, play SEEDS=10000 simulated worlds (SEED=n: one again), kill, restart; one table
	@GRPC_VERBOSITY=NONE $(BIN)/python -m tests.torture

bench: .venv/runtime ## measure runs of five no-op steps
	@$(BIN)/python -m bench.steps $(ARGS)

bench-pressed: .venv/runtime ## measure commands at one session, and beside a saturated engine
	@$(BIN)/python -m bench.contention $(ARGS)

bench-waiting: .venv/runtime ## measure what 100,000 runs that wait cost an orchestrator (some minutes)
	@$(BIN)/python -m bench.waiting $(ARGS)

lock: .cache/uv/bin/uv ## lock requirements/*.in into requirements/*.txt
	$< pip compile $(LOCK) requirements/runtime.in -o requirements/runtime.txt
	$< pip compile $(LOCK) requirements/dev.in -c requirements/runtime.txt -o requirements/dev.txt

clean: ## remove what the other targets made, except the data in .assent
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

LOCK := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet $(ARGS)

# Each stamp says that .venv holds what the lock of the same name lists, and the project itself, editable.
.venv/runtime: requirements/runtime.txt pyproject.toml | $(BIN)/python
	@echo "Installing what Assent needs to run into .venv (once)"
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/runtime.txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --no-index --editable .
	@touch $@

.venv/dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	@echo "Installing what developing Assent needs into .venv (once)"
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --no-index --editable .
	@touch .venv/runtime $@

$(BIN)/python:
	@scripts/make-venv .venv $(PYTHON)

.cache/uv/bin/uv:
	@scripts/make-venv .cache/uv $(PYTHON)
	@.cache/uv/bin/python -m pip install --quiet 'uv~=0.13'
