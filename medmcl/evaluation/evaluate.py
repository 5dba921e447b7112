"""Evaluate several methods on one task: same subsets, same rows, same draws, paired differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from medmcl.core.config import lookup
from medmcl.core.rng import numpy_generator
from medmcl.core.targets import Targets
from medmcl.evaluation.cross_validation import SMALL_COHORT, repeated_cv, subject_folds
from medmcl.evaluation.intervals import Resampler, Sampled, mean_of
from medmcl.evaluation.knn import knn, one_hot
from medmcl.evaluation.metrics import METRICS, SPECS
from medmcl.evaluation.probe import Fitted, linear_probe
from medmcl.evaluation.results import Result
from medmcl.evaluation.subsets import label_subset

PROTOCOLS: dict[str, Callable[..., Fitted]] = {"linear_probe": linear_probe, "knn": knn}

Seeds = np.ndarray | Sequence[np.ndarray]


@dataclass(frozen=True, kw_only=True)
class _Predicted:
    """Predictions of one method at one label fraction, one array a seed."""

    method: str
    protocol: str
    fraction: float
    arrays: list[np.ndarray]  # over the scored rows only
    rows: np.ndarray  # (scored,) bool: those it has predictions for
    split: str
    notes: tuple[str, ...] = ()
    sampled: dict[tuple[str, str], Sampled] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """What all methods of one evaluation share."""

    targets: Targets
    subjects: np.ndarray
    train: np.ndarray
    tuning: np.ndarray
    scored: np.ndarray  # rows that probes are scored on
    held: np.ndarray  # (N,) bool: rows of the scored split
    split: str
    protocol: str
    draws: int
    seed: int
    cross_validate: bool
    notes: tuple[str, ...]


def evaluate_embeddings(
    features: Mapping[str, Seeds],
    targets: Targets,
    split: np.ndarray,
    subjects: np.ndarray,
    *,
    protocol: str = "linear_probe",
    fractions: Sequence[float] = (1.0,),
    draws: int = 10,
    seed: int = 0,
    bootstrap_draws: int = 1000,
    level: float = 0.95,
    present: Mapping[str, np.ndarray] | None = None,
    predictions: Mapping[str | tuple[str, float], Seeds] | None = None,
    predictions_protocol: str = "fine_tune",
    baseline: str | None = None,
    cross_validate: bool | None = None,
    scored_split: str = "held_out",
) -> list[Result]:
    """Score methods on a task, with intervals and paired differences to a baseline.

    Rows that any method lacks are left out for all and counted in the note. With fewer than 500
    labelled subjects the split is set aside for repeated cross-validation by subject.

    Args:
        features: Method to embeddings (N, E), or to one array a training seed.
        targets: The task over the N samples.
        split: Name of each sample's split: train, tuning, held_out. (N,)
        subjects: Subject of each sample. (N,)
        protocol: ``linear_probe`` or ``knn``.
        fractions: Shares of training labels.
        draws: Random subsets for each share below 1, averaged.
        seed: Seed of subsets, folds and bootstrap.
        bootstrap_draws: Bootstrap draws.
        level: Coverage aimed at.
        present: Method to (N,) bool: samples that have its inputs; default all.
        predictions: Method, or (method, fraction), to predictions (N, C) made elsewhere, scored as
            they are: probabilities, values, or risk; or to one array a seed.
        predictions_protocol: What to call the way they were made.
        baseline: Method to compare with; default the first.
        cross_validate: True or False to force or forbid cross-validation; default by size.
        scored_split: The split that is scored.

    Returns:
        Rows for each method, fraction, target and metric; then the differences, their ``versus``
        set. Nothing is NaN: what is not estimable has no value and a note.

    Raises:
        ConfigError: For an unknown protocol.
        ValueError: For arrays of the wrong length.
    """
    lookup("protocol", protocol, PROTOCOLS)
    given = predictions or {}
    _check_lengths(features, given, targets, split, subjects)
    setting = _setting(
        targets,
        np.asarray(split),
        np.asarray(subjects),
        list((present or {}).values()),
        split_name=scored_split,
        protocol=protocol,
        draws=draws,
        seed=seed,
        cross_validate=cross_validate,
    )
    tables = [
        _predict(setting, method, _as_seeds(arrays), fraction)
        for fraction in fractions
        for method, arrays in features.items()
    ]
    tables += [_take(setting, key, arrays, predictions_protocol) for key, arrays in given.items()]
    scored = targets.take(setting.scored)
    sampler = Resampler(setting.subjects[setting.scored], draws=bootstrap_draws, seed=seed)
    for table in tables:
        table.sampled.update(_score(scored, table, sampler, table.rows))
    rows = [row for table in tables for row in _rows(setting, table, level)]
    first = baseline or next(iter([*features, *(_name(key) for key in given)]), "")
    return rows + list(_differences(setting, tables, first, sampler, level))


def _check_lengths(
    features: Mapping[str, Seeds],
    given: Mapping[Any, Seeds],
    targets: Targets,
    split: np.ndarray,
    subjects: np.ndarray,
) -> None:
    size = len(targets.values)
    lengths = {"split": len(split), "subjects": len(subjects)}
    for name, arrays in [*features.items(), *given.items()]:
        for array in _as_seeds(arrays):
            lengths[f"{name!r}"] = len(array)
            if array.ndim != 2:
                raise ValueError(f"{name!r} must have shape (N, columns), got {array.shape}")
    wrong = {name: length for name, length in lengths.items() if length != size}
    if wrong:
        raise ValueError(f"the task has {size} rows, but {wrong}")


def _as_seeds(arrays: Seeds) -> list[np.ndarray]:
    return [arrays] if isinstance(arrays, np.ndarray) and arrays.ndim == 2 else list(arrays)


def _name(key: str | tuple[str, float]) -> str:
    return key if isinstance(key, str) else key[0]


def _setting(
    targets: Targets,
    split: np.ndarray,
    subjects: np.ndarray,
    present: Sequence[np.ndarray],
    *,
    split_name: str,
    seed: int,
    cross_validate: bool | None,
    **rest: Any,
) -> _Setting:
    """Decide which rows train, tune and score, from labels and presence alone."""
    known = targets.complete if targets.kind == "survival" else targets.known.any(axis=1)
    has = np.all([np.ones(len(split), dtype=bool), *present], axis=0)
    usable = known & has
    lost = int((known & ~has & (split == split_name)).sum())
    notes = [f"{lost} labelled rows lack an input and are left out"] if lost else []
    few = len(np.unique(subjects[usable])) < SMALL_COHORT
    crossed = few if cross_validate is None else cross_validate
    train = np.flatnonzero(usable & (split == "train"))
    tuning = np.flatnonzero(usable & (split == "tuning"))
    if not crossed and len(tuning) == 0 and len(train):
        generator = numpy_generator(seed, "stand_in_tuning", targets.name)
        fold = subject_folds(subjects[train], np.zeros(len(train)), 5, generator)
        train, tuning = train[fold != 0], train[fold == 0]
        notes.append("no tuning split: a fifth of the train subjects stood in")
    if crossed:
        notes.append(
            "cross-validated over all splits: the encoder saw inputs, not labels, of train subjects"
        )
    held = usable & (split == split_name)
    return _Setting(
        targets=targets,
        subjects=subjects,
        train=train,
        tuning=tuning,
        scored=np.flatnonzero(usable if crossed else held),
        held=held,
        split=split_name,
        seed=seed,
        cross_validate=crossed,
        notes=tuple(notes),
        **rest,
    )


def _predict(
    setting: _Setting, method: str, seeds: list[np.ndarray], fraction: float
) -> _Predicted:
    """Fit the probe on each draw of the labelled subset, for each training seed."""
    arrays: list[np.ndarray] = []
    notes: dict[str, None] = {}
    for draw in range(setting.draws if fraction < 1 else 1):
        keep = _Keep(setting, fraction, draw)
        for x in seeds:
            guess, said = _fit_predict(setting, x, keep)
            arrays.append(guess)
            notes.update(dict.fromkeys(said))
    crossed = setting.cross_validate
    return _Predicted(
        method=method,
        protocol=setting.protocol + (", 5 x 5-fold by subject" if crossed else ""),
        fraction=fraction,
        arrays=arrays,
        rows=np.ones(len(setting.scored), dtype=bool),
        split="cross-validation" if crossed else setting.split,
        notes=(*setting.notes, *notes),
    )


def _fit_predict(
    setting: _Setting, x: np.ndarray, keep: _Keep
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Predict the scored rows, (scored, C), from train rows or from the other folds."""
    fit = PROTOCOLS[setting.protocol]
    if not setting.cross_validate:
        if len(setting.scored) == 0:
            return np.zeros((0, setting.targets.num_outputs)), ()
        fitted = fit(x, setting.targets, keep(setting.train), setting.tuning)
        return fitted.predict(x[setting.scored]), fitted.notes
    guess, notes = repeated_cv(
        x,
        setting.targets,
        setting.subjects,
        rows=setting.scored,
        protocol=fit,
        seed=setting.seed,
        keep=keep,
    )
    return guess[setting.scored], notes


