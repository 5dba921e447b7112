"""Stages that the first rank does alone: the others wait for its files, not for a message."""

from __future__ import annotations

import time
from typing import Any

from medmcl.stages.models import Setting

_LOOK = 0.5
"""Seconds between two looks whether the first rank is done."""


def awaited(stage: str, setting: Setting) -> dict[str, Any]:
    """Wait until the first rank has done a stage; it may take longer than ranks wait for a message.

    Returns:
        What it wrote of the stage.
    """
    while (done := setting.checkpoints(stage).done) is None:
        setting.stop.heed(f"{stage}: waiting for the first process")
        time.sleep(_LOOK)
    return done
