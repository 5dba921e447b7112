"""Rows of predictions: who they are about, what was there, and whoever has no record at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from medmcl.data.cohort.spec import UNITS_PER_YEAR
from medmcl.data.loading.prepare import Prepared
from medmcl.evaluation.models.strength import said_alike
from medmcl.stages.predict.inputs import Inputs
from medmcl.stages.predict.plan import TaskPlan
from medmcl.stages.run.run import Run
from medmcl.stages.run.seen import same_ids, seen_people
from medmcl.stages.run.study import is_another

IMPLAUSIBLE = "implausible"
"""Begins the quality of a prediction from a number that can hardly be true; it is given, as an
evaluation scores it."""
POINTS = 101
"""Times of a survival curve, from 0 to the last event time of train, evenly."""
NOTHING = "no record of any modality"
ORDER = [
    "subject", "sample", "task", "target", "horizon_years", "kind", "predicted", "unit", "quality",
    "outside", "outside_of", "modalities", "remarks", "in_training", "method", "protocol",
]  # fmt: skip
"""Columns of the table."""


def shared_columns(
    prepared: Prepared, plan: TaskPlan, inputs: Inputs, can: np.ndarray, lacks_risk: bool
) -> pd.DataFrame:
    """Columns that all rows of a sample share."""
    samples = prepared.samples
    names = [*inputs.has]
    modalities = [
        " + ".join(name for name in names if inputs.has[name][row]) or "none"
        for row in range(len(samples))
    ]
    quality = np.full(len(samples), "ok", dtype=object)
    for row in np.flatnonzero(~can):
        why = [inputs.reasons[name][row] for name in inputs.reasons if inputs.reasons[name][row]]
        quality[row] = "; ".join(why) or "an input is absent"
    if lacks_risk:
        quality[can] = "no survival curve was kept for this method"
    odd = can & (inputs.implausible != "") & (quality == "ok")
    quality[odd] = [f"{IMPLAUSIBLE}: {one}" for one in inputs.implausible[odd]]
    alike = [] if plan.probe is None else said_alike(plan.probe.about["notes"])
    if alike:
        quality[can & (quality == "ok")] = "; ".join(alike)
    unknown = pd.array([pd.NA] * len(samples), dtype="boolean")
    outside = unknown if inputs.outside is None else pd.array(inputs.outside, dtype="boolean")
    outside[~can] = pd.NA
    return pd.DataFrame(
        {
            "subject": samples["subject"].astype(str).to_numpy(object),
            "sample": samples["sample"].astype(str).to_numpy(object),
            "task": plan.task,
            "quality": quality,
            "can": can & (not lacks_risk),
            "outside": outside,
            "outside_of": inputs.outside_of,
            "modalities": modalities,
            "remarks": inputs.remarks,
            "row": np.arange(len(samples)),
        }
    )


def with_nobody(table: pd.DataFrame, prepared: Prepared) -> pd.DataFrame:
    """Add people of whom there is no record at all: they are told, not dropped."""
    everyone = prepared.cohort.subjects.index.astype(str)
    there = set(prepared.samples["subject"].astype(str))
    without = [one for one in everyone if one not in there]
    if not without:
        return table
    kinds = ["task", "target", "horizon_years", "kind", "unit", "method", "protocol"]
    heads = table.drop_duplicates(kinds)[kinds]
    if heads.empty:
        heads = pd.DataFrame([dict.fromkeys(kinds, "")])
    rows = pd.DataFrame({"subject": without}).merge(heads, how="cross")
    rows = rows.assign(sample=rows["subject"], quality=NOTHING, predicted=np.nan, outside_of="",
                       remarks="", modalities="none", row=-1,
                       outside=pd.array([pd.NA] * len(rows), dtype="boolean"))  # fmt: skip
    return pd.concat([table, rows], ignore_index=True)


def in_training(run: Run, prepared: Prepared, table: pd.DataFrame) -> Any:
    """Whether the run learned from these people; missing where nothing tells."""
    seen = seen_people(run, prepared)
    answer = pd.array([pd.NA] * len(table), dtype="boolean")
    is_told = any(adapter.measured for adapter in prepared.adapters.values())
    if seen is None or not (is_told or not is_another(run, prepared.cohort)):
        return answer  # equal cells of two tables need not be of one person
    rows = table["row"].to_numpy()
    known = rows >= 0
    answer[known] = seen[rows[known]]
    answer[known & (same_ids(run, prepared) & ~seen)[np.maximum(rows, 0)]] = pd.NA
    return answer


def curve_rows(
    people: pd.DataFrame,
    plan: TaskPlan,
    survival: Any,
    features: np.ndarray,
    last: float,
    unit: str,
) -> pd.DataFrame:
    """Curves of those who were predicted, at `POINTS` times."""
    rows = people.loc[people["can"], "row"].to_numpy()
    times = np.linspace(0, last, POINTS)
    values = survival(features[rows], times)
    per_year = UNITS_PER_YEAR.get(unit, np.nan)
    return pd.DataFrame(
        {
            "subject": np.repeat(people["subject"].to_numpy(object)[rows], POINTS),
            "sample": np.repeat(people["sample"].to_numpy(object)[rows], POINTS),
            "task": plan.task,
            "method": plan.method,
            "years": np.tile(times / per_year, len(rows)),
            "time": np.tile(times, len(rows)),
            "unit": unit,
            "survival": values.ravel(),
        }
    )
