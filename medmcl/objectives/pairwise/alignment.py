"""Alignment: two modalities of one subject, or two views of one record, are drawn together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from medmcl.core.batch import Batch, Embeddings, Term
from medmcl.core.config import lookup
from medmcl.core.contracts import ModelShape, PairGraph
from medmcl.core.errors import ConfigError
from medmcl.objectives.pairs.learned_pairs import LearnedPairs
from medmcl.objectives.pairs.pairs import pair_graph
from medmcl.objectives.pairwise.contrastive import (
    LogitScale,
    info_nce,
    info_nce_chance,
    nt_xent,
    sigmoid_chance,
    sigmoid_loss,
    with_groups,
)
from medmcl.objectives.pairwise.tiles import is_in_ring, some_in_ring
from medmcl.objectives.settings import CrossModalSettings, InModalSettings, Learned


class CrossModal(nn.Module):
    """Charges for every pair of modalities over the rows that have both.

    A pair with fewer than ``min_rows`` such rows is left out. The loss is the mean over the pairs
    that remain, weighted by the pair graph. With one pair it is CLIP's, with a star ImageBind's.
    It sees what any two modalities share, and nothing that shows only in three of them together.

    Source:
        Radford et al. 2021, arXiv 2103.00020; for ECG and CMR: Turgut et al. 2025,
        arXiv 2308.05764. Differs: any number of modalities, each of which may be absent; negatives
        come from all ranks.
    """

    Settings = CrossModalSettings

    across_ranks: Literal["gather", "stream", "rows"] = "stream"
    gathers: tuple[str, ...] = ("pooled",)
    takes_groups: ClassVar[bool] = True

    def __init__(self, settings: CrossModalSettings, shape: ModelShape) -> None:
        super().__init__()
        self.settings = settings
        learned = isinstance(settings.pairs, Learned)
        graph: PairGraph = (
            LearnedPairs(settings.pairs, tuple(shape.inputs))
            if isinstance(settings.pairs, Learned)
            else pair_graph(settings.pairs, tuple(shape.inputs))
        )
        self.graph = graph
        self.min_rows = settings.min_rows or (8 if learned else 2)
        self.views: tuple[str, ...] = (settings.view,)
        self.terms: tuple[str, ...] = tuple(f"cross_modal/{a}~{b}" for a, b in graph.possible)
        if settings.scale_per_pair:
            own = {f"{a}~{b}": LogitScale(settings.scale) for a, b in graph.possible}
            self.scales = nn.ModuleDict(own)
        else:
            self.scale = LogitScale(settings.scale)
        if settings.loss == "siglip":
            self.bias = nn.Parameter(
                torch.tensor([settings.bias], device="cpu"), requires_grad=settings.scale.learned
            )

    def forward(self, seen: Mapping[str, Embeddings], batch: Batch) -> dict[str, Term]:
        """Give a term for each pair with enough rows."""
        embeddings = seen[self.settings.view]
        shared = None if self.settings.scale_per_pair else self.scale()
        charged: dict[str, tuple[Term, float]] = {}
        for (a, b), weight in self.graph(embeddings, batch).items():
            for name in (a, b):
                require_pooled(embeddings, name, self.settings.view)
            rows, groups = with_groups(embeddings.batch, embeddings.batch.have(a, b))
            if len(rows) >= self.min_rows:
                scale = self.scales[f"{a}~{b}"]() if shared is None else shared
                with compared(embeddings.batch, rows, groups) as (mine, own_groups):
                    first, second = (_of_rows(embeddings.pooled[name], mine) for name in (a, b))
                    value = self._compare(first, second, scale, own_groups)
                known = sigmoid_chance if self.settings.loss == "siglip" else info_nce_chance
                term = Term(value, len(rows), chance=known(len(rows), groups))
                charged[f"cross_modal/{a}~{b}"] = (term, weight)
        total = sum(weight for _, weight in charged.values())
        return {n: replace(term, weight=weight / total) for n, (term, weight) in charged.items()}

    def scale_of(self, pair: tuple[str, str]) -> LogitScale | None:
        """The scale that a pair, in either order, is compared at; None if it is not aligned."""
        for a, b in self.graph.possible:
            if {a, b} == set(pair):
                return self.scales[f"{a}~{b}"] if self.settings.scale_per_pair else self.scale  # type: ignore[return-value]  # LogitScale
        return None

    def _compare(self, a: Tensor, b: Tensor, scale: Tensor, groups: Tensor | None) -> Tensor:
        if self.settings.loss == "siglip":
            return sigmoid_loss(a, b, scale, self.bias, groups=groups)
        return info_nce(a, b, scale, self.settings.weight, groups=groups)


@contextmanager
def compared(
    batch: Batch, rows: np.ndarray, groups: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Let losses inside be over some rows; give those whose embeddings are here, as numbered here.

    Args:
        batch: Of all rows, of which this rank may have some only.
        rows: Rows of the batch, (N,) int64, ascending, on the host.
        groups: Group of each, (N,).

    Yields:
        Both where the batch is, which is not waited for.
    """
    own = batch.own or slice(0, len(batch))
    here = slice(*np.searchsorted(rows, (own.start, own.stop)).tolist())
    mine = torch.from_numpy(rows[here] - own.start).to(batch.ids.device, non_blocking=True)
    with some_in_ring(rows) if is_in_ring() else nullcontext():
        yield mine, None if groups is None else groups[here]


