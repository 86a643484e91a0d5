# `make` explains itself. CONFIG picks the experiment, PROFILE (a folder of profiles/) the machine; ENVIRONMENT (cpu or
# cuda) has jobs run in an environment that conda makes of envs/.

CONFIG  ?= config.yaml
PROFILE ?=
ENVIRONMENT ?=
PYTHON  ?=
ONLY    ?=
REMOTE  ?=
PORT    ?= 5000

export PATH := $(CURDIR)/.venv/bin:$(PATH)
RUN    = python -m tools.run
CHOSEN = $(PROFILE:%=--workflow-profile profiles/%) $(ENVIRONMENT:%=--sdm conda) \
	--config experiment=$(CONFIG) $(ENVIRONMENT:%=environment=%)

.DEFAULT_GOAL := help
.PHONY: help setup reproduce plan doctor track ui verify push pull submit attach unlock check style quick test \
	test-slurm accept readme base clean

help:       ## this list
	@awk -F ':.*## ' '/^## /{print "\n" substr($$0, 4)} /^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' Makefile

## Run, on this computer

setup:      ## everything that is needed, in .venv: minutes, once; the other targets call it
	@PYTHON="$(PYTHON)" sh tools/setup.sh

reproduce: setup ## from speech to a report: about 20 minutes on 2 cores [CONFIG=configs/NAME.yaml] [PROFILE=NAME] [ONLY=FILE]
	@$(RUN) $(CHOSEN) $(if $(ONLY),-- $(ONLY))

plan: setup ## which jobs that would run, why, and what they need: seconds [CONFIG=..] [PROFILE=..]
	@python -m tools.plan $(CHOSEN)

doctor: setup ## whether this machine can run it, and what to do where not: seconds [CONFIG=..] [PROFILE=..]
	@python -m tools.doctor $(CHOSEN)

ui: setup   ## MLflow's pages over what was recorded, on this computer alone [PORT=5000]
	@python -m tools.ui --port $(PORT)

track: setup ## record in MLflow what is there; `make reproduce` does it by itself [CONFIG=..]
	@python -m concertina.report track --config "$(CONFIG)"

## Share

push: setup ## put the artefacts of a finished run where others can pull them (DVC) [CONFIG=..] [REMOTE=NAME]
	@python -m tools.dvc.push --config "$(CONFIG)" $(REMOTE:%=--remote %)

pull: setup ## bring such artefacts back, checked; nothing of them is made again [CONFIG=..] [REMOTE=NAME]
	@python -m tools.dvc.pull --config "$(CONFIG)" $(REMOTE:%=--remote %)

verify: setup ## check every file that the results rest on [CONFIG=..]
	@python -m tools.verify --config "$(CONFIG)"

## Run on a cluster

submit: PROFILE := $(or $(PROFILE),slurm)
submit: setup ## `make reproduce` as a SLURM job of its own [CONFIG=..] [PROFILE=slurm] [SBATCH="--time=2-0"]
	@python -m tools.slurm.coordinator submit --sbatch="$(SBATCH)" $(CHOSEN)

attach: setup ## follow that job; Ctrl-C stops the following, not the job
	@python -m tools.slurm.coordinator attach

unlock:     ## after a plain `snakemake` was killed: let the next one start
	@rm -rf .snakemake/locks # as `snakemake --unlock` does, which reads the whole workflow first

## Develop

check: setup ## style, types, workflow and quick tests: about a minute
	@$(MAKE) --no-print-directory -j2 -Oline style quick

style:
	@ruff check && ruff format --check && mypy
	@snakefmt --check Snakefile workflow/rules
	@snakemake --lint
	@snakemake -n -q all

quick:
	@OMP_NUM_THREADS=1 pytest -q -n 2 --dist loadfile -m "not slow"

test: setup ## every test, the whole workflow included: about 11 minutes on 2 cores
	@OMP_NUM_THREADS=1 pytest -n 2 --dist loadfile

test-slurm: setup ## the same workflow on a throw-away SLURM cluster, and what may befall it there (as root; installs SLURM)
	@OMP_NUM_THREADS=1 pytest -m slurm tests/test_slurm.py

accept: setup ## record that an edit changes no result, and keep what is there [CONFIG=..] WHY="..."
	@python -m tools.dvc.accept --config "$(CONFIG)" --why "$(WHY)"

readme:     ## put the tables and the picture of results/ into README.md and docs/
	@PYTHONPATH=src python3 -m tools.readme

base: setup ## train a tiny model like the shipped one, from nothing: an hour or two on 2 cores
	@$(RUN) $(CHOSEN) -- base_scratch

clean:      ## delete build/, logs/ and scratch/ of every experiment; results/ stay
	@rm -rf build logs scratch
