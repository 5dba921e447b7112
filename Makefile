# `make demo` and `make test` build what they need; only Python 3.11 and make are asked for.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
RUN    := runs/demo
FILES  := cohorts/demo/data/cohort_files.yaml

.PHONY: demo test lint types audit all clean

all: lint types test

$(READY): pyproject.toml constraints.txt
	@echo "installing medmcl and what it needs into $(VENV): 1 to 3 minutes the first time"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# A thread each: stages that read nothing of one another, and evaluation, are shared by processes.
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

# For the release notes; needs pip-audit (`pip install pip-audit`) and a network. No part of `test`.
AUDIT ?= $(if $(wildcard $(BIN)/pip-audit),$(BIN)/pip-audit,pip-audit)
FOUND := $(or $(TMPDIR),/tmp)/medmcl-audit.json
audit:
	@rm -f $(FOUND); \
	if ! command -v $(AUDIT) >/dev/null 2>&1; then \
		echo "constraints.txt: not checked, pip-audit is not installed"; \
	elif $(AUDIT) --no-deps --disable-pip -r constraints.txt -f json -o $(FOUND) 2>/dev/null; then \
		asked=$$(grep -o '"vulns"' $(FOUND) | wc -l); all=$$(grep -c == constraints.txt); \
		if test $$asked -eq 0; then \
			echo "constraints.txt: not checked, the index that pip-audit asked knows none of $$all pinned packages"; \
		else \
			echo "constraints.txt: no known vulnerability in $$asked of $$all pinned packages; others were not checked"; \
		fi; \
	elif test -s $(FOUND); then \
		cat $(FOUND); echo; echo "constraints.txt: known vulnerabilities, see above"; exit 1; \
	else \
		echo "constraints.txt: not checked, pip-audit had no answer (is there a network?)"; \
	fi

clean:
	rm -rf $(VENV) runs cohorts/demo/data
