"""Graph convolutions: messages as products of matrices (dense), or by torch-geometric (pyg).

Both have the same parameters under the same names, and give the same numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from medmcl.core import host
from medmcl.core.batch import InputShape
from medmcl.core.errors import ConfigError
from medmcl.core.graph_rows import Graphs, graph_sizes, unpack
from medmcl.encoders.encoded import Encoded, EncoderModule, unmaskable
from medmcl.encoders.settings import Conv, NetworkSettings

Gather = Callable[[Tensor], Tensor]
"""States of the regions (B, R, E) to weighted sums over their neighbours, (B, R, C·E)."""
NARROW = 8


class GraphBlock(nn.Module):
    """One graph convolution with its norm, ReLU, dropout and a residual path.

    With h the states, a_c the weights of channel c and n_i the number of neighbours:
    ``graphconv``: W h_i + U [sum_j a_cij h_j / n_i]_c.
    ``gin``: MLP([(1 + e) h_i + sum_j a_cij h_j / n_i]_c).
    ``gcn``: W [sum_j b_cij h_j]_c, b_c = D^-1/2 (a_c + I) D^-1/2, D_ii = 1 + sum_cj |a_cij|: the
    degree is one of magnitudes, since a sum of signed weights may be 0 or below.
    [.]_c sets the channels side by side; with ``aggregate: sum``, n_i is 1.

    Source:
        Morris et al. 2019 (graphconv, arXiv 1810.02244), Kipf & Welling 2017 (gcn, arXiv
        1609.02907, eq. 2), Xu et al. 2019 (gin, arXiv 1810.00826, eq. 4.1). Differs: signed
        weights, channels, a mean by default, layer norm and a residual path.
    """

    def __init__(self, conv: Conv, width: int, channels: int, dropout: float) -> None:
        super().__init__()
        self.conv, self.channels = conv, channels
        if conv == "gin":
            self.epsilon = nn.Parameter(torch.zeros(1, device="cpu"))
            self.mix: nn.Module = nn.Sequential(
                nn.Linear(channels * width, width), nn.ReLU(), nn.Linear(width, width)
            )
        else:
            self.mix = nn.Linear(channels * width, width)
        if conv == "graphconv":
            self.own = nn.Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, gather: Gather) -> Tensor:
        """States (B, R, E) to states (B, R, E)."""
        messages = gather(states)
        if self.conv == "gin":
            messages = messages + ((1 + self.epsilon) * states).repeat(1, 1, self.channels)
        found = self.mix(messages)
        if self.conv == "graphconv":
            found = found + self.own(states)
        kept: Tensor = states + self.dropout(torch.relu(self.norm(found)))
        return kept


class GraphNetwork(EncoderModule, ABC):
    """Graph convolutions over regions and their edges, and a pool of the regions.

    Invariant to the order of the regions if its node features move with them (``strength``,
    ``degree``, ``local_degree``) and the pool is not ``concat``; ``profile`` and ``identity`` name
    regions by their place. Tokens are the regions.
    """

    Settings = NetworkSettings
    name = "graph"
    early: tuple[str, ...] = ("enter.",)

    def __init__(self, shape: InputShape, settings: NetworkSettings) -> None:
        super().__init__()
        regions, self.channels, features = graph_sizes(shape, self.name)
        if not features:
            raise ConfigError(
                f"the encoder '{self.name}' needs features of the regions", got="nodes: []",
                fix="name some in the recipe's inputs: nodes: [profile]",
            )  # fmt: skip
        self.settings, self.width = settings, settings.width
        self.enter = nn.Linear(features, self.width)
        self.blocks = nn.ModuleList(
            GraphBlock(settings.conv, self.width, self.channels, settings.dropout)
            for _ in range(settings.depth)
        )
        self.norm = nn.LayerNorm(self.width)
        self.grid: tuple[int, ...] | None = (regions,)
        if settings.pool == "concat":
            self.grid = None
            self.narrow = nn.Linear(self.width, NARROW)
            self.join = nn.Linear(NARROW * regions, self.width)

    @abstractmethod
    def gather(self, graphs: Graphs) -> Gather:
        """How states of these graphs become weighted sums over neighbours."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Encode graphs (B, R, 1 + C·R + F)."""
        unmaskable(mask, self.name)
        graphs = unpack(x, self.channels)
        there = graphs.present[..., None]
        gather = self.gather(graphs)
        states = torch.where(there, self.enter(graphs.nodes), 0.0)
        for block in self.blocks:
            states = torch.where(there, block(states, gather), 0.0)
        tokens = torch.where(there, self.norm(states), 0.0)
        if self.settings.pool == "concat":
            narrow = torch.where(there, torch.relu(self.narrow(tokens)), 0.0)
            return Encoded(features=self.join(narrow.flatten(1)))
        return Encoded(features=self._pooled(tokens, there), tokens=tokens, padding=~graphs.present)

    def _pooled(self, tokens: Tensor, there: Tensor) -> Tensor:
        if self.settings.pool == "max":
            best = tokens.masked_fill(~there, -torch.inf).amax(dim=1)
            return torch.where(there.any(dim=1), best, 0.0)
        total = tokens.sum(dim=1)
        return total if self.settings.pool == "sum" else total / there.sum(dim=1).clamp(min=1)


def scaled_edges(graphs: Graphs, settings: NetworkSettings) -> tuple[Tensor, Tensor]:
    """Weights of edges (B, C, R, R), and of each region's edge to itself (B, R), as a block sums.

    The latter is the same in every channel, and 0 but for ``gcn``.
    """
    edges = graphs.edges
    if settings.conv == "gcn":
        scale = (1 + edges.abs().sum(dim=(1, 3))).rsqrt()
        return edges * scale[:, None, :, None] * scale[:, None, None, :], scale.square()
    itself = edges.new_zeros(edges.shape[0], edges.shape[2])
    if settings.aggregate == "sum":
        return edges, itself
    count = (edges != 0).any(dim=1).sum(dim=2).clamp(min=1)
    return edges / count[:, None, :, None], itself


class GraphDense(GraphNetwork):
    """`GraphNetwork` whose messages are products of whole adjacency matrices.

    Equal to `GraphPyG` with the same weights, but for rounding. Its time
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


class GraphPyG(GraphNetwork):
    """`GraphNetwork` whose messages go along edges, by torch-geometric's message passing.

    Equal to `medmcl.encoders.graph.network.GraphDense` with the same weights, but for rounding; its
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
    place = host.numbers((edges != 0).any(dim=1), edges.device)
    row, target, source = place // regions**2, place // regions % regions, place % regions
    index = torch.stack([row * regions + source, row * regions + target])
    return index, edges.permute(1, 0, 2, 3)[:, row, target, source]
