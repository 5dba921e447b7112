# `make demo` and `make test` build what they need; only Python 3.11 and make are asked for.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
RUN    := runs/demo
FILES  := cohorts/demo/data/cohort_files.yaml

.PHONY: demo test lint types all clean

all: lint types test

$(READY): pyproject.toml constraints.txt
	@echo "installing medmcl and what it needs into $(VENV): 1 to 3 minutes the first time"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# Small towers: a second thread gains little, and on a busy machine it waits for the first.
demo: export OMP_NUM_THREADS = 1
demo: $(READY)
	rm -rf $(RUN) cohorts/demo/data
	$(BIN)/medmcl simulate heart --out cohorts/demo/data --subjects 6000 --set form=both --set files_subset=24
	$(BIN)/medmcl pretrain --cohort cohorts/demo --out $(RUN)
	$(BIN)/medmcl embed $(RUN) --cohort $(FILES) --out $(RUN)/embeddings_of_files.parquet
	@echo "open $(RUN)/report.html"

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

clean:
	rm -rf $(VENV) runs cohorts/demo/data
