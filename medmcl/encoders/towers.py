"""Towers: for each modality an encoder and a projection head; together they are the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medmcl.core.batch import Batch, Embeddings, InputShape
from medmcl.core.config import check, lookup
from medmcl.core.contracts import ModelShape
from medmcl.core.errors import ConfigError, MedmclError
from medmcl.core.layers import widen
from medmcl.core.targets import Targets
from medmcl.encoders.build import build_encoder, split_name
from medmcl.encoders.by_length import encode_by_length
from medmcl.encoders.encoded import Encoded, Encoder, TakesCutRows, hiding, layer_depth, num_layers
from medmcl.encoders.low_rank import low_rank
from medmcl.encoders.settings import HeadSettings, LoRASettings, TowerSettings
from medmcl.encoders.synchronised import (
    live_norms,
    norms_as_learned,
    nothing_of,
    rows_of_all_ranks,
    without_rows,
)
from medmcl.encoders.tower_threads import TowerThreads


class Head(nn.Module):
    """Linear layers, an activation between them, and no norm unless asked for.

    Source:
        Turgut et al. 2025, arXiv 2308.05764 (code). Differs: none.
    """

    def __init__(self, width: int, settings: HeadSettings) -> None:
        super().__init__()
        self.width, self.activation = settings.out, settings.activation
        layers: list[nn.Module] = []
        norms = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d}
        for _ in range(settings.layers - 1):
            layers.append(nn.Linear(width, settings.hidden, bias=settings.bias))
            if settings.norm != "none":
                layers.append(norms[settings.norm](settings.hidden))
            layers.append(nn.GELU() if settings.activation == "gelu" else nn.ReLU())
            width = settings.hidden
        layers.append(nn.Linear(width, settings.out, bias=settings.bias))
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Project (N, E) to (N, D)."""
        projected: Tensor = self.layers(features)
        return projected


EPSILON = 1e-6
"""A projection shorter than this is not stretched to unit length."""


