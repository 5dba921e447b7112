"""Precision and processes: how a run runs."""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from medmcl.core.errors import ConfigError
from medmcl.core.file_lock import claimed
from medmcl.engine.signals import EXIT_CODE

WRECKED_CODE = 3
"""Exit code of a run that was done, but of which a stage is wrecked
(`medmcl.stages.train.wrecked`)."""


def choose_precision(name: str, device: torch.device) -> str:
    """Turn ``auto``, ``fp32`` or ``bf16`` into the precision of the forward pass."""
    if name == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if name not in ("fp32", "bf16"):
        raise ConfigError(
            "is not a precision", where="--precision", got=name, expected="auto, fp32 or bf16"
        )
    return name


def new_run_folder(name: str) -> Path:
    """Name a run folder after what it holds and the time."""
    stamp = datetime.datetime.now(tz=datetime.UTC).strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{name}-{stamp}"


@contextmanager
def claimed_run(folder: Path) -> Iterator[None]:
    """Be the only one who makes a run in a folder; of several processes the first holds it.

    A folder in which nothing was written goes again.

    Raises:
        ArtefactError: Another process makes a run there.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    with claimed(folder, "a run is being made in this folder", filled=True):
        yield


def relaunch(processes: int) -> None:
    """Start this command again as ``processes`` ranks under torchrun, and wait for them."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")  # what is wrong, the ranks say
    os.environ.setdefault("LOGLEVEL", "CRITICAL")  # of torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    if not any(word.split("=")[0] == "--out" for word in sys.argv):
        sys.argv += ["--out", str(new_run_folder("ranks"))]  # one folder for all ranks
    words = ["--standalone", f"--nproc-per-node={processes}", "-m", "medmcl", *sys.argv[1:]]
    try:
        torchrun(words)
    except ChildFailedError as failure:  # the ranks have said why
        code = failure.get_first_failure()[1].exitcode
        sys.exit(code if code in (2, WRECKED_CODE, EXIT_CODE) else 1)
    except SignalException:  # the ranks were told to save and stop
        sys.exit(EXIT_CODE)
