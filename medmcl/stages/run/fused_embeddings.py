"""One embedding a sample from whichever of several modalities it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.data.cohort.cohort import Cohort
from medmcl.evaluation.models.together import Together
from medmcl.stages.run.features import sample_vectors
from medmcl.stages.run.run import Run

if TYPE_CHECKING:
    import pandas as pd
    import torch

NOTHING = "nothing present"


def embed_fused(
    run: Run, cohort: Cohort, modalities: Sequence[str], stage: str | None, device: torch.device
) -> pd.DataFrame:
    """Give each sample the mean of the unit embeddings of what it has, of unit length again.

    Args:
        run: The run.
        cohort: The cohort.
        modalities: Which; those that the cohort does not have are absent for everyone.
        stage: Stage whose towers to use; the last one trained without labels if not given.
        device: Where to run.

    Returns:
        One row a sample, indexed by (subject, sample): ``quality`` (``ok``, or that nothing is
        present), ``modalities`` (as ``ecg + cmr``) and ``e0 ... e{D-1}``, missing without any.

    Raises:
        ConfigError: A modality that the run does not have, or none that the cohort has, too.
    """
    import pandas as pd

    strange = [name for name in modalities if name not in run.recipe.inputs]
    shared = tuple(name for name in modalities if name in cohort.records)
    if strange or not shared:
        raise ConfigError(
            f"there is nothing to embed of {', '.join(strange or modalities)}",
            got=f"run: {', '.join(run.recipe.inputs)}; cohort: {', '.join(cohort.records)}",
        )
    stage = stage or run.default_stage(shared[0])
    towers = run.towers(stage, device).towers
    lacks = [name for name in shared if name not in towers]
    if lacks:
        raise ConfigError(
            f"stage '{stage}' has no tower for {', '.join(lacks)}",
            where=run.path,
            expected=", ".join(towers),
        )
    prepared = run.prepare(cohort, shared)
    together = Together(
        vectors={n: sample_vectors(run, prepared, stage, n, "pooled", device) for n in shared},
        present={name: prepared.present[name] for name in shared},
    )
    vectors = together.mean().astype(np.float32)
    vectors[~together.any] = np.nan
    frame = pd.DataFrame(vectors, columns=[f"e{number}" for number in range(vectors.shape[1])])
    frame.insert(0, "modalities", together.patterns())
    frame.insert(0, "quality", np.where(together.any, "ok", NOTHING).astype(object))
    frame.index = pd.MultiIndex.from_arrays(
        [prepared.samples["subject"].astype(str), prepared.samples["sample"].astype(str)],
        names=["subject", "sample"],
    )
    return frame
