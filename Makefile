# StratoVirt in Python. `make help` lists the targets.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
APT_PACKAGES := gcc libc6-dev linux-libc-dev busybox-static acpica-tools iproute2 ncat passt e2fsprogs mount qemu-system-common qemu-utils

.DEFAULT_GOAL := help
.PHONY: help setup run test check soak bench wheel docs clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## build the virtual environment; leaves .venv/bin/stratovirt

$(STAMP): pyproject.toml setup.py $(wildcard src/stratovirt/accel/*/_build.py) $(wildcard src/stratovirt/accel/tcg/glue/*) $(wildcard src/stratovirt/native/*.[ch] src/stratovirt/native/_build.py)
	@$(PYTHON) tools/preflight.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

run: setup ## boot a Debian kernel to a shell on this terminal (KERNEL=… for your own)
	@$(BIN)/python -m stratovirt.tools.tour

test: setup apt ## everything that CI tests; under 20 minutes on 2 cores
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: setup ## types and style
	$(BIN)/ruff check src tests benchmarks tools
	$(BIN)/ruff format --check src tests benchmarks tools
	$(BIN)/mypy

soak: setup apt qemu ## the long counts; seeded, resumable; log in .soak/
	$(BIN)/python -m tests.soak $(SOAK)

bench: setup apt qemu ## figures beside QEMU, as ratios, kept in docs/figures/ (BENCH=--quick: 3 minutes)
	@$(BIN)/python -c 'import matplotlib' 2>/dev/null || $(BIN)/pip install --quiet --editable '.[bench]'
	$(BIN)/python -m benchmarks $(BENCH)

wheel: setup ## a wheel in dist/ that installs without a compiler
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .
	@ls dist/*.whl

docs: setup ## regenerate the pages that come from code
	$(BIN)/python -m stratovirt.qmp.generate
	$(BIN)/python -m stratovirt.qmp.reference >docs/qmp.md

.PHONY: apt
apt: # what the tests use beyond Python; silent when it is all there
	@missing=$$(dpkg-query -W -f='$${db:Status-Abbrev} $${Package}\n' $(APT_PACKAGES) 2>&1 | grep -v '^ii' | grep -c . || true); \
	if [ "$$missing" != 0 ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(APT_PACKAGES) >/dev/null; fi

.PHONY: qemu
qemu: # what the figures are compared with, and the host of the nested KVM campaigns
	@command -v qemu-system-x86_64 >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends qemu-system-x86 >/dev/null; }

clean: ## remove what was built; keeps downloaded guests
	rm -rf $(VENV) build dist src/*.egg-info
	find src -name '*.so' -delete
