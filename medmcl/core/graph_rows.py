"""How a graph of fixed regions lies in one tensor: who is there, its edges, features of its nodes.

A row is (R, 1 + C·R + F): column 0 says whether a region is there (1 or 0), then come C blocks of R
weights (``edges[c, i, j]``, of the edge between regions i and j in channel c), then F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medmcl.core.batch import InputShape
from medmcl.core.errors import ConfigError


@dataclass(frozen=True)
class Graphs:
    """A batch of graphs over the same R regions.

    Attributes:
        present: Which regions are there, (B, R) bool.
        edges: Weights of C channels, 0 = no edge, (B, C, R, R).
        nodes: Features of the regions, (B, R, F).
    """

    present: Tensor
    edges: Tensor
    nodes: Tensor


def pack(graphs: Graphs) -> Tensor:
    """Lay graphs in one tensor, (B, R, 1 + C·R + F)."""
    blocks = graphs.edges.permute(0, 2, 1, 3).flatten(2)
    return torch.cat([graphs.present[..., None].to(blocks.dtype), blocks, graphs.nodes], dim=-1)


def unpack(x: Tensor, channels: int) -> Graphs:
    """Take apart what `pack` laid together."""
    regions = x.shape[1]
    end = 1 + channels * regions
    edges = x[..., 1:end].unflatten(-1, (channels, regions)).permute(0, 2, 1, 3)
    return Graphs(present=x[..., 0] > 0.5, edges=edges, nodes=x[..., end:])


def graph_sizes(shape: InputShape, encoder: str) -> tuple[int, int, int]:
    """Give (regions, channels, features of a node), or refuse an input that is not of graphs.

    Raises:
        ConfigError: Another kind, or axes that do not fit together.
    """
    if len(shape.shape) != 2 or shape.channels < 1:
        raise ConfigError(
            f"the encoder '{encoder}' cannot read this {shape.kind}",
            got=f"shape {shape.shape}",
            expected="kind graph, (regions, presence + edges + node features)",
            fix="choose an encoder that fits, or change how the modality is prepared",
        )
    regions, width = shape.shape
    features = width - 1 - shape.channels * regions
    if features < 0:
        raise ConfigError(
            f"the encoder '{encoder}' needs {shape.channels} x {regions} weights a region",
            got=f"shape {shape.shape}",
        )
    return regions, shape.channels, features
