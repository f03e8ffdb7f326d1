# What a newcomer types. `make help` lists it; everything else is in .ci/prepare (set-up) and .ci/stages.py (tests).

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# A fresh clone is tested as it stands: nothing from the caller's Python leaks in.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV
export PYTHONUNBUFFERED := 1

.DEFAULT_GOAL := help
.PHONY: help demo test lint unit system run bench bench-quick chaos prepare clean

help: ## what there is to type
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

demo: $(READY) ## two people talk through a Rallypoint on this machine, with real speech
	@$(BIN)/ice demo

test: $(READY) ## everything: ruff, mypy, unit tests, system tests, one closing summary
	@$(BIN)/python .ci/stages.py

lint: $(READY) ## ruff, its formatter and mypy alone
	@$(BIN)/python .ci/stages.py ruff format mypy

unit: $(READY) ## the unit tests alone
	@$(BIN)/python .ci/stages.py unit

system: $(READY) ## the system tests alone (real processes and sockets)
	@$(BIN)/python .ci/stages.py system

run: $(READY) ## a Rallypoint in the foreground with etc/ice.toml (Ctrl-C ends it)
	@$(BIN)/twistd -n --pidfile= ice-rallypoint || { status=$$?; \
	    [ -e etc/pki/rallypoint.pem ] || echo "in this checkout you type:  $(BIN)/ice pki init" >&2; exit $$status; }

bench: $(READY) ## ice beside a bare C relay and what is installed of NATS, Mosquitto, Mumble (70 minutes)
	@$(BIN)/python bench/run.py

bench-quick: $(READY) ## the same for a look, in two minutes
	@$(BIN)/python bench/run.py --quick

SECONDS_TOTAL ?= 600
chaos: $(READY) ## Rallypoints killed, frozen, cut off at random while twenty people talk (SEED=, SECONDS_TOTAL=600; needs root)
	@$(BIN)/python bench/chaos.py --seconds $(SECONDS_TOTAL) $(if $(SEED),--seed $(SEED))

prepare: $(READY) ## the virtual environment and libopus, and nothing else

clean: ## remove what was built; certificates and configuration stay
	@rm -rf $(VENV) .demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis _trial_temp*
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): setup.cfg pyproject.toml $(wildcard setup.py) .ci/prepare
	@PYTHON='$(PYTHON)' sh .ci/prepare '$(VENV)'
	@touch $@
