# Each target sets up all that it needs: a virtual environment in .venv, made anew whenever the project's requirements change.

# Optional: PYTHON=/path/to/python3.12, and the index that torch comes from: TORCH_INDEX=https://download.pytorch.org/whl/cpu (or /cu130 ...)
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do $$p -c $(FITS) 2>/dev/null && { echo $$p; break; }; done)
FITS = 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
TORCH_INDEX ?=
EXTRAS ?= dev

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready-$(EXTRAS)
TOUR := nbs/tutorials/tour.ipynb

ifeq ($(origin NL_IRL_DATA),undefined)
ifneq ($(wildcard ../shared/data/.),)
export NL_IRL_DATA := $(abspath ../shared/data)
endif
endif

.PHONY: help setup demo test lab app bench limits growth cluster course drill endurance docs paper reproduce readme hooks doctor clean
.DEFAULT_GOAL := help

help:
	@echo 'make demo    imitation and the full method on generated houses, small (minutes); results in runs/demo'
	@echo 'make lab     JupyterLab on the tour      make app     the tour as a small web app, on this machine alone'
	@echo 'make test    all tests: notebooks, modules in step with them, pytest'
	@echo 'make bench   speed, side by side with others, a quarter of an hour'
	@echo 'make limits  how far from its floor each update is      make growth  how time and memory grow      make cluster  sweeps on a Ray cluster'
	@echo 'make course  how long each lesson of nbs/tutorials/course runs      make drill   a hundred runs killed, gone on with and compared, an hour'
	@echo 'make endurance  ninety minutes of training with panels open: memory and open files'
	@echo 'make docs    a site of all notebooks, results and the API, with what is to learn from run anew: _docs/html/index.html'
	@echo 'make paper   all tables and figures in figures/, from the records of runs in figures/data'
	@echo 'make reproduce SCALE=smoke|houses|r2r    the runs themselves: minutes, a night, a day on two cores; it goes on where it was stopped'
	@echo 'make readme  README.md from nbs/index.ipynb      make hooks   git hooks      make doctor  what is installed and found'
	@echo 'make clean   remove .venv and what tests leave (runs/ stays)'
	@echo 'Options: PYTHON=python3.12  TORCH_INDEX=https://download.pytorch.org/whl/cpu  NL_IRL_DATA=folder  EXTRAS=dev,ray (sweeps on a cluster)'

setup: $(READY)

$(READY): settings.ini constraints.txt pyproject.toml setup.py
	@test -n "$(PYTHON)" || { echo 'nl_irl needs Python 3.11, 3.12 or 3.13, and none was found: install one, or name it: make PYTHON=/path/to/python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -c $(FITS) || { echo 'nl_irl needs Python 3.11, 3.12 or 3.13; $(PYTHON) is none, so name another: make PYTHON=/path/to/python3.12 ...' >&2; exit 1; }
	@test -x $(BIN)/python && $(BIN)/python -c $(FITS) || $(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); \
	  echo 'No virtual environment could be made with $(PYTHON): on Debian and Ubuntu, apt-get install python3-venv' >&2; exit 1; }
	@echo 'Installing into $(VENV): once, some minutes, about 2 GB with a CPU build of torch'
	@test -z "$(TORCH_INDEX)" || $(BIN)/pip install --disable-pip-version-check --no-deps --index-url $(TORCH_INDEX) "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --disable-pip-version-check --progress-bar off -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $(READY)

demo: $(READY)
	@mkdir -p runs/demo
	@echo 'Two runs at once: imitation, which tells runs/demo/imitation.log, and the method'
	@$(BIN)/nl-irl run imitation -p preset demo -p updates 400 --out runs/demo/imitation --replace >runs/demo/imitation.log 2>&1 & pid=$$!; \
	  trap "kill $$pid 2>/dev/null" INT TERM; \
	  $(BIN)/nl-irl run method -p preset demo -p effort 0.15 -p brief true --out runs/demo/method --replace || { kill $$pid 2>/dev/null; exit 1; }; \
	  wait $$pid || { tail -n 20 runs/demo/imitation.log >&2; exit 1; }
	$(BIN)/nl-irl report runs/demo/imitation runs/demo/method -o runs/demo/report.html

test: $(READY)
	$(BIN)/ruff check nl_irl tests .ci
	$(BIN)/python .ci/sync.py
	$(BIN)/python .ci/readme.py --check
	$(BIN)/python .ci/docs.py --check
	$(BIN)/nbdev-test --n-workers 1 --do-print
	$(BIN)/pytest tests

lab: $(READY)
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) $(TOUR)

app: $(READY)
	$(BIN)/voila --Voila.ip=127.0.0.1 --Voila.auto_token=True $(TOUR)

# What the project is measured beside wants other versions of what it shares with it.
PEERS := .venv-peers
$(PEERS)/ready: tests/bench/peers/requirements.txt
	$(PYTHON) -m venv --clear $(PEERS)
	$(PEERS)/bin/pip install --disable-pip-version-check --progress-bar off $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) "$$(grep '^torch==' $<)"
	$(PEERS)/bin/pip install --disable-pip-version-check --progress-bar off -r $<
	@touch $@

bench: $(READY) $(PEERS)/ready
	$(BIN)/pytest tests/bench --benchmark-columns=min,median,rounds --benchmark-json=$(VENV)/bench.json
	$(BIN)/python .ci/bench.py $(VENV)/bench.json

limits: $(READY)
	$(BIN)/python tests/bench/limits.py

growth: $(READY)
	$(BIN)/python tests/bench/growth.py

cluster: $(READY)
	$(BIN)/python tests/bench/cluster.py

course: $(READY)
	$(BIN)/python tests/bench/course.py

drill: $(READY)
	$(BIN)/python tests/bench/drill.py

endurance: $(READY)
	$(BIN)/python tests/bench/endurance.py

docs: $(READY)
	$(BIN)/python .ci/docs.py

paper: $(READY)
	$(BIN)/python .ci/paper.py

# A later plan adapts what an earlier one learned; smoke keeps its records to itself.
SCALE ?= smoke
WORKERS ?= 0
RECORDS ?= $(if $(filter smoke,$(SCALE)),runs/smoke/records,figures/data)
reproduce: $(READY)
	@ls figures/plans/$(SCALE)-*.yaml >/dev/null 2>&1 || { echo 'SCALE is smoke, houses or r2r, got $(SCALE)' >&2; exit 1; }
	@for plan in figures/plans/$(SCALE)-*.yaml; do echo "$$plan"; $(BIN)/nl-irl sweep $$plan --workers $(WORKERS) --record $(RECORDS) || exit 1; done

readme: $(READY)
	$(BIN)/python .ci/readme.py

hooks: $(READY)
	$(BIN)/pre-commit install

doctor: $(READY)
	$(BIN)/nl-irl doctor

clean:
	rm -rf $(VENV) $(PEERS) _docs build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .benchmarks _proc
