"""Which records a run learned from: kept as hashes, so that they are known again elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from medmcl.data.check.overview import subject_numbers
from medmcl.data.loading.prepare import Prepared
from medmcl.stages.run.store import Store

RECORDS = "train_records"
PEOPLE = "#people"
"""Key of the hashes of people's ids, beside those of modalities."""


def train_records(prepared: Prepared) -> dict[str, np.ndarray]:
    """Hash of every record of the train and tuning splits, by modality. (R,) uint64, sorted.

    Equal records of several people stand once for each of them.
    """
    found, cohort = {}, prepared.cohort
    for name, stored in prepared.stored.items():
        learned = np.isin(cohort.sides(name), ["train", "tuning"]) & stored.usable
        hashes = _numbers(stored.digests[learned])
        whose = subject_numbers(cohort, cohort.records[name]["subject"])[learned]
        order = np.lexsort((whose, hashes))
        hashes, whose = hashes[order], whose[order]
        again = (hashes[1:] == hashes[:-1]) & (whose[1:] == whose[:-1])
        found[name] = np.delete(hashes, 1 + np.flatnonzero(again))
    return found


def _numbers(digests: np.ndarray) -> np.ndarray:
    return np.fromiter((int(text[:16], 16) for text in digests), dtype=np.uint64)


def hashed_people(cohort: str, ids: Iterable[str]) -> np.ndarray:
    """Hash people's ids with the name of their cohort: others have other people of the same id."""
    found = (hashlib.sha256(f"{cohort}\0{one}".encode()).digest()[:8] for one in ids)
    return np.fromiter((int.from_bytes(one, "big") for one in found), dtype=np.uint64)


def save_train_records(run: Store, prepared: Prepared) -> None:
    """Keep the hashes of the records and the people that the run learns from."""
    people = prepared.cohort.subjects
    ids = map(str, people.index[people["split"].isin(["train", "tuning"])])
    found = train_records(prepared)
    found[PEOPLE] = np.unique(hashed_people(prepared.cohort.name, ids))
    save_hashes(run, RECORDS, found)


def save_hashes(run: Store, name: str, hashes: Mapping[str, np.ndarray]) -> None:
    """Keep hashes, (R,) uint64 by name."""
    run.save_arrays(name, {key: codes.view(np.int64) for key, codes in hashes.items()})


def kept_hashes(run: Store, name: str = RECORDS) -> dict[str, np.ndarray] | None:
    """Read what `save_hashes` kept, (R,) uint64 by name; None if a run kept nothing."""
    found = run.arrays(name)
    return None if found is None else {key: one.view(np.uint64) for key, one in found.items()}


def learned_from(
    run: Store,
    prepared: Prepared,
    whole: Sequence[str] = (),
) -> np.ndarray | None:
    """Say which samples hold a record of a run's train or tuning split, (N,) bool; None: unknown.

    Records are told by their content as the run prepares it, so that names do not matter.

    Args:
        run: The run.
        prepared: The cohort, as the run prepares it.
        whole: Modalities of which every record must be known; any one will do if not given.
    """
    kept = kept_hashes(run)
    if kept is None:
        return None
    seen = np.full(len(prepared.samples), bool(whole))
    for name in prepared.stored:
        if name not in kept or (whole and name not in whole):
            continue
        here = samples_with(kept[name], prepared, name)
        seen = seen & here if whole else seen | here
    return seen


def samples_with(hashes: np.ndarray, prepared: Prepared, name: str) -> np.ndarray:
    """Say which samples hold a record of a modality that is among these hashes, (N,) bool."""
    digests = prepared.stored[name].digests
    known = np.zeros(len(digests), dtype=bool)
    filled = digests != b""
    known[filled] = np.isin(_numbers(digests[filled]), hashes)
    index = prepared.index(name)
    here = np.zeros(len(index), dtype=bool)
    here[index >= 0] = known[index[index >= 0]]
    return here
