"""Groups by columns of a cohort: site, sex, scanner, or every combination of several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from medmcl.core.config import nearest
from medmcl.core.errors import CohortError, ConfigError
from medmcl.core.findings import counted
from medmcl.core.rng import numpy_generator
from medmcl.core.suppression import UNKNOWN
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.cohort.outcomes import task_texts
from medmcl.data.expressions.syntax import columns_of
from medmcl.evaluation.protocol.sample_subgroups import sample_subgroups, sample_table
from medmcl.grouping import pool_small
from medmcl.grouping.groups import NOWHERE
from medmcl.stages.cluster.spec import GroupsSpec, cell_text, nearly_all, told

_OTHERS = "(others)"
MOST_VALUES = 50
"""Values of a column beyond which it is no column of groups."""
_SHOWN = 20


def refuse_outcomes(spec: GroupsSpec, tasks: Sequence[str], cohort: Cohort, where: str) -> None:
    """Refuse groups by what a task of the recipe is: the encoder would be trained on its labels.

    Args:
        spec: What the stage says of groups.
        tasks: Tasks that the recipe trains or evaluates.
        cohort: Whose tasks they are.
        where: What the error calls the place.

    Raises:
        ConfigError: Every column that a task reads is one of groups.
    """
    table = sample_table(cohort, " ".join(spec.columns))
    said = cohort.spec.keys.subgroups
    read = {
        column
        for name in spec.columns
        for column in columns_of(said[name].column if name in said else name, table.columns)
    } | {*spec.columns}
    for task in tasks:
        texts = task_texts(cohort.spec.tasks[task])
        outcome = {column for text in texts for column in columns_of(text, table.columns)}
        if outcome and outcome <= read:
            raise ConfigError(
                f"the groups are those of the task '{task}': the encoder would learn from its "
                "labels, and its scores would be no test",
                where=where,
                got=f"columns {', '.join(spec.columns)}; {task} is of {', '.join(outcome)}",
                fix=f"group by what is no outcome, or score other tasks: --set "
                f"stages.NAME.tasks=[{', '.join(one for one in tasks if one != task) or '...'}]",
            )


def column_groups(
    spec: GroupsSpec, rows: np.ndarray, cohort: Cohort, where: str, seed: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Give the group of each sample by columns, (N,) int64, and what is worth saying.

    Groups of fewer than ``smallest`` people among the ``rows`` are pooled.

    Args:
        spec: What the stage says of groups.
        rows: Samples that it trains on.
        cohort: Whose columns are read.
        where: What an error calls the place.
        seed: Of the run, for ``placebo``.

    Raises:
        ConfigError: There is no such column, or it has too many values.
        CohortError: Rows have no value, and it is not said what to do with them.
    """
    columns = [column_texts(name, cohort, where) for name in spec.columns]
    missing = np.logical_or.reduce([one == UNKNOWN for one in columns])
    notes: list[str] = []
    if missing[rows].any():
        notes.append(_missing(spec, columns, rows, missing, where))
    known = ~missing if spec.missing == "leave_out" else np.ones(len(missing), dtype=bool)
    trained = np.zeros(len(missing), dtype=bool)
    trained[rows] = True
    trained &= known
    if not trained.any():
        raise CohortError("no row that the stage trains on has a value", where=where)
    if spec.missing == "group":
        columns = [np.where(missing, UNKNOWN, one) for one in columns]
    people = pd.factorize(cohort.samples["subject"])[0]
    found, small = pooled_columns(columns, trained, people, spec.smallest)
    counts = np.unique(found[trained], return_counts=True)[1]
    notes.insert(
        0, f"{counted(len(counts), 'group')} by {told(spec.columns)}, of {int(counts.min()):,} to "
        f"{int(counts.max()):,} rows"
    )  # fmt: skip
    if small:
        shown = ", ".join(small[:_SHOWN]) + (", ..." if len(small) > _SHOWN else "")
        notes.append(
            f"{counted(len(small), 'group')} of fewer than {spec.smallest} people pooled: {shown}"
        )
    notes += _given_up(spec, columns, found, trained)
    found[~known] = NOWHERE
    if spec.placebo:
        generator = numpy_generator(seed, "placebo", where)
        for side in (trained, known & ~trained):
            found[side] = generator.permutation(found[side])
        notes.append("placebo: the groups are dealt out at random")
    return found, (*notes, *nearly_all(counts))


def _given_up(
    spec: GroupsSpec, columns: list[np.ndarray], found: np.ndarray, trained: np.ndarray
) -> list[str]:
    """Warn of columns that small groups gave up: within these groups they still tell rows apart."""
    notes = []
    for name, values in zip(spec.columns, columns, strict=True):
        table = pd.Series(values[trained]).groupby(found[trained]).transform("nunique")
        share = float((table > 1).mean())
        if share > 0:
            notes.append(
                f"warning: {name} is not one within the groups of {100 * share:.0f} % of the rows: "
                f"groups of fewer than {spec.smallest} people gave it up, and negatives differ in "
                "it; a lower `smallest`, or wider bands, keep it"
            )
    return notes