class Tower(nn.Module):
    """An encoder and a projection head of one modality.

    Args:
        encoder: Keeps `medmcl.encoders.encoded.Encoder`.
        head: From E to D; None leaves the features as they are.
        shape: Shape of a row, without the batch axis.
        frozen: What is not trained: nothing, ``encoder``, or (True) everything.
        lora: Adapters that are trained in the place of the encoder's weights.
        trainable_layers: Layers of the encoder that are trained, the last ones; None: all.

    Raises:
        ConfigError: The encoder has no layers to adapt, or fewer layers.
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: Head | None,
        shape: tuple[int, ...],
        frozen: bool | Literal["encoder"] = False,
        lora: LoRASettings | None = None,
        trainable_layers: int | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.shape = shape
        self.frozen = frozen
        self.lora = None if lora is None else low_rank(encoder, lora)
        self.kept_parts: list[nn.Module] = []
        if trainable_layers is not None:
            self.kept_parts = freeze_early(encoder, trainable_layers)
        for part in self._frozen_parts():
            part.requires_grad_(False)
        self.train(self.training)

    @property
    def facts(self) -> Encoder:
        """The encoder, typed: width, num_tokens, patch, grid."""
        return cast(Encoder, self.encoder)

    def refuse_other(self, x: Tensor, modality: str) -> None:
        """Raise `MedmclError` if rows (B, ...) are not of the shape it was built for."""
        if tuple(x.shape[1:]) != self.shape:
            raise MedmclError(
                "an input does not have the shape its tower was built for",
                where=f"modality {modality}",
                got=tuple(x.shape[1:]),
                expected=self.shape,
            )

    def _frozen_parts(self) -> list[nn.Module]:
        if self.frozen is True:
            return [self]
        return [self.encoder] if self.frozen or self.lora is not None else self.kept_parts

    def train(self, mode: bool = True) -> Tower:
        """Set training mode; frozen parts stay in evaluation mode, statistics and all."""
        super().train(mode)
        for part in self._frozen_parts():
            keep_evaluating(part)
        return self

    @property
    def takes_cut_rows(self) -> bool:
        """Whether padding at the end of all rows of a batch may be left out."""
        return isinstance(self.encoder, TakesCutRows) and self.encoder.takes_cut_rows

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        lengths: np.ndarray | None = None,
        groups: int = 1,
    ) -> tuple[Encoded, Tensor]:
        """Give what the encoder makes of ``x`` (B, ...), and unit points (B, D) in float32.

        With ``lengths`` (B,) padding is left out where the encoder takes cut rows, by ``groups``.
        """
        if lengths is None or mask is not None or not self.takes_cut_rows:
            encoded = self.facts(x, mask)
        else:
            encoded = encode_by_length(self.facts, x, lengths, groups)
        return encoded, self.project(encoded.features)

    def project(self, features: Tensor) -> Tensor:
        """Project features (N, E) to unit points (N, D), float32 even under autocast."""
        projected = features if self.head is None else self.head(features)
        return functional.normalize(widen(projected), dim=-1, eps=EPSILON)


class Alone(nn.Module):
    """Encoder input (B, ...) to vectors (B, width) in float32, as `Run.embed` gives them.

    Args:
        tower: The tower.
        space: ``features`` or ``pooled``.
    """

    def __init__(self, tower: Tower, space: str) -> None:
        super().__init__()
        self.encoder = tower.encoder
        self.tower = tower if space == "pooled" else None

    def forward(self, x: Tensor) -> Tensor:
        """Encode."""
        features: Tensor = self.encoder(x).features
        return widen(features) if self.tower is None else self.tower.project(features)


class Towers(nn.Module):
    """The model: every modality that has a tower and is in the batch is encoded.

    Only present rows are encoded. What stands in absent rows has no influence on any output or
    gradient, bit for bit. If no row is present, one row of zeros is encoded in evaluation mode and
    its outcome thrown away, so that all parameters take part in every step of every process. One
    row alone passes batch norms with their running statistics, and leaves them as they are. Where
    other processes have rows and batch norm is synchronised, no rows at all are encoded as well, in
    training mode, so that no process waits for this one.

    Attributes:
        length_groups: Groups of rows of like length that a batch which says how long its rows are
            is encoded in, each cut to its longest.
        threads: What encodes several towers at the same time; None: one after another.
    """

    length_groups: int = 1
    threads: TowerThreads | None = None

    def __init__(self, towers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.towers = nn.ModuleDict()
        for name, tower in towers.items():
            if "." in name or hasattr(self.towers, name):
                raise ConfigError(
                    "a modality cannot have this name", got=name, fix="rename it in cohort.yaml"
                )
            self.towers[name] = tower

    @classmethod
    def build(
        cls,
        inputs: Mapping[str, InputShape],
        settings: Mapping[str, TowerSettings | Mapping[str, Any]],
    ) -> Towers:
        """Build a tower for each modality of ``settings``, in that order.

        Args:
            inputs: Modality to the shape of its input.
            settings: Modality to its tower, checked or as plain values.

        Raises:
            ConfigError: Names the modality and the field.
        """
        built = {}
        for name, given in settings.items():
            shape = lookup("modality", name, inputs)
            where = f"towers.{name}"
            if not isinstance(given, TowerSettings):
                given = check(TowerSettings, given, where, ConfigError, under=where)
            kind, own = split_name(given.encoder, f"{where}.encoder")
            encoder = build_encoder(kind, shape, own, where=f"{where}.encoder")
            width = cast(Encoder, encoder).width
            head = None if given.head is None else Head(width, given.head)
            built[name] = Tower(
                encoder, head, shape.shape, given.frozen, given.lora, given.trainable_layers
            )
        return cls(built)

    def tower(self, modality: str) -> Tower:
        """The tower of a modality; `ConfigError` if there is none."""
        return cast(Tower, lookup("tower", modality, dict(self.towers.items())))

    def alone(self, modality: str, space: str) -> nn.Module:
        """What encodes one modality, with none of the others: see `Alone`."""
        return Alone(self.tower(modality), space)

    def shape(
        self, inputs: Mapping[str, InputShape], tasks: Mapping[str, Targets] | None = None
    ) -> ModelShape:
        """Give what objectives must know of the model."""
        facts = {name: self.tower(name).facts for name in self.towers}
        return ModelShape(
            inputs={name: inputs[name] for name in facts},
            widths={name: encoder.width for name, encoder in facts.items()},
            num_tokens={name: e.num_tokens for name, e in facts.items() if e.num_tokens},
            patch={name: e.patch for name, e in facts.items() if e.patch},
            tasks=dict(tasks or {}),
            experts=self.experts,
        )

    @property
    def experts(self) -> int:
        """Experts of a router; 0: it has no routers."""
        return 0

    def depths(self) -> dict[str, tuple[int, int]]:
        """Give (its layer, layers of its tower) of each encoder parameter, by name."""
        found: dict[str, tuple[int, int]] = {}
        for name in self.towers:
            encoder = self.tower(name).encoder
            last = num_layers(encoder)
            for parameter, layer in layer_depth(encoder).items():
                found[f"towers.{name}.encoder.{parameter}"] = (layer, last)
        return found

    def forward(self, batch: Batch) -> Embeddings:
        """Encode the modalities of a batch that have a tower."""
        shown = [name for name in self.towers if name in batch.inputs]
        works = {name: partial(self._encode, name, batch) for name in shown}
        if self.threads is None or len(shown) == 1:
            return Embeddings(batch=batch, **by_field((n, work()) for n, work in works.items()))
        whole = all(len(batch.rows(name)) for name in shown)
        encoded = self.threads.encode(works, trains=self.training, whole=whole)
        return Embeddings(batch=batch, **by_field(encoded.items()))

    def _encode(self, name: str, batch: Batch) -> dict[str, Tensor]:
        """Encode the present rows of one modality, and spread them over the batch."""
        tower, x, mask = self.tower(name), batch.inputs[name], batch.masks.get(name)
        tower.refuse_other(x, name)
        rows = batch.rows(name)
        norms = live_norms(tower)
        everywhere = rows_of_all_ranks(len(rows), norms[0], x.device) if norms else len(rows)
        elsewhere = everywhere > 1
        joined = None
        if len(rows):
            seen, hidden = taken(batch, name, rows)
            with norms_as_learned(tower) if everywhere == 1 else nullcontext():
                lengths = self._lengths(name, batch) if name in batch.lengths else None
                encoded, pooled = tower(seen, hidden, lengths, self.length_groups)
        else:
            # What joins the others moves the statistics that a graph of this row would hold on to.
            with (
                evaluating(tower),
                torch.set_grad_enabled(torch.is_grad_enabled() and not elsewhere),
            ):
                hidden = None if mask is None else first_row(mask)
                encoded, pooled = tower(x.new_zeros((1, *x.shape[1:])), hidden)
            if elsewhere:
                joined = _join(tower, x)
        spread = {"pooled": pooled, "features": widen(encoded.features), "tokens": encoded.tokens}
        outcome = {
            field: _spread(value, rows, len(x), joined)
            for field, value in spread.items()
            if value is not None
        }
        if encoded.padding is not None:
            padding = encoded.padding.new_ones((len(x), encoded.padding.shape[1]))
            if len(rows):
                padding[rows] = encoded.padding
            outcome["padding"] = padding
        return outcome

    def _lengths(self, name: str, batch: Batch) -> np.ndarray:
        """How long the present rows of a modality are, where the batch says."""
        lengths, present = (batch.values(x[name]) for x in (batch.lengths, batch.present))
        return lengths[present]

    def project_tokens(self, modality: str, tokens: Tensor) -> Tensor:
        """Project tokens (B, T, E) one by one into the shared space: unit points (B, T, D)."""
        points = self.tower(modality).project(tokens.flatten(0, 1))
        return points.reshape(*tokens.shape[:2], -1)


def taken(batch: Batch, name: str, rows: Tensor) -> tuple[Tensor, Tensor | None]:
    """Give some rows of a modality, and what is hidden of them."""
    x, mask = batch.inputs[name].index_select(0, rows), batch.masks.get(name)
    if mask is None:
        return x, None
    return x, hiding(mask.index_select(0, rows), batch.hidden.get(name))


def by_field(
    encoded: Iterable[tuple[str, Mapping[str, Tensor]]],
) -> dict[str, dict[str, Tensor]]:
    """Give what was made of each modality as `Embeddings` has it: a field of all at a time."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, fields in encoded:
        for field, value in fields.items():
            parts.setdefault(field, {})[name] = value
    return parts


