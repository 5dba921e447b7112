"""Genetics: dosages of variants, or the components of ancestry that they give.

A prepared row is (2, V): standardised dosages, and flags that say which are called. Whatever stood
in a dosage that was not called is zeroed, the mean of train, before anything else sees it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from medmcl.core.batch import InputShape
from medmcl.core.config import Config
from medmcl.core.contracts import RecordRef
from medmcl.core.errors import RecordError
from medmcl.core.findings import LEAVE_OUT, Finding, record_finding
from medmcl.core.rng import RowGenerator
from medmcl.modalities.genetics.files import files_of, individual_of, label, open_fileset
from medmcl.modalities.genetics.panel import Panel, fit_panel
from medmcl.modalities.genetics.settings import (
    GeneticsAugment,
    GeneticsSettings,
    GeneticsSource,
)
from medmcl.modalities.genetics.together import inspect_files, several_alleles
from medmcl.modalities.genetics.variants import Alignment, Genotypes, align

if TYPE_CHECKING:
    from torch import Tensor


class Genetics:
    """Genotypes of chosen variants; see `medmcl.core.contracts.Adapter`.

    A raw record: `Genotypes`.
    """

    kind: ClassVar[str] = "genetics"
    measured: ClassVar[bool] = False
    records_from: ClassVar[str] = "genotypes"
    Source: ClassVar[type[Config]] = GeneticsSource
    Settings: ClassVar[type[Config]] = GeneticsSettings
    Augment: ClassVar[type[Config]] = GeneticsAugment

    def __init__(self, source: GeneticsSource, settings: GeneticsSettings) -> None:
        self.source, self.settings = source, settings
        self._panel: Panel | None = None
        self._fitted_here = False
        self._alignments: dict[str, Alignment] = {}

    @property
    def panel(self) -> Panel:
        """What `fit` learned."""
        if self._panel is None:
            raise RuntimeError("fit or load_state comes before the panel is used")
        return self._panel

    def files(self, place: RecordRef) -> list[Path]:
        """The .bed, .bim and .fam, or both tables."""
        try:
            return list(files_of(self.source.reader, place.paths).values())
        except RecordError:
            return list(place.paths.values())

    def read(self, place: RecordRef) -> Genotypes:
        """One person's genotypes.

        Raises:
            RecordError: The files cannot be read, or hold nobody of that name.
        """
        files = open_fileset(self.source.reader, place.paths, self.source.individual)
        name = individual_of(place, self.source.column)
        if name not in files.individuals:
            raise RecordError(
                f"the files hold nobody called '{name}'", where=files.variants.where,
                got=f"for example {', '.join(list(files.individuals)[:3])}",
                fix="say with modalities.NAME.column which column names people as the files do",
            )  # fmt: skip
        dosage, called = files.row(files.individuals[name])
        return Genotypes(dosage, called, files.variants, self._group(place))

    def _group(self, place: RecordRef) -> str | None:
        for column, value in (self.source.controls or {}).items():
            if label(place.values.get(column)) != label(value):
                return None
        if self.source.ancestry is None:
            return ""
        return label(place.values.get(self.source.ancestry))

    def inspect(self, raw: Genotypes, place: RecordRef) -> list[Finding]:
        """Too few calls."""
        rate, least = float(raw.called.mean()), self.settings.subject_call_rate
        if rate >= least and rate > 0:
            return []
        where = f"subject {place.subject}, record {place.record}"
        what = f"{rate:.1%} of {len(raw.called):,} variants are called, fewer than {least:.0%}"
        fix = "lower inputs.NAME.subject_call_rate, if that is meant" + LEAVE_OUT
        return [record_finding("genetics", "call_rate", where, what, fix)]

    def inspect_together(self, raws: Iterable[Genotypes]) -> list[Finding]:
        """What was left out, and alleles that other files count otherwise."""
        members = list(raws)
        found = several_alleles(members)
        if self._panel is None:
            return found
        return found + inspect_files(members, self._panel, self._align, self.settings.panel_share,
                                     is_fitted_here=self._fitted_here)  # fmt: skip

    def fit(self, raws: Iterable[Genotypes]) -> None:
        """Choose variants, learn their frequencies and the components of ancestry.

        Holds the dosages of all train people: about 10 bytes a person and variant.

        Raises:
            CohortError: Nobody to learn from, no variant left, too few people for the components.
        """
        wanted = self.source.gives == "components" or self.settings.residualise
        needs = self.settings.components if wanted else 0
        if wanted and not needs:
            needs = 1
        self._panel = fit_panel(raws, self.settings, needs)
        self._alignments, self._fitted_here = {}, True

    def _align(self, raw: Genotypes) -> Alignment:
        key = raw.variants.key
        if key not in self._alignments:
            self._alignments[key] = align(raw.variants, self.panel.variants)
        return self._alignments[key]

    def dosages(self, raw: Genotypes) -> tuple[np.ndarray, np.ndarray]:
        """Copies of the panel's counted alleles, 0 where not called; calls. Both (V,).

        Raises:
            RecordError: The file has too few of the panel's variants.
        """
        alignment = self._align(raw)
        if alignment.share < self.settings.panel_share:
            raise RecordError(
                f"the file has {alignment.share:.0%} of the {len(self.panel.variants):,} variants",
                where=raw.variants.where,
                expected=f"at least {self.settings.panel_share:.0%} of the ids, with their alleles",
                fix="name variants as in train, impute the others, or lower "
                "inputs.NAME.panel_share",
            )
        return alignment.read(raw)

    def prepare(self, raw: Genotypes) -> np.ndarray:
        """Standardised dosages (or components) and flags, (2, V) or (2, K) float32."""
        dosage, called = self.dosages(raw)
        x = self.panel.standardise(dosage, called)
        ancestry = self.panel.ancestry
        if self.source.gives == "components":
            assert ancestry is not None  # fit refuses too few people
            values = ancestry.project(x)
            return np.stack([values, np.ones(len(values))]).astype(np.float32)
        if self.settings.residualise and ancestry is not None:
            x = np.where(called, ancestry.residual(x), 0.0)
        return np.stack([x, called]).astype(np.float32)

    def simple_features(self, raw: Genotypes) -> dict[str, float]:
        """Share of calls, of heterozygous calls, and the components of ancestry."""
        dosage, called = self.dosages(raw)
        hets = (np.rint(dosage) == 1) & called
        values = {
            "call_rate": float(called.mean()),
            "heterozygosity": float(hets.sum() / max(1, called.sum())),
        }
        if self.panel.ancestry is not None:
            scores = self.panel.ancestry.project(self.panel.standardise(dosage, called))
            values |= dict(zip(_component_names(len(scores)), scores.tolist(), strict=True))
        return values

    @property
    def prepared_shape(self) -> tuple[int, ...]:
        """(2, V), or (2, K) of components."""
        return (2, len(self._names()))

    def _names(self) -> tuple[str, ...]:
        ancestry = self.panel.ancestry
        if self.source.gives == "components":
            return _component_names(0 if ancestry is None else ancestry.count)
        return self.panel.variants.ids

    @property
    def input_shape(self) -> InputShape:
        """As prepared; all are numbers, named by variant and placed by chromosome and position."""
        names, variants = self._names(), self.panel.variants
        places = tuple(
            f"{chromosome}:{position}"
            for chromosome, position in zip(
                variants.chromosomes, variants.positions.tolist(), strict=True
            )
        )
        return InputShape(
            kind=self.kind,
            shape=self.prepared_shape,
            cardinalities=(0,) * len(names),
            names=names,
            places=places if self.source.gives == "dosages" else (),
        )

    def plain(self, x: Tensor) -> Tensor:
        """Rows (B, 2, V) with what is not called zeroed, whatever stood there."""
        from medmcl.core.layers import zero_absent

        return zero_absent(x)

    def augment(self, x: Tensor, options: GeneticsAugment, generator: RowGenerator) -> Tensor:
        """Leave out some calls."""
        import torch

        draws = generator.uniform(*x[:, 0].shape)
        flags = x[:, 1] * (draws >= options.dropout)
        return self.plain(torch.stack([x[:, 0], flags], dim=1))

    def state(self) -> dict[str, Any]:
        """Variants with alleles and frequencies, what was left out and why, components."""
        return self.panel.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self._panel = Panel.load(state)
        self._alignments, self._fitted_here = {}, False


def _component_names(count: int) -> tuple[str, ...]:
    return tuple(f"PC{number + 1}" for number in range(count))
