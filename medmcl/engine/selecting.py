"""Which rows of a global batch a step is taken on, and who takes them.

Every rank scores its part, all scores are gathered, every rank makes the same choice from all of
them; the kept rows are dealt out again, evenly and in their order (`own_part`).
"""

from __future__ import annotations

import time

import numpy as np
import torch

from medmcl.core import host
from medmcl.core.batch import Batch
from medmcl.core.contracts import Selector
from medmcl.engine.gathering import gather_embeddings
from medmcl.engine.gradient_cache import encode_in_parts
from medmcl.engine.state import Progress
from medmcl.engine.world import World


@torch.no_grad()
def keep_rows(
    rows: np.ndarray,
    batch: Batch,
    model: torch.nn.Module,
    selector: Selector,
    state: Progress,
    world: World,
    *,
    epoch: int,
    parts: int = 1,
) -> np.ndarray:
    """Give the rows of the global batch that deserve the step. All ranks must call it.

    The model judges in evaluation mode: no dropout, no batch statistics of this pass, nothing
    dropped by routers. Its mode is put back.

    Args:
        rows: Sample numbers of the global batch, (B,).
        batch: This rank's part of them, on its device.
        model: Encodes them.
        selector: Judges and chooses.
        state: Counts what was judged and kept, and the time it took.
        world: The ranks.
        epoch: From 0.
        parts: Parts that the rows are encoded in; all are judged together.
    """
    began = time.perf_counter()
    was_training = model.training
    model.eval()
    own = encode_in_parts(model, selector.show(batch), parts)
    seen = gather_embeddings(own, ("pooled",), world)
    model.train(was_training)
    ids = torch.from_numpy(np.asarray(rows, dtype=np.int64))
    measured = torch.from_numpy(host.read(selector.measure(seen)))
    kept = selector.choose(ids, measured, epoch).numpy()
    state.judged_rows += len(rows)
    state.kept_rows += len(kept)
    state.selection_seconds += time.perf_counter() - began
    return rows[kept]
