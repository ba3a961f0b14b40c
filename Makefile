# Everything a newcomer needs: make demo, make test. Only git, make and python3 (3.11 or newer) must be there.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-gpu test-ray test-web lint types check clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed  ## upscale a real face with the embedded prior; says where the pictures are
	$(BIN)/python demo/astronaut.py

test: lint types check  ## everything CI runs

lint: $(VENV)/.installed
	$(BIN)/ruff check --output-format concise .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	$(BIN)/mypy

check: $(VENV)/.installed  ## two processes, each of which computes with one thread
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-gpu: $(VENV)/.installed  ## what needs a CUDA device; skipped without one
	$(BIN)/python -m pytest -m gpu

test-ray: $(VENV)/.installed  ## clusters on Ray, which it installs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,ray]'
	$(BIN)/python -m pytest tests/cluster

test-web: $(VENV)-web/.installed  ## the page in Chromium, which Debian's root gets installed; .screenshots/ has pictures of it
	@{ command -v chromium && command -v chromedriver; } > /dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
			chromium chromium-driver fonts-dejavu-core > /dev/null; } \
		|| echo "Chromium could not be installed: the tests in it are skipped"
	$(VENV)-web/bin/python -m pytest tests/web

# Gradio wants an older Pillow: an environment of its own, which finds everything else in the first one.
$(VENV)-web/.installed: $(VENV)/.installed
	$(PYTHON) -m venv $(VENV)-web
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$($(VENV)-web/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/first.pth"
	$(VENV)-web/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[browser]'
	touch $@

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-web .demo .screenshots .mypy_cache .ruff_cache .pytest_cache
