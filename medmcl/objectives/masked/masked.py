"""Masked data modelling: rebuild a signal of which the encoder saw only some patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from medmcl.core.batch import Batch, Embeddings, Term
from medmcl.core.config import lookup
from medmcl.core.contracts import ModelShape
from medmcl.core.errors import ConfigError, MedmclError
from medmcl.objectives.masked.decoder import MaskedDecoder
from medmcl.objectives.masked.reconstruction import (
    charged_patches,
    masked_modelling,
    mean_modelling,
)
from medmcl.objectives.settings import MaskedSettings


class Masked(nn.Module):
    """Charges for what a decoder makes of the visible tokens, over the rows that are present.

    Leads that are absent from a row are not charged, nor is a row of which nothing would be.

    Source:
        Turgut et al. 2025, arXiv 2308.05764. Differs: no class token in the decoder; no second
        masked pass (the authors' later code adds one, which the paper does not describe).
    """

    Settings = MaskedSettings

    across_ranks: Literal["gather", "rows"] = "rows"
    gathers: tuple[str, ...] = ()

    def __init__(self, settings: MaskedSettings, shape: ModelShape) -> None:
        super().__init__()
        name = settings.modality
        lookup("modality", name, shape.inputs)
        if name not in shape.num_tokens or name not in shape.patch:
            raise ConfigError(
                f"the encoder of '{name}' has no (lead, time) patches to hide",
                where="objective 'masked'",
                expected="an encoder that cuts a signal into patches, such as the ECG ViT",
            )
        leads, samples = shape.inputs[name].shape
        self.patch, self.num_tokens = shape.patch[name], shape.num_tokens[name]
        times = samples // self.patch
        self.spanned = leads if self.num_tokens == times and leads > 1 else 1
        grid = (leads // self.spanned, times)
        if grid[0] * grid[1] != self.num_tokens or samples % self.patch:
            raise ConfigError(
                f"the tokens of '{name}' are not lead by lead, as masked modelling needs them",
                got=f"{self.num_tokens} tokens of {self.patch} samples",
                expected=f"{leads} leads x {samples} samples, patches of one lead or of all",
            )
        self.settings = settings
        self.views: tuple[str, ...] = (settings.view,)
        self.terms: tuple[str, ...] = (f"masked/{name}",)
        self.decoder = MaskedDecoder(
            settings.decoder, shape.widths[name], grid, self.patch * self.spanned
        )

    def forward(
        self,
        seen: Mapping[str, Embeddings],
        batch: Batch,  # noqa: ARG002  (the contract's signature)
    ) -> dict[str, Term]:
        """Give one term, or none if no row is present."""
        name, embeddings = self.settings.modality, seen[self.settings.view]
        rows = self._present(embeddings)
        mask, leads = embeddings.batch.masks[name][rows], embeddings.batch.leads.get(name)
        hidden = mask.repeat(1, self.spanned) if self.settings.over == "masked" else None
        if leads is not None:
            leads = leads[rows]
            charged = charged_patches(leads, self.num_tokens * self.spanned, hidden).any(1)
            rows, mask, leads = rows[charged], mask[charged], leads[charged]
            hidden = None if hidden is None else hidden[charged]
        if len(rows) == 0:
            return {}
        predicted = self._lead_major(self.decoder(embeddings.tokens[name][rows], mask))
        signal = embeddings.batch.inputs[name][rows]
        judged = (self.patch, self.settings.ncc_weight)
        value = masked_modelling(predicted, signal, *judged, mask=hidden, leads=leads)
        chance = mean_modelling(signal, *judged, mask=hidden, leads=leads)
        return {self.terms[0]: Term(value, len(rows), chance=chance)}

    def reconstruct(self, embeddings: Embeddings) -> Tensor:
        """Give the rebuilt patches of every row, (B, T, patch); absent rows mean nothing."""
        name = self.settings.modality
        patches = self.decoder(embeddings.tokens[name], embeddings.batch.masks[name])
        return self._lead_major(patches)

    def _lead_major(self, patches: Tensor) -> Tensor:
        """Order patches that span all leads lead by lead, (B, L * T, patch)."""
        if self.spanned == 1:
            return patches
        rows, times, _ = patches.shape
        by_lead = patches.reshape(rows, times, self.spanned, self.patch).transpose(1, 2)
        return by_lead.reshape(rows, self.spanned * times, self.patch)

    def _present(self, embeddings: Embeddings) -> Tensor:
        name, view = self.settings.modality, self.settings.view
        if name not in embeddings.batch.masks or name not in embeddings.tokens:
            raise ConfigError(
                f"the view '{view}' does not hide tokens of '{name}'",
                fix=f"add '{name}: 0.8' to views.{view}.mask",
            )
        rows = embeddings.batch.present[name].nonzero().squeeze(1)
        mask, visible = embeddings.batch.masks[name][rows], embeddings.tokens[name].shape[1]
        if mask.shape[1] != self.num_tokens or ((~mask).sum(1) != visible).any():
            raise MedmclError(
                "the tokens are not the visible ones",
                where=f"view '{view}', modality '{name}'",
                got=f"{visible} tokens a row, a mask over {mask.shape[1]}",
                expected=f"{self.num_tokens} tokens, less those the mask hides, in every row",
            )
        return rows
