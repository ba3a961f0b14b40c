# Everything a newcomer needs: make demo, make test. Only git, make and python3 (3.11 or newer) must be there.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-gpu test-ray lint types check clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed  ## upscale a real face with the embedded prior; says where the pictures are
	$(BIN)/python demo/astronaut.py

test: lint types check  ## everything CI runs

lint: $(VENV)/.installed
	$(BIN)/ruff check --output-format concise .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

check: $(VENV)/.installed
	$(BIN)/python -m pytest

test-gpu: $(VENV)/.installed  ## what needs a CUDA device; skipped without one
	$(BIN)/python -m pytest -m gpu

test-ray: $(VENV)/.installed  ## clusters on Ray, which it installs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,ray]'
	$(BIN)/python -m pytest tests/cluster

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .demo .mypy_cache .ruff_cache .pytest_cache
