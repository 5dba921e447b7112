"""A transformer over (lead, time) patches of a signal, of which some may be hidden."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medmcl.core.batch import InputShape
from medmcl.core.errors import ConfigError
from medmcl.core.layers import EPSILON, Block, sincos_2d, start_linear
from medmcl.encoders.encoded import Encoded, require_axes, take_tokens, visible_order
from medmcl.encoders.settings import ECGViTSettings


class ECGViT(nn.Module):
    """Cuts a signal into patches of one lead (or of all leads), and attends over them.

    Tokens are lead-major: token = lead * patches a lead + time. Hidden patches are left out before
    the first layer, so cost falls with the share that is hidden. A class token takes part in the
    attention and is then dropped; features are the mean of the patch tokens.

    Source:
        Turgut et al. 2025, arXiv 2308.05764 (sizes: its code). Differs: one LayerNorm serves
        tokens and pooled features (theirs: ``norm`` in masked modelling, a new ``fc_norm`` later).
    """

    Settings = ECGViTSettings

    early: tuple[str, ...] = ("embed.", "cls_token", "positions")

    def __init__(self, shape: InputShape, settings: ECGViTSettings) -> None:
        super().__init__()
        leads, samples = require_axes(shape, ("leads", "samples"), "ecg_vit")
        require_patches(samples, settings.patch, "ecg_vit")
        rows = 1 if settings.joint_leads else leads
        self.grid: tuple[int, int] = (rows, samples // settings.patch)
        self.width, self.patch = settings.width, settings.patch
        self.num_tokens = self.grid[0] * self.grid[1]
        self.spanned = leads if settings.joint_leads else 1
        self.embed = nn.Linear(self.spanned * settings.patch, self.width)
        start_linear(self.embed)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, self.width, device="cpu"))
        nn.init.normal_(self.cls_token, std=0.02)
        self.positions: Tensor
        positions = sincos_2d(*self.grid, self.width, "cpu")
        if settings.trainable_positions:
            self.register_parameter("positions", nn.Parameter(positions))
        else:
            self.register_buffer("positions", positions)
        last = max(1, settings.depth - 1)
        self.blocks = nn.ModuleList(
            Block(
                self.width,
                settings.heads,
                settings.mlp_ratio,
                settings.drop_path * (number / last if settings.depth > 1 else 1.0),
            )
            for number in range(settings.depth)
        )
        self.norm = nn.LayerNorm(self.width, eps=EPSILON)

    def patches(self, x: Tensor) -> Tensor:
        """Cut signals (B, L, S) into patches, (B, T, leads a patch * samples a patch)."""
        return cut_signal(x, self.spanned, self.patch)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Encode signals.

        Args:
            x: (B, L, S).
            mask: (B, T) bool, True = hidden; every row hides the same number.
        """
        patches = self.patches(x)
        positions = self.positions.expand(len(x), -1, -1)
        if mask is not None:
            order = visible_order(mask)
            patches, positions = take_tokens(patches, order), take_tokens(positions, order)
        tokens = self.embed(patches)
        tokens = tokens + positions.to(tokens.dtype)
        first = self.cls_token.to(tokens.dtype).expand(len(x), -1, -1)
        tokens = torch.cat([first, tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = tokens[:, 1:]
        return Encoded(features=self.norm(tokens.mean(1)), tokens=self.norm(tokens))


def cut_signal(x: Tensor, span: int, patch: int) -> Tensor:
    """Cut signals (B, L, S) into patches of ``span`` leads and ``patch`` samples, lead-major.

    Returns:
        (B, L / span * S / patch, span * patch).
    """
    rows, leads, samples = x.shape
    cut = x.reshape(rows, leads // span, span, samples // patch, patch)
    return cut.transpose(2, 3).flatten(3).flatten(1, 2)


def require_patches(samples: int, patch: int, encoder: str) -> None:
    """Refuse a signal that is not a whole number of patches long."""
    if samples % patch:
        raise ConfigError(
            "the signal is not a whole number of patches long",
            where=f"encoder '{encoder}'",
            got=f"{samples} samples, patch {patch}",
            fix=f"choose a patch that divides {samples}, or inputs of another length (of ECGs: "
            "another crop_seconds or rate_hz)",
        )
