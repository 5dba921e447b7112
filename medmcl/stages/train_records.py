"""Which records a run learned from: kept as hashes, so that they are known again elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medmcl.data.loading import Prepared

RECORDS = "train_records.safetensors"


def train_records(prepared: Prepared) -> dict[str, np.ndarray]:
    """Hash of every record of the train and tuning splits, by modality. (R,) uint64, sorted."""
    found = {}
    for name, stored in prepared.stored.items():
        side = prepared.cohort.subjects["split"].reindex(prepared.cohort.records[name]["subject"])
        learned = side.isin(["train", "tuning"]).to_numpy() & stored.usable
        digests = np.asarray(stored.digests, dtype=str)[learned]
        found[name] = np.unique(_numbers(digests))
    return found


def _numbers(digests: np.ndarray) -> np.ndarray:
    return np.array([int(text[:16], 16) for text in digests.tolist()], dtype=np.uint64)


def save_train_records(folder: Path, prepared: Prepared) -> None:
    """Keep the hashes of the records that the run learns from."""
    from safetensors.numpy import save

    path = folder / RECORDS
    aside = path.with_name(f".{path.name}.part")
    aside.write_bytes(save({k: v.view(np.int64) for k, v in train_records(prepared).items()}))
    aside.replace(path)


def learned_from(folder: Path, prepared: Prepared, whole: Sequence[str] = ()) -> np.ndarray | None:
    """Say which samples hold a record of a run's train or tuning split, (N,) bool; None: unknown.

    Records are told by their content as the run prepares it, so that names do not matter.

    Args:
        folder: The run.
        prepared: The cohort, as the run prepares it.
        whole: Modalities of which every record must be known; any one will do if not given.
    """
    from safetensors.numpy import load_file

    path = folder / RECORDS
    if not path.is_file():
        return None
    kept = load_file(path)
    seen = np.full(len(prepared.samples), bool(whole))
    for name, stored in prepared.stored.items():
        if name not in kept or (whole and name not in whole):
            continue
        index = prepared.index(name)
        usable = index >= 0
        digests = np.asarray(stored.digests, dtype=str)
        known = np.zeros(len(digests), dtype=bool)
        filled = digests != ""
        known[filled] = np.isin(_numbers(digests[filled]), kept[name].view(np.uint64))
        here = np.zeros(len(seen), dtype=bool)
        here[usable] = known[index[usable]]
        seen = seen & here if whole else seen | here
    return seen
