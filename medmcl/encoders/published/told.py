"""What a file says of its network that no shape of its tensors shows: followed, or refused."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from medmcl.core.errors import ArtefactError

_MOST, _LARGEST = 1_000, 2**31
"""Values of a list or letters of a text; and a whole number: no setting of a network has more."""


def table(value: Any) -> Mapping[str, Any]:
    """Settings as files keep them: a mapping or a ``Namespace``; empty for anything else."""
    value = vars(value) if isinstance(value, Namespace) else value
    return value if isinstance(value, Mapping) else {}


def plain(said: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Take those settings of a file that are read, where they are there; look at no other.

    Returns:
        Truth values, finite numbers, texts, None, and lists of them; a tensor as a list.

    Raises:
        ArtefactError: One is anything else, or larger than a setting can be.
    """
    return {key: _plain(said[key], key) for key in keys if key in said}


def _plain(value: Any, key: str, depth: int = 0) -> Any:
    if isinstance(value, Tensor) and _has_few_numbers(value):
        value = value.flatten().tolist() if value.ndim else value.item()
    if isinstance(value, (list, tuple)) and len(value) <= _MOST and depth < 2:
        return [_plain(one, key, depth + 1) for one in value]
    if isinstance(value, int):
        sound, got = abs(value) <= _LARGEST, f"a whole number of {value.bit_length():,} bits"
    elif isinstance(value, float):
        sound, got = math.isfinite(value), f"{value}"
    else:
        sound = value is None or (isinstance(value, str) and len(value) <= _MOST)
        count = f" of {len(value):,}" if isinstance(value, (str, list, tuple)) else ""
        got = f"{type(value).__name__}{count}"
    if sound:
        return value
    raise ArtefactError(
        "says of itself what no setting of a network is",
        got=f"{key}: {got}",
        expected="a finite number, a truth value, a short text, or a short list of them",
        fix="take a file that its authors published",
    )


def _has_few_numbers(value: Tensor) -> bool:
    """Whether a tensor of a file is a short list of numbers; a sparse one, as others, has none."""
    odd = value.is_nested or value.is_meta or value.is_quantized or value.is_complex()
    return not odd and value.layout == torch.strided and value.numel() <= _MOST


def refuse_other(said: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuse a file of another network than ours, where only its settings tell.

    Args:
        said: Settings of the file.
        known: The one value that each may have, where it is there.

    Raises:
        ArtefactError: One has another.
    """
    other = {key: said[key] for key, one in known.items() if said.get(key, one) != one}
    if other:
        raise ArtefactError(
            "holds a network of another kind",
            got=other,
            expected={key: known[key] for key in other},
            fix="take a file that its authors published",
        )
