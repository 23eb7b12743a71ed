# What a newcomer types. Everything runs in .venv, which the first target that needs it makes.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
RUNS := runs
DATA := datasets/docs
SAY := @printf '\n==> %s\n'

.PHONY: help setup data demo test matrix lint docs bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv: pinned dependencies, the CPU build of torch where there is no GPU

$(READY): pyproject.toml .ci/constraints.txt .ci/setup.sh
	@bash .ci/setup.sh
	@touch $@

data: $(DATA)/manifest.json ## curate the default corpus, the documentation installed here, into datasets/docs

$(DATA)/manifest.json: | $(READY)
	$(SAY) "data: documentation text → filters → deduplication → tokens in $(DATA)"
	$(BIN)/python launch/data.py data.output=$(DATA)

demo: $(DATA)/manifest.json ## the main job: data, a run in 3D parallel and in one process, a ladder of sizes, the report
	$(SAY) "demo 1/4: one run in 3D parallel, data 2 × tensor 2 × pipeline 2"
	$(BIN)/python launch/train.py experiment=demo-2x2x2 data.path=$(DATA) runs_dir=$(RUNS)/demo
	$(SAY) "demo 2/4: the same run in one process"
	$(BIN)/python launch/train.py experiment=demo-single data.path=$(DATA) runs_dir=$(RUNS)/demo
	$(SAY) "demo 3/4: a ladder of sizes and budgets"
	$(BIN)/python launch/train.py -m experiment=ladder data.path=$(DATA) runs_dir=$(RUNS)/demo
	$(SAY) "demo 4/4: the report"
	@$(BIN)/isoflop report $(RUNS)/demo

test: $(READY) ## the tests, on two cores in at most 15 minutes
	$(SAY) "tests"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

matrix: $(READY) ## every layout up to eight ranks beside one process: hours; the tests take a part of it
	$(SAY) "matrix"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow
	OMP_NUM_THREADS=1 $(BIN)/python tests/parallel/matrix.py --out docs/matrix.md

lint: $(READY) ## style (ruff), types (mypy), and who may import whom
	$(SAY) "ruff"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(SAY) "mypy"
	$(BIN)/mypy
	$(SAY) "import rules"
	$(BIN)/python -m pytest tests/unit/test_imports.py

docs: $(READY) ## the documentation, into site/
	$(SAY) "docs"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo site/index.html

bench: $(READY) ## what a training step costs beside a bare PyTorch loop
	$(SAY) "bench: a training step beside a bare loop, interleaved"
	$(BIN)/python benchmarks/step.py

clean: ## remove .venv, caches and site/; datasets/ and runs/ stay
	$(SAY) "removing .venv, caches and site/"
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
