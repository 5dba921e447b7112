"""The two values in flight, `Batch` and `Embeddings`: frozen, and checked at birth.

Shape letters used everywhere: B rows of a batch, T tokens, E token width, D shared dimension,
L leads, S time samples, C outputs of a task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from medmcl.core import host

if TYPE_CHECKING:
    import torch
    from torch import Tensor


GROUPS = "negatives/groups"
"""Target (B, 1) that numbers the group of each row, where negatives are of a row's own group."""
_GROUPS = ("inputs", "present", "targets", "known", "masks", "leads", "lengths")
"""Fields of a batch that hold a tensor of its rows under each name."""


def distill_target(modality: str, space: str) -> str:
    """Target under which stands what an earlier stage makes of a modality.

    Args:
        modality: Its name.
        space: ``features``, (B, E) or ``pooled``, (B, D).
    """
    return f"distill_target/{modality}/{space}"


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows of some modalities, each of which may be absent.

    Attributes:
        ids: Number of the sample in its cohort, (B,) int64.
        inputs: Modality to what its encoder reads, (B, ...). Absent rows hold zeros.
        present: Modality to (B,) bool. Absence is stated here and nowhere else.
        targets: Task to its target values, (B, C) float32; zeros where unknown.
        known: Task to (B, C) bool: which target values exist.
        masks: Modality to (B, T) bool; True = the token is hidden from the encoder.
        leads: Modality to (B, L) bool: which leads of its input are there; those that are not hold
            zeros. Of a modality that is not named, all are there.
        lengths: Modality to the places of each row before the padding at its end, (B,) int64, where
            rows may be cut there.
        hidden: Modality to how many tokens its mask hides in each row, where who drew it says so.
        known_here: Tensors of the batch that lie on a device, each with its values on the host.
        own: Rows of which embeddings of the batch are, where other ranks have the rest; None: all.
    """

    ids: Tensor
    inputs: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    known: Mapping[str, Tensor] = field(default_factory=dict)
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    leads: Mapping[str, Tensor] = field(default_factory=dict)
    lengths: Mapping[str, Tensor] = field(default_factory=dict)
    hidden: Mapping[str, int] = field(default_factory=dict)
    known_here: tuple[tuple[Tensor, np.ndarray], ...] = field(default=(), repr=False)
    own: slice | None = None

    def __post_init__(self) -> None:
        """Refuse unequal row counts and missing presence at birth."""
        import torch

        if self.ids.ndim != 1:
            raise ValueError(f"ids must have shape (B,), got {tuple(self.ids.shape)}")
        rows = len(self.ids)
        for group in _GROUPS:
            for name, tensor in getattr(self, group).items():
                if len(tensor) != rows:
                    raise ValueError(f"{group}[{name!r}] has {len(tensor)} rows, ids has {rows}")
        if set(self.inputs) != set(self.present):
            raise ValueError(
                f"inputs has {sorted(self.inputs)} but present has {sorted(self.present)}"
            )
        for name, flags in self.present.items():
            if flags.dtype != torch.bool or flags.ndim != 1:
                raise ValueError(f"present[{name!r}] must be (B,) bool")
        if set(self.targets) != set(self.known):
            raise ValueError("every target needs its 'known' mask, and the other way round")

    def __len__(self) -> int:
        return len(self.ids)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        groups: dict[str, Any] = {
            group: {name: change(x) for name, x in getattr(self, group).items()}
            for group in _GROUPS
        }
        return replace(self, ids=change(self.ids), known_here=(), own=None, **groups)

    def _facts(self) -> list[Tensor]:
        """What steps ask about: presence, leads, lengths, targets and which of them are known."""
        groups = (self.present, self.leads, self.lengths, self.targets, self.known)
        return [tensor for group in groups for tensor in group.values()]

    def __getitem__(self, rows: Tensor | slice) -> Batch:
        """Take rows by index, by a boolean mask, or from one to another (without a copy)."""
        taken = self._map(lambda tensor: tensor[rows])
        if not isinstance(rows, slice) or not self.known_here:
            return taken
        pairs = zip(self._facts(), taken._facts(), strict=True)
        return replace(taken, known_here=tuple((x, self.values(old)[rows]) for old, x in pairs))

    def to(self, device: torch.device | str) -> Batch:
        """Move every tensor to ``device``; the host goes on knowing what it knows of the facts."""
        moved = self._map(lambda tensor: tensor.to(device, non_blocking=True))
        if self.ids.device.type != "cpu" or moved.ids.device.type == "cpu":
            return moved
        pairs = zip(moved._facts(), self._facts(), strict=True)
        return replace(moved, known_here=tuple((x, host.read(here)) for x, here in pairs))

    @property
    def nbytes(self) -> int:
        """Bytes that its tensors hold."""
        groups = (getattr(self, group) for group in _GROUPS)
        return sum(x.nbytes for x in (self.ids, *chain(*(group.values() for group in groups))))

    def pinned(self) -> Batch:
        """Copy onto pages of the host that a GPU reads by itself, so that `to` waits for none."""
        return self._map(lambda tensor: tensor.pin_memory())

    def values(self, x: Tensor) -> np.ndarray:
        """Give the values of a tensor of the batch; read back only if the host does not know it."""
        for tensor, values in self.known_here:
            if tensor is x:
                return values
        return host.read(x)

    def have(self, *modalities: str) -> np.ndarray:
        """Tell which rows have every modality named, (B,) bool, on the host."""
        flags = [self.values(self.present[name]) for name in modalities]
        together: np.ndarray = np.logical_and.reduce(flags)
        return together

    def rows(self, *modalities: str) -> Tensor:
        """Give the numbers of the rows that have every modality named, ascending, (N,) int64."""
        return host.numbers(self.have(*modalities), self.ids.device)

    def both(self, a: str, b: str) -> Tensor:
        """Rows that have both modalities, (B,) bool."""
        return self.present[a] & self.present[b]

    def with_inputs(
        self, inputs: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None
    ) -> Batch:
        """The same rows with other inputs (and masks): what a view gives back."""
        if masks is None:
            return replace(self, inputs=inputs)
        return replace(self, inputs=inputs, masks=masks, hidden={})


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """What a model makes of a batch. Rows of absent modalities hold zeros.

    Attributes:
        batch: The batch that was encoded (a view of the loaded one).
        pooled: Modality to its point in the shared space, (B, D), unit norm.
        features: Modality to its representation before the projection head, (B, E).
        tokens: Modality to its tokens, (B, T, E); only the visible ones if the batch is masked.
        padding: Modality to (B, T) bool; True = the token is padding.
        stats: Side numbers that encoders report and objectives may charge for, (B, ...): sums over
            what a row is made of, so that they add up over rows, steps and ranks.
    """

    batch: Batch
    pooled: Mapping[str, Tensor] = field(default_factory=dict)
    features: Mapping[str, Tensor] = field(default_factory=dict)
    tokens: Mapping[str, Tensor] = field(default_factory=dict)
    padding: Mapping[str, Tensor] = field(default_factory=dict)
    stats: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse unequal row counts and wrong ranks at birth."""
        own = self.batch.own
        rows = len(self.batch) if own is None else own.stop - own.start
        for group, rank in (("pooled", 2), ("features", 2), ("tokens", 3), ("padding", 2)):
            for name, tensor in getattr(self, group).items():
                if tensor.ndim != rank or len(tensor) != rows:
                    raise ValueError(
                        f"{group}[{name!r}] must have {rank} axes and {rows} rows, "
                        f"got shape {tuple(tensor.shape)}"
                    )


