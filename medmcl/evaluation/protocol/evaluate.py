"""Evaluate several methods on one task: same subsets, same rows, same draws, paired differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from medmcl.core.config import lookup, refuse_absent
from medmcl.core.split_guard import TEST
from medmcl.core.targets import Targets
from medmcl.data.loading.worker_pool import beside
from medmcl.data.tables.mapped import let_go
from medmcl.evaluation.aspects.presence.measure import presence_rows
from medmcl.evaluation.aspects.tasks.evidence import evidence_rows, task_evidence
from medmcl.evaluation.aspects.tasks.metrics import FEW_DRAWS, Thresholds
from medmcl.evaluation.models import MODELS
from medmcl.evaluation.models.contract import Fitted
from medmcl.evaluation.models.one_thread import one_blas_thread
from medmcl.evaluation.protocol.evaluation import Found
from medmcl.evaluation.protocol.evidence import TaskEvidence
from medmcl.evaluation.protocol.folds import CrossValidation
from medmcl.evaluation.protocol.guard import guarded, near_copies
from medmcl.evaluation.protocol.predicted import (
    Method,
    Predicted,
    Predictions,
    Seeds,
    as_given,
    as_seeds,
    fits_of,
    predict,
    take,
)
from medmcl.evaluation.protocol.resampling import Sites, resampling_of
from medmcl.evaluation.protocol.results import Result
from medmcl.evaluation.protocol.scoring import Samplers, differences, rows_of, score_all
from medmcl.evaluation.protocol.setting import Setting, decide_rows
from medmcl.evaluation.protocol.subgroups import subgroup_rows

_OF_FIGURES = 5
"""What the data of a method's figures count beside a fit or its metrics, where time is foretold."""


@dataclass(kw_only=True)
class TaskEvaluation(Found):
    """What was found of one task, and what predicts it.

    Attributes:
        models: Method to its predictor fitted on train at all labels (first seed).
        thresholds: Column or horizon to the risk at which net benefit was judged.
        setting: Who was scored, and the horizons; None where nothing was.
        tables: Each method's predictions of them at its largest label fraction.
    """

    models: Mapping[str, Fitted] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    setting: Setting | None = None
    tables: tuple[Predicted, ...] = ()


def evaluate_embeddings(
    features: Mapping[str, Seeds | Method],
    targets: Targets,
    split: np.ndarray,
    subjects: np.ndarray,
    **settings: Any,
) -> list[Result]:
    """Score methods on a task; the rows of `evaluate_task`, which says what it takes."""
    return evaluate_task(features, targets, split, subjects, **settings).results


