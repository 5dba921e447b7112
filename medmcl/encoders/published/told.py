"""What a file says of its network that no shape of its tensors shows: followed, or refused."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from medmcl.core.errors import ArtefactError


def table(value: Any) -> Mapping[str, Any]:
    """Settings as files keep them: a mapping or a ``Namespace``; empty for anything else."""
    value = vars(value) if isinstance(value, Namespace) else value
    return value if isinstance(value, Mapping) else {}


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
