"""A published model with its weights: prepares a record as its authors do, and embeds it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from medmcl.core.contracts import PreparesArrays
from medmcl.core.errors import ConfigError, MedmclError, RecordError
from medmcl.encoders.published.card import Card, find_variant
from medmcl.encoders.published.file import (
    ReadsByFile,
    build_net,
    fill,
    own_sizes,
    read_file,
    reads_of,
    told_by,
)
from medmcl.modalities import ADAPTERS

_log = logging.getLogger("medmcl")
NUMBERS = 2**22
"""Of an input that is encoded at once: 64 ECGs, 7 volumes."""
WINDOWS = "windows"
"""Name of the preparation that cuts a record into the windows that its authors evaluate on."""


@dataclass(frozen=True, kw_only=True, repr=False)
class PublishedModel:
    """A published encoder; what `medmcl.models.load` gives.

    Attributes:
        card: What is known of it.
        variant: Which of the card's.
        net: The network in evaluation mode, with the weights of the file.
        weights: The file.
        sha256: Hash of the file.
        preparation: How records are prepared; None: as the card's ``prepare`` says.
        sizes: What the file says of its sizes that the card does not.
        reads: What the file says of how its records are prepared that the card does not.
    """

    card: Card
    variant: str
    net: nn.Module = field(compare=False)
    weights: Path
    sha256: str
    preparation: str | None = None
    sizes: Mapping[str, Any] = field(default_factory=dict)
    reads: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"PublishedModel({self.name!r}, weights={str(self.weights)!r})"

    @property
    def name(self) -> str:
        """``NAME``, or ``NAME:VARIANT`` where it is not the card's default."""
        return self.card.called(self.variant)

    @property
    def width(self) -> int:
        """E, length of an embedding."""
        return cast(int, self.net.width)

    @property
    def provenance(self) -> dict[str, Any]:
        """What an embedding says of the model that made it."""
        said = provenance_of(self.card, self.variant, self.preparation, self.sha256)
        own = {"sizes": dict(self.sizes), "reads": dict(self.reads)}
        return {**said, **{key: one for key, one in own.items() if one}}

    def settings(self, preparation: str | None = None) -> dict[str, Any]:
        """Settings of the modality's adapter by which records are prepared for this file.

        Args:
            preparation: One of the card's; None: its ``prepare``.

        Raises:
            ConfigError: There is no such preparation.
        """
        usual = self.card.settings(self.variant, preparation)
        if not self.reads or not isinstance(self.net, ReadsByFile):
            return usual
        return self.net.prepared_as(usual, self.reads)

    def prepare(
        self,
        record: np.ndarray,
        *,
        preparation: str | None = None,
        windows: bool = False,
        **about: Any,
    ) -> np.ndarray:
        """Give what the network sees of one record.

        Args:
            record: An ECG (L, S), or a volume.
            preparation: One of the card's ``preparations``; that of the model if not given.
            windows: Cut into the windows that the authors evaluate on, where that is a choice.
            about: What a file would say of it: ``leads``, ``rate_hz``, ``units`` of an ECG;
                ``spacing_mm``, ``mask`` of a volume.

        Returns:
            float32 (leads, samples), or as the card says; windows come first.

        Raises:
            RecordError: It cannot be prepared: leads are missing, it is too short, ...
            ConfigError: There is no such preparation, or what is said of the record lacks
                something, or is of records of another kind.
        """
        chosen = preparation or (WINDOWS if windows else self.preparation)
        adapter = ADAPTERS[self.card.input.modality]
        if not issubclass(adapter, PreparesArrays):
            raise ConfigError(
                f"records of the kind '{self.card.input.modality}' are prepared from files only",
                fix="use `medmcl embed --model`",
            )
        settings = self.card.checked(self.settings(chosen))
        array = _real(record)
        try:
            inspect.signature(adapter.prepare_array).bind(array, settings, **about)
        except TypeError as error:
            raise ConfigError(
                f"{self.name} prepares a record from what is said of it: {error}",
                got=", ".join(about) or "nothing",
                expected=", ".join(inspect.signature(adapter.prepare_array).parameters).replace(
                    "array, settings", "the array"
                ),
            ) from None
        return adapter.prepare_array(array, settings, **about)

    def features(self, array: Any, output: str | None = None, batch_size: int | None = None) -> Any:
        """Embed what `prepare` gives of several records.

        Args:
            array: (B, ...) of what `prepare` gives, or (B, windows, ...): then the mean over the
                windows is given. numpy or torch. Of a network of several views, a mapping of such
                by their names.
            output: One of the card's ``outputs``; what its authors probe if not given.
            batch_size: Windows that are encoded at once; as many as hold four million numbers, 64
                at most, if not given.

        Returns:
            (B, E) float32; numpy for numpy, torch for torch.

        Raises:
            MedmclError: The array has other axes, it or what the network makes of it is not finite,
                or there is no such output.
        """
        if isinstance(array, Mapping):
            return self._of_views(array, output, batch_size)
        x = torch.as_tensor(array, dtype=torch.float32, device=self.device)
        sees = self.card.input_of(self.variant)
        axes = len(sees.shape)
        batch = x.ndim in (axes + 1, axes + 2) and 0 not in x.shape
        if not batch or not (sees.other_sizes or tuple(x.shape[-axes:]) == sees.shape):
            raise MedmclError(
                f"{self.name} cannot take an input of this size"
                if batch
                else f"{self.name} embeds a batch of records",
                got=f"shape {tuple(x.shape)}",
                expected=f"(records, {', '.join(map(str, sees.shape))}), or with "
                "windows behind the records",
                fix="prepare records with .prepare(...)"
                if batch
                else "give array[None] for one record",
            )
        _refuse_gaps(self.name, x)
        windows = x.shape[1] if x.ndim == axes + 2 else 1
        rows = x.reshape(-1, *x.shape[-axes:])
        most = batch_size or max(1, min(64, NUMBERS // rows[0].numel()))
        with torch.no_grad():
            parts = [self._one(rows[n : n + most], output) for n in range(0, len(rows), most)]
        found = torch.cat(parts)
        if not bool(torch.isfinite(found).all()):
            raise MedmclError(
                f"{self.name} gives features that are not finite",
                got=f"{int((~torch.isfinite(found)).flatten(1).any(1).sum())} of {len(found)} rows",
                fix="the file of weights is damaged, or records are far from what the network saw",
            )
        found = found.reshape(len(x), windows, *found.shape[1:]).mean(1)
        return found if isinstance(array, Tensor) else found.cpu().numpy()

    def _of_views(
        self, views: Mapping[str, Any], output: str | None, batch_size: int | None
    ) -> Any:
        rows = {
            name: torch.as_tensor(one, dtype=torch.float32, device=self.device)
            for name, one in views.items()
        }
        for one in rows.values():
            _refuse_gaps(self.name, one)
        known = getattr(self.net, "views", ())
        lengths = {len(one) for one in rows.values()}
        if not set(rows) <= set(known) or len(lengths) != 1 or lengths == {0}:
            raise MedmclError(
                f"{self.name} embeds views that it knows, of the same records",
                got=", ".join(f"{name} {tuple(one.shape)}" for name, one in rows.items()),
                expected=", ".join(known) or "one array",
                fix=f"see `medmcl models {self.card.name}`",
            )
        (count,) = lengths
        most = batch_size or max(
            1, min(64, NUMBERS * count // sum(map(torch.numel, rows.values())))
        )
        with torch.no_grad():
            parts = [
                self._one({name: one[n : n + most] for name, one in rows.items()}, output)
                for n in range(0, count, most)
            ]
        found = torch.cat(parts)
        given = next(iter(views.values()))
        return found if isinstance(given, Tensor) else found.cpu().numpy()

    def _one(self, x: Tensor | Mapping[str, Tensor], output: str | None) -> Tensor:
        wanted = output or self.card.probe
        try:
            found = cast(dict[str, Tensor], self.net(x))
        except RuntimeError as error:
            raise MedmclError(
                f"{self.name} cannot take an input of this size",
                got=f"{_shape(x)}: {str(error).splitlines()[0][:160]}",
                expected=self.card.input_of(self.variant).shape,
                fix="prepare records with .prepare(...)",
            ) from None
        if wanted not in found:
            raise MedmclError(
                f"{self.name} has no output of this name", got=wanted, expected=", ".join(found)
            )
        return found[wanted].float()

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.net.parameters()).device

    def to(self, device: str | torch.device) -> PublishedModel:
        """Move the network; gives the model itself."""
        self.net.to(device)
        return self


def load_model(
    name: str, weights: str | Path, *, preparation: str | None = None, device: str = "cpu"
) -> PublishedModel:
    """Load a published model from a local file.

    Args:
        name: ``NAME`` or ``NAME:VARIANT``; see `medmcl models`.
        weights: File in its authors' layout, or .safetensors; a transformers folder where theirs is
            one.
        preparation: One of the card's ``preparations``.
        device: Where it computes.

    Raises:
        ConfigError: There is no such model, variant or preparation.
        ArtefactError: The file is missing, damaged, runs code, or is of another model.
    """
    card, variant = find_variant(name)
    card.settings(variant, preparation)
    file = read_file(card, Path(weights))
    variant, told = told_by(card, variant, file, asked=":" in name)
    net = build_net(card, variant, told)
    fill(net, card, variant, file)
    say_licence(card)
    return PublishedModel(
        card=card,
        variant=variant,
        net=net.eval().requires_grad_(False).to(device),
        weights=Path(weights),
        sha256=file.sha256,
        preparation=preparation,
        sizes=own_sizes(card, variant, told),
        reads=reads_of(card, variant, file),
    )


def provenance_of(card: Card, variant: str, preparation: str | None, digest: str) -> dict[str, Any]:
    """What runs and embeddings say of a model that others trained; ``digest`` is of its file."""
    return {
        "model": card.name,
        "variant": variant,
        "preparation": preparation or "prepare",
        "weights_sha256": digest,
        "weights_known": digest in card.weights.sha256.values(),
        "source": card.source,
        "licence": card.licence,
        "commercial": card.commercial,
        "seen": card.saw(variant).seen,
        "clean": list(card.saw(variant).clean),
    }


def _real(record: Any) -> np.ndarray:
    """A record as an array of real numbers, wherever a tensor lies.

    Raises:
        RecordError: It is not.
    """
    found = record.detach().cpu().numpy() if isinstance(record, Tensor) else np.asarray(record)
    if found.dtype == object:  # numbers of several kinds
        with suppress(TypeError, ValueError):
            found = found.astype(np.float64)
    if found.dtype.kind not in "fiub":
        raise RecordError(
            "a record is an array of real numbers", got=f"dtype {found.dtype}", expected="float32"
        )
    return found


def _refuse_gaps(name: str, x: Tensor) -> None:
    """Refuse what is not finite: its embedding would be no number, or a wrong one."""
    good = torch.isfinite(x).flatten(1).all(1)
    if not good.all():
        raise MedmclError(
            f"{name} cannot embed what is not finite",
            got=f"NaN or infinite values in {int((~good).sum())} of {len(x)} records",
            fix="prepare records with .prepare(...), or leave these out",
        )


def _shape(x: Tensor | Mapping[str, Tensor]) -> Any:
    return tuple(x.shape[1:]) if isinstance(x, Tensor) else {k: _shape(v) for k, v in x.items()}


_said: set[str] = set()


def say_licence(card: Card) -> None:
    """Warn once of a model that may not be used commercially."""
    if card.warning is not None and card.name not in _said:
        _said.add(card.name)
        _log.warning("warning: %s", card.warning)
