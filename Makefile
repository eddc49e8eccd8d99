# Every target makes what it needs: a virtual environment in .venv, once, and again when pyproject.toml changes.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= auto

.PHONY: help demo test e2e campaign check docs bench clean infra-check

help:
	@echo "make demo    install lakectl and walk through it on real data"
	@echo "make test    all tests"
	@echo "make e2e     the lake in AWS on an emulated account, with real containers (root; KEEP=1 leaves it running)"
	@echo "make campaign   the long campaigns (SEED=n chooses their seed)"
	@echo "make check   lint, format, types, import rules, reference pages"
	@echo "make docs    write the reference pages from the code"
	@echo "make infra-check   cfn-lint and checkov over every kind of rendered template"
	@echo "make bench   measure against other tools, into docs/benchmarks.md (BENCH=--help tells how to choose)"
	@echo "make clean   remove the virtual environment and caches"
	@echo "PYTHON=python3.12 chooses the interpreter"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "lakectl needs Python 3.11 or newer; name one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(VENV)/.installed $@

demo: $(VENV)/.installed
	PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

# Brings up containers and an emulated account, and takes them down. Exit code 69: this machine cannot run containers.
e2e: $(VENV)/.installed-dev
	@$(PYTHON) tests/e2e/ground.py up || exit $$?; status=0; \
	LAKECTL_E2E=1 $(BIN)/python -m pytest tests/e2e -p no:xdist -s -v --durations=0 --timeout 900 $(E2E) || status=$$?; \
	[ -n "$(KEEP)" ] || $(PYTHON) tests/e2e/ground.py down; exit $$status

campaign: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow -s --timeout 3600

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m lakectl.cli.reference --check

docs: $(VENV)/.installed-dev
	$(BIN)/python -m lakectl.cli.reference

# cfn-lint and checkov bring over a hundred packages of their own, so they live apart.
INFRA := .venv-infra
$(INFRA)/.installed: | $(BIN)/python
	$(PYTHON) -m venv $(INFRA)
	$(INFRA)/bin/python -m pip install --quiet --disable-pip-version-check "cfn-lint>=1.20" "checkov>=3.2"
	@touch $@

infra-check: $(VENV)/.installed-dev $(INFRA)/.installed
	LAKE_LINTERS=$(INFRA)/bin $(BIN)/python -m pytest -q -s tests/unit/infra/test_linters.py tests/unit/infra/test_templates.py

# The tools that we are measured against live apart as well. One that this machine cannot have is left out.
PEERS := .venv-peers
$(PEERS)/.installed: | $(BIN)/python
	$(PYTHON) -m venv $(PEERS)
	@for peer in "duckdb==1.5.5 duckdb-extensions duckdb-extension-postgres-scanner==1.5.5" "polars adbc-driver-postgresql pyarrow" \
		"pandas sqlalchemy psycopg2-binary" "dlt[postgres] orjson pyarrow" "sling-linux-amd64" "matplotlib"; do \
		echo "installing $$peer"; \
		$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check $$peer || echo "cannot be had here: $$peer"; \
	done
	@touch $@

# BENCH="load --megabytes 1000" measures one part; all of it writes docs/benchmarks.md.
bench: $(VENV)/.installed-dev $(PEERS)/.installed
	LAKE_BENCH_PEERS=$(CURDIR)/$(PEERS) $(BIN)/python -m benchmarks $(BENCH)

clean:
	rm -rf $(VENV) $(INFRA) $(PEERS) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .demo
