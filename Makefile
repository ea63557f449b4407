# marey: `make demo` shows it, `make install` installs it, `make setup` prepares a workplace, `make check test` is
# what a change must pass.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: install setup demo check format test test-services bench soak docs clean

# What a user needs: the program and the fast CPU runtime.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info < (3, 11) and sys.exit( \
		"marey needs Python 3.11 or later, $(PYTHON) is %d.%d: make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[openvino]'
	touch $@

# What a developer needs besides: training, tests, linters.
$(VENV)/.developed: $(VENV)/.installed
	$(PIP) --editable '.[openvino,onnx,train,dev]'
	$(PIP) --no-deps trackeval
	touch $@

install: $(VENV)/.installed

setup: $(VENV)/.developed

demo: $(VENV)/.installed
	$(BIN)/marey demo

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pipeline.lake.docs | diff - docs/tables.md
	$(BIN)/python -m pipeline.cli.docs | diff - docs/commands.md

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup
	$(BIN)/python -m pipeline.lake.docs > docs/tables.md
	$(BIN)/python -m pipeline.cli.docs > docs/commands.md

test: setup
	$(BIN)/pytest --numprocesses 2 --dist loadfile

test-services: setup
	$(BIN)/pytest tests/services

soak: setup
	$(BIN)/pytest tests/soak

bench: setup
	$(BIN)/python -m bench $(if $(PEERS),--peers $(PEERS))

clean:
	rm -rf $(VENV) demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache
