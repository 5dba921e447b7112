"""In which layer a parameter lies, for a learning rate that falls towards the input."""

from __future__ import annotations

import re
from typing import cast

from torch import nn

from medmcl.encoders.encoded import Encoder, LayerDepths

BLOCK = re.compile(r"^blocks\.(\d+)\.")


def layer_depth(encoder: nn.Module) -> dict[str, int]:
    """Give the layer of each parameter of an encoder, by its name.

    The embedding is 0, block i is i + 1, what comes after the blocks is their number + 1.
    """
    if isinstance(encoder, LayerDepths):
        return encoder.layer_depths()
    return block_depths(encoder, cast(Encoder, encoder).early)


def num_layers(encoder: nn.Module) -> int:
    """Give the layer that a head on the encoder would have: its rate is not decayed.

    A final norm shares that layer, as in Bao et al. 2022 (BEiT) and in Turgut et al. 2025.
    """
    depths = layer_depth(encoder)
    top = max(depths.values(), default=0)
    after = {depth for name, depth in depths.items() if not _is_block(name)}
    return top if top > 0 and top in after else top + 1


def block_depths(encoder: nn.Module, early: tuple[str, ...]) -> dict[str, int]:
    """Depths of a module whose layers are ``blocks``; ``early`` are the prefixes of layer 0.

    Without blocks it is one layer.
    """
    names = [name for name, _ in encoder.named_parameters()]
    layers = {name: int(found[1]) + 1 for name in names if (found := BLOCK.match(name))}
    last = max(layers.values(), default=0) + 1
    return {name: layers.get(name, 0 if name.startswith(early) else last) for name in names}


def _is_block(name: str) -> bool:
    return name.startswith(("blocks.", "model.", "layers."))
