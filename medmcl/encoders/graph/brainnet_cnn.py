"""Convolutions over the rows and columns of a connectivity matrix; region i is always region i."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medmcl.core.batch import InputShape
from medmcl.core.graph_rows import graph_sizes, unpack
from medmcl.encoders.encoded import Encoded, EncoderModule, unmaskable
from medmcl.encoders.settings import BrainNetCNNSettings

SLOPE = 1 / 3


class EdgeToEdge(nn.Module):
    """Edge (i, j) from all edges at its two ends: ``sum_k r_k A_ik + c_k A_kj``, (B, M, R, R)."""

    def __init__(self, channels: int, width: int, regions: int) -> None:
        super().__init__()
        self.row = nn.Conv2d(channels, width, (1, regions))
        self.column = nn.Conv2d(channels, width, (regions, 1), bias=False)

    def forward(self, edges: Tensor) -> Tensor:
        """Edges (B, C, R, R) to edges (B, M, R, R)."""
        found: Tensor = self.row(edges) + self.column(edges)
        return found


class BrainNetCNN(EncoderModule):
    """Edge-to-edge, edge-to-node and node-to-graph layers over edges; node features are not read.

    Weights belong to regions, so it is **not** invariant to their order: every record must have one
    atlas. Tokens are the regions. Absent regions have no edges and count as such.

    Source:
        Kawahara et al. 2017, NeuroImage 146:1038-1049, eqs. 1 to 3; leaky ReLU of slope 1/3 and
        dropout .5 as there. Differs: one fully connected layer follows instead of three, and a
        region's token passes through it alone.
    """

    Settings = BrainNetCNNSettings

    def __init__(self, shape: InputShape, settings: BrainNetCNNSettings) -> None:
        super().__init__()
        regions, channels, _ = graph_sizes(shape, "brainnet_cnn")
        self.channels = channels
        self.blocks = nn.ModuleList()
        for width in settings.edges:
            self.blocks.append(EdgeToEdge(channels, width, regions))
            channels = width
        self.to_node = nn.Conv2d(channels, settings.nodes, (1, regions))
        self.to_graph = nn.Conv1d(settings.nodes, settings.width, regions)
        self.to_token = nn.Linear(settings.nodes, settings.width)
        self.activate = nn.LeakyReLU(SLOPE)
        self.dropout = nn.Dropout(settings.dropout)
        self.leave = nn.Linear(settings.width, settings.width)
        for module in self.modules():
            if isinstance(module, (nn.Conv1d, nn.Conv2d)):
                nn.init.kaiming_normal_(module.weight, a=SLOPE)
        self.width = settings.width
        self.grid: tuple[int, ...] = (regions,)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Encode graphs (B, R, 1 + C·R + F)."""
        unmaskable(mask, "brainnet_cnn")
        graphs = unpack(x, self.channels)
        edges = graphs.edges
        for block in self.blocks:
            edges = self.activate(block(edges))
        nodes = self.dropout(self.activate(self.to_node(edges)[..., 0]))
        whole = self.activate(self.to_graph(nodes)[..., 0])
        tokens = self.leave(self.activate(self.to_token(nodes.transpose(1, 2))))
        absent = ~graphs.present
        return Encoded(
            features=self.leave(whole),
            tokens=torch.where(absent[..., None], 0.0, tokens),
            padding=absent,
        )
