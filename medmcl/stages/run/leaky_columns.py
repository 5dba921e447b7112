"""Which paired modalities could have named an outcome to an encoder: then no row says better.

An encoder that is aligned with reports learns what they say. If they name the outcome, it was
trained with labels, of people whose labels a label fraction does not count: a comparison with
methods that had none is not one of equals.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from medmcl.core.contracts import traits
from medmcl.core.errors import CohortError
from medmcl.data.cohort.outcomes import tellers
from medmcl.data.loading.prepare import Prepared

if TYPE_CHECKING:
    from medmcl.stages.run.run import Run

ANY = "*"
"""Stands for every task, of a cohort that has others, too."""


def paired_with(run: Run, stage: str, read: Iterable[str]) -> tuple[str, ...]:
    """Name the modalities that a stage, and those before it, learned from beside those read."""
    from medmcl.stages.run.ledger import with_parents

    learned: dict[str, None] = {}
    for name in with_parents(run, [stage]):
        if name in run.stages:
            learned |= dict.fromkeys(run.stage(name).towers)
    return tuple(name for name in learned if name not in set(read))


def leaky_by_task(
    run: Run, stage: str, read: Iterable[str], prepared: Prepared
) -> dict[str, tuple[str, ...]]:
    """Give, for each task, what a stage was paired with that could have named its outcome.

    As the run's own cohort said when it was trained, whatever stands in the cohort in hand; and as
    that one says. What is read itself is among them where it shows the outcome; free texts that are
    read are predictors like others.
    """
    read = tuple(read)
    paired = paired_with(run, stage, read)
    kept, here = run.could_name, could_name(prepared)
    free, shown = set(kept.get(ANY, ())), leaky_reading(run, read, prepared)
    return {
        task: (
            *(n for n in paired if n in free | set(kept.get(task, ())) | set(here[task])),
            *shown[task],
        )
        for task in here
    }


def leaky_reading(run: Run, read: Iterable[str], prepared: Prepared) -> dict[str, tuple[str, ...]]:
    """Give, for each task, the modalities among those read that show its outcome."""
    kept, here = run.could_name, could_name(prepared)
    free = {*kept.get(ANY, ()), *kept_names(prepared)[ANY]}
    return {
        task: tuple(n for n in read if n in {*kept.get(task, ()), *here[task]} - free)
        for task in here
    }


def could_name(prepared: Prepared) -> Mapping[str, frozenset[str]]:
    """Give, for each task, the modalities that could name its outcome.

    These are those that show a column which the task is made of, or which ``leaky_columns:`` names;
    those that ``leaky_columns:`` names themselves; and free texts, which may say anything.
    """
    cohort = prepared.cohort
    free = {name for name, one in prepared.adapters.items() if traits(one).free_text}
    found = {}
    for task, keys in cohort.spec.tasks.items():
        telling = set(keys.leaky_columns)
        if task in cohort.labels:
            with suppress(CohortError):  # a fault of the task, which whoever scores it is told of
                telling = tellers(keys, cohort.labels[task].table.columns)
        showing = {
            name
            for name, spec in cohort.spec.modalities.items()
            if name in telling or telling & {*spec.cell_columns, *spec.needed_columns}
        }
        found[task] = frozenset(free | showing)
    return found


def kept_names(prepared: Prepared) -> dict[str, list[str]]:
    """Give what a run keeps of `could_name`, as JSON values; under `ANY` what may say anything."""
    found = {task: sorted(names) for task, names in could_name(prepared).items()}
    found[ANY] = sorted(n for n, one in prepared.adapters.items() if traits(one).free_text)
    return found
