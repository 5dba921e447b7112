"""How a modality enters a shared tower: input projections to tokens of one width.

An entrance keeps the contract `medmcl.encoders.encoded.Encoder`; its features are the mean of its
tokens. To add one: a class here or beside, and a line in `ENTRANCES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import Field
from torch import Tensor, nn

from medmcl.core.batch import InputShape
from medmcl.core.config import Config, check, lookup
from medmcl.core.errors import ConfigError
from medmcl.core.layers import masked_mean, start_linear
from medmcl.encoders.build import build_encoder, check_encoder, split_name
from medmcl.encoders.encoded import (
    Encoded,
    Encoder,
    require_axes,
    take_tokens,
    unmaskable,
    visible_order,
)
from medmcl.encoders.text_transformer import PADDING
from medmcl.encoders.vit import cut_signal, require_patches

BY_KIND = {"image": "patches", "cmr": "patches", "text": "table", "ecg": "signal"}
"""The entrance of a kind of input if none is named."""


class Patches(nn.Module):
    """Square patches of an image through one linear map, with learned positions.

    Source:
        Dosovitskiy et al. 2021, eq. 1, arXiv 2010.11929. Differs: no class token; frames are
        channels.
    """

    class Settings(Config):
        """Size of a patch."""

        patch: int | None = Field(default=None, ge=1)
        """Edge in pixels; that of the tower's size if not given."""

    early: tuple[str, ...] = ("embed.", "positions")

    def __init__(self, shape: InputShape, settings: Settings, width: int, patch: int) -> None:
        super().__init__()
        channels, rows, cols = require_axes(shape, ("frames", "rows", "columns"), "patches")
        edge = settings.patch or patch
        if rows % edge or cols % edge:
            raise ConfigError(
                "the image is not a whole number of patches high and wide",
                where="entrance 'patches'",
                got=f"{rows} x {cols} pixels, patch {edge}",
                mend="choose a patch that divides both, or prepare another size",
            )
        self.width, self.patch = width, None
        self.grid: tuple[int, ...] = (rows // edge, cols // edge)
        self.num_tokens: int | None = self.grid[0] * self.grid[1]
        self.embed = nn.Conv2d(channels, width, edge, stride=edge)
        nn.init.xavier_uniform_(self.embed.weight.flatten(1).data)
        nn.init.zeros_(self.embed.bias)  # type: ignore[arg-type]  # it has one
        self.positions = _positions(self.num_tokens, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Give tokens for images (B, frames, rows, columns); ``mask`` (B, T), True = hidden."""
        return _visible(self.embed(x).flatten(2).transpose(1, 2), self.positions, mask)


class Table(nn.Module):
    """A vector for each token number, with learned positions; number 0 is padding.

    Source:
        Radford et al. 2021, arXiv 2103.00020. Differs: attention is not causal.
    """

    class Settings(Config):
        """Nothing to set: the vocabulary and the length are the cohort's."""

    early: tuple[str, ...] = ("embed.", "positions")

    def __init__(self, shape: InputShape, settings: Settings, width: int, patch: int) -> None:  # noqa: ARG002  (as all entrances)
        super().__init__()
        (length,) = require_axes(shape, ("tokens",), "table")
        if shape.vocabulary < 1:
            raise ConfigError(
                "the entrance 'table' needs token numbers",
                got=f"{shape.kind} without a vocabulary",
            )
        self.width, self.patch, self.num_tokens = width, None, None
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


class Signal(nn.Module):
    """Patches of one lead (or of all leads) through one linear map, with learned positions.

    Source:
        The input of Turgut et al. 2025, arXiv 2308.05764. Differs: learned positions.
    """

    class Settings(Config):
        """How a signal is cut."""

        patch: int = Field(default=100, ge=1)
        """Samples a patch: 0.2 s at 500 Hz."""
        joint_leads: bool = False
        """Patches span all leads: a twelfth of the tokens."""

    early: tuple[str, ...] = ("embed.", "positions")

    def __init__(self, shape: InputShape, settings: Settings, width: int, patch: int) -> None:  # noqa: ARG002  (as all entrances)
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


class AnyEncoder(nn.Module):
    """The tokens of any encoder of `ENCODERS`, through one linear map to the tower's width."""

    class Settings(Config):
        """Which encoder."""

        encoder: dict[str, Any]
        """``name`` in `ENCODERS`, and the settings of that encoder, which must give tokens."""

    early: tuple[str, ...] = ("encoder.",)

    def __init__(self, shape: InputShape, settings: Settings, width: int, patch: int) -> None:  # noqa: ARG002  (as all entrances)
        super().__init__()
        name, own = split_name(settings.encoder, "entrance 'encoder'")
        self.encoder = build_encoder(name, shape, own)
        facts = cast(Encoder, self.encoder)
        if facts.grid is None:
            raise ConfigError(
                f"the encoder '{name}' gives no tokens",
                where="entrance 'encoder'",
                mend="choose an encoder with patches, places or token numbers",
            )
        norms = nn.modules.batchnorm._BatchNorm
        if any(isinstance(module, norms) for module in self.encoder.modules()):
            raise ConfigError(
                f"the encoder '{name}' has batch norm, which a shared tower does not take",
                where="entrance 'encoder'",
                mend="choose group or layer norm: a batch may hold no row of the modality",
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


def build_entrance(
    shape: InputShape, settings: Mapping[str, Any], width: int, patch: int, where: str
) -> nn.Module:
    """Build an entrance by its ``name`` in `ENTRANCES`, or the one that suits the kind of input.

    Args:
        shape: What it reads.
        settings: ``name``, if wanted, and values of its ``Settings``.
        width: D of the tower.
        patch: Edge of a patch of the tower's size, for images.
        where: Place in the recipe, for the error.

    Raises:
        ConfigError: If the name, a key, a value or the shape cannot be used.
    """
    kind, given = _checked(shape.kind, settings, where)
    built: nn.Module = kind(shape, given, width, patch)
    return built


def check_entrance(input_kind: str, settings: Mapping[str, Any], where: str) -> None:
    """Check ``name`` and settings of an entrance, as far as no shape is needed.

    Args:
        input_kind: Kind of what it reads.
        settings: As for `build_entrance`.
        where: Its dotted key in the recipe, ``shared.entrances.ecg``, for the error.

    Raises:
        ConfigError: If the name, a key or a value cannot be used.
    """
    _, given = _checked(input_kind, settings, where)
    if isinstance(given, AnyEncoder.Settings):
        check_encoder(given.encoder, f"{where}.encoder")


def _checked(input_kind: str, settings: Mapping[str, Any], where: str) -> tuple[Any, Config]:
    own = dict(settings)
    usual = "encoder" if "encoder" in own else BY_KIND.get(input_kind)
    name = own.pop("name", usual)
    if name is None:
        raise ConfigError(
            f"a {input_kind} has no entrance of its own to a shared tower",
            where=where,
            mend="name an encoder whose tokens enter: encoder: {name: ...}",
        )
    kind = lookup("entrance", str(name), ENTRANCES, where=f"{where}.name")
    return kind, check(kind.Settings, own, where=where, error=ConfigError, under=where)


def real_tokens(encoded: Encoded) -> Tensor:
    """Give the tokens, (B, T, E); `ConfigError` if there are none."""
    if encoded.tokens is None:
        raise ConfigError(
            "the encoder gives no tokens",
            where="entrance 'encoder'",
            mend="choose an encoder with patches, places or token numbers",
        )
    return encoded.tokens


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


ENTRANCES: dict[str, Any] = {
    "patches": Patches,
    "table": Table,
    "signal": Signal,
    "encoder": AnyEncoder,
}
