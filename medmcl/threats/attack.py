"""One attack: the same trigger on every record, laid where the record's own seed says."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from medmcl.core.rng import derive_seed
from medmcl.threats.triggers import TRIGGERS, patch_side


def attack_on_images(
    name: str, channels: int, size: tuple[int, int], seed: int, official: bool = False
) -> Callable[[Tensor, str], Tensor]:
    """Give ``lay(image, id)`` of one attack: what is drawn is drawn once, but for places.

    Differs from CleanCLIP's code, which draws the noise of its square and of its blend anew for
    every image: a fixed pattern is what BadNets and Blended describe, and what can be found again.

    Args:
        name: Of `TRIGGERS`.
        channels: Of the images.
        size: Rows and columns of the images.
        seed: Of the attack.
        official: As the authors' code writes it in 8 bits.
    """
    generator = torch.Generator(device="cpu").manual_seed(derive_seed(seed, "pattern", name))
    noise: Tensor | None = None
    if name in ("badnet", "label_consistent"):
        side = patch_side(torch.empty((channels, *size), device="cpu"), official)
        noise = torch.randn((channels, side, side), generator=generator, device="cpu")
    elif name == "blended":
        noise = torch.rand((channels, *size), generator=generator, device="cpu")
    warp = derive_seed(seed, "pattern", name)

    def lay(image: Tensor, record: str) -> Tensor:
        rng = warp if name == "wanet" else derive_seed(seed, "place", record)
        found: Tensor = TRIGGERS[name](image, rng=rng, noise=noise, official=official)
        return found

    return lay
