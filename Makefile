# One verb per chore: `make help` lists them. Each builds what it needs, on a fresh machine, too.

PORT ?= 8000
PYTHON ?= python3
export PYTHON

VENV := .venv
PIP := -m pip install --quiet --disable-pip-version-check --no-input
SETTINGS_PAGE := docs/settings.md

# Debian keeps nginx, which some tests start, where only root looks.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help run test lint types bench docs clean system others

help:
	@echo "make VERB, where VERB is one of"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' Makefile

run: $(VENV)/.run ## serve the example application on 127.0.0.1:8000 (or PORT=8001)
	@echo "Serving examples/hello.py on http://127.0.0.1:$(PORT)/ (Ctrl-C stops)"
	@exec $(VENV)/bin/monoceros --bind 127.0.0.1:$(PORT) --workers 2 --threads 4 --access-logfile - examples.hello:app

test: system others $(VENV)/.test ## run the tests; on other Pythons at hand only the fast ones
	@echo "All tests, $$($(VENV)/bin/python --version)"
	@$(VENV)/bin/python -m pytest

lint: $(VENV)/.dev ## check formatting and style (ruff)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .

types: $(VENV)/.dev ## check types (mypy, strict)
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy scripts/check-links.py

bench: system $(VENV)/.run ## measure us and our peers side by side
	$(VENV)/bin/python -m bench

docs: $(VENV)/.run ## check that the settings page is up to date, and that links lead somewhere
	@$(VENV)/bin/python -m monoceros.settings.render | diff -uN $(SETTINGS_PAGE) - || \
	    { echo "$(SETTINGS_PAGE) is out of date: $(VENV)/bin/python -m monoceros.settings.render > $(SETTINGS_PAGE)"; exit 1; }
	@$(VENV)/bin/python scripts/check-links.py

clean: ## remove all that was built, the virtual environments (.venv*) too
	rm -rf .venv .venv-* bench/.peers* build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What the verbs need. A stamp in the virtual environment says which extras it has; a new pyproject.toml makes it stale.

system:
	@bash scripts/install-system.sh

$(VENV)/pyvenv.cfg:
	@bash scripts/pythons.sh venv $(@D)

$(VENV)/.run: $(VENV)/pyvenv.cfg pyproject.toml
	@echo "Installing Monoceros into $(@D)"
	@$(VENV)/bin/python $(PIP) --editable .
	@touch $@

$(VENV)/.test: $(VENV)/pyvenv.cfg pyproject.toml
	@echo "Installing Monoceros and what its tests need into $(@D)"
	@$(VENV)/bin/python $(PIP) --editable '.[test]'
	@touch $(VENV)/.run $@

$(VENV)/.dev: $(VENV)/pyvenv.cfg pyproject.toml
	@echo "Installing Monoceros, what its tests need, ruff and mypy into $(@D)"
	@$(VENV)/bin/python $(PIP) --editable '.[dev]'
	@touch $(VENV)/.run $(VENV)/.test $@

# Every other Python that runs here gets an environment of its own (.venv-3.12, ...), the fast tests and the smoke tests.

others: $(VENV)/pyvenv.cfg
	@bash scripts/pythons.sh each $(MAKE)

test-on-%: .venv-%/.test
	@echo "Fast tests and smoke tests, $$(.venv-$*/bin/python --version)"
	@.venv-$*/bin/python -m pytest -p no:cacheprovider -m "not process or smoke"

.venv-%/pyvenv.cfg:
	@bash scripts/pythons.sh venv $(@D) $*

.venv-%/.test: .venv-%/pyvenv.cfg pyproject.toml
	@echo "Installing Monoceros and what its tests need into $(@D)"
	@$(@D)/bin/python $(PIP) --editable '.[test]'
	@touch $@

.PRECIOUS: .venv-%/pyvenv.cfg .venv-%/.test
