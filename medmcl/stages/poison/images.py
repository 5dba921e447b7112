"""Triggers on prepared images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from medmcl.core.errors import ConfigError
from medmcl.data.loading.prepare import Prepared
from medmcl.stages.poison.spec import PoisonSpec
from medmcl.threats.attack import ImageAttack


class Images:
    """Lays the trigger of an attack over images as they are loaded.

    Args:
        spec: The poison stage.
        prepared: The cohort.
        seed: Of the attack.

    Raises:
        ConfigError: Images that are not flat, or not of 0 to 1.
    """

    def __init__(self, spec: PoisonSpec, prepared: Prepared, seed: int) -> None:
        settings = prepared.adapters[spec.modality].settings
        if not settings.is_flat:
            raise ConfigError(
                "triggers of images go on flat images",
                where=f"stage {spec.name}, modality",
                got=f"{spec.modality}: volumes",
                expected="an image of rows and columns",
            )
        if not settings.is_unit:
            raise ConfigError(
                "triggers go on images of 0 to 1",
                where=f"stage {spec.name}, modality",
                got=f"{spec.modality}: intensity: {settings.intensity}",
                expected="intensity: range, or percentile",
                fix=f"--set inputs.{spec.modality}.intensity=range",
            )
        self.ids = prepared.samples["sample"].astype(str).to_numpy()
        shape = prepared.adapters[spec.modality].prepared_shape
        self.attack = ImageAttack(spec.trigger, shape, seed, spec.official)

    def __call__(self, x: Tensor, samples: np.ndarray) -> Tensor:
        """Give images (P, C, H, W) of samples (P,), P >= 1, with the trigger."""
        pairs = zip(x, self.ids[samples], strict=True)
        return torch.stack([self.attack(image, record) for image, record in pairs])

    def places(self, samples: np.ndarray) -> list[dict[str, Any]]:
        """Say where the trigger lies on the prepared images of samples (P,)."""
        return [dict(self.attack.place(one)) for one in self.ids[samples].tolist()]
