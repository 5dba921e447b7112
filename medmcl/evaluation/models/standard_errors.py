"""Standard errors of a ridge-penalised linear model, with its penalty taken as given."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_array, eye_array
from scipy.special import expit, softmax

from medmcl.core.targets import Targets
from medmcl.data.tables.mapped import let_go, taken
from medmcl.evaluation.models.cox import derivatives, log_denominators, risk_sets, running_sums
from medmcl.evaluation.models.linear_model import LinearModel, Link
from medmcl.evaluation.models.one_thread import one_blas_thread
from medmcl.evaluation.models.scaling import Scaler

WIDEST = 2000
"""Weights of one fit beyond which no matrix of them is made."""
SUMS_AT_ONCE = 8
"""Contrasts of which what each person moves is held."""
AT_REST = 0.01
"""Squared distance to the minimum of the loss, in the metric of its curvature, above which the rows
are not those that the model was fitted on, or its fit did not end."""


@one_blas_thread()
def standard_errors(
    model: LinearModel,
    features: np.ndarray,
    targets: Targets,
    subjects: np.ndarray,
    rows: np.ndarray,
    strengths: tuple[float, ...],
    contrasts: csr_array | None = None,
) -> np.ndarray:
    """Robust standard errors of the weights, a unit of each feature, or of sums of them; (K, C).

    The square roots of the diagonal of ``H^-1 J H^-1``: H is the curvature of the penalised loss, J
    the covariance of the subjects' scores (rows of one subject are summed), so that neither several
    records of a person nor a wrong variance of the outcome is taken for knowledge. It is how much
    the penalised weights vary over samples of people, under the penalty that was chosen: that it
    was chosen, and how far it draws weights to zero, are not in it.

    Args:
        model: A linear probe that `linear_probe` fitted; of ``discrete_time`` there are none.
        features: (N, E).
        targets: The task, over the same N rows.
        subjects: Subject of each row. (N,)
        rows: Rows that it was fitted on (indices); of each column those where it is known.
        strengths: Penalty of each column, or one for all.
        contrasts: What to add up: ``contrasts @ weights``, (K, E); default each weight alone.

    Returns:
        NaN where a feature that counts has no weight, or the rows are not at the minimum of the
        loss.
    Source:
        Huber 1967; White 1982; Lin & Wei 1989, JASA 84:1074-1078 (Cox); Gray 1992, JASA 87:942-951
        (with a penalty). Differs: scores are centred, for the penalty keeps their sum from zero.
    """
    if contrasts is None:
        contrasts = eye_array(len(model.weights), format="csr")
    found = np.full((contrasts.shape[0], model.weights.shape[1]), np.nan)
    if model.link == "discrete_time" or not strengths:
        return found
    x = np.asarray(features, dtype=np.float64)
    for link, columns, at, y in _fits(model, targets, np.asarray(rows)):
        used = np.flatnonzero((model.weights[:, columns] != 0).any(axis=1))
        if not len(used) or len(used) * len(columns) > WIDEST or len(at) < 2:
            continue
        z = taken(x, at)[:, used]
        scaler = Scaler.of(z)
        z -= scaler.mean  # of many rows each copy is large
        z /= scaler.scale
        weights = model.weights[used][:, columns] * scaler.scale[:, None]
        strength = strengths[columns[0]] if len(strengths) > 1 else strengths[0]
        if link == "cox":
            scores, hessian = _cox(z, weights[:, 0], y[:, 0] > 0, y[:, 1])
            ridge = np.full(len(used), strength)
        else:
            offset = model.offset[columns] + scaler.mean @ model.weights[used][:, columns]
            scores, hessian = _free_offset(link, z, weights, offset, y)
            ridge = np.full(len(hessian), strength * (len(at) if link == "value" else 1.0))
            ridge[weights.size :] = 0.0
        own = np.concatenate([weights.T.ravel(), np.zeros(len(hessian) - weights.size)])
        summed = _by_person(scores, np.asarray(subjects)[at])
        del z, scores
        let_go()
        influence = _influence(summed, hessian + np.diag(ridge), ridge * own)
        del summed
        if influence is None:
            continue
        unused = np.ones(len(model.weights), dtype=bool)
        unused[used] = False
        has_all = abs(contrasts) @ unused == 0
        asked = contrasts[has_all][:, used]
        for place, column in enumerate(columns):
            part = influence[place * len(used) :][: len(used)]
            part /= scaler.scale[:, None]
            squares = [
                np.square(asked[first : first + SUMS_AT_ONCE] @ part).sum(axis=1)
                for first in range(0, asked.shape[0], SUMS_AT_ONCE)
            ]
            found[has_all, column] = np.sqrt(np.concatenate([np.zeros(0), *squares]))
    return found


def _fits(
    model: LinearModel, targets: Targets, rows: np.ndarray
) -> Iterator[tuple[Link, np.ndarray, np.ndarray, np.ndarray]]:
    """Link, columns that were fitted together, their rows, and the outcome of these. (M, …)."""
    known = targets.known[rows]
    if model.link == "cox":
        at = rows[known.all(axis=1)]
        places = [targets.columns.index(name) for name in ("event", "time")]
        yield model.link, np.arange(1), at, targets.values[at][:, places]
    elif model.link == "softmax":
        at = rows[known[:, 0]]
        seen = np.unique(targets.values[at, 0].astype(int))
        # of two classes the first has no weights: the other's are its log odds
        link: Link = "logistic" if len(seen) == 2 else "softmax"
        shown = seen[1:] if len(seen) == 2 else seen
        yield link, shown, at, targets.values[at, :1].astype(int) == shown
    else:
        for column in range(targets.values.shape[1]):
            at = rows[known[:, column]]
            yield model.link, np.array([column]), at, targets.values[at, column : column + 1]


def _free_offset(
    link: Link, z: np.ndarray, weights: np.ndarray, offset: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of rows and curvature of the loss, over the weights of each column, then its offset.

    Scores (M, P) point up the likelihood; the curvature (P, P) is without the penalty.
    """
    eta = z @ weights + offset
    count = weights.shape[1]
    if link == "value":
        given, spread = eta, np.ones((len(z), 1, 1))
    elif link == "logistic":
        given, y = expit(eta), (y > 0).astype(float)
        spread = (given * (1 - given))[:, :, None]
    else:
        given = softmax(eta, axis=1)
        spread = given[:, :, None] * (np.eye(count) - given[:, None, :])
    rest = y - given
    scores = np.hstack([*(rest[:, [c]] * z for c in range(count)), rest])
    wide = [np.hstack([z, np.ones((len(z), 1))])] * count
    size = z.shape[1]
    order = [c * (size + 1) + k for c in range(count) for k in range(size)]
    order += [c * (size + 1) + size for c in range(count)]
    hessian = np.block(
        [[(wide[a] * spread[:, a, [b]]).T @ wide[b] for b in range(count)] for a in range(count)]
    )[np.ix_(order, order)]
    if count > 1:  # one number added to every offset changes nothing: they sum to zero
        hessian[-count:, -count:] += 1.0
    return scores, hessian


