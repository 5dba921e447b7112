"""A perceptron over the cells of a table row, any of which may be absent."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medmcl.core.batch import InputShape
from medmcl.core.errors import ConfigError
from medmcl.encoders.encoded import Encoded, EncoderModule, require_axes, unmaskable
from medmcl.encoders.settings import TabularMLPSettings


class TabularMLP(EncoderModule):
    """Embeds each cell, and passes all cells side by side through hidden layers.

    A number becomes value * direction + offset, a category its own vector, an absent cell the
    column's learned 'missing' vector, whatever stands in the cell. A level that training did not
    know counts as level 0, 'unseen'.

    Source:
        Cells as in Gorishniy et al. 2021, arXiv 2106.11959 (feature tokenizer). Differs: a
        perceptron follows instead of a transformer; missing cells have vectors of their own.
    """

    Settings = TabularMLPSettings

    early: tuple[str, ...] = ("direction", "offset", "missing", "levels.")

    def __init__(self, shape: InputShape, settings: TabularMLPSettings) -> None:
        super().__init__()
        _, columns = require_axes(shape, ("2", "columns"), "tabular_mlp")
        if shape.shape[0] != 2 or len(shape.cardinalities) != columns:
            raise ConfigError(
                "the encoder 'tabular_mlp' needs values and presence flags of known columns",
                got=f"shape {shape.shape}, {len(shape.cardinalities)} cardinalities",
                expected="(2, columns), one cardinality a column",
            )
        sizes = torch.tensor(shape.cardinalities, dtype=torch.int64, device="cpu")
        self.cardinalities: Tensor
        self.starts: Tensor
        self.register_buffer("cardinalities", sizes, persistent=False)
        self.register_buffer("starts", sizes.cumsum(0) - sizes, persistent=False)
        cell = settings.cell_width
        for name in ("direction", "offset", "missing"):
            self.register_parameter(name, nn.Parameter(torch.empty(columns, cell, device="cpu")))
        self.direction: Tensor
        self.offset: Tensor
        self.missing: Tensor
        self.levels = nn.Embedding(max(1, int(sizes.sum())), cell)
        for parameter in (self.direction, self.offset, self.missing, self.levels.weight):
            nn.init.normal_(parameter, std=cell**-0.5)
        self.width, inward = settings.width, columns * cell
        self.blocks = nn.ModuleList()
        for _ in range(settings.depth):
            self.blocks.append(
                nn.Sequential(
                    nn.Linear(inward, settings.hidden),
                    nn.LayerNorm(settings.hidden) if settings.norm == "layer" else nn.Identity(),
                    nn.ReLU(),
                    nn.Dropout(settings.dropout),
                )
            )
            inward = settings.hidden
        self.leave = nn.Linear(inward, self.width)

    def cells(self, x: Tensor) -> Tensor:
        """Embed the cells of rows (B, 2, F): (B, F, cell width)."""
        present = x[:, 1] > 0.5
        values = torch.where(present, x[:, 0], 0.0)
        is_number = self.cardinalities == 0
        numbers = torch.where(is_number, values, 0.0)[..., None] * self.direction + self.offset
        known = torch.where(is_number, 0.0, values).round().to(torch.int64)
        known = torch.where((known > 0) & (known < self.cardinalities), known, 0)
        places = torch.where(is_number, 0, self.starts + known)
        cells = torch.where(is_number[:, None], numbers, self.levels(places))
        return torch.where(present[..., None], cells, self.missing)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Encode rows (B, 2, F): values and presence flags."""
        unmaskable(mask, "tabular_mlp")
        hidden = self.cells(x).flatten(1)
        for block in self.blocks:
            hidden = block(hidden)
        return Encoded(features=self.leave(hidden))
