"""What a spec of counts may say (schema ``medmcl/cooccurrence@1``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from medmcl.cooccurrence.count.rules import Rules, WindowName
from medmcl.core.config import Config, check, faults_of, read_yaml
from medmcl.core.errors import ConfigError
from medmcl.core.overrides import apply_override, refuse_overrides, written
from medmcl.core.path_suggestions import require_file
from medmcl.data.cohort.confined import Confined
from medmcl.data.cohort.locate import choose_root
from medmcl.data.events.events import ModalityRule
from medmcl.data.events.spec import MedsKeys, Source

_UNITS = {"": 1, "B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


class VocabularyKeys(Config):
    """Which codes are counted."""

    min_occurrences: int = Field(default=1, ge=1)
    min_patients: int = Field(default=1, ge=1)
    files: dict[str, str] = {}
    """Modality to a file with its codes, so that all sites count the same."""
    version: str = ""
    """Of the files; sites whose versions differ are not added up. A year is taken as text."""

    @field_validator("version", mode="before")
    @classmethod
    def _text(cls, given: Any) -> Any:
        if isinstance(given, float):
            raise ValueError("write it in quotes as well: 2025.1 and 2025.10 are one number")
        whole = isinstance(given, int) and not isinstance(given, bool)
        return str(given) if whole or isinstance(given, date) else given


class CooccurrenceKeys(Config):
    """The top level of a spec."""

    schema_: Literal["medmcl/cooccurrence@1"] = Field(alias="schema")
    about: str = ""
    data_root: str | None = None
    roots: tuple[str, ...] = ()
    """Further folders that files, and links to them, may lie in."""
    sources: tuple[Source, ...] = Field(min_length=1)
    modalities: dict[str, ModalityRule] = {}
    only: ModalityRule | None = None
    """What an event must be to be read at all: one site, for example."""
    window: WindowName = "record"
    pairing: Literal["product", "distinct"] = "product"
    pairs: tuple[tuple[str, str], ...] | None = None
    """Blocks to count; all pairs of different modalities if not given."""
    within: bool = False
    patients: bool = True
    duplicates: Literal["keep", "drop"] = "keep"
    vocabulary: VocabularyKeys = VocabularyKeys()
    memory: int = Field(2 << 30, ge=1 << 20)
    """Bytes, or text such as 2GB: of sums and buffers, all workers together."""

    @field_validator("memory", mode="before")
    @classmethod
    def _bytes(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        size = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?B)?", given.strip().upper())
        if size is None:
            raise ValueError("write bytes, or for example 500MB or 2GB")
        return int(float(size[1]) * _UNITS[size[2] or ""])

    @field_validator("sources")
    @classmethod
    def _alone(cls, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        if len(sources) > 1 and any(isinstance(one, MedsKeys) for one in sources):
            raise ValueError("a MEDS dataset is the only source: bring the others into it first")
        return sources

    @property
    def rules(self) -> Rules:
        """How to count."""
        return Rules(
            window=self.window,
            pairing=self.pairing,
            pairs=self.pairs,
            within=self.within,
            patients=self.patients,
            drop_duplicates=self.duplicates == "drop",
        )


@dataclass(frozen=True)
class Spec:
    """A spec that is valid, with where its files lie."""

    keys: CooccurrenceKeys
    root: Path
    file: Path

    @property
    def meds(self) -> MedsKeys | None:
        """The MEDS dataset, if that is the source."""
        only = self.keys.sources[0]
        return only if isinstance(only, MedsKeys) else None

    @property
    def files(self) -> list[Path]:
        """The files that its sources are read from, as far as they are there."""
        found: list[Path] = []
        for path in (self.root / name for source in self.keys.sources for name in _named(source)):
            found += sorted(path.rglob("*")) if path.is_dir() else [path]
        return [path for path in found if path.is_file()]

    def refuse_stray(self) -> None:
        """Refuse files that are links out of the data root and of the folders that it names.

        Raises:
            CohortError: Counts them, and names the first.
        """
        lists = [*self.keys.vocabulary.files.values()]
        starts = [*lists, *(name for source in self.keys.sources for name in _named(source))]
        roots = [self.root, *(self.root / one for one in self.keys.roots)]
        files = [*self.files, *(self.root / one for one in lists)]
        confined = Confined(roots, starts, owner=self.file.name)
        confined.refuse("the sources", str(self.file), [(one.name, one) for one in files])


def _named(source: Source) -> list[str]:
    """What a source names of files and folders."""
    joined = getattr(source, "join", None)
    named = (source.path, getattr(source, "lexicon", None), joined and joined.table)
    return [one for one in named if one]


def load_spec(file: Path, overrides: Mapping[str, Any] | None = None) -> Spec:
    """Read a spec.

    Args:
        file: YAML.
        overrides: Dotted names to values, laid over it.

    Raises:
        ConfigError: Every fault of the file at once, each with its field.
        OverrideError: A fault that an override brought in.
        CohortError: Files are links that lead elsewhere.
    """
    require_file(file, ConfigError)
    values = read_yaml(file)
    applied = {
        apply_override(values, dotted, value): written(dotted, value)
        for dotted, value in (overrides or {}).items()
    }
    refuse_overrides(faults_of(CooccurrenceKeys, values), applied)
    keys = check(CooccurrenceKeys, values, file, ConfigError)
    asked = (overrides or {}).get("data_root")
    root = choose_root(asked, None if asked else keys.data_root, file.stem, file.absolute())
    found = Spec(keys, root, file)
    found.refuse_stray()
    return found
