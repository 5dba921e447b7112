"""What a check looked at: people by split, records by modality, labels by task; what is scant."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from medmcl.core.findings import Finding, cohort_error, cohort_warning, counted, task_finding
from medmcl.core.limits import free_memory
from medmcl.core.suppression import few
from medmcl.core.targets import Targets
from medmcl.core.writing import free_bytes, size
from medmcl.data.check.lost_by_outcome import outcomes_of, people
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.cohort.spec import SITE
from medmcl.data.cohort.splits import SPLITS
from medmcl.modalities.tabular.settings import TabularSource

HOLDS = 4
"""Times that a reader holds a record: as stored, decoded, as read, prepared."""
FEW_SUBJECTS = 50
"""Fewer held-out people give wide intervals: an AUROC of 0.8 from 25 with and 25 without an outcome
has a 95 % interval of about 0.68 to 0.92 (Hanley and McNeil 1982, standard error 0.06)."""
FEW_TUNING = 30
"""Fewer tuning people choose an epoch or a penalty near chance
(``benchmarks/evaluation/penalty_choice.md``)."""
FEW_EVENTS = 10
"""Fewer held-out people with an outcome (or without it) say little about any model."""


@dataclass(frozen=True)
class RecordCount:
    """The records of one modality.

    Attributes:
        modality: Name of the modality.
        read: Records that were read.
        usable: Of those, how many can be used, by split.
        faulty: How many cannot: refused, or left out where the cohort says so.
        absent: Subjects without a record.
        held: Bytes of the largest record as read.
        cached: Bytes of all records as prepared; 0 where no recipe says how.
    """

    modality: str
    read: int
    usable: tuple[int, ...]
    faulty: int
    absent: int
    held: int = 0
    cached: int = 0


@dataclass(frozen=True)
class LabelCount:
    """The labels of one outcome: one column of a task, or one class.

    Attributes:
        task: Name of the task.
        label: The column or class; empty if the task has only one.
        kind: Kind of the task.
        known: Subjects with a label, by split.
        positive: Subjects with the outcome (event, class), by split; None for a regression.
        negative: Subjects without it; None for a regression.
    """

    task: str
    label: str
    kind: str
    known: tuple[int, ...]
    positive: tuple[int, ...] | None = None
    negative: tuple[int, ...] | None = None

    @property
    def name(self) -> str:
        """Task, and label if there are several."""
        return f"{self.task}: {self.label}" if self.label else self.task


@dataclass(frozen=True)
class Overview:
    """What was looked at. Tuples by split are train, tuning, held_out; people are counted.

    Attributes:
        subjects: Subjects by split.
        records: One entry a modality.
        labels: One entry a label of each task that can be used.
        faulty_tasks: Tasks that cannot.
        faulty_modalities: Modalities whose records could not be listed, so that none was read.
        root: Folder that paths start from.
        excludes: Whether faulty records are left out (``on_bad_record: exclude``).
        splits_known: Whether ``subjects.split`` can be used; otherwise people are shown in all.
        splits_read: Whether it is read at all; so they are if not.
        columns: What the columns of each table were taken for, a line a table.
        split_drawn: Whether the split was drawn because cohort.yaml declares none.
    """

    root: Path
    subjects: tuple[int, ...]
    records: tuple[RecordCount, ...]
    labels: tuple[LabelCount, ...]
    faulty_tasks: tuple[str, ...]
    faulty_modalities: tuple[str, ...]
    excludes: bool
    splits_known: bool = True
    splits_read: bool = True
    columns: tuple[str, ...] = ()
    split_drawn: bool = False

    def __str__(self) -> str:
        columns = SPLITS if self._by_split else ("in all",)
        empty = ("",) * len(columns)
        drawn = "no split is declared: this one is drawn" if self.split_drawn else ""
        people = map(_number, self._shown(self.subjects))
        rows = [("", *columns, ""), ("subjects", *people, drawn)]
        if not self.splits_known:
            rows.append(("split", *empty, "cannot be used"))
        for one in self.records:
            notes = [counted(one.absent, "subject") + " without"] if one.absent else []
            if one.faulty:
                verb = "left out" if self.excludes else "refused"
                notes.insert(0, f"{_number(one.faulty)} of {_number(one.read)} {verb}")
            usable = map(_number, self._shown(one.usable))
            rows.append((f"{one.modality} records", *usable, ", ".join(notes)))
        rows += [(f"{n} records", *empty, "cannot be used") for n in self.faulty_modalities]
        for task in dict.fromkeys(one.task for one in self.labels):
            mine = [self._label(one) for one in self.labels if one.task == task]
            rows += _label_rows(task, mine)
        rows += [(task, *empty, "cannot be used") for task in self.faulty_tasks]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for first, *numbers, note in rows:
            cells = [f"{n:>{width}}" for n, width in zip(numbers, widths[1:], strict=False)]
            lines.append("  ".join([f"{first:{widths[0]}}", *cells, note]).rstrip())
        return "\n".join([*lines, *self.columns, *self._needs()])

    def _needs(self) -> list[str]:
        """Say what memory and disk the records take."""
        if not any(one.held for one in self.records):
            return []
        largest = max(self.records, key=lambda one: one.held)
        lines = [
            f"memory: {size(largest.held * HOLDS)} for records in each process that reads them "
            f"(the largest, of {largest.modality}, is {size(largest.held)}), beside what a process "
            f"takes: this one took {size(_taken_memory())}"
        ]
        cached = {one.modality: size(one.cached) for one in self.records if one.cached}
        if cached:
            total = size(sum(one.cached for one in self.records))
            said = ", ".join(f"{name} {count}" for name, count in cached.items())
            lines.append(f"disk: {total} for prepared records ({said})")
        return lines

    def _shown(self, counts: tuple[int, ...]) -> tuple[int, ...]:
        """Counts by split as they are shown: one sum where nothing says who is in which."""
        return counts if self._by_split else (sum(counts),)

    @property
    def _by_split(self) -> bool:
        return self.splits_known and self.splits_read

    def _label(self, one: LabelCount) -> LabelCount:
        return replace(
            one,
            known=self._shown(one.known),
            positive=None if one.positive is None else self._shown(one.positive),
            negative=None if one.negative is None else self._shown(one.negative),
        )


_SHOWN, _SCANT = 8, "task.few_held_out"
"""Labels of one task in the table, and columns of one kind in a line."""


def _number(number: int) -> str:
    return f"{number:,}"


def _label_rows(task: str, labels: list[LabelCount]) -> list[tuple[str, ...]]:
    """Give the lines of one task; columns of numbers known for the same people share one."""
    if labels[0].positive is None and len({one.known for one in labels}) == 1:
        note = "with a value" + (f" of each of {len(labels)}" if len(labels) > 1 else "")
        return [(task, *map(_number, labels[0].known), note)]
    rows = [_label_row(one) for one in labels[:_SHOWN]]
    if len(labels) > _SHOWN:
        rows.append((f"{task}: {len(labels) - _SHOWN} more", *("",) * len(labels[0].known), ""))
    return rows


def _label_row(one: LabelCount) -> tuple[str, ...]:
    if one.positive is None:
        return (one.name, *map(_number, one.known), "with a value")
    shares = zip(one.positive, one.known, strict=True)
    note = "with the event" if one.kind == "survival" else ""
    return (one.name, *(f"{_number(some)} of {_number(known)}" for some, known in shares), note)


def subject_numbers(cohort: Cohort, subjects: pd.Series) -> np.ndarray:
    """Give the row of ``cohort.subjects`` of some subjects, (N,) int64."""
    return cohort.subjects.index.get_indexer(pd.Index(subjects, dtype=object))


def count_subjects(cohort: Cohort) -> tuple[int, ...]:
    """Count subjects by split."""
    return tuple(int((cohort.subjects["split"] == split).sum()) for split in SPLITS)


def kinds_of_columns(cohort: Cohort) -> tuple[str, ...]:
    """Say of each table which of its columns are numbers and which categories, a line each."""
    lines = []
    for name, spec in cohort.spec.modalities.items():
        if not isinstance(spec.source, TabularSource):
            continue
        parts = []
        for kind, plural in (("number", "numbers"), ("category", "categories")):
            names = [one for one, column in spec.source.columns.items() if column.kind == kind]
            if names:
                parts.append(f"{counted(len(names), kind, plural)} ({_some(names)})")
        if parts:
            lines.append(f"{name} columns: {', '.join(parts)}")
    return tuple(lines)


def _some(names: Sequence[str]) -> str:
    more = [f"{len(names) - _SHOWN:,} more"] if len(names) > _SHOWN else []
    return ", ".join([*names[:_SHOWN], *more])


def look_for_room(records: Sequence[RecordCount], cache: Path) -> list[Finding]:
    """Warn where records take more memory or disk than is free here.

    Args:
        records: What each modality takes.
        cache: Folder that prepared records would go to.
    """
    found: list[Finding] = []
    needed, free = sum(one.cached for one in records), free_bytes(cache)
    if free is not None and needed > free:
        what = f"prepared records take {size(needed)} of disk, and {size(free)} are free in {cache}"
        fix = "make space, or set MEDMCL_CACHE=FOLDER on another disk"
        found.append(cohort_warning("check.disk", "prepared records", what, fix))
    largest = max(records, key=lambda one: one.held, default=None)
    free = free_memory()
    if largest is not None and free is not None and largest.held * HOLDS > free:
        needs = size(largest.held * HOLDS)
        what = f"to read the largest record takes {needs} of memory, and {size(free)} are free here"
        fix = "read on a machine with more memory; --workers 0 reads in one process"
        found.append(cohort_warning("check.memory", f"modalities.{largest.modality}", what, fix))
    return found


def _taken_memory() -> int:
    """Most memory that this process has had, in bytes."""
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def as_index(rows: Sequence[int]) -> slice | Sequence[int]:
    """What takes some rows of an array; all of them without a copy."""
    return slice(rows.start, rows.stop) if isinstance(rows, range) and rows.step == 1 else rows


def count_records(
    cohort: Cohort, name: str, rows: Sequence[int], bad: set[int], held: int = 0, cached: int = 0
) -> RecordCount:
    """Count the records of a modality.

    Args:
        cohort: The cohort.
        name: The modality.
        rows: Numbers of the records that were read.
        bad: Numbers of those that cannot be used.
        held: Bytes of the largest as read.
        cached: Bytes of all as prepared.
    """
    owners = subject_numbers(cohort, cohort.records[name]["subject"])
    absent = len(cohort.subjects) - people(owners, np.ones(len(owners), dtype=bool))
    del owners
    good = np.isin(rows, [*bad], invert=True) if bad else np.ones(len(rows), dtype=bool)
    sides = cohort.sides(name)[as_index(rows)]
    return RecordCount(
        modality=name,
        read=len(rows),
        usable=tuple(int((good & (sides == split)).sum()) for split in SPLITS),
        faulty=int((~good).sum()),
        absent=absent,
        held=held,
        cached=cached,
    )


def count_labels(cohort: Cohort, names: Iterable[str]) -> tuple[LabelCount, ...]:
    """Count the labels of tasks that can be used."""
    usable = set(cohort.usable_tasks)
    return tuple(
        one for name in names if name in usable for one in _labels(cohort, cohort.targets(name))
    )


def _labels(cohort: Cohort, targets: Targets) -> list[LabelCount]:
    subjects = subject_numbers(cohort, cohort.samples["subject"])
    splits = cohort.samples["split"].to_numpy(object)

    def by_split(rows: np.ndarray) -> tuple[int, ...]:
        return tuple(people(subjects, rows & (splits == split)) for split in SPLITS)

    found = []
    for label, known, positive in outcomes_of(targets):
        total = by_split(known)
        if positive is None:
            found.append(LabelCount(targets.name, label, targets.kind, total))
            continue
        having, lacking = by_split(known & positive), by_split(known & ~positive)
        found.append(LabelCount(targets.name, label, targets.kind, total, having, lacking))
    return found


def look_for_scant(
    subjects: Sequence[int],
    labels: Sequence[LabelCount],
    *,
    trains: bool,
    fits: bool = True,
) -> list[Finding]:
    """Note splits without people, and held-out people too few to say much.

    Args:
        subjects: People by split.
        labels: Labels of tasks that can be used.
        trains: Whether a recipe trains: then a train split without people is an error. Where
            everybody is in held_out and none trains, no other split is missed.
        fits: Whether anything may be fitted or chosen; otherwise only held_out matters.
    """
    train, tuning, held_out = subjects
    scored_only = not fits or (held_out == sum(subjects) and not trains)
    findings = []
    if not train and not scored_only:
        what = "nobody is in the train split: nothing can be learned"
        findings.append(_split_finding("empty_split", what, "put people into train", error=trains))
    if not tuning and not scored_only:
        what = "nobody is in the tuning split: nothing says which epoch was best, the last is taken"
        findings.append(_split_finding("empty_split", what, "put some 10 % of people into tuning"))
    if 0 < tuning < FEW_TUNING and not scored_only:
        what = f"tuning has {counted(tuning, 'subject')}: too few to choose an epoch or a penalty"
        fix = f"put more people into tuning ({FEW_TUNING} or more), or take the choice as rough"
        findings.append(_split_finding("few_tuning", what, fix))
    if not held_out:
        what = "nobody is in the held_out split: nothing can be scored"
        findings.append(
            _split_finding("empty_split", what, "put some 20 % of people into held_out")
        )
        return findings
    if held_out < FEW_SUBJECTS:
        what = f"held_out has {few(held_out)} subjects: intervals will be wide"
        fix = (
            f"put more people into held_out ({FEW_SUBJECTS} or more), score everybody out of fold "
            "(`folds` of the evaluate stage), or take scores as rough"
        )
        findings.append(_split_finding("few_held_out", what, fix))
    for task in dict.fromkeys(one.task for one in labels):
        findings += _scant_task(task, [one for one in labels if one.task == task], held_out)
    return findings


FEW_SITES = 10
"""Fewer say little of other sites: an interval by site is marked as rough (docs/evaluation.md)."""


def few_sites(cohort: Cohort) -> list[Finding]:
    """Note a held_out of a few sites that train has not: what is scored is of these sites."""
    people = cohort.subjects[["split", SITE]][cohort.sites.notna()]
    held = people["split"] == "held_out"
    sites, others = set(people[SITE][held]), set(people[SITE][~held])
    if not sites or not others or sites & others or len(sites) >= FEW_SITES:
        return []
    what = (
        f"held_out is {counted(len(sites), 'site')} that train has not: what is scored may not "
        "hold at other sites"
    )
    fix = (
        f"put more sites into held_out ({FEW_SITES} or more), or score everybody by fits without "
        "their site: take out the column of the split, and set `folds: 5 x 1`, `fold_by: site` and "
        "`refit: all` in the evaluate stage"
    )
    return [_split_finding("few_sites", what, fix)]


def _scant_task(task: str, labels: list[LabelCount], held_out: int) -> list[Finding]:
    """Note a task of which held_out has no label, or a handful with or without the outcome."""
    if not any(one.known[-1] for one in labels):
        what = "no subject of held_out has a label: it cannot be scored"
        return [
            task_finding(
                task, "task.few_held_out", what, "complete the column, or take the task out"
            )
        ]
    have, lack = [], []
    for one in labels:
        known = one.known[-1]
        name = one.label or {"survival": "the event", "regression": "a value"}.get(one.kind, "it")
        if one.positive is None or one.negative is None:
            if known < min(FEW_EVENTS, held_out):  # too few people is said of the split
                have.append(f"{name} ({few(known, FEW_EVENTS)})")
            continue
        rare = min(one.positive[-1], one.negative[-1])
        if one.positive[-1] < FEW_EVENTS and (one.kind == "survival" or one.positive[-1] == rare):
            have.append(f"{name} ({few(one.positive[-1], FEW_EVENTS)})")
        elif rare < FEW_EVENTS and one.kind != "survival":
            lack.append(f"{name} ({few(rare, FEW_EVENTS)})")
    said = [
        f"few held-out subjects {verb} {', '.join(found[:5])}{', …' if len(found) > 5 else ''}"
        for verb, found in (("have", have), ("lack", lack))
        if found
    ]
    if not said:
        return []
    fix = f"put more people into held_out ({FEW_EVENTS} or more of each), or take scores as rough"
    return [task_finding(task, _SCANT, f"{' and '.join(said)}: scores will be rough", fix)]


def _split_finding(code: str, what: str, fix: str, *, error: bool = False) -> Finding:
    make = cohort_error if error else cohort_warning
    return make(f"cohort.{code}", "subjects.split", what, fix)
