"""Counts from two token tables that are already in memory: one row a patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.counter import PairCounter
from medmcl.cooccurrence.count.counts import Counts, Provenance, Vocabulary
from medmcl.cooccurrence.count.items import Chunk, Items
from medmcl.cooccurrence.count.people import patient_numbers, people_of_records
from medmcl.cooccurrence.count.rules import Rules
from medmcl.core.errors import ArtefactError

Table = Any
"""Array or scipy sparse matrix of non-negative whole numbers, (n, d)."""
LARGEST = (1 << 31) - 1
"""No token stands oftener in one row; larger values are overflown or no counts at all."""
FEW = 10_000_000
"""Pairs of tokens up to which a sparse product is done before the compiled loops are loaded."""


def count_tokens(
    x1: Table,
    x2: Table,
    *,
    within: bool = False,
    patients: bool = True,
    names: Sequence[str] = ("codes", "concepts"),
    vocabularies: Mapping[str, Vocabulary] | None = None,
    subjects: Sequence[object] | None = None,
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
        subjects: Names of the patients, (n,), all different, as a source of events has them: by
            them releases of other events of the same patients are known. Without names records
            stand for patients.

    Raises:
        ArtefactError: If the tables differ in patients, hold what is no count, or a patient has no
            name or two rows.
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
    named = None if subjects is None else patient_numbers(subjects).tolist()
    if named is not None and not len(named) == len(set(named)) == rows[first]:
        raise ArtefactError(
            "subjects are no names of the rows",
            got=f"{len(named)}, {len(set(named))} of them different",
            expected=f"{rows[first]} different names, one a row",
        )
    words = {
        name: vocabularies[name]
        if vocabularies
        else Vocabulary(tuple(f"{name}:{i}" for i in range(table.shape[1])))
        for name, table in tables.items()
    }
    for name, table in tables.items():
        if table.shape[1] != len(words[name]):
            raise ArtefactError(
                f"the table of {name} does not fit its vocabulary",
                got=f"{table.shape[1]} columns",
                expected=f"{len(words[name])}, one a token",
            )
    rules = Rules(pairs=((first, second),), within=within, patients=patients)
    a, b = (np.diff(table.indptr).astype(np.int64) for table in tables.values())
    fast = None if int(((a + b) ** 2).sum()) > FEW else False
    counter = PairCounter(words, rules, fast=fast)
    step = max(1, counter.piece * rows[first] // max(int((a + b).sum()), 1))
    for begin in range(0, rows[first], step):
        counter.add_chunk(_chunk([t[begin : begin + step] for t in tables.values()]))
    tokens = {name: one.tokens for name, one in words.items()}
    people = people_of_records(list(tables.values()), tokens, named)
    return replace(
        counter.counts(),
        units=rows[first],
        patients=rows[first],
        notes=(),
        provenance=Provenance(people=people),
    )


def _chunk(tables: Sequence[sparse.csr_array]) -> Chunk:
    """The rows of some tables as items: a place each."""
    found = []
    for table in tables:
        row = np.repeat(np.arange(table.shape[0]), np.diff(table.indptr))
        token, weight = table.indices.astype(np.uint32), table.data.astype(np.int32)
        found.append(Items(token, weight, row.astype(np.int32), row))
    return Chunk(tuple(found), 0, tables[0].shape[0], tables[0].shape[0])


def whole(table: Table, name: str) -> sparse.csr_array:
    """The table as int64 CSR, or a refusal: counts are whole, not negative and below 2^31.

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
    _refuse_large(values, name)
    found = sparse.csr_array(matrix.astype(np.int64))
    found.sum_duplicates()
    found.eliminate_zeros()
    _refuse_large(found.data, name)
    return found


def _refuse_large(values: np.ndarray, name: str) -> None:
    if (values > LARGEST).any():
        raise ArtefactError(
            f"{name} holds values too large for counts of one patient",
            got=f"{int((values > LARGEST).sum())} values, up to {values.max()}",
            expected=f"at most {LARGEST}",
            fix="a negative number that was read as unsigned, or an id in place of a count?",
        )
