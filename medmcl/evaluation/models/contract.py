"""What a model of frozen features must keep: fitted on rows, chosen on others, kept as arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from medmcl.core.errors import ArtefactError
from medmcl.evaluation.models import MODELS
from medmcl.evaluation.models.linear_model import LINKS, LinearModel
from medmcl.modalities.outside import fails


class KeptModel(Protocol):
    """A fitted model that holds nobody's rows, so that a run may keep it for `medmcl predict`."""

    @property
    def link(self) -> str:
        """What it is read back by: the name of its `Model` in `MODELS`, or one of `LINKS`."""
        ...

    @property
    def width(self) -> int:
        """Features it takes, E."""
        ...

    @property
    def has_curves(self) -> bool:
        """Whether it gives survival curves."""
        ...

    @property
    def times(self) -> np.ndarray:
        """Survival: where the curves step, ascending, (K,); else empty."""
        ...

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Of features (N, E) what `Fitted.predict` says, (N, C)."""
        ...

    def survival(self, features: np.ndarray, times: np.ndarray) -> np.ndarray:
        """P(T > times[t]), (N, T); not asked for without curves."""
        ...

    def arrays(self) -> Mapping[str, np.ndarray]:
        """All of it, as `Model.load` takes it back: the same predictions to the last bit."""
        ...


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A fitted predictor.

    Attributes:
        predict: Features (N, E) to (N, C): probabilities (binary, multilabel, multiclass), values
            (regression) or a log hazard (survival); higher = more, or earlier.
        chosen: The setting chosen on tuning, one a column (or one for all).
        notes: What a reader must know: constant predictions, settings at the edge of the grid.
        survival: Survival tasks: features (N, E) and times (T,) to P(T > time), (N, T).
        times: Survival tasks: times at which that curve was fitted, ascending. (K,)
        model: All of it as arrays that can be kept; None for a predictor that holds people's rows.
    """

    predict: Callable[[np.ndarray], np.ndarray]
    chosen: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    survival: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    times: np.ndarray | None = None
    model: KeptModel | None = None

    @classmethod
    def of(
        cls, model: KeptModel, chosen: tuple[float, ...] = (), notes: tuple[str, ...] = ()
    ) -> Fitted:
        """Make a predictor from a model."""
        return cls(
            predict=model.predict,
            chosen=chosen,
            notes=notes,
            survival=model.survival if model.has_curves else None,
            times=model.times if model.has_curves else None,
            model=model,
        )

    @property
    def linear(self) -> LinearModel | None:
        """The model, where it is weights of features."""
        return self.model if isinstance(self.model, LinearModel) else None


@dataclass(frozen=True, kw_only=True)
class Model:
    """A way to predict from frozen features, as `MODELS` names it.

    Attributes:
        fit: ``(features, targets, train, tuning, *, refit_on=None) -> Fitted``: features (N, E) and
            the task over the same N rows; fitted on ``train``, its settings chosen on ``tuning``,
            then fitted again on ``refit_on``, if given (all row numbers). It calls
            ``targets.refuse_leak`` with the rows it is given, and looks at no others.
        kinds: Kinds of tasks that it holds for; others have the linear probe. Empty: every kind.
        load: Reads back what `KeptModel.arrays` gave, if ``fit`` gives models of a kind of its own.
    """

    fit: Callable[..., Fitted]
    kinds: tuple[str, ...] = ()
    load: Callable[[Mapping[str, np.ndarray]], KeptModel] | None = None


def fit_of(name: str) -> Callable[..., Fitted]:
    """Give the ``fit`` of a model by its name; what fails of one from outside is told as its own.

    Raises:
        ContractError: Of the callable, and of what it gives: one from outside fails.
    """
    own: Callable[..., Fitted] = MODELS[name].fit
    if name not in MODELS.outside:
        return own
    part = f"the model '{name}' (package {MODELS.package(name)}) failed in"
    fix = "correct the package (docs/extend.md has the contract), and go on with --resume"

    def fit(*given: Any, **named: Any) -> Fitted:
        with fails(f"{part} fit", fix):
            fitted = own(*given, **named)
            if not isinstance(fitted, Fitted):
                raise TypeError(f"it gave {type(fitted).__name__}, which is no Fitted")

        def predict(features: np.ndarray) -> np.ndarray:
            with fails(f"{part} predict", fix):
                found = np.asarray(fitted.predict(features))
                if found.ndim != 2 or len(found) != len(features) or not np.isfinite(found).all():
                    raise ValueError(f"it gave {found.shape}, or NaN, for {len(features)} rows")
            return found

        return replace(fitted, predict=predict)

    return fit


def read_model(link: str, arrays: Mapping[str, np.ndarray]) -> KeptModel:
    """Read a kept model back.

    Raises:
        ArtefactError: No installed package reads models of this link.
        ValueError: For arrays that do not fit together.
    """
    if link in LINKS:
        return LinearModel.of(link, arrays)
    load = MODELS[link].load if link in MODELS else None
    if load is None:
        raise ArtefactError(
            f"the run keeps a model '{link}', which nothing here can read",
            expected=", ".join((*LINKS, *MODELS.outside)),
            fix=f"install the package that gives it (entry point '{MODELS.group}')",
        )
    model: KeptModel = load(arrays)
    return model
