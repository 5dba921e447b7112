"""How a modality enters a shared tower: input projections to tokens of one width.

Each keeps the contract `medmcl.encoders.encoded.Encoder`; its features are the mean of its tokens.
To add one: a class here or beside, and a line in `INPUT_PROJECTIONS` (in ``build.py``).
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from medmcl.core.batch import InputShape
from medmcl.core.errors import ConfigError
from medmcl.core.layers import masked_mean, start_linear
from medmcl.encoders.build import build_encoder, split_name
from medmcl.encoders.encoded import (
    Encoded,
    Encoder,
    EncoderModule,
    require_axes,
    require_words,
    take_tokens,
    unmaskable,
    visible_order,
)
from medmcl.encoders.shared.settings import (
    AnyEncoderSettings,
    PatchesSettings,
    SignalSettings,
    TableSettings,
)
from medmcl.encoders.signal.vit import cut_signal, require_patches
from medmcl.encoders.text.transformer import PADDING


class _Embedded(EncoderModule):
    early: tuple[str, ...] = ("embed.", "positions")


class Patches(_Embedded):
    """Square patches of an image through one linear map, with learned positions.

    Source:
        Dosovitskiy et al. 2021, eq. 1, arXiv 2010.11929. Differs: no class token; frames are
        channels.
    """

    Settings = PatchesSettings

    def __init__(
        self, shape: InputShape, settings: PatchesSettings, width: int, patch: int
    ) -> None:
        super().__init__()
        channels, rows, cols = require_axes(shape, ("frames", "rows", "columns"), "patches")
        edge = settings.patch or patch
        if rows % edge or cols % edge:
            raise ConfigError(
                "the image is not a whole number of patches high and wide",
                where="input projection 'patches'",
                got=f"{rows} x {cols} pixels, patch {edge}",
                fix="choose a patch that divides both, or prepare another size",
            )
        self.width = width
        self.grid: tuple[int, ...] = (rows // edge, cols // edge)
        self.num_tokens: int | None = self.grid[0] * self.grid[1]
        self.embed = nn.Conv2d(channels, width, edge, stride=edge)
        nn.init.xavier_uniform_(self.embed.weight.flatten(1).data)
        nn.init.zeros_(self.embed.bias)  # type: ignore[arg-type]  # it has one
        self.positions = _positions(self.num_tokens, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Give tokens for images (B, frames, rows, columns); ``mask`` (B, T), True = hidden."""
        return _visible(self.embed(x).flatten(2).transpose(1, 2), self.positions, mask)


class Table(_Embedded):
    """A vector for each token number, with learned positions; number 0 is padding.

    Source:
        Radford et al. 2021, arXiv 2103.00020. Differs: attention is not causal.
    """

    Settings = TableSettings

    def __init__(self, shape: InputShape, settings: TableSettings, width: int, patch: int) -> None:  # noqa: ARG002  (as all input projections)
        super().__init__()
        length = require_words(shape, "table", "input projection")
        self.width = width
        self.grid: tuple[int, ...] = (length,)
        self.embed = nn.Embedding(shape.vocabulary, width)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.positions = _positions(length, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Give tokens for token numbers (B, T) int64."""
        unmaskable(mask, "table")
        padding = x == PADDING
        tokens = self.embed(x) + self.positions[: x.shape[1]]
        return Encoded(features=masked_mean(tokens, padding), tokens=tokens, padding=padding)


class Signal(_Embedded):
    """Patches of one lead (or of all leads) through one linear map, with learned positions.

    Source:
        The input of Turgut et al. 2025, arXiv 2308.05764. Differs: learned positions.
    """

    Settings = SignalSettings
    patch: int

    def __init__(self, shape: InputShape, settings: SignalSettings, width: int, patch: int) -> None:  # noqa: ARG002  (as all input projections)
        super().__init__()
        leads, samples = require_axes(shape, ("leads", "samples"), "signal")
        require_patches(samples, settings.patch, "signal")
        self.span = leads if settings.joint_leads else 1
        self.width, self.patch = width, settings.patch
        self.grid: tuple[int, ...] = (leads // self.span, samples // settings.patch)
        self.num_tokens: int | None = self.grid[0] * self.grid[1]
        self.embed = nn.Linear(self.span * settings.patch, width)
        start_linear(self.embed)
        self.positions = _positions(self.num_tokens, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Give tokens for signals (B, L, S); ``mask`` (B, T) bool, True = hidden."""
        return _visible(self.embed(cut_signal(x, self.span, self.patch)), self.positions, mask)


class AnyEncoder(EncoderModule):
    """The tokens of any encoder of `ENCODERS`, through one linear map to the tower's width."""

    Settings = AnyEncoderSettings

    early: tuple[str, ...] = ("encoder.",)

    def __init__(
        self,
        shape: InputShape,
        settings: AnyEncoderSettings,
        width: int,
        patch: int,  # noqa: ARG002  (as all input projections)
    ) -> None:
        super().__init__()
        name, own = split_name(settings.encoder, "input projection 'encoder'")
        self.encoder = build_encoder(name, shape, own)
        facts = cast(Encoder, self.encoder)
        if facts.grid is None:
            raise _no_tokens(f"the encoder '{name}'")
        norms = nn.modules.batchnorm._BatchNorm
        if any(isinstance(module, norms) for module in self.encoder.modules()):
            raise ConfigError(
                f"the encoder '{name}' has batch norm, which a shared tower does not take",
                where="input projection 'encoder'",
                fix="choose group or layer norm: a batch may hold no row of the modality",
            )
        self.width, self.patch, self.grid = width, facts.patch, facts.grid
        self.num_tokens = facts.num_tokens
        self.embed = nn.Linear(facts.width, width)
        start_linear(self.embed)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Give tokens for what the encoder reads."""
        encoded: Encoded = self.encoder(x, mask)
        tokens = self.embed(real_tokens(encoded))
        features = masked_mean(tokens, encoded.padding)
        return Encoded(features=features, tokens=tokens, padding=encoded.padding)


def real_tokens(encoded: Encoded) -> Tensor:
    """Give the tokens, (B, T, E); `ConfigError` if there are none."""
    if encoded.tokens is None:
        raise _no_tokens("the encoder")
    return encoded.tokens


def _no_tokens(what: str) -> ConfigError:
    return ConfigError(
        f"{what} gives no tokens",
        where="input projection 'encoder'",
        fix="choose an encoder with patches, places or token numbers",
    )


def _positions(tokens: int, width: int) -> nn.Parameter:
    positions = nn.Parameter(nn.Embedding(tokens, width).weight.detach())
    nn.init.normal_(positions, std=0.02)
    return positions


def _visible(tokens: Tensor, positions: Tensor, mask: Tensor | None) -> Encoded:
    """Add positions and leave hidden tokens out."""
    tokens = tokens + positions
    if mask is not None:
        tokens = take_tokens(tokens, visible_order(mask))
    return Encoded(features=tokens.mean(1), tokens=tokens)
