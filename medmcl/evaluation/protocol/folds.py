"""Cross-validation, where it is asked for: who is scored, and what each fold makes anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.core.findings import counted
from medmcl.core.targets import Targets
from medmcl.evaluation.models.cross_validation import (
    Fold,
    draw_folds,
    site_folds,
    strata_of,
    subject_folds,
)
from medmcl.evaluation.protocol.resampling import site_codes

Refit = Literal["probe", "all"]
By = Literal["subject", "site"]


@dataclass(frozen=True, kw_only=True)
class CrossValidation:
    """K x R folds: everybody who is scored is predicted by fits without them.

    There are two honest forms. ``probe``: only people are scored that no stage has seen; in each
    fold probes are fitted on the others, and on those who are not scored. ``all``: every stage is
    trained anew in each fold, so that everybody may be scored; the folds are then given, since
    they are those the stages were trained in.

    Attributes:
        folds: K, at most as many as subjects (or sites).
        repeats: R: times the folds are drawn anew.
        by: What a fold is made of.
        refit: What each fold makes anew.
        unseen: Rows that may be scored: of people that no stage was fitted or chosen on. (N,) bool
        plan: Folds over all rows, of ``refit="all"``.
        sites: Site of each row, for ``by="site"``. (N,)
        seed: Seed of the folds, of ``refit="probe"``.
        trains: Whether there is a stage to train; without one ``all`` fits anew how inputs are
            read, and the probes.
    """

    folds: int
    repeats: int
    refit: Refit
    unseen: np.ndarray
    by: By = "subject"
    plan: tuple[Fold, ...] = ()
    sites: np.ndarray | None = None
    seed: int = 0
    trains: bool = True

    @property
    def name(self) -> str:
        """As it stands in a protocol: ``5 x 1-fold by subject, probes refitted``."""
        every = "every stage" if self.trains else "reading and probes"
        what = every if self.refit == "all" else "probes"
        return f"{self.folds} x {self.repeats}-fold by {self.by}, {what} refitted"

    def of(self, targets: Targets, subjects: np.ndarray, usable: np.ndarray) -> tuple[Fold, ...]:
        """Give the folds of a task.

        Args:
            targets: The task over N rows.
            subjects: Subject of each row. (N,)
            usable: Rows with a label and every input. (N,) bool

        Raises:
            ConfigError: There are fewer than two subjects (or sites) to score, or than folds.
        """
        if self.refit == "all":
            kept = (
                Fold(one.repeat, *(rows[usable[rows]] for rows in one[1:])) for one in self.plan
            )
            return tuple(one for one in kept if len(one.test))
        units = np.asarray(subjects)
        if self.by == "site" and self.sites is not None:
            units = site_codes(self.sites, units)
        rows = np.flatnonzero(usable & self.unseen)
        count = len(np.unique(units[rows]))
        if count < 2:
            raise ConfigError(
                f"folds need two {self.by}s to score, at least",
                where=f"task {targets.name}, folds",
                got=f"{count} with the outcome and every input that no stage has seen",
                expected="people that no stage was fitted or chosen on",
                fix="leave `folds` out: held_out is scored; or `refit: all`, which trains every "
                "stage anew in each fold",
            )
        refuse_more_folds(
            self.folds,
            self.repeats,
            count,
            self.by,
            where=f"task {targets.name}, folds",
            who="with the outcome and every input that no stage has seen",
        )
        return tuple(
            draw_folds(
                units,
                strata_of(targets),
                rows,
                name=targets.name,
                besides=np.flatnonzero(usable & ~self.unseen),
                draw=subject_folds if self.by == "subject" else site_folds,
                repeats=self.repeats,
                folds=self.folds,
                seed=self.seed,
            )
        )

    def remarks(
        self, plan: Sequence[Fold], targets: Targets, subjects: np.ndarray
    ) -> tuple[str, ...]:
        """Say what is odd about the folds of a task: single people, or nobody with the event.

        Leaving one person out at a time is a way to fold a small cohort, and is named, not warned
        of: what ranks people is put on the scale of each fold's own fits.
        """
        parts = [np.unique(subjects[one.test]) for one in plan]
        singles = sum(len(part) == 1 for part in parts)
        if plan and singles == len(plan):
            again = (
                f", and drawing them {self.repeats} times changes only on whom penalties are chosen"
                if self.repeats > 1
                else ""
            )
            return (f"{FOLDS} leave-one-out, each holds a single person{again}",)
        said = []
        if singles:
            said.append(f"{FOLDS} {singles} of {len(plan)} hold a single person")
        rarest, without = _without_cases(plan, targets)
        if without:
            said.append(f"{FOLDS} {without} of {len(plan)} hold nobody with {rarest}")
        return tuple(said)


FOLDS = "folds:"
"""How a remark on folds begins."""


def refuse_more_folds(
    folds: int, repeats: int, count: int, by: By, *, where: str, who: str
) -> None:
    """Refuse more folds than there are people (or sites) to score.

    As many folds as people are right: they leave one out at a time.

    Raises:
        ConfigError: Says how many there can be.
    """
    if folds <= count:
        return
    raise ConfigError(
        f"there are more folds than {by}s to score",
        where=where,
        got=f"folds: {folds} x {repeats}, and {counted(count, by)} {who}",
        expected=f"2 to {count} folds ({count}: one {by} left out at a time)",
        fix=f"folds: {min(5, count)} x {repeats}; at the command line --set "
        f"evaluate.folds='{min(5, count)} x {repeats}'",
    )


def _without_cases(plan: Sequence[Fold], targets: Targets) -> tuple[str, int]:
    """Name the rarest outcome (event, label, class), and count the folds whose test lacks it."""
    cases = {"the event": targets.event} if targets.kind == "survival" else targets.cases()
    scored = tested(plan, len(targets.values))
    lacking = {
        name: sum(not has[one.test].any() for one in plan)
        for name, has in cases.items()
        if has[scored].any()  # else it is not scored at all
    }
    if not lacking:
        return "", 0
    rarest = max(lacking, key=lambda name: lacking[name])
    return rarest, lacking[rarest]


def tested(plan: Sequence[Fold], size: int) -> np.ndarray:
    """Which rows some fold tests, (N,) bool."""
    found = np.zeros(size, dtype=bool)
    for one in plan:
        found[one.test] = True
    return found
