"""The model of a table written out: a coefficient for each column, as one would publish it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from medmcl.core.atomic import write_atomically
from medmcl.core.targets import Targets
from medmcl.evaluation.models.standard_errors import standard_errors
from medmcl.evaluation.protocol.results import COVARIATES
from medmcl.evaluation.protocol.setting import Setting
from medmcl.stages.run.features import UNSCALED, Covariates

if TYPE_CHECKING:
    from medmcl.evaluation.models.contract import Fitted

FILE = "coefficients.csv"
RATIOS = {"cox": "hazard ratio", "discrete_time": "hazard odds ratio", "logistic": "odds ratio"}
"""Link to what the exponential of a coefficient is."""
METHOD = "Wald, robust over people, the penalty as chosen"
INTERCEPT = "intercept"


def coefficient_rows(
    targets: Targets,
    models: Mapping[str, Fitted],
    covariates: Covariates | None,
    setting: Setting | None = None,
    level: float = 0.95,
) -> list[dict[str, Any]]:
    """Give a row a column of the table (a level of a category, a flag) and target.

    A number has its coefficient a unit, and a standard deviation of the train rows; the penalty was
    on the latter. Levels and flags have the one of being so.

    Args:
        targets: The task, for the names of what is predicted.
        models: Method to what was fitted; without one of the covariates there are no rows.
        covariates: What that reads.
        setting: Whom it was fitted on; without it there are no intervals.
        level: Coverage that intervals aim at; see `standard_errors` for what is in them.
    """
    plain = models.get(COVARIATES)
    if plain is None or plain.linear is None or covariates is None:
        return []
    model = plain.linear
    scales: Mapping[str, Any] = covariates.reading["state"].get("scales", {})
    single = targets.kind == "survival" or len(targets.columns) == model.weights.shape[1] == 1
    names = [targets.name] if single else [*(targets.classes or targets.columns)]
    errors = _errors(plain, covariates, setting)
    reach = NormalDist().inv_cdf((1 + level) / 2)
    rows = []
    for number, target in enumerate(names):
        offset, weights = model.offset[number], model.weights[:, number]
        each = zip(covariates.terms, weights, reach * errors[:, number], strict=True)
        for (column, what), weight, half in each:
            mean, spread = scales.get(column, UNSCALED) if what == "" else (None, 1.0)
            if mean is not None:
                offset = offset - weight * mean / spread
            is_number, has_ratio = what == "", model.link in RATIOS
            rows.append(
                {
                    "task": targets.name,
                    "target": target,
                    "column": column,
                    "is": what or "number",
                    **_with_ends("coefficient", weight / spread, half / spread),
                    "sd": spread if is_number else None,
                    **_with_ends("coefficient_per_sd", weight if is_number else None, half),
                    "ratio": RATIOS.get(model.link, ""),
                    **_with_ends("ratio", weight if has_ratio else None, half, of=_exp),
                    "ratio_per": "sd" if is_number else "yes against no",
                    "interval": "" if math.isnan(half) else f"{100 * level:g} % {METHOD}",
                    "penalty": plain.chosen[min(number, len(plain.chosen) - 1)]
                    if plain.chosen
                    else None,
                    "if_missing": covariates.stand_in(column, what) if mean is None else mean,
                }
            )
        if not model.has_curves:
            rows.append({"task": targets.name, "target": target, "column": INTERCEPT,
                         "coefficient": offset})  # fmt: skip
    return rows


def _errors(plain: Fitted, covariates: Covariates, setting: Setting | None) -> np.ndarray:
    """Standard errors of the weights, (F, C); NaN where there are none."""
    assert plain.linear is not None
    if setting is None:
        return np.full(plain.linear.weights.shape, np.nan)
    return standard_errors(
        plain.linear,
        covariates.values,
        setting.targets,
        setting.subjects,
        setting.keep(setting.train, 1.0, 0),
        plain.chosen,
    )


def _with_ends(
    name: str, value: float | None, half: float, of: Callable[[float], float] = float
) -> dict[str, float | None]:
    """Give a value and the ends of its interval, as cells."""
    middle = f"{name}_value" if name == "ratio" else name
    if value is None or math.isnan(half):
        return {middle: None if value is None else of(value),
                f"{name}_low": None, f"{name}_high": None}  # fmt: skip
    return {middle: of(value), f"{name}_low": of(value - half), f"{name}_high": of(value + half)}


def write_coefficients(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows of `coefficient_rows` as `FILE`."""
    import pandas as pd

    write_atomically(folder / FILE, pd.DataFrame(list(rows)).to_csv(index=False))


def _exp(weight: float) -> float:
    return math.exp(min(max(weight, -700.0), 700.0))
