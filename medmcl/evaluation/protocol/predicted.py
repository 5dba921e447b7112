"""Predictions of one method at one label fraction: fitted here, or made elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from medmcl.core.targets import Targets
from medmcl.data.tables.mapped import leave, let_go, taken, unnamed
from medmcl.evaluation.aspects.tasks.metrics import Horizons, Line
from medmcl.evaluation.metrics.sampled import Sampled
from medmcl.evaluation.metrics.survival.d_calibration import survival_at_own_time
from medmcl.evaluation.models.competing import AbsoluteRisk
from medmcl.evaluation.models.contract import Fitted
from medmcl.evaluation.models.cox_model import Baseline, baseline_hazard
from medmcl.evaluation.models.cross_validation import FoldFeatures, OutOfFold, over_folds
from medmcl.evaluation.models.penalty import CROSSED
from medmcl.evaluation.models.together import Variant
from medmcl.evaluation.protocol.evidence import KEPT_BESIDE_FOLDS, FittedOn
from medmcl.evaluation.protocol.resampling import site_codes
from medmcl.evaluation.protocol.results import CROSS_VALIDATION
from medmcl.evaluation.protocol.setting import Setting
from medmcl.evaluation.protocol.subsets import LabelCounts

Seeds = np.ndarray | Sequence[np.ndarray]
ROWS_AT_ONCE = 4096  # of which curves are held at all fine times


@dataclass(frozen=True, kw_only=True)
class Method:
    """Features and how they are turned into predictions.

    Attributes:
        features: (N, E), or one array a training seed.
        fit: A probe: ``(features, targets, train, tuning, refit_on=...) -> Fitted``.
        protocol: What it is called in the table.
        fractions: Label fractions it is scored at; None = all of the evaluation.
        notes: What a reader must know of the features.
        variants: What else is predicted of the rows: as if only some modalities were there.
        anew: The same method as each fold made it, where every stage is trained anew in each;
            empty otherwise. ``features`` are then those of the stages as they are kept.
        told: Paired modalities that could have named the outcome of train people to the encoder.
        is_fitted: The features are predictions already: draws of labels change nothing, and no
            probe is kept.
    """

    features: Seeds
    fit: Callable[..., Fitted]
    protocol: str
    fractions: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    anew: tuple[FoldFeatures, ...] = ()
    told: tuple[str, ...] = ()
    is_fitted: bool = False


@dataclass(frozen=True, kw_only=True)
class Given:
    """Predictions made elsewhere.

    Attributes:
        values: Probabilities, values or risk, (N, C); rows that are not scored are not read.
        survival: Times (T,) to P(T > time), (N, T); None = risks without curves.
        is_absolute: Where events compete: the curves count that the other may come first.
        protocol: How they were made.
        fitted: What was fitted for them.
        notes: What a reader must know.
        variants: What is predicted as if only some modalities were there, and of which rows.
        counts: Whose labels they were fitted with; None = not known.
        told: As those of a `Method`.
    """

    values: np.ndarray
    survival: Callable[[np.ndarray], np.ndarray] | None = None
    is_absolute: bool = False
    protocol: str = ""
    fitted: tuple[FittedOn, ...] = ()
    notes: tuple[str, ...] = ()
    variants: tuple[tuple[Variant, Given], ...] = ()
    counts: LabelCounts | None = None
    told: tuple[str, ...] = ()


Predictions = Seeds | Given | Sequence[Given]


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Predictions of one method at one label fraction, over the scored rows; one array a seed.

    Attributes:
        method: Name of the method.
        protocol: How they were made.
        fraction: Share of training labels.
        arrays: One (scored, C) a seed.
        curves: One (scored, T) a seed: survival at ``horizons.fine``, or of models that were fitted
            here once at ``horizons.asked``; empty without curves. See `survival_at`.
        own: One (scored,) a seed: survival at a row's own follow-up, where curves are at `asked`.
        orders: The same as ``arrays`` for ranking rows of different folds (`OutOfFold.order`);
            empty outside cross-validation.
        rows: Scored rows it has predictions for. (scored,) bool
        split: Split that was scored.
        notes: What a reader must know.
        fitted: Ledger lines.
        models: The predictor of each seed that is fitted on train, of the first draw; beside
            cross-validation at all labels only.
        sampled: Metrics by target and name.
        variants: The same method as if only some modalities were there; ``method`` says which.
        counts: Whose labels they were fitted with; None = not known.
        told: As those of a `Method`.
    """

    method: str
    protocol: str
    fraction: float
    arrays: list[np.ndarray]
    rows: np.ndarray
    split: str
    curves: list[np.ndarray] = field(default_factory=list)
    own: list[np.ndarray] = field(default_factory=list)
    orders: list[np.ndarray] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    fitted: tuple[FittedOn, ...] = ()
    models: tuple[Fitted, ...] = ()
    sampled: dict[tuple[str, str], tuple[Line, Sampled]] = field(default_factory=dict)
    variants: tuple[Predicted, ...] = ()
    counts: LabelCounts | None = None
    told: tuple[str, ...] = ()

    def about(self, setting: Setting) -> dict[str, Any]:
        """What a row says first of whatever was scored of it."""
        return {
            "task": setting.targets.name,
            "method": self.method,
            "label_fraction": self.fraction,
            "resampling": setting.resampling.kind,
        }

    @property
    def pools_constants(self) -> bool:
        """Whether folds predict constants: pooled, they rank subjects by fold, and mean nothing."""
        said = any("constant prediction" in note for note in self.notes)
        return "fold" in self.protocol and said and not self.has_no_features

    @property
    def has_no_features(self) -> bool:
        """Whether everyone gets the same prediction by construction, but for the fold."""
        return any("no features" in note for note in self.notes)

    def everyone_alike(self) -> Predicted:
        """Give what ranks subjects, or parts them by a cut: out of fold, means of constants.

        A fold's constant is low where its own test rows have many events: pooled, the constants
        rank subjects by fold, against the outcome. Other predictions pass.
        """
        if not (self.has_no_features and self.split == CROSS_VALIDATION):
            return self
        return replace(
            self,
            arrays=[_meaned(array) for array in self.arrays],
            curves=[_meaned(curve) for curve in self.curves],
            orders=[_meaned(order) for order in self.orders],
        )

    def survival_at(self, horizons: Horizons, times: Any) -> list[np.ndarray]:
        """Give survival at some of ``horizons.asked``, one (scored, T) a seed."""
        where = np.searchsorted(horizons.asked if self.own else horizons.fine, times)
        found = [curves[:, where] for curves in self.curves]
        leave()
        return found

    @property
    def ranking(self) -> list[np.ndarray]:
        """What ranks subjects, one (scored, C) a seed: out of fold, standardised in each fold."""
        return self.orders or self.arrays

    def reading(self, line: Line) -> list[np.ndarray]:
        """What a metric reads of the predictions, one (scored, C) a seed."""
        return self.ranking if line.is_order else self.arrays


