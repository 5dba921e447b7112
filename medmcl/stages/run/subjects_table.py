"""Table 1 of a run: the cohort's own columns and outcomes, one row a subject."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from medmcl.core.findings import counted
from medmcl.core.sealed import reading
from medmcl.core.suppression import Hiding
from medmcl.core.targets import Targets
from medmcl.data.cohort.splits import SPLITS
from medmcl.data.loading.prepare import Prepared
from medmcl.data.tables.mapped import held
from medmcl.evaluation.protocol.sample_subgroups import AGES, SEXES
from medmcl.evaluation.protocol.setting import Setting
from medmcl.evaluation.report.table_one import TableOne, Variable, beside, table_one
from medmcl.modalities.tabular.adapter import read_cell
from medmcl.modalities.tabular.settings import Column, TabularSource
from medmcl.stages.run.run import Run
from medmcl.stages.run.store import refuse_schema

FILE, SCHEMA = "table_one", "medmcl/table-one@1"
"""Where a run keeps the training column of its Table 1."""

TRAINING, SCORED = "training", "scored"
OUT_OF_FOLD, FITTED_ONLY = "scored out of fold", "fitted on only"
MOST_OUTCOMES = 30  # outcome columns in the table; the others are counted
MOST_COVARIATES = 40  # columns of one modality; of a wider one the first, the others are counted


@dataclass(frozen=True, kw_only=True)
class _Described:
    """A variable with a value of each subject; None or NaN = missing.

    Attributes:
        about: What readers see.
        kind: ``number`` or ``category``.
        values: One a subject.
        unit: Unit of a number.
        source: The table that it is of.
        rank: 0 for age, 1 for sex, 2 for others.
        is_outcome: As of `Variable`.
    """

    about: str
    kind: str
    values: np.ndarray
    unit: str = ""
    source: str = ""
    rank: int = 2
    is_outcome: bool = False

    @classmethod
    def named(cls, about: str, **more: Any) -> _Described:
        """Of a column; its name tells age and sex."""
        low = about.lower()
        return cls(about=about, rank=0 if low in AGES else 1 if low in SEXES else 2, **more)

    def equals(self, other: _Described) -> bool:
        """Whether it has the same value, or none, for every subject."""
        mine, theirs = self.values, other.values
        numbers = mine.dtype.kind == theirs.dtype.kind == "f"
        return self.kind == other.kind and np.array_equal(mine, theirs, equal_nan=numbers)


def describe_subjects(
    prepared: Prepared,
    tasks: Sequence[str],
    parts: np.ndarray | None = None,
    rule: Hiding | None = None,
) -> TableOne:
    """Describe the subjects of the open splits: age, sex, covariates, site, outcomes.

    A subject with several samples counts once, with the values of the first one that is kept.

    Args:
        prepared: The cohort as it was scored.
        tasks: Outcomes to describe.
        parts: What part each sample had, (N,) object, where the splits had none: `SCORED` of
            another cohort that a run is applied to, `OUT_OF_FOLD` and `FITTED_ONLY` in folds;
            others, empty, are not described.
        rule: How counts are shown; default: few are hidden.
    """
    rule = rule or Hiding()
    sides = prepared.splits if parts is None else parts
    shown = list(prepared.opened) if parts is None else [OUT_OF_FOLD, FITTED_ONLY, SCORED]
    described_here = prepared.kept & np.isin(sides, shown)
    rows = _first_samples(prepared, described_here)
    covariates = list(_covariates(prepared, rows))
    asked = [_of_people(prepared.tasks(task), prepared, rows, described_here) for task in tasks]
    outcomes = [one for targets in asked for one in _outcomes(targets)]
    sites = list(_sites(prepared, rows))
    told, twice = _once_each(list(_people(prepared, rows)), covariates)
    people = sorted([*told, *sites], key=lambda one: one.rank)
    described = [*people, *outcomes[:MOST_OUTCOMES]]
    table = table_one(
        pd.DataFrame({str(n): pd.Series(one.values, dtype=one.values.dtype, copy=False)
                      for n, one in enumerate(described)},
                     index=range(len(rows)), copy=False),
        sides[rows],
        [Variable(name=str(n), kind="number" if one.kind == "number" else "category",
                  unit=one.unit, about=one.about, is_outcome=one.is_outcome)
         for n, one in enumerate(described)],
        splits=shown if parts is not None else [name for name in SPLITS if name in shown],
        rule=rule,
    )  # fmt: skip
    notes = [*table.notes, *twice]
    if any(one.kind == "survival" and not one.known.all() for one in asked):
        notes.append("Who lacks the time or the event of an outcome counts as missing in both.")
    if len(rows) < int((prepared.kept if parts is None else described_here).sum()):
        notes.append(
            "Subjects with several samples are described by the first; a yes, or event, is of any."
        )
    for name, columns in _tables(prepared):
        if len(columns) > MOST_COVARIATES:
            rest = len(columns) - MOST_COVARIATES
            notes.append(f"{rest:,} more columns of {name} are not described.")
    if outcomes[MOST_OUTCOMES:]:
        notes.append(f"{len(outcomes) - MOST_OUTCOMES} more outcome columns are not described.")
    return replace(table, notes=tuple(notes))


def keep_training(run: Run, table: TableOne) -> None:
    """Keep the training column of Table 1 in a run, as shown: counts of few people hidden."""
    if "train" in table.splits:
        run.save_tree(FILE, {"schema": SCHEMA, **asdict(table.column("train", TRAINING))})


def beside_training(run: Run, here: TableOne, rule: Hiding | None) -> TableOne:
    """Set the training people of a run beside those of another cohort that were scored.

    They stand apart where counts of ``here`` are rounded and theirs are not.
    """
    kept = run.tree(FILE, {})
    training = here
    if kept:
        with reading(run.path / f"{FILE}.json"):
            refuse_schema(kept, SCHEMA)
            training = TableOne.read(kept)
    counts = [cell.count for row in training.rows for cell in row.cells if cell.count]
    if not kept or (rule is not None and any(rule.count(n) != n for n in counts)):
        which = "rounded table" if kept else "table"
        note = f"The run kept no {which} of its training people: they are not set beside."
        return replace(here, notes=(*here.notes, note))
    return beside(training, here)


def folds_parts(prepared: Prepared, settings: Sequence[Setting]) -> np.ndarray | None:
    """Say who was scored out of fold, and who was fitted on only; None where not all is folds."""
    if not settings or not all(one.plan for one in settings):
        return None
    parts = np.full(len(prepared.splits), "", dtype=object)
    for one in settings:
        for fold in one.plan:
            parts[np.concatenate([fold.train, fold.tuning])] = FITTED_ONLY
    for one in settings:
        parts[one.scored] = OUT_OF_FOLD
    return parts


def _first_samples(prepared: Prepared, wanted: np.ndarray) -> np.ndarray:
    """The first of each subject's samples that are wanted, (N,) bool."""
    usable = np.flatnonzero(wanted)
    return usable[np.sort(np.unique(prepared.subjects[usable], return_index=True)[1])]


