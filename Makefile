# Needs GNU make 3.81 or newer and Python 3.11 or newer; everything else is set up in .venv.
# Where packages come from is up to your own pip configuration.

SHELL := /bin/sh
VENV ?= .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check --quiet --no-input
# One thread per process: the numerical libraries otherwise start one for each core in each of them, and wait for one another.
export OMP_NUM_THREADS := 1
# Images for containers forbid it, and then each of the processes that tests start compiles all of the code again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-browser fuzz test-slow test-kafka chaos soak lint format shape docs bench bench-small package sbom audit clean

help:
	@echo "make demo     a real order log through embedded Kafka and Redis to churn warnings (KEEP=1 leaves it running)"
	@echo "make test     every test that needs no outside service (ARGS='-k silence -x' goes to pytest)"
	@echo "make test-browser  the page in a headless Chromium, which has to be installed (ARGS as above)"
	@echo "make fuzz     the targets of tests/fuzz for half a minute each (EXAMPLES=100000 for longer)"
	@echo "make test-slow   what takes longer: any horizon, shops of other kinds, upkeep, more examples, who is killed while warnings stream"
	@echo "make test-kafka  what Apache Kafka itself has to show; needs Java 17 and Maven (ARGS as above)"
	@echo "make chaos    workers, Redis, broker and network broken on purpose; results go to docs/results (FULL=1: an hour of it)"
	@echo "make soak     half an hour of orders with a worker killed each minute (MINUTES=10 for a shorter one)"
	@echo "make lint     formatting, lint rules and types, checked"
	@echo "make format   formatting and lint rules, applied"
	@echo "make shape    sizes of the code against their limits, and which package imports which"
	@echo "make docs     the pages of docs/ and the reference as a site in out/site, links checked"
	@echo "make bench    the measurements in benchmarks/ (ARGS goes to them)"
	@echo "make bench-small  speed beside a floor measured in the same minute; fails where it is a third worse than published"
	@echo "make package  the wheel, installed into an empty environment, and its demo run outside the checkout"
	@echo "make sbom     what is installed with the worker, as CycloneDX, in out/sbom.json"
	@echo "make audit    known vulnerabilities of what is installed with the worker, where their database can be reached"
	@echo "make clean    remove caches and what demos left; ALL=1 removes $(VENV) as well"

demo: $(VENV)/.runtime
	@$(RUN) -m streamer demo $(if $(KEEP),--keep) $(ARGS)

# Each process of pytest has servers of its own, so more of them than this only wait for one another.
test: $(VENV)/.dev
	@$(RUN) -m pytest -n auto --dist worksteal $(ARGS)

test-browser: $(VENV)/.dev
	@BROWSER=1 $(RUN) -m pytest tests/browser $(ARGS)

fuzz: $(VENV)/.dev
	@FUZZ_EXAMPLES=$(or $(EXAMPLES),2000) $(RUN) -m pytest tests/fuzz $(ARGS)

# What takes longer than a developer waits: horizons, shops of other kinds, goals on real logs, long upkeep; and six
# times as many examples of everything that Hypothesis makes up.
test-slow: $(VENV)/.dev
	@HYPOTHESIS_PROFILE=more $(RUN) -m pytest -n 2 --dist worksteal -m "(slow or hypothesis) and not kafka and not chaos" $(ARGS)

test-kafka: $(VENV)/.dev
	@$(RUN) -m tests.kafka $(ARGS)

chaos: $(VENV)/.dev
	@$(if $(FULL),CHAOS_FULL=1) $(RUN) -m tests.chaos $(ARGS)

soak: $(VENV)/.dev
	@$(if $(MINUTES),SOAK_MINUTES=$(MINUTES)) $(RUN) -m tests.chaos.soak

lint: $(VENV)/.dev
	@$(RUN) -m ruff format --check .
	@$(RUN) -m ruff check .
	@$(RUN) -m mypy

format: $(VENV)/.dev
	@$(RUN) -m ruff format .
	@$(RUN) -m ruff check --fix .

shape: $(VENV)/.dev
	@$(RUN) -m tests.support.project.shape

# The site's theme speaks of its own successor at every build.
docs: $(VENV)/.docs
	@NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict --quiet $(ARGS)
	@echo "out/site/index.html"

bench: $(VENV)/.dev
	@$(RUN) -m benchmarks $(ARGS)

bench-small: $(VENV)/.dev
	@$(RUN) -m benchmarks speed.small $(ARGS)

package: $(VENV)/.dev
	@$(RUN) -m tests.support.project.package

sbom: $(VENV)/.supply
	@mkdir -p out
	@$(VENV)/supply/bin/python -W ignore -m cyclonedx_py requirements requirements.txt --pyproject pyproject.toml \
	  --mc-type application --output-reproducible --of JSON -o out/sbom.json
	@echo "out/sbom.json"

audit: $(VENV)/.supply $(VENV)/.dev
	@$(VENV)/supply/bin/python -m pip_audit --requirement requirements.txt --disable-pip --progress-spinner off --format json 2>/dev/null \
	  | $(RUN) -m tests.support.project.audit

clean:
	@rm -rf .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist out artifacts *.egg-info
	@find features model streamer tests -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
	@$(if $(ALL),rm -rf $(VENV))

# The stamps stand for an environment that fits the files they depend on. An interrupted first set-up leaves no
# stamp, and the next one continues. PYTHON=… overrides the search.
$(VENV)/.runtime: pyproject.toml requirements.txt
	@python=; for p in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	  if "$$p" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then python="$$p"; break; fi; \
	done; \
	if "$(RUN)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && "$(RUN)" -m pip --version >/dev/null 2>&1; then \
	  echo "Bringing $(VENV) up to date ..."; \
	elif [ -z "$$python" ]; then \
	  echo "No Python 3.11 or newer with venv found (tried: $(PYTHON) python3 python3.13 python3.12 python3.11)." >&2; \
	  echo "Install one (Debian, Ubuntu: python3 and python3-venv), or name it: make PYTHON=/path/to/python3.12" >&2; \
	  exit 1; \
	else \
	  echo "Setting up $(VENV) with $$($$python --version) (once, about a minute) ..."; \
	  "$$python" -m venv --clear "$(VENV)"; \
	fi
	@$(PIP) install -r requirements.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.txt
	@echo "Adding the tools for tests and lint (once) ..."
	@$(PIP) install -r requirements-dev.txt
	@touch $@

# Apart from the rest: they stand on other releases of what the worker stands on.
$(VENV)/.supply: $(VENV)/.runtime requirements-supply.txt
	@echo "Setting up the tools for the supply chain (once) ..."
	@$(RUN) -m venv --clear $(VENV)/supply
	@$(VENV)/supply/bin/python -m pip --disable-pip-version-check --quiet --no-input install -r requirements-supply.txt
	@touch $@

$(VENV)/.docs: $(VENV)/.runtime requirements-docs.txt
	@echo "Adding the tools for the site (once) ..."
	@$(PIP) install -r requirements-docs.txt
	@touch $@
