"""Seconds that training waits for a checkpoint of ours, and for one of torch."""

from __future__ import annotations

import shutil
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks.study import Row

LAYERS, SIDE = 24, 1024
"""Of the module whose optimiser and checkpoint are measured: 25 million weights."""


def big_module() -> Any:
    import torch

    return torch.nn.Sequential(*[torch.nn.Linear(SIDE, SIDE) for _ in range(LAYERS)])


def saving(folder: Path) -> list[Row]:
    """Seconds that training waits for a checkpoint: written at once, or meanwhile, or by torch."""
    import torch
    import torch.distributed.checkpoint as dcp

    warnings.simplefilter("ignore")  # of torch, that there is one process
    from medmcl.engine.checkpoint import Checkpoints
    from medmcl.engine.saver import Saver
    from medmcl.engine.world import World

    module = big_module()
    optimiser = torch.optim.AdamW(module.parameters())
    for p in module.parameters():
        p.grad = torch.full_like(p, 0.1)
    optimiser.step()
    found: dict[str, list[float]] = {
        how: [] for how in ("at once", "meanwhile", "written", "torch", "torch written")
    }
    checkpoints = Checkpoints(folder / "checkpoint")
    with Saver(checkpoints, World()) as saver:
        for step in range(1, 16):
            training = {"optimiser": optimiser.state_dict()}
            began = time.perf_counter()
            if step % 3 == 0:
                whole = {"weights": module.state_dict(), **training}
                under_way: Any = dcp.async_save(
                    whole, checkpoint_id=folder / f"torch-{step}", no_dist=True
                )
                found["torch"].append(time.perf_counter() - began)
                under_way.result()
                found["torch written"].append(time.perf_counter() - began)
                shutil.rmtree(folder / f"torch-{step - 3}", ignore_errors=True)
                continue
            if step % 3 == 1:
                checkpoints.save(step, module.state_dict(), training, best=False)
                found["at once"].append(time.perf_counter() - began)
                continue
            saver.save(step, module.state_dict(), training, best=False)
            found["meanwhile"].append(time.perf_counter() - began)
            saver.wait()
            found["written"].append(time.perf_counter() - began)
    return [{"how": how, "seconds": sorted(each)[len(each) // 2]} for how, each in found.items()]
