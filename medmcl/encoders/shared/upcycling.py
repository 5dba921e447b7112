"""Experts that start as copies of a dense tower's MLPs."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from medmcl.core.errors import ArtefactError
from medmcl.encoders.name_maps import run_names


def upcycle(tower: nn.Module, dense: Mapping[str, Tensor]) -> None:
    """Give a tower with experts the weights of a dense one of its sizes, in place.

    Each expert starts as the MLP of its block; routers keep their first weights. With the setting
    ``normalise`` the tower begins as the dense one, as far as no expert is full. Without it, what
    an expert gives is weighed by its gate, at first about 1 / E.

    Source:
        Komatsuzaki et al. 2023, arXiv 2212.05055; for image and text: CLIP-UP (2025). Differs:
        routers do not start anew at zero.

    Args:
        tower: A `SharedTower` with experts, or its trunk.
        dense: Names and values of the same without experts (its ``state_dict``).

    Raises:
        ArtefactError: A name is missing, left over, or has another shape.
    """
    own = tower.state_dict()
    taken: dict[str, Tensor] = {}
    used: set[str] = set()
    for name, value in own.items():
        source = _source(name)
        if source is None:
            continue
        found = dense.get(source)
        shape = value.shape[1:] if ".moe.mlps." in name else value.shape
        if found is None or found.shape != shape:
            raise _other(source, None if found is None else tuple(found.shape), tuple(shape))
        used.add(source)
        taken[name] = found.to(value.device).expand(value.shape)
    left = sorted(set(dense) - used)
    if left:
        raise _other(left[0], tuple(dense[left[0]].shape), None)
    tower.load_state_dict({**own, **taken})


def is_upcycling(tower: nn.Module, given: Mapping[str, Tensor]) -> bool:
    """Whether ``tower`` has experts and the weights are of a tower without."""
    return any(".moe." in name for name in tower.state_dict()) and not any(
        ".moe." in name for name in given
    )


def upcycled(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Map the file of a run with a dense shared tower to one with experts (a name map)."""
    given = run_names(state, module)
    mapped = {}
    for name, value in module.state_dict().items():
        found = given.pop(_source(name) or "", None)
        if found is not None:
            is_expert = ".moe.mlps." in name and found.shape == value.shape[1:]
            mapped[name] = found.expand(value.shape) if is_expert else found
    return {**given, **mapped}


def _source(name: str) -> str | None:
    """Name in the dense tower of a parameter; None for those of routers and their biases."""
    if ".moe." in name and ".moe.mlps." not in name:
        return None
    for part, layer in (("1", "fc1"), ("2", "fc2")):
        for kind in ("weight", "bias"):
            name = name.replace(f".moe.mlps.{kind}{part}", f".mlp.{layer}.{kind}")
    return name


def _other(name: str, got: object, expected: object) -> ArtefactError:
    return ArtefactError(
        "the dense tower does not fit",
        where=name,
        got="nothing of this name" if got is None else got,
        expected="no such name" if expected is None else expected,
        fix="give the weights of a shared tower with experts: null and the same sizes, modalities "
        "and pooling",
    )
