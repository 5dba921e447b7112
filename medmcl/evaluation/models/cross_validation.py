"""Repeated cross-validation by subject or site, where it is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from medmcl.core.rng import numpy_generator
from medmcl.core.targets import Targets
from medmcl.evaluation.models.contract import Fitted
from medmcl.evaluation.models.probe import linear_probe
from medmcl.evaluation.models.strength import said_alike
from medmcl.evaluation.models.together import Variant

FLAT = 1e-12  # of their size: predictions that differ by less differ by rounding


def subject_folds(
    subjects: np.ndarray, strata: np.ndarray, folds: int, generator: np.random.Generator
) -> np.ndarray:
    """Assign each row to a fold so that a subject lies in one fold and strata spread evenly. (N,).

    Args:
        subjects: Subject of each row. (N,)
        strata: Class of each row; a subject counts with its highest. (N,)
        folds: Number of folds, at most the number of subjects.
        generator: Source of the shuffling.
    """
    names, codes = np.unique(subjects, return_inverse=True)
    highest = np.full(len(names), -np.inf)
    np.maximum.at(highest, codes, strata)
    shuffled = generator.permutation(len(names))
    ordered = shuffled[np.argsort(highest[shuffled], kind="stable")]
    fold = np.empty(len(names), dtype=np.int64)
    fold[ordered] = np.arange(len(names)) % min(folds, len(names))
    return fold[codes]


def site_folds(
    sites: np.ndarray, _strata: np.ndarray, folds: int, generator: np.random.Generator
) -> np.ndarray:
    """Assign each row to a fold so that a site lies in one fold and folds are of like size. (N,).

    Sites come in random order, each to the fold that has fewest rows so far; classes are not
    balanced.

    Args:
        sites: Site of each row. (N,)
        _strata: Class of each row; not read.
        folds: Number of folds, at most the number of sites.
        generator: Source of the order.
    """
    _, codes, sizes = np.unique(sites, return_inverse=True, return_counts=True)
    filled = np.zeros(min(folds, len(sizes)), dtype=np.int64)
    fold = np.empty(len(sizes), dtype=np.int64)
    for site in generator.permutation(len(sizes)):
        fold[site] = filled.argmin()
        filled[fold[site]] += sizes[site]
    return fold[codes]


Folds = Callable[[np.ndarray, np.ndarray, int, np.random.Generator], np.ndarray]
"""`subject_folds`, or `site_folds`."""


class Fold(NamedTuple):
    """Rows (indices) of one fold of one repeat; no subject, or site, stands on two sides."""

    repeat: int
    train: np.ndarray
    """To fit on."""
    tuning: np.ndarray
    """To choose settings on: a quarter of the subjects outside the fold."""
    test: np.ndarray
    """To score."""


def draw_folds(
    subjects: np.ndarray,
    strata: np.ndarray,
    rows: np.ndarray,
    *,
    name: str,
    besides: np.ndarray | None = None,
    draw: Folds = subject_folds,
    repeats: int = 5,
    folds: int = 5,
    seed: int = 0,
) -> Iterator[Fold]:
    """Part rows into folds, each of which is left out once a repeat.

    Args:
        subjects: Subject of each row; with ``draw=site_folds`` its site. (N,)
        strata: Class of each row, to be spread evenly. (N,)
        rows: Rows that are left out in turn (indices).
        name: Name of what is scored; another one has other folds.
        besides: Rows of other subjects that are fitted on in every fold, and left out in none.
        draw: `subject_folds`, or `site_folds`.
        repeats: Times the folds are drawn anew.
        folds: Number of folds.
        seed: Seed of the folds.
    """
    more = np.zeros(0, dtype=np.int64) if besides is None else np.asarray(besides, dtype=np.int64)
    more = more[~np.isin(subjects[more], subjects[rows])]
    for repeat in range(repeats):
        generator = numpy_generator(seed, "cross_validation", name, repeat)
        outer = draw(subjects[rows], strata[rows], folds, generator)
        for fold in np.unique(outer):
            test = rows[outer == fold]
            rest = np.concatenate([rows[outer != fold], more])
            if len(rest) == 0:
                continue
            inner = draw(subjects[rest], strata[rest], 4, generator)
            tuning = rest[inner == 0] if inner.max() > 0 else rest[:0]
            yield Fold(repeat, rest[inner != 0] if inner.max() > 0 else rest, tuning, test)


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """Predictions of rows by probes that did not see their subjects; zero for rows not asked for.

    Attributes:
        values: (N, C).
        order: The same for ranking rows of different folds: the predictions of each fold centred
            and scaled by those of the rows it was fitted on, see `out_of_fold`. (N, C)
        curves: Survival: P(T > times), (N, T); None without times, or from a fold without curves.
        notes: Notes of the probes.
        variants: Name of a variant to what the same probes say of it.
    """

    values: np.ndarray
    order: np.ndarray
    curves: np.ndarray | None
    notes: tuple[str, ...]
    variants: dict[str, OutOfFold] = field(default_factory=dict)


def out_of_fold(
    features: np.ndarray,
    targets: Targets,
    subjects: np.ndarray,
    rows: np.ndarray | None = None,
    *,
    protocol: Callable[..., Fitted] = linear_probe,
    repeats: int = 5,
    folds: int = 5,
    seed: int = 0,
    keep: Callable[[np.ndarray], np.ndarray] | None = None,
    times: np.ndarray | None = None,
    draw: Folds = subject_folds,
) -> OutOfFold:
    """Predict every row from folds that do not hold its subject, averaged over repeats.

    In each fold the probe's setting is chosen on a quarter of the training subjects, then the probe
    is fitted again on all of them. The test subjects take part in neither. For survival, each
    fold's log hazards are centred and scaled by its training rows before they are averaged, since
    only their order has a meaning.

    Probabilities are averaged as they are, and are for what reads probabilities. Pooled, they rank
    rows of different folds by the fold: its prevalence is low where its test rows have many
    positives, and it is surest where its test rows happen to speak against it. What only ranks
    reads `OutOfFold.order`, centred and scaled as log hazards are
    (``benchmarks/evaluation/pooled_folds.md``).

    Args:
        features: (N, E).
        targets: The task.
        subjects: Subject of each row; with ``draw=site_folds`` its site. (N,)
        rows: Rows to use; default those with a known outcome.
        protocol: A probe.
        repeats: Times the folds are drawn anew.
        folds: Number of folds.
        seed: Seed of the folds.
        keep: Reduces training rows (label fractions); default all.
        times: Times of survival curves, averaged likewise. (T,)
        draw: `subject_folds`, or `site_folds`.

    Source:
        Kim 2009, Comput Stat Data Anal 53:3735-3745 (repeated cross-validation). Differs: folds by
        subject, predictions averaged before scoring.
    """
    rows = np.flatnonzero(targets.known.any(axis=1)) if rows is None else np.asarray(rows)
    plan = tuple(
        draw_folds(
            np.asarray(subjects),
            strata_of(targets),
            rows,
            name=targets.name,
            draw=draw,
            repeats=repeats,
            folds=folds,
            seed=seed,
        )
    )
    made = FoldFeatures(features=features, fit=protocol)
    return over_folds([made] * len(plan), plan, targets, keep=keep, times=times)


@dataclass(frozen=True, kw_only=True)
class FoldFeatures:
    """What is predicted from in one fold, and how.

    Attributes:
        features: (N, E); those of an encoder that was trained outside the fold, where there is one.
        fit: A probe.
        variants: The same rows as if other modalities were there.
    """

    features: np.ndarray
    fit: Callable[..., Fitted]
    variants: Sequence[Variant] = ()


def over_folds(
    made: Sequence[FoldFeatures],
    plan: Sequence[Fold],
    targets: Targets,
    *,
    keep: Callable[[np.ndarray], np.ndarray] | None = None,
    times: np.ndarray | None = None,
    done: Callable[[float], object] = lambda _: None,
) -> OutOfFold:
    """Fit in each fold on its train and tuning rows and predict its test rows; see `out_of_fold`.

    Args:
        made: Features of each fold of the plan.
        plan: The folds.
        targets: The task.
        keep: Reduces training rows (label fractions); default all.
        times: Times of survival curves. (T,)
        done: Called with its share of the work after each fold.
    """
    size = len(targets.values)
    every = np.ones(size, dtype=bool)
    shape = (size, targets.num_outputs)
    survives = targets.kind == "survival"
    names = [one.name for one in made[0].variants] if made else []
    first, *rest = (_Sum(shape, survives, times) for _ in ("", *names))
    notes: Counter[str] = Counter()  # to the number of folds that say so
    for one, (_, train, tuning, test) in zip(made, plan, strict=True):
        x = np.asarray(one.features)
        if keep is not None:
            train, tuning = keep(train), keep(tuning)
        inside = targets
        if targets.sides is not None:  # in a fold its own test rows are held out, and no others
            fold = targets.sides.fold(test)
            inside, allowed = replace(targets, sides=fold), fold.barred == 0
            copies = int((~allowed[train]).sum() + (~allowed[tuning]).sum())
            if copies:
                notes["rows whose record is also in the test fold were not fitted on"] += 1
            train, tuning = train[allowed[train]], tuning[allowed[tuning]]
        both = np.sort(np.concatenate([train, tuning]))
        fitted = one.fit(x, inside, train, tuning, refit_on=both)
        first.add(fitted, test, both, every, x.__getitem__)
        for total, variant in zip(rest, one.variants, strict=True):
            total.add(fitted, test, both, variant.has, variant.features)
        notes.update([*dict.fromkeys(fitted.notes)])
        done(1 / len(plan))
    said = tuple(_of_folds(note, count, len(plan)) for note, count in notes.items())
    whole, *others = (one.mean(said) for one in (first, *rest))
    return replace(whole, variants=dict(zip(names, others, strict=True)))


def _of_folds(note: str, count: int, folds: int) -> str:
    """A note; in how many of the folds, where some alone predict nearly the same for everyone."""
    if count == folds or not said_alike([note]):
        return note
    return f"{note}, in {count} of {folds} folds"


class _Sum:
    """Predictions of rows, summed over repeats."""

    def __init__(self, shape: tuple[int, int], survives: bool, times: np.ndarray | None) -> None:
        self.survives, self.times = survives, times
        self.total, self.order = np.zeros(shape), np.zeros(shape)
        self.curves = None if times is None else np.zeros((shape[0], len(times)))
        self.count = np.zeros(shape[0])

    def add(
        self,
        fitted: Fitted,
        test: np.ndarray,
        both: np.ndarray,
        has: np.ndarray,
        of: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        """Predict the test rows of a fold.

        Args:
            fitted: The probe of the fold.
            test: Rows to predict (indices).
            both: Rows it was fitted on (indices).
            has: Rows that have features. (N,) bool
            of: Rows to their features.
        """
        test, both = test[has[test]], both[has[both]]
        if not len(test):
            return
        features = of(test)
        guess = fitted.predict(features)
        seen = fitted.predict(of(both)) if len(both) else guess[:0]
        scaled = _standardised(guess, seen)
        self.order[test] += scaled
        self.total[test] += scaled if self.survives else guess
        if fitted.survival is None:
            self.curves = None
        elif self.curves is not None and self.times is not None:
            self.curves[test] += fitted.survival(features, self.times)
        self.count[test] += 1

    def mean(self, notes: tuple[str, ...]) -> OutOfFold:
        """Average over repeats."""
        often = np.maximum(self.count, 1)[:, None]
        return OutOfFold(
            values=self.total / often,
            order=self.order / often,
            curves=None if self.curves is None else self.curves / often,
            notes=notes,
        )


def _standardised(guess: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Centre and scale predictions by those of the rows fitted on; constants become zero."""
    if len(seen) == 0:  # nothing was fitted: the probe gives a constant
        return np.zeros_like(guess)
    spread = seen.std(axis=0)
    flat = spread <= FLAT * np.maximum(np.abs(seen).max(axis=0, initial=0.0), 1.0)
    return np.asarray(np.where(flat, 0.0, (guess - seen.mean(axis=0)) / np.where(flat, 1, spread)))


def strata_of(targets: Targets) -> np.ndarray:
    """Class of each row: class number, its rarest label, event; one for regression, (N,)."""
    if targets.kind == "regression":
        return np.zeros(len(targets.values))
    if targets.kind == "survival":
        return targets.event.astype(np.float64)
    if targets.kind == "multilabel":  # the rarest label a row has decides
        counts = targets.values.sum(axis=0)
        rarity = np.argsort(np.argsort(-counts)) + 1
        return np.asarray((targets.values * rarity).max(axis=1, initial=0))
    return np.asarray(targets.values[:, 0])
