"""Predictions of single people as a long table: a row a person, task, target and horizon.

Whoever has no record at all is told, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medmcl.core.atomic import write_atomically
from medmcl.core.targets import Targets
from medmcl.data.cohort.spec import UNITS_PER_YEAR
from medmcl.data.loading.prepare import Prepared
from medmcl.evaluation.aspects.tasks.metrics import event_codes
from medmcl.evaluation.models.strength import said_alike
from medmcl.evaluation.protocol.evaluate import TaskEvaluation
from medmcl.evaluation.protocol.predicted import Predicted
from medmcl.evaluation.protocol.setting import Setting
from medmcl.stages.predict.saved import horizon_years
from medmcl.stages.run.outputs import write_table
from medmcl.stages.run.run import Run
from medmcl.stages.run.seen import same_ids, seen_people
from medmcl.stages.run.study import is_another

if TYPE_CHECKING:
    from medmcl.stages.predict.inputs import Inputs
    from medmcl.stages.predict.plan import TaskPlan

WARNING = (
    "this file is about people: it holds ids and what a model says of each. Keep it where the data "
    "are kept, and do not share it as results are shared"
)
KINDS = {"regression": "value", "survival": "risk"}
"""What is predicted, by kind of task; a probability otherwise."""


def long_rows(
    targets: Targets, values: np.ndarray, risks: np.ndarray | None, years: Sequence[float]
) -> list[dict[str, Any]]:
    """Give what is predicted of N people, a dictionary of columns for each target and horizon.

    Args:
        targets: The task.
        values: Probabilities or values, (N, C); of a survival task not read.
        risks: Survival: risk by each horizon, (N, H); None where there is none.
        years: Its horizons.
    """
    kind = KINDS.get(targets.kind, "probability")
    if targets.kind == "survival":
        unknown = np.full((len(values), max(1, len(years))), np.nan)
        found = unknown if risks is None else risks
        return [
            {"target": targets.name, "horizon_years": year, "kind": kind, "predicted": found[:, k]}
            for k, year in enumerate(years or (np.nan,))
        ]
    return [
        {"target": str(name), "horizon_years": np.nan, "kind": kind, "predicted": values[:, k]}
        for k, name in enumerate(targets.names)
    ]


def stacked(parts: Sequence[dict[str, Any]], people: pd.DataFrame) -> pd.DataFrame:
    """Put parts over the same people under one another, person by person.

    Args:
        parts: Columns by name, each a number, text or (N,) array.
        people: Columns that every part shares, N rows; they come first.
    """
    if not parts:
        return people.iloc[:0]
    frames = [people.assign(**part) for part in parts]
    order = np.arange(len(people) * len(frames)).reshape(len(frames), -1).T.ravel()
    return pd.concat(frames, ignore_index=True).iloc[order].reset_index(drop=True)


def scored_people(
    prepared: Prepared, evaluated: Sequence[tuple[str, TaskEvaluation]]
) -> pd.DataFrame:
    """Give what every method said of each person that was scored, at its largest label fraction.

    Returns:
        ``subject, sample, split, task, target, horizon_years, kind, predicted``; of survival tasks
        also ``log_hazard`` (higher = earlier); ``observed``, NaN where it is not known (survival: 1
        = had the event by the horizon, 0 = followed to it without, or had a competing event
        before), of survival also ``event`` (0 = censored, 1 = the event, 2 = the competing event)
        and ``time`` (follow-up in the unit of the task); ``method, protocol, label_fraction``.
        Predictions of several seeds are meaned.
    """
    parts = []
    for task, done in evaluated:
        if done.setting is not None:
            parts += [_of_table(prepared, task, done.setting, table) for table in done.tables]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _of_table(prepared: Prepared, task: str, setting: Setting, table: Predicted) -> pd.DataFrame:
    targets, rows = setting.targets, setting.scored[table.rows]
    values = _mean(table.arrays)[table.rows]
    risks = None
    if setting.horizons is not None and table.curves:
        at = table.survival_at(setting.horizons, setting.horizons.times)
        risks = 1 - _mean(at)[table.rows]
    samples = prepared.samples.iloc[rows]
    people = pd.DataFrame(
        {
            "subject": samples["subject"].astype(str).to_numpy(object),
            "sample": samples["sample"].astype(str).to_numpy(object),
            "split": prepared.splits[rows],
            "task": task,
        }
    )
    said = {
        "method": table.method,
        "protocol": table.protocol,
        "label_fraction": table.fraction,
        "split": table.split if table.split != setting.split else people["split"],
    }
    parts = long_rows(targets, values, risks, horizon_years(setting))
    for number, part in enumerate(parts):
        part |= _observed(setting, rows, number) | said
        if targets.kind == "survival":
            part["log_hazard"] = values[:, 0]
    return stacked(parts, people)


def _observed(setting: Setting, rows: np.ndarray, number: int) -> dict[str, Any]:
    """What happened to people (of survival by a horizon), NaN where it is not known."""
    targets = setting.targets
    if targets.kind == "survival":
        assert setting.horizons is not None
        at = setting.horizons.times[number]
        codes, time = event_codes(targets, rows)
        known = targets.known[rows].all(axis=1)
        by_then = (codes > 0) & (time <= at)
        told = known & (by_then | (time >= at))
        return {
            "observed": np.where(told, by_then & (codes == 1), np.nan),
            "event": np.where(known, codes, np.nan),
            "time": np.where(known, time, np.nan),
        }
    column = 0 if targets.kind == "multiclass" else number
    known, values = targets.known[rows, column], targets.values[rows, column]
    shown = (values == number).astype(float) if targets.kind == "multiclass" else values
    return {"observed": np.where(known, shown, np.nan)}


def _mean(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.asarray(np.mean(arrays, axis=0)) if len(arrays) > 1 else np.asarray(arrays[0])


def write_people(table: pd.DataFrame, path: Path) -> None:
    """Write a table of people, and beside it a text that says that it is one."""
    write_table(table.set_index("subject") if "subject" in table else table, path)
    beside = path.with_name(f"{path.name}.README.txt")
    write_atomically(beside, f"{path.name}: {WARNING}.\n")


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
