"""Which rows of an evaluation train, tune and are scored: the same for every method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.core.rng import numpy_generator
from medmcl.core.targets import Targets
from medmcl.evaluation.evidence import FittedOn
from medmcl.evaluation.models.cross_validation import SMALL_COHORT, subject_folds
from medmcl.evaluation.resampling import Resampling
from medmcl.evaluation.subsets import label_subset
from medmcl.evaluation.task_metrics import Horizons, Thresholds, horizons_of, thresholds_of

_SEEN = {
    "train": "rows that the model was fitted on",
    "tuning": "rows that settings were chosen on",
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all methods of one evaluation share.

    Attributes:
        targets: The task, all rows.
        splits: Split of each row.
        subjects: Subject of each row.
        train: Rows to fit on (indices).
        tuning: Rows to choose on (indices).
        scored: Rows that probes are scored on (indices).
        held: Rows of the scored split. (N,) bool
        split: Its name.
        draws: Random subsets of each label fraction below 1.
        seed: Seed of subsets, folds and bootstrap.
        cross_validate: Whether probes are scored out of fold, over all splits.
        fold_sites: Site of each row, where folds are of whole sites. (N,) int
        horizons: Times of a survival task.
        thresholds: Risks at which net benefit is judged.
        resampling: Who the bootstrap draws.
        notes: What a reader must know.
    """

    targets: Targets
    splits: np.ndarray
    subjects: np.ndarray
    train: np.ndarray
    tuning: np.ndarray
    scored: np.ndarray
    held: np.ndarray
    split: str
    draws: int
    seed: int
    cross_validate: bool
    horizons: Horizons | None
    thresholds: Thresholds
    resampling: Resampling
    notes: tuple[str, ...]
    fold_sites: np.ndarray | None = None

    @property
    def folds(self) -> str:
        """What a fold is made of: ``subject`` or ``site``."""
        return "subject" if self.fold_sites is None else "site"

    def keep(self, rows: np.ndarray, fraction: float, draw: int) -> np.ndarray:
        """Reduce rows to a share of labelled subjects."""
        return label_subset(self.targets, self.subjects, rows, fraction, draw=draw, seed=self.seed)

    def fitted(self, what: str, rows: np.ndarray, **about: Any) -> FittedOn:
        """A ledger line: something was fitted on rows (indices)."""
        rows = np.asarray(rows, dtype=np.int64)
        names = tuple(s for s in ("train", "tuning", "held_out") if (self.splits[rows] == s).any())
        return FittedOn(
            what=what,
            splits=names,
            subjects=len(np.unique(self.subjects[rows])),
            rows=len(rows),
            task=self.targets.name,
            **about,
        )

    def ledger(self) -> list[FittedOn]:
        """What the metrics themselves learned from rows; no prediction depends on it."""
        about: dict[str, Any] = {"labels": True, "use": "score"}
        also = "these rows are scored, too" if self.cross_validate else ""
        stand_in = self.tuning[self.splits[self.tuning] == "train"]
        train = np.concatenate([self.train, stand_in])
        lines = []
        if self.horizons is not None:
            own = self.horizons.censoring is None
            rows = self.scored if own else train
            note = "the scored rows weigh themselves" if own else also
            lines.append(self.fitted("censoring weights (IPCW)", rows, note=note, **about))
        if self.thresholds.risks:
            line = self.fitted("risk thresholds of net benefit", train, note=also, **about)
            if not self.thresholds.is_own:
                line = replace(line, splits=self.thresholds.splits, subjects=None, rows=None,
                               note=self.thresholds.whose)  # fmt: skip
            lines.append(line)
        return lines


def decide_rows(
    targets: Targets,
    splits: np.ndarray,
    subjects: np.ndarray,
    present: Sequence[np.ndarray],
    *,
    split: str,
    seed: int,
    draws: int,
    cross_validate: bool | None,
    thresholds: Thresholds | None = None,
    resampling: Resampling | None = None,
    remarks: Sequence[str] = (),
    fold_sites: np.ndarray | None = None,
) -> Setting:
    """Decide which rows train, tune and score, from labels and presence alone.

    With fewer than 500 labelled subjects the split is set aside for cross-validation, unless
    ``cross_validate`` says otherwise. ``thresholds`` of net benefit: default those of train;
    ``resampling``: default by subject. ``remarks`` are added to the notes. ``fold_sites``: the site
    of each row; then folds are of whole sites.
    """
    known = targets.complete if targets.kind == "survival" else targets.known.any(axis=1)
    has = np.all([np.ones(len(splits), dtype=bool), *present], axis=0)
    usable = known & has
    lost = int((known & ~has & (splits == split)).sum())
    notes = [f"{lost} labelled rows lack an input and are left out"] if lost else []
    notes += remarks
    few = len(np.unique(subjects[usable])) < SMALL_COHORT
    crossed = few if cross_validate is None else cross_validate
    train = np.flatnonzero(usable & (splits == "train"))
    tuning = np.flatnonzero(usable & (splits == "tuning"))
    if crossed:  # what is kept for other cohorts; folds guard themselves
        train, tuning = _allowed(targets, train), _allowed(targets, tuning)
    weighed = train
    if not crossed and len(tuning) == 0 and len(train):
        generator = numpy_generator(seed, "stand_in_tuning", targets.name)
        fold = subject_folds(subjects[train], np.zeros(len(train)), 5, generator)
        train, tuning = train[fold != 0], train[fold == 0]
        notes.append("no tuning split: a fifth of the train subjects stood in")
    if crossed:
        notes.append("cross-validated over all splits" + _by_site(fold_sites, usable))
    elif split in _SEEN:
        notes.append(f"scored on {split}: {_SEEN[split]}")
    held = usable & (splits == split)
    scored = np.flatnonzero(usable if crossed else held)
    resampling = resampling or Resampling.of("subject", targets, subjects)
    drawn = resampling.note(scored)
    notes += [drawn] if drawn else []
    horizons = None
    if targets.kind == "survival":
        horizons = horizons_of(targets, scored, weighed[:0] if crossed else weighed)
    return Setting(
        targets=targets,
        splits=splits,
        subjects=subjects,
        train=train,
        tuning=tuning,
        scored=scored,
        held=held,
        split=split,
        draws=draws,
        seed=seed,
        cross_validate=crossed,
        horizons=horizons,
        resampling=resampling,
        thresholds=thresholds or thresholds_of(targets, _allowed(targets, weighed), horizons),
        notes=tuple(notes),
        fold_sites=fold_sites if crossed else None,
    )


def _by_site(sites: np.ndarray | None, usable: np.ndarray) -> str:
    """Say of how many sites the folds are; empty if they are of subjects."""
    if sites is None:
        return ""
    count = len(np.unique(sites[usable]))
    if count < 2:
        raise ConfigError(
            "folds of whole sites need two sites at least", got=f"{count} with labelled subjects",
            mend="cross-validate by subject (folds: subject), or lower group_min in cohort.yaml",
        )  # fmt: skip
    return f", in folds of whole sites ({count})"


def _allowed(targets: Targets, rows: np.ndarray) -> np.ndarray:
    """Rows without those whose subject or record is also in `held_out`; rows of it are refused."""
    if targets.sides is None:
        return rows
    copies = targets.sides.barred[rows] > 1
    return rows[~copies]
