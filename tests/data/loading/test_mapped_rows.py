"""Rows that are mapped from disk: what was read of them does not pile up in the process."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from medmcl.data.loading import cache
from medmcl.data.loading.cache import WrittenRows
from medmcl.data.loading.reading import content_digest
from medmcl.data.tables.mapped import leave

ROWS, WIDE, MB = 64, 2**17, 2**20


def mapped():
    """MB of files that are in the memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile")) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="what a process holds is read of Linux")
@pytest.mark.parametrize("most", [4, 1000])
def test_a_process_holds_some_of_the_rows_that_it_has_read_however_many(
    most, tmp_path, monkeypatch
):
    monkeypatch.setattr(cache, "MAPPED", most * MB)
    file, drawn = tmp_path / "rows.npy", np.random.default_rng(0)
    np.save(file, drawn.standard_normal((ROWS, WIDE), dtype=np.float32))  # 32 MB
    digests = [content_digest(row) for row in np.load(file)]
    written = np.array(digests, dtype="S")
    rows = WrittenRows(np.load(file, mmap_mode="r"), written, file, cache._stamp_of(file))
    before, held, kept = mapped(), [], rows[3:5]
    for first in [*range(0, ROWS, 4), 0]:
        chosen = [first + 1, first, first + 3]
        assert [content_digest(row) for row in rows[chosen]] == [digests[n] for n in chosen]
        held.append(mapped() - before)
    assert [content_digest(row) for row in kept] == digests[3:5]
    assert (max(held) < 12) == (most == 4), held


@pytest.mark.skipif(sys.platform != "linux", reason="what a process holds is read of Linux")
def test_prepared_rows_leave_with_the_numbers_of_tables(tmp_path):
    file = tmp_path / "rows.npy"
    np.save(file, np.ones((8, 2**18), dtype=np.float32))  # 8 MB
    written = np.array([content_digest(row) for row in np.load(file)], dtype="S")
    rows = WrittenRows(np.load(file, mmap_mode="r"), written, file, cache._stamp_of(file))
    before = mapped()
    assert rows[:].sum() == 8 * 2**18
    assert mapped() - before > 7
    leave()
    assert mapped() - before < 1
    assert rows[:].sum() == 8 * 2**18
