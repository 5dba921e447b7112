"""Precision and processes: how a run runs."""

from __future__ import annotations

import os
import sys

import torch

from medmcl.core.errors import ConfigError
from medmcl.engine.signals import EXIT_CODE


def choose_precision(name: str, device: torch.device) -> str:
    """Turn ``auto``, ``fp32`` or ``bf16`` into the precision of the forward pass."""
    if name == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if name not in ("fp32", "bf16"):
        raise ConfigError(
            "is not a precision", where="--precision", got=name, expected="auto, fp32 or bf16"
        )
    return name


def relaunch(processes: int) -> bool:
    """Start this command again as ``processes`` ranks under torchrun, and wait for them.

    Returns False inside a rank (nothing is started), so that the command goes on.
    """
    if "RANK" in os.environ:
        return False
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    words = ["--standalone", f"--nproc-per-node={processes}", "-m", "medmcl", *sys.argv[1:]]
    try:
        torchrun(words)
    except ChildFailedError as failure:  # the ranks have said why
        code = failure.get_first_failure()[1].exitcode
        sys.exit(code if code in (2, EXIT_CODE) else 1)
    except SignalException:  # the ranks were told to save and stop
        sys.exit(EXIT_CODE)
    return True
