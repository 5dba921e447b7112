"""Whom a run has seen: nobody whom a stage was fitted or chosen on is scored, in any form."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from medmcl.data.loading.prepare import Prepared
from medmcl.stages.run.run import Run
from medmcl.stages.run.study import is_another
from medmcl.stages.run.train_records import PEOPLE, hashed_people, kept_records, learned_from


def seen_people(run: Run, prepared: Prepared) -> np.ndarray | None:
    """Say which samples are of people that the run was fitted or chosen on, (N,) bool.

    People are told by the content of measured records (of others, where the run read no measured
    kind), whatever they are called; in the run's own cohort by their ids, too, however it is split
    now. Records of a kind that is not measured, and that are as often equal by chance, tell nobody
    (`chance_twins`).

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
    measured = _measured(prepared)
    found = _by_content(run, prepared)
    seen = None if found is None else found[0]
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
    """Count people with a record like one that the run learned from, as chance would have it.

    Two people of one age and sex have the same row of a narrow table, and two normal ECGs the same
    report. Such people are no others' doubles, and are not counted by `seen_people`.

    Args:
        run: The run.
        prepared: The cohort, as the run prepares it.
    """
    found = _by_content(run, prepared)
    if found is None:
        return 0
    seen, alike = (set(prepared.subjects[one]) for one in found)
    return len(alike - seen)


def _measured(prepared: Prepared) -> list[str]:
    return [name for name, adapter in prepared.adapters.items() if adapter.measured]


def _by_content(run: Run, prepared: Prepared) -> tuple[np.ndarray, np.ndarray] | None:
    """Look at measured records, or at all where there are none; see `known_again`."""
    return known_again(run, prepared, _measured(prepared) or tuple(prepared.adapters))


def known_again(
    run: Run, prepared: Prepared, names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Samples with a record that the run learned from, and those with one by chance, (N,) bool.

    Of a modality that is not measured the chance that records of two people are equal is had from
    the pairs of people in training and from those here. Where more than three times as many people
    are met as it makes expected, and where it is 0, equal records are those of one person.

    Args:
        run: The run.
        prepared: The cohort, as the run prepares it.
        names: Modalities to look at.

    Returns:
        None where the run kept no records.
    """
    kept = kept_records(run.path)
    if kept is None:
        return None
    seen, alike = (np.zeros(len(prepared.splits), dtype=bool) for _ in range(2))
    for name in names:
        met = learned_from(run.path, prepared, among=(name,))
        if met is None or not met.any():
            continue
        if prepared.adapters[name].measured:
            seen |= met
            continue
        here = np.stack([prepared.identity(name), prepared.subjects], axis=1)
        here = np.unique(here[here[:, 0] >= 0], axis=0)[:, 0]
        equal, pairs = (a + b for a, b in zip(_pairs(kept[name]), _pairs(here), strict=True))
        expected = len(kept[name]) * len(here) * equal / max(1.0, pairs)
        if len(np.unique(prepared.subjects[met])) > 3 * expected:
            seen |= met
        else:
            alike |= met
    return seen, alike


def _pairs(records: np.ndarray) -> tuple[float, float]:
    """Count pairs of equal records, one a person, and all pairs, of (R,)."""
    times = np.unique(records, return_counts=True)[1].astype(np.float64)
    return float((times * (times - 1)).sum() / 2), len(records) * (len(records) - 1) / 2


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
