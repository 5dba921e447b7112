"""The model of a table written out: a coefficient for each column, as one would publish it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_array, eye_array, lil_array, vstack

from medmcl.core.atomic import write_atomically
from medmcl.core.targets import Targets
from medmcl.data.tables.spreadsheet import shielded_table
from medmcl.evaluation.models.cox_model import Baseline
from medmcl.evaluation.models.standard_errors import standard_errors
from medmcl.evaluation.protocol.results import COVARIATES
from medmcl.evaluation.protocol.setting import Setting
from medmcl.stages.predict.saved import horizon_years
from medmcl.stages.run.features import MEASURED, UNSCALED, Covariates

if TYPE_CHECKING:
    from medmcl.evaluation.models.contract import Fitted
    from medmcl.evaluation.models.linear_model import LinearModel

FILE = "coefficients.csv"
BASELINE_FILE = "baseline.csv"
RATIOS = {"cox": "hazard ratio", "logistic": "odds ratio"}
"""Link to what the exponential of a contrast is."""
METHOD = "Wald, robust over people, the penalty as chosen"
INTERCEPT = "intercept"
REFERENCE = "reference"
"""What stands in ``ratio_per`` of the level that the others of its category are compared with."""


def coefficient_rows(
    targets: Targets,
    models: Mapping[str, Fitted],
    covariates: Covariates | None,
    setting: Setting | None = None,
    level: float = 0.95,
) -> list[dict[str, Any]]:
    """Give a row a column of the table (a level of a category, a flag) and target.

    A number has its coefficient a unit, and a standard deviation of the train rows; the penalty was
    on the latter. Every level of a category has a coefficient, and their sum over a person's cells
    is what predicts; who is of one level is not of another, so that no coefficient compares people.
    That is what contrasts do (`_contrasts`), and ratios are of them.

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
    single = targets.kind == "survival" or len(targets.columns) == model.weights.shape[1] == 1
    names = [targets.name] if single else [*(targets.classes or targets.columns)]
    contrasts, compared = _contrasts(covariates)
    sums = contrasts @ model.weights
    reach = NormalDist().inv_cdf((1 + level) / 2)
    halves = np.split(reach * _errors(plain, covariates, setting, contrasts), 2)
    offsets, ratio = _raw_offset(model, covariates), RATIOS.get(model.link, "")
    rows: list[dict[str, Any]] = []
    for number, target in enumerate(names):
        start = {"task": targets.name, "target": target}
        each = zip(covariates.terms, _scales(covariates), compared, strict=True)
        for place, ((column, what), (mean, spread), per) in enumerate(each):
            weight, half = model.weights[place, number], halves[0][place, number]
            contrast, reached = sums[place, number], halves[1][place, number]
            is_number = what == ""
            rows.append(
                {
                    **start,
                    "column": column,
                    "is": what or "number",
                    **_with_ends("coefficient", weight / spread, half / spread),
                    "sd": spread if is_number else None,
                    **_with_ends("coefficient_per_sd", weight if is_number else None, half),
                    **_with_ends("contrast", contrast, reached),
                    "ratio": ratio,
                    **_with_ends("ratio", contrast if ratio else None, reached, of=_exp),
                    "ratio_per": per,
                    "interval": "" if math.isnan(half) else f"{100 * level:g} % {METHOD}",
                    "penalty": plain.chosen[min(number, len(plain.chosen) - 1)]
                    if plain.chosen
                    else None,
                    "if_missing": mean if is_number else covariates.stand_in(column, what),
                }
            )
        if not model.has_curves:
            rows.append({**start, "column": INTERCEPT, "coefficient": offsets[number]})
    return rows


def baseline_rows(
    targets: Targets,
    models: Mapping[str, Fitted],
    covariates: Covariates | None,
    setting: Setting | None = None,
) -> list[dict[str, Any]]:
    """Give the hazard of a Cox model where every cell is zero, at its horizons, then event times.

    With the coefficients in raw units, S(t | x) = ``survival`` ** exp(sum of coefficient * x), a
    step function of time. Where every cell is zero may be far from anybody: then ``survival`` is
    1 or 0 to the last digit, and exp(-exp(``log_cumulative_hazard`` + sum)) is the same without
    rounding.

    Args:
        targets: The task.
        models: Method to what was fitted; there are rows of a Cox model of the covariates.
        covariates: What that reads.
        setting: Who has the horizons; without it there are event times alone.
    """
    plain = models.get(COVARIATES)
    if plain is None or plain.linear is None or covariates is None or plain.linear.link != "cox":
        return []
    model = plain.linear
    years = () if setting is None else horizon_years(setting)
    at = () if setting is None or setting.horizons is None else setting.horizons.times
    times = np.array([*at, *model.times], dtype=np.float64)
    logs = Baseline(model.times, model.curve).log_at(times) + _raw_offset(model, covariates)[0]
    return [
        {
            "task": targets.name,
            "horizon_years": years[number] if number < len(years) else None,
            "time": float(time),
            "unit": targets.unit,
            "log_cumulative_hazard": float(log),
            "cumulative_hazard": _exp(log),
            "survival": math.exp(-_exp(log)),
            "event": "the competing event censored" if targets.competing is not None else "",
        }
        for number, (time, log) in enumerate(zip(times, logs, strict=True))
    ]


