"""From a file in its authors' layout to the tensors of a net, by the net's names."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from medmcl.core.config import Config, check
from medmcl.core.errors import ArtefactError, ConfigError, MedmclError
from medmcl.core.findings import counted
from medmcl.core.limits import parse_json, whole_bytes
from medmcl.core.path_suggestions import require_file
from medmcl.core.sealed import reading
from medmcl.encoders.published.card import Card, Weights, from_authors, read_card
from medmcl.encoders.published.card_files import card_files
from medmcl.encoders.weights import WRAPPERS, read_content

SHOWN = 2
"""Names of one kind that a message lists; the rest is counted."""
LONGEST = 200
"""Letters of a name, or of what torch says, in a message."""
IN_FOLDER = ("model.safetensors", "pytorch_model.bin")
"""Where a transformers folder keeps its weights."""
CONFIG = "config.json"
"""Where it keeps the sizes of its network."""


@runtime_checkable
class ToldByFile(Protocol):
    """What a net adds whose files say of themselves what they are of."""

    @staticmethod
    def told_by(content: Any, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Settings that a file decides: sizes beside its weights, which heads it has."""


@runtime_checkable
class ReadsByFile(Protocol):
    """What a net adds whose files say of themselves how their records are prepared."""

    @staticmethod
    def reads(content: Any) -> dict[str, Any]:
        """What a file says of it that the card does not; empty where it says nothing else."""

    @staticmethod
    def prepared_as(settings: Mapping[str, Any], reads: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of the modality's adapter for such a file, of those of the card."""


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """What a file holds.

    Attributes:
        path: The file itself, where a folder was named.
        content: All of it, tensors and plain values; of a folder, its `CONFIG`.
        state: Its tensors by the names that stand there.
        sha256: Hash of its bytes.
    """

    path: Path
    content: Any
    state: Mapping[str, Tensor]
    sha256: str


def read_file(card: Card, path: Path) -> WeightsFile:
    """Read a file of a model.

    Raises:
        ArtefactError: It cannot be read, holds no tensors, or is another than its authors published
            under this name.
    """
    source = weights_file(path)
    require_file(source, ArtefactError, fix=from_authors(card.name))
    content, digest = read_content(source, card.weights.objects), sha256_of(source)
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
    beside = source.with_name(CONFIG)
    if path.is_dir() and beside.is_file():
        content = {CONFIG: _json(beside)}
    return WeightsFile(path=source, content=content, state=state, sha256=digest)


def net_class(card: Card, variant: str) -> Any:
    """The class of a variant's net."""
    module, _, name = card.variants[variant].get("net", card.net).partition(":")
    return getattr(import_module(module), name)


def build_net(card: Card, variant: str, told: Mapping[str, Any] | None = None) -> nn.Module:
    """Build the net of a variant, with first weights.

    Args:
        card: Of the model.
        variant: One of the card's.
        told: Settings that a file says of itself, before the card's; see `told_by`.
    """
    checked = _settings(card, variant, told or {})
    settings = {key: getattr(checked, key) for key in type(checked).model_fields}
    net: nn.Module = net_class(card, variant)(**settings)
    return net


def _settings(card: Card, variant: str, told: Mapping[str, Any]) -> Config:
    given = {**card.variants[variant], **told}
    given.pop("net", None)
    model: type[Config] = net_class(card, variant).Settings
    return check(model, given, f"model '{card.name}', variants.{variant}", ConfigError)


def told_by(
    card: Card, variant: str, file: WeightsFile, *, asked: bool
) -> tuple[str, dict[str, Any]]:
    """Give the variant that a file says it is of, and the settings that it decides.

    Args:
        card: Of the model.
        variant: One of the card's.
        file: Its weights.
        asked: Whether the variant was named; otherwise the file decides.

    Raises:
        ArtefactError: The file is not of the variant that was named, or what it says of its sizes
            is not true of its tensors.
    """
    kind = net_class(card, variant)
    if not issubclass(kind, ToldByFile):
        return variant, {}
    told = kind.told_by(file.content, file.state)

    def agrees(one: str) -> bool:
        return all(told.get(key, value) == value for key, value in card.variants[one].items())

    if not agrees(variant):
        others = [one for one in card.variants if agrees(one)]
        if asked:
            raise ArtefactError(
                f"says itself that it is not of {card.name}:{variant}",
                where=file.path,
                got=told,
                expected=card.variants[variant],
                fix=f"load it as {card.called(others[0]) if others else card.name}",
            )
        variant = others[0] if others else variant
    try:
        with torch.device("meta"):  # sizes of a file are not yet to be trusted with memory
            own = build_net(card, variant, told).state_dict()
    except (ConfigError, RuntimeError) as error:  # torch counts no more than 2**63 values
        raise ArtefactError(
            f"says sizes of itself that cannot be: {str(error)[: 5 * LONGEST]}",
            where=file.path,
            got=told,
        ) from None
    matched(own, card, variant, file, told)
    return variant, told


HEADS = ("classes", "zero_shot")
"""Settings of what a file has beside its encoder."""


def own_sizes(card: Card, variant: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a file says of its encoder that is not so in the card's variant."""
    usual, given = (_settings(card, variant, one) for one in ({}, told))
    return {
        key: list(one) if isinstance(one := getattr(given, key), tuple) else one
        for key in told
        if key not in HEADS and getattr(usual, key) != getattr(given, key)
    }


def reads_of(card: Card, variant: str, file: WeightsFile) -> dict[str, Any]:
    """Give what a file says of how its records are prepared that the card does not.

    Raises:
        ArtefactError: It cannot be followed.
    """
    kind = net_class(card, variant)
    return kind.reads(file.content) if issubclass(kind, ReadsByFile) else {}


def fill(net: nn.Module, card: Card, variant: str, file: WeightsFile) -> None:
    """Give a net the weights of a file.

    Raises:
        ArtefactError: The file does not hold exactly the tensors of the net and what the card says
            may be left; or whole numbers, or what is not finite, in their place.
    """
    own = net.state_dict()
    read_as = matched(own, card, variant, file)
    said = {name: file.state[read_as[name]] for name in own}
    hollow = [name for name, one in said.items() if one.layout != torch.strided or one.is_meta]
    if hollow:
        raise ArtefactError(
            "holds sparse tensors, or tensors without values, where the net has weights",
            where=file.path,
            got=_some(hollow),
            fix="save it with dense tensors: {name: x.to_dense() for name, x in state.items()}",
        )
    whole = [name for name, one in own.items()
             if one.is_floating_point() and not said[name].is_floating_point()]  # fmt: skip
    if whole:
        raise ArtefactError(
            "holds whole numbers where the net has weights",
            where=file.path,
            got=_some(whole),
            expected="float32, float16 or bfloat16",
            fix="use the file before it was quantised",
        )
    taken = {name: one.to(own[name].dtype) for name, one in said.items()}
    broken = [name for name, value in taken.items() if not bool(value.isfinite().all())]
    if broken:
        raise ArtefactError("holds NaN or infinite weights", where=file.path, got=_some(broken))
    net.load_state_dict(taken)


def matched(
    own: Mapping[str, Tensor],
    card: Card,
    variant: str,
    file: WeightsFile,
    told: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Give the name in the file of each tensor of a net, or refuse a file that does not fit.

    ``told``: settings of the net that the file says of itself.
    """
    read_as, slips = compared(own, file.state, card.weights)
    if slips:
        called, other = card.called(variant), whose(file.content, file.state, first=card)
        model, _, name = (other or "").partition(":")
        own_sizes = card.variants[name or card.default] if model == card.name else {}
        if any((told or {}).get(key, size) != size for key, size in own_sizes.items()):
            raise ArtefactError(
                "says sizes of itself that its tensors do not have: " + "; ".join(slips),
                where=file.path,
                got=told,
                expected=f"those of {other}, whose tensors it holds",
                fix="copy it again from its source",
            )
        other = None if other == called else other  # but for what the file says of itself
        raise ArtefactError(
            f"is a file of {other}, not of {called}"
            if other
            else f"does not hold the weights of {called}",
            where=file.path,
            got=None if other else f"{counted(len(file.state), 'tensor')}; " + "; ".join(slips),
            fix=f"name {other} in the place of {called}"
            if other
            else f"see `medmcl models {card.name}` for its files, and for its variants: "
            + ", ".join(card.variants),
        )
    return read_as


def weights_file(path: Path) -> Path:
    """Give the file of weights that a path means: itself, or that of a transformers folder."""
    if not path.is_dir():
        return path
    for name in IN_FOLDER:
        if (path / name).is_file():
            return path / name
    raise ArtefactError("the folder holds no weights", where=path, expected=" or ".join(IN_FOLDER))


def _json(path: Path) -> Any:
    with reading(path, "is no JSON that can be read", fix="copy it again"):
        return parse_json(whole_bytes(path, "table", ArtefactError))


def tensors_under(content: Any, weights: Weights, source: Path) -> dict[str, Tensor]:
    """Take the tensors out of what a file holds, or refuse one without."""
    found = _tensors(content, weights)
    if not found:
        other = whose(content, {})
        raise ArtefactError(
            f"is a file of {other}" if other else "holds no named tensors",
            where=source,
            got=f"the keys {_some([one for one in content if isinstance(one, str)])}"
            if isinstance(content, Mapping)
            else type(content).__name__,
            expected="tensors by name, or such a table under "
            + ", ".join(dict.fromkeys((*weights.under, *WRAPPERS))),
            fix=f"name {other} as the model"
            if other
            else "save the table of tensors alone: torch.save(checkpoint[KEY], FILE)",
        )
    return found


_WRAPPED = re.compile(r"^((module|_orig_mod)\.)+")


def _tensors(content: Any, weights: Weights) -> dict[str, Tensor]:
    """Tensors by their names under one of a card's keys, or of those that trainers use.

    ``module.`` and ``_orig_mod.`` in front of them, of parallel and compiled networks, go, in
    either order.
    """
    if isinstance(content, Mapping):
        bare = any(isinstance(value, Tensor) for value in content.values())
        keys = (*weights.under, *(() if bare else WRAPPERS))
        content = next(
            (content[key] for key in keys if isinstance(content.get(key), Mapping)), content
        )
    return {
        _WRAPPED.sub("", name): value
        for name, value in (content.items() if isinstance(content, Mapping) else ())
        if isinstance(value, Tensor) and isinstance(name, str)
    }


def whose(content: Any, state: Mapping[str, Tensor], first: Card | None = None) -> str | None:
    """Say of which model and variant a file is, by its tensors; None if of none that is known.

    Args:
        content: All that the file holds.
        state: Its tensors, where they do not stand in ``content``.
        first: Model to be looked at before the others.
    """
    names = sorted(card_files(), key=lambda one: first is None or one != first.name)
    for card in map(read_card, names):
        held = _tensors(content, card.weights) or state
        for variant in card.variants if held else ():
            try:
                with torch.device("meta"):
                    own = build_net(card, variant).state_dict()
            except (MedmclError, ImportError):  # of a package outside
                continue
            if not compared(own, held, card.weights)[1]:
                return card.called(variant)
    return None


def compared(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], weights: Weights
) -> tuple[dict[str, str], list[str]]:
    """Compare a net's tensors with a file's.

    Names in the file stand under the prefix that most of them have, or bare. What stands under
    another of the card's prefixes, beside one, is a network of its own, and not read.

    Returns:
        Name in the net to name in the file; and in words, which tensors are missing, unexpected,
        or of another shape: nothing where it fits.
    """
    tables = {}
    for prefix in (*weights.prefixes, ""):
        bare_first = [name for under in (False, True) for name in state
                      if name.startswith(prefix) == under]  # fmt: skip
        tables[prefix] = {weights.own_name(name, prefix): name for name in bare_first}
    prefix = max(tables, key=lambda one: sum(name in tables[one] for name in own))
    read_as = {name: tables[prefix].get(name, prefix + name) for name in own}
    used = set(read_as.values())
    beside = tuple(one for one in weights.prefixes if prefix and one != prefix)
    missing = [name for name in own if read_as[name] not in state]
    left = [
        name
        for name in state
        if name not in used
        and not name.startswith(beside)
        and not any(fnmatchcase(name, one) for one in weights.drop)
    ]
    shapes = [
        f"{name} {tuple(state[read_as[name]].shape)}, not {tuple(value.shape)}"
        for name, value in own.items()
        if read_as[name] in state and state[read_as[name]].shape != value.shape
    ]
    slips = (
        (missing, "missing", f" of {len(own):,}"),
        (left, "unexpected", ""),
        (shapes, "of another shape", ""),
    )
    return read_as, [
        f"{len(names):,}{among} {'is' if len(names) == 1 else 'are'} {kind} ({_some(names)})"
        for names, kind, among in slips
        if names
    ]


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
    return ", ".join(one[:LONGEST] for one in names[:SHOWN]) + (
        f", and {more:,} more" if more > 0 else ""
    )
