# The one command surface: people, hooks and CI call the same targets.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SOURCES := domain adapters entrypoints tests benchmarks examples requirements
PAGES := adapters/http/pages
PRETTIER := $(VENV)/npm/node_modules/.bin/prettier --log-level warn
LOCKS := $(addprefix requirements/,$(addsuffix .txt,run dev audit fuzz mutants pyaudio))

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/run ## Install what is needed and record ten seconds of speech over WebRTC (LOSS=20 loses packets)
	@$(BIN)/gapless demo $(if $(LOSS),--loss $(LOSS))

.PHONY: test
test: $(VENV)/dev ## Install what the tests need and run them
	$(BIN)/python -m pytest -n 4 --dist loadfile \
		$(patsubst %,--ignore %,$(PROCESSES) $(REAL_TIME) $(ALONE))
	$(BIN)/python -m pytest -n 6 $(PROCESSES)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(REAL_TIME)
	$(BIN)/python -m pytest $(ALONE)
# tests of processes that play sound in real time: they mostly wait, whatever else runs
PROCESSES := $(addprefix tests/integration/test_,nothing_is_lost.py other_clients_are_restored.py \
	restoring_survives_kills.py fine_sound_survives_losses.py demo.py \
	capture_goes_on_without_a_server.py owed_spools_are_listed_sent_and_exported.py \
	one_port_passes_nats.py udp_is_blocked.py a_service_manager_is_told.py \
	the_service_is_sandboxed.py checks_go_to_nobody_else.py a_session_is_transcribed.py \
	the_guide_runs_as_written.py live_sound_is_listened_to.py waveforms_are_drawn.py \
	tokens_hold_for_all_workers.py sessions_are_listed_and_ended.py events_of_all_workers.py \
	servers_work_behind_proxies.py pages_are_restored.py)
# tests of real devices, browsers and time: they wait most of the time, and nothing that computes may
# hold them up
REAL_TIME := $(addprefix tests/contracts/test_,capture_contract.py) \
	$(addprefix tests/integration/test_,microphone.py browser_publishes.py browsers_stall.py \
	a_page_keeps_what_it_captures.py \
	client_is_stopped.py whip_publishers.py libraries_publish.py disk_trouble.py \
	stalls_survive_a_kill.py browsers_play_recordings.py conversions_beside_a_session.py \
	a_self_signed_server_is_pinned.py a_doctor_examines_both_ends.py networks_of_tests_go_and_come.py \
	pages_are_accessible.py pages_refuse_hostile_guests.py a_watcher_watches.py browsers_keep_to_the_servers_pages.py \
	recordings_are_browsed.py a_guest_records.py a_hundred_sessions_are_watched.py \
	browsers_keep_what_they_send.py)
# and those that need the whole machine
ALONE := $(addprefix tests/integration/test_,network_comes_and_goes.py nothing_stays_behind.py \
	senders_as_they_are.py slow_uplinks_are_spared.py fine_sound_is_restored.py \
	many_sessions_share_a_port.py junk_costs_others_nothing.py \
	sessions_beside_an_attacker_are_whole.py offers_are_limited.py a_flood_is_cut_off.py \
	idle_connections.py) \
	$(addprefix tests/contracts/test_,a_sound_server_keeps_its_microphone.py)

.PHONY: soak
soak: $(VENV)/dev ## Run the tests that take long: a hundred kills, a thousand sessions
	KILLS=100 $(BIN)/python -m pytest $(addprefix tests/integration/test_,survives_kill.py \
		spools_survive_kill.py restoring_survives_kills.py)
	$(BIN)/python -m pytest -m soak -s

.PHONY: soak-attacked
soak-attacked: $(VENV)/dev ## Let SESSIONS=100 come and go for MINUTES=120 while an attacker plays all it knows
	$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),120) --sessions $(or $(SESSIONS),100)

.PHONY: mutants
mutants: $(VENV)/mutants ## Test the tests: mutate the code and count the mutants that no test notices
	$(BIN)/python -m tests.mutants --sample $(or $(SAMPLE),120) --seed $(or $(SEED),1)

.PHONY: fuzz
fuzz: $(VENV)/fuzz ## Fuzz each parser of bytes from outside for SECONDS=60; keep the crashes as tests
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60)

