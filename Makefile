# The two commands of this project:
#
#   make compare   a fair comparison of optimizers on real data, in minutes; prints where the report is
#   make test      every check: lint, format, types, documentation, examples, tests
#
# Both need Python 3.11 or later, make and the package registry, and install into .venv the first time only.

VENV ?= .venv
# One more than cores: many a test waits for processes of its own.
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: compare test test-slow lint format types docs docs-of-two-rules examples pytest pictures clean

compare: $(VENV)/.lab-installed
	$(BIN)/thalweg compare smoke

test: lint
	$(MAKE) -j 3 -O types docs-of-two-rules examples
	$(MAKE) pytest

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev-installed
	$(BIN)/pyright --pythonpath $(BIN)/python

docs: $(VENV)/.dev-installed build/conformance.md
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python scripts/links.py

# pytest holds every rule to the checks of the conformance page; here two of them show that the page can be made.  It is
# left older than the code, so that `make docs` makes all of it.
docs-of-two-rules: $(VENV)/.dev-installed
	$(BIN)/thalweg conformance --rules adamw,muon --output build/conformance.md >/dev/null
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python scripts/links.py
	touch -t 200001010000 build/conformance.md

# The documentation shows the table as it is for the code that it documents.
build/conformance.md: $(VENV)/.dev-installed $(shell find src/thalweg/core src/thalweg/rules src/thalweg/conformance -name '*.py')
	$(BIN)/thalweg conformance --output $@ >/dev/null

EXAMPLES := train nesterov_lookahead continue_from_torch continue_from_schedulefree continue_from_muon kill_and_resume \
	schedule_free_loop newton_quadratic dcao_loop route_and_train curvature_monitor curvature_lightning \
	curvature_huggingface accelerate_loop lightning_module huggingface_trainer

# Two at a time, one thread each.
examples: $(VENV)/.dev-installed
	printf '%s\n' scripts/guide.py $(EXAMPLES:%=examples/%.py) | OMP_NUM_THREADS=1 xargs -P 2 -n 1 $(BIN)/python

pytest: $(VENV)/.dev-installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal

test-slow: $(VENV)/.dev-installed
	$(BIN)/python -m pytest -m slow

pictures: $(VENV)/.dev-installed
	$(BIN)/python scripts/monitor_picture.py docs/pictures
	$(BIN)/python scripts/dcao_pictures.py docs/pictures
	$(BIN)/python scripts/race_pictures.py docs/pictures
	mkdir -p build && $(BIN)/thalweg verify --only stability -o build/stability.json
	$(BIN)/python scripts/stability.py build/stability.json docs/pictures/edge-of-stability.svg

clean:
	rm -rf $(VENV) build site dist

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or later found; name one with make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first, alone: its own dependencies must not be resolved together with everything else's.
$(VENV)/.torch-installed: constraints.txt | $(BIN)/python
	@echo "installing torch into $(VENV) (once; some minutes on a slow network)"
	$(INSTALL) torch
	@touch $@

$(VENV)/.lab-installed: pyproject.toml $(VENV)/.torch-installed
	@echo "installing thalweg and its lab into $(VENV)"
	$(INSTALL) -e '.[lab]'
	@touch $@

$(VENV)/.dev-installed: pyproject.toml $(VENV)/.torch-installed
	@echo "installing thalweg and its development tools into $(VENV)"
	$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.lab-installed