def _of_rows(x: Tensor, rows: Tensor) -> Tensor:
    """Give some rows, no copy of them where they are all (rows are in order, each once)."""
    return x if len(rows) == len(x) else x[rows]


def require_pooled(embeddings: Embeddings, modality: str, view: str) -> None:
    """Raise `ConfigError` if ``view`` gives no point in the shared space for ``modality``."""
    if modality not in embeddings.pooled:
        raise ConfigError(
            f"the view '{view}' does not show '{modality}'",
            expected=", ".join(embeddings.pooled) or "a view with pooled embeddings",
            fix=f"add '{modality}' to views.{view}.modalities",
        )


class InModal(nn.Module):
    """Charges for two views of one modality over the rows that have it (SimCLR).

    Source:
        Chen et al. 2020, eq. (1), arXiv 2002.05709. Differs: ``negatives: cross`` leaves out the
        negatives within a view, as the in-modal term of Bansal et al. 2023 (CleanCLIP,
        arXiv 2303.03323) does; negatives come from all ranks.
    """

    Settings = InModalSettings

    across_ranks: Literal["gather", "stream", "rows"] = "stream"
    gathers: tuple[str, ...] = ("pooled",)
    takes_groups: ClassVar[bool] = True

    def __init__(self, settings: InModalSettings, shape: ModelShape) -> None:
        super().__init__()
        lookup("modality", settings.modality, shape.inputs)
        if settings.views[0] == settings.views[1]:
            raise ConfigError("in_modal needs two different views", got=settings.views[0])
        if settings.negatives == "all" and settings.weight != 0.5:
            raise ConfigError(
                "in_modal: with negatives of both views the loss has no directions to weigh",
                got=f"weight: {settings.weight:g}, negatives: all",
                fix="set negatives: cross, or leave weight out",
            )
        self.settings = settings
        self.views: tuple[str, ...] = settings.views
        self.terms: tuple[str, ...] = (f"in_modal/{settings.modality}",)
        self.scale = LogitScale(settings.scale)

    def forward(self, seen: Mapping[str, Embeddings], _: Batch) -> dict[str, Term]:
        """Give one term, or none with fewer than two rows."""
        name = self.settings.modality
        first, second = (seen[view] for view in self.settings.views)
        for view in self.settings.views:
            require_pooled(seen[view], name, view)
        shown = [one.batch.values(one.batch.present[name]) for one in (first, second)]
        rows, groups = with_groups(first.batch, shown[0] & shown[1])
        if len(rows) < 2:
            return {}
        with compared(first.batch, rows, groups) as (mine, own_groups):
            a, b = (_of_rows(one.pooled[name], mine) for one in (first, second))
            if self.settings.negatives == "all":
                value = nt_xent(a, b, self.scale(), groups=own_groups)
            else:
                value = info_nce(a, b, self.scale(), self.settings.weight, groups=own_groups)
        views = 2 if self.settings.negatives == "all" else 1
        return {
            self.terms[0]: Term(value, len(rows), chance=info_nce_chance(len(rows), groups, views))
        }
