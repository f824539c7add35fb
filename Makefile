# `make run` runs the default study, `make test` the tests. Each sets up .venv by itself.
PYTHON ?= python3
CORES ?= all
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made-from-$(shell cksum < requirements.lock | cut -d' ' -f1)
PARITY := .venv-parity
PARITY_STAMP := $(PARITY)/.made-from-$(shell cksum < envs/parity.txt | cut -d' ' -f1)

export PYTHONPATH := $(CURDIR)
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: run test parity smoke slurm lint lock clean help

help:  ## what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

run: $(STAMP)  ## the default study: results/index.html and results/leaderboard.csv
	snakemake --cores $(CORES) --rerun-incomplete

smoke: $(STAMP)  ## the same DAG in about two minutes
	snakemake --cores $(CORES) --rerun-incomplete --configfile studies/smoke.yaml

test: $(STAMP)  ## unit, contract and workflow tests
	python -m pytest -n 2 --dist worksteal tests

parity: $(STAMP) $(PARITY_STAMP)  ## solvers and DDPM's network against diffusers' (installs diffusers into .venv-parity)
	PYTHONPATH=$(CURDIR):$(CURDIR)/$(PARITY) python -m pytest tests/parity

slurm: $(STAMP)  ## the smoke study on a real Slurm of one node, which is installed and started (root, Debian)
	bash tests/slurm/run_smoke.sh

lint: $(STAMP)  ## style of the Python code and of the Snakefile
	ruff check . && ruff format --check . && snakefmt --check Snakefile evaluation fewstep && snakemake --lint

lock:  ## pin the newest versions that requirements.in allows (needs uv)
	{ sed -n 1p requirements.lock; uv pip compile --universal --python-version 3.11 --no-emit-index-url --no-header --no-annotate requirements.in; } > requirements.lock.new
	mv requirements.lock.new requirements.lock

clean:  ## remove generated results, keep results/published and the environment
	find results -mindepth 1 -maxdepth 1 ! -name published ! -name README.md -exec rm -rf {} +

# A stamp named after the lock's checksum: another lock, or an installation that was cut short, installs anew.
$(STAMP): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "fewstep needs Python 3.11 or newer; name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --progress-bar off -r requirements.lock
	rm -f $(VENV)/.made-from-*
	touch $@

# A folder of its own, after .venv: what is in .venv stays as the lock says.
$(PARITY_STAMP): envs/parity.txt $(STAMP)
	rm -rf $(PARITY)
	$(BIN)/python -m pip install --quiet --progress-bar off --no-deps --target $(PARITY) -r envs/parity.txt
	touch $@
