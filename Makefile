# `make` alone prints what there is to do. Everything happens in .venv; nothing else is touched.

PYTHON ?= python3
VENV ?= .venv
# cpu, or cuda for the build with the CUDA libraries (several GB); said once, it is remembered.
TORCH ?= $(shell cat $(VENV)/.torch 2>/dev/null || echo cpu)
# Asked for the CPU build only when pip, configured as it is, does not find that build by itself.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

# Test files at a time. What starts Prefect's server runs by itself: its time limits are the wall's.
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install -qq -c constraints.txt
TORCH_VERSION = $(shell sed -n 's/^torch==//p' constraints.txt)

.DEFAULT_GOAL := help
.PHONY: help setup setup-train-only demo test check check-exports bench bench-dedup bench-scale bench-rules bench-signals \
  bench-contamination bench-pack bench-forecast bench-report bench-train bench-objectives wheel torch clean

help:
	@echo "make TARGET, where TARGET is one of"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed-$(TORCH) ## Create .venv and install everything, pinned (TORCH=cuda for the CUDA build)

$(VENV)/.installed-$(TORCH): pyproject.toml constraints.txt
	@$(MAKE) --no-print-directory torch
	@echo "Installing Preceptor and its dependencies into $(VENV) ..."
	@$(PIP) -e '.[train,dev]'
	@touch $@

# A venv is made by a rule of its own, so that an interrupted installation goes on where it stopped.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Preceptor needs Python 3.11 or newer; '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name another one: make setup PYTHON=python3.12" >&2; exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv $(VENV)

# First of all and by itself: left to a resolver, `torch` on Linux is the build with CUDA.
torch: $(BIN)/python
	@echo "Installing PyTorch $(TORCH_VERSION) ($(TORCH)) into $(VENV) ..."
	@rm -f $(VENV)/.installed-*
	@case "$(TORCH)-$$(uname -s)" in \
	  cpu-Linux) \
	    $(PIP) 'torch==$(TORCH_VERSION)+cpu' 2>/dev/null || \
	    $(PIP) 'torch==$(TORCH_VERSION)+cpu' --extra-index-url $(TORCH_INDEX) ;; \
	  cpu-*) $(PIP) 'torch==$(TORCH_VERSION)' ;; \
	  cuda-*) \
	    if $(BIN)/python -m pip freeze | grep -q '^torch==.*+cpu'; then \
	      $(BIN)/python -m pip uninstall -qq -y torch; fi; \
	    $(PIP) 'torch==$(TORCH_VERSION)' ;; \
	  *) echo "TORCH is 'cpu' or 'cuda', not '$(TORCH)'." >&2; exit 1 ;; \
	esac
	@echo $(TORCH) > $(VENV)/.torch

setup-train-only: ## Add only the trainer to PYTHON, which has torch, numpy and pyarrow already
	@$(PYTHON) -c 'import torch, numpy, pyarrow'
	$(PYTHON) -m pip install --no-deps .
	$(PYTHON) -m pip install safetensors fsspec

demo: setup ## Curate a real corpus, write its report, train a small model on it
	@$(BIN)/preceptor demo

test: setup ## Run the tests, then the checks
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not prefect"
	$(BIN)/python -m pytest -m prefect
	@$(MAKE) --no-print-directory check

check: setup ## Lint, format, types and import directions
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: setup ## Time each pass on the text of this Python environment
	$(BIN)/python tests/bench/passes.py

bench-dedup: setup ## Compare near-duplicate removal with other tools (ARGS=--quick for less text)
	$(BIN)/python tests/bench/dedup/run.py $(ARGS)

bench-scale: setup ## Measure how deduplication grows with documents and workers (half an hour, 10 GB)
	$(BIN)/python tests/bench/scale.py $(ARGS)

bench-signals: setup ## Compare signals, decontamination and whole runs with other tools (ARGS=--quick)
	$(BIN)/python tests/bench/signals/run.py $(ARGS)

bench-rules: setup ## Compare the rule presets with their references (ARGS=--record renews the golden files)
	$(BIN)/python tests/bench/rules/run.py $(ARGS)

bench-contamination: setup ## Plant test items, edited or not, and count what each method finds
	$(BIN)/python tests/bench/contamination.py $(ARGS)

bench-pack: setup ## Compare encoding with gigatoken and tokenizers, and loading with three readers (ARGS=--quick)
	$(BIN)/python tests/bench/pack/encode.py $(ARGS)
	$(BIN)/python tests/bench/pack/loaders.py $(ARGS)

bench-forecast: setup ## Compare what `preceptor plan --forecast` says with what runs take
	$(BIN)/python tests/bench/forecast.py $(ARGS)

bench-report: setup ## Open a report of a million documents in a browser
	$(BIN)/python tests/bench/report.py $(ARGS)

bench-train: setup ## Compare the trainer with nanoGPT's and Hugging Face's on the same tokens (ARGS=--quick)
	$(BIN)/python tests/bench/train/run.py $(ARGS)

bench-objectives: setup ## Train every pretext task and check it against its controls (ARGS=--quick, or --only NAME)
	$(BIN)/python tests/bench/objectives/run.py $(ARGS)

check-exports: setup ## Read every export back with its consumer's own code (downloads 11 GB)
	$(BIN)/python tests/bench/exports/run.py $(ARGS)

wheel: setup ## Build the wheel into dist/
	$(BIN)/python -m build --wheel

clean: ## Remove builds and caches, but not .venv and no store
	rm -rf build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find curate flows pipelines tests train -name __pycache__ -type d -prune -exec rm -rf {} +
