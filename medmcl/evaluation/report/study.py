"""What a study was, in words that its files hold: for the checklist and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """An outcome as the cohort defines it.

    Attributes:
        name: Task name.
        kind: ``binary``, ``multilabel``, ``multiclass``, ``regression`` or ``survival``.
        definition: Columns or expressions it is made from.
        about: What the cohort says of it.
        unit: Unit of a number or of time.
        horizons: Times at which risks are judged, in years.
    """

    name: str
    kind: str
    definition: str
    about: str = ""
    unit: str = ""
    horizons: tuple[float, ...] = ()

    @property
    def shown(self) -> str:
        """The outcome in one clause."""
        unit = f", in {self.unit}" if self.unit else ""
        years = ", ".join(f"{one:g}" for one in self.horizons)
        at = f", judged at {years} years" if years else ""
        return f"{self.name} ({self.kind}{unit}{at}) from {self.definition}"


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A modality as it enters the models.

    Attributes:
        name: Name in the cohort.
        kind: Kind of modality.
        source: How the cohort describes its records.
        preparation: How the recipe prepares them.
    """

    name: str
    kind: str
    source: str = ""
    preparation: str = ""


@dataclass(frozen=True, kw_only=True)
class Study:
    """Facts of the cohort and the recipe; empty where nothing was stated.

    Attributes:
        about: What the cohort says it is.
        first_date: Earliest date of a record, ISO.
        last_date: Latest date of a record.
        sites: Number of sites; None if the cohort names none.
        eligibility: Who and what was taken in: rules of subjects and records.
        split_rule: How subjects were divided.
        index: From when outcomes are counted.
        outcomes: Outcomes of the cohort that were scored.
        predictors: Modalities that the run reads.
        gaps: What was done about inputs and cells that are missing, a clause each.
        towers: Modality to its encoder, in a clause.
        training: A sentence on each training stage.
        seconds: How long ``training`` took in all, ``data_wait`` (part of it) waited for rows to be
            read, and ``evaluation`` took without its page.
        licence: Licence of the model, if somebody stated one.
        external: Whether the scored cohort is another than the one trained on.
    """

    about: str = ""
    first_date: str = ""
    last_date: str = ""
    sites: int | None = None
    eligibility: tuple[str, ...] = ()
    split_rule: str = ""
    index: str = ""
    outcomes: tuple[Outcome, ...] = ()
    predictors: tuple[Predictor, ...] = ()
    gaps: tuple[str, ...] = ()
    towers: Mapping[str, str] = field(default_factory=dict)
    training: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    licence: str = ""
    external: bool = False
