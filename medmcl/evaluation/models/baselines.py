"""Baselines that every table of methods should hold: no features at all, and covariates beside.

Both are fitted as the probes are, ``fit(features, targets, train, tuning) -> Fitted``, and see
train and tuning rows only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from medmcl.core.targets import Targets
from medmcl.evaluation.metrics.survival.kaplan_meier import kaplan_meier_at
from medmcl.evaluation.models.contract import Fitted
from medmcl.evaluation.models.linear_model import LinearModel, Link
from medmcl.evaluation.models.penalty import plain_probe
from medmcl.evaluation.models.probe import linear_probe
from medmcl.evaluation.models.scaling import BlockScaling, one_scale

NO_FEATURES = "no features: constant prediction"

probe_terms = partial(plain_probe, scaling=one_scale)
"""The plain probe for features of terms: directions of small variance are rare words, and noise
when they are brought to variance one. On PTB-XL's reports macro AUROC .933 against .918, fold 9."""


def majority(
    features: np.ndarray,  # the arguments of every probe
    targets: Targets,
    train: np.ndarray,
    tuning: np.ndarray,  # noqa: ARG001  # the arguments of every probe
    *,
    refit_on: np.ndarray | None = None,
) -> Fitted:
    """Predict the same for everyone: the class shares, the mean, or the Kaplan-Meier curve.

    Of the rows of ``train`` where a column is known. Its AUROC and C-index are .5 and its R² on
    other rows is zero or less by construction; its Brier scores and survival curve are what a model
    must beat. Beyond the last follow-up the curve keeps its last value.

    Args:
        features: (N, E), not looked at.
        targets: The task, over the same N rows.
        train: Rows to count (indices).
        tuning: Not looked at: there is nothing to choose.
        refit_on: Rows to count instead of ``train``.
    """
    targets.refuse_leak("the shares of the outcome", train, refit_on)
    rows = np.asarray(train if refit_on is None else refit_on, dtype=np.int64)
    width = np.asarray(features).shape[1]
    if targets.kind == "survival":
        return _kaplan_meier(targets, rows, width)
    if targets.kind == "multiclass":
        labels = targets.values[rows[targets.known[rows, 0]], 0].astype(int)
        count = len(targets.classes)
        even = np.full(count, 1 / count)
        shares = np.bincount(labels, minlength=count) / len(labels) if len(labels) else even
        return _constant("softmax", width, shares, len(labels) == 0)
    known = targets.known[rows]
    outcome = targets.values[rows]
    if targets.kind != "regression":
        outcome = (outcome > 0).astype(np.float64)
    some = known.sum(axis=0)
    otherwise = 0.0 if targets.kind == "regression" else 0.5
    means = np.where(some > 0, (outcome * known).sum(axis=0) / np.maximum(some, 1), otherwise)
    link: Link = "value" if targets.kind == "regression" else "logistic"
    return _constant(link, width, means, bool((some == 0).any()))


def combined(
    blocks: Sequence[np.ndarray],
    targets: Targets,
    train: np.ndarray,
    tuning: np.ndarray,
    *,
    refit_on: np.ndarray | None = None,
) -> tuple[Fitted, np.ndarray]:
    """Fit the linear probe on blocks of features side by side, such as covariates + embedding.

    Each block is standardised and has the same summed variance, so that one penalty shrinks a
    direction of few covariates less than one of many dimensions. On simulated hearts it is as good
    as the better block or better, within .01, in nine of nine comparisons on tuning
    (``benchmarks/evaluation/simple_features.md``); without blocks a wide embedding drowns age and
    sex.

    Args:
        blocks: (N, E_k) each.
        targets: The task, over the same N rows.
        train: Rows to fit on (indices).
        tuning: Rows to choose the strength of the penalty on (indices).
        refit_on: Rows to fit the chosen strength on; default ``train``.

    Returns:
        The predictor, and the features (N, sum of E_k) that it takes.
    """
    features, fit = beside(*blocks)
    return fit(features, targets, train, tuning, refit_on=refit_on), features


def beside(*blocks: np.ndarray) -> tuple[np.ndarray, partial[Fitted]]:
    """Put blocks side by side, (N, sum of E_k), and give the linear probe that knows the blocks.

    For protocols that take features and a way to fit them; see `combined`.
    """
    arrays = [np.asarray(block, dtype=np.float64) for block in blocks]
    widths = tuple(array.shape[1] for array in arrays)
    return np.hstack(arrays), partial(linear_probe, scaling=BlockScaling(widths))


def _kaplan_meier(targets: Targets, rows: np.ndarray, width: int) -> Fitted:
    rows = rows[targets.complete[rows]]
    event, time = targets.event[rows], targets.time[rows]
    times = np.unique(time[event])
    values = np.zeros(0)
    if len(times):
        values = kaplan_meier_at(event, time, np.ones((len(time), 1)), times, extend=True)[:, 0]
    with np.errstate(divide="ignore"):  # a curve that ends at zero has an infinite hazard
        hazard = np.log(-np.log(values))
    model = replace(LinearModel.constant("cox", width, np.zeros(1)), times=times, curve=hazard)
    notes = (NO_FEATURES,) if len(times) else (NO_FEATURES, "no event in training")
    return Fitted.of(model, notes=notes)


def _constant(link: Link, width: int, values: np.ndarray, is_empty: bool) -> Fitted:
    notes = (NO_FEATURES, "no training label") if is_empty else (NO_FEATURES,)
    return Fitted.of(LinearModel.constant(link, width, values), notes=notes)
