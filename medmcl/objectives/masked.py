"""Masked data modelling: rebuild a signal of which the encoder saw only some patches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from medmcl.core import host
from medmcl.core.batch import Batch, Embeddings, Term
from medmcl.core.config import lookup
from medmcl.core.contracts import ModelShape
from medmcl.core.errors import ConfigError, MedmclError
from medmcl.core.layers import Block, sincos_2d, widen
from medmcl.objectives.settings import DecoderSettings, MaskedSettings


class MaskedDecoder(nn.Module):
    """Puts a learned token where a token was hidden, adds positions, and predicts every patch.

    Source:
        He et al. 2022, section 3, arXiv 2111.06377; sizes: Turgut et al. 2025. Differs: no class
        token passes through the decoder, so the encoder need not have one.

    Args:
        settings: Width, depth, heads.
        encoder_width: E, width of the encoder's tokens.
        grid: Leads and patches a lead; tokens are lead-major.
        patch: Samples a patch.
    """

    def __init__(
        self, settings: DecoderSettings, encoder_width: int, grid: tuple[int, int], patch: int
    ) -> None:
        super().__init__()
        width = settings.width
        self.enter = nn.Linear(encoder_width, width)
        self.hidden_token = nn.Parameter(torch.zeros(1, 1, width, device="cpu"))
        nn.init.normal_(self.hidden_token, std=0.02)
        positions = sincos_2d(grid[0], grid[1], width, torch.device("cpu"))
        self.positions: Tensor
        self.register_buffer("positions", positions.reshape(1, -1, width), persistent=False)
        self.blocks = nn.Sequential(
            *(Block(width, settings.heads, settings.mlp_ratio, 0.0) for _ in range(settings.depth))
        )
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, patch)

    def forward(self, visible: Tensor, mask: Tensor) -> Tensor:
        """Predict every patch.

        Args:
            visible: Tokens that the encoder saw, in token order, (B, V, E).
            mask: (B, T) bool, True = hidden; every row has V tokens that are not.

        Returns:
            Patches, (B, T, patch).
        """
        x = self.enter(visible)
        # The n-th token that is not hidden is the n-th visible one.
        place = (torch.cumsum(~mask, dim=1) - 1).clamp(min=0)
        spread = x.gather(1, place[..., None].expand(-1, -1, x.shape[-1]))
        x = torch.where(mask[..., None], self.hidden_token.to(x.dtype), spread)
        patches: Tensor = self.leave(self.norm(self.blocks(x + self.positions.to(x.dtype))))
        return patches


def masked_modelling(
    predicted_patches: Tensor,
    signal: Tensor,
    patch: int,
    ncc_weight: float,
    *,
    mask: Tensor | None = None,
    leads: Tensor | None = None,
) -> Tensor:
    """Give (1 - w) MSE + w (1 - NCC), the loss of masked data modelling.

    The squared error is over all patches, hidden or seen, unless ``mask`` is given; the
    correlation is always over whole leads. A lead that is flat correlates with nothing: it adds 0.
    Where leads may be absent, both are means over those of each row, and then over rows.

    Args:
        predicted_patches: What the decoder gives, (B, T, patch). Tokens are lead-major: token
            ``lead * (S / patch) + t`` is the t-th patch of that lead.
        signal: What was to be rebuilt, (B, L, S) or (B, 1, L, S).
        patch: Samples a patch; divides S.
        ncc_weight: w, the share of the correlation, in [0, 1].
        mask: (B, T) bool, True = hidden. If given, the squared error is over hidden patches only.
        leads: (B, L) bool: which leads are there, one or more in each row, of which a patch is
            charged. What stands in the others, NaN included, changes neither loss nor gradient.
            None: all are there.

    Returns:
        Scalar; lower is better. 0 for a perfect rebuild of signals without flat leads.

    Raises:
        MedmclError: If shapes do not fit, or the mask hides nothing that is there.

    Source:
        Turgut et al. 2025, arXiv 2308.05764, and the authors' code. Differs: none with
        ``mask=None``; with a mask the squared error is that of He et al. 2022, arXiv 2111.06377.
    """
    if signal.ndim == 4 and signal.shape[1] == 1:
        signal = signal[:, 0]
    _check(predicted_patches, signal, patch, ncc_weight, mask)
    predicted, truth = widen(predicted_patches), widen(signal)
    if leads is not None:
        truth = truth.masked_fill(~leads[..., None], 0.0)
        absent = ~charged_patches(leads, predicted.shape[1])
        predicted = predicted.masked_fill(absent[..., None], 0.0)
    squared = (predicted - truth.reshape(predicted.shape)) ** 2
    correlation = lead_correlation(predicted.reshape(truth.shape), truth)
    if leads is not None:
        error = _mean_over(squared.mean(-1), charged_patches(leads, squared.shape[1], mask))
        agreement = _mean_over(correlation, leads)
    else:
        charged = squared if mask is None else squared[mask]
        if mask is not None and len(charged) == 0:
            raise MedmclError("the mask hides no patch, so there is nothing to rebuild")
        error, agreement = charged.mean(), correlation.mean()
    return (1 - ncc_weight) * error + ncc_weight * (1 - agreement)


def charged_patches(leads: Tensor, patches: int, mask: Tensor | None = None) -> Tensor:
    """Which lead-major patches are charged, (B, T) bool.

    Args:
        leads: (B, L) bool: which leads are there.
        patches: T, a multiple of L.
        mask: (B, T) bool, True = hidden; if given, only hidden patches are charged.
    """
    there = leads.repeat_interleave(patches // leads.shape[1], dim=1)
    return there if mask is None else there & mask


def mean_modelling(
    signal: Tensor,
    patch: int,
    ncc_weight: float,
    *,
    mask: Tensor | None = None,
    leads: Tensor | None = None,
) -> Tensor:
    """Give what `masked_modelling` charges whoever says the mean of each signal everywhere in it.

    Args:
        signal: As there.
        patch: As there.
        ncc_weight: As there. What is flat correlates with nothing.
        mask: As there; the mean is then that of the hidden patches, as many in every row.
        leads: As there; the mean is then that of what is charged in each row.
    """
    patches = widen(signal.detach()).reshape(len(signal), -1, patch)
    if leads is not None:
        charged = charged_patches(leads, patches.shape[1], mask)
        kept = charged[..., None]
        count = charged.sum(1) * patch
        mean = patches.masked_fill(~kept, 0.0).sum((1, 2)) / count
        squared = (patches - mean[:, None, None]).masked_fill(~kept, 0.0) ** 2
        return (1 - ncc_weight) * (squared.sum((1, 2)) / count).mean() + ncc_weight
    judged = patches if mask is None else patches[mask]
    spread = _centred(judged.reshape(len(signal), -1)).square().mean()
    return (1 - ncc_weight) * spread + ncc_weight


def lead_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Give Pearson's correlation of each lead, (B, L) from two (B, L, S); 0 for a flat lead."""
    a, b = _centred(a), _centred(b)
    spread_a, spread_b = (torch.sqrt(_covariance(x, x) + 1e-12) for x in (a, b))
    return _covariance(a, b) / (spread_a * spread_b)


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)


