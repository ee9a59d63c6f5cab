# `make demo` and `make test` are all a newcomer needs: each sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-full check bench clean
.DEFAULT_GOAL := demo

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("hubel needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv (PyTorch is large: a few minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)  ## 1,797 real handwritten digits: inspect, fit LeNet-5, evaluate, report
	@rm -rf runs/demo
	$(BIN)/hubel inspect digits --html runs/demo-inspection.html
	$(BIN)/hubel fit digits --model lenet5 --img-size 32 --output runs/demo
	$(BIN)/hubel evaluate runs/demo

test: $(READY)  ## the default tests: no data, no network, a few minutes
	$(BIN)/python -m pytest -m "not slow and not data and not gpu"

test-full: $(READY)  ## everything this machine can run; HUBEL_DATA names the real data sets
	$(BIN)/python -m pytest --timeout=3600

check: $(READY)  ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## the short benchmarks; each prints its ratio to a named baseline
	$(BIN)/python benchmarks/start.py
	$(BIN)/python benchmarks/cache.py --repeats 2
	$(BIN)/python benchmarks/lab.py --repeats 1
	$(BIN)/python benchmarks/conv_cpu.py --repeats 1 --batch-size 8 --models resnet50

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
