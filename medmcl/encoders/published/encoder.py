"""A published model as an encoder of recipes: fine-tuned, frozen, or aligned with others.

``medmcl.encoders.published.encoder:NAME`` is that of the card ``NAME``.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from medmcl.core.batch import InputShape
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.encoders.encoded import LAYER, Encoded, EncoderModule, LayerDepths, unmaskable
from medmcl.encoders.published.card import Card
from medmcl.encoders.published.card_files import card_files
from medmcl.encoders.published.file import (
    ReadsByFile,
    build_net,
    fill,
    own_sizes,
    read_file,
    reads_of,
    told_by,
)
from medmcl.encoders.published.model import provenance_of, say_licence
from medmcl.encoders.published.settings import PublishedSettings, settings_of


class CardNet(EncoderModule):
    """A net as an encoder: windows of a record are encoded one by one, their mean stands for it.

    Args:
        net: The net of a card.
        card: The card.
        shape: Of what the modality's adapter prepares of a record.
        output: Name of what stands for a record.

    Raises:
        ConfigError: The net cannot take records of this shape, or gives no such output of them.
    """

    def __init__(self, net: nn.Module, card: Card, shape: InputShape, output: str) -> None:
        super().__init__()
        self.card, self.output, self.axes = card, output, len(card.input.shape)
        self.order = [place - self.axes for place in card.input.permute]
        self.width, tokens = self._try_out(net, shape)
        self.grid = None if tokens is None else (tokens,)
        self.net = net

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Encode what the card prepares, (B, ...) or (B, windows, ...)."""
        unmaskable(mask, self.card.name)
        rows, several = len(x), x.ndim > self.axes + 1
        windows = x.shape[1] if several else 1
        found: Mapping[str, Tensor] = self.net(self._in_order(x.flatten(0, 1) if several else x))
        features = found[self.output]
        tokens = found["tokens"] if self.grid is not None else None
        if several:
            features = features.reshape(rows, windows, self.width).mean(1)
            if tokens is not None:
                tokens = tokens.reshape(rows, windows * tokens.shape[1], self.width)
        return Encoded(features=features, tokens=tokens)

    def _in_order(self, x: Tensor) -> Tensor:
        return x.permute(0, *(x.ndim + place for place in self.order)) if self.order else x

    def _try_out(self, net: nn.Module, shape: InputShape) -> tuple[int, int | None]:
        """Width and tokens of what the net gives of a record, without computing it.

        Tokens of another width than the features are no tokens of theirs.
        """
        card, sizes, axes = self.card, shape.shape, self.axes
        fix = (
            f"leave the preparation to the card: inputs.NAME: {{}}, or kinds.{card.input.modality}."
            f"input: {{}} of a recipe for any cohort (see `medmcl models {card.name}`)"
        )
        as_prepared = axes > 1 or sizes[-axes:] == card.input.shape  # leads are no windows
        if (
            shape.kind != card.input.modality
            or len(sizes) not in (axes, axes + 1)
            or not as_prepared
        ):
            raise ConfigError(
                f"{card.title} reads records of another kind or shape",
                where=f"encoder '{card.name}'",
                got=f"{shape.kind} of shape {sizes}",
                expected=f"{card.input.modality} of shape {card.input.shape}",
                fix=fix,
            )
        with torch.no_grad():
            row = self._in_order(torch.zeros(1, *sizes[-axes:], device="meta"))
            try:
                given = copy.deepcopy(net).to("meta").eval()(row)
            except (RuntimeError, ValueError, AssertionError) as error:
                raise ConfigError(
                    f"{card.title} cannot take an input of this size",
                    where=f"encoder '{card.name}'",
                    got=f"{sizes}: {str(error).splitlines()[0][:160]}",
                    expected=card.input.shape,
                    fix=fix,
                ) from None
        found, tokens = given.get(self.output), given.get("tokens")
        if found is None or found.ndim != 2:
            raise ConfigError(
                "an encoder of a recipe gives one vector a record, and has no head of its file",
                where=f"encoder '{card.name}', output",
                got=f"{self.output}: {card.outputs[self.output]}",
                fix=f"leave out output: '{card.probe}' is what its authors probe",
            )
        width, windows = found.shape[1], sizes[0] if len(sizes) > axes else 1
        fits = tokens is not None and tokens.shape[-1] == width
        return width, windows * tokens.shape[1] if fits else None


