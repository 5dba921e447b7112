"""What an aspect may ask of the run and the cohort that are evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from medmcl.core.targets import Targets
    from medmcl.data.loading.prepare import Prepared
    from medmcl.evaluation.aspects.attack.aspect import AttackSpec
    from medmcl.evaluation.metrics.intervals import Resampling
    from medmcl.evaluation.protocol.evaluation import Found
    from medmcl.evaluation.protocol.folds import CrossValidation
    from medmcl.evaluation.protocol.predicted import Method


class Scene(Protocol):
    """A run, a cohort, and how an evaluate stage scores; N samples.

    Attributes:
        prepared: The cohort, as the run prepares it.
        tasks: Tasks that are scored.
        seed: Of the bootstrap, and of what is drawn.
        sites: Site of each sample where sites are drawn or folds are of sites, (N,); else None.
        is_frozen: Whether kept probes are applied, and nothing is fitted.
    """

    prepared: Prepared
    tasks: Sequence[str]
    seed: int
    sites: np.ndarray | None
    is_frozen: bool

    @property
    def name(self) -> str:
        """Name of the evaluate stage."""

    @property
    def draws(self) -> int:
        """Bootstrap draws."""

    @property
    def level(self) -> float:
        """Coverage that intervals aim at."""

    @property
    def resample(self) -> str:
        """What the bootstrap draws: ``subject``, ``site`` or ``stratified``."""

    @property
    def resampling(self) -> Resampling:
        """How the bootstrap draws samples where there is no outcome: subjects, or whole sites."""

    @property
    def fold_by(self) -> str:
        """What a fold is made of: ``subject`` or ``site``."""

    @property
    def is_outside(self) -> bool:
        """Whether the cohort is another than the run's own."""

    @property
    def features(self) -> Mapping[str, np.ndarray]:
        """Model of ``probe`` and ``embeddings`` to what it says of each sample, (N, E)."""

    @property
    def present(self) -> Mapping[str, np.ndarray]:
        """Method to the samples that have its inputs, (N,) bool."""

    @property
    def subgroups(self) -> Mapping[str, np.ndarray]:
        """Attribute of subjects to the group of each sample, (N,) text."""

    def now(self, part: str) -> None:
        """Say what is done now, and stop where that was asked for."""

    def say(self, note: str) -> None:
        """Add a note for the reader, once."""

    def scored(self, *, fits: bool | None = None) -> np.ndarray:
        """Give the samples that may be scored without an outcome, their numbers in order.

        Those of held_out whom the run has not seen; of another cohort on which nothing is fitted
        (``fits``; default as the stage does) everybody, where it has no held_out or declares none.
        """

    def scored_of(self, targets: Targets) -> tuple[Targets, np.ndarray]:
        """Give a task as it is scored without a fit, and ``held_out`` for who is scored, (N,)."""

    def vectors(self, stage: str, modality: str) -> np.ndarray:
        """Embed a modality of every sample by a stage, unit norm, (N, D); zeros where absent."""

    def texts(
        self, stage: str, modality: str, texts: Mapping[str, Sequence[str]]
    ) -> dict[str, np.ndarray]:
        """Embed texts by a stage, name to (P, D), unit norm."""

    def logit_scale(self, stage: str, pair: tuple[str, str]) -> float:
        """Give the factor of cosines that a stage learned with; 1 without."""

    def towers(self, stage: str) -> Any:
        """Give the trained towers of a stage."""

    def batches(self, stage: str, rows: np.ndarray) -> Iterator[tuple[np.ndarray, Any]]:
        """Give samples with a batch of them as the towers of a stage read them, plainly."""

    def probes(self, targets: Targets) -> Mapping[str, Method]:
        """Give the probes of `features` for some target, and the prediction that knows nothing."""

    def folds(self) -> CrossValidation | None:
        """Say how tasks are scored out of fold; None where held_out is scored."""

    def attacked(self, spec: AttackSpec) -> Found:
        """Ask models of the run, and of runs beside it, about records with and without trigger."""
