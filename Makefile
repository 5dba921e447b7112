# `make demo` and `make test` build what they need; only Python 3.11 and make are asked for.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
RUN    := runs/demo

.PHONY: demo test lint types all clean

all: lint types test

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)
	rm -rf $(RUN) cohorts/demo/data
	$(BIN)/medmcl simulate heart --subjects 7000 --out cohorts/demo/data --set form=shards --set files_subset=32
	$(BIN)/medmcl pretrain --cohort cohorts/demo --out $(RUN)

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

clean:
	rm -rf $(VENV) runs cohorts/demo/data