def _tables(prepared: Prepared) -> Iterator[tuple[str, Mapping[str, Column]]]:
    """Every modality that is a table, with its columns."""
    for name, spec in prepared.cohort.spec.modalities.items():
        if isinstance(spec.source, TabularSource):
            yield name, spec.source.columns


def _covariates(prepared: Prepared, rows: np.ndarray) -> Iterator[_Described]:
    """Columns of every modality that is a table, read as its adapter reads them."""
    cohort = prepared.cohort
    for name, columns in _tables(prepared):
        places = cohort.records[name]["place"]
        own = pd.Index(cohort.own_records(name).iloc[rows])
        mine = places.array.take(places.index.get_indexer(own), allow_fill=True)
        for column, about in list(columns.items())[:MOST_COVARIATES]:
            plain = mine.numbers(column) if about.kind != "category" else None
            values = (
                _as_read(mine.column(column), about.kind)
                if plain is None
                else held(np.where(np.isfinite(plain), plain, np.nan))
            )
            yield _Described.named(
                column, source=name, kind=about.kind, unit=about.unit, values=values
            )


def _people(prepared: Prepared, rows: np.ndarray) -> Iterator[_Described]:
    """Age and sex of the subjects table."""
    subjects = prepared.cohort.subjects
    ids = prepared.samples["subject"].iloc[rows]
    for column in subjects.columns:
        low = str(column).lower()
        if low not in (*AGES, *SEXES):
            continue
        kind = "number" if low in AGES else "category"
        cells = subjects[column].reindex(ids)
        yield _Described.named(
            str(column),
            source="subjects",
            kind=kind,
            values=_as_read([None if pd.isna(cell) else cell for cell in cells], kind),
        )


