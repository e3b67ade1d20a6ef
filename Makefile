# One virtual environment for everything below, made once and remade when the dependencies change.
#
#   make demo                  the main job on the embedded world; ends with the path of report.html
#   make test                  fast tests, about ten minutes on two cores
#   make TORCH_INDEX=URL demo  take PyTorch from another index, for example one that carries CPU builds

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
TORCH_INDEX ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# Tiny models are fastest on one thread each; nothing here may reach for the network.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false
export HF_HUB_OFFLINE ?= 1

.DEFAULT_GOAL := help
.PHONY: help install demo test test-golden test-slow lint format bench docs clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
ifneq ($(strip $(TORCH_INDEX)),)
	$(PIP) --no-deps --index-url $(TORCH_INDEX) torch
endif
	$(PIP) -e ".[dev]"
	touch $@

$(DOCS_STAMP): $(STAMP)
	$(PIP) -e ".[docs]"
	touch $@

install: $(STAMP) ## Make the virtual environment and install efface into it

demo: $(STAMP) ## Build the embedded world, unlearn, evaluate, report
	$(BIN)/efface demo

test: $(STAMP) ## Fast tests, golden fixtures included
	$(BIN)/python -m pytest -n $(JOBS)

test-golden: $(STAMP) ## Only the tests against the fixtures in EFFACE_GOLDEN_DIR
	$(BIN)/python -m pytest -n $(JOBS) tests/golden

test-slow: $(STAMP) ## The long tests
	$(BIN)/python -m pytest -n $(JOBS) -m slow

lint: $(STAMP) ## Style, types, spelling, import arrows
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell src tests docs README.md CHANGELOG.md CONTRIBUTING.md
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

format: $(STAMP) ## Put the code into shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(STAMP) ## Ratios against plain baselines, defined in words beside each
	$(BIN)/python -m benchmarks

docs: $(DOCS_STAMP) ## Build the documentation into site/
	$(BIN)/mkdocs build --strict --quiet

clean: ## Remove what these targets made
	rm -rf $(VENV) site build dist
