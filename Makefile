# Each target sets itself up: it makes .venv and installs the versions of constraints.txt, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# For `make devcluster`: the folder of the cluster, and a YAML file with settings (fields of tests/devcluster/settings.py).
DIR ?= /tmp/scorer-devcluster
CONFIG ?=
# For `make bench-gpu`: its options.
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow fuzz lint check bench bench-gpu format devcluster interval-coverage verdict-rates

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' Makefile | awk -F ': ' '{printf "make %-18s %s\n", $$1, $$2}'

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("scorer needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $(READY)

demo: $(READY) ## train the quickstart sweep and draw its report
	$(BIN)/scorer run quickstart

test: $(READY) ## run the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slow: $(READY) ## run the slow tests, also on a real Slurm where one can be started
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

fuzz: $(READY) ## run the commands on random definitions and damaged files
	$(BIN)/python -m tests.fuzz --seed 0 --inputs 1000

lint: $(READY) ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

check: lint test ## lint and test

bench: $(READY) ## measure the speed of environments, training and search
	$(BIN)/python -m tests.bench_environments --json bench-environments.json
	$(BIN)/python -m tests.bench_training --json bench-training.json
	$(BIN)/python -m tests.bench_search

bench-gpu: ## test and measure a GPU in nine minutes; installs what it needs (ARGS="--official SCRIPT")
	$(PYTHON) -m tests.bench_gpu $(ARGS)

format: $(READY) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

devcluster: $(READY) ## start a real Slurm on this machine (DIR=folder CONFIG=file.yaml; needs root)
	@mkdir -p $(DIR)
	@$(BIN)/python -m tests.devcluster start $(DIR) $(if $(CONFIG),--config $(CONFIG)) > $(DIR)/environment.sh
	@echo "A Slurm cluster runs in $(DIR)."
	@echo "Use it in this shell:  . $(DIR)/environment.sh && sinfo"
	@echo "See its daemons:       $(BIN)/python -m tests.devcluster status $(DIR)"
	@echo "Stop it:               $(BIN)/python -m tests.devcluster stop $(DIR)"

interval-coverage: $(READY) ## simulate how often confidence intervals cover the truth; rewrites docs/statistics.md
	$(BIN)/python -m tools.interval_coverage

verdict-rates: $(READY) ## simulate how often each verdict on a run is wrong
	$(BIN)/python -m tools.verdict_rates
