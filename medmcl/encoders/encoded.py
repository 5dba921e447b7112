"""What an encoder gives, what it must offer, in which layer its parameters lie, how tokens hide."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from medmcl.core import host
from medmcl.core.batch import InputShape
from medmcl.core.errors import ConfigError, MedmclError


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """One modality, encoded.

    Attributes:
        features: Representation of each row, (B, E).
        tokens: Tokens, (B, T, E); under a mask only the visible ones, in token order.
        padding: (B, T) bool; True = the token is padding.
    """

    features: Tensor
    tokens: Tensor | None = None
    padding: Tensor | None = None


@runtime_checkable
class Encoder(Protocol):
    """An `nn.Module` with a nested ``Settings``, built from (`InputShape`, settings).

    ``tokens`` pass through the same last layers as ``features``: a projection head that fits one
    fits the other, so each token has a place in the shared space.

    Its layers are in ``blocks``, an `nn.ModuleList`, where learning rates are to fall towards the
    input; one that lays them out otherwise keeps `LayerDepths`. Without either it is one layer.
    What it may keep besides: `TakesVectors`, `ResizesWeights`, `ReadsPixels`, `TakesCutRows`.

    Attributes:
        width: E, of features and tokens alike.
        num_tokens: T where tokens may be hidden; None where they may not.
        patch: Samples a token spans, where a (lead, time) signal is cut.
        grid: How tokens lie: (leads, time), (rows, columns), (depth, rows, columns), (time,).
        early: Prefixes of the names of parameters that lie before the blocks.
    """

    width: int
    num_tokens: int | None
    patch: int | None
    grid: tuple[int, ...] | None
    early: tuple[str, ...]

    def __call__(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Encode ``x`` (B, ...); ``mask`` (B, T) bool, True = hidden, alike many in every row."""


class EncoderModule(nn.Module):
    """What an `Encoder` has where it says nothing else: no tokens to hide, no patches, no grid."""

    num_tokens: int | None = None
    patch: int | None = None
    grid: tuple[int, ...] | None = None
    early: tuple[str, ...] = ()
    pretrained: bool = False
    """Whether it was built with weights that others have trained."""


@runtime_checkable
class LayerDepths(Protocol):
    """What an encoder adds whose layers are not in ``blocks``."""

    def layer_depths(self) -> dict[str, int]:
        """Give the layer of each parameter by its name: 0 = next to the input."""


@runtime_checkable
class TakesVectors(Protocol):
    """What an encoder of codes adds whose embeddings may start from vectors made elsewhere."""

    def take_vectors(self, table: Tensor) -> None:
        """Start from vectors (V, R), row i of code i; `ConfigError` if they do not fit."""


@runtime_checkable
class ResizesWeights(Protocol):
    """What an encoder adds that fits weights of a file to the size of its input in its own way.

    Of another encoder ``positions`` are brought to its ``grid``.
    """

    def resized(self, name: str, value: Tensor) -> Tensor:
        """Give ``value`` as the parameter ``name`` can take it, or as it is."""


@runtime_checkable
class StartsFromFile(Protocol):
    """What an encoder adds whose settings name a file of weights.

    It is read when a stage begins to train it; a finished run is opened without.

    Attributes:
        settings: Its settings; where they keep `KnowsInputs`, another preparation is told.
        provenance: Whose weights it started from, once they are read.
    """

    settings: Any
    provenance: Mapping[str, Any]

    def start_weights(self) -> list[str]:
        """Take the weights of the file; give what is to be said of it.

        Raises:
            ArtefactError: The file cannot be read, or does not fit.
        """


