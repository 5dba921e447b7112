"""Variants to genes to pathways: a network whose wiring is what is known of biology."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medmcl.core.batch import InputShape
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.encoders.encoded import Encoded, EncoderModule, require_axes, unmaskable
from medmcl.encoders.genetics.gene_maps import Links, link_genes, link_pathways, link_variants
from medmcl.encoders.settings import SNPPathwaySettings

_AT_ONCE = 2**22
"""Products of a gradient that are held at once."""


class MaskedLinear(nn.Module):
    """y = (M * W) x + b, where M says which units are linked; only the weights of links are kept.

    With ``channels`` c each unit on the right has c numbers. If units on the left have c numbers
    too (``is_deep``), channel k of the right reads channel k of the left.

    Args:
        pairs: Linked (left, right) units, each once. (E, 2) int64
        left: Number of units on the left.
        right: Number of units on the right.
        channels: c.
        is_deep: Whether the left has c numbers a unit.
    """

    def __init__(
        self, pairs: Tensor, left: int, right: int, channels: int = 1, *, is_deep: bool = False
    ) -> None:
        super().__init__()
        channel = torch.arange(channels, device="cpu")
        source = pairs[:, :1].expand(-1, channels)
        if is_deep:
            source = source * channels + channel
        target = pairs[:, 1:] * channels + channel
        index = torch.stack([target.reshape(-1), source.reshape(-1)])
        order = (index[0] * (left * channels) + index[1]).argsort()
        self.index: Tensor
        self.register_buffer("index", index[:, order].contiguous())
        self.size = (right * channels, left * channels if is_deep else left)
        links = torch.bincount(index[0], minlength=self.size[0])[self.index[0]]
        self.weight = nn.Parameter(torch.randn(index.shape[1], device="cpu") / links.sqrt())
        self.bias = nn.Parameter(torch.zeros(self.size[0], device="cpu"))

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *rest: Any, **others: Any
    ) -> None:
        """Load weights of the same links; those of other links are refused."""
        saved = state_dict.get(f"{prefix}index")
        if saved is not None and not torch.equal(saved.to(self.index.device), self.index):
            raise ArtefactError(
                "the saved weights are of other links than the map gives",
                where=prefix.rstrip("."),
                got=f"{saved.shape[-1]:,} links saved, {self.index.shape[1]:,} in the map",
                fix="name the maps of genes and pathways that the run was trained with",
            )
        super()._load_from_state_dict(state_dict, prefix, *rest, **others)

    def dense(self) -> Tensor:
        """Give M * W, (right units x c, left units [x c])."""
        matrix = self.weight.new_zeros(self.size)
        return matrix.index_put((self.index[0], self.index[1]), self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Give (B, right units x c) of (B, left units [x c]); in the precision of the weights."""
        with torch.autocast(x.device.type, enabled=False):
            product: Tensor = _Product.apply(
                self.weight, x.to(self.weight.dtype), self.index, self.size
            )
        return product + self.bias


