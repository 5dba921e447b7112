"""Views: variants of a batch that objectives ask for by name (plain, augmented, masked)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from medmcl.core.batch import Batch
from medmcl.core.config import check, refuse_absent
from medmcl.core.contracts import Adapter, EndsInPadding, LacksLeads
from medmcl.core.errors import ConfigError
from medmcl.core.rng import RowGenerator
from medmcl.data.loading.view_settings import ViewSettings
from medmcl.modalities.outside import blamed


def hidden_tokens(tokens: int, ratio: float) -> int:
    """How many tokens of each row `draw_mask` hides."""
    return tokens - max(1, int(tokens * (1 - ratio)))


def draw_mask(rows: int, tokens: int, ratio: float, generator: RowGenerator) -> Tensor:
    """Hide ``ratio`` of the tokens of each row at random: (rows, tokens) bool, True = hidden.

    Every row keeps ``int(tokens * (1 - ratio))`` tokens: 59 of 300 at 0.8, floating point
    included, as in the code of Turgut et al. 2025 (and of MAE, He et al. 2022).
    """
    kept = tokens - hidden_tokens(tokens, ratio)
    noise = generator.uniform(rows, tokens)
    rank = noise.argsort(dim=1).argsort(dim=1)
    return rank >= kept


def draw_absence(
    present: Mapping[str, Tensor], chances: Mapping[str, float], generator: RowGenerator
) -> dict[str, Tensor]:
    """Take whole modalities from rows at random: modality to (B,) bool, what is still present.

    Each present entry goes with its own chance, independently. A row that would lose everything
    keeps one, drawn evenly from what it had. So of rows with M modalities and one chance p, the
    share p - p^M / M of entries is lost, and of the rows with both of a pair (1 - p)^2 still have
    both.

    Args:
        present: Modality to (B,) bool, all that is shown of the rows.
        chances: Modality to the chance of a row to lose it; others are kept.
        generator: Source of the draws.

    Source:
        Modality dropout: Neverova et al. 2016, arXiv 1501.00102. Differs: a row never loses all.
    """
    names = list(present)
    has = torch.stack([present[name] for name in names])
    draws = generator.uniform(2, *has.shape, row_dim=2).to(has.device)
    chance = torch.tensor([chances.get(n, 0.0) for n in names], device=has.device)[:, None]
    kept = has & (draws[0] >= chance)
    last = torch.where(has, draws[1], -1.0).argmax(dim=0)
    bare = has.any(dim=0) & ~kept.any(dim=0)
    numbers = torch.arange(len(names), device=has.device)[:, None]
    kept = kept | (bare & (numbers == last))
    return {name: kept[number] for number, name in enumerate(names)}


class View:
    """Turns prepared rows into what encoders read.

    Args:
        settings: What to disturb and what to hide.
        adapters: Modality to adapter; only these modalities are shown.
        num_tokens: Modality to its number of maskable tokens.
    """

    def __init__(
        self,
        settings: ViewSettings,
        adapters: Mapping[str, Adapter],
        num_tokens: Mapping[str, int],
        where: str = "view",
    ) -> None:
        shown = tuple(adapters) if settings.modalities is None else settings.modalities
        for name in (*shown, *settings.mask):
            what = f"the view shows '{name}', which the model has no tower for"
            refuse_absent(name, adapters, what, where=where)
        for name, ratio in settings.mask.items():
            if name not in num_tokens:
                raise ConfigError(f"the encoder of '{name}' cannot be masked", where=where)
            if not 0 <= ratio < 1:
                raise ConfigError(
                    "a mask ratio lies in [0, 1)", where=f"{where}.mask.{name}", got=ratio
                )
        drop = settings.drop
        chances = dict.fromkeys(shown, drop) if isinstance(drop, float | int) else dict(drop)
        for name in chances:
            what = f"the view drops '{name}', which it does not show"
            refuse_absent(name, shown, what, where=f"{where}.drop")
        self.chances = {name: chance for name, chance in chances.items() if chance > 0}
        self.settings = settings
        self.adapters = {name: adapters[name] for name in shown}
        self.num_tokens = num_tokens
        self.options = {
            name: check(
                adapters[name].Augment, options, where=f"{where}.augment.{name}", error=ConfigError
            )
            for name, options in settings.augment.items()
            if name in self.adapters
        }

    def __call__(self, batch: Batch, generator: RowGenerator, *, disturb: bool = True) -> Batch:
        """Show the batch. ``disturb=False``: nothing augmented, nothing dropped, masks as usual."""
        inputs, masks, leads, hidden = {}, {}, {}, {}
        augment = disturb or self.settings.at_tuning == "same"
        for name, adapter in self.adapters.items():
            x = batch.inputs[name]
            if augment and name in self.options:
                with blamed(adapter, "augment"):
                    inputs[name] = adapter.augment(x, self.options[name], generator)
            else:
                with blamed(adapter, "plain"):
                    inputs[name] = adapter.plain(x)
            if name in batch.leads:
                leads[name] = batch.leads[name]
            elif (
                isinstance(adapter, LacksLeads) and (there := adapter.present_leads(x)) is not None
            ):
                leads[name] = there
            if name in self.settings.mask:
                drawn = (self.num_tokens[name], self.settings.mask[name])
                masks[name] = draw_mask(len(batch), *drawn, generator)
                hidden[name] = hidden_tokens(*drawn)
        present = {name: batch.present[name] for name in inputs}
        if augment and self.chances:
            present = draw_absence(present, self.chances, generator)
            inputs = {name: _without(x, present[name]) for name, x in inputs.items()}
        return replace(
            batch, inputs=inputs, present=present, masks=masks, leads=leads, hidden=hidden
        )


def with_leads(batch: Batch, adapters: Mapping[str, Adapter]) -> Batch:
    """State which leads are there while rows are on the CPU, where it can be seen at no cost."""
    leads = {}
    for name, x in batch.inputs.items():
        adapter = adapters[name]
        if isinstance(adapter, LacksLeads) and (there := adapter.present_leads(x)) is not None:
            leads[name] = there
    return replace(batch, leads=leads) if leads else batch


def with_lengths(batch: Batch, adapters: Mapping[str, Adapter]) -> Batch:
    """State where rows end and their padding begins, while they are on the CPU as well.

    A row of nothing but padding is not cut: what an encoder makes of it hangs on its length.
    """
    lengths = {}
    for name, x in batch.inputs.items():
        adapter = adapters[name]
        if isinstance(adapter, EndsInPadding):
            with blamed(adapter, "padding"):
                padding = adapter.padding(x)
            places = torch.arange(1, padding.shape[1] + 1, device=x.device)
            last = torch.where(padding, 0, places).amax(1)
            lengths[name] = torch.where(last > 0, last, len(places))
    return replace(batch, lengths=lengths)


def _without(x: Tensor, present: Tensor) -> Tensor:
    """Zeros in absent rows, whatever stood there."""
    return torch.where(present.reshape(-1, *[1] * (x.ndim - 1)), x, torch.zeros_like(x))