def _spread(part: Tensor, rows: Tensor, size: int, joined: Tensor | None) -> Tensor:
    """Put encoded rows at their places among zeros; without any, throw the one row away."""
    if len(rows):
        return part.new_zeros((size, *part.shape[1:])).index_copy(0, rows, part)
    nothing = torch.zeros((), dtype=torch.bool, device=part.device)
    empty = torch.where(nothing, part, 0.0).expand(size, *part.shape[1:])
    return empty if joined is None else empty + joined


def _join(tower: Tower, x: Tensor) -> Tensor:
    """Take part in the batch norms of other ranks without a row; a zero that keeps the graph."""
    with without_rows(x.device):
        encoded, pooled = tower(x.new_zeros((0, *x.shape[1:])))
    return nothing_of(pooled, encoded.features, encoded.tokens)


def freeze_early(encoder: nn.Module, layers: int) -> list[nn.Module]:
    """Keep the weights of all but the last layers of an encoder; what follows them is trained.

    Returns:
        Its parts that are frozen whole: their batch statistics stay as well.

    Raises:
        ConfigError: It has fewer layers.
    """
    depths, top = layer_depth(encoder), num_layers(encoder)
    if layers >= top:
        raise ConfigError(
            "the encoder has fewer layers than are to be trained",
            where="trainable_layers",
            got=layers,
            expected=f"at most {top - 1}",
            fix="leave it out to train the whole encoder",
        )
    for name, parameter in encoder.named_parameters():
        if depths[name] < top - layers:
            parameter.requires_grad_(False)
    return [
        part
        for part in encoder.modules()
        if (own := list(part.parameters())) and not any(one.requires_grad for one in own)
    ]


def keep_evaluating(module: nn.Module) -> None:
    """Put a frozen module into evaluation mode, all its parts with it."""
    for part in module.modules():
        part.training = False


def first_row(mask: Tensor) -> Tensor:
    """Give a mask of one row, (1, T): the first, or nothing hidden where there is none."""
    return mask[:1] if len(mask) else mask.new_zeros((1, mask.shape[1]))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Keep a pass from changing batch statistics; then restore every mode as it was."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