@one_blas_thread()
def evaluate_task(
    features: Mapping[Any, Seeds | Method],
    targets: Targets,
    split: np.ndarray,
    subjects: np.ndarray,
    *,
    protocol: str = "linear_probe",
    fractions: Sequence[float] = (1.0,),
    draws: int = 10,
    seed: int = 0,
    bootstrap_draws: int = 1000,
    dear_draws: int = FEW_DRAWS,
    level: float = 0.95,
    present: Mapping[str, np.ndarray] | None = None,
    predictions: Mapping[str | tuple[str, float], Predictions] | None = None,
    predictions_protocol: str = "fine_tune",
    baseline: str | None = None,
    cross_validation: CrossValidation | None = None,
    scored_split: str = "held_out",
    subgroups: Mapping[str, np.ndarray] | None = None,
    shown: Sequence[str] = (),
    thresholds: Thresholds | None = None,
    resample: str = "subject",
    sites: Sites = None,
    patterns: np.ndarray | None = None,
    further_metrics: bool = True,
    told: Callable[[float], object] | None = None,
) -> TaskEvaluation:
    """Score methods on a task, with intervals and paired differences to one of them.

    At every size probes are fitted on train, their settings chosen on tuning, and ``scored_split``
    is scored; `CrossValidation` is for whoever asks for it, and says who may be scored. Rows that
    any method lacks are left out for all and counted in the note. Each method has every metric of
    the task's kind at its largest label fraction, and the basic ones (`METRICS`) below it. Label
    fractions that keep the labels of the very same people are one row, the largest of them.

    Nothing is fitted on rows whose subject or record is also scored: subjects are those given
    here, records those of ``targets.sides``. Where the targets know none, rows of features that
    are equal but for last bits, a gain and an offset count as one record, if they are wide and
    continuous (`guard.record_codes`: at least 8 values that differ and are no whole numbers);
    people of the same age, sex and flags are not taken for one another, and a record that is
    narrow, or changed by a rounding, is not recognised. Where they do, such rows are a remark.

    Args:
        features: Method, or (method, fraction), to embeddings (N, E), or to one array a training
            seed; or to a `Method` with a probe of its own, as baselines have.
        targets: The task over the N samples.
        split: Name of each sample's split: train, tuning, held_out. (N,)
        subjects: Subject of each sample. (N,)
        protocol: One of `MODELS`, for plain embeddings.
        fractions: Shares of training labels.
        draws: Random subsets for each share below 1, averaged.
        seed: Seed of subsets, folds and bootstrap.
        bootstrap_draws: Bootstrap draws.
        dear_draws: The same, at most, for what is fitted anew in each draw: the ICI, Kaplan-Meier
            risks by a horizon, tasks of many columns, bands of curves.
        level: Coverage aimed at.
        present: Method to (N,) bool: samples that have its inputs; default all.
        predictions: Method, or (method, fraction), to predictions (N, C) made elsewhere, scored as
            they are: probabilities, values, or risk; or to one array (or `Given`) a seed.
        predictions_protocol: What to call the way they were made.
        baseline: Method that all others are compared with; default the first.
        cross_validation: How to score people out of fold instead.
        scored_split: The split that is scored; rows of train and tuning are scored with a note.
        subgroups: Attribute to the subgroup of each sample, (N,) text, for the method that
            all others are compared with.
        shown: Methods whose calibration, decision curve and risk groups are collected, at their
            largest label fraction.
        thresholds: Risks at which net benefit is judged; default those of the train rows.
        resample: What the bootstrap of every interval draws: ``subject``, ``site`` (whole sites),
            or ``stratified`` (subjects inside classes of the outcome). Points stay as they are.
        sites: Site of each sample, for ``site``. (N,)
        patterns: What each sample has, as ``ecg + cmr``: the headline of every method is shown by
            it, and as if only some modalities were there where a method has variants. (N,)
        further_metrics: Every metric of the kind at the largest label fraction; False: the basic
            ones there, too.
        told: Called with the share of the work that is done, 0 to 1: after each fit of a method,
            label fraction, draw, seed and fold, and after the metrics of each method and fraction.

    Returns:
        Rows for each method, fraction, target and metric; then the differences, their ``versus``
        set. Nothing is NaN: what is not estimable has no value and a note.

    Raises:
        ConfigError: For an unknown protocol, scored split or resampling; for ``site`` without
            sites.
        LeakageError: Rows to fit on stand in `held_out`, by split, subject or content; in
            cross-validation such a row is left out of the folds that test it.
        ValueError: For arrays of the wrong length.
    """
    fit = lookup("protocol", protocol, MODELS).fit
    given = {_named(key): one for key, one in (predictions or {}).items()}
    methods = [
        (_named(key)[0], one if isinstance(one, Method) else
         Method(features=one, fit=fit, protocol=protocol))
        for key, one in features.items()
    ]  # fmt: skip
    read = [(name, x) for name, one in methods for x in as_seeds(one.features)]
    _check_lengths(
        [*read, *((key[0], one.values) for key, parts in given.items() for one in as_given(parts))],
        targets, split, subjects,
    )  # fmt: skip
    _check_split(scored_split, split)
    has = present or {}
    arrays = [(x, has.get(name)) for name, x in read]
    known = guarded(targets, split, subjects, arrays, scored_split)
    setting = decide_rows(
        known,
        np.asarray(split),
        np.asarray(subjects),
        list(has.values()),
        split=scored_split,
        draws=draws,
        seed=seed,
        cross_validation=cross_validation,
        thresholds=thresholds,
        resampling=resampling_of(
            resample, subjects, sites, draws=bootstrap_draws, seed=seed, level=level
        ),
        remarks=_remarks(targets, known, arrays),
    )
    same = _coinciding(setting, fractions)
    fractions = [fraction for fraction in dict.fromkeys(fractions) if fraction not in same]
    most = max(fractions, default=1.0)
    fits = [
        (name, method, fraction)
        for fraction in fractions
        for name, method in methods
        if method.fractions is None or fraction in method.fractions
    ]
    taken = [(name, size) for name, size in given if (name, same.get(size)) not in given]
    drawn = {name for name, *_ in (*fits, *taken)}.intersection(shown)
    units = sum(len(fits_of(setting, *one[1:])) for one in fits) + len(fits) + len(taken)
    units += _OF_FIGURES * len(drawn) + 1  # one for subgroups and differences
    passed = [0.0]

    def done(pieces: float = 1) -> None:
        passed[0] += pieces
        if told is not None:
            told(passed[0] / units)

    def within(pieces: float) -> Callable[[float], object]:
        begun = passed[0]
        return lambda share: done(begun + share * pieces - passed[0])

    tables = [predict(setting, *one, with_variants=one[2] == most, done=done) for one in fits]
    tables += [take(setting, *key, given[key], predictions_protocol) for key in taken]
    whole_people = setting.counts_beside().subjects
    tables = [_says_which(table, same, whole_people) for table in tables]
    few = min(dear_draws, bootstrap_draws)
    samplers = Samplers.of(setting, few)
    largest = {one.method: one.fraction for one in sorted(tables, key=lambda t: t.fraction)}
    asked = [(t, further_metrics and t.fraction == largest[t.method]) for t in tables]
    far = within(len(tables))
    for table, scores in zip(tables, score_all(asked, setting, samplers, told=far), strict=True):
        table.sampled.update(scores)
    far(1)
    rows = [row for table in tables for row in rows_of(setting, table)]
    first = baseline or next((name for name, _ in (*methods, *given)), "")
    whole = [table for table in tables if table.fraction == largest[table.method]]
    figures = [table for table in whole if table.method in shown]
    far = within(_OF_FIGURES * len(figures))
    found, more = _figures(setting, figures, first, few, far)
    far(1)
    ledger = [*setting.ledger(), *(line for table in tables for line in table.fitted)]
    return TaskEvaluation(
        results=[*rows, *more, *differences(setting, tables, first)],
        evidence=found,
        subgroups=[
            row
            for table in whole
            if table.method == first and subgroups
            for row in subgroup_rows(setting, table, subgroups, samplers)
        ],
        presence=[
            row
            for table in whole
            if patterns is not None
            for row in presence_rows(setting, table, patterns, samplers)
        ],
        fitted=[*dict.fromkeys(ledger)],
        thresholds=setting.thresholds.risks,
        models={t.method: t.models[0] for t in whole if t.models and t.fraction == 1},
        setting=setting,
        tables=tuple(whole),
    )


