"""Embeddings of texts that are no records: the prompts of a cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from medmcl.core.contracts import EncodesTexts
from medmcl.core.errors import ConfigError
from medmcl.data.loading.prepare import Prepared
from medmcl.stages.run.features import chunks
from medmcl.stages.run.run import Run

if TYPE_CHECKING:
    import torch


def embed_prompts(
    run: Run,
    prepared: Prepared,
    stage: str,
    modality: str,
    prompts: Mapping[str, Sequence[str]],
    device: torch.device,
) -> dict[str, np.ndarray]:
    """Embed the prompts of each name with the text tower of a stage, name to (P, D).

    The weights are read once, however many names there are.
    """
    import torch

    from medmcl.core.batch import Batch

    adapter = prepared.adapters[modality]
    if not isinstance(adapter, EncodesTexts):
        raise ConfigError(
            "prompts can be read by no tower of this modality: its records are no texts",
            got=f"{modality}: {adapter.kind}",
            fix="name a modality of texts",
        )
    towers = run.towers(stage, device)
    all_texts = [text for one in prompts.values() for text in one]
    pooled = []
    for rows in chunks(np.arange(len(all_texts))):
        texts = [all_texts[row] for row in rows]
        batch = Batch(
            ids=torch.arange(len(texts), device=device),
            inputs={modality: adapter.plain(torch.as_tensor(adapter.encode(texts), device=device))},
            present={modality: torch.ones(len(texts), dtype=torch.bool, device=device)},
        )
        with torch.no_grad():
            pooled.append(towers(batch).pooled[modality].float().cpu().numpy())
    ends = np.cumsum([len(one) for one in prompts.values()])
    return dict(zip(prompts, np.split(np.concatenate(pooled), ends[:-1]), strict=True))