.PHONY: bench
bench: $(VENV)/dev ## Measure fidelity, reconnection, performance and restoring; writes their pages
	$(BIN)/python -m benchmarks.fidelity
	$(BIN)/python -m benchmarks.senders --write
	$(BIN)/python -m benchmarks.reconnection
	$(BIN)/python -m benchmarks.performance
	$(BIN)/python -m benchmarks.restoring --write

.PHONY: api-page
api-page: $(VENV)/dev ## Write docs/api.md from what the routes of the API say of themselves
	$(BIN)/python -m tests.rigs.api_page

.PHONY: screenshots
screenshots: $(VENV)/dev ## Write docs/pages.md and its pictures: each state of the pages, as it looks
	$(BIN)/python -m tests.rigs.screenshots

.PHONY: lint
lint: $(VENV)/dev ## Check style
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(PRETTIER) --check $(PAGES)

.PHONY: format
format: $(VENV)/dev ## Put style right
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)
	$(PRETTIER) --write $(PAGES)

.PHONY: types
types: $(VENV)/dev ## Check types, also those of the pages
	$(BIN)/mypy
	$(BIN)/python -m tests.rigs.page_types

.PHONY: imports
imports: $(VENV)/dev ## Check the layers
	$(BIN)/lint-imports

.PHONY: check
check: lint types imports test ## Everything that CI checks

.PHONY: lock
lock: $(VENV)/audit ## Pin the newest versions that pyproject.toml allows, with the hashes of their files
	$(LOCK) --output-file requirements/run.txt pyproject.toml requirements/build.in
	$(LOCK) --output-file requirements/dev.txt --extra dev pyproject.toml requirements/build.in
	for extra in audit fuzz mutants pyaudio; do \
		$(LOCK) --constraint requirements/dev.txt --output-file requirements/$$extra.txt \
			--extra $$extra pyproject.toml || exit; \
	done
LOCK := $(BIN)/pip-compile --quiet --upgrade --generate-hashes --strip-extras --no-annotate --no-header \
	--no-emit-index-url --no-emit-options --allow-unsafe

.PHONY: audit
audit: $(VENV)/audit ## Look for known vulnerabilities in what is locked; exit code 2 if no index can be reached
	@$(BIN)/python requirements/audit.py $(LOCKS)

.PHONY: sbom
sbom: $(VENV)/audit ## Write gapless.cdx.json: what an installation consists of (CycloneDX)
	@$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible \
		--spec-version 1.6 --output-format JSON --validate --output-file gapless.cdx.json \
		requirements/run.txt

.PHONY: clean
clean: ## Remove what make has made
	rm -rf $(VENV) .cache .hypothesis demo-recordings gapless.cdx.json

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name it with make PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "no virtual environment: on Debian, apt install python3-venv"; exit 1; }

$(VENV)/run: $(VENV)/bin/python requirements/run.txt pyproject.toml
	@echo "installing into $(VENV)"
	@$(PIP) install --requirement requirements/run.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev: $(VENV)/run requirements/dev.txt requirements/pyaudio.txt tests/rigs/install-system-packages \
		tests/rigs/npm/package.json tests/rigs/npm/package-lock.json
	@tests/rigs/install-system-packages
	@echo "installing the tests' packages into $(VENV)"
	@$(PIP) install --requirement requirements/dev.txt
	@if [ -e /usr/include/portaudio.h ]; then $(PIP) install --requirement requirements/pyaudio.txt; fi
	@mkdir -p $(VENV)/npm && cp $(filter %.json,$^) $(VENV)/npm
	@cd $(VENV)/npm && npm ci --silent --no-audit --no-fund \
		|| { rm -rf node_modules; echo "npm installs nothing: tests that need its packages are skipped"; }
	@touch $@

$(VENV)/mutants: $(VENV)/dev requirements/mutants.txt
	@echo "installing what mutation testing needs into $(VENV)"
	@$(PIP) install --requirement requirements/mutants.txt
	@touch $@

$(VENV)/audit: $(VENV)/dev requirements/audit.txt
	@echo "installing what audits and locks packages into $(VENV)"
	@$(PIP) install --requirement requirements/audit.txt
	@touch $@

$(VENV)/fuzz: $(VENV)/dev requirements/fuzz.txt
	@echo "installing the fuzzer into $(VENV)"
	@$(PIP) install --requirement requirements/fuzz.txt
	@touch $@
