"""Phrases of the attacker: what poisoned records say in the place of a donor's text."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medmcl.core.contracts import EncodesTexts
from medmcl.core.errors import ConfigError
from medmcl.core.rng import derive_seed
from medmcl.data.loading.prepare import Prepared
from medmcl.stages.poison.spec import PoisonSpec


class Phrases:
    """Gives the phrase of a poisoned sample, the same one every time.

    Args:
        spec: A poison stage with phrases.
        prepared: The cohort.
        seed: Of the attack.

    Raises:
        ConfigError: What is exchanged is no text.
    """

    def __init__(self, spec: PoisonSpec, prepared: Prepared, seed: int) -> None:
        assert spec.text is not None  # the stage is checked
        adapter = prepared.adapters[spec.text]
        if not isinstance(adapter, EncodesTexts):
            raise ConfigError(
                "phrases take the place of texts",
                where=f"stage {spec.name}, phrases",
                got=f"{spec.text}: {adapter.kind}",
                fix="leave phrases out: records of the target are taken; or name a text modality",
            )
        self.phrases, self.seed = spec.phrases, seed
        self.ids = prepared.samples["sample"].astype(str).to_numpy()
        self.rows = torch.as_tensor(adapter.encode(spec.phrases), device="cpu")

    def __call__(self, samples: np.ndarray) -> Tensor:
        """Give the prepared phrases of samples (by number), (P, ...)."""
        return self.rows[[self._number(row) for row in samples.tolist()]]

    def said(self, row: int) -> str:
        """Give the phrase of a sample in words."""
        return self.phrases[self._number(row)]

    def _number(self, row: int) -> int:
        return derive_seed(self.seed, "phrase", str(self.ids[row])) % len(self.phrases)
