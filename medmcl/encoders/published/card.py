"""Model cards: what a published encoder is, reads, gives, has seen, and may be used for.

A card is a YAML file called as its model is: under ``cards/``, in a folder that ``MEDMCL_CARDS``
names, or of another package, by an entry point of the group ``medmcl.cards`` whose value is the
path of such a file. Nothing here imports torch.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from medmcl.core.config import Config, check, read_yaml
from medmcl.core.errors import ConfigError
from medmcl.encoders.published.card_files import card_files
from medmcl.modalities import ADAPTERS


class Weights(Config):
    """How a file of weights is laid out; names are the authors'."""

    under: tuple[str, ...] = Field(
        default=(), description="key under which the tensors stand, the first that is there"
    )
    prefixes: tuple[str, ...] = Field(
        default=(), description="in front of the encoder's names, the one that most have"
    )
    rename: dict[str, str] = Field(
        default={},
        description="regular expressions to what they become, one after another: names of the "
        "file, without its prefix, to those of the net",
    )
    drop: tuple[str, ...] = Field(
        default=(), description="names that may be there and are not read; * stands for any text"
    )
    sha256: dict[str, str] = Field(
        default={}, description="file name to its hash, of files that the authors publish"
    )
    objects: str | None = Field(
        default=None, description="what to do about a file that holds Python objects"
    )

    def own_name(self, name: str, prefix: str) -> str:
        """Name in the net of a name in the file."""
        name = name.removeprefix(prefix)
        for pattern, become in self.rename.items():
            name = re.sub(pattern, become, name)
        return name


class Input(Config):
    """What the network sees of one record, or of one window of it."""

    modality: str
    leads: Literal["12std"] | tuple[str, ...] | None = None
    rate_hz: PositiveFloat | None = None
    samples: PositiveInt | None = None
    units: str = ""
    spacing_mm: tuple[PositiveFloat, ...] | None = None
    shape: tuple[PositiveInt, ...] = Field(default=(), description="(leads, samples) if not given")
    other_sizes: bool = Field(
        default=False, description="whether the network takes other lengths, or volumes, too"
    )
    permute: tuple[NonNegativeInt, ...] = Field(
        default=(),
        description="axes of what the modality's adapter prepares, in the order the net has them; "
        "the same order if not given",
    )

    @model_validator(mode="before")
    @classmethod
    def _leads_and_samples(cls, given: Any) -> Any:
        if isinstance(given, dict) and not given.get("shape") and "samples" in given:
            leads = given.get("leads", "12std")
            return {**given, "shape": (12 if leads == "12std" else len(leads), given["samples"])}
        return given

    @property
    def seconds(self) -> float | None:
        """Length of what the network sees; None of what is no signal."""
        if self.rate_hz is None or self.leads is None:
            return None
        leads = 12 if self.leads == "12std" else len(self.leads)
        return math.prod(self.shape) / leads / self.rate_hz


def _all_of_them(given: Any) -> Any:
    return dict.fromkeys(given, "") if isinstance(given, (list, tuple)) else given


Seen = Annotated[dict[str, str], BeforeValidator(_all_of_them)]


class Saw(Config):
    """What the files of a variant were trained on; as ``seen`` and ``clean`` of the card."""

    seen: Seen
    clean: tuple[str, ...] = ()