def _figures(
    setting: Setting,
    tables: Sequence[Predicted],
    first: str,
    draws: int,
    told: Callable[[float], object],
) -> tuple[list[TaskEvidence], list[Result]]:
    """Collect what figures show and the rows that come with them; ``told`` the share that is done.

    Other methods than the first have half the draws; of a multiclass task only the first is shown.
    """
    drawn = [
        (table, draws if table.method == first else draws // 2)
        for table in tables
        if table.method == first or setting.targets.kind != "multiclass"
    ]
    found: list[TaskEvidence] = []
    rows: list[Result] = []
    seen = beside(
        lambda one: [*task_evidence(setting, *one)], drawn, told=lambda n: told(n / len(drawn))
    )
    for (table, enough), some in zip(drawn, seen, strict=True):
        for one in some:
            found.append(one)
            rows += evidence_rows(setting, table, one, enough)
        let_go()
    return found, rows


def _remarks(
    given: Targets, known: Targets, arrays: Sequence[tuple[np.ndarray, np.ndarray | None]]
) -> list[str]:
    """Say how many rows may be copies of held-out records that their bytes do not show."""
    if given.sides is None or not given.sides.contents:  # the guard took them for copies itself
        return []
    count = near_copies(known, arrays)
    if not count:
        return []
    return [f"{count} rows have features equal or proportional to those of a held-out row: copies?"]


def _coinciding(setting: Setting, fractions: Sequence[float]) -> dict[float, float]:
    """Give the fractions that keep the labels of the same people as a larger one, with that one."""
    found: dict[float, float] = {}
    for larger, smaller in combinations(sorted(set(fractions), reverse=True), 2):
        if not {larger, smaller} & {*found} and setting.same_people(smaller, larger):
            found[smaller] = larger
    return found


def _says_which(table: Predicted, same: Mapping[float, float], people: int) -> Predicted:
    """Note which smaller fractions are the same people, and have no rows of their own.

    And where more than the fraction of all people are used, as each class must have some.
    """
    used = 0 if table.counts is None else table.counts.subjects
    if people and used > 1 + 2 * table.fraction * people:  # nobody here: fitted elsewhere
        asked = f"{100 * table.fraction:g} % of them"
        said = f"{used} of {people} people are used, not {asked}: some of each class"
        table = replace(table, notes=(*table.notes, said))
    smaller = [f"{100 * one:g} %" for one in sorted(same) if same[one] == table.fraction]
    if not smaller or table.counts is None:
        return table
    said = f"{' and '.join(smaller)} of the labels are those of the same people"
    return replace(table, notes=(*table.notes, said))


def _check_split(name: str, split: np.ndarray) -> None:
    known = [str(one) for one in dict.fromkeys(("train", "tuning", TEST, *np.asarray(split)))]
    what = f"there is no split '{name}' to score"
    refuse_absent(name, known, what, got=f"scored_split={name!r}")


def _check_lengths(
    arrays: Sequence[tuple[str, np.ndarray]],
    targets: Targets,
    split: np.ndarray,
    subjects: np.ndarray,
) -> None:
    for name, array in arrays:
        if array.ndim != 2:
            raise ValueError(f"{name!r} must have shape (N, columns), got {array.shape}")
    size = len(targets.values)
    given = [("split", split), ("subjects", subjects), *((repr(name), x) for name, x in arrays)]
    wrong = {name: len(one) for name, one in given if len(one) != size}
    if wrong:
        raise ValueError(f"the task has {size} rows, but {wrong}")


def _named(key: str | tuple[str, float]) -> tuple[str, float]:
    """Method and label fraction."""
    return (key, 1.0) if isinstance(key, str) else key