def _meaned(array: np.ndarray) -> np.ndarray:
    """The mean row in every row; rounding makes none of them differ."""
    return np.repeat(array.mean(axis=0, keepdims=True), len(array), axis=0)


def as_seeds(arrays: Seeds) -> list[np.ndarray]:
    """One array a seed."""
    return [arrays] if isinstance(arrays, np.ndarray) and arrays.ndim == 2 else list(arrays)


def as_given(predictions: Predictions) -> list[Given]:
    """One set of predictions a seed."""
    if isinstance(predictions, Given):
        return [predictions]
    if isinstance(predictions, np.ndarray) and predictions.ndim == 2:
        return [Given(values=predictions)]
    return [p if isinstance(p, Given) else Given(values=np.asarray(p)) for p in predictions]


def fits_of(setting: Setting, method: Method, fraction: float) -> list[tuple[int, np.ndarray]]:
    """Give each fit of a method: the draw of its labelled subset, and the features of a seed."""
    draws = setting.draws if fraction < 1 and not method.is_fitted else 1
    return [(draw, x) for draw in range(draws) for x in as_seeds(method.features)]


def predict(
    setting: Setting,
    name: str,
    method: Method,
    fraction: float,
    *,
    with_variants: bool = False,
    done: Callable[[float], object] = lambda _: None,
) -> Predicted:
    """Fit a method on each draw of the labelled subset, for each training seed.

    ``with_variants``: also what the same predictors say of the method's variants. ``done`` is
    called with what was done of each of `fits_of`, in folds after each fold.
    """
    parts: list[_One] = []
    variants = method.variants if with_variants else ()
    models: list[Fitted] = []
    for draw, x in fits_of(setting, method, fraction):
        one = _one(setting, replace(method, variants=variants), x, fraction, draw, done)
        parts.append(one)
        if draw == 0:
            models += [] if one.fitted is None else [one.fitted]
    first = parts[: len(as_seeds(method.features))]  # of the first draw, as the ledger says
    is_crossed = any(CROSSED in note for part in first for note in part.notes)
    ledger = _ledger(setting, name, method, fraction, is_crossed=is_crossed)
    how = setting.cross_validation
    whole = _joined(
        parts,
        method=name,
        protocol=method.protocol + ("" if how is None else f", {how.name}"),
        fraction=fraction,
        rows=np.ones(len(setting.scored), dtype=bool),
        split=setting.split if how is None else CROSS_VALIDATION,
        counts=setting.counts(fraction, is_refitted=not method.is_fitted),
        told=method.told,
        notes=(
            *setting.notes,
            *method.notes,
            *_of_told(method.told),
            *dict.fromkeys(note for part in parts for note in part.notes),
        ),
    )
    whole = replace(whole, fitted=tuple(ledger), models=tuple(models))
    others = [
        replace(
            _joined([part.variants[number] for part in parts], like=whole),
            method=variant.name,
            rows=np.asarray(variant.has)[setting.scored],
        )
        for number, variant in enumerate(variants)
    ]
    return replace(whole, variants=tuple(others))