@dataclass(frozen=True)
class _Keep:
    """Reduces training rows to a share of labelled subjects."""

    setting: _Setting
    fraction: float
    draw: int

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        setting = self.setting
        return label_subset(
            setting.targets,
            setting.subjects,
            rows,
            self.fraction,
            draw=self.draw,
            seed=setting.seed,
        )


def _take(
    setting: _Setting, key: str | tuple[str, float], arrays: Seeds, protocol: str
) -> _Predicted:
    """Take predictions made elsewhere; they are scored on the scored split only."""
    return _Predicted(
        method=_name(key),
        protocol=protocol,
        fraction=1.0 if isinstance(key, str) else key[1],
        arrays=[np.asarray(x, dtype=np.float64)[setting.scored] for x in _as_seeds(arrays)],
        rows=setting.held[setting.scored],
        split=setting.split,
        notes=setting.notes,
    )


def _score(
    targets: Targets, table: _Predicted, sampler: Resampler, rows: np.ndarray
) -> dict[tuple[str, str], Sampled]:
    """Every metric of the task's kind: the macro mean first where there are several columns."""
    found: dict[tuple[str, str], Sampled] = {}
    for metric in METRICS[targets.kind]:
        if targets.kind == "survival":
            time, event = (targets.values[:, targets.columns.index(c)] for c in ("time", "event"))
            risks = [array[:, 0] for array in table.arrays]
            found[targets.name, metric] = sampler.sample(metric, (event, time), risks, rows)
        elif metric in ("accuracy", "balanced_accuracy"):
            outcome = targets.values[:, 0]
            found["all classes", metric] = sampler.sample(metric, (outcome,), table.arrays, rows)
        else:
            found.update(_columns(targets, table, sampler, rows, metric))
    return found


