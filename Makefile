PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# What is compiled is kept whatever the environment says: the tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: serve test tests-compiled lint docs schema bench bench-background bench-history bench-routing bench-streams bench-audit bench-export bench-storage soak clean

$(VENV)/.runtime: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.dev: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@ $(VENV)/.runtime

# ARGS='--port 4001' gives the command more arguments.
serve: $(VENV)/.runtime
	$(BIN)/python -m service serve --or-emulator $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

include tests/contract/clients.mk

# Most tests wait more than they compute, so there are more workers than processors; WORKERS=1 runs them one by one.
test: $(VENV)/.dev
	$(MAKE) --no-print-directory --jobs 3 clients lint tests-compiled
	$(BIN)/python -m pytest --numprocesses $(or $(WORKERS),5) --dist worksteal

# Every worker reads all tests, and compiles what nobody has compiled before; what is wrong with them it tells.
tests-compiled: $(VENV)/.dev
	$(BIN)/python -m pytest --collect-only --quiet --quiet > /dev/null || true

# The service is killed more often than in the tests, has more listeners, more background runs and other conversations, and
# spreads more load; KILLS=1000 sets how often, RUNS=1000 how many runs two replicas have, HISTORIES=500 how many trees of
# conversations there are, DRAWS=10000 how many requests are spread; KILL_SEED and HISTORY_SEED repeat a run.
soak: $(VENV)/.dev
	KILLS=$(or $(KILLS),200) STREAM_KILLS=$(or $(STREAM_KILLS),20) LISTENERS=$(or $(LISTENERS),1000) \
		$(BIN)/python -m pytest tests/faults/test_kill.py tests/faults/test_killed_streams.py \
		tests/faults/test_many_listeners.py
	RUNS=$(or $(RUNS),1000) $(BIN)/python -m pytest tests/faults/test_random_kills.py
	HISTORIES=$(or $(HISTORIES),500) $(BIN)/python -m pytest tests/interactions/test_any_history.py
	DRAWS=$(or $(DRAWS),10000) $(BIN)/python -m pytest tests/interactions/test_shares.py

docs: $(VENV)/.dev
	$(BIN)/python -m docs.reference

# After a new migration: what a new SQLite file is given at once.
schema: $(VENV)/.dev
	$(BIN)/python -m migrations.written

bench: $(VENV)/.dev
	$(BIN)/python -m bench

# A million interactions are put into each database first; KEEP=DIR keeps them for the next time.
bench-history: $(VENV)/.dev
	$(BIN)/python -m bench.history $(if $(KEEP),--keep $(KEEP))

# A million interactions with all that is derived from them are put into each database first; COUNT=N puts fewer, KEEP=DIR
# keeps them for the next time.
bench-audit: $(VENV)/.dev
	$(BIN)/python -m bench.audit $(if $(COUNT),--count $(COUNT)) $(if $(KEEP),--keep $(KEEP))

# Exports of a hundred thousand interactions, and creates beside them and beside lists; COUNT=N, KEEP=DIR as above.
bench-export: $(VENV)/.dev
	$(BIN)/python -m bench.export $(if $(COUNT),--count $(COUNT)) $(if $(KEEP),--keep $(KEEP))

# Ten thousand background runs open in one process; RUNS=10000 SECONDS=60 STREAMS=0.
bench-background: $(VENV)/.dev
	$(BIN)/python -m bench.background --runs $(or $(RUNS),10000) --seconds $(or $(SECONDS),60) --streams $(or $(STREAMS),0)

bench-streams: $(VENV)/.dev
	$(BIN)/python -m bench.streams

bench-routing: $(VENV)/.dev
	$(BIN)/python -m bench.routing

# What a turn of a conversation takes on disk when the client sends all of it each time; TURNS=200 makes it longer.
bench-storage: $(VENV)/.dev
	$(BIN)/python -m bench.storage $(if $(TURNS),--turns $(TURNS))

clean:
	rm -rf $(VENV) .venvs .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
