# One command each; every target does its own set-up. `make help` lists them.
SHELL := /bin/bash
PY ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header $(if $(UPGRADE),--upgrade)
BOOTSTRAP ?= 127.0.0.1:9092

.PHONY: help setup lock pin-images demo demo-kafka test test-fast search check lint format schemas bench simulate chaos chaos-kafka test-brokers upgrade-test fuzz kafka kafka-stop clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/uv:
	@command -v $(PY) >/dev/null || { echo "python3 (3.11 or later) is needed"; exit 1; }
	$(PY) scripts/environment.py venv $(VENV)

$(RUNTIME): $(BIN)/uv requirements.txt requirements-build.txt pyproject.toml
	$(BIN)/python scripts/environment.py lock $(VENV) requirements-build.txt
	$(BIN)/python scripts/environment.py lock $(VENV) requirements.txt
	$(BIN)/python scripts/environment.py project $(VENV)
	@touch $@

$(DEV): $(RUNTIME) requirements-dev.txt
	$(BIN)/python scripts/environment.py lock $(VENV) requirements-dev.txt
	@touch $@

setup: $(DEV) ## create the virtual environment with everything

lock: $(BIN)/uv ## write the lock files anew from pyproject.toml, keeping what still fits; UPGRADE=1 for the newest
	$(LOCK) requirements-build.in -o requirements-build.txt
	$(LOCK) pyproject.toml -o requirements.txt
	$(LOCK) pyproject.toml --extra dev -c requirements.txt -o requirements-dev.txt

pin-images: ## write the digest of each base image behind its tag; needs Docker and its registry
	$(PY) scripts/pin_images.py

demo: $(RUNTIME) ## the closed loop on the embedded log: drift, alert, trigger, fine-tune, recovery
	$(BIN)/tidegauge demo

demo-kafka: $(RUNTIME) ## the same on a real Kafka broker that it starts itself
	$(PY) scripts/kafka_broker.py start --dir .cache/kafka-demo --port 0
	status=0; $(BIN)/tidegauge demo --kafka "$$($(PY) scripts/kafka_broker.py status --dir .cache/kafka-demo)" || status=$$?; \
	$(PY) scripts/kafka_broker.py stop --dir .cache/kafka-demo; exit $$status

test: $(DEV) ## every test, the real broker included; fast ones first
	$(BIN)/python -m pytest -q -n 2 -m "not slow and not kafka"
	$(BIN)/python -m pytest -q -n 2 -m "slow and not kafka"
	$(BIN)/python -m pytest -q -m kafka

test-fast: $(DEV) ## the fast tests alone
	$(BIN)/python -m pytest -q -n 2 -m "not slow and not kafka"

search: $(DEV) ## the fast tests with examples never tried before
	TIDEGAUGE_EXAMPLES=search $(BIN)/python -m pytest -q -n 2 -m "not slow and not kafka"

lint: $(DEV) ## ruff, mypy, import-linter, generated schemas
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m schemas.generate --check

check: lint test ## all that CI runs

format: $(DEV) ## put the code in form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schemas: $(DEV) ## write schemas/generated anew
	$(BIN)/python -m schemas.generate

bench: $(DEV) ## measure: the monitor against orjson.loads, the service against a bare consumer
	$(BIN)/python -m benchmarks --json

simulate: $(DEV) ## seeded faults on the log in memory, 5,000 seeds; SEEDS=n for another number
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),5000)

chaos: $(DEV) ## kill -9 of real service processes on the embedded log, 1,000 times; KILLS=n for another number
	$(BIN)/python -m tests.chaos --kills $(or $(KILLS),1000)

chaos-kafka: $(DEV) ## real service processes on a real broker, which dies too: 100 faults; FAULTS=n, SEED=n for others
	$(BIN)/python -m tests.chaos.kafka --faults $(or $(FAULTS),100) --seed $(or $(SEED),1)

fuzz: $(DEV) ## ten million broken records through codec and task (RECORDS=n), and every number at its extremes
	$(BIN)/python -m tests.fuzz --records $(or $(RECORDS),10000000)
	$(BIN)/python -m tests.fuzz --extremes

test-brokers: $(DEV) ## the carrier's laws and 20 faults on each older Kafka: 3.9.1 and 2.8.2; BROKERS="..." for others
	@for version in $(or $(BROKERS),3.9.1 2.8.2); do \
	  echo "== Kafka $$version"; export TIDEGAUGE_KAFKA_VERSION=$$version; \
	  $(BIN)/python -m pytest -q -m kafka tests/eventlog/test_laws.py tests/eventlog/test_kafka.py tests/eventlog/test_kafka_reader.py tests/eventlog/test_membership.py tests/eventlog/test_broker_limits.py || exit 1; \
	  $(BIN)/python -m tests.chaos.kafka --faults $(or $(FAULTS),20) --seed $(or $(SEED),1) || exit 1; \
	done

upgrade-test: $(DEV) ## a rolling upgrade on a real broker, from the last published program to this one; FROM=commit for another
	$(BIN)/python -m tests.upgrade.rolling $(if $(FROM),--from $(FROM)) $(if $(EVENTS),--events $(EVENTS))

kafka: ## start a local Kafka broker on port 9092 (no Docker needed)
	$(PY) scripts/kafka_broker.py start --dir .cache/kafka --port 9092

kafka-stop: ## stop it
	$(PY) scripts/kafka_broker.py stop --dir .cache/kafka

clean: ## remove what was built
	rm -rf $(VENV) .cache build *.egg-info
