# `make run` and `make test` set up all they need on a fresh machine: .venv and what is in constraints.txt.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=constraints.txt $(BIN)/pip

.PHONY: run test test-numeric test-all lint types catalog bench bench-full clean

run: $(VENV)/.ready  ## the main job on embedded data
	$(BIN)/hampkit run

test: $(VENV)/.ready-dev  ## the fast tests, one process per core
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m "not slow"

test-numeric: $(VENV)/.ready-dev  ## what rests on floating-point arithmetic, as two older processors compute it
	for instructions in default avx2; do \
		ATEN_CPU_CAPABILITY=$$instructions OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m "numeric and not slow" || exit 1; \
	done

test-all: $(VENV)/.ready-dev  ## all tests
	$(BIN)/pytest

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready-dev
	$(BIN)/pyright --pythonpath $(BIN)/python

catalog: $(VENV)/.ready  ## what `hampkit list` prints, after a change of an option, a description or a new class
	$(BIN)/python -m benchmarks.catalog --write

bench: $(VENV)/.ready  ## minutes of measurements
	$(BIN)/python -m benchmarks.release
	$(BIN)/python -m benchmarks.memguard
	$(BIN)/python -m benchmarks.scoring --short --no-save
	$(BIN)/python -m benchmarks.shadows --short --no-save

bench-full: bench  ## what stands behind the figures in the documentation: two hours, into benchmarks/results
	$(BIN)/python -m benchmarks.shadows
	$(BIN)/python -m benchmarks.images
	$(BIN)/python -m benchmarks.scoring
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.digits_size
	$(BIN)/python -m benchmarks.intervals
	$(BIN)/python -m benchmarks.clustered
	$(BIN)/python -m benchmarks.seeds digits/undefended digits/hamp --seeds 10

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch first and by its exact version: asked for loosely, pip would take a build with gigabytes of CUDA
$(VENV)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q "$$(grep '^torch==' constraints.txt)"
	$(PIP) install -q -e .
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(PIP) install -q -e ".[dev]"
	touch $@
