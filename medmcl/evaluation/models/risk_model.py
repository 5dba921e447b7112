"""A scikit-learn estimator of risk: the linear probe behind ``fit`` and ``predict``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.spatial import cKDTree

# scikit-learn at module level: the class derives from its base. `medmcl` imports this file lazily.
from sklearn.base import BaseEstimator
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from medmcl.core.config import lookup
from medmcl.core.errors import ConfigError, LeakageError
from medmcl.core.rng import numpy_generator
from medmcl.evaluation.metrics.predictions import c_index
from medmcl.evaluation.models.contract import Fitted
from medmcl.evaluation.models.one_thread import one_blas_thread
from medmcl.evaluation.models.outcome import KINDS, Kind, Outcome, read_outcome
from medmcl.evaluation.models.penalty import cross_validated_strength
from medmcl.evaluation.models.probe import linear_probe, linear_walk
from medmcl.evaluation.models.survival_models import (
    Walk,
    discrete_time_probe,
    discrete_time_walk,
)

if TYPE_CHECKING:
    import pandas as pd

_CLASSES = ("binary", "multiclass")
ALIKE = 1e-8  # features closer than this share of their column are those of one row
DIRECTIONS = 8


def _offered_to(*kinds: str) -> Callable[[Any], bool]:
    """A method exists for these kinds only; before ``fit``, ``auto`` may still become any."""

    def check(model: RiskModel) -> bool:
        kind = getattr(model, "kind_", model.kind)
        if kind == "auto" or kind in kinds:
            return True
        raise AttributeError(f"a RiskModel of kind '{kind}' has no such method")

    return check


class RiskModel(BaseEstimator):
    """A linear model with a ridge penalty for a binary, multiclass, continuous or survival outcome.

    It is the package's linear probe: on the same rows both give the same numbers. Features are
    standardised inside with statistics of the rows fitted on.

    Args:
        kind: ``binary``, ``multiclass``, ``continuous`` or ``survival``. ``auto`` guesses from y
            and says so in ``notes_``: a structured array or two columns is survival; words,
            booleans or two distinct values are classes; whole numbers (not floats) with at most
            10 distinct values are classes; other numbers are continuous.
        strength: Penalty, or ``auto``: chosen on ``tuning`` if `fit` is given such rows, otherwise
            by cross-validation inside the rows given. Scale: 1 / C of scikit-learn's
            LogisticRegression for classes, times the number of rows for continuous, against the
            summed likelihood for survival.
        hazard: Model of a survival outcome: ``cox`` or ``discrete_time``.
        cv: Folds of the inner cross-validation.
        seed: Seed of the folds.

    Attributes:
        kind_: What y was taken for.
        classes_: Classes, ascending (binary, multiclass).
        strength_: Penalty used; NaN if there was too little to fit.
        notes_: What a reader must know: the guess, constant predictions, a fit that failed.
        times_: Event times or ends of intervals of the training rows (survival).
        n_features_in_: Number of features.
        feature_names_in_: Their names, if X had any.
    """

    def __init__(
        self,
        kind: Literal["auto", "binary", "multiclass", "continuous", "survival"] = "auto",
        *,
        strength: Literal["auto"] | float = "auto",
        hazard: Literal["cox", "discrete_time"] = "cox",
        cv: int = 5,
        seed: int = 0,
    ) -> None:
        self.kind = kind
        self.strength = strength
        self.hazard = hazard
        self.cv = cv
        self.seed = seed

    @one_blas_thread()
    def fit(
        self,
        X: Any,
        y: Any,
        *,
        groups: Any = None,
        tuning: tuple[Any, Any] | tuple[Any, Any, Any] | None = None,
    ) -> RiskModel:
        """Fit.

        Args:
            X: Features, (N, E), finite.
            y: (N,) classes or numbers; or survival: a structured array with a boolean and a number
                field (as scikit-survival), or two columns, event then time (a DataFrame with
                columns named ``event`` and ``time`` in either order).
            groups: Subject of each row, (N,): inner folds keep a subject's rows together. Default:
                every row is its own subject.
            tuning: Other rows ``(X, y)``, or ``(X, y, groups)``, to choose the penalty on. They are
                not fitted on. With ``groups`` theirs are needed, too. Rows whose features stand in
                X, whatever their outcome, are warned of, and noted.

        Raises:
            ConfigError: For outcomes or settings that cannot be used; names what would be.
            LeakageError: Subjects of the tuning rows have rows in X.
        """
        self._check_settings()
        X = self._features(X, reset=True)
        outcome = read_outcome(y, self.kind, rows=len(X))
        if outcome.warning:
            from sklearn.exceptions import DataConversionWarning

            warnings.warn(outcome.warning, DataConversionWarning, stacklevel=2)
        if groups is not None and tuning is not None and len(tuning) == 2:
            raise ConfigError(
                "groups are given, but not those of tuning: shared subjects would go unseen",
                where="tuning",
                got="(X, y)",
                expected="(X, y, groups)",
            )
        groups = _subjects(groups, len(X))
        self.kind_ = outcome.kind
        if hasattr(self, "classes_"):
            del self.classes_
        if outcome.classes is not None:
            self.classes_: np.ndarray = outcome.classes
        notes = list(outcome.notes)
        fitted = self._fit(X, outcome, groups, tuning, notes)
        self._followed = (
            np.unique(outcome.targets.values[:, 0]) if self.kind_ == "survival" else None
        )
        self._fitted = fitted
        self.strength_ = fitted.chosen[0] if fitted.chosen else float("nan")
        self.notes_ = tuple(dict.fromkeys([*notes, *fitted.notes]))
        return self

    def _fit(
        self,
        X: np.ndarray,
        outcome: Outcome,
        groups: np.ndarray,
        tuning: tuple[Any, ...] | None,
        notes: list[str],
    ) -> Fitted:
        protocol: Callable[..., Fitted] = linear_probe
        walk: Callable[..., Walk] = linear_walk
        if self.kind_ == "survival" and self.hazard == "discrete_time":
            protocol, walk = discrete_time_probe, discrete_time_walk
        rows, none = np.arange(len(X)), np.arange(0)
        if self.strength != "auto":
            return protocol(X, outcome.targets, rows, none, strengths=[float(self.strength)])
        if tuning is None:
            strength, said = cross_validated_strength(
                walk, X, outcome.targets, groups, folds=self.cv, seed=self.seed
            )
            notes += said
            return protocol(X, outcome.targets, rows, none, strengths=[strength])
        x_tuning = self._features(tuning[0], reset=False)
        other = read_outcome(tuning[1], outcome.kind, rows=len(x_tuning), classes=outcome.classes)
        if len(tuning) > 2:
            _refuse_shared(groups, _subjects(tuning[2], len(x_tuning)))
        twice = _rows_in_both(X, x_tuning)
        if twice:
            warning = (
                f"{twice} of {len(x_tuning)} tuning rows are also in X, by their features: if they "
                "are the same subjects, the penalty is too weak"
            )
            warnings.warn(warning, UserWarning, stacklevel=4)
            notes.append(warning)
        sides = (outcome.targets, other.targets)
        joined = replace(
            outcome.targets,
            values=np.concatenate([one.values for one in sides]),
            known=np.concatenate([one.known for one in sides]),
        )
        both = np.concatenate([X, x_tuning])
        return protocol(both, joined, rows, np.arange(len(X), len(both)))

    @property
    def times_(self) -> np.ndarray:
        """Event times (Cox) or ends of intervals (discrete time) of the fitted rows. (K,).

        Without any event the follow-up times: survival is one at each.
        """
        check_is_fitted(self, "kind_")
        if self.kind_ != "survival":
            raise AttributeError(f"a RiskModel of kind '{self.kind_}' has no times")
        assert self._fitted.times is not None  # fitted to a survival outcome
        times, followed = self._fitted.times, self._followed
        return times if len(times) or followed is None else followed

    def _check_settings(self) -> None:
        lookup("kind", str(self.kind), ("auto", *KINDS), where="kind")
        lookup("hazard", str(self.hazard), ("cox", "discrete_time"), where="hazard")
        number = isinstance(self.strength, int | float | np.number)
        if self.strength != "auto" and not (number and 0 < float(self.strength) < np.inf):
            raise ConfigError(
                "must be 'auto' or a number above zero", where="strength", got=self.strength
            )
        if self.cv < 2:
            raise ConfigError("needs at least 2 folds", where="cv", got=self.cv)

    def _features(self, X: Any, *, reset: bool) -> np.ndarray:
        X = validate_data(
            self,
            X,
            reset=reset,
            dtype=np.float64,
            ensure_all_finite=False,
            ensure_min_samples=2 if reset else 1,
        )
        bad = ~np.isfinite(X)
        if bad.any():
            raise ConfigError(
                "X contains NaN or infinity",
                got=f"{int(bad.any(axis=1).sum())} of {len(X)} rows, "
                f"{int(bad.any(axis=0).sum())} of {X.shape[1]} columns",
                expected="finite numbers",
                fix="leave these rows out, or put an imputer (sklearn.impute) before this model",
            )
        return np.asarray(X)

    def _predicted(self, X: Any) -> np.ndarray:
        check_is_fitted(self, "kind_")
        return self._fitted.predict(self._features(X, reset=False))

    def predict(self, X: Any) -> np.ndarray:
        """Give the most probable class, the value, or the log hazard (higher = earlier); (N,)."""
        found = self._predicted(X)
        if self.kind_ == "binary":
            return np.asarray(self.classes_[(found[:, 0] > 0.5).astype(int)])
        if self.kind_ == "multiclass":
            return np.asarray(self.classes_[found.argmax(axis=1)])
        return found[:, 0]

    @available_if(_offered_to(*_CLASSES))
    def predict_proba(self, X: Any) -> np.ndarray:
        """Give the probability of each class, (N, C), in the order of ``classes_``."""
        found = self._predicted(X)
        return np.column_stack([1 - found, found]) if self.kind_ == "binary" else found

    @available_if(_offered_to(*_CLASSES))
    def decision_function(self, X: Any) -> np.ndarray:
        """Give log odds of the second class, (N,); log probabilities (N, C) for three and more."""
        found = self._predicted(X)
        tiny = np.finfo(np.float64).tiny
        if self.kind_ == "multiclass" and found.shape[1] > 2:
            return np.asarray(np.log(np.maximum(found, tiny)))
        second = found[:, -1]
        first = 1 - second if self.kind_ == "binary" else found[:, 0]
        return np.asarray(np.log(np.maximum(second, tiny)) - np.log(np.maximum(first, tiny)))

    @available_if(_offered_to("survival"))
    def predict_survival_function(self, X: Any, times: Any = None) -> np.ndarray | pd.DataFrame:
        """Give P(T > time), (N, T), at ``times``, by default ``times_``.

        A DataFrame X gives a DataFrame with its index and one column a time.
        """
        check_is_fitted(self, "kind_")
        grid = self.times_ if times is None else np.asarray(times, dtype=np.float64)
        if grid.ndim != 1 or not np.isfinite(grid).all():
            raise ConfigError("times must be finite numbers in one dimension", got=grid.shape)
        assert self._fitted.survival is not None  # fitted to a survival outcome
        curves = self._fitted.survival(self._features(X, reset=False), grid)
        if not hasattr(X, "iloc"):
            return curves
        import pandas as pd

        return pd.DataFrame(curves, index=X.index, columns=pd.Index(grid, name="time"))

    def score(self, X: Any, y: Any) -> float:
        """Give accuracy (classes), R² (continuous) or Harrell's C (survival); higher is better.

        Raises:
            ConfigError: If C is not estimable on these rows (no comparable pair).
        """
        found = self.predict(X)
        if self.kind_ in _CLASSES:
            return float(accuracy_score(y, found))
        outcome = read_outcome(y, self.kind_, rows=len(found))
        values = outcome.targets.values
        if self.kind_ == "continuous":
            return float(r2_score(values[:, 0], found))
        score = c_index(values[:, 1] > 0, values[:, 0], found)
        if not isinstance(score, float):
            raise ConfigError(f"the C-index is not estimable: {score}")
        return score

    def save(self, path: Path | str) -> Path:
        """Write the fitted model to one safetensors file, without pickle.

        Of the people it was fitted on it holds no rows; of survival the times of their events.

        Raises:
            NotFittedError: It is not fitted.
            ConfigError: Its classes are neither words, numbers nor booleans.
        """
        from medmcl.evaluation.models.saved_risk_model import save_risk_model

        return save_risk_model(self, path)

    @classmethod
    def load(cls, path: Path | str) -> RiskModel:
        """Read a model that `save` wrote: it predicts the same, to the last bit.

        Raises:
            ArtefactError: There is no such file, or it is another or damaged.
        """
        from medmcl.evaluation.models.saved_risk_model import load_risk_model

        return load_risk_model(path)

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, RegressorTags

        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        kind = getattr(self, "kind_", self.kind)
        if kind in _CLASSES:
            tags.estimator_type = "classifier"
            tags.classifier_tags = ClassifierTags(multi_class=kind == "multiclass")
        elif kind == "continuous":
            tags.estimator_type = "regressor"
            tags.regressor_tags = RegressorTags()
        return tags


def _subjects(groups: Any, rows: int) -> np.ndarray:
    subjects = np.arange(rows) if groups is None else np.asarray(groups)
    if subjects.shape != (rows,):
        raise ConfigError("groups must name a subject for each row", got=subjects.shape)
    return subjects


def _refuse_shared(fitted: np.ndarray, tuning: np.ndarray) -> None:
    shared = np.unique(tuning[np.isin(tuning, fitted)])
    if len(shared):
        raise LeakageError(
            "the choice of the penalty would see subjects that are fitted on",
            got=f"{len(shared)} of {len(np.unique(tuning))} tuning subjects, as {shared[0]}",
            expected="tuning rows of other subjects",
            fix="put all rows of a subject on one side",
        )


def _rows_in_both(x: np.ndarray, other: np.ndarray) -> int:
    """Count the second rows whose features a first row has, to 1e-8 of each column's size.

    Near rows are near on a few directions, too: the nearest there is the only candidate.
    """
    size = np.abs(x).max(axis=0)
    size = np.where(size > 0, size, 1.0)
    first, second = x / size, other / size
    directions = numpy_generator(0, "near copies").normal(size=(x.shape[1], DIRECTIONS))
    _, nearest = cKDTree(first @ directions).query(second @ directions)
    return int((np.abs(first[nearest] - second) <= ALIKE).all(axis=1).sum())


__all__ = ["Kind", "RiskModel"]
