"""Stages that the first rank does alone: the others wait for its files, not for a message.

What such a stage wrote is known by its fingerprint wherever it is read.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from medmcl.core.errors import ArtefactError
from medmcl.stages.train.models import Setting

_LOOK = 0.5
"""Seconds between two looks whether the first rank is done."""


def awaited(stage: str, setting: Setting) -> dict[str, Any]:
    """Wait until the first rank has done a stage; it may take longer than ranks wait for a message.

    Returns:
        What it wrote of the stage.
    """
    while (done := setting.checkpoints(stage).done) is None:
        setting.stop.check_interrupt(f"{stage}: waiting for the first process")
        time.sleep(_LOOK)
    return done


def refuse_changed(
    fingerprint: str, path: Path, stage: str, setting: Setting, did: str = "wrote"
) -> None:
    """Refuse a file of a finished stage that is not the one it wrote.

    Raises:
        ArtefactError: Its fingerprint is another than the stage's record says.
    """
    checkpoints = setting.checkpoints(stage)
    expected = (checkpoints.done or {}).get("fingerprint")
    if fingerprint != expected:
        raise ArtefactError(
            f"is not what stage {stage} {did}",
            where=path,
            got=f"fingerprint {fingerprint}",
            expected=f"fingerprint {expected}",
            fix=f"put the file back, or delete {checkpoints.folder} and --resume",
        )