def _cox(
    z: np.ndarray, weights: np.ndarray, event: np.ndarray, time: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Score residuals of rows (M, E) under Efron's ties, and the curvature (E, E)."""
    terms = risk_sets(event, time, "efron")
    x, eta = z[terms.order], (z @ weights)[terms.order]
    shift = float(eta.max(initial=0.0))
    hazard, shares = np.exp(eta - shift), np.exp(shift - log_denominators(eta, terms))
    curvature = derivatives(eta, x, terms)[1]
    sums = running_sums(hazard, x)
    gone = terms.discount * shares
    means = (shares - gone)[:, None] * sums[terms.risk_end] + gone[:, None] * sums[terms.tie_start]
    del sums  # of many rows each array is large

    def over_sets(of: np.ndarray) -> np.ndarray:
        """Sum what each event has over the events in whose risk set a row is, (M, …)."""
        reached = np.zeros((len(x) + 1, of.shape[1]))
        np.add.at(reached, terms.risk_end, shares[:, None] * of)
        np.cumsum(reached[::-1], axis=0, out=reached[::-1])
        whole = reached[1:]
        tied = np.zeros((terms.group.max(initial=0) + 1, of.shape[1]))
        np.add.at(tied, terms.group, gone[:, None] * of)
        whole[terms.events] -= tied[terms.group]
        return whole

    ties = np.bincount(terms.group, minlength=1)[:, None]
    mean = np.zeros((len(ties), x.shape[1]))
    np.add.at(mean, terms.group, means)
    own = x[terms.events] - (mean / np.maximum(ties, 1))[terms.group]
    x *= over_sets(np.ones((len(means), 1)))  # the scores, from here on
    x -= over_sets(means)
    x *= -hazard[:, None]
    x[terms.events] += own
    found = np.empty_like(x)
    found[terms.order] = x
    return found, curvature


def _by_person(scores: np.ndarray, subjects: np.ndarray) -> np.ndarray:
    """Sum the scores (M, P) of the rows of each person, (people, P)."""
    _, who = np.unique(subjects, return_inverse=True)
    summed = np.zeros((int(who.max()) + 1, scores.shape[1]))
    np.add.at(summed, who, scores)
    return summed


def _influence(summed: np.ndarray, hessian: np.ndarray, pull: np.ndarray) -> np.ndarray | None:
    """What each person moves the weights by, (P, people); None off the minimum of the loss.

    It is scaled so that the squares of a weight, summed over people, are its variance. ``summed``,
    scores by person (people, P), are centred in place.
    """
    people = len(summed)
    if people < 2:
        return None
    slope = summed.sum(axis=0) - pull
    summed -= summed.mean(axis=0)
    try:
        influence = np.linalg.solve(hessian, summed.T)  # (P, people)
        step = np.linalg.solve(hessian, slope)
    except np.linalg.LinAlgError:
        return None
    if not np.isfinite(influence).all() or float(slope @ step) > AT_REST:
        return None
    influence *= np.sqrt(people / (people - 1))
    return np.asarray(influence)