def pooled_columns(
    columns: list[np.ndarray], trained: np.ndarray, people: np.ndarray, smallest: int
) -> tuple[np.ndarray, list[str]]:
    """Give a group for every combination of values, and the names of those that were pooled.

    Small groups give up the column of the most values first, then the next, so that what is left
    of the others is still shared; what is small in the end is pooled.

    Args:
        columns: Value of each row in each column, (N,) text each.
        trained: Rows that groups are counted over, (N,) bool.
        people: Who each row is of, (N,) int64.
        smallest: People that a group must have; one with several rows in it counts once.

    Returns:
        Group of each row, (N,) int64, `NOWHERE` where no trained row has its values.
    """
    values = np.stack([one.astype(str) for one in columns], axis=1)
    names, codes = np.unique(values, axis=0, return_inverse=True)
    codes = codes.reshape(-1)
    once = np.unique(np.stack([codes[trained], people[trained]]), axis=1)[0]
    sizes = np.bincount(once, minlength=len(names))
    small = (sizes > 0) & (sizes < smallest)
    merged = names.astype(object)
    order = sorted(range(len(columns)), key=lambda one: -len(np.unique(values[:, one])))
    for column in order:
        _, groups = np.unique(merged.astype(str), axis=0, return_inverse=True)
        groups = groups.reshape(-1)
        still = np.bincount(groups, weights=sizes)[groups] < smallest
        if not still[sizes > 0].any():
            break
        merged[still, column] = _OTHERS
    groups = np.unique(merged.astype(str), axis=0, return_inverse=True)[1].reshape(-1)
    seen = sizes > 0
    counted_ = np.repeat(groups[seen], sizes[seen])
    becomes = dict(zip(counted_.tolist(), pool_small(counted_, smallest).tolist(), strict=True))
    of_name = np.array([becomes.get(group, NOWHERE) for group in groups.tolist()])
    pooled = [" / ".join(name) for name in names[small]] if seen.sum() > 1 else []
    return of_name[codes], pooled


def _missing(
    spec: GroupsSpec,
    columns: list[np.ndarray],
    rows: np.ndarray,
    missing: np.ndarray,
    where: str,
) -> str:
    """Say what is done with rows without a value; refuse them if the recipe does not say."""
    count = int(missing[rows].sum())
    if spec.missing == "refuse":
        lacks = {
            name: int((one[rows] == UNKNOWN).sum())
            for name, one in zip(spec.columns, columns, strict=True)
        }
        raise CohortError(
            "rows that the stage trains on have no value in a column of groups",
            where=where,
            got=f"{count:,} of {len(rows):,} rows; "
            + ", ".join(f"{name}: {n:,}" for name, n in lacks.items() if n),
            expected="a value in every row",
            fix="fill them in, or say what to do: groups.missing=leave_out, or "
            "groups.missing=group (they are one group, whose rows may differ in the value)",
        )
    done = "left out" if spec.missing == "leave_out" else "a group of their own"
    return f"{counted(count, 'row')} without a value: {done}"


def column_texts(name: str, cohort: Cohort, where: str) -> np.ndarray:
    """Give the value of each sample as text, `UNKNOWN` where it has none, (N,) object.

    Args:
        name: ``site``, ``sex``, ``age`` (in bands), a subgroup of the cohort, or a column.
        cohort: Whose samples.
        where: What an error calls the place.

    Raises:
        ConfigError: There is no such column, or it has too many values.
    """
    known = {k: v for k, v in sample_subgroups(cohort, {}).items() if k != "modalities"}
    if name in known:
        return np.asarray(known[name], dtype=object)
    table = sample_table(cohort, name)
    if name not in table:
        able = dict.fromkeys([*known, *map(str, table.columns)])
        raise ConfigError(
            f"there is no column '{name}'{nearest(name, able)}",
            where=where,
            expected="site, sex, age, an entry of `subgroups:` in cohort.yaml, a column of the "
            "subjects table or of a table of each record",
            fix=f"name one of {', '.join(list(able)[:_SHOWN])}",
        )
    values = table[name]
    found = values.astype(object).where(values.notna(), UNKNOWN).map(cell_text).to_numpy(object)
    found[found == ""] = UNKNOWN
    different = len(set(found.tolist()))
    if different > MOST_VALUES:
        raise ConfigError(
            f"'{name}' has too many values",
            where=where,
            got=f"{different:,} values",
            expected=f"at most {MOST_VALUES}",
            fix="of a number, cut it into bands: `subgroups:` of cohort.yaml with bands: "
            "[50, 60, 70]; an id is no column of groups",
        )
    return np.asarray(found)