def _columns(
    targets: Targets, table: _Predicted, sampler: Resampler, rows: np.ndarray, metric: str
) -> dict[tuple[str, str], Sampled]:
    values, known = one_hot(targets)
    names = targets.classes if targets.kind == "multiclass" else targets.columns
    parts = [
        _column(
            sampler,
            metric,
            values[:, column],
            [array[:, column] for array in table.arrays],
            rows & known[:, column],
        )
        for column in range(values.shape[1])
    ]
    single = {(name, metric): part for name, part in zip(names, parts, strict=True)}
    return single if len(parts) == 1 else {("macro", metric): mean_of(parts, names), **single}


def _column(
    sampler: Resampler,
    metric: str,
    outcome: np.ndarray,
    predictions: list[np.ndarray],
    rows: np.ndarray,
) -> Sampled:
    if metric == "brier" and any((p[rows] < 0).any() or (p[rows] > 1).any() for p in predictions):
        spec = replace(SPECS[metric], draws=_nothing, prepare=np.asarray)
        spec = replace(spec, missing="the predictions are scores, not probabilities")
        return sampler.sample(spec, (outcome,), predictions, rows)
    return sampler.sample(metric, (outcome,), predictions, rows)


def _nothing(*arrays: np.ndarray) -> np.ndarray:
    return np.full(arrays[-1].shape[1], np.nan)


def _rows(setting: _Setting, table: _Predicted, level: float) -> Iterator[Result]:
    for (target, metric), sampled in table.sampled.items():
        if _pools_constants(table):
            note = "not estimable: a fold had too little to fit on; " + "; ".join(table.notes)
            yield Result(note=note, **_about(setting, table, target, metric))
            continue
        yield Result.of(
            sampled.interval(level),
            note="; ".join(table.notes),
            **_about(setting, table, target, metric),
        )


def _pools_constants(table: _Predicted) -> bool:
    """Whether folds predict constants: pooled, they rank subjects by fold, which means nothing."""
    return "fold" in table.protocol and any("constant prediction" in note for note in table.notes)


def _about(setting: _Setting, table: _Predicted, target: str, metric: str) -> dict[str, Any]:
    return {
        "task": setting.targets.name,
        "target": target,
        "kind": setting.targets.kind,
        "metric": metric,
        "direction": SPECS[metric].direction,
        "method": table.method,
        "protocol": table.protocol,
        "label_fraction": table.fraction,
        "split": table.split,
    }


def _differences(
    setting: _Setting,
    tables: Sequence[_Predicted],
    baseline: str,
    sampler: Resampler,
    level: float,
) -> Iterator[Result]:
    """Compare each method with the baseline at the same label fraction, draw by draw."""
    scored = setting.targets.take(setting.scored)
    for table in tables:
        pairs = [t for t in tables if t.method == baseline and t.fraction == table.fraction]
        if table.method == baseline or not pairs:
            continue
        if _pools_constants(table) or _pools_constants(pairs[0]):
            continue
        ours, theirs = table.sampled, pairs[0].sampled
        common = table.rows & pairs[0].rows
        if not (np.array_equal(common, table.rows) and np.array_equal(common, pairs[0].rows)):
            ours, theirs = (_score(scored, t, sampler, common) for t in (table, pairs[0]))
        narrow = pairs[0] if common.sum() < table.rows.sum() else table
        for key, sampled in ours.items():
            if np.isnan(sampled.points).any() or np.isnan(theirs[key].points).any():
                continue
            about = {**_about(setting, table, *key), "split": narrow.split}
            difference = sampled.minus(theirs[key]).interval(level)
            yield Result.of(difference, versus=baseline, **about)
