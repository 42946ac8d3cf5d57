PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: serve test lint bench bench-audit bench-history soak clean

$(VENV)/.runtime: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ $(VENV)/.runtime

serve: $(VENV)/.runtime
	$(BIN)/python -m service serve --or-emulator

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

include tests/contract/clients.mk

test: $(VENV)/.dev clients lint
	$(BIN)/python -m pytest

# The service is killed more often than in the tests; KILLS=1000 sets how often, KILL_SEED repeats a run.
soak: $(VENV)/.dev
	KILLS=$(or $(KILLS),200) $(BIN)/python -m pytest tests/faults/test_kill.py

bench: $(VENV)/.dev
	$(BIN)/python -m bench

# A million interactions are put into each database first; KEEP=DIR keeps them for the next time.
bench-history: $(VENV)/.dev
	$(BIN)/python -m bench.history $(if $(KEEP),--keep $(KEEP))

# A million interactions with all that is derived from them are put into each database first; COUNT=N puts fewer.
bench-audit: $(VENV)/.dev
	$(BIN)/python -m bench.audit $(if $(COUNT),--count $(COUNT))

clean:
	rm -rf $(VENV) .venvs .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