@runtime_checkable
class ReadsPixels(Protocol):
    """What an encoder of images adds whose published weights read pixels normalised in one way."""

    def trained_pixels(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and deviation of each channel that were taken out; None if not known."""


@runtime_checkable
class TakesCutRows(Protocol):
    """What an encoder adds that gives the same of a batch without the padding that ends every row.

    Attributes:
        takes_cut_rows: True: it does.
    """

    takes_cut_rows: bool


def require_axes(shape: InputShape, axes: tuple[str, ...], encoder: str) -> tuple[int, ...]:
    """Give the shape of an input, or refuse one whose axes the encoder cannot read."""
    if len(shape.shape) != len(axes):
        raise ConfigError(
            f"the encoder '{encoder}' cannot read this {shape.kind}",
            got=f"shape {shape.shape}",
            expected=f"({', '.join(axes)})",
            fix="choose an encoder that fits, or change how the modality is prepared",
        )
    return shape.shape


def require_words(shape: InputShape, reader: str, what: str = "encoder") -> int:
    """Give the tokens of a text, or refuse an input that is not of token numbers."""
    (length,) = require_axes(shape, ("tokens",), reader)
    if shape.vocabulary < 1:
        raise ConfigError(
            f"the {what} '{reader}' needs token numbers",
            got=f"{shape.kind} without a vocabulary",
        )
    return length


def try_out(network: Callable[[Tensor], Tensor], axes: tuple[int, ...], encoder: str) -> Tensor:
    """Give what a network makes of one row of zeros, or say that the input does not suit it."""
    try:
        return network(torch.zeros(1, *axes, device="cpu"))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ConfigError(
            "the network cannot take an input of this size",
            where=f"encoder '{encoder}'",
            got=f"shape {axes}: {str(error).splitlines()[0][:120]}",
            fix="prepare larger images or more slices, or choose a shallower network",
        ) from None


def hiding(mask: Tensor, tokens: int | None) -> Tensor:
    """Note on a mask how many tokens each row hides, so that `visible_order` asks no GPU."""
    setattr(mask, _HIDDEN, tokens)
    return mask


def visible_order(mask: Tensor) -> Tensor:
    """Give the places of the tokens that are not hidden, (B, V) int64, ascending in each row.

    Args:
        mask: (B, T) bool, True = hidden; every row must hide the same number, and not all.

    Raises:
        MedmclError: Nothing is left of the rows.
    """
    known = None if mask.device.type == "cpu" else getattr(mask, _HIDDEN, None)
    if known is None:
        hidden = mask.sum(1)
        least, most = host.read(torch.stack([hidden.min(), hidden.max()])).tolist()
    else:
        least = most = known
    if least != most:
        raise ValueError(f"every row must hide the same number of tokens, got {least} to {most}")
    if most == mask.shape[1]:
        raise MedmclError(
            "a mask hides every token: nothing is left to encode",
            got=f"{int(most)} of {mask.shape[1]} tokens hidden in each of {len(mask)} rows",
            fix="hide fewer tokens, or state the modality absent in those rows",
        )
    order = mask.to(torch.uint8).argsort(dim=1, stable=True)
    return order[:, : mask.shape[1] - int(most)]


def take_tokens(tokens: Tensor, order: Tensor) -> Tensor:
    """Give the tokens (B, V, ...) at the places ``order`` (B, V) of ``tokens`` (B, T, ...)."""
    places = order.reshape(*order.shape, *[1] * (tokens.ndim - 2))
    return tokens.gather(1, places.expand(*order.shape, *tokens.shape[2:]))


def unmaskable(mask: Tensor | None, encoder: str) -> None:
    """Refuse a mask for an encoder whose tokens cannot be hidden."""
    if mask is not None:
        raise ConfigError(
            f"tokens of the encoder '{encoder}' cannot be hidden",
            fix="leave the modality out of the view's `mask`, or use an encoder with patches",
        )


_HIDDEN = "hidden_tokens"
BLOCK = re.compile(r"^blocks\.(\d+)\.")


def layer_depth(encoder: nn.Module) -> dict[str, int]:
    """Give the layer of each parameter of an encoder, by its name.

    The embedding is 0, block i is i + 1, what comes after the blocks is their number + 1.
    """
    if isinstance(encoder, LayerDepths):
        return encoder.layer_depths()
    return block_depths(encoder, cast(Encoder, encoder).early)


def num_layers(encoder: nn.Module) -> int:
    """Give the layer that a head on the encoder would have: its rate is not decayed.

    A final norm shares that layer, as in Bao et al. 2022 (BEiT) and in Turgut et al. 2025.
    """
    depths = layer_depth(encoder)
    top = max(depths.values(), default=0)
    after = {depth for name, depth in depths.items() if not _is_block(name)}
    return top if top > 0 and top in after else top + 1


def block_depths(encoder: nn.Module, early: tuple[str, ...]) -> dict[str, int]:
    """Depths of a module whose layers are ``blocks``; ``early`` are the prefixes of layer 0.

    Without blocks it is one layer.
    """
    names = [name for name, _ in encoder.named_parameters()]
    layers = {name: int(found[1]) + 1 for name in names if (found := BLOCK.match(name))}
    last = max(layers.values(), default=0) + 1
    return {name: layers.get(name, 0 if name.startswith(early) else last) for name in names}


LAYER = re.compile(r"(?:^|\.)(?:blocks?|layers?|stage_list)\.?(\d+)\.")
"""How published nets number their layers."""


def _is_block(name: str) -> bool:
    own = name.startswith(("blocks.", "model.", "layers."))
    return own or (name.startswith("net.") and LAYER.search(name) is not None)
