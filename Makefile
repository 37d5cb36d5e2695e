# Tollway's commands. All of them live in .venv, which makes itself: nothing else is asked of
# the machine than Python 3.11 or newer, git and make.

VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= config/quickstart.toml
CHECKED := $(wildcard proxy benchmarks tests)
# The fastest first, and of those on PATH one that was compiled with profiles: docs/decisions.md, 76 and 90.
PYTHONS := python3.14 python3.13 python3.11 python3.12 python3
IS_PROFILED := import sys, sysconfig; sys.exit(sys.base_prefix != "/usr" and \
	"--enable-optimizations" not in (sysconfig.get_config_var("CONFIG_ARGS") or ""))
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install --quiet

.PHONY: help install serve test check format docs bench guard image-check lock clean again
.DEFAULT_GOAL := help

help: ## List these commands
	@echo 'Tollway. What do you want to do?'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile
	@echo
	@echo 'Settings: CONFIG=path (serve), PYTEST_ARGS="-k name" (test), BENCH_ARGS="--help" (bench), PYTHON=path'

install: $(VENV)/.run ## Make .venv/bin/tollway
	@echo 'Installed. Try: $(BIN)/tollway --help'

serve: $(VENV)/.run ## Start on 127.0.0.1:8080; needs no Redis, no cloud and no key
	@exec $(BIN)/python -m proxy serve --config '$(CONFIG)'

test: $(VENV)/.dev ## Run the whole suite, with a Redis of its own
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

check: $(VENV)/.dev ## Format, lint, types, the shape of the house, the docs
	@$(BIN)/ruff format --check $(CHECKED)
	@$(BIN)/ruff check $(CHECKED)
	@$(BIN)/mypy $(CHECKED)
	@$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_docs.py tests/test_packaging.py

format: $(VENV)/.dev ## Format the code and put right what can be put right by itself
	@$(BIN)/ruff format $(CHECKED)
	@$(BIN)/ruff check --fix $(CHECKED)

docs: $(VENV)/.dev ## Write the commands' help texts into docs/commands.md
	@PYTHONPATH=. $(BIN)/python tests/test_docs.py

bench: $(VENV)/.run ## Added latency against a direct call, as a table and a picture
	@$(BIN)/python -m benchmarks.latency $(BENCH_ARGS)

guard: $(VENV)/.run ## Fail where a plain call costs more processor time than benchmarks/baseline.json says
	@$(BIN)/python -m benchmarks.guard $(GUARD_ARGS)

image-check: $(VENV)/.dev ## Do the Dockerfile's steps in a clean environment; needs the package index
	@TOLLWAY_IMAGE_CHECK=1 $(BIN)/python -m pytest -q tests/behaviour/test_dockerfile.py

# One tool, pinned, in an environment of its own: what it brings must not get into the locks.
# The oldest supported Python makes them, since that is the one with the most conditions to meet.
COMPILE := CUSTOM_COMPILE_COMMAND='make lock' build/lock/bin/pip-compile --quiet --upgrade --generate-hashes \
	--allow-unsafe --strip-extras --no-emit-options --no-emit-index-url --no-emit-find-links --no-emit-trusted-host
lock: ## Renew the lock files from pyproject.toml; needs python3.11 and the package index
	@command -v python3.11 >/dev/null || { echo 'make lock needs python3.11, the oldest version that is supported.' >&2; exit 1; }
	@test -x build/lock/bin/pip-compile || { python3.11 -m venv --clear build/lock && build/lock/bin/python -m pip install --quiet pip-tools==7.6.2; }
	@$(COMPILE) -o requirements.lock pyproject.toml
	@$(COMPILE) --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml
	@$(COMPILE) --extra kms --extra s3 -c requirements-dev.lock -o requirements-aws.lock pyproject.toml
	@$(COMPILE) --only-build-deps --all-build-deps -c requirements-dev.lock -o requirements-build.lock pyproject.toml

clean: ## Remove .venv and what the tools left; the gateway's own state in .tollway stays
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find proxy tests $(wildcard benchmarks) -name __pycache__ -prune -exec rm -rf {} +

# ── .venv ────────────────────────────────────────────────────────────────────────────────
# Three stamps: the interpreter, what the gateway needs, what its makers need on top. A lock
# file that is newer than its stamp is installed again. `.unfinished` stands while pip is at
# work: if it is found, an install was interrupted, and .venv is made afresh. So it is when
# its interpreter is gone, or when the stamps are not ours.

ifneq ($(wildcard $(VENV)/.unfinished),)
$(VENV)/.interpreter: again
else ifeq ($(wildcard $(BIN)/python),)
$(VENV)/.interpreter: again
endif

$(VENV)/.interpreter:
	@python=; plain=; old=; \
	look_at() { \
	  "$$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || return 0; \
	  if ! "$$1" -c 'import venv, ensurepip' 2>/dev/null; then \
	    old="$$1 has no venv module: on Debian and Ubuntu, apt install python3-venv."; \
	  elif "$$1" -c '$(IS_PROFILED)'; then python="$$1"; \
	  else plain="$${plain:-$$1}"; fi; \
	}; \
	if [ -n "$(PYTHON)" ]; then look_at "$(PYTHON)"; else \
	  set -f; IFS=:; \
	  for name in $(PYTHONS); do for folder in $$PATH; do \
	    if [ -z "$$python" ] && [ -x "$${folder:-.}/$$name" ]; then look_at "$${folder:-.}/$$name"; fi; \
	  done; done; \
	fi; \
	python="$${python:-$$plain}"; \
	if [ -z "$$python" ]; then \
	  echo "Tollway needs Python 3.11 or newer, and found none of: $(or $(PYTHON),$(PYTHONS)). $$old" >&2; \
	  echo 'Install one (https://www.python.org/downloads), or name it: make PYTHON=/path/to/python3 …' >&2; \
	  exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$python" --version), $$python"; \
	rm -f $@ && rm -rf $(VENV) && "$$python" -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.interpreter requirements.lock requirements-build.lock pyproject.toml
	@echo 'Installing what Tollway needs (some 20 packages, each held to its hash)'
	@touch $(VENV)/.unfinished
	@$(PIP) --require-hashes -r requirements.lock -r requirements-build.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@rm $(VENV)/.unfinished
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock requirements-anthropic-1.lock requirements-redis-6.lock
	@echo 'Installing what its tests and checks need'
	@touch $(VENV)/.unfinished
	@$(PIP) --require-hashes -r requirements-dev.lock
	@$(PIP) --require-hashes --no-deps --upgrade --target $(VENV)/anthropic-1 -r requirements-anthropic-1.lock
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info >= (3, 13))'; then \
	  $(PIP) --require-hashes --no-deps --only-binary :all: -r requirements-redis-6.lock; \
	fi || echo 'There is no ready-made Redis 6 for this machine: without a redis-server on PATH the tests run on Valkey'
	@rm $(VENV)/.unfinished
	@touch $@
