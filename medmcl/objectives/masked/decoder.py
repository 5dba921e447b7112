"""The decoder of masked data modelling: from the tokens an encoder saw to every patch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medmcl.core.layers import Block, sincos_2d
from medmcl.objectives.settings import DecoderSettings


class MaskedDecoder(nn.Module):
    """Puts a learned token where a token was hidden, adds positions, and predicts every patch.

    Source:
        He et al. 2022, section 3, arXiv 2111.06377; sizes: Turgut et al. 2025. Differs: no class
        token passes through the decoder, so the encoder need not have one.

    Args:
        settings: Width, depth, heads.
        encoder_width: E, width of the encoder's tokens.
        grid: Leads and patches a lead; tokens are lead-major.
        patch: Samples a patch.
    """

    def __init__(
        self, settings: DecoderSettings, encoder_width: int, grid: tuple[int, int], patch: int
    ) -> None:
        super().__init__()
        width = settings.width
        self.enter = nn.Linear(encoder_width, width)
        self.hidden_token = nn.Parameter(torch.zeros(1, 1, width, device="cpu"))
        nn.init.normal_(self.hidden_token, std=0.02)
        positions = sincos_2d(grid[0], grid[1], width, torch.device("cpu"))
        self.positions: Tensor
        self.register_buffer("positions", positions.reshape(1, -1, width), persistent=False)
        self.blocks = nn.Sequential(
            *(Block(width, settings.heads, settings.mlp_ratio, 0.0) for _ in range(settings.depth))
        )
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, patch)

    def forward(self, visible: Tensor, mask: Tensor) -> Tensor:
        """Predict every patch.

        Args:
            visible: Tokens that the encoder saw, in token order, (B, V, E).
            mask: (B, T) bool, True = hidden; every row has V tokens that are not.

        Returns:
            Patches, (B, T, patch).
        """
        x = self.enter(visible)
        # The n-th token that is not hidden is the n-th visible one.
        place = (torch.cumsum(~mask, dim=1) - 1).clamp(min=0)
        spread = x.gather(1, place[..., None].expand(-1, -1, x.shape[-1]))
        x = torch.where(mask[..., None], self.hidden_token.to(x.dtype), spread)
        patches: Tensor = self.leave(self.norm(self.blocks(x + self.positions.to(x.dtype))))
        return patches
