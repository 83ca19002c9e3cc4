# Every target makes the environment it needs; `make` alone lists the targets.
PYTHON ?= $(shell command -v python3.11 || echo python3)
UV := $(shell command -v uv)
PYTEST_ARGS ?= -n auto --maxprocesses=4

.NOTPARALLEL:
.PHONY: help demo test test-lowest lint format types constraints clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: .venv/ready-demo ## train on synthetic surgery and predict an unseen operation, or VIDEO=your.mp4
	.venv/bin/surgvista demo $${VIDEO:+--video "$$VIDEO"}

test: .venv/ready-dev ## run the tests; PYTEST_ARGS="-k word" chooses
	OMP_NUM_THREADS=1 .venv/bin/pytest $(PYTEST_ARGS)

test-lowest: .venv-lowest/ready-dev ## run the tests with the oldest supported libraries
	OMP_NUM_THREADS=1 .venv-lowest/bin/pytest $(PYTEST_ARGS)

lint: .venv/ready-dev ## check style and formatting
	.venv/bin/ruff check
	.venv/bin/ruff format --check

format: .venv/ready-dev ## repair style and formatting
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

types: .venv/ready-dev ## check types
	.venv/bin/mypy

constraints: ## resolve the newest versions and write constraints.txt
	@$(call make_environment,.venv-newest,dev,)
	{ grep '^#' constraints.txt; $(call freeze,.venv-newest); } > constraints.new
	mv constraints.new constraints.txt
	rm -rf .venv-newest

clean: ## remove environments, caches and build products
	rm -rf .venv .venv-lowest .venv-newest build dist *.egg-info .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

