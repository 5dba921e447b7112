"""Optimiser and learning-rate schedule, as pure functions of settings and step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from medmcl.core.config import Config

if TYPE_CHECKING:
    import torch
    from torch import nn

    from medmcl.engine.world import World


class OptimiserSettings(Config):
    """How weights are moved."""

    name: Literal["adamw", "adam", "sgd", "muon"] = "adamw"
    """``muon``: matrices within encoders by Muon, everything else by AdamW, both at one rate."""
    lr: float = 1e-3
    """Peak learning rate of a step."""
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    decay_all: bool = False
    """Whether weight decay also touches biases, norms and scales (Adam with L2 in the paper)."""
    layer_decay: float = 1.0
    """Rate of a layer = lr * layer_decay ** (layers above it); 1 = the same rate everywhere."""
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.1
    """Share of all steps with a linearly rising rate."""
    min_lr: float = 0.0
    clip_norm: float | None = None
    """Largest gradient norm; larger gradients are scaled down to it."""
    fused: bool | None = None
    """Whether all weights are moved by one kernel; not said: on a GPU, not on a CPU, where it is
    faster, too, and gives other bits."""
    sharded: bool = False
    """Whether each of several processes remembers (and moves) its share of the weights alone: of
    AdamW 8 bytes a weight, divided by the processes. The same weights come of it."""

    @property
    def by_depth(self) -> bool:
        """Whether it asks in which layer of an encoder a weight stands."""
        return self.layer_decay != 1 or self.name == "muon"


def rate_at(step: int, steps: int, settings: OptimiserSettings) -> float:
    """Give the factor on the peak rate at ``step`` of ``steps`` (0-based).

    Linear warm-up that starts above zero, then half a cosine down to ``min_lr``.
    """
    warm = math.ceil(settings.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    if settings.schedule == "constant":
        return 1.0
    floor = settings.min_lr / settings.lr if settings.lr else 0.0
    progress = (step - warm) / max(1, steps - warm)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def build_optimiser(
    module: nn.Module,
    settings: OptimiserSettings,
    depths: Mapping[str, tuple[int, int]],
    world: World | None = None,
) -> torch.optim.Optimizer:
    """Build the optimiser with one parameter group for each (depth, decay).

    Args:
        module: What is trained; frozen parameters are left out.
        settings: Name, rate, decay.
        depths: Parameter name to (its layer, number of layers of its tower). A parameter without
            an entry (heads, decoders, scales) moves at the full rate.
        world: Ranks that may share out what it remembers.
    """
    if settings.sharded and world is not None and world.size > 1:
        from medmcl.engine.sharded import Sharded

        return Sharded(build_optimiser(module, settings, depths), world)
    import torch  # not at the top: settings are read without it
    from torch import nn

    tables = {id(one.weight) for one in module.modules() if isinstance(one, nn.Embedding)}
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        layer, last = depths.get(name, (0, 0))
        factor = settings.layer_decay ** (last - layer)
        bare = parameter.ndim < 2 and not settings.decay_all
        decay = 0.0 if bare else settings.weight_decay
        inner = parameter.ndim == 2 and layer > 0 and id(parameter) not in tables
        by_muon = settings.name == "muon" and inner
        groups.setdefault((factor, decay, by_muon), []).append(parameter)
    matrices, options = (
        [
            {"params": members, "lr": settings.lr * factor, "peak": settings.lr * factor,
             "weight_decay": decay}
            for (factor, decay, by_muon), members in groups.items()
            if by_muon is wanted
        ]
        for wanted in (True, False)
    )  # fmt: skip
    devices = {one.device.type for members in groups.values() for one in members}
    fused = (devices != {"cpu"} if settings.fused is None else settings.fused) or None
    if settings.name == "sgd":  # fused, torch's fails where a weight has its first gradient later
        return torch.optim.SGD(options, lr=settings.lr, momentum=settings.betas[0])
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    made = [kind(options, lr=settings.lr, betas=settings.betas, fused=fused)] if options else []
    if fused and made:
        made[0].register_step_pre_hook(_lie_alike)
    if not matrices:
        return made[0]
    from medmcl.engine.muon import Pair

    muon = torch.optim.Muon(matrices, lr=settings.lr, adjust_lr_fn="match_rms_adamw")
    return Pair([muon, *made])


def _lie_alike(optimiser: torch.optim.Optimizer, *_: Any) -> None:
    """Let gradients lie in memory as their weights do: fused kernels read both in one order."""
    for group in optimiser.param_groups:
        for weight in group["params"]:
            grad = weight.grad
            if grad is not None and grad.stride() != weight.stride():
                weight.grad = grad.new_empty_strided(grad.shape, weight.stride()).copy_(grad)


def take_state(optimiser: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Take back what ``state_dict`` gave, also on another device: its kernels stay its own.

    Its numbers lie in memory as the weights do (see `_lie_alike`).
    """
    import torch

    from medmcl.engine.muon import Pair
    from medmcl.engine.sharded import Sharded

    if isinstance(optimiser, Sharded):
        take_state(optimiser.inner, optimiser.own(saved))
        return
    if isinstance(optimiser, Pair):
        for one, own in zip(optimiser.members, saved["members"], strict=True):
            take_state(one, own)
        return
    for group, here in zip(saved["param_groups"], optimiser.param_groups, strict=True):
        if "fused" in group:
            group["fused"] = here["fused"]
    optimiser.load_state_dict(saved)
    for parameter, kept in optimiser.state.items():
        for name, x in kept.items():
            if isinstance(x, torch.Tensor) and x.shape == parameter.shape:
                kept[name] = x.new_empty_strided(x.shape, parameter.stride()).copy_(x)


def clip_gradients(weights: Sequence[nn.Parameter], most: float | None) -> torch.Tensor:
    """Scale gradients down to a norm of at most ``most``, all together (foreach); give their norm.

    Without ``most`` they are looked at, and left as they are.
    """
    from torch import nn

    if most:
        return nn.utils.clip_grad_norm_(weights, most)
    grads = [p.grad for p in weights if p.grad is not None]
    return nn.utils.get_total_norm(grads)


def set_rate(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's rate to its peak times ``factor``."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * factor
