"""Predictions as MEDS writes them: what MEDS-DEV and meds-evaluation score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medmcl.core.atomic import file_aside
from medmcl.core.errors import CohortError, ConfigError
from medmcl.core.findings import counted
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.cohort.outcomes import build_targets
from medmcl.stages.run.own_cohort import open_as_own
from medmcl.stages.run.run import Run

TIME = "prediction_time"
TRUTH = "boolean_value"
THRESHOLD = 0.5


def one_binary_task(run: Run, tasks: Sequence[str] | None) -> str:
    """Give the task that a file of MEDS predictions is about.

    Raises:
        ConfigError: It is none, or not yes or no, or several could be meant.
    """
    known = [name for name, task in run.tasks.items() if task.kind == "binary"]
    asked = list(tasks or known)
    if len(asked) != 1 or asked[0] not in known:
        raise ConfigError(
            "a file of MEDS predictions is about one binary task",
            where="--schema meds",
            got=", ".join(asked) or "none",
            expected=f"--task, one of {', '.join(known)}" if known else "a run with a binary task",
        )
    return asked[0]


def meds_rows(
    run: Run,
    cohort: str | Path,
    table: pd.DataFrame,
    task: str,
    overrides: Mapping[str, Any] | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """Give predictions in the schema of MEDS, and what was left out.

    People the run learned from are left out, and whoever has no prediction or no index date.

    Args:
        run: The run.
        cohort: Folder or name; its index date is the time of prediction, its task the truth.
        table: What `predict_people` gave.
        task: A binary task of the cohort.
        overrides: Cohort overrides.

    Returns:
        ``subject_id`` (int64), ``prediction_time``, ``boolean_value`` (null where unknown),
        ``predicted_boolean_value`` (probability of a half or more) and
        ``predicted_boolean_probability``; and sentences.

    Raises:
        CohortError: The cohort has no such task or no index date, or ids are no whole numbers.
    """
    opened, _ = open_as_own(run, cohort, overrides, default={"on_bad_record": "exclude"})
    known = _truth(opened, task)
    rows = table[table["task"] == task].set_index("sample")
    rows = rows.join(known, how="left")
    learned = rows["in_training"].fillna(value=False).astype(bool)
    lacking = {
        "learned from in training or tuning": learned,
        "without a prediction": ~learned & rows["predicted"].isna(),
        f"without an index date, which is the {TIME}": ~learned
        & rows["predicted"].notna()
        & rows[TIME].isna(),
    }
    notes = [f"left out, {counted(int(n.sum()), 'row')}: {why}"
             for why, n in lacking.items() if n.any()]  # fmt: skip
    rows = rows[~np.logical_or.reduce([*lacking.values()])]
    unknown = int(rows[TRUTH].isna().sum())
    if unknown:
        notes.append(f"{counted(unknown, 'row')} without a known outcome: {TRUTH} is null")
    found = pd.DataFrame(
        {
            "subject_id": _whole(rows["subject"]),
            TIME: rows[TIME].to_numpy("M8[us]"),
            TRUTH: rows[TRUTH].to_numpy(object),
            "predicted_boolean_value": (rows["predicted"] >= THRESHOLD).to_numpy(),
            "predicted_boolean_probability": rows["predicted"].to_numpy(np.float64),
        }
    )
    return found.sort_values(["subject_id", TIME], ignore_index=True), notes


def _truth(cohort: Cohort, task: str) -> pd.DataFrame:
    """Index date and outcome of each sample."""
    if task not in cohort.labels or cohort.spec.keys.index is None:
        what = "index:" if task in cohort.labels else f"task '{task}'"
        raise CohortError(
            f"the cohort has no {what}, of which MEDS predictions have the "
            f"{TIME if what == 'index:' else TRUTH}",
            where=cohort.path,
            fix="see docs/cohort.md: a table of labels as ACES writes them",
        )
    labels = cohort.labels[task]
    targets, _ = build_targets(task, cohort.spec.tasks[task], labels, cohort.maps)
    truth = np.full(len(cohort.samples), None, dtype=object)
    if targets is not None:
        has = targets.known[:, 0]
        truth[has] = [bool(one) for one in targets.values[has, 0] > 0]
    names = cohort.samples["sample"].astype(str)
    assert labels.index is not None  # the cohort names an index date
    return pd.DataFrame({TIME: labels.index.astype("M8[us]"), TRUTH: truth}, index=names)


def _whole(subjects: pd.Series) -> np.ndarray:
    """Subject ids as MEDS has them, int64."""
    numbers = pd.to_numeric(subjects, errors="coerce")
    bad = subjects[numbers.isna() | (numbers % 1 != 0)]
    if len(bad):
        raise CohortError(
            "MEDS calls people by whole numbers", where="--schema meds", got=repr(bad.iloc[0])
        )
    return np.array([int(one) for one in subjects], dtype=np.int64)


def write_meds(table: pd.DataFrame, path: Path) -> None:
    """Write the rows of `meds_rows` with the types of the schema, atomically."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("subject_id", pa.int64()),
            (TIME, pa.timestamp("us")),
            (TRUTH, pa.bool_()),
            ("predicted_boolean_value", pa.bool_()),
            ("predicted_boolean_probability", pa.float64()),
        ]
    )
    with file_aside(path) as aside:
        pq.write_table(pa.Table.from_pandas(table, schema=schema, preserve_index=False), aside)
