"""Counts from two token tables that are already in memory: one row a patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.counts import Block, Counts, Margin, Vocabulary
from medmcl.core.errors import ArtefactError

Table = Any
"""Array or scipy sparse matrix of non-negative whole numbers, (n, d)."""
LARGEST = 1 << 31
"""No token stands oftener in one row; larger values are overflown or no counts at all."""


def count_tokens(
    x1: Table,
    x2: Table,
    *,
    within: bool = False,
    patients: bool = True,
    names: Sequence[str] = ("codes", "concepts"),
    vocabularies: Mapping[str, Vocabulary] | None = None,
) -> Counts:
    """Count co-occurrences over whole records, every pair of tokens of a patient.

    D = X1' X2 (all pairs); g_w = sum_i x_iw (T_i - 1) (self-pairs left out). Source: Cai et al.,
    arXiv 2403.14926, section 2.

    Args:
        x1: Token counts of the first modality, (n, d1), a row a patient.
        x2: Of the second modality, (n, d2), the same patients in the same order.
        within: Also count the within-modality blocks X'X - diag(X'1), which the baselines need.
        patients: Also count the patients of each cell, which a release needs.
        names: Of the two modalities.
        vocabularies: Of the two modalities; rows are named ``codes:0`` and so on if not given.

    Raises:
        ArtefactError: If the tables differ in patients, or hold what is no count.
    """
    tables = {names[0]: whole(x1, names[0]), names[1]: whole(x2, names[1])}
    rows = {name: table.shape[0] for name, table in tables.items()}
    if len(set(rows.values())) > 1:
        raise ArtefactError(
            "the two tables hold different patients",
            got=" and ".join(f"{n} rows of {name}" for name, n in rows.items()),
            expected="one row a patient in both, zeros where a modality is absent",
        )
    first, second = names
    pairs = [(first, second)] + ([(first, first), (second, second)] if within else [])
    return Counts(
        vocabularies=vocabularies or {n: _numbered(n, t.shape[1]) for n, t in tables.items()},
        margins={n: margin(t) for n, t in tables.items()},
        blocks={(a, b): _block(tables[a], tables[b], a == b, patients) for a, b in pairs},
        units=rows[first],
        patients=rows[first],
    )


def whole(table: Table, name: str) -> sparse.csr_array:
    """The table as int64 CSR, or a refusal: counts are whole, not negative and at most 2^31.

    Everything is asked of the values as they came: the cast to int64 would turn large ones around.
    """
    matrix = sparse.coo_array(table)  # values that stand twice are not yet added, in a small type
    values = matrix.data
    if values.dtype.kind not in "biuf":
        raise ArtefactError(f"{name} holds no numbers", got=values.dtype, expected="whole counts")
    if values.size and not (np.isfinite(values).all() and (values >= 0).all()):
        raise ArtefactError(f"{name} holds values that are no counts", expected="0, 1, 2, ...")
    if values.dtype.kind == "f" and not (values == np.floor(values)).all():
        raise ArtefactError(f"{name} holds fractions", expected="whole counts")
    if (values > LARGEST).any():
        raise ArtefactError(
            f"{name} holds values too large for counts of one patient",
            got=f"{int((values > LARGEST).sum())} values, up to {values.max()}",
            expected=f"at most {LARGEST}",
            fix="a negative number that was read as unsigned, or an id in place of a count?",
        )
    found = sparse.csr_array(matrix.astype(np.int64))
    found.sum_duplicates()
    found.eliminate_zeros()
    return found


def margin(table: sparse.csr_array) -> Margin:
    """Sums of one modality over the rows of its table, (n, d)."""
    length = np.asarray(table.sum(axis=1), dtype=np.int64)
    return Margin(
        tokens=np.asarray(table.sum(axis=0), dtype=np.int64),
        pairs=np.asarray(table.T @ np.maximum(length - 1, 0), dtype=np.int64),
        patients=np.asarray(_present(table).sum(axis=0), dtype=np.int64),
    )


def _block(a: sparse.csr_array, b: sparse.csr_array, same: bool, patients: bool) -> Block:
    pairs = sparse.csr_array(a.T @ b)
    if same:
        own = np.asarray(a.sum(axis=0), dtype=np.int64)
        pairs = sparse.csr_array(pairs - sparse.diags_array(own, dtype=np.int64))
        pairs.eliminate_zeros()
    return Block(pairs, _patients(a, b, same) if patients else None)


def _patients(a: sparse.csr_array, b: sparse.csr_array, same: bool) -> sparse.csr_array:
    """Patients of each cell; on a within-modality diagonal, those with the token twice or more."""
    cells = sparse.csr_array(_present(a).T @ _present(b))
    if same:
        once = np.asarray((_present(a) - (a > 1).astype(np.int64)).sum(axis=0), dtype=np.int64)
        cells = sparse.csr_array(cells - sparse.diags_array(once, dtype=np.int64))
        cells.eliminate_zeros()
    return cells


def _present(table: sparse.csr_array) -> sparse.csr_array:
    return sparse.csr_array((table > 0).astype(np.int64))


def _numbered(name: str, size: int) -> Vocabulary:
    return Vocabulary(tuple(f"{name}:{i}" for i in range(size)))
