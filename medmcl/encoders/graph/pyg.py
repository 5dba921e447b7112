"""Graph convolutions by torch-geometric: messages along the edges that are there."""

from __future__ import annotations

import torch
from torch import Tensor

from medmcl.core.batch import InputShape
from medmcl.core.graph_rows import Graphs
from medmcl.encoders.graph.network import Gather, GraphNetwork, scaled_edges
from medmcl.encoders.settings import NetworkSettings


class GraphPyG(GraphNetwork):
    """`GraphNetwork` whose messages go along edges, by torch-geometric's message passing.

    Equal to `medmcl.encoders.graph.dense.GraphDense` with the same weights, but for rounding; its
    time grows with the number of edges.
    """

    name = "graph_pyg"

    def __init__(self, shape: InputShape, settings: NetworkSettings) -> None:
        super().__init__(shape, settings)
        from torch_geometric.nn import SimpleConv

        self.passing = SimpleConv(aggr="sum")

    def gather(self, graphs: Graphs) -> Gather:
        """Sums over the edges of each channel."""
        edges, itself = scaled_edges(graphs, self.settings)
        index, weights = edge_list(edges)
        rows, regions = itself.shape

        def messages(states: Tensor) -> Tensor:
            flat = states.flatten(0, 1)
            own = itself.to(states.dtype).flatten()[:, None] * flat
            parts = [
                self.passing(flat, index, channel.to(states.dtype)) + own for channel in weights
            ]
            return torch.cat(parts, dim=-1).unflatten(0, (rows, regions))

        return messages


def edge_list(edges: Tensor) -> tuple[Tensor, Tensor]:
    """Edges of a batch of B graphs as one graph of B·R nodes.

    Args:
        edges: Weights, 0 = no edge in this channel, (B, C, R, R); row i is what node i hears.

    Returns:
        Source and target of each edge that some channel has, (2, edges) int64; and its weights,
        (C, edges).
    """
    regions = edges.shape[-1]
    row, target, source = (edges != 0).any(dim=1).nonzero(as_tuple=True)
    index = torch.stack([row * regions + source, row * regions + target])
    return index, edges.permute(1, 0, 2, 3)[:, row, target, source]
