# Every target first makes the environment it needs, once; `make` alone lists the targets.
# The first Python that starts (a shim of pyenv may not), is new enough and can make environments.
usable = import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(or $(shell for python in python3.11 python3.12 python3 python; do \
	$$python -c '$(usable)' 2>/dev/null && echo $$python && break; done),$(if $(UV),3.11))
UV ?= $(shell command -v uv)
# Further options of `surgvista demo`, such as --operations 6 --epochs 1 for a look at it in a minute.
DEMO_ARGS ?=
PYTEST_ARGS ?= -n auto --maxprocesses=4 --dist worksteal

.NOTPARALLEL:
.PHONY: help demo test test-all test-lowest lint types docs constraints clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' Makefile | expand -t 20

demo: .venv/ready-demo ## train on synthetic surgery, predict an unseen operation; VIDEO=file.mp4 predicts that
	@.venv/bin/surgvista demo $${VIDEO:+--video "$$VIDEO"} $(DEMO_ARGS)

test: .venv/ready-dev ## run the tests but the slow ones; PYTEST_ARGS='-k word' chooses
	@.venv/bin/pytest -m 'not slow' $(PYTEST_ARGS)

test-all: .venv/ready-dev ## run all tests
	@.venv/bin/pytest $(PYTEST_ARGS)

test-lowest: .venv-lowest/ready-test ## run the tests with the oldest supported libraries
	@.venv-lowest/bin/pytest $(PYTEST_ARGS)

lint: .venv/ready-dev ## check style and format
	.venv/bin/ruff check
	.venv/bin/ruff format --check

types: .venv/ready-dev ## check types
	.venv/bin/mypy

docs: .venv/ready-dev ## build the documentation into build/site; any broken link or anchor is an error
	.venv/bin/python docs/stage.py
	.venv/bin/zensical build --strict --config-file mkdocs.yml

constraints: .venv/ready-dev ## write the installed versions into constraints.txt
	.venv/bin/pip list --format=freeze --exclude-editable --exclude=pip | sed 's/+.*//' > constraints.txt
	touch .venv/ready-*

clean: ## remove environments, caches and built files
	rm -rf .venv .venv-lowest .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist demo *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

# ready-EXTRA is written last. An environment without one was interrupted and is made anew; one with a stale one is
# brought up to date in place. Every extra used here contains `demo`.
.venv/ready-%: pyproject.toml constraints.txt
	$(call install,.venv,constraints.txt)

.venv-lowest/ready-%: pyproject.toml constraints-lowest.txt
	$(call install,.venv-lowest,constraints-lowest.txt)

# Arguments: environment, constraints.
define install
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer with venv is needed (Debian: python3-venv); or say make PYTHON=path" >&2; exit 1; }
	@test -n "$(wildcard $(1)/ready-*)" || rm -rf $(1)
	@rm -f $(1)/ready-*
	$(if $(UV),test -d $(1) || $(UV) venv --seed --python $(PYTHON) $(1),$(PYTHON) -m venv $(1))
	$(if $(UV),$(UV) pip install --python $(1)/bin/python,$(1)/bin/python -m pip install) -c $(2) -e '.[$*]'
	@touch $(1)/ready-demo $@
endef
