"""Random numbers for the rows of a batch, by seed."""

import torch

from medmcl.core.rng import RowGenerator


def row_generator(seed=0, first=0, total=None, device="cpu"):
    return RowGenerator(torch.Generator(device=device).manual_seed(seed), first, total)
