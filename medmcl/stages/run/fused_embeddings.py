"""One embedding a sample from whichever of several modalities it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from medmcl.core.errors import ConfigError
from medmcl.core.progress import Bar, progress
from medmcl.data.cohort.cohort import Cohort
from medmcl.evaluation.models.together import Together
from medmcl.stages.run.embedding import Embedding
from medmcl.stages.run.run import Run, embed_samples, vector_width

NOTHING = "nothing present"


@dataclass(frozen=True, kw_only=True)
class FusedEmbedding(Embedding):
    """Samples of a cohort, and the towers that embed what each has; `records` are samples.

    A sample is the mean of the unit embeddings of what it has, of unit length again.

    Attributes:
        modalities: Which, those that the cohort has.
    """

    modalities: tuple[str, ...]
    noun: ClassVar[str] = "sample"

    @property
    def total(self) -> int:
        """Rows of the table."""
        return len(self.prepared.samples)

    @cached_property
    def records(self) -> np.ndarray:
        """Numbers of the samples that have something, (N,)."""
        have = self._present(np.arange(self.total))
        return np.flatnonzero(np.any(list(have.values()), axis=0))

    @property
    def width(self) -> int:
        """D of the space that they share."""
        return vector_width(self.towers, self.modalities[0], self.space)

    @property
    def whom(self) -> list[Any]:
        """Which samples, and the records of each."""
        index = [self.prepared.index(name).tolist() for name in self.modalities]
        return [self.prepared.samples["sample"].astype(str).tolist(), index]

    @property
    def faults(self) -> Mapping[str, str]:
        """Record to why it cannot be embedded, of all modalities."""
        return {k: v for name in self.modalities for k, v in self.prepared.faults(name).items()}

    def vectors(self, records: np.ndarray, bar: Bar | None = None) -> np.ndarray:
        """Embed some samples, (N, D) float32; grouped alike they are alike to the bit."""
        parts = [np.zeros((0, self.width), dtype=np.float32)]
        title = f"embedding {self.modality}"
        own = progress(title, len(records)) if bar is None else nullcontext(bar)
        with own as told:
            for first in range(0, len(records), self.batch):
                told(first)
                parts.append(self._together(records[first : first + self.batch]).mean())
        return np.concatenate(parts).astype(np.float32)

    def _together(self, samples: np.ndarray) -> Together:
        vectors = {
            name: embed_samples(
                self.towers, self.prepared, name, samples, self.space, self.device, bar=_untold
            )
            for name in self.modalities
        }
        return Together(vectors=vectors, present=self._present(samples))

    def _present(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        return {name: self.prepared.present[name][samples] for name in self.modalities}

    def about(self, rows: slice) -> tuple[pd.MultiIndex, dict[str, Any]]:
        """Give the index of some samples, (subject, sample), and the columns before the vectors.

        Returns:
            Of the columns ``quality`` is ``ok`` or that nothing is present (then vectors are
            missing), ``modalities`` as ``ecg + cmr``.
        """
        samples = self.prepared.samples.iloc[rows]
        nothing = {name: np.zeros((len(samples), 0)) for name in self.modalities}
        have = Together(vectors=nothing, present=self._present(np.arange(self.total)[rows]))
        quality = np.where(have.any, "ok", NOTHING).astype(object)
        ids = [samples["subject"].astype(str), samples["sample"].astype(str)]
        index = pd.MultiIndex.from_arrays(ids, names=["subject", "sample"])
        return index, {"quality": quality, "modalities": have.patterns()}


def _untold(done: float, note: str = "") -> None:
    """Show nothing of single modalities: samples are counted."""
    del done, note


def shared_modalities(run: Run, cohort: Cohort, modalities: Sequence[str]) -> tuple[str, ...]:
    """Give those of some modalities that the cohort has; others are absent for everyone.

    Raises:
        ConfigError: A modality that the run does not have, or none that the cohort has, too.
    """
    strange = [name for name in modalities if name not in run.recipe.inputs]
    shared = tuple(name for name in modalities if name in cohort.records)
    if strange or not shared:
        raise ConfigError(
            f"there is nothing to embed of {', '.join(strange or modalities)}",
            got=f"run: {', '.join(run.recipe.inputs)}; cohort: {', '.join(cohort.records)}",
        )
    return shared
