# The commands that stay stable. Everything works from a fresh clone; `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help run demo test check format lint types imports bench kernel kernel-check test-kernel clean

help:
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /	/' | column -t -s '	'

$(INSTALLED): pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	@touch $@

run: $(INSTALLED) ## everything on this machine: Kafka, all services, the sample story, a live table
	$(BIN)/shutong up --story

demo: $(INSTALLED) ## the story once, unattended: counts compared, audit verified
	$(BIN)/shutong demo

test: $(INSTALLED) ## everything that CI tests, on a real Kafka
	$(BIN)/pytest

check: $(INSTALLED) format lint types imports test ## format, lint, types, import contracts, tests

format: $(INSTALLED)
	$(BIN)/ruff format --check .

lint: $(INSTALLED)
	$(BIN)/ruff check .

types: $(INSTALLED)
	$(BIN)/mypy

imports: $(INSTALLED)
	$(BIN)/lint-imports

bench: $(INSTALLED) ## the reference job against its peers, all bars; BENCH=<bar> measures one
	PYTHONPATH=tests $(BIN)/python -m bench

KERNEL := --manifest-path services/shutong_kernel/Cargo.toml --target-dir build/kernel

kernel: $(INSTALLED) ## build and install the optional compiled kernel (needs a Rust toolchain)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock maturin
	rm -rf build/kernel/dist
	$(BIN)/maturin build --quiet --release --locked $(KERNEL) --out build/kernel/dist -i $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps build/kernel/dist/*.whl

kernel-check: ## format, lints and own tests of the optional compiled kernel
	cargo fmt --check --manifest-path services/shutong_kernel/Cargo.toml
	cargo clippy --quiet --locked --all-targets $(KERNEL) -- -D warnings
	cargo test --quiet --locked $(KERNEL)

test-kernel: $(INSTALLED) ## what decides, with the compiled kernel installed by `make kernel`
	SHUTONG_BROKER_ENGINE=native $(BIN)/pytest tests/properties/test_native_kernel.py \
		tests/properties/test_plans_equal.py tests/unit/test_kernel_columns.py tests/kafka/test_lane.py \
		tests/faults/test_kill9.py tests/faults/test_mutants.py tests/e2e/test_canary.py

clean: ## remove what make built; data and caches of the user stay
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
