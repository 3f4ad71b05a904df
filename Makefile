# Every target installs what it needs; the commands are the same ones CI runs.
PYTHON ?= python3
BIN := .venv/bin
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header $(if $(UPGRADE),--upgrade)

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format docs docs-check bench bench-smoke check lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: ## make .venv from the locks; does nothing when it is current
	@$(PYTHON) tools/bootstrap.py

demo: install ## replay two years of bicycle rentals through the whole loop, then live them through real servers
	$(BIN)/clew backtest examples/bikes/bikes.py --start 2011-07-01 --report backtest-report.html
	$(BIN)/python examples/bikes/live/feeder.py

test: install ## run the tests and the examples in the docstrings
	$(BIN)/python -m pytest -n 2

lint: install ## style, types, layers, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell $$(git ls-files)

format: install ## let ruff put the code in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install ## write docs/reference from the program itself
	$(BIN)/python tools/docs.py

docs-check: install
	$(BIN)/python tools/docs.py --check

bench: install ## run every benchmark and keep its numbers in benchmarks/results
	$(BIN)/python -m benchmarks

bench-smoke: install
	$(BIN)/python -m benchmarks --smoke

check: lint test docs-check bench-smoke ## all of it, as before a release

lock: install ## pin what pyproject.toml asks for; UPGRADE=1 takes the newest
	$(COMPILE) --all-extras --group dev pyproject.toml --output-file requirements.lock
	$(COMPILE) --no-deps --group demo --output-file requirements-demo.lock

clean: ## remove the environment and every cache
	rm -rf .venv .venv.lock .venv.unfinished .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