class _Product(torch.autograd.Function):
    """x M' with a sparse M, and gradients at its links only.

    PyTorch's own gradient of a sparse product is that of the whole matrix, masked afterwards, which
    for genes and variants takes more memory than there is.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, x: Tensor, index: Tensor, size: tuple[int, int]
    ) -> Tensor:
        """Give (B, R) of x (B, L) and a matrix (R, L) with the values ``weight`` at ``index``."""
        ctx.save_for_backward(weight, x, index)
        ctx.size = size
        return torch.sparse.mm(_sparse(index, weight, size), x.T).T

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Give the gradients of weight and x."""
        weight, x, index = ctx.saved_tensors
        above, below = given[0].T.contiguous(), x.T.contiguous()
        to_weight, to_x = None, None
        if ctx.needs_input_grad[0]:
            step = max(1, _AT_ONCE // max(1, len(x)))
            parts = zip(index[0].split(step), index[1].split(step), strict=True)
            to_weight = torch.cat([(above[i] * below[j]).sum(dim=1) for i, j in parts])
        if ctx.needs_input_grad[1]:
            order = (index[1] * ctx.size[0] + index[0]).argsort()
            turned = _sparse(index.flip(0)[:, order], weight[order], ctx.size[::-1])
            to_x = torch.sparse.mm(turned, above).T
        return to_weight, to_x, None, None


def _sparse(index: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.sparse_coo_tensor(
        index, values, size, device=values.device, is_coalesced=True, check_invariants=False
    )


class SNPPathway(EncoderModule):
    """A gene reads its variants, its neighbours, a pathway its genes; the features read all.

    Variants without a gene reach the features through a dense bottleneck (``rest``), or not at
    all; how many they are stands in ``unmapped``. Without any map the bottleneck is the network.
    A dosage that is not called counts as the train mean.

    Attributes:
        unmapped: Variants without a gene.
        genes: Names of the genes.
        pathways: Names of the pathways.
        without_pathway: Genes that no pathway has; the features read them all the same.
    Source:
        Masked layers as in P-NET (Elmarakeby et al. 2021, Nature 598:348-352) and GenNet (van
        Hilten et al. 2021, Commun Biol 4:1094). Differs: several channels a gene, a residual layer
        over interactions, and the features read genes beside pathways.
    """

    Settings = SNPPathwaySettings

    early: tuple[str, ...] = ("to_genes.", "to_rest.")

    def __init__(self, shape: InputShape, settings: SNPPathwaySettings) -> None:
        super().__init__()
        _, count = require_axes(shape, ("2", "variants"), "snp_pathway")
        if shape.shape[0] != 2 or len(shape.names) != count:
            raise ConfigError(
                "the encoder 'snp_pathway' needs dosages and flags of named variants",
                got=f"shape {shape.shape}, {len(shape.names)} names",
                expected="a modality of kind genetics that gives dosages",
            )
        self.width, self.channels = settings.width, settings.channels
        self.genes: tuple[str, ...] = ()
        self.pathways: tuple[str, ...] = ()
        self.unmapped, self.without_pathway = count, 0
        unread = torch.ones(count, dtype=torch.bool, device="cpu")
        inward = 0
        if settings.snp_gene is not None or settings.genes is not None:
            mapped = self._wire(shape, settings)
            unread[torch.from_numpy(mapped.pairs[:, 0])] = False
            inward += settings.channels * (len(self.genes) + len(self.pathways))
        elif settings.pathways is not None or settings.interactions is not None:
            raise ConfigError(
                "pathways and interactions are of genes, and no variant has one",
                fix="name snp_gene: or genes:",
            )
        self.to_rest: nn.Linear | None = None
        self.unread: Tensor
        self.register_buffer("unread", unread.nonzero()[:, 0])
        if settings.rest and self.unmapped:
            self.to_rest = nn.Linear(self.unmapped, settings.rest)
            inward += settings.rest
        if not inward:
            raise ConfigError(
                "the encoder 'snp_pathway' reads nothing: no variant has a gene, and rest is 0",
                fix="name snp_gene: or genes:, or set rest: 64 for a bottleneck of all variants",
            )
        self.norm = nn.LayerNorm(inward)
        self.dropout = nn.Dropout(settings.dropout)
        self.leave = nn.Linear(inward, settings.width)

    def _wire(self, shape: InputShape, settings: SNPPathwaySettings) -> Links:
        mapped = link_variants(
            shape.names, shape.places, settings.snp_gene, settings.genes, settings.window_kb
        )
        self.genes, self.unmapped = mapped.names, mapped.unlinked
        variants, genes, channels = shape.shape[1], len(self.genes), settings.channels
        self.to_genes = MaskedLinear(torch.from_numpy(mapped.pairs), variants, genes, channels)
        self.between: MaskedLinear | None = None
        if settings.interactions is not None:
            links = link_genes(self.genes, settings.interactions)
            pairs = torch.from_numpy(links.pairs)
            self.between = MaskedLinear(pairs, genes, genes, channels, is_deep=True)
        if settings.pathways is not None:
            links = link_pathways(self.genes, settings.pathways)
            self.pathways, self.without_pathway = links.names, links.unlinked
            pairs = torch.from_numpy(links.pairs)
            self.to_pathways = MaskedLinear(pairs, genes, len(links.names), channels, is_deep=True)
        return mapped

    def layer_depths(self) -> dict[str, int]:
        """Variants to genes 1, between genes 2, pathways 3, features 4."""
        depth = {"to_genes": 1, "to_rest": 1, "between": 2, "to_pathways": 3}
        return {name: depth.get(name.split(".")[0], 4) for name, _ in self.named_parameters()}

    def _called(self, x: Tensor) -> Tensor:
        return torch.where(x[:, 1] > 0.5, x[:, 0], 0.0)

    def _genes(self, dosages: Tensor) -> Tensor:
        values = functional.gelu(self.to_genes(dosages))
        if self.between is not None:
            values = values + functional.gelu(self.between(values))
        return values

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Encoded:
        """Encode rows (B, 2, V): standardised dosages and flags of calls."""
        unmaskable(mask, "snp_pathway")
        dosages = self._called(x)
        parts = []
        if self.genes:
            genes = self._genes(dosages)
            parts.append(genes)
            if self.pathways:
                parts.append(functional.gelu(self.to_pathways(genes)))
        if self.to_rest is not None:
            parts.append(self.to_rest(dosages[:, self.unread]))
        return Encoded(features=self.leave(self.dropout(self.norm(torch.cat(parts, dim=1)))))
