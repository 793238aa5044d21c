# Every target sets up .venv by itself; Python 3.11+ and make are all a fresh machine needs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help book test quick deep bench lab clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "kss needs Python 3.11 or newer: make PYTHON=/path/to/python3"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned packages into $(VENV) (a few minutes the first time) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[verify,book,test]'
	touch $@

book: $(STAMP) ## build the book, check it, and say where it is
	$(BIN)/python book/_tools/build.py

test: $(STAMP) ## lint, types, tests, and the whole ledger with its mutants
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --dist loadgroup

quick: $(STAMP) ## the deterministic lane of the ledger and the tests of the core, under a minute
	@$(BIN)/python -m kss verify --quick & ledger=$$!; \
	$(BIN)/python -m pytest -n 1 -m "not slow" tests/distributions tests/engine tests/theory tests/test_dynamics.py; tests=$$?; \
	wait $$ledger && exit $$tests

deep: $(STAMP) ## random seeds, ten times the search, and mutation testing of kss/theory
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[deep]'
	$(BIN)/python -m kss verify --deep --evidence _build/deep.json --book book
	$(BIN)/mutmut run
	$(BIN)/mutmut results

bench: $(STAMP) ## time the engine beside what people would use instead, on all cores, a quarter of an hour
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	env -u OMP_NUM_THREADS $(BIN)/python -m benchmarks

lab: $(STAMP) ## open the chapters as notebooks in JupyterLab
	mkdir -p $(VENV)/share/jupyter/lab/settings
	cp book/_tools/lab-overrides.json $(VENV)/share/jupyter/lab/settings/overrides.json
	$(BIN)/jupyter lab --notebook-dir=book

clean: ## remove what was built (the environment stays; rm -r .venv removes that)
	rm -rf _build dist mutants .pytest_cache .mypy_cache .ruff_cache .hypothesis
