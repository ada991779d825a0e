# The commands of the project. Targets that run code first create or repair .venv (platform/bootstrap.py),
# which takes no time if it is complete.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup sweep plan report detect theory ui test test-all test-fast test-clusters chaos lint clean

STORAGE ?= ./storage
PORT ?= 5000
ARGS ?=
PYTEST_ARGS ?=
# Tests run in parallel processes, one more than there are cores, since some tests wait. Stack tests share
# engines and Ray clusters per file, so a file stays in one process; three such processes keep two CPU cores
# busy. Long files come first (tests/conftest.py).
PARALLEL ?= -n $(shell expr $$(nproc) + 1) --maxprocesses 8
STACK ?= -n 3 --dist loadfile --no-loadscope-reorder
# pytest exits with 5 if PYTEST_ARGS selects no test of a group.
VERDICT = case "$$plain $$stack" in "0 0"|"0 5"|"5 0") exit 0 ;; *) \
	echo "[test] failed (exit codes: plain $$plain, stack $$stack): see above" >&2; exit 1 ;; esac

# DeepSpeed looks for ninja on PATH, and Ray for python.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# No program started here sends usage statistics.
export RAY_USAGE_STATS_ENABLED ?= 0
export VLLM_NO_USAGE_STATS ?= 1
export MLFLOW_DISABLE_TELEMETRY ?= true
export HF_HUB_DISABLE_TELEMETRY ?= 1
# Otherwise MLflow's server starts eight processes for jobs, which no page used here needs.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION ?= false
# Every worker process would compile the package again.
export PYTHONDONTWRITEBYTECODE :=

CODE := $(wildcard platform jobs tests benchmarks)

help:  ## show this list
	@echo 'make TARGET [STORAGE=./storage] [ACCELERATOR=cpu|gpu] [ARGS="..."]'; echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | column -t -s '|'

setup:  ## create .venv with the locked packages; no effect if it is complete
	@for name in python3.11 python3 python3.14 python3.13 python3.12 python3.10 python3.9; do \
	  interpreter=$$(PATH=$${PATH#*:} command -v $$name) && \
	  "$$interpreter" -c "import sys; sys.exit(sys.version_info < (3, 9))" 2>/dev/null && \
	  exec "$$interpreter" platform/bootstrap.py; done; \
	echo "[setup] no Python 3.9 or newer found: apt install python3.11 python3.11-venv python3.11-dev" >&2; exit 2

sweep: setup  ## run a study; ARGS go to jobs/sweep.py (make sweep ARGS="--help")
	@python jobs/sweep.py --storage "$(STORAGE)" $(ARGS)

plan: setup  ## show what a sweep would do and cost, without running it
	@python jobs/sweep.py --storage "$(STORAGE)" --plan $(ARGS)

theory: setup  ## run the MLP experiment and check Theorem 1; under 3 minutes on 2 cores
	@mlp=0; steps=0; \
	python jobs/mlp.py --storage "$(STORAGE)" || mlp=$$?; \
	python jobs/one_step.py --storage "$(STORAGE)" || steps=$$?; \
	if [ $$mlp -ne 0 ]; then exit $$mlp; fi; exit $$steps

report: setup  ## write a sweep's report again from the storage (ARGS="--study NAME")
	@python jobs/report.py --storage "$(STORAGE)" $(ARGS)

detect: setup  ## test whether a sweep's data reveal the trait (ARGS="--study NAME [--model NAME]")
	@python jobs/detect.py --storage "$(STORAGE)" $(ARGS)

# The shell reads the storage from its environment, so that no character in a path is part of a command.
ui: export PLACE := $(STORAGE)
ui: setup  ## serve MLflow for the storage's runs, on this machine only (PORT=5000)
	@tracking=$${MLFLOW_TRACKING_URI:-}; case $$tracking in \
	  http*) echo "MLflow is served at $$tracking"; exit 0 ;; \
	  '') case $$PLACE in \
	    *://*) echo "[ui] no database on $$PLACE: set MLFLOW_TRACKING_URI" >&2; exit 2 ;; \
	    *[?%]*) echo "[ui] no database in a folder with ? or % in its path, $$PLACE: set MLFLOW_TRACKING_URI" >&2; exit 2 ;; \
	    esac; mkdir -p -- "$$PLACE" && tracking=sqlite:///$$PLACE/mlflow.db || exit 2 ;; esac; \
	echo 'MLflow: http://127.0.0.1:$(PORT)   (choose "Model training" at the top left; stop with Ctrl-C)'; \
	exec mlflow server --host 127.0.0.1 --port $(PORT) --workers 1 --backend-store-uri "$$tracking"

test-fast: setup  ## run the tests that start no engine, worker or server and take little time; 3 minutes
	@python -m pytest -m 'not (stack or slow or clusters)' $(PARALLEL) $(PYTEST_ARGS)

test: setup  ## run these, the slower ones, and one real test for every joint of the stack; 15 minutes
	@python -m pytest -m 'not (stack or clusters)' $(PARALLEL) $(PYTEST_ARGS); plain=$$?; \
	python -m pytest -m 'stack and joint' $(STACK) $(PYTEST_ARGS); stack=$$?; \
	$(VERDICT)

test-all: setup  ## run every test; 35 minutes
	@python -m pytest -m 'not (stack or clusters)' $(PARALLEL) $(PYTEST_ARGS); plain=$$?; \
	python -m pytest -m stack $(STACK) $(PYTEST_ARGS); stack=$$?; \
	$(VERDICT)

# As root on Debian or Ubuntu the packages are installed; elsewhere the tests that need them are skipped.
test-clusters: setup  ## run sweeps on Slurm, over SSH and with an autoscaler; 20 minutes (root, Debian)
	@missing=; for pair in slurmctld:slurmctld slurmd:slurmd sbatch:slurm-client munged:munge ip:iproute2 \
	  sshd:openssh-server ssh:openssh-client rsync:rsync; do \
	  PATH=$$PATH:/usr/sbin:/sbin command -v $${pair%%:*} >/dev/null || missing="$$missing $${pair#*:}"; done; \
	if [ -n "$$missing" ] && [ "$$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then \
	  echo "[test-clusters] installing$$missing"; \
	  apt-get update -q >/dev/null && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing >/dev/null || \
	  echo "[test-clusters] not installed:$$missing; the tests that need them are skipped" >&2; \
	fi; \
	python -m pytest -m clusters -rs $(or $(PYTEST_ARGS),tests/clusters)

chaos: setup  ## kill processes of a small study at random and check the results; one hour (ARGS="--kills 60 --seed 1")
	@PYTHONPATH=platform:. python -m tests.chaos $(ARGS)

lint: setup  ## run ruff (rules and format) and mypy --strict
	@ruff check .
	@ruff format --check .
	@mypy --strict $(CODE)

clean:  ## remove .venv, .uv and caches, but not the storage
	rm -rf .venv .venv.old .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis build platform/*.egg-info
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
