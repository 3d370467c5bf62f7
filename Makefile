# Two commands do everything: `make demo` and `make test`.  Both set up what they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup test check demo chaos bench docs clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z_-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(READY) ## a virtual environment with everything in it, and the system libraries

$(READY): setup.cfg pyproject.toml requirements.txt tests/setup.sh
	PYTHON="$(PYTHON)" tests/setup.sh $(VENV)
	@touch $@

test: setup check ## every check and every test
	tests/baileys/setup.sh
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: setup ## formatting, lint, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

demo: setup ## the main job, shown: pair, receive, store, answer (ONCE=1 ends by itself)
	$(BIN)/python -m tests.demo $(if $(ONCE),--once) $(DEMO_ARGS)

chaos: setup ## kill -9, full disk, cut network at random: nothing is lost or doubled (N=25 SEED=n KIND=a,b APART=1)
	$(BIN)/python -m tests.chaos --runs $(or $(N),25) $(if $(SEED),--seed $(SEED)) $(if $(KIND),--kind $(KIND)) \
	    $(if $(APART),--apart)

bench: setup ## figures as JSON lines (ONLY=NAME for one)
	$(BIN)/python -m tests.bench $(if $(ONLY),--only $(ONLY))

docs: setup ## write again what is generated from the code
	$(BIN)/python -m tests.generate

clean: ## remove what setup made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
