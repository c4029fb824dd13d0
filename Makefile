# Everything runs in .venv, made from requirements.lock; nothing is installed by hand.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo up down test check format bench clean lock env image compose-up compose-demo compose-test backup restore
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest

# Docker Compose v2, else v1. COMPOSE_LAB=1 adds what stand-in images need (tests/compose/lab.yaml).
COMPOSE ?= $(shell if docker compose version >/dev/null 2>&1; then echo docker compose; else echo docker-compose; fi) \
	$(if $(COMPOSE_LAB),-f docker-compose.yaml -f tests/compose/lab.yaml)

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make the virtual environment with the locked dependencies

$(STAMP): requirements.lock pyproject.toml scripts/find-python.sh
	@python=$$(sh scripts/find-python.sh) && \
	if [ ! -x $(BIN)/python ] || [ "$$($(BIN)/python -c 'import sys; print(sys.prefix)' 2>/dev/null)" != "$(CURDIR)/$(VENV)" ]; then \
		echo "making $(VENV) with $$python" && rm -rf $(VENV) && "$$python" -m venv $(VENV); \
	fi
	@echo "installing the locked dependencies (7 GB on disk; the first time takes minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^uv==' requirements.lock)"
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: setup ## Play three nights of a real stream: three to five minutes after the installation
	@$(BIN)/tidemark demo

up: setup ## Start the embedded stack (PostgreSQL, S3, MLflow, Airflow)
	@$(BIN)/tidemark up

down: ## Stop the embedded stack; its data stays
	@if [ -x $(BIN)/tidemark ]; then $(BIN)/tidemark down; else echo "nothing runs: there is no $(VENV) yet"; fi

test: check ## Check the code and run every test, in two processes
	@OPENBLAS_NUM_THREADS=1 $(PYTEST) -n 2 --dist loadscope --no-loadscope-reorder

check: setup ## Lint, format check and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	@$(BIN)/mypy

format: setup ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup ## Measure speed and power side by side with the libraries
	@$(BIN)/python -m tests.benchmarks

env: ## Write .env with generated secrets for docker compose
	@sh docker/make-env.sh

image: ## Build the one image of docker-compose.yaml (TORCH=cpu: without CUDA)
	@$(COMPOSE) build init

compose-up: ## Start the composed stack, or bring it to this version
	@$(COMPOSE) up --detach --remove-orphans

compose-demo: compose-up ## Play the three nights of `make demo` through the composed stack
	@$(COMPOSE) run --rm cli demo --here

compose-test: setup ## Break the composed stack on purpose and see that it mends: needs Docker, takes an hour
	@COMPOSE="$(COMPOSE)" COMPOSE_TESTS=1 $(PYTEST) -p no:xdist tests/compose

backup: ## Save databases and artefacts of the composed stack (IMAGES=1: images too) into backups/
	@COMPOSE="$(COMPOSE)" sh docker/backup.sh save "backups/$$(date -u +%Y-%m-%dT%H-%M-%S)" $(if $(IMAGES),--images)

restore: ## Fill an empty composed stack from a backup (FROM=backups/…)
	@COMPOSE="$(COMPOSE)" sh docker/backup.sh load "$(FROM)"

lock: setup # Resolve pyproject.toml anew into requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --no-annotate --no-header \
		--no-emit-index-url --upgrade pyproject.toml --output-file requirements.lock
	@sed -i "s/ ; python_full_version < '3.13'$$//; s/python_full_version < '3.13' and //g" requirements.lock

clean: down ## Stop the stack; remove its data, the virtual environment and caches
	@rm -rf $(VENV) .tidemark *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
