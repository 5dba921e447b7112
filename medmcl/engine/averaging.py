"""A running mean of the weights (EMA): what a stage judges and keeps in the place of the last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn


class Average:
    """The mean of the weights after each step, older steps counting less and less.

    After step t it moves by 1 - min(decay, (1 + t) / (10 + t)) of the way to the new weights, so
    that the first weights are soon forgotten. What is not trained (buffers, frozen parts) is as it
    is.

    Source:
        Polyak & Juditsky 1992; the rise of the decay as in TensorFlow's ExponentialMovingAverage.
        Differs: none.

    Args:
        module: What is trained, at its first weights.
        decay: Of long runs, in (0, 1).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self._mean = {name: p.detach().clone() for name, p in self._trained.items()}

    @torch.no_grad()
    def follow(self, step: int, bad: Tensor) -> None:
        """Move towards the weights after a step; not at all if it was skipped (``bad`` is 1)."""
        share = (1 - min(self.decay, (1 + step) / (10 + step))) * (1 - bad)
        for name, parameter in self._trained.items():
            self._mean[name].lerp_(parameter, share.to(parameter.dtype))

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Let the module have the mean for its weights, and then its own again."""
        own = {name: p.data for name, p in self._trained.items()}
        try:
            for name, parameter in self._trained.items():
                parameter.data = self._mean[name]
            yield
        finally:
            for name, parameter in self._trained.items():
                parameter.data = own[name]

    def own_weights(self) -> dict[str, Tensor]:
        """Give the weights that training goes on from, on the CPU: called outside `shown`."""
        return {name: p.detach().cpu().clone() for name, p in self._trained.items()}

    @torch.no_grad()
    def resume(self, own: Mapping[str, Tensor]) -> None:
        """Take the weights that the module has as the mean, and give it its own again."""
        for name, parameter in self._trained.items():
            self._mean[name].copy_(parameter)
            parameter.copy_(own[name])


def shown(average: Average | None) -> AbstractContextManager[None]:
    """Give `Average.shown`, or a context that does nothing where there is none."""
    return nullcontext() if average is None else average.shown()
