"""Whom a run has seen: nobody whom a stage was fitted or chosen on is scored, in any form."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from medmcl.core.findings import counted
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.prepare import Prepared
from medmcl.evaluation.protocol.evidence import LEARNED_FROM
from medmcl.stages.run.run import Run
from medmcl.stages.run.study import is_another
from medmcl.stages.run.train_records import (
    PEOPLE,
    hashed_people,
    kept_hashes,
    samples_with,
    save_hashes,
)

FEWEST = 10
"""People who are known again before those with a common record are taken for known, too."""


def seen_people(run: Run, prepared: Prepared) -> np.ndarray | None:
    """Say which samples are of people that the run was fitted or chosen on, (N,) bool.

    People are told by the content of their records, whatever they are called; in a cohort of the
    run's name by their ids, too, however it is split now: unless its records are measured, none of
    them is equal, and hardly half of the people have ids of people in training. Records of a kind
    that is not measured, and that are as often equal by chance, tell nobody (`chance_twins`).

    Args:
        run: The run.
        prepared: The cohort, as the run prepares it.

    Returns:
        None where that is unknown: the run kept neither, or reads no modality of the cohort.
    """
    cohort, is_own = prepared.cohort, _is_own(run, prepared)
    if not prepared.adapters and is_another(run, cohort):
        return None
    measured = any(adapter.measured for adapter in prepared.adapters.values())
    found = known_again(run, prepared)
    seen = None if found is None else found[0]
    if is_own or not is_another(run, cohort):
        by_id = _by_id(run, prepared)
        if is_own or not measured or seen is None or seen.any() or _are_most(by_id, prepared):
            seen = by_id if seen is None or not measured else seen | by_id
    if seen is None:
        return None
    return np.asarray(np.isin(prepared.subjects, prepared.subjects[seen]))


def same_ids(run: Run, prepared: Prepared) -> np.ndarray:
    """Say which samples of a cohort of another name have ids of people in training, (N,) bool.

    None of them where these are few: ids of two hospitals agree by chance.
    """
    none = np.zeros(len(prepared.splits), dtype=bool)
    if not is_another(run, prepared.cohort) or PEOPLE not in (kept_hashes(run) or {}):
        return none
    known = _by_id(run, prepared)
    return known if _are_most(known, prepared) else none


def _are_most(known: np.ndarray, prepared: Prepared) -> bool:
    """Whether so many people here have ids of people in training that they are hardly others."""
    people = len(np.unique(prepared.subjects[known]))
    return people >= FEWEST and 2 * people > len(np.unique(prepared.subjects))


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
    found = known_again(run, prepared)
    if found is None:
        return 0
    seen, alike = (set(prepared.subjects[one]) for one in found)
    return len(alike - seen)


def known_again(run: Run, prepared: Prepared) -> tuple[np.ndarray, np.ndarray] | None:
    """Samples with a record that the run learned from, and those with one by chance, (N,) bool.

    A measured record that is equal is the same. Of other modalities see `_same_people`; in the
    cohort that the run was trained on they tell nobody, for there ids do.

    Args:
        run: The run.
        prepared: The cohort, as the run prepares it.

    Returns:
        None where the run kept no records.
    """
    kept = kept_hashes(run)
    if kept is None:
        return None
    seen, alike = (np.zeros(len(prepared.splits), dtype=bool) for _ in range(2))
    is_own = _is_own(run, prepared)
    for name, adapter in prepared.adapters.items():
        if name not in kept or name not in prepared.stored:
            continue
        if not adapter.measured and is_own:
            continue
        met = samples_with(kept[name], prepared, name)
        same = met
        if not adapter.measured and met.any():
            same = _same_people(kept[name], prepared, name, met)
        seen |= same
        alike |= met & ~same
    return seen, alike


def _is_own(run: Run, prepared: Prepared) -> bool:
    """Whether it is the very cohort that the run was trained on, as it was then."""
    return bool(run.config.get("cohort_fingerprint") == prepared.cohort.fingerprint)


def _same_people(kept: np.ndarray, prepared: Prepared, name: str, met: np.ndarray) -> np.ndarray:
    """Of samples whose record one in training has, those of the same people, (N,) bool.

    A record that one person in training has is another's by chance as often as records of two
    people agree: by those in training that exactly two have (Good and Turing: what was seen once
    makes up 2 N2 / N of all there is; one more where most records are shared, as N2 is then a draw
    of a few), or by the pairs of equal records here and there, whichever says more. Where more than
    three times as many people here have such records, they are the same people. Records that
    several in training have tell nobody; they count as known where most of the others here, ten at
    least, are.

    Args:
        kept: Hash of each record in training, once a person, (R,).
        prepared: The cohort.
        name: The modality.
        met: Samples whose record is one of those, (N,) bool.
    """
    values, times = np.unique(kept, return_counts=True)
    one = samples_with(values[times == 1], prepared, name)
    here = np.stack([prepared.identity(name), prepared.subjects], axis=1)
    here = np.unique(here[here[:, 0] >= 0], axis=0)[:, 0]
    twice = [int((_times(records) == 2).sum()) for records in (kept, here)]
    pairs = sum(len(records) * (len(records) - 1) / 2 for records in (kept, here))
    singles = int((times == 1).sum())
    shared = 1 - singles / len(kept)
    expected = len(here) * max(
        2 * (twice[0] + shared) / len(kept), singles * sum(twice) / max(1.0, pairs)
    )
    people = len(np.unique(prepared.subjects[met & one]))
    if people <= 3 * expected:
        return np.zeros(len(met), dtype=bool)
    with_shared = len(np.unique(prepared.subjects[met & ~one]))
    others = len(np.unique(prepared.subjects[prepared.index(name) >= 0])) - with_shared
    return met if people >= FEWEST and people > others / 2 else met & one


def _times(records: np.ndarray) -> np.ndarray:
    """How often each different record stands there."""
    return np.unique(records, return_counts=True)[1]


def _by_id(run: Run, prepared: Prepared) -> np.ndarray:
    """Samples of people whose ids the run kept, hashed; of train and tuning if it kept none."""
    kept = kept_hashes(run) or {}
    if PEOPLE not in kept:
        return np.isin(prepared.splits, ("train", "tuning"))
    names, codes = np.unique(prepared.samples["subject"].astype(str), return_inverse=True)
    return np.asarray(np.isin(hashed_people(run.config["cohort"], names), kept[PEOPLE])[codes])


VECTORS = "train_vectors"


def save_vectors(
    run: Run, vectors: Mapping[str, np.ndarray], present: Mapping[str, np.ndarray],
    splits: np.ndarray,
) -> None:  # fmt: skip
    """Keep hashes of the given vectors of train and tuning people, so that they are known again.

    Args:
        run: The run.
        vectors: Name to (N, E).
        present: Name to the samples that have one. (N,) bool
        splits: Split of each sample. (N,)
    """
    learned = np.isin(splits, ("train", "tuning"))
    rows = {name: _hashes(x[learned & present[name]]) for name, x in vectors.items()}
    save_hashes(run, VECTORS, {name: np.unique(codes) for name, codes in rows.items()})


def seen_vectors(
    run: Run, vectors: Mapping[str, np.ndarray], present: Mapping[str, np.ndarray]
) -> np.ndarray | None:
    """Say which samples have a vector that a run's probes were fitted or chosen on, (N,) bool.

    None where the run kept none.
    """
    kept, found = kept_hashes(run, VECTORS) or {}, None
    for name, x in vectors.items():
        if name in kept:
            known = present[name] & np.isin(_hashes(x), kept[name])
            found = known if found is None else found | known
    return found


def _hashes(vectors: np.ndarray) -> np.ndarray:
    """Hash rows of (N, E), (N,) uint64."""
    rows = np.ascontiguousarray(vectors, dtype=np.float64)
    found = [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in rows]
    return np.array([int.from_bytes(one, "big") for one in found], dtype=np.uint64)


EVERYBODY = (
    "the cohort has no held-out split: all of its people are scored, but those whom the run is "
    "known to have learned from"
)
NOT_DECLARED = (
    "cohort.yaml declares no split, and nothing is fitted on this cohort: all of its people are "
    "scored, but those whom the run is known to have learned from"
)

OWN_NAME = (
    "in a cohort of the run's own name ids tell, too: where these are other people, give the "
    "folder of their cohort another name"
)


def no_split_to_heed(run: Run, cohort: Cohort) -> bool:
    """Whether a cohort's split is only the default's draw, and the run was not trained by it."""
    return is_another(run, cohort) and not cohort.spec.keys.subjects.declares_split


def outside_splits(
    run: Run, prepared: Prepared, known: np.ndarray, *, fits: bool = False
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Choose the rows to score: held_out, or everybody; not who the run learned from.

    Everybody where the cohort has no held_out, or declares no split: one that is drawn only
    because none is said would leave four people of five unscored for nothing.

    Args:
        run: The run.
        prepared: The cohort, as the run prepares it.
        known: Samples that have the outcome. (N,) bool
        fits: Whether probes are fitted on the cohort: then a drawn split is heeded, so that all
            that one report shows is of the same people.

    Returns:
        ``held_out`` or ``not scored`` for each sample, (N,), and what a reader must know.
    """
    notes = []
    splits = np.where(prepared.splits == "held_out", "held_out", "not scored").astype(object)
    undeclared = no_split_to_heed(run, prepared.cohort) and not fits
    if undeclared or not (known & (splits == "held_out")).any():
        splits[:] = "held_out"
        notes.append(NOT_DECLARED if undeclared else EVERYBODY)
    seen = seen_people(run, prepared)
    twins = chance_twins(run, prepared)
    if twins:
        notes.append(
            f"{counted(twins, 'subject')} with a row or text like one that the run learned from, "
            "as often as chance would have it: scored as other people"
        )
    if seen is None:
        notes.append("whether the run learned from people of this cohort is unknown")
    elif seen.any():
        people = len(np.unique(prepared.subjects[seen]))
        splits[seen] = "not scored"
        said = f"{people} subjects have a record that {LEARNED_FROM}"
        notes.append(said if is_another(run, prepared.cohort) else f"{said}; {OWN_NAME}")
    return splits, tuple(notes)


def saved_anew(run: Run, prepared: Prepared) -> list[str]:
    """Say how many people of another cohort may be those of training, saved anew; empty: none.

    Most have ids of people that the run learned from, but no record that is equal: they are scored
    and predicted, as ids alone do not tell, and whoever reads the numbers is told.
    """
    seen = seen_people(run, prepared)
    alike = same_ids(run, prepared) if seen is None else same_ids(run, prepared) & ~seen
    if not alike.any():
        return []
    people = len(np.unique(prepared.subjects[alike]))
    return [
        f"{people} of {len(np.unique(prepared.subjects))} subjects have ids of people that the "
        "run learned from, and records that differ: if they are the same people, saved anew, "
        "their numbers are too good; score others"
    ]
