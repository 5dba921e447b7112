"""``medmcl predict``: what a run's kept probes and fine-tuned models say of people, one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from medmcl.core.atomic import working_folder
from medmcl.core.errors import CohortError
from medmcl.core.findings import Finding, counted
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.cohort.manifest import listed
from medmcl.data.cohort.spec import UNITS_PER_YEAR
from medmcl.data.loading.prepare import Prepared, oddities
from medmcl.engine.world import pick_device
from medmcl.evaluation.models.competing import event_free
from medmcl.evaluation.models.contract import KeptModel
from medmcl.evaluation.models.linear_model import LinearModel
from medmcl.evaluation.protocol.results import BESIDE, COVARIATES
from medmcl.stages.predict.cohort import open_people
from medmcl.stages.predict.inputs import Inputs, read_inputs, refuse_people
from medmcl.stages.predict.one_person import (
    fix_of_person,
    not_given,
    taken_from_training,
    way_out_of_person,
    write_person,
)
from medmcl.stages.predict.other_coding import refuse_other_coding, said_once
from medmcl.stages.predict.people import (
    IMPLAUSIBLE,
    ORDER,
    curve_rows,
    in_training,
    long_rows,
    shared_columns,
    stacked,
    with_nobody,
)
from medmcl.stages.predict.plan import TaskPlan, plan_tasks
from medmcl.stages.predict.saved import KeptPrediction, load_prediction
from medmcl.stages.run.features import kept_reading
from medmcl.stages.run.features import predict as predict_head
from medmcl.stages.run.run import Run
from medmcl.stages.run.seen import saved_anew

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class PeoplePredicted:
    """What was predicted of people.

    Attributes:
        table: A row a sample, task, target and horizon; see `Run.predict`.
        curves: Survival curves, a row a sample, survival task and time; empty without such tasks.
        notes: What a reader must know.
        rate: Share of people like those in training that is flagged by chance.
        faults: What is wrong with records that were left out.
        without: Modality to how many people are predicted without it.
    """

    table: pd.DataFrame
    curves: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    rate: float = 0.0
    faults: list[Finding] = field(default_factory=list)
    without: dict[str, int] = field(default_factory=dict)

    @property
    def sentences(self) -> list[str]:
        """Counts: who was predicted, who was not and why, who lies outside."""
        table = self.table
        people = table.groupby("subject", sort=False)
        total = len(people)
        told = table[table["predicted"].notna()]
        none = set(table["subject"]) - set(told["subject"])
        odd = told[told["quality"].str.startswith(IMPLAUSIBLE)]["subject"].nunique()
        doubt = f", {odd:,} of them from implausible values" if odd else ""
        lines = [
            f"{counted(total, 'person', 'people')}: {total - len(none):,} predicted{doubt}, "
            f"{len(none):,} without a prediction"
        ]
        has = table["predicted"].notna().groupby([table["subject"], table["sample"]])
        beside = ~has.transform("any") & ~table["subject"].isin(none)
        faulty = table[(table["quality"] != "ok") & ~beside]
        reasons = faulty.drop_duplicates(["subject", "quality"])["quality"].value_counts()
        lines += [f"  {count:,} x {reason}" for reason, count in reasons.head(8).items()]
        if len(reasons) > 8:
            lines.append(f"  and {len(reasons) - 8:,} more reasons, in the column quality")
        if beside.any():
            samples = len(table[beside].drop_duplicates(["subject", "sample"]))
            lines.append(
                f"  {counted(samples, 'sample')} more without a number, of people who have others; "
                "why stands in the column quality"
            )
        lines += [
            f"  {count:,} of them without {name}, from what else they have"
            for name, count in self.without.items()
        ]
        if told.empty:
            return lines
        if told["outside"].isna().all():
            lines.append(
                "whether inputs lie outside of what the run was trained on is unknown: it keeps "
                "no limits"
            )
        else:
            far = table[table["outside"].fillna(False)]["subject"].nunique()
            lines.append(
                f"{far:,} with inputs outside of what the run was trained on; by chance it is "
                f"{100 * self.rate:.2g} % of people like those in training"
            )
        seen = table[table["in_training"].fillna(False)]["subject"].nunique()
        if seen:
            lines.append(
                f"{seen:,} learned from in training or tuning: their predictions are too good"
            )
        return lines


def predict_people(
    run: Run,
    cohort: Cohort | str | Path,
    *,
    tasks: Sequence[str] | None = None,
    method: str | None = None,
    device: str = "auto",
    overrides: Mapping[str, Any] | None = None,
    where: object = None,
    way_out: Callable[[Finding], str] = lambda _: "",
) -> PeoplePredicted:
    """Predict everybody in a cohort; outcomes are not read. See `Run.predict`.

    Args:
        run: The run.
        cohort: Cohort, folder or name.
        tasks: Tasks; all that the run can predict if not given.
        method: Name in the results; the first of the run's evaluate stage if not given.
        device: ``auto``, ``cpu`` or ``cuda``.
        overrides: Cohort overrides, as ``--set``.
        where: What an error of how columns are coded calls the people; their cohort.yaml if not
            given.
        way_out: Ends what is said of a warning about a record, with how to do without it.

    Raises:
        CohortError: Nobody's value in a column is one that the run learned.
    """
    opened = open_people(run, cohort, overrides, tasks=tasks, method=method)
    strange, plans = opened.strange, opened.plans
    refuse_other_coding([one for one in strange if one.is_recoded], where or opened.cohort.path)
    found_at_opening = [one for one in opened.cohort.findings if one.code in _COUNTED]
    notes = [*opened.notes, *(f"{one.where}: {one.what}" for one in found_at_opening)]
    prepared = run.prepare(opened.cohort, opened.names)
    notes += said_once(strange)
    notes += prepared.masked_leads()
    notes += oddities(prepared.warnings, way_out)
    notes += saved_anew(run, prepared)
    target, kept = pick_device(device), load_prediction(run)
    read: dict[tuple[str, str], Inputs] = {}
    found = PeoplePredicted(
        table=pd.DataFrame(), curves=pd.DataFrame(), notes=notes, faults=prepared.excluded
    )
    tables, curves = [], []
    for plan in plans:
        key = plan.method, plan.spec.name  # features differ by task only in how they are named
        if key not in read:
            read[key] = read_inputs(run, plan, prepared, target, kept)
            refuse_people(read[key], strange, [*map(str, prepared.samples["subject"])])
            for name, has in read[key].has.items():
                lacking = prepared.samples["subject"][read[key].present & ~has].nunique()
                if lacking:
                    found.without[name] = max(lacking, found.without.get(name, 0))
        one = _predict(run, plan, prepared, read[key], kept, target)
        tables.append(one.table)
        curves.append(one.curves)
        found.rate = max(found.rate, read[key].rate)
        said = (*oddities(read[key].apart, way_out), *one.notes, *read[key].notes)
        found.notes += [note for note in said if note not in found.notes]
    found.table = pd.concat(tables, ignore_index=True)
    found.curves = pd.concat(curves, ignore_index=True)
    return found


def predict_person(
    run: Run,
    records: Mapping[str, Path],
    values: Mapping[str, str] | None = None,
    *,
    tasks: Sequence[str] | None = None,
    method: str | None = None,
    device: str = "auto",
    overrides: Mapping[str, Any] | None = None,
) -> PeoplePredicted:
    """Predict one person from single files; nothing of theirs stays on the disk.

    Args:
        run: The run.
        records: Modality to its file; of a table a file of one row.
        values: Column of a table to its cell.
        tasks: As in `predict_people`.
        method: As in `predict_people`.
        device: ``auto``, ``cpu`` or ``cuda``.
        overrides: Of how the files are read, as ``cohort.modalities.ecg.units``.

    Raises:
        CohortError: A file cannot be used, with every reason; or an input is missing.
    """
    plans, _ = plan_tasks(run, tasks, method)
    values = values or {}
    given = [f"--record {name}={path}" for name, path in records.items()]
    given += [f"--value {name}={value}" for name, value in values.items()]
    with working_folder(Path(gettempdir()) / "medmcl-person") as folder:
        path = write_person(run, plans, folder, records, values, overrides)
        alone = Run(run.path, cache=folder / "prepared")
        found = predict_people(
            alone, path, tasks=tasks, method=method, device=device, overrides=overrides,
            where=" ".join(given), way_out=partial(way_out_of_person, run),
        )  # fmt: skip
    if found.faults:
        lacks = "".join(f"; or say what its cell '{one}' was: --value {one}=…"
                        for one in not_given(run, records, values))  # fmt: skip
        said = [replace(one, fix=fix_of_person(one.fix) + lacks) for one in found.faults]
        raise CohortError(f"a record cannot be used:\n{listed(said)}", where="--record")
    if not found.table["predicted"].notna().any():
        first = found.table.iloc[0]
        named = ", ".join(f"{name}={path}" for name, path in records.items()) or "no record"
        raise CohortError(
            "what is given is not enough for a prediction",
            where="--record",
            got=named,
            expected=f"what '{first['method']}' reads: {first['quality']}",
        )
    found.notes = [note for note in found.notes if "own cohort" not in note]
    found.notes += taken_from_training(run, records, overrides or {})
    found.notes += _unread(run, plans, values)
    return found


def _unread(run: Run, plans: Sequence[TaskPlan], values: Mapping[str, str]) -> list[str]:
    """Say which values no method reads: those of covariates beside a model of records alone."""
    table = next((one.spec.covariates for one in plans if one.spec.covariates), None)
    if table is None or table in run.preprocessing:
        return []
    if any(one.method in (COVARIATES, BESIDE) for one in plans):
        return []
    source = (kept_reading(run, table) or {}).get("source") or {}
    names = [name for name in values if name in source.get("columns", {})]
    if not names:
        return []
    methods = ", ".join(dict.fromkeys(f"'{one.method}'" for one in plans))
    return [
        f"{', '.join(names)}: not read by {methods}; --method '{COVARIATES}' or '{BESIDE}' does, "
        "where the run keeps it"
    ]


_COUNTED = ("cohort.left_out", "cohort.nothing_present", "cohort.no_split")


def _predict(
    run: Run,
    plan: TaskPlan,
    prepared: Prepared,
    inputs: Inputs,
    kept: KeptPrediction,
    device: torch.device,
) -> PeoplePredicted:
    header = run.tasks[plan.task]
    count = len(prepared.splits)
    blank = np.zeros((count, len(header.columns)))
    targets = replace(header, values=blank, known=blank.astype(bool))
    notes: list[str] = []
    can = inputs.present
    if plan.probe is not None:
        given = plan.probe.predict(inputs.features)
        values, protocol = given.values, plan.probe.protocol
        model: KeptModel | None = plan.probe.model
    else:
        towers = run.stage(plan.head).towers
        can = np.logical_and.reduce([prepared.present.get(n, can & False) for n in towers])
        rows = np.flatnonzero(can)
        values = predict_head(run, plan.head, prepared, targets, device, rows)
        share = float(run.stage(plan.head).label_fraction)
        protocol = "fine_tune" + ("" if share == 1 else f", {100 * share:g} % of the labels")
        base = kept.heads.get((plan.task, plan.method))
        model = None if base is None else LinearModel(
            link="cox", weights=np.ones((1, 1)), offset=np.zeros(1),
            times=base.times, curve=base.log_cumulative,
        )  # fmt: skip
    years, times = _horizons(plan, kept, header.unit, header.horizons_years)
    risks, survival = None, None
    if header.kind == "survival":
        survival = _curves(plan, kept, model)
        features = inputs.features if plan.probe is not None else values
        if survival is None:
            notes.append(f"{plan.task}: {plan.method} has no survival curve in the run: no risks")
        elif times:
            risks = 1 - survival(features, np.asarray(times))
    people = shared_columns(
        prepared, plan, inputs, can, header.kind == "survival" and risks is None
    )
    parts = long_rows(targets, values, risks, years)
    for part in parts:
        part["predicted"] = np.where(people["can"], part["predicted"], np.nan)
        part |= {"unit": header.unit if header.kind == "regression" else "",
                 "method": plan.method, "protocol": protocol}  # fmt: skip
    table = with_nobody(stacked(parts, people), prepared)
    table["in_training"] = in_training(run, prepared, table)
    curves = pd.DataFrame()
    if survival is not None and model is not None and len(model.times):
        curves = curve_rows(people, plan, survival, features, model.times[-1], header.unit)
    return PeoplePredicted(table=table[ORDER], curves=curves, notes=notes)


def _horizons(
    plan: TaskPlan, kept: KeptPrediction, unit: str, stated: Sequence[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Horizons in years, and in the unit of the task: those that were scored."""
    if plan.task in kept.horizons:
        return kept.horizons[plan.task]
    per_year = UNITS_PER_YEAR.get(unit)
    if per_year is None:
        return (), ()
    return tuple(stated), tuple(year * per_year for year in stated)


def _curves(plan: TaskPlan, kept: KeptPrediction, model: KeptModel | None) -> Any:
    """Features and times to the chance of no event by then; None where the run keeps none."""
    if model is None or not model.has_curves:
        return None
    if plan.head and plan.task in kept.competing:
        return None  # the head knows nothing of the competing event
    return event_free(model, kept.rivals.get((plan.task, plan.method)))