@dataclass(frozen=True)
class Term:
    """One named part of a loss.

    Attributes:
        value: Scalar tensor, a mean over ``count`` rows; lower is better.
        count: Rows the mean is over. Across ranks, means are weighted by it.
        weight: Share of the term in its objective's loss; the same on every rank.
        chance: What it would be, over the same rows, of embeddings that tell nothing; detached.
            None where nobody knows. By this a run is seen to be wrecked.
    """

    value: Tensor
    count: int
    weight: float = 1.0
    chance: float | Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class InputShape:
    """What an encoder must know about its input: all an adapter tells it.

    Attributes:
        kind: The adapter's.
        shape: Shape of one row as the encoder sees it (after cropping), without the batch axis.
        vocabulary: Number of distinct tokens (text, codes).
        cardinalities: Number of levels of each categorical column (tabular).
        names: Names along the first axis: leads, frames, channels, columns or regions; of genetics,
            its variants.
        channels: Number of weights of an edge (graph).
        places: Chromosome and position of each variant, ``10:101955`` (genetics).
    """

    kind: str
    shape: tuple[int, ...]
    vocabulary: int = 0
    cardinalities: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    channels: int = 0
    places: tuple[str, ...] = ()

    @property
    def is_text(self) -> bool:
        """Whether a row is (tokens,) of a vocabulary."""
        return len(self.shape) == 1 and self.vocabulary > 0

    @property
    def is_signal(self) -> bool:
        """Whether a row is (leads, samples)."""
        return len(self.shape) == 2 and not (self.vocabulary or self.cardinalities or self.channels)