def _of_told(told: tuple[str, ...]) -> list[str]:
    return [f"{name}, which it was paired with or reads, could name the outcome" for name in told]


def _joined(parts: Sequence[_One], like: Predicted | None = None, **about: Any) -> Predicted:
    """Put seeds and draws together; ``like``: as another that says the rest."""
    arrays = [part.values for part in parts]
    curves = [part.curves for part in parts if part.curves is not None]
    own: dict[str, Any] = {
        "arrays": arrays,
        "curves": curves if len(curves) == len(arrays) else [],
        "own": [part.own for part in parts if part.own is not None],
        "orders": [part.order for part in parts if part.order is not None],
    }
    return Predicted(**own, **about) if like is None else replace(like, **own)


@dataclass(frozen=True, kw_only=True)
class _One:
    """Predictions of the scored rows by one seed and draw."""

    values: np.ndarray
    curves: np.ndarray | None = None
    own: np.ndarray | None = None
    order: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    fitted: Fitted | None = None
    variants: tuple[_One, ...] = ()


def _one(
    setting: Setting,
    method: Method,
    x: np.ndarray,
    fraction: float,
    draw: int,
    done: Callable[[float], object],
) -> _One:
    """Predict the scored rows from train rows or from the other folds."""
    targets, horizons = setting.targets, setting.horizons
    if targets.competing is not None:
        method = replace(method, fit=AbsoluteRisk(method.fit))
    rows = setting.scored
    if setting.plan:
        return _crossed(setting, method, x, fraction, draw, done)
    if len(rows) == 0:
        done(1.0)
        nothing = _One(values=np.zeros((0, targets.num_outputs)))
        return replace(nothing, variants=(nothing,) * len(method.variants))
    fitted = method.fit(x, targets, setting.keep(setting.train, fraction, draw), setting.tuning)

    def said(features: np.ndarray) -> _One:
        found = _One(values=fitted.predict(features), notes=fitted.notes, fitted=fitted)
        if horizons is None or fitted.survival is None:
            return found
        places = np.searchsorted(horizons.fine, horizons.asked)
        asked, own = unnamed((len(rows), len(places))), np.empty(len(rows))
        few = ROWS_AT_ONCE if fitted.linear is not None else len(rows)  # others may see the rest
        for first in range(0, len(rows), few):
            part = slice(first, first + few)
            curves = fitted.survival(features[part], horizons.fine)
            own[part] = survival_at_own_time(curves, horizons.fine, targets.time[rows[part]])
            asked[part] = curves.take(places, axis=1)
        return replace(found, curves=asked, own=own)

    others = tuple(said(one.features(rows)) for one in method.variants)
    found = replace(said(taken(x, rows)), variants=others)
    let_go()
    done(1.0)
    return found