def _as_read(cells: Iterable[Any], kind: Any) -> np.ndarray:
    """Cells as the adapter of tables reads them. (N,) float64 with NaN of numbers, or object."""
    read = (read_cell(cell, kind)[0] for cell in cells)
    return np.array([*read], dtype=object if kind == "category" else np.float64)


def _sites(prepared: Prepared, rows: np.ndarray) -> Iterator[_Described]:
    if prepared.cohort.spec.keys.subjects.group is not None:
        ids = prepared.samples["subject"].iloc[rows]
        sites = prepared.cohort.sites.reindex(ids)
        yield _Described(about="site", kind="category", values=sites.to_numpy(object))


def _once_each(
    people: Sequence[_Described], covariates: Sequence[_Described]
) -> tuple[list[_Described], list[str]]:
    """Take out age and sex of the subjects table where a covariate tells the same of everybody.

    Returns:
        The variables, of tables that are named where two are called alike, and a note for each that
        was taken out.
    """
    kept: list[_Described] = []
    notes = []
    for one in people:
        same = next((other for other in covariates if one.equals(other)), None)
        if same is None:
            kept.append(one)
        else:
            notes.append(
                f"{one.about} of {one.source} equals {same.about} of {same.source} in all "
                f"{counted(len(one.values), 'subject')}: shown once."
            )
    kept += covariates
    names = Counter(one.about.lower() for one in kept)
    alike = {name for name, count in names.items() if count > 1}
    return [
        replace(one, about=f"{one.about}, {one.source}") if one.about.lower() in alike else one
        for one in kept
    ], notes


def _of_people(
    targets: Targets, prepared: Prepared, rows: np.ndarray, wanted: np.ndarray
) -> Targets:
    """Outcomes of first samples; who has an event, or a yes, in any sample that is wanted has it.

    So they are counted in results, and one count beside the other tells of nobody.
    """
    first = targets.take(rows)
    if targets.kind in ("regression", "multiclass"):
        return first
    values, people = first.values.copy(), prepared.subjects
    for column, name in enumerate(targets.columns):
        if (targets.kind, name) != ("survival", "time"):
            has = wanted & (targets.values[:, column] > 0)
            values[first.known[:, column] & np.isin(people[rows], people[has]), column] = 1
    return replace(first, values=values, competing=None)


def _outcomes(targets: Targets) -> Iterator[_Described]:
    for column, name in enumerate(targets.columns):
        values, known = targets.values[:, column], targets.known[:, column]
        about = targets.name if len(targets.columns) == 1 else f"{targets.name}: {name}"
        if targets.kind == "regression" or (targets.kind, name) == ("survival", "time"):
            numbers = np.where(known, values, np.nan)
            yield _Described(about=about, kind="number", values=numbers, unit=targets.unit)
            continue
        levels = targets.classes if targets.kind == "multiclass" else ("no", "yes")
        yield _Described(
            about=about,
            kind="category",
            is_outcome=True,
            values=np.array([*levels, None], object)[np.where(known, values, -1).astype(int)],
        )
