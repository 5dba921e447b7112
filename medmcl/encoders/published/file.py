"""From a file in its authors' layout to the tensors of a net, by the net's names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medmcl.core.config import check
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.encoders.published.card import Card, Weights
from medmcl.encoders.weights import read_content

SHOWN = 12
"""Names that one message lists."""
IN_FOLDER = ("model.safetensors", "pytorch_model.bin")
"""Where a transformers folder keeps its weights."""


def build_net(card: Card, variant: str) -> nn.Module:
    """Build the net of a variant, with first weights."""
    module, _, name = card.net.partition(":")
    kind: Any = getattr(import_module(module), name)
    given = card.variants[variant]
    checked = check(kind.Settings, given, f"model '{card.name}', variants.{variant}", ConfigError)
    net: nn.Module = kind(**{key: getattr(checked, key) for key in type(checked).model_fields})
    return net


def fill(net: nn.Module, card: Card, variant: str, path: Path) -> str:
    """Give a net the weights of a file; give the file's sha256.

    Raises:
        ArtefactError: The file cannot be read, is another than its authors published under this
            name, or does not hold exactly the tensors of the net and what the card says may be
            left.
    """
    source = weights_file(path)
    content, digest = read_content(source), sha256_of(source)
    known = card.weights.sha256.get(source.name)
    if known is not None and known != digest:
        raise ArtefactError(
            f"is not the file that the authors of {card.title} published under this name",
            where=source,
            got=f"sha256 {digest}",
            expected=known,
            fix="copy it again from its source; weights that you trained on need another name",
        )
    state = tensors_under(content, card.weights, source)
    own = net.state_dict()
    read_as = file_names(own, state, card.weights)
    slips = misfits(own, state, read_as, card.weights)
    if slips:
        others = [one for one in card.variants if one != variant and _fits(card, one, state)]
        raise ArtefactError(
            f"does not hold the weights of {card.called(variant)}: " + "; ".join(slips.values()),
            where=source,
            got=_some(sorted(state)),
            expected=_some(sorted(own)),
            fix=f"it is a file of {card.called(others[0])}: name that"
            if others
            else f"see `medmcl models {card.name}` for its files, and for its variants: "
            + ", ".join(card.variants),
        )
    taken = {name: state[read_as[name]].to(own[name].dtype) for name in own}
    broken = [name for name, value in taken.items() if not bool(value.isfinite().all())]
    if broken:
        raise ArtefactError("holds NaN or infinite weights", where=source, got=_some(broken))
    net.load_state_dict(taken)
    return digest


def weights_file(path: Path) -> Path:
    """Give the file of weights that a path means: itself, or that of a transformers folder."""
    if not path.is_dir():
        return path
    for name in IN_FOLDER:
        if (path / name).is_file():
            return path / name
    raise ArtefactError("the folder holds no weights", where=path, expected=" or ".join(IN_FOLDER))


def tensors_under(content: Any, weights: Weights, source: Path) -> dict[str, Tensor]:
    """Take the tensors out of what a file holds; ``module.`` in front of all names goes."""
    if isinstance(content, Mapping):
        content = next(
            (content[key] for key in weights.under if isinstance(content.get(key), Mapping)),
            content,
        )
    found = {
        str(name): value
        for name, value in (content.items() if isinstance(content, Mapping) else ())
        if isinstance(value, Tensor)
    }
    if not found:
        raise ArtefactError(
            "holds no named tensors",
            where=source,
            got=f"the keys {_some(list(map(str, content)))}"
            if isinstance(content, Mapping)
            else type(content).__name__,
            expected=f"tensors by name{' under ' if weights.under else ''}"
            + " or ".join(weights.under),
        )
    return {name.removeprefix("module."): value for name, value in found.items()}


def file_names(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], weights: Weights
) -> dict[str, str]:
    """Name in the net to the name in the file: under the prefix that most have, or bare."""
    prefixes = (*weights.prefixes, "")
    hits = [sum(prefix + name in state for name in own) for prefix in prefixes]
    prefix = prefixes[hits.index(max(hits))]
    return {name: prefix + name if prefix + name in state else name for name in own}


def misfits(
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    read_as: Mapping[str, str],
    weights: Weights,
) -> dict[str, str]:
    """Say by kind which tensors are missing, unexpected, or of another shape; empty: it fits."""
    used = set(read_as.values())
    missing = [name for name in own if read_as[name] not in state]
    left = [
        name
        for name in state
        if name not in used and not any(fnmatchcase(name, one) for one in weights.drop)
    ]
    shapes = [
        f"{name} {tuple(state[read_as[name]].shape)}, not {tuple(value.shape)}"
        for name, value in own.items()
        if read_as[name] in state and state[read_as[name]].shape != value.shape
    ]
    said = {
        "missing": f"{len(missing)} tensors are missing ({_some(missing)})" if missing else "",
        "unexpected": f"{len(left)} are unexpected ({_some(left)})" if left else "",
        "shapes": f"{len(shapes)} have another shape ({_some(shapes)})" if shapes else "",
    }
    return {kind: words for kind, words in said.items() if words}


def _fits(card: Card, variant: str, state: Mapping[str, Tensor]) -> bool:
    """Whether a file is one of another variant."""
    with torch.device("meta"):
        own = build_net(card, variant).state_dict()
    return not misfits(own, state, file_names(own, state, card.weights), card.weights)


def sha256_of(path: Path) -> str:
    """Give the hash of a file's bytes, read once for as long as it stays as it is."""
    stamp = path.stat()
    return _sha256(path, stamp.st_ino, stamp.st_size, stamp.st_mtime_ns)


@lru_cache(maxsize=32)
def _sha256(path: Path, *_stamp: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f", and {more} more" if more > 0 else "")