def _covariance(a: Tensor, b: Tensor) -> Tensor:
    """Of centred rows. Torch's own variance takes ten times as long on a CPU."""
    return (a * b).sum(-1) / (a.shape[-1] - 1)


def _mean_over(values: Tensor, which: Tensor) -> Tensor:
    """Mean over the places (B, N) of each row that count, and then over rows."""
    counts = which.sum(1)
    if counts.device.type == "cpu" and not counts.all():
        raise MedmclError("a row has nothing to rebuild: no lead, or no hidden patch of one")
    return (values.masked_fill(~which, 0.0).sum(1) / counts).mean()


def _check(
    predicted: Tensor, signal: Tensor, patch: int, ncc_weight: float, mask: Tensor | None
) -> None:
    if signal.ndim != 3:
        raise MedmclError("signal must have shape (B, L, S) or (B, 1, L, S)",
                          got=tuple(signal.shape))  # fmt: skip
    if not isinstance(patch, int) or isinstance(patch, bool):
        raise MedmclError("patch must be one whole number: the samples of a patch of one lead",
                          got=repr(patch), expected="for example 100")  # fmt: skip
    rows, leads, samples = signal.shape
    if patch < 1 or samples % patch:
        raise MedmclError("the patch must divide the signal", got=f"{samples} samples, {patch}")
    expected = (rows, leads * samples // patch, patch)
    if tuple(predicted.shape) != expected:
        raise MedmclError("predicted_patches does not fit the signal",
                          got=tuple(predicted.shape), expected=expected)  # fmt: skip
    if not 0 <= ncc_weight <= 1:
        raise MedmclError("ncc_weight must lie in [0, 1]", got=ncc_weight)
    if mask is not None and (mask.dtype != torch.bool or mask.shape != expected[:2]):
        raise MedmclError("mask must be bool, one a patch",
                          got=f"{mask.dtype} {tuple(mask.shape)}",
                          expected=f"bool {expected[:2]}")  # fmt: skip


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

    def forward(self, seen: Mapping[str, Embeddings], _: Batch) -> dict[str, Term]:
        """Give one term, or none if no row is present."""
        name, embeddings = self.settings.modality, seen[self.settings.view]
        rows, leads = self._charged(embeddings), embeddings.batch.leads.get(name)
        if len(rows) == 0:
            return {}
        mask, leads = embeddings.batch.masks[name][rows], None if leads is None else leads[rows]
        hidden = self._hidden(mask)
        predicted = self.rebuild(embeddings.tokens[name][rows], mask)
        signal = embeddings.batch.inputs[name][rows]
        judged = (self.patch, self.settings.ncc_weight)
        value = masked_modelling(predicted, signal, *judged, mask=hidden, leads=leads)
        chance = mean_modelling(signal, *judged, mask=hidden, leads=leads)
        return {self.terms[0]: Term(value, len(rows), chance=chance)}

    def rebuild(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Give the patches of visible tokens (B, V, E) as the decoder rebuilds them.

        Args:
            tokens: As `MaskedDecoder` takes them.
            mask: (B, T) bool, True = hidden.

        Returns:
            Patches, lead by lead also where they span all leads, (B, L * T, patch).
        """
        patches: Tensor = self.decoder(tokens, mask)
        rows, times, _ = patches.shape
        by_lead = patches.reshape(rows, times, self.spanned, self.patch).transpose(1, 2)
        return by_lead.reshape(rows, self.spanned * times, self.patch)

    def _hidden(self, mask: Tensor) -> Tensor | None:
        """Lead-major patches that alone are charged, (B, L * T) bool; None: all are."""
        return mask.repeat(1, self.spanned) if self.settings.over == "masked" else None

    def _charged(self, embeddings: Embeddings) -> Tensor:
        """Rows that are there, with a lead to rebuild, and of ``over: masked`` a hidden patch."""
        batch, name = embeddings.batch, self.settings.modality
        self._refuse_other_tokens(embeddings)
        here, leads = batch.values(batch.present[name]), batch.leads.get(name)
        if leads is None:
            return host.numbers(here, batch.ids.device)
        hidden = self._hidden(batch.masks[name])
        if hidden is None:
            charged = batch.values(leads).any(1)
        else:
            charged = host.read(charged_patches(leads, hidden.shape[1], hidden).any(1))
        return host.numbers(here & charged, batch.ids.device)

    def _refuse_other_tokens(self, embeddings: Embeddings) -> None:
        """Refuse tokens that are not the visible ones; masks on an accelerator are not counted."""
        name, view = self.settings.modality, self.settings.view
        if name not in embeddings.batch.masks or name not in embeddings.tokens:
            raise ConfigError(
                f"the view '{view}' does not hide tokens of '{name}'",
                fix=f"add '{name}: 0.8' to views.{view}.mask",
            )
        rows = embeddings.batch.rows(name)
        mask, visible = embeddings.batch.masks[name][rows], embeddings.tokens[name].shape[1]
        counted = mask.device.type == "cpu"
        if mask.shape[1] != self.num_tokens or (counted and ((~mask).sum(1) != visible).any()):
            raise MedmclError(
                "the tokens are not the visible ones",
                where=f"view '{view}', modality '{name}'",
                got=f"{visible} tokens a row, a mask over {mask.shape[1]}",
                expected=f"{self.num_tokens} tokens, less those the mask hides, in every row",
            )
