"""Weights that a finished stage keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from medmcl.stages.train.models import Setting


def kept_weights(stage: str, prefix: str, setting: Setting) -> dict[str, Tensor]:
    """Weights under ``prefix`` of the checkpoint that a finished stage keeps."""
    checkpoints = setting.checkpoints(stage)
    keep = (checkpoints.done or {}).get("keep", "best")
    saved = checkpoints.weights(keep)
    return {key[len(prefix) :]: value for key, value in saved.items() if key.startswith(prefix)}