def _crossed(
    setting: Setting,
    method: Method,
    x: np.ndarray,
    fraction: float,
    draw: int,
    done: Callable[[float], object],
) -> _One:
    """Predict the scored rows from the other folds."""
    targets, rows, how = setting.targets, setting.scored, setting.cross_validation
    own = FoldFeatures(features=x, fit=method.fit, variants=method.variants)
    anew = method.anew or (own,) * len(setting.plan)
    if not method.variants:  # not asked for at this label fraction
        anew = tuple(replace(one, variants=()) for one in anew)
    inside = targets
    if how is not None and how.sites is not None and how.by == "site" and targets.sides is not None:
        units = site_codes(how.sites, setting.subjects)
        inside = replace(targets, sides=targets.sides.parted_by(units))
    found = over_folds(
        anew,
        setting.plan,
        inside,
        keep=lambda part: setting.keep(part, fraction, draw),
        times=None if setting.horizons is None else setting.horizons.fine,
        done=done,
    )
    fitted = None
    if fraction == 1 and len(setting.train) and not method.is_fitted:  # kept for other cohorts
        fitted = method.fit(x, targets, setting.keep(setting.train, 1.0, 0), setting.tuning)

    def of_rows(one: OutOfFold) -> _One:
        return _One(
            values=one.values[rows],
            curves=None if one.curves is None else one.curves[rows],
            order=one.order[rows],
            notes=one.notes,
            fitted=fitted,
        )

    others = tuple(of_rows(found.variants[one.name]) for one in method.variants)
    return replace(of_rows(found), variants=others)


def _ledger(
    setting: Setting, name: str, method: Method, fraction: float, *, is_crossed: bool
) -> list[FittedOn]:
    about = {"method": name, "labels": True}
    if setting.cross_validation is not None:
        note = "in each fold its test subjects are left out of fit and choice"
        what = f"{method.protocol}, its standardisation and its setting"
        if setting.cross_validation.refit == "all":
            before = "every stage" if setting.cross_validation.trains else "how inputs are read"
            what = f"{before}, {what}"
        rows = np.unique(np.concatenate([part for one in setting.plan for part in one[1:3]]))
        lines = [setting.fitted(what, rows, note=note, use="out_of_fold", **about)]
        if fraction == 1 and len(setting.train) and not method.is_fitted:
            what = f"{method.protocol} and its standardisation"
            lines.append(setting.fitted(what, setting.train, note=KEPT_BESIDE_FOLDS, **about))
        return lines
    train = setting.keep(setting.train, fraction, 0)
    share = "" if fraction == 1 else f"{100 * fraction:g} % of the labels, first draw"
    lines = [setting.fitted(f"{method.protocol} and its standardisation", train, note=share,
                            label_fraction=fraction, **about)]  # fmt: skip
    if len(setting.tuning) and method.protocol not in ("majority", "Kaplan-Meier"):
        chosen_on = np.union1d(train, setting.tuning) if is_crossed else setting.tuning
        lines.append(setting.fitted(f"penalty or setting of {method.protocol}", chosen_on, **about))
    return lines


