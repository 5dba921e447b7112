"""Whom a run has seen: nobody whom a stage was fitted or chosen on is scored, in any form."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medmcl.data.loading.prepare import Prepared
from medmcl.data.loading.reading import MEASURED
from medmcl.stages.run.run import Run
from medmcl.stages.run.study import is_another
from medmcl.stages.run.train_records import PEOPLE, hashed_people, kept_records, learned_from


def seen_people(run: Run, prepared: Prepared) -> np.ndarray | None:
    """Say which samples are of people that the run was fitted or chosen on, (N,) bool.

    People are told by the content of measured records (of others, where the run read no measured
    kind), whatever they are called; in the run's own cohort by their ids, too, however it is split
    now. Rows of tables that are as often equal by chance tell nobody (`chance_twins`).

    Args:
        run: The run.
        prepared: The cohort, as the run prepares it.

    Returns:
        None where that is unknown: the run kept neither, or reads no modality of the cohort.
    """
    cohort = prepared.cohort
    is_own = run.config.get("cohort_fingerprint") == cohort.fingerprint
    if not prepared.adapters and is_another(run, cohort):
        return None
    measured = [n for n, adapter in prepared.adapters.items() if adapter.kind in MEASURED]
    seen = learned_from(run.path, prepared, among=measured or tuple(prepared.adapters))
    if chance_twins(run, prepared):
        seen = np.zeros(len(prepared.splits), dtype=bool)
    if is_own or (not is_another(run, cohort) and (not measured or seen is None or seen.any())):
        by_id = _by_id(run, prepared)
        seen = by_id if seen is None or not measured else seen | by_id
    if seen is None:
        return None
    return np.asarray(np.isin(prepared.subjects, prepared.subjects[seen]))


def seen_by_any(run: Run, prepared: Prepared, others: np.ndarray) -> np.ndarray | None:
    """Say whom a run, or one that is set beside it, has seen, (N,) bool; None: unknown.

    Args:
        run: The run.
        prepared: The cohort, as the run prepares it.
        others: Samples of people whom the others have seen. (N,) bool
    """
    seen = seen_people(run, prepared)
    if seen is None:
        return others if others.any() else None
    return np.asarray(seen | others)


def chance_twins(run: Run, prepared: Prepared) -> int:
    """Count people whose row of a table is that of somebody the run learned from, as by chance.

    Two people of one age and sex have the same row of a narrow table. Of U that were learned from,
    as many are expected to be met as people here have twins among one another (and one more, as
    none is no proof), times U over the people here. Where three times as many are met, or the run
    reads more than tables, rows stand for people, and the count is 0.

    Args:
        run: The run.
        prepared: The cohort, as the run prepares it.
    """
    kept = kept_records(run.path)
    kinds = {adapter.kind for adapter in prepared.adapters.values()}
    seen = learned_from(run.path, prepared) if kinds == {"tabular"} else None
    if kept is None or seen is None or not seen.any():
        return 0
    alike = len(np.unique(prepared.subjects[seen]))
    rows = np.stack([prepared.identity(name) for name in prepared.adapters], axis=1)
    people = np.unique(np.column_stack([rows, prepared.subjects]), axis=0)
    _, which, times = np.unique(people[:, :-1], axis=0, return_inverse=True, return_counts=True)
    twins = int((times[which] > 1).sum())
    others = max(len(one) for one in kept.values())
    expected = (twins + 1) * others / max(1, len(np.unique(prepared.subjects)) - 1)
    return alike if alike <= 3 * expected else 0


def _by_id(run: Run, prepared: Prepared) -> np.ndarray:
    """Samples of people whose ids the run kept, hashed; of train and tuning if it kept none."""
    kept = kept_records(run.path) or {}
    if PEOPLE not in kept:
        return np.isin(prepared.splits, ("train", "tuning"))
    names, codes = np.unique(prepared.samples["subject"].astype(str), return_inverse=True)
    return np.asarray(np.isin(hashed_people(run.config["cohort"], names), kept[PEOPLE])[codes])


VECTORS = "train_vectors.safetensors"


def save_vectors(
    folder: Path, vectors: Mapping[str, np.ndarray], present: Mapping[str, np.ndarray],
    splits: np.ndarray,
) -> None:  # fmt: skip
    """Keep hashes of the given vectors of train and tuning people, so that they are known again.

    Args:
        folder: The run.
        vectors: Name to (N, E).
        present: Name to the samples that have one. (N,) bool
        splits: Split of each sample. (N,)
    """
    from safetensors.numpy import save

    learned = np.isin(splits, ("train", "tuning"))
    rows = {name: _hashes(x[learned & present[name]]) for name, x in vectors.items()}
    content = save({name: np.unique(codes).view(np.int64) for name, codes in rows.items()})
    path = folder / VECTORS
    aside = path.with_name(f".{path.name}.part")
    aside.write_bytes(content)
    aside.replace(path)


def seen_vectors(
    folder: Path, vectors: Mapping[str, np.ndarray], present: Mapping[str, np.ndarray]
) -> np.ndarray | None:
    """Say which samples have a vector that a run's probes were fitted or chosen on, (N,) bool.

    None where the run kept none.
    """
    from safetensors.numpy import load_file

    path = folder / VECTORS
    if not path.is_file():
        return None
    kept, found = load_file(path), None
    for name, x in vectors.items():
        if name in kept:
            known = present[name] & np.isin(_hashes(x), kept[name].view(np.uint64))
            found = known if found is None else found | known
    return found


def _hashes(vectors: np.ndarray) -> np.ndarray:
    """Hash rows of (N, E), (N,) uint64."""
    rows = np.ascontiguousarray(vectors, dtype=np.float64)
    found = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows]
    return np.array([int.from_bytes(one, "big") for one in found], dtype=np.uint64)
