"""A table of vectors, one a code: what factorised counts are as an encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medmcl.core.batch import InputShape
from medmcl.core.layers import masked_mean
from medmcl.encoders.codes.transformer import PADDING, require_codes
from medmcl.encoders.encoded import Encoded, unmaskable
from medmcl.encoders.settings import LookupSettings

UNKNOWN = 1


class Lookup(nn.Module):
    """The mean of the vectors of a person's codes, each as often as it stands there.

    Codes without a vector of their own (number 1) count for nothing; somebody with only such codes
    gets zeros. Started from the seed it is a bag of embeddings; a `factorise` stage fills it.
    """

    Settings = LookupSettings

    early: tuple[str, ...] = ()

    def __init__(self, shape: InputShape, settings: LookupSettings) -> None:
        super().__init__()
        length = require_codes(shape, "lookup")
        self.width = settings.width
        self.table = nn.Embedding(shape.vocabulary, self.width)
        nn.init.normal_(self.table.weight, std=self.width**-0.5)
        self.num_tokens: int | None = None
        self.patch: int | None = None
        self.grid: tuple[int, ...] = (length,)

    def layer_depths(self) -> dict[str, int]:
        """One layer."""
        return {"table.weight": 1}

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Encode token numbers and days (B, T, 2) int64; the days are not read."""
        unmaskable(mask, "lookup")
        unread = (x[..., 0] == PADDING) | (x[..., 0] == UNKNOWN)
        tokens = torch.where(unread[..., None], 0.0, self.table(x[..., 0]))
        return Encoded(features=masked_mean(tokens, unread), tokens=tokens, padding=unread)
