"""Views: variants of a batch that objectives ask for by name (plain, augmented, masked)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from medmcl.core.batch import Batch
from medmcl.core.config import check
from medmcl.core.contracts import Adapter
from medmcl.core.errors import ConfigError
from medmcl.data.view_settings import ViewSettings


def draw_mask(rows: int, tokens: int, ratio: float, generator: torch.Generator) -> Tensor:
    """Hide ``ratio`` of the tokens of each row at random: (rows, tokens) bool, True = hidden.

    Every row keeps ``int(tokens * (1 - ratio))`` tokens: 59 of 300 at 0.8, floating point
    included, as in the code of Turgut et al. 2025 (and of MAE, He et al. 2022).
    """
    kept = max(1, int(tokens * (1 - ratio)))
    noise = torch.rand(rows, tokens, generator=generator, device=generator.device)
    rank = noise.argsort(dim=1).argsort(dim=1)
    return rank >= kept


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
            if name not in adapters:
                raise ConfigError(
                    f"the view shows '{name}', which the model has no tower for",
                    where=where,
                    expected=", ".join(adapters),
                )
        for name, ratio in settings.mask.items():
            if name not in num_tokens:
                raise ConfigError(f"the encoder of '{name}' cannot be masked", where=where)
            if not 0 <= ratio < 1:
                raise ConfigError(
                    "a mask ratio lies in [0, 1)", where=f"{where}.mask.{name}", got=ratio
                )
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

    def __call__(self, batch: Batch, generator: torch.Generator, *, disturb: bool = True) -> Batch:
        """Show the batch. ``disturb=False``: no augmentation, masks as usual."""
        inputs, masks = {}, {}
        augment = disturb or self.settings.at_tuning == "same"
        for name, adapter in self.adapters.items():
            x = batch.inputs[name]
            if augment and name in self.options:
                inputs[name] = adapter.augment(x, self.options[name], generator)
            else:
                inputs[name] = adapter.plain(x)
            if name in self.settings.mask:
                masks[name] = draw_mask(
                    len(batch), self.num_tokens[name], self.settings.mask[name], generator
                )
        return Batch(
            ids=batch.ids,
            inputs=inputs,
            present={name: batch.present[name] for name in inputs},
            targets=batch.targets,
            known=batch.known,
            masks=masks,
        )
