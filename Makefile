# Everything a person or CI runs. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One file says that the environment is what the requirements say.
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test soak lint format bench protos docs requirements clean

help: ## List what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(READY): requirements/dev.txt pyproject.toml hatch_build.py $(wildcard agency_adapters/galleries/*.[ch])
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

demo: $(READY) ## Run a whole federation on this machine: make it, search it, verify it
	$(BIN)/probegate demo

# Processes that share the tests; each has a federation of its own.
WORKERS ?= 2

test: $(READY) ## Run every test, the real multi-process federation included
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

soak: $(READY) ## Run the fault and property tests with large counts (an hour or more)
	PROBEGATE_SOAK=1 $(BIN)/python -m pytest --timeout 7200

lint: $(READY) ## Check style, types, imports, protos, generated files and duplication of facts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/python scripts/breaking.py
	$(BIN)/python scripts/protos.py --check
	$(BIN)/python scripts/docs.py --check

format: $(READY) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY) ## Measure broker, decisions, matching and the log beside others and write benchmarks/results/
	$(BIN)/python -m benchmarks.broker --json benchmarks/results/broker.json
	$(BIN)/python -m benchmarks.policy --json benchmarks/results/policy.json
	$(BIN)/python -m benchmarks.matching --json benchmarks/results/matching.json
	$(BIN)/python -m benchmarks.audit --json benchmarks/results/audit.json

protos: $(READY) ## Generate the stubs from the protos
	$(BIN)/python scripts/protos.py

docs: $(READY) ## Generate the documentation pages that are made from code
	$(BIN)/python scripts/docs.py

requirements: ## Pin every dependency with its hashes (needs pip-tools)
	$(BIN)/python scripts/requirements.py

clean: ## Remove the environment, caches and the demonstration
	-test -x $(BIN)/probegate && $(BIN)/probegate demo down
	rm -rf $(VENV) .probegate .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
