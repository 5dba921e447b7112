"""The model of a table written out: a coefficient for each column, as one would publish it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medmcl.core.targets import Targets
from medmcl.engine.checkpoint import write_atomically
from medmcl.evaluation.results import COVARIATES
from medmcl.stages.features import UNSCALED, Covariates

if TYPE_CHECKING:
    from medmcl.evaluation.models.probe import Fitted

FILE = "coefficients.csv"
RATIOS = {"cox": "hazard ratio", "discrete_time": "hazard odds ratio", "logistic": "odds ratio"}
"""Link to what the exponential of a coefficient is."""
INTERCEPT = "intercept"


def coefficient_rows(
    targets: Targets, models: Mapping[str, Fitted], covariates: Covariates | None
) -> list[dict[str, Any]]:
    """Give a row a column of the table (a level of a category, a flag) and target.

    A number has its coefficient a unit, and a standard deviation of the train rows; the penalty was
    on the latter. Levels and flags have the one of being so.

    Args:
        targets: The task, for the names of what is predicted.
        models: Method to what was fitted; without one of the covariates there are no rows.
        covariates: What that reads.
    """
    plain = models.get(COVARIATES)
    if plain is None or plain.model is None or covariates is None:
        return []
    model = plain.model
    scales: Mapping[str, Any] = covariates.reading["state"].get("scales", {})
    single = targets.kind == "survival" or len(targets.columns) == model.weights.shape[1] == 1
    names = [targets.name] if single else [*(targets.classes or targets.columns)]
    rows = []
    for number, target in enumerate(names):
        offset, weights = model.offset[number], model.weights[:, number]
        for (column, what), weight in zip(covariates.terms, weights, strict=True):
            mean, spread = scales.get(column, UNSCALED) if what == "" else (None, 1.0)
            if mean is not None:
                offset = offset - weight * mean / spread
            rows.append(
                {
                    "task": targets.name,
                    "target": target,
                    "column": column,
                    "is": what or "number",
                    "coefficient": weight / spread,
                    "sd": spread if what == "" else None,
                    "coefficient_per_sd": weight if what == "" else None,
                    "ratio": RATIOS.get(model.link, ""),
                    "ratio_value": _exp(weight) if model.link in RATIOS else None,
                    "ratio_per": "sd" if what == "" else "yes against no",
                    "if_missing": covariates.stand_in(column, what) if mean is None else mean,
                }
            )
        if not model.has_curves:
            rows.append({"task": targets.name, "target": target, "column": INTERCEPT,
                         "coefficient": offset})  # fmt: skip
    return rows


def write_coefficients(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows of `coefficient_rows` as `FILE`."""
    import pandas as pd

    write_atomically(folder / FILE, pd.DataFrame(list(rows)).to_csv(index=False))


def _exp(weight: float) -> float:
    return math.exp(min(max(weight, -700.0), 700.0))
