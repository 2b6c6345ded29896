# `make figure1`, `make test`, `make lab`, `make check`: each makes .venv when it is missing.
PYTHON ?= python3
BIN := .venv/bin
# Two processes of one thread: two cores do more so than with one process of two threads.
TWO := -n 2 --dist loadfile
NBVAL := --nbval-lax --nbval-current-env --nbval-cell-timeout=300

.PHONY: figure1 test lab check notebooks clean

figure1: .venv/ready
	$(BIN)/pudm figure1 $(ARGS)

test: .venv/ready
	PUDM_MODE=fast OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TWO) tests
	PUDM_MODE=fast OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TWO) $(NBVAL) notebooks

lab: .venv/ready
	$(BIN)/jupyter lab notebooks/00_start_here.ipynb

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PUDM_MODE=fast $(BIN)/python -m pytest tests -m "not slow"

# From the masters in notebooks/src, executed in lab mode.
notebooks: .venv/ready
	PUDM_MODE=lab $(BIN)/python notebooks/build.py $(ARGS)

# The environment, made once and again when pyproject.toml changes.
.venv/ready: pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "pudm_lite needs Python 3.11 or newer, and there is no '$(PYTHON)' here: install it, or name yours with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "pudm_lite needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1): name a newer one with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "this Python lacks venv or ensurepip: install them (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "making .venv: PyTorch and JupyterLab are downloaded once, which takes a few minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -e ".[dev]"
	@touch $@

clean:
	rm -rf .venv outputs
