# The one command surface: people, hooks and CI call the same targets.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SOURCES := domain adapters entrypoints tests benchmarks

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/run ## Install what is needed and record ten seconds of speech over WebRTC
	@$(BIN)/gapless demo

.PHONY: test
test: $(VENV)/dev ## Install what the tests need and run them
	$(BIN)/python -m pytest -n 2 --dist loadfile $(REAL_TIME:%=--ignore %)
	$(BIN)/python -m pytest $(REAL_TIME)
# tests of real devices, browsers and time: one at a time, as nothing else may hold them up
REAL_TIME := tests/contracts/test_capture_contract.py \
	$(addprefix tests/integration/test_,microphone.py browser_publishes.py whip_publishers.py \
	network_comes_and_goes.py nothing_stays_behind.py disk_trouble.py)

.PHONY: soak
soak: $(VENV)/dev ## Run the tests that take long: a hundred kills, a thousand sessions
	KILLS=100 $(BIN)/python -m pytest tests/integration/test_survives_kill.py
	$(BIN)/python -m pytest -m soak -s

.PHONY: mutants
mutants: $(VENV)/mutants ## Test the tests: mutate the code and count the mutants that no test notices
	$(BIN)/python -m tests.mutants --sample $(or $(SAMPLE),120) --seed $(or $(SEED),1)

.PHONY: fuzz
fuzz: $(VENV)/fuzz ## Fuzz each parser of bytes from outside for SECONDS=60; keep the crashes as tests
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60)

.PHONY: bench
bench: $(VENV)/dev ## Measure fidelity, reconnection and performance; writes their pages in docs/
	$(BIN)/python -m benchmarks.fidelity
	$(BIN)/python -m benchmarks.reconnection
	$(BIN)/python -m benchmarks.performance

.PHONY: lint
lint: $(VENV)/dev ## Check style
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)

.PHONY: format
format: $(VENV)/dev ## Put style right
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

.PHONY: types
types: $(VENV)/dev ## Check types
	$(BIN)/mypy

.PHONY: imports
imports: $(VENV)/dev ## Check the layers
	$(BIN)/lint-imports

.PHONY: check
check: lint types imports test ## Everything that CI checks

.PHONY: lock
lock: $(VENV)/dev ## Pin the newest versions that pyproject.toml allows
	$(PIP) install pip-tools
	$(LOCK) --output-file requirements/run.txt pyproject.toml requirements/build.in
	$(LOCK) --output-file requirements/dev.txt --extra dev pyproject.toml requirements/build.in
	$(LOCK) --constraint requirements/dev.txt --output-file requirements/mutants.txt --extra mutants pyproject.toml
	$(LOCK) --constraint requirements/dev.txt --output-file requirements/fuzz.txt --extra fuzz pyproject.toml
LOCK := $(BIN)/pip-compile --quiet --upgrade --strip-extras --no-annotate --no-header --no-emit-index-url --no-emit-options --allow-unsafe

.PHONY: clean
clean: ## Remove what make has made
	rm -rf $(VENV) .cache .hypothesis demo-recordings

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name it with make PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "no virtual environment: on Debian, apt install python3-venv"; exit 1; }

$(VENV)/run: $(VENV)/bin/python requirements/run.txt pyproject.toml
	@echo "installing into $(VENV)"
	@$(PIP) install --requirement requirements/run.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev: $(VENV)/run requirements/dev.txt requirements/pyaudio.txt tests/rigs/install-system-packages
	@tests/rigs/install-system-packages
	@echo "installing the tests' packages into $(VENV)"
	@$(PIP) install --requirement requirements/dev.txt
	@if [ -e /usr/include/portaudio.h ]; then $(PIP) install --requirement requirements/pyaudio.txt; fi
	@touch $@

$(VENV)/mutants: $(VENV)/dev requirements/mutants.txt
	@echo "installing what mutation testing needs into $(VENV)"
	@$(PIP) install --requirement requirements/mutants.txt
	@touch $@

$(VENV)/fuzz: $(VENV)/dev requirements/fuzz.txt
	@echo "installing the fuzzer into $(VENV)"
	@$(PIP) install --requirement requirements/fuzz.txt
	@touch $@