def take(
    setting: Setting, name: str, fraction: float, predictions: Predictions, protocol: str
) -> Predicted:
    """Take predictions made elsewhere; they are scored on the scored split only."""
    parts, rows = as_given(predictions), setting.scored
    whole = _taken(setting, name, fraction, parts, protocol)
    if len(parts) != 1:
        return whole
    others = []
    for variant, given in parts[0].variants:
        one = _taken(setting, variant.name, fraction, [given], protocol)
        others.append(replace(one, rows=one.rows & np.asarray(variant.has)[rows]))
    return replace(whole, variants=tuple(others))


def _taken(
    setting: Setting, name: str, fraction: float, parts: list[Given], protocol: str
) -> Predicted:
    rows = setting.scored
    if setting.targets.competing is not None:  # curves of the own event alone are no risks
        without = "no absolute risk: nothing was kept of the competing event"
        parts = [
            p if p.is_absolute else replace(p, survival=None, notes=(*p.notes, without))
            for p in parts
        ]
    curves: list[np.ndarray] = []
    if setting.horizons is not None and all(part.survival is not None for part in parts):
        for part in parts:
            assert part.survival is not None
            curves.append(np.asarray(part.survival(setting.horizons.fine))[rows])
    return Predicted(
        method=name,
        protocol=parts[0].protocol or protocol,
        fraction=fraction,
        arrays=[np.asarray(part.values, dtype=np.float64)[rows] for part in parts],
        curves=curves,
        rows=setting.held[rows],
        split=setting.split,
        counts=parts[0].counts,
        told=parts[0].told,
        notes=(
            *setting.notes,
            *_of_told(parts[0].told),
            *dict.fromkeys(note for part in parts for note in part.notes),
        ),
        fitted=tuple(dict.fromkeys(line for part in parts for line in part.fitted)),
    )


def with_baseline(
    risk: np.ndarray, targets: Targets, train: np.ndarray, *, protocol: str = "", method: str = ""
) -> Given:
    """Give log hazards predicted elsewhere their survival curves, by a baseline from train rows.

    Args:
        risk: Log hazard of every row, (N, 1); read for train rows and the scored ones.
        targets: The survival task over the same rows.
        train: Rows the baseline hazard is estimated on (indices).
        protocol: How the log hazards were made.
        method: Name of the method, for the ledger.

    Raises:
        LeakageError: A train row is of `held_out`, where the targets know it.
    Source:
        Breslow 1972 (discussion of Cox 1972). Differs: none.
    """
    targets.refuse_leak("the baseline hazard", train)
    rows = np.asarray(train, dtype=np.int64)
    rows = rows[targets.complete[rows]]
    event, time = targets.event[rows], targets.time[rows]
    eta = np.asarray(risk, dtype=np.float64)[:, 0]
    if not event.any():
        return Given(values=risk, protocol=protocol, notes=("no event to fit a baseline hazard",))
    baseline = baseline_hazard(eta[rows], event, time)
    line = FittedOn(
        what="baseline hazard",
        splits=("train",),
        rows=len(rows),
        task=targets.name,
        method=method,
        labels=True,
        note="Breslow, on predicted log hazards",
    )
    return Given(values=risk, survival=Curves(eta, baseline), protocol=protocol, fitted=(line,))


@dataclass(frozen=True)
class Curves:
    """Survival of log hazards (N,) over a baseline hazard.

    Attributes:
        eta: Log hazards. (N,)
        baseline: Cumulative hazard at log hazard zero.
    """

    eta: np.ndarray
    baseline: Baseline

    def __call__(self, times: np.ndarray) -> np.ndarray:
        """P(T > times[t]), (N, T)."""
        return self.baseline.survival(self.eta, times)
