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
RUN    = python tools/run.py
CHOSEN = $(PROFILE:%=--workflow-profile profiles/%) $(ENVIRONMENT:%=--sdm conda) \
	--config experiment=$(CONFIG) $(ENVIRONMENT:%=environment=%)

.DEFAULT_GOAL := help
.PHONY: help setup reproduce plan doctor submit attach track ui verify push pull base test test-slurm check style quick \
	readme accept unlock clean

help:       ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' Makefile

setup:      ## everything that is needed, in .venv; the other targets call it
	@PYTHON="$(PYTHON)" sh tools/setup.sh

reproduce: setup ## from speech to a report [CONFIG=configs/NAME.yaml] [PROFILE=NAME] [ONLY=FILE]
	@$(RUN) $(CHOSEN) $(if $(ONLY),-- $(ONLY))

plan: setup ## which jobs `make reproduce` would run, why, and what they need [CONFIG=..] [PROFILE=..]
	@python tools/plan.py $(CHOSEN)

doctor: setup ## whether this machine can run it, and what to do where not [CONFIG=..] [PROFILE=..]
	@python tools/doctor.py $(CHOSEN)

verify: setup ## check every file that the results rest on [CONFIG=..]
	@python tools/verify.py --config "$(CONFIG)"

push: setup ## put the artefacts of a finished run where others can pull them (DVC) [CONFIG=..] [REMOTE=NAME]
	@python tools/push.py --config "$(CONFIG)" $(REMOTE:%=--remote %)

pull: setup ## bring such artefacts back, checked; nothing of them is made again [CONFIG=..] [REMOTE=NAME]
	@python tools/pull.py --config "$(CONFIG)" $(REMOTE:%=--remote %)

submit: PROFILE := $(or $(PROFILE),slurm)
submit: setup ## `make reproduce` as a SLURM job of its own [CONFIG=..] [PROFILE=slurm] [SBATCH="--time=2-0"]
	@python tools/coordinator.py submit --sbatch="$(SBATCH)" $(CHOSEN)

attach: setup ## follow that job; Ctrl-C stops the following, not the job
	@python tools/coordinator.py attach

base: setup ## train a tiny model like the shipped one, from nothing (an hour or two on 2 cores)
	@$(RUN) $(CHOSEN) -- base_scratch

track: setup ## record what is there in MLflow; `make reproduce` does it by itself [CONFIG=..]
	@python -m concertina.report track --config "$(CONFIG)"

ui: setup ## MLflow's pages over what was recorded, on this computer alone [PORT=5000]
	@python tools/ui.py --port $(PORT)

test: setup ## every test, the whole workflow included (about 11 minutes on 2 cores)
	@OMP_NUM_THREADS=1 pytest -n 2 --dist loadfile

test-slurm: setup ## the same workflow on a throw-away SLURM cluster, and what may befall it there (as root; installs SLURM)
	@OMP_NUM_THREADS=1 pytest -m slurm tests/test_slurm.py

check: setup ## style, types, workflow and quick tests (under a minute)
	@$(MAKE) --no-print-directory -j2 -Oline style quick

style:
	@ruff check && ruff format --check && mypy
	@snakefmt --check Snakefile workflow/rules
	@snakemake --lint
	@snakemake -n -q all

quick:
	@OMP_NUM_THREADS=1 pytest -q -n 2 --dist loadfile -m "not slow"

readme: setup   ## put the tables and the picture of results/ into README.md and docs/
	@python tools/readme.py

accept: setup ## record that an edit changes no result, and keep what is there [CONFIG=..] WHY="..."
	@python tools/accept.py --config "$(CONFIG)" --why "$(WHY)"

unlock: setup ## after a plain `snakemake` was killed: let the next one start
	@snakemake --unlock $(CHOSEN)

clean: setup ## delete build/, logs/ and scratch/ of every experiment; results/ stay
	@rm -rf build logs scratch
