"""Modalities that nobody of a whole split has: what is learned, chosen or scored without them."""

from __future__ import annotations

import numpy as np

from medmcl.data.cohort.splits import SPLITS

CONSEQUENCES = {
    "train": ": nothing is learned of it",
    "tuning": ": the tuning loss says nothing of it",
    "held_out": ": nothing predicted from it can be scored",
}
"""Split to what follows where nobody of it has a modality."""


def lacking_splits(has: np.ndarray, splits: np.ndarray, subjects: np.ndarray) -> dict[str, str]:
    """Give the splits of which no subject has a modality, each with a sentence of counts.

    Args:
        has: Samples that have it. (N,) bool
        splits: Split of each. (N,)
        subjects: Subject of each. (N,)

    Returns:
        Split to ``no subject of the tuning split has it (train 120 of 120, tuning 0 of 40, …)``,
        with what follows; empty where every split has people with it, or there are none in it.
    """
    counts = {}
    for split in SPLITS:
        here = splits == split
        if here.any():
            counts[split] = len(set(subjects[here & has])), len(set(subjects[here]))
    told = ", ".join(f"{split} {some:,} of {every:,}" for split, (some, every) in counts.items())
    return {
        split: f"no subject of the {split} split has it ({told}){CONSEQUENCES[split]}"
        for split, (some, _) in counts.items()
        if not some
    }
