# Everything a newcomer runs. `make` alone lists it.

PYTHON ?= python3
# Set to a package index to take PyTorch from there, such as one that has builds for your GPU.
TORCH_INDEX ?=
# More words: make test ARGS="tests/wire -x", make bench ARGS="hops --quick".
ARGS ?=

BIN := .venv/bin
BUF := node_modules/.bin/buf
INSTALLED := .venv/.installed
# What pyproject.toml needs for a build; the tests build a wheel, `make protos` runs protoc.
BUILD_REQUIRES = $(BIN)/python -c "import tomllib, pathlib; \
	print(*tomllib.loads(pathlib.Path('pyproject.toml').read_text())['build-system']['requires'])"

.DEFAULT_GOAL := help
.PHONY: help demo test serve bench bench-full-size lint lint-python lint-protos protos docs train-shapes clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## Serve the small built-in model, generate images into out/
	$(BIN)/python examples/demo.py --out out

test: $(INSTALLED) ## Run all tests
	$(BIN)/python -m pytest -q --durations=15 $(ARGS)

serve: $(INSTALLED) ## Serve on this machine until Ctrl-C
	$(BIN)/kandinsky up

bench: $(INSTALLED) ## Measure: every table in turn, into out/bench/
	$(BIN)/python -m benchmarks $(ARGS)

bench-full-size: $(INSTALLED) ## Measure full-size Kandinsky 2.2 on a GPU; reduced on a CPU
	$(BIN)/python -m benchmarks.full_size $(ARGS)

lint: lint-python lint-protos ## Check Python (ruff, mypy) and the contract (buf)

lint-python: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lint-protos:
	@if command -v npm >/dev/null; then \
		$(MAKE) --no-print-directory buf; \
	elif [ "$${CI:-}" = true ]; then \
		echo "npm is missing, and CI may not skip buf." >&2; exit 1; \
	else \
		echo "Skipped buf, which checks protos/, because npm is not installed."; \
	fi

.PHONY: buf
buf: node_modules/.installed
	$(BUF) lint protos
	$(BUF) breaking protos --against protos/baseline.binpb

protos: $(INSTALLED) ## Generate the stubs in kandinsky/v1 again
	$(BIN)/python -c "import pathlib, hatch_build; hatch_build.generate_stubs(pathlib.Path.cwd())"

docs: $(INSTALLED) ## Write docs/reference.md and docs/models.md from the contract and the families
	$(BIN)/python docs/reference.py
	$(BIN)/python docs/models.py

train-shapes: $(INSTALLED) ## Train the small built-in model again
	$(BIN)/python -m training.shapes train

clean: ## Remove everything that these targets made
	rm -rf .venv node_modules kandinsky/v1 build dist out
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt hatch_build.py $(wildcard protos/kandinsky/v1/*.proto)
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { \
		echo "Python 3.11 or newer is needed; name one with make PYTHON=/path/to/python3.11." >&2; \
		exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(BIN)/python -m pip install -q -c constraints.txt $$($(BUILD_REQUIRES))
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[gateway,serve,dev]'
	@touch $@

# The platform's own package carries buf's binary, so no install script needs to run.
node_modules/.installed: package.json package-lock.json
	npm ci --ignore-scripts --no-audit --no-fund
	@touch $@
