"""Numbers in a file without a name: the same numbers, for all forks; or in memory."""

import errno
import os
import sys
import tempfile
import weakref

import numpy as np
import pandas as pd
import pytest

from medmcl.data.tables import files, mapped
from medmcl.data.tables.files import read_table

ROWS = 300
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pages are let go on Linux")


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A table read in pieces: gaps, whole numbers, a column that begins late, and words."""
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"id": [f"p{n}" for n in range(ROWS)], "x": draw.normal(size=ROWS)})
    frame["whole"] = pd.array(draw.integers(0, 9, ROWS), "Int64")
    frame["late"] = np.where(np.arange(ROWS) < 100, np.nan, np.arange(ROWS) / 8)
    frame["first"] = np.where(np.arange(ROWS) < 5, 0.5, np.nan)
    frame.loc[::7, ["x", "whole"]] = None
    frame["word"] = draw.choice(["a", "b"], ROWS)
    frame.to_csv(tmp_path / "t.csv", index=False)
    monkeypatch.setattr(files, "_ROWS_AT_ONCE", 64)
    monkeypatch.setattr(mapped, "_MAPS", weakref.WeakSet())  # other tests may hold tables
    return tmp_path


def test_mapped_numbers_are_those_in_memory_also_once_they_have_left(table, monkeypatch):
    plain = read_table(table, "t.csv").frame
    assert not mapped._MAPS
    monkeypatch.setattr(mapped, "LEAST", 1)
    there = read_table(table, "t.csv").frame
    assert mapped._MAPS
    mapped.let_go()
    pd.testing.assert_frame_equal(there, plain, check_exact=True)
    assert [str(one) for one in there.dtypes[["x", "whole", "late"]]] == [
        "float64",
        "Int64",
        "float64",
    ]


def test_memory_is_let_go_where_there_is_no_library_of_the_process(monkeypatch):
    def absent(name):
        raise TypeError(name)  # as Windows has it

    monkeypatch.setattr(mapped.sys, "platform", "win32")
    monkeypatch.setattr(mapped.ctypes, "CDLL", absent)
    mapped.let_go()


def test_nobody_writes_into_what_all_forks_read(table, monkeypatch):
    monkeypatch.setattr(mapped, "LEAST", 1)
    there = read_table(table, "t.csv").frame
    with pytest.raises(ValueError, match="read-only"):
        there["x"].to_numpy()[0] = 1
    mine = there.copy(deep=False)
    mine.loc[1, "x"] = 7  # pandas takes a copy
    assert (mine["x"][1], mine["x"][2]) == (7, there["x"][2])
    assert there["x"][1] != 7


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EOPNOTSUPP, errno.EACCES])
def test_where_no_file_can_be_numbers_are_in_memory(table, monkeypatch, fault):
    def fail(*_, **__):
        raise OSError(fault, os.strerror(fault))

    plain = read_table(table, "t.csv").frame
    monkeypatch.setattr(mapped, "LEAST", 1)
    where = (tempfile, "TemporaryFile") if fault == errno.EACCES else (os, "posix_fallocate")
    monkeypatch.setattr(*where, fail)
    there = read_table(table, "t.csv").frame
    assert not mapped._MAPS
    pd.testing.assert_frame_equal(there, plain, check_exact=True)
