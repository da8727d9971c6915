# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# A room's time changes when files come or go.
SOURCES := pyproject.toml constraints.txt tracekit collect kernels analyze report templates

.PHONY: demo test lint mutants clean

demo: $(VENV)/installed-collect
	$(BIN)/tracekit collect --variant baseline --model tiny --weights random --new-tokens 16 -o build/demo-traces
	$(BIN)/tracekit analyze build/demo-traces traces --project T4
	@echo "dossier: $$($(BIN)/tracekit report -o $(CURDIR)/report.html)"

test: $(VENV)/installed-dev lint
	$(BIN)/pytest -n 2 --dist loadfile

lint: $(VENV)/installed-dev build/types/tracekit
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	cd build/types && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml

# Which changes to the code do the tests not notice? Takes long, and is no part of the tests.
mutants: $(VENV)/installed-mutants
	$(BIN)/python benchmarks/mutants.py

# The rooms as the package that they are installed as: links that a type checker can follow.
build/types/tracekit: $(SOURCES)
	rm -rf $@ && mkdir -p $@
	ln -s $(CURDIR)/tracekit/* $@
	for room in analyze collect kernels report templates; do ln -s $(CURDIR)/$$room $@/$$room; done
	touch $@

clean:
	rm -rf $(VENV) build analysis report.html

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

INSTALL = $(BIN)/python -m pip install --quiet -c constraints.txt

$(VENV)/installed-collect: $(BIN)/python $(SOURCES)
	$(INSTALL) -e '.[collect]'
	touch $@

$(VENV)/installed-mutants: $(BIN)/python $(SOURCES)
	$(INSTALL) -e '.[mutants]'
	touch $@

$(VENV)/installed-dev: $(BIN)/python $(SOURCES)
	$(INSTALL) -e '.[collect,cuda,dev,hta]'
	touch $@
