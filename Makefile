# Each target sets itself up: it makes .venv and installs the versions of constraints.txt, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow fuzz lint check bench format

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("scorer needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $(READY)

demo: $(READY)
	$(BIN)/scorer run quickstart

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(READY)
	$(BIN)/python -m pytest -n 2 -m slow

fuzz: $(READY)
	$(BIN)/python -m tests.fuzz --seed 0 --inputs 1000

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

check: lint test

bench: $(READY)
	$(BIN)/python -m tests.bench_environments --json bench-environments.json
	$(BIN)/python -m tests.bench_training --json bench-training.json
	$(BIN)/python -m tests.bench_search

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
