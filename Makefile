# The first target creates .venv and installs pinned versions into it; later ones reuse it.
#
# PYTHON=python3.12 make ...   use another Python
# make run ARGS="..."          pass flags to the experiment
# make test JOBS=8             number of test processes

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
RUN ?= runs/$(shell date +%Y%m%d-%H%M%S)
RUN := $(RUN)
ARGS ?=
JOBS ?= 2
# Packages that the tests compare with, without their dependencies: torchvision, torchtext and
# fairscale would replace torch, and the compared parts do not need them.
PEERS := labml-nn==0.5.1 timm==1.0.31

.PHONY: help install run test check site serve trace bench clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

install: $(INSTALLED) ## create .venv and install everything, with the versions of constraints.txt

$(INSTALLED): pyproject.toml mkdocs-annotated/pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt \
		--editable ./mkdocs-annotated --editable ".[experiments,images,weights,hub,flax,docs,test,check]"
	$(BIN)/python -m pip install --quiet --no-deps $(PEERS)
	@touch $@

run: $(INSTALLED) ## train the language model, then build the site with the page of this run
	$(BIN)/python -m experiments.autoregressive --run $(RUN) $(ARGS)
	@$(MAKE) --no-print-directory site
	@echo "page of this run: file://$(CURDIR)/site/$(RUN)/index.html"

# pytest rewrites the asserts of all tests, which takes 8 s in each process unless it may keep them.
test: $(INSTALLED) ## run the tests
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal

check: $(INSTALLED) ## ruff format, ruff lint, mypy
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

site: $(INSTALLED) ## build the site into site/
	$(BIN)/mkdocs build --strict --quiet
	@echo "site: file://$(CURDIR)/site/index.html"

serve: $(INSTALLED) ## serve the site locally and rebuild it when files change
	$(BIN)/mkdocs serve

trace: $(INSTALLED) ## trace the shapes shown beside the code
	$(BIN)/mkdocs-annotated trace

bench: $(INSTALLED) ## time training steps against other packages, and the engine against a plain loop
	$(BIN)/python -m benchmarks.blocks
	$(BIN)/python -m benchmarks.engine

clean: ## remove .venv, the site and all caches; keep runs
	rm -rf .venv site .pytest_cache .mypy_cache .ruff_cache .hypothesis
