# Two commands set everything up on a fresh machine: `make demo` and `make test`.
# TORCH_SPEC chooses the PyTorch build (see README); PYTHON the interpreter for the environment.
PYTHON ?= python3
TORCH_SPEC ?= torch==2.13.0
VENV ?= .venv
BIN = $(VENV)/bin
# Compiled files are kept: to prepare all modules and their checks again takes each worker 15 seconds.
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest

.PHONY: demo test test-fast test-whole lint bench simulations tables figures docs notebooks nulls matrix clean

demo: $(VENV)/.run
	$(BIN)/interp demo

# Lint and types, then the tests without real weights in parallel, of every slow family a tenth of its
# cases (always the same), then the real weights with all cores to themselves.
test: lint
	$(PYTEST) -n 2 --one-in 10 -m "not model" tests
	$(PYTEST) -m model tests

# All cases of every family: two hours on 2 cores.
test-whole: lint
	$(PYTEST) -n 2 -m "not model" tests
	$(PYTEST) -m model tests

test-fast: $(VENV)/.test
	$(PYTEST) -n 2 -m "not model and not dataset and not browser and not slow" tests

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.peers
	$(BIN)/python -m analyses.benchmarks.scoring
	$(BIN)/python -m analyses.benchmarks.patching
	$(BIN)/python -m analyses.benchmarks.projecting

# Coverage, size and power of every statistic, renews the table of docs/methods.md: about 6 minutes.
simulations: $(VENV)/.run
	OMP_NUM_THREADS=1 $(BIN)/python -m analyses.benchmarks.simulations --jobs $$(nproc)

# The tables of README and docs from the committed rows, in seconds and without a model.
# ROWS=demo makes that run's rows anew first (ROWS=all: every run), which takes a model.
tables: $(VENV)/.run
	$(if $(ROWS),$(BIN)/python -m analyses.tables --rows $(ROWS))
	$(BIN)/python -m analyses.tables

# The figures of README and docs from the same rows: minutes, and Chromium.
figures: $(VENV)/.test
	$(BIN)/python -m analyses.tables.figures

# The pages of docs, API and commands as a site that needs no network: build/site, half a minute.
docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "build/site/index.html"

# Run the committed notebooks anew, in place, each in its folder. NOTEBOOKS="notebooks/01*.ipynb": some.
NOTEBOOKS ?= $(sort $(wildcard notebooks/*.ipynb))
notebooks: $(VENV)/.test
	for one in $(NOTEBOOKS); do $(BIN)/jupyter execute --inplace --timeout=600 $$one || exit 1; done

# Placebo against placebo: how often a report would print an effect of nothing, how often a row of the
# scorecard rejects, and its verdicts on nothing. Hours on 2 cores; each goes on where it was.
nulls: $(VENV)/.run
	$(BIN)/python -m analyses.benchmarks.nulls
	OMP_NUM_THREADS=1 $(BIN)/python -m analyses.benchmarks.nulls.card
	$(BIN)/python -m analyses.benchmarks.nulls.verdicts

# Every causal decoder class, tiny and random, against Hugging Face: 20 minutes, renews docs/models.md.
# CLASSES="GPT2LMHeadModel ..." measures some of them.
matrix: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.matrix $(CLASSES)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis

# torch is installed first and alone: a later step must not replace the chosen build.
$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	spec="$(TORCH_SPEC)"; $(BIN)/pip install --quiet $$spec
	touch $@

$(VENV)/.run: $(VENV)/.torch pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[notebook]"
	touch $@

$(VENV)/.test: $(VENV)/.torch pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@ $(VENV)/.run

# Without its dependencies, of which scoring needs none (analyses/benchmarks/harness.py).
$(VENV)/.peers: $(VENV)/.run
	$(BIN)/pip install --quiet --no-deps lm-eval==0.4.13
	touch $@
