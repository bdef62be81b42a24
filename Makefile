# Everything runs from an environment of its own, made here and nowhere else.
VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
UV     := $(BIN)/uv
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help demo cluster cluster-down images e2e-cluster e2e-kind test check proof bench soak parts fuzz audit requirements golden clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.ready ## the guide's InferenceService, metered end to end (ARGS=--json, ARGS=--keep)
	@$(BIN)/token-meter demo $(ARGS)

e2e-cluster: $(VENV)/.ready ## a real API server with everything installed, to use by hand until Ctrl-C
	@$(BIN)/python -m tests.cluster $(ARGS)

cluster: $(VENV)/.ready ## a cluster with a node and our images on it, to use by hand until `make cluster-down` (CLUSTER=kind)
	@$(BIN)/python -m tests.node up

cluster-down: $(VENV)/.ready ## end that cluster and undo what it did to the machine
	@$(BIN)/python -m tests.node down

images: $(VENV)/.ready ## build both images, by Docker or buildah, into build/images
	@$(BIN)/python -m tests.images

e2e-kind: $(VENV)/.ready ## the whole flow in a kind cluster; needs Docker, kind, helm and internet (ARGS=--keep)
	@$(BIN)/python -m tests.e2e $(ARGS)

test: check parts ## the checks and every test
	@$(BIN)/pytest -n 2 --dist loadgroup $(ARGS)

check: $(VENV)/.ready ## ruff, mypy strict, import rules, the Dockerfile
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/hadolint Dockerfile

proof: $(VENV)/.ready ## 2,000 requests with kills, aborts and cut wires; the ledger beside the truth (ARGS="--seeds 1 2 3")
	@$(BIN)/python -m tests.proof $(ARGS)

bench: $(VENV)/.ready ## CPU, latency and memory beside Envoy, as ratios of one run
	@$(BIN)/python -m benchmarks $(ARGS)

fuzz: $(VENV)/.ready ## fuzz every parser (ARGS="--seconds 600", ARGS="sse http_request")
	@$(BIN)/python -m tests.fuzz $(ARGS)

soak: $(VENV)/.ready ## 4,000 open streams for ten minutes with aborts and slow readers; what is left of them
	@$(BIN)/python -m benchmarks.soak $(ARGS)

audit: $(VENV)/.ready ## look up what the images carry among the known vulnerabilities (a mirror of PyPI may not know them)
	@for image in sidecar controller ledger cli; do echo "$$image:" && \
	  $(UV) run -q --isolated --no-project --with-requirements requirements/audit.txt \
	    pip-audit --require-hashes --disable-pip --progress-spinner off -r requirements/$$image.txt || exit 1; done

parts: $(VENV)/.ready ## fetch and build the real programs into the cache
	@$(BIN)/python -m parts

golden: $(VENV)/.ready ## write the golden files of the tests again
	@GOLDEN=write $(BIN)/pytest -n 0 tests -k golden $(ARGS)

requirements: $(VENV)/.ready ## compile the hash-pinned requirements files again
	@$(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-package kserve-token-meter \
	    --custom-compile-command 'make requirements' --extra demo --extra controller --extra ledger --group dev pyproject.toml -o requirements/dev.txt
	@for extra in sidecar controller ledger cli demo; do \
	  $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --constraint requirements/dev.txt \
	    --no-annotate --custom-compile-command 'make requirements' $$(find requirements -name $$extra.override -printf '--override %p') \
	    --extra $$extra pyproject.toml -o requirements/$$extra.txt; done
	@for part in uv envoy go litellm audit; do \
	  $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --custom-compile-command 'make requirements' requirements/$$part.in -o requirements/$$part.txt; done
	@for part in tiktoken vocabularies; do \
	  $(UV) pip compile -q --no-deps --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --custom-compile-command 'make requirements' requirements/$$part.in -o requirements/$$part.txt; done

$(VENV)/.ready: requirements/dev.txt requirements/uv.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "token-meter needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "making the environment in $(VENV)" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3 cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@$(UV) pip install -q --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

clean: ## remove the environment and what the tools left here (the parts' cache stays)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz .import_linter_cache
