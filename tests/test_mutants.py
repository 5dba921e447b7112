"""Damaged files are read into what was promised or refused in words; see benchmarks/faults."""

import pytest
from processes import at_most

from benchmarks.faults.formats import formats
from benchmarks.faults.mutants import BAD, STUDY, tried

SECONDS = 25
"""As in tests/test_faults.py."""
FORMATS = formats()
DONE_WITHOUT = {
    "local.json of a run", "who made vectors, beside a .csv", "vectors of a benchmark",
}  # fmt: skip
"""What nothing is refused for: it is passed over with a warning, or made anew."""


SLOW = {"settings in a .pt", "weights .pt of a model", "config.json of a model", "files of a run"}
"""Of which fewer are read here."""


@pytest.fixture(scope="module", autouse=True)
def short():
    with at_most(SECONDS):
        yield


@pytest.mark.parametrize("name", FORMATS)
def test_no_mutant_of_a_format_is_a_traceback_a_hang_or_another_content(name):
    row = tried(name, FORMATS[name], seed=7, count=10 if name in SLOW else 20)
    assert {code: row[code] for code in BAD} == dict.fromkeys(BAD, 0), row["faults"]
    assert row["refused"] or name in DONE_WITHOUT


def test_every_format_has_rows_without_a_fault():
    rows = {row["format"]: row for row in STUDY.kept()}
    assert rows.keys() >= FORMATS.keys()
    assert not [name for name, row in rows.items() if any(row[code] for code in BAD)]
    assert min(row["mutants"] for row in rows.values()) == 10_000
