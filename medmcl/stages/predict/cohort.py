"""What a prediction reads of a cohort.yaml: inputs as the run read them, and no outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.config import nearest, read_yaml
from medmcl.core.errors import CohortError, ConfigError
from medmcl.core.findings import LEAVE_OUT, Finding, cohort_error, counted
from medmcl.data.check.check import Checked
from medmcl.data.check.overview import Overview, count_records, count_subjects, kinds_of_columns
from medmcl.data.cohort.cohort import Cohort, find_cohort
from medmcl.evaluation.models.linear_model import LinearModel
from medmcl.evaluation.protocol.results import COVARIATES
from medmcl.modalities.tabular.gap_codes import renamed_fix
from medmcl.stages.predict.other_codes import OtherCodes
from medmcl.stages.predict.other_coding import StrangeColumn, coded_otherwise
from medmcl.stages.predict.plan import TaskPlan, plan_tasks
from medmcl.stages.run.features import Covariates, kept_reading
from medmcl.stages.run.own_cohort import open_as_own
from medmcl.stages.run.run import Run

WITHOUT_OUTCOMES = {
    "subjects.split": {"everyone": "held_out"},
    "subjects.group": None,
    "tasks": {},
    "prompts": {},
    "choices": {},
    "subgroups": {},
    "noisy_pairs": None,
}
"""What a prediction does not read of a cohort.yaml: outcomes, splits, sites, groups."""
_WITHOUT_RECORDS = (COVARIATES, "majority", "Kaplan-Meier")


@dataclass(frozen=True, kw_only=True)
class OpenedPeople:
    """A cohort as a run predicts it.

    Attributes:
        cohort: The cohort, without its outcomes.
        plans: What predicts each task.
        names: Modalities that are prepared.
        covariates: Tables that are read as they are.
        strange: Columns that are not coded as in training, of another range, or that nobody has.
        notes: What a reader must know.
    """

    cohort: Cohort
    plans: list[TaskPlan]
    names: tuple[str, ...]
    covariates: tuple[str, ...]
    strange: list[StrangeColumn]
    notes: list[str]


def open_people(
    run: Run,
    cohort: Cohort | str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    tasks: Sequence[str] | None = None,
    method: str | None = None,
) -> OpenedPeople:
    """Open a cohort as `predict` reads it; see `medmcl.stages.predict.predict.predict_people`."""
    run.refuse_unfinished()
    plans, notes = plan_tasks(run, tasks, method)
    read = columns_of_run(run, plans, cohort)
    try:
        opened, said = open_as_own(
            run,
            cohort,
            overrides,
            default={"on_bad_record": "exclude"},
            last={**WITHOUT_OUTCOMES, **read},
        )
    except CohortError as error:
        raise _of_the_run(error, read, cohort) from None
    names = modalities_of(run, plans, opened)
    covariates = next((plan.spec.covariates for plan in plans if plan.spec.covariates), None)
    as_it_is = {str(plan.spec.covariates) for plan in plans if plan.method.startswith(COVARIATES)}
    strange = coded_otherwise(run, opened, covariates, is_frozen=True)
    return OpenedPeople(
        cohort=opened,
        plans=plans,
        names=names,
        covariates=tuple(as_it_is),
        strange=[one for one in strange if one.modality in {*names, *as_it_is}],
        notes=[*notes, *([said] if said else [])],
    )


def _of_the_run(
    error: CohortError, read: Mapping[str, Any], cohort: Cohort | str | Path
) -> CohortError:
    """Say of a column that is not there that the run reads it, and what it may be called here."""
    if isinstance(cohort, Cohort):  # was opened by whoever gives it
        return error
    for key, columns in read.items():
        name = key.split(".")[1]
        absent = [one for one in columns if f"there is no column '{one}'" in error.what]
        if absent and f"modalities.{name}" in str(error):
            named = read_yaml(find_cohort(cohort))["modalities"][name].get("columns") or ()
            unread = [str(one) for one in named if one not in columns]
            return CohortError(
                f"{error.what}; the run reads {', '.join(absent)}",
                where=error.where,
                got=error.got,
                expected=error.expected,
                fix=renamed_fix(absent, unread),
            )
    return error


def columns_of_run(
    run: Run, plans: Sequence[TaskPlan], cohort: Cohort | str | Path
) -> dict[str, Any]:
    """Tables are read by the columns that the run read: not by those that the cohort names.

    Of covariates by those that count: what a task is made of was none of its covariates, and a
    person without an outcome does not have it.
    """
    if isinstance(cohort, Cohort):
        return {}
    named = read_yaml(find_cohort(cohort)).get("modalities")
    found: dict[str, Any] = {}
    for name in named if isinstance(named, dict) else ():
        kept = kept_reading(run, name) or {}
        read = kept if "source" in kept else run.preprocessing.get(name, {})
        columns = dict(read.get("source", {}).get("columns") or {})
        if columns and read is kept:
            count = {term for plan in plans for term in _counting(plan, kept.get("terms", ()))}
            columns = {column: one for column, one in columns.items() if column in count} or columns
        if columns and name in {*run.recipe.inputs, *(plan.spec.covariates for plan in plans)}:
            found[f"modalities.{name}.columns"] = columns
    return found


def modalities_of(run: Run, plans: Sequence[TaskPlan], cohort: Cohort) -> tuple[str, ...]:
    """Modalities that the plans read and the cohort has.

    Raises:
        ConfigError: The cohort has none of those that a method needs.
    """
    found: dict[str, None] = {}
    have = cohort.spec.modalities
    for plan in plans:
        wanted: tuple[str, ...] = run.stage(plan.head).towers if plan.head else ()
        if plan.spec.probe is not None and plan.method not in _WITHOUT_RECORDS:
            wanted = (*wanted, *plan.spec.probe.read(run.recipe.inputs))
        some = [name for name in wanted if name in have]
        if wanted and not some:
            raise ConfigError(
                f"the cohort has no '{wanted[0]}', which '{plan.method}' reads"
                f"{nearest(wanted[0], have)}",
                got=", ".join(have),
                expected=", ".join(dict.fromkeys(wanted)),
                fix="if it has it under another name, call it as the run does in a copy of its "
                "cohort.yaml",
            )
        found |= dict.fromkeys(some)
    return tuple(name for name in run.recipe.inputs if name in found)


def _counting(plan: TaskPlan, terms: Sequence[Sequence[str]]) -> set[str]:
    """Columns of covariates that have a weight in a probe that begins with them."""
    if plan.probe is None or not plan.method.startswith(COVARIATES):
        return set()
    model = plan.probe.model
    assert isinstance(model, LinearModel)  # covariates have no other probe
    weights = model.weights[: len(terms)]
    return {str(term[0]) for term, own in zip(terms, weights, strict=True) if own.any()}


def check_people(
    run: Run, cohort: str | Path, overrides: Mapping[str, Any] | None = None
) -> Checked:
    """Look at a cohort as `predict` reads it: no outcomes, splits or sites; coded as in training.

    Args:
        run: The run that is to predict.
        cohort: Folder, cohort.yaml or name.
        overrides: Cohort overrides, as ``--set``.

    Returns:
        An error where nobody can be predicted, a warning where some cannot.

    Raises:
        CohortError: The cohort cannot be opened, with every fault.
    """
    people = open_people(run, cohort, overrides)
    opened, prepared = people.cohort, run.prepare(people.cohort, people.names)
    bad = {name: set(np.flatnonzero(~prepared.usable(name)).tolist()) for name in people.names}
    seen = [one for one in prepared.warnings if not one.code.endswith(".unseen")]  # of `coding`
    for name in people.covariates:
        read = Covariates.of(run, opened, name, is_frozen=True)
        faults = {} if read is None else read.faults
        seen += [] if read is None else read.warnings
        bad[name] = {row for row, one in enumerate(opened.records[name].index) if one in faults}
    overview = Overview(
        root=opened.root,
        subjects=count_subjects(opened),
        records=tuple(
            count_records(opened, name, range(len(opened.records[name])), out)
            for name, out in bad.items()
        ),
        labels=(),
        faulty_tasks=(),
        faulty_modalities=(),
        excludes=True,
        splits_read=False,
        columns=kinds_of_columns(opened),
    )
    unread = [
        cohort_error(
            "cohort.no_usable",
            f"modalities.{name}",
            f"none of its {counted(len(opened.records[name]), 'record')} can be used: everybody "
            "would be predicted without it, or not at all",
            "correct what the findings on its records say; leave the modality out of cohort.yaml "
            "if nobody has it",
        )
        for name, out in bad.items()
        if out and len(out) == len(opened.records[name])
    ]
    coding = [
        Finding(
            code=one.code,
            where=f"modalities.{one.modality}, {one.column}",
            what=one.what,
            fix=one.fix,
            level="error" if one.is_recoded else "warning",
            scope="cohort",
        )
        for one in people.strange
        if not isinstance(one, OtherCodes) or one.is_said
    ]
    lost = [
        replace(
            one,
            level="warning",
            what=f"{one.what}; nothing is predicted from it",
            fix=one.fix.replace(LEAVE_OUT, ""),
        )
        for one in prepared.excluded
    ]
    return Checked([*opened.findings, *unread, *coding, *lost, *seen], overview)
