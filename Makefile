# Sets everything up and runs it; `make` alone lists the targets.
#
# Each step leaves a stamp in the environment, so a second `make play` starts at once;
# a change of pyproject.toml or constraints.txt installs again.
#
#   make play ARGS="--router high --seed 3"     more options for the command
#   make PYTHON=python3.12 play                 another Python (3.11 or newer)
#   make CMAKE_ARGS=-DGGML_CUDA=ON play         another build of llama.cpp; kept until changed
#   make PIP_ARGS="--index-url ..." test        more options for pip

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
PIP_ARGS ?=
CMAKE_ARGS ?=
export CMAKE_ARGS
export PIP_DISABLE_PIP_VERSION_CHECK := 1

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install -q -c constraints.txt $(PIP_ARGS)
LOCK := pyproject.toml constraints.txt
# A process a core; one that has run out of tests takes over some of another's.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal
# The theme's advertisement of its successor is no warning about our pages. (With --quiet mkdocs
# counts no warning at all.)
BUILD_SITE := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: help play test test-all check format docs site lm router freeze clean distclean FORCE
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

play: $(VENV)/.run-stamp ## set up and play one episode on the embedded model
	@$(BIN)/edge-router play --task alfworld $(ARGS)

test: $(VENV)/.test-stamp ## set up and run the fast tests
	@$(PYTEST) $(ARGS)

test-all: $(VENV)/.test-stamp ## run the slow tests as well
	@$(PYTEST) -m "slow or not slow" --hypothesis-profile explore $(ARGS)

check: $(VENV)/.test-stamp $(VENV)/.docs-stamp ## style, types, import rules, documentation, fast tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BUILD_SITE)
	$(PYTEST) $(ARGS)

format: $(VENV)/.test-stamp ## let ruff rewrite the code in its style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.run-stamp ## put the commands' own help into the documentation again
	$(BIN)/python -m tools.refresh_docs

site: $(VENV)/.docs-stamp ## build the documentation as a site in site/
	$(BUILD_SITE)

lm: $(VENV)/.test-stamp ## train the embedded model and build its tiers anew (hours)
	$(BIN)/python -m train.lm $(ARGS)

router: $(VENV)/.test-stamp ## train the embedded model's router anew (an hour or so)
	$(BIN)/edge-router train router --run runs/router \
	  --train-games 4000 --select-games 800 --test-games 1200 \
	  --cost models/household/costs-qwen3-1.7b.json $(ARGS)
	$(BIN)/python -m train.router.ship runs/router models/household

freeze: $(VENV)/.test-stamp $(VENV)/.docs-stamp ## write constraints.txt from what is installed
	$(BIN)/python -m tools.freeze

clean: ## remove caches and build products
	rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find edge_router train tui tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove the environment as well
	rm -rf $(VENV)

# The environment, step by step ---------------------------------------------------------------

$(VENV)/.venv-stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "edge-router needs Python 3.11 or newer and '$(PYTHON)' is not;" \
	       "name one with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Making the environment $(VENV)."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# Always asked when CMAKE_ARGS is given: the script itself knows what the installed build has.
$(VENV)/.llama-stamp: $(VENV)/.venv-stamp constraints.txt $(if $(CMAKE_ARGS),FORCE)
	@$(BIN)/python tools/install_llama.py constraints.txt
	@touch $@

$(VENV)/.run-stamp: $(LOCK) | $(VENV)/.llama-stamp
	@echo "Installing edge-router and what a run needs (about 550 MB on disk)."
	@$(PIP_INSTALL) -e .
	@touch $@

$(VENV)/.test-stamp: $(LOCK) | $(VENV)/.llama-stamp
	@echo "Installing edge-router and what tests and training need (PyTorch among it)."
	@$(PIP_INSTALL) -e '.[dev,train,convert,serve]'
	@touch $@ $(VENV)/.run-stamp

$(VENV)/.docs-stamp: $(LOCK) | $(VENV)/.run-stamp
	@echo "Installing what the documentation's site needs (about 120 MB on disk)."
	@$(PIP_INSTALL) -e '.[docs]'
	@touch $@
