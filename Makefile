# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint clean

demo: $(VENV)/installed-collect
	$(BIN)/tracekit collect --variant baseline --model tiny --weights random --new-tokens 16 -o build/demo-traces
	$(BIN)/tracekit analyze build/demo-traces traces
	@echo "dossier: $$($(BIN)/tracekit report -o $(CURDIR)/report.html)"

test: $(VENV)/installed-dev lint
	$(BIN)/pytest -n 2 --dist loadgroup

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build analysis report.html

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# A strict editable install is a tree of links, which type checkers understand; it must be made anew when files come or go.
SOURCES := pyproject.toml constraints.txt $(sort $(dir $(wildcard tracekit/* collect/* kernels/* analyze/* report/* templates/*)))
INSTALL = $(BIN)/python -m pip install --quiet -c constraints.txt --config-settings editable_mode=strict

$(VENV)/installed-collect: $(BIN)/python $(SOURCES)
	$(INSTALL) -e '.[collect]'
	touch $@

$(VENV)/installed-dev: $(BIN)/python $(SOURCES)
	$(INSTALL) -e '.[collect,dev]'
	touch $@
