"""Which rows of an evaluation train, tune and are scored: the same for every method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medmcl.core.rng import numpy_generator
from medmcl.core.targets import Targets
from medmcl.evaluation.aspects.tasks.metrics import Horizons, Thresholds, horizons_of, thresholds_of
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.models.cross_validation import Fold, subject_folds
from medmcl.evaluation.protocol.evidence import FittedOn
from medmcl.evaluation.protocol.folds import CrossValidation, tested
from medmcl.evaluation.protocol.resampling import of_task, said_of
from medmcl.evaluation.protocol.subsets import LabelCounts, label_subset

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
        subjects: Number of the subject of each row.
        train: Rows to fit on (indices).
        tuning: Rows to choose on (indices).
        scored: Rows that probes are scored on (indices).
        held: Rows of the scored split. (N,) bool
        split: Its name.
        draws: Random subsets of each label fraction below 1.
        seed: Seed of subsets, folds and bootstrap.
        cross_validation: How predictions are made out of fold; None = fitted on train once.
        plan: Its folds over this task's rows; empty without.
        horizons: Times of a survival task.
        thresholds: Risks at which net benefit is judged.
        resampling: How the bootstrap draws rows of the task.
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
    horizons: Horizons | None
    thresholds: Thresholds
    resampling: Resampling
    notes: tuple[str, ...]
    cross_validation: CrossValidation | None = None
    plan: tuple[Fold, ...] = ()

    @property
    def fold_remarks(self) -> tuple[str, ...]:
        """What is odd about the folds."""
        how = self.cross_validation
        return () if how is None else how.remarks(self.plan, self.targets, self.subjects)

    def keep(self, rows: np.ndarray, fraction: float, draw: int) -> np.ndarray:
        """Reduce rows to a share of labelled subjects."""
        return label_subset(self.targets, self.subjects, rows, fraction, draw=draw, seed=self.seed)

    def counts(self, fraction: float, *, is_refitted: bool = True) -> LabelCounts | None:
        """Count the people whose labels a fraction stands for; the median over draws and folds.

        Tuning rows are not reduced: settings are chosen with all of their labels. Out of fold a
        probe is fitted once more on both (``is_refitted``), and then both are.
        """
        pools = [one[1:3] for one in self.plan] or [(self.train, self.tuning)]
        parts = []
        for draw in range(self.draws if fraction < 1 else 1):
            for train, tuning in pools:
                fitted, chosen = self.keep(train, fraction, draw), tuning
                if self.plan and is_refitted:
                    chosen = self.keep(tuning, fraction, draw)
                    fitted = np.concatenate([fitted, chosen])
                parts.append(LabelCounts.of(self.targets, self.subjects, fitted, chosen))
        return LabelCounts.middle(parts)

    def counts_beside(self) -> LabelCounts:
        """Count those of a predictor that is fitted on train once, folds or not: what is kept."""
        train = self.keep(self.train, 1.0, 0)
        return LabelCounts.of(self.targets, self.subjects, train, self.tuning)

    def same_people(self, fraction: float, other: float) -> bool:
        """Whether two fractions keep the labels of the very same people, in every draw and fold."""
        if fraction == other:
            return True
        draws = range(1 if 1 in (fraction, other) else self.draws)
        pools = [self.train] if not self.plan else [part for one in self.plan for part in one[1:3]]
        return all(
            np.array_equal(self.keep(rows, fraction, draw), self.keep(rows, other, draw))
            for draw in draws
            for rows in pools
        )

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
        also = "these rows may be scored, too" if self.plan else ""
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
    cross_validation: CrossValidation | None = None,
    thresholds: Thresholds | None = None,
    resampling: Resampling | None = None,
    remarks: Sequence[str] = (),
) -> Setting:
    """Decide which rows train, tune and score, from labels and presence alone.

    At every size train is fitted on, tuning chosen on and ``split`` scored; ``cross_validation``
    scores those that it says out of fold. Rows of any other split have no part. ``thresholds`` of
    net benefit: default those of train; ``resampling``: default by subject. ``remarks`` are added
    to the notes.
    """
    subjects = np.unique(subjects, return_inverse=True)[1]  # in the order of their names
    known = targets.complete if targets.kind == "survival" else targets.known.any(axis=1)
    has = np.all([np.ones(len(splits), dtype=bool), *present], axis=0)
    usable = known & has
    asked = splits == split if cross_validation is None else np.ones(len(splits), dtype=bool)
    lost = int((known & ~has & asked).sum())
    notes = [f"{lost} labelled rows lack an input and are left out"] if lost else []
    notes += remarks
    crossed = cross_validation is not None
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
    held = usable & (splits == split)
    scored = np.flatnonzero(held)
    plan: tuple[Fold, ...] = ()
    if cross_validation is not None:
        part = usable & np.isin(splits, ("train", "tuning", split))
        plan = cross_validation.of(targets, subjects, part)
        scored = np.flatnonzero(tested(plan, len(splits)))
        notes.append(f"cross-validated: {_who(cross_validation, splits, scored)}")
        notes += cross_validation.remarks(plan, targets, subjects)
    elif split in _SEEN:
        notes.append(f"scored on {split}: {_SEEN[split]}")
    resampling = of_task(resampling or Resampling(subjects, seed=seed), targets)
    drawn = said_of(resampling.take(scored))
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
        horizons=horizons,
        resampling=resampling,
        thresholds=thresholds or thresholds_of(targets, _allowed(targets, weighed), horizons),
        notes=tuple(notes),
        cross_validation=cross_validation,
        plan=plan,
    )


def _who(how: CrossValidation, splits: np.ndarray, scored: np.ndarray) -> str:
    """Say whom the folds score."""
    if how.refit == "all" and not how.trains:
        return (
            "nothing is trained; how inputs are read, and the probes, were fitted anew in each "
            "fold, without the people it is scored on"
        )
    if how.refit == "all":
        return "every stage was trained anew in each fold, without the people it is scored on"
    names = ", ".join(s for s in ("train", "tuning", "held_out") if (splits[scored] == s).any())
    return f"only people that no stage has seen are scored ({names})"


def _allowed(targets: Targets, rows: np.ndarray) -> np.ndarray:
    """Rows without those whose subject or record is also in `held_out`; rows of it are refused."""
    if targets.sides is None:
        return rows
    copies = targets.sides.barred[rows] > 1
    return rows[~copies]