def _scales(covariates: Covariates) -> list[tuple[float, float]]:
    """Mean and deviation by which each term was standardised; levels and flags were not."""
    scales: Mapping[str, Any] = covariates.reading["state"].get("scales", {})
    return [
        (float(scale[0]), float(scale[1]))
        for column, what in covariates.terms
        for scale in (scales.get(column, UNSCALED) if what == "" else UNSCALED,)
    ]


def _raw_offset(model: LinearModel, covariates: Covariates) -> np.ndarray:
    """Linear predictor where every cell is zero in its own unit, (C,)."""
    zero = np.array([-mean / spread for mean, spread in _scales(covariates)])
    return np.asarray(model.offset + zero @ model.weights)


def _contrasts(covariates: Covariates) -> tuple[csr_array, list[str]]:
    """Give sums of weights that compare people, (F, F), and who is compared with whom in each.

    A number: one standard deviation more. A level: people of it against those of the commonest
    level in train (of equally common ones the first), both weights taken. Whether a number was
    measured: people at its mean against those without. Whether a category was: people of its
    commonest level, whose weight they have, too, against those without.
    """
    places = {term: place for place, term in enumerate(covariates.terms)}
    common: dict[str, str] = {}
    for column, shares in covariates.reading["shares"].items():
        levels = [level for level in shares if (column, level) in places]
        if levels:
            common[column] = max(levels, key=lambda level: shares[level])
    found = lil_array((len(places), len(places)))
    compared = []
    for (column, what), place in places.items():
        found[place, place] = 1.0
        reference = common.get(column)
        if what == "":
            compared.append("sd")
        elif reference is None:
            compared.append("yes against no")
        else:
            is_flag = what == MEASURED
            found[place, places[column, reference]] += 1.0 if is_flag else -1.0
            against = f"{what} against {reference}" if what != reference else REFERENCE
            compared.append(f"{reference} against not measured" if is_flag else against)
    return found.tocsr(), compared


def _errors(
    plain: Fitted, covariates: Covariates, setting: Setting | None, contrasts: csr_array
) -> np.ndarray:
    """Standard errors of the weights, then of the contrasts, (2 F, C); NaN where there are none."""
    assert plain.linear is not None
    width, count = plain.linear.weights.shape
    if setting is None:
        return np.full((2 * width, count), np.nan)
    errors = standard_errors(
        plain.linear,
        covariates.values,
        setting.targets,
        setting.subjects,
        setting.keep(setting.train, 1.0, 0),
        plain.chosen,
        vstack([eye_array(width), contrasts], format="csr"),
    )
    return np.where(errors == 0, np.nan, errors)  # a level against itself


def _with_ends(
    name: str, value: float | None, half: float, of: Callable[[float], float] = float
) -> dict[str, float | None]:
    """Give a value and the ends of its interval, as cells."""
    middle = f"{name}_value" if name == "ratio" else name
    if value is None or math.isnan(half):
        return {middle: None if value is None else of(value),
                f"{name}_low": None, f"{name}_high": None}  # fmt: skip
    return {middle: of(value), f"{name}_low": of(value - half), f"{name}_high": of(value + half)}


def write_model(
    folder: Path, coefficients: Sequence[Mapping[str, Any]], baselines: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Write the rows of `coefficient_rows` and `baseline_rows`; give the names of the files."""
    import pandas as pd

    files = {FILE: coefficients, BASELINE_FILE: baselines}
    for name, rows in files.items():
        if rows:
            table = shielded_table(pd.DataFrame(list(rows)))
            write_atomically(folder / name, table.to_csv(index=False))
    return [name for name, rows in files.items() if rows]


def _exp(weight: float) -> float:
    return math.exp(min(weight, 700.0))
