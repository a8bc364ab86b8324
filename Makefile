# `make demo` and `make test` need Python 3.12 or newer and make; everything else goes into .venv of this checkout.
PYTHON ?= python3
RUNS ?= runs/quickstart
BIN := .venv/bin
UV_COMPILE = $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.12 --no-header --no-annotate --upgrade --quiet
ACTIVE := .venv/.run-ready
ACTIVE_DEV := .venv/.dev-ready
HALF := .venv/.half-made

.PHONY: help demo test test-all notebooks docs lint validate format lock bench hooks clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

demo: $(ACTIVE)  ## float, control, PTQ and QAT on handwritten digits, with a table and a plot
	$(BIN)/qat sweep experiments/quickstart.py --runner 'batched(size=64)' --runs $(RUNS)

# The tests of the Ray cluster run by themselves: two clusters at once do not get along.
test: $(ACTIVE_DEV)  ## the tests but for the slow ones
	$(BIN)/pytest -n auto --dist worksteal -m "not slow" --ignore tests/lab/jobs/test_ray.py $(PYTEST_ARGS)
	$(BIN)/pytest -m "not slow" tests/lab/jobs/test_ray.py $(PYTEST_ARGS)

test-all: $(ACTIVE_DEV)  ## every test
	$(BIN)/pytest -n auto --dist worksteal --ignore tests/lab/jobs/test_ray.py $(PYTEST_ARGS)
	$(BIN)/pytest tests/lab/jobs/test_ray.py $(PYTEST_ARGS)

notebooks: $(ACTIVE_DEV)  ## run every notebook from start to end
	$(BIN)/pytest tests/test_notebooks.py $(PYTEST_ARGS)

docs: $(ACTIVE_DEV)  ## the documentation in site/, where a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

lint: $(ACTIVE_DEV)  ## ruff, pyright and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/codespell

validate: $(ACTIVE_DEV)  ## check every config and experiment without training
	$(BIN)/qat validate configs experiments

format: $(ACTIVE_DEV)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(ACTIVE_DEV)  ## every benchmark, as ratios measured in one run
	@set -e; for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file; done

lock: $(ACTIVE_DEV)  ## move the pinned versions to the newest that work together
	$(UV_COMPILE) --extra lab -o requirements.lock
	$(UV_COMPILE) --extra dev --constraint requirements.lock -o requirements-dev.lock
	@sed -i "/sys_platform == 'never'/d" requirements-dev.lock

hooks: $(ACTIVE_DEV)  ## run the checks before each commit
	$(BIN)/pre-commit install

clean:  ## remove the environment and all caches; keep the runs
	rm -rf .venv build dist site *.egg-info .pytest_cache .ruff_cache

# An environment is half made until its stamp is written; one that was interrupted is removed and made again.
define INSTALL
	@[ ! -e $(HALF) ] || { echo "The last installation was interrupted: starting .venv afresh."; rm -rf .venv; }
	@rm -f $(ACTIVE) $(ACTIVE_DEV)
	@$(BIN)/python -c '$(NEW_ENOUGH)' 2>/dev/null && $(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  $(PYTHON) -c '$(NEW_ENOUGH)' 2>/dev/null || { $(TOO_OLD); }; \
	  rm -rf .venv && mkdir .venv && touch $(HALF) && $(PYTHON) -m venv --prompt qat .venv; }
	@touch $(HALF)
	@echo "Installing the packages pinned in $(1) into .venv; this can take some minutes."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r $(1)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@rm -f $(HALF)
endef

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 12))
TOO_OLD = echo "qat needs Python 3.12 or newer, but \`$(PYTHON)\` is: $$($(PYTHON) --version 2>&1 | head -n 1)" >&2; \
	  echo "Name another one, for example: make PYTHON=python3.13 $(or $(firstword $(MAKECMDGOALS)),demo)" >&2; exit 1

$(ACTIVE): requirements.lock pyproject.toml
	$(call INSTALL,requirements.lock)
	@touch $(ACTIVE)

$(ACTIVE_DEV): requirements-dev.lock requirements.lock pyproject.toml
	$(call INSTALL,requirements-dev.lock)
	@touch $(ACTIVE) $(ACTIVE_DEV)