class PublishedEncoder(CardNet):
    """The net of a card in a recipe.

    Its weights are read from a file when a stage begins to train it (`start_weights`), never when a
    finished run is opened.
    """

    Settings: ClassVar[type[PublishedSettings]]

    def __init__(self, shape: InputShape, settings: PublishedSettings) -> None:
        say_licence(settings.card)
        net = build_net(settings.card, settings.variant, settings.sizes)
        super().__init__(net, settings.card, shape, settings.output)
        self.leads = shape.names
        self.settings = settings
        self.provenance: Mapping[str, Any] = {}

    def start_weights(self) -> list[str]:
        """Take the weights of the file; see `medmcl.encoders.encoded.StartsFromFile`."""
        card, variant = self.settings.card, self.settings.variant
        if self.settings.weights is None:
            return [f"warning: {card.called(variant)} starts from first weights: no file is named"]
        file = read_file(card, self.settings.weights)
        _, told = told_by(card, variant, file, asked=True)
        own, said = (own_sizes(card, variant, one) for one in (told, self.settings.sizes))
        if own != said:
            raise ArtefactError(
                f"says sizes of itself that are not those of {card.called(variant)}",
                where=file.path,
                got=own,
                expected=said or "the card's",
                fix=f"say them in the recipe, that its runs know them: encoder: {{sizes: {own}}}",
            )
        warnings = self._told_to_prepare(reads_of(card, variant, file))
        fill(self.net, card, variant, file)
        self.provenance = provenance_of(card, variant, self.settings.preparation, file.sha256)
        line = f"{card.called(variant)} from {self.settings.weights} (sha256 {file.sha256[:12]})"
        return [line, *([] if card.warning is None else [f"warning: {card.warning}"]), *warnings]

    def _told_to_prepare(self, reads: Mapping[str, Any]) -> list[str]:
        """Refuse other leads than a file reads; give what else it says of its preparation.

        Raises:
            ArtefactError: The leads of the recipe stand in another order.
        """
        if not reads or not isinstance(self.net, ReadsByFile):
            return []
        usual = self.settings.inputs()
        wanted = self.net.prepared_as(usual, reads)
        other = {key: one for key, one in wanted.items() if one != usual.get(key)}
        if "leads" in other and self.leads != tuple(wanted["leads"]):
            raise ArtefactError(
                "says that it reads its leads in another order than the recipe gives them",
                where=self.settings.weights,
                got=", ".join(self.leads) or "windows, whose leads have no names",
                expected=", ".join(wanted["leads"]),
                fix=f"say inputs.NAME: {other}",
            )
        return [f"warning: the file says of its preparation, inputs.NAME: {other}"]

    def layer_depths(self) -> dict[str, int]:
        """Parameter to its layer: what stands before the blocks is 0, block i is i + 1."""
        if isinstance(self.net, LayerDepths):
            return {f"net.{name}": depth for name, depth in self.net.layer_depths().items()}
        names = [name for name, _ in self.net.named_parameters()]
        found = {name: int(seen[1]) for name in names if (seen := LAYER.search(name))}
        first = min(found.values(), default=0)
        last = max(found.values(), default=0) - first + 2
        depths, begun = {}, False
        for name in names:
            begun = begun or name in found
            depths[f"net.{name}"] = (
                found[name] - first + 1 if name in found else last if begun else 0
            )
        return depths


@cache
def encoder_of(name: str) -> type[PublishedEncoder]:
    """Give the encoder of a card by its name."""
    own: dict[str, Any] = {"Settings": settings_of(name), "__doc__": settings_of(name).__doc__}
    return type(f"Published_{name}", (PublishedEncoder,), own)


def __getattr__(name: str) -> type[PublishedEncoder]:
    if name.startswith("_") or name not in card_files():
        raise AttributeError(f"there is no card '{name}'")
    return encoder_of(name)
