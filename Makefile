# Short doors to what lies below; every one of them first builds .venv from environment.yml, once.
# A Python other than `python3` builds it with, say, `make BASE_PYTHON=python3.12`; ARGS is handed on to papermill, pytest, the
# benchmark or Snakemake.

BASE_PYTHON ?= python3
PYTHON      := .venv/bin/python
INSTALLED   := .venv/.installed
SCALE       ?= quick
STUDIES     ?=
JOBS        ?= 2
PROFILE     ?=
GPU_MB      ?=
PICTURES    ?= runs/pictures
ARGS        ?=
KILLS       ?= 50

# The pip section of environment.yml as a requirements list, without a YAML parser: nothing is installed yet.
PINS := sed -n '/^ *- pip:/,$$ s/^ *- *\([^ \#]*==[^ \#]*\).*/\1/p' environment.yml

# Snakemake's own lock outlives a kill, this one does not: the system drops it with the process that holds it.
LOCK := import fcntl, os, sys; fd = os.open(".snakemake/make.lock", os.O_CREAT | os.O_RDWR); os.set_inheritable(fd, True); \
	fcntl.flock(fd, fcntl.LOCK_EX); os.execv(sys.argv[1], sys.argv[1:])
comma := ,
space := $() $()
# JOBS runs on this machine, which share a GPU of GPU_MB, or those of a profile on a cluster.
WHERE = $(if $(PROFILE),--workflow-profile profiles/$(PROFILE),--cores $(JOBS) $(if $(GPU_MB),--resources gpu_mb=$(GPU_MB)))
# Only what is missing, incomplete or made with other parameters runs; one failed run does not stop the others.
SNAKEMAKE = mkdir -p .snakemake && $(PYTHON) -c '$(LOCK)' $(PYTHON) -m snakemake --snakefile Snakefile $(WHERE) \
	--nolock --rerun-incomplete --rerun-triggers mtime params input --keep-going \
	--config scale=$(SCALE) $(if $(strip $(STUDIES)),studies=$(subst $(space),$(comma),$(strip $(STUDIES)))) $(ARGS)

# Rules of the Snakefile and cells of notebooks find the commands of .venv.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test test-slow faults browser figures reproduce tune lab docs bench slurm pins

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

run: $(INSTALLED) ## SLGrad on the built-in images: live progress, result table, figure
	@mkdir -p runs
	$(PYTHON) -m papermill notebooks/cifar_flip.ipynb runs/cifar_flip.ipynb -p weighting slgrad $(ARGS) \
		--stdout-file - --stderr-file - --no-progress-bar --log-level WARNING
	@$(PYTHON) -m mtlkit show runs/cifar_flip.ipynb

test: $(INSTALLED) ## unit, property and oracle tests, and the notebooks under nbval
	$(PYTHON) -m pytest -n $(JOBS) $(ARGS)

test-slow: $(INSTALLED) ## the tests that are marked slow
	$(PYTHON) -m pytest -n $(JOBS) -m slow $(ARGS)

faults: $(INSTALLED) ## kills, full disks, damaged files, fuzzed readers: what was tried, and what was lost
	FAULTS_KILLS=$(KILLS) $(PYTHON) -m pytest -m faults $(ARGS)

browser: $(INSTALLED) ## run every notebook in JupyterLab, in Chromium; pictures go to PICTURES
	MTLKIT_PICTURES="$(PICTURES)" $(PYTHON) -m pytest -m browser tests/browser $(ARGS)

figures: $(INSTALLED) ## redraw every figure and table from the committed records
	$(PYTHON) -m mtlkit figures

reproduce: $(INSTALLED) ## run what is missing and draw: SCALE=quick STUDIES="a b" JOBS=2 GPU_MB=80000 or PROFILE=slurm
	$(SNAKEMAKE)

tune: $(INSTALLED) ## tune learning rates into params/tuned: SCALE, STUDIES, JOBS as above
	$(SNAKEMAKE) -- tune

lab: $(INSTALLED) ## open JupyterLab with the start page of the notebooks
	$(PYTHON) -m jupyter lab --ServerApp.root_dir="$(CURDIR)" notebooks/start.ipynb $(ARGS)

docs: $(INSTALLED) ## build pages of all modules, classes and functions in build/docs
	$(PYTHON) -m pdoc mtlkit --docformat google --output-directory build/docs
	@echo "open build/docs/index.html"

bench: $(INSTALLED) ## time one step of every method against a plain step
	$(PYTHON) -m mtlkit bench $(ARGS)

slurm: $(INSTALLED) ## the tests that need a Slurm of one machine, which they start: STUDIES
	STUDIES="$(STUDIES)" $(PYTHON) -m pytest tests/slurm -m slurm $(ARGS)

pins: ## print the pinned requirements
	@$(PINS)

$(INSTALLED): environment.yml pyproject.toml
	@$(BASE_PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python " + sys.version.split()[0] \
		+ " is too old, 3.11 or newer is needed: name one with make BASE_PYTHON=...")'
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || $(BASE_PYTHON) -m venv .venv
	@$(PINS) > .venv/requirements.txt
	$(PYTHON) -m pip install --disable-pip-version-check --progress-bar on -r .venv/requirements.txt
	$(PYTHON) -m pip install --disable-pip-version-check --no-deps --editable .
	@touch $@
