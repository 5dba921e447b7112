"""A pool as a teacher sees it: embeddings of chosen samples, in files that are mapped into memory.

A cohort may have millions of pairs: nothing here holds more of them than a block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medmcl.data.loading.prepare import Prepared
from medmcl.stages.run.run import embed_records, vector_width

if TYPE_CHECKING:
    import torch

    from medmcl.encoders.towers import Towers

BLOCK = 4096
"""Samples that are encoded between two writes."""


def pool_vectors(
    towers: Towers,
    prepared: Prepared,
    modalities: Sequence[str],
    rows: np.ndarray,
    folder: Path,
    device: torch.device,
    check_interrupt: Callable[[], object] = lambda: None,
) -> dict[str, np.ndarray]:
    """Embed samples in the space that modalities share.

    Args:
        towers: Of the teacher.
        prepared: The cohort.
        modalities: Which; every sample has them.
        rows: Sample numbers, (N,).
        folder: Takes one ``.npy`` file for each modality; must not hold them yet.
        device: Where to encode.
        check_interrupt: Called before each block; what it raises ends the work.

    Returns:
        Modality to (N, D) float32 of unit length, memory-mapped.
    """
    found = {}
    for name in modalities:
        path = folder / f"{name}.npy"
        shape = (len(rows), vector_width(towers, name, "pooled"))
        if not len(rows):  # an empty file cannot be mapped
            found[name] = np.zeros(shape, np.float32)
            continue
        written = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        records = prepared.index(name)[rows]
        for start in range(0, len(rows), BLOCK):
            check_interrupt()
            at = slice(start, start + BLOCK)
            written[at] = embed_records(towers, prepared, name, records[at], "pooled", device)
        written.flush()
        found[name] = np.load(path, mmap_mode="r")
    return found
