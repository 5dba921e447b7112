"""``medmcl check --predict RUN``: what `medmcl predict` would say of a cohort."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.findings import LEAVE_OUT, Finding, cohort_error, counted
from medmcl.data.check.check import Checked
from medmcl.data.check.overview import Overview, count_records, count_subjects, kinds_of_columns
from medmcl.stages.predict.cohort import open_people
from medmcl.stages.run.features import Covariates
from medmcl.stages.run.run import Run


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
    for name in people.covariates:
        read = Covariates.of(run, opened, name, is_frozen=True)
        faults = {} if read is None else read.faults
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
    seen = [one for one in prepared.warnings if not one.code.endswith(".unseen")]  # of `coding`
    return Checked([*opened.findings, *unread, *coding, *lost, *seen], overview)
