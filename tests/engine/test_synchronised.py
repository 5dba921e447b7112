"""Batch norm over ranks, one of which lacks a modality: nobody waits, nothing differs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = (
    "everybody",
    "cmr on rank 0 only",
    "nothing on rank 1",
    "cmr nowhere",
    "one cmr on rank 1",
    "no row on rank 1",
    "labels on rank 0 only",
)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two processes found; a rank that waits for ever is ended, and the test fails."""
    folder = tmp_path_factory.mktemp("ranks")
    worker = Path(__file__).with_name("synchronised_ranks.py")
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", str(worker), str(folder)],
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=90)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.dist
@pytest.mark.parametrize("case", CASES)
def test_a_rank_without_rows_joins_the_batch_norm_of_the_others(found, case):
    for rank in found:
        assert rank[case]["terms"]
        assert rank[case]["loss"] < 1e-10
        assert rank[case]["gradient"] < 1e-9
        assert rank[case]["statistics"] < 1e-10


@pytest.mark.dist
@pytest.mark.parametrize("case", CASES)
def test_in_parts_batch_norm_is_over_a_part_of_all_ranks(found, case):
    for rank in found:
        assert rank["in parts"][case]["loss"] < 1e-10
        assert rank["in parts"][case]["gradient"] < 1e-9
        assert rank["in parts"][case]["statistics"] < 1e-10
