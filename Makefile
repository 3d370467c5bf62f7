# Two commands do everything: `make demo` and `make test`.  Both set up what they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup test check demo chaos fuzz bench docs lock deb apt-repo emulator lab newcomer clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z_-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: ## create the virtual environment, and install the system libraries that are missing
	@PYTHON="$(PYTHON)" tests/setup.sh $(VENV)

# How many tests run at once: they wait most of the time, for processes and for each other's answers.
JOBS ?= 3

# What the tests need beside that: Baileys runs on Node.js, the Firestore emulator on Java, small disks are mounted.
TEST_TOOLS := node:nodejs npm java:default-jre-headless mount

test: setup check ## every check and every test
	@packaging/tools.sh $(TEST_TOOLS)
	@$(if $(CI),$(MAKE) --no-print-directory emulator,$(BIN)/python -m tests.missing | sed 's/^/test: /')
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile $(PYTEST_ARGS)

emulator: setup ## Google's Firestore emulator, for the tests of Firestore: Debian does not have it
	@tests/firestore/get-emulator.sh $(BIN)/python

check: setup ## formatting, lint, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

demo: setup ## the main job, shown: pair, receive, store, answer (ONCE=1 ends by itself)
	$(BIN)/python -m tests.demo $(if $(ONCE),--once) $(DEMO_ARGS)

chaos: setup ## kill -9, full disk, cut network at random: nothing is lost or doubled (N=25 SEED=n KIND=a,b APART=1 LEASE=1)
	$(BIN)/python -m tests.chaos --runs $(or $(N),25) $(if $(SEED),--seed $(SEED)) $(if $(KIND),--kind $(KIND)) \
	    $(if $(APART),--apart) $(if $(LEASE),--lease)

fuzz: setup ## random inputs for every parser and interface, N in total (N=20000 SEED=n TARGET=a,b)
	$(BIN)/python -m tests.fuzz --inputs $(or $(N),20000) --jobs $(or $(FUZZ_JOBS),2) \
	    $(if $(SEED),--seed $(SEED)) $(if $(TARGET),--target $(TARGET))

bench: setup ## figures as JSON lines (ONLY=NAME for one)
	packaging/tools.sh wrk
	$(BIN)/python -m tests.bench $(if $(ONLY),--only $(ONLY))

docs: setup ## regenerate the pages that are made from the code
	$(BIN)/python -m tests.generate

lock: setup ## regenerate requirements.txt from setup.cfg and requirements.in, for every Python (LOCK_ARGS=--upgrade)
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11.2 --extra test --generate-hashes \
	    --custom-compile-command "make lock" --output-file requirements.txt $(LOCK_ARGS) requirements.in setup.cfg
	cd tests/generators && ../../$(VENV)/lock/bin/uv pip compile --quiet --universal --python-version 3.11.2 --generate-hashes \
	    --custom-compile-command "make lock" --output-file requirements.txt $(LOCK_ARGS) requirements.in

# See packaging/tools.sh.  dpkg-dev comes with debhelper.
DEB_TOOLS := dh:debhelper lintian:lintian
REPO_TOOLS := apt-ftparchive:apt-utils gpg:gnupg
LAB_TOOLS := $(DEB_TOOLS) $(REPO_TOOLS) systemd-nspawn:systemd-container mmdebstrap:mmdebstrap \
    /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring
PASSED_ON := CI,WAD_LAB_CACHE,http_proxy,https_proxy,no_proxy,HTTP_PROXY,HTTPS_PROXY,NO_PROXY,PIP_INDEX_URL,NPM_CONFIG_REGISTRY
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=$(PASSED_ON))

deb: setup ## the Debian packages, into dist/ (ARCH=amd64 for one)
	packaging/tools.sh $(DEB_TOOLS)
	PYTHONPATH=packaging $(BIN)/python -m wadpack deb $(if $(ARCH),--arch $(ARCH)) $(DEB_ARGS)

apt-repo: setup ## a signed repository of the packages in dist/, as files: KEY=you@example.org URL=https://example.org/apt
	@test -n "$(KEY)" && test -n "$(URL)" || { echo "$@ needs KEY and URL: make $@ KEY=you@example.org URL=https://example.org/apt" >&2; exit 2; }
	packaging/tools.sh $(REPO_TOOLS)
	PYTHONPATH=packaging $(BIN)/python -m wadpack repository --key "$(KEY)" --url "$(URL)"

lab: setup ## the package on real systemd, in containers (LAB_ARGS=--quick: what CI runs)
	packaging/tools.sh $(LAB_TOOLS) node:nodejs npm
	$(AS_ROOT) env PYTHONPATH=packaging $(BIN)/python -m tests.lab $(LAB_ARGS)

newcomer: setup ## README's commands as a newcomer types them, on bare machines; needs the registries (SYSTEM=bookworm)
	packaging/tools.sh systemd-nspawn:systemd-container mmdebstrap:mmdebstrap \
	    /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring
	$(AS_ROOT) $(BIN)/python -m tests.lab.newcomer $(if $(SYSTEM),--system $(SYSTEM)) $(if $(UNTIL),--until '$(UNTIL)')

clean: ## remove .venv, build, dist and the caches
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
