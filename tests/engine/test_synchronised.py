"""Batch norm over ranks, one of which lacks a modality: nobody waits, nothing differs."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import ranks_of

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
    """What two processes found."""
    worker = Path(__file__).with_name("synchronised_ranks.py")
    return ranks_of(worker, tmp_path_factory.mktemp("ranks"), timeout=90)


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
