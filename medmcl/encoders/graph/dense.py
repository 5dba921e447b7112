"""Graph convolutions as batched products of matrices: every pair of regions is computed."""

from __future__ import annotations

import torch
from torch import Tensor

from medmcl.core.graph_rows import Graphs
from medmcl.encoders.graph.network import Gather, GraphNetwork, scaled_edges


class GraphDense(GraphNetwork):
    """`GraphNetwork` whose messages are products of whole adjacency matrices.

    Equal to `medmcl.encoders.graph.pyg.GraphPyG` with the same weights, but for rounding. Its time
    does not depend on the density; which is faster: ``benchmarks/brain/graph_encoders.md``.
    """

    name = "graph_dense"

    def gather(self, graphs: Graphs) -> Gather:
        """Products with the adjacency of each channel."""
        edges, itself = scaled_edges(graphs, self.settings)
        edges = edges + torch.diag_embed(itself)[:, None]
        rows, channels, regions, _ = edges.shape
        tall = edges.permute(0, 2, 1, 3).reshape(rows, regions * channels, regions)

        def messages(states: Tensor) -> Tensor:
            found = tall.to(states.dtype) @ states
            return found.reshape(rows, regions, channels * states.shape[-1])

        return messages