class Card(Config):
    """A published encoder."""

    name: str
    title: str
    net: str = Field(description="module:Class of the network")
    licence: str
    commercial: bool = Field(description="whether it may be used commercially")
    source: str = Field(description="repository@commit that it was written from")
    citation: str
    variants: dict[str, dict[str, Any]] = Field(
        min_length=1, description="settings of the network; net: where a variant has its own"
    )
    default: str = Field(description="variant that a name without a colon means")
    weights: Weights
    input: Input
    prepare: dict[str, Any] = Field(description="settings of the modality's adapter")
    preparations: dict[str, dict[str, Any]] = Field(
        default={}, description="further ones by name; what they say goes before `prepare`"
    )
    variant_prepare: dict[str, dict[str, Any]] = Field(
        default={}, description="what a variant needs otherwise than `prepare` says"
    )
    outputs: dict[str, str] = Field(description="what the network gives, in words")
    probe: str = Field(default="features", description="the output that its authors probe")
    seen: Seen = Field(default={}, description="data sets that it was trained on, and what of them")
    clean: tuple[str, ...] = Field(
        default=(),
        description="data sets that it has not seen, as far as read, or parts of one that it has: "
        "ptbxl:fold 10",
    )
    variant_seen: dict[str, Saw] = Field(
        default={}, description="`seen` and `clean` of variants whose files saw otherwise"
    )
    pretrained_on: Path | None = Field(
        default=None,
        description="a list of what it was trained on, from the folder of the card: ids, a folder "
        "of records, or a cohort; who of it is scored is searched",
    )
    told: tuple[str, ...] = Field(
        default=(), description="codes of warnings of records that are said where it embeds"
    )
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _names_meet(self) -> Card:
        if self.default not in self.variants:
            raise ValueError("default: no variant of this name")
        if self.probe not in self.outputs:
            raise ValueError("probe: no output of this name")
        for key in ("variant_prepare", "variant_seen"):
            unknown = set(getattr(self, key)) - set(self.variants)
            if unknown:
                raise ValueError(f"{key}: no variant '{sorted(unknown)[0]}'")
        return self

    def called(self, variant: str) -> str:
        """Name of a variant as people ask for it."""
        return self.name if variant == self.default else f"{self.name}:{variant}"

    def saw(self, variant: str) -> Saw:
        """What the files of a variant have seen, and what they have not."""
        return self.variant_seen.get(variant) or Saw(seen=self.seen, clean=self.clean)

    def input_of(self, variant: str) -> Input:
        """What the network of a variant sees: of a variant of other leads, those."""
        leads = self.variant_prepare.get(variant, {}).get("leads")
        if leads is None:
            return self.input
        return Input(**{**self.input.model_dump(exclude={"shape"}), "leads": leads})

    def settings(self, variant: str, preparation: str | None = None) -> dict[str, Any]:
        """Settings of the modality's adapter by which records are prepared.

        Args:
            variant: One of ``variants``.
            preparation: One of ``preparations``; None: ``prepare``.

        Raises:
            ConfigError: There is no such preparation.
        """
        if preparation is not None and preparation not in self.preparations:
            raise ConfigError(
                f"'{self.name}' knows no preparation of this name",
                got=preparation,
                expected=", ".join(self.preparations) or "none: it has one only",
            )
        chosen = {} if preparation is None else self.preparations[preparation]
        return {**self.prepare, **self.variant_prepare.get(variant, {}), **chosen}

    def checked(self, settings: Mapping[str, Any]) -> Config:
        """Give `settings` of the modality's adapter, checked by its own model."""
        model: type[Config] = ADAPTERS.settings[self.input.modality]
        where = f"model '{self.name}', prepare"
        return check(model, settings, where, ConfigError)

    @property
    def warning(self) -> str | None:
        """What must be said wherever it is used; None where anybody may use it."""
        if self.commercial:
            return None
        return f"{self.title}: no commercial use ({self.licence})"


@cache
def read_card(name: str) -> Card:
    """Read a card by its model's name.

    Raises:
        ConfigError: There is no such model, or its card is not valid.
    """
    files = card_files()
    if name not in files:
        near = difflib.get_close_matches(name, files, 1)
        raise ConfigError(
            f"there is no published model '{name}'",
            expected=", ".join(files),
            fix=f"did you mean '{near[0]}'?" if near else "see `medmcl models`",
        )
    path = files[name] if isinstance(files[name], Path) else Path(files[name].load())
    card = check(Card, {"name": name, **read_yaml(path)}, where=path, error=ConfigError)
    if card.pretrained_on is None:
        return card
    return card.model_copy(update={"pretrained_on": path.absolute().parent / card.pretrained_on})


def from_authors(name: str) -> str:
    """Say how to get the weights of a model."""
    return (
        "medmcl ships and fetches no weights: take the file from its authors "
        f"(`medmcl models {name}` says where and which)"
    )


def split_model(text: str, variant: str | None = None) -> tuple[str, Path]:
    """Give the name, as `find_variant` takes it, and the file of ``NAME[:VARIANT]:FILE``.

    Args:
        text: What a command line says.
        variant: A variant that it says apart.

    Raises:
        ConfigError: There is no such model or variant, two variants are named, or no file is.
    """
    name, _, file = text.partition(":")
    card = read_card(name)
    first, colon, rest = file.partition(":")
    if colon and first in card.variants:
        if variant not in (None, first):
            raise ConfigError(
                "two variants are named", where="--variant", got=f"{first} and {variant}"
            )
        variant, file = first, rest
    elif colon and rest and not Path(file).exists() and Path(rest).exists():
        raise ConfigError(
            f"'{name}' has no variant '{first}'",
            where="--model",
            got=text,
            expected=", ".join(card.variants),
        )
    if not file or file in card.variants:
        raise ConfigError(
            "the file of the weights is not named",
            where="--model",
            got=text,
            expected=f"{name}:FILE, or {name}:VARIANT:FILE",
        )
    return (name if variant is None else f"{name}:{variant}"), Path(file)


def find_variant(name: str) -> tuple[Card, str]:
    """Give the card and the variant that ``NAME`` or ``NAME:VARIANT`` mean.

    Raises:
        ConfigError: There is no such model or variant.
    """
    model, _, variant = name.partition(":")
    card = read_card(model)
    if variant and variant not in card.variants:
        raise ConfigError(
            f"'{model}' has no variant '{variant}'", expected=", ".join(card.variants)
        )
    return card, variant or card.default
