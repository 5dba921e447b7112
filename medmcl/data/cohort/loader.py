"""Opening a cohort: from a valid cohort.yaml to subjects, records, samples and label rows."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from medmcl.core.config import fingerprint, nearest
from medmcl.core.errors import CohortError
from medmcl.core.findings import Finding, cohort_error, cohort_warning, counted
from medmcl.data.cohort.choices import Choice, choice_findings, read_choice
from medmcl.data.cohort.codes import CodeMap
from medmcl.data.cohort.confined import Confined
from medmcl.data.cohort.event_dates import add_dates, refuse_future_inputs, tasks_of_no_index
from medmcl.data.cohort.event_rows import EventRows
from medmcl.data.cohort.index_date import index_dates, index_samples, keep_before, undated
from medmcl.data.cohort.locate import how_to_get
from medmcl.data.cohort.outcomes import LabelRows, build_targets, task_texts, tellers
from medmcl.data.cohort.pairing import Pairs, only_choices, pair, sample_frame, unclear_error
from medmcl.data.cohort.records import (
    Records,
    load_records,
    path_columns,
    path_templates,
    refuse_packed,
)
from medmcl.data.cohort.removal import draw_removal, kept_records, thin
from medmcl.data.cohort.spec import (
    SITE,
    CohortSpec,
    JoinKeys,
    ModalitySpec,
    NoisyPairsKeys,
    Task,
)
from medmcl.data.cohort.splits import row_splits, stand_in_splits, subject_splits
from medmcl.data.events.records import check_shards, code_columns, load_events
from medmcl.data.expressions.expression import evaluate
from medmcl.data.expressions.spellings import other_spellings
from medmcl.data.expressions.syntax import columns_of, names_in
from medmcl.data.loading.noisy_pairs import Noise, Sayings, draw_noise, noise_finding
from medmcl.data.tables.derived import derived, told_through
from medmcl.data.tables.files import THOUSANDS, NoTableError, Table, join, read_table, texts
from medmcl.data.tables.mapped import let_go
from medmcl.data.tables.missing_codes import emptied_finding, empty_cells
from medmcl.data.tables.named_columns import write_out
from medmcl.data.tables.patterns import fixed_starts, is_pattern
from medmcl.data.tables.subject_rows import (
    SubjectTable,
    VaryingError,
    one_row_each,
    repeated_rows,
)

ID_COLUMNS = frozenset(
    ("id", "eid", "pid", "mrn", "iid", "subject", "subject_id", "subjectid", "patient",
     "patient_id", "patientid", "participant", "participant_id", "person_id")
)  # fmt: skip
"""What columns that name subjects are called, in small letters."""
POOLED = "pooled"
"""Name of the site that small sites are pooled into."""
T = TypeVar("T")


@dataclass(kw_only=True)
class Opened:
    """What opening gives of a cohort; `medmcl.data.cohort.cohort.Cohort` says what each is."""

    fingerprint: str
    subjects: pd.DataFrame
    records: dict[str, pd.DataFrame]
    samples: pd.DataFrame
    counts: list[tuple[str, int, int]]
    labels: Mapping[str, LabelRows]
    maps: Mapping[str, CodeMap]
    noise: Noise | None = None
    choices: Mapping[str, Choice] = field(default_factory=dict)


class Opening:
    """Opens one cohort step by step, noting faults and going on where that makes sense."""

    def __init__(self, spec: CohortSpec, file: Path, root: Path, findings: list[Finding]) -> None:
        self.spec = told_by_derived(spec) if spec.keys.derive else spec
        self.file, self.root = file, root
        self.findings = list(findings)
        self.tables: dict[str, Table] = {}
        self.counts: list[tuple[str, int, int]] = []
        self.underived: dict[str, CohortError | None] = {}

    def run(self, tree: Mapping[str, Any]) -> Opened | None:
        """Give what could be opened, or None; ``findings`` says what stood in the way."""
        subjects = self._try(self._subjects)
        if subjects is None:
            self._look_for_tables()
        maps = {name: self._try(partial(self._map, name)) for name in self.spec.keys.maps}
        if subjects is None:
            return None
        table, split, site = subjects
        if self.spec.keys.subjects.dates:
            cheating = tasks_of_no_index(self.spec, table)
            self.findings += cheating
            self.spec = self.spec.without(tasks={str(one.task) for one in cheating})
        column = None if self.spec.keys.index is None else self.spec.keys.index.column
        if column is not None and self._try(partial(index_dates, table, column)) is None:
            self.spec = self.spec.without(index=True)
        known_maps = {name: one for name, one in maps.items() if one is not None}
        records = {
            name: self._try(partial(self._records, name, table, known_maps))
            for name in self.spec.modalities
        }
        found = {name: one for name, one in records.items() if one is not None}
        for one in found.values():
            self.findings += one.findings
        lost = set(records) - set(found)
        self.spec = self.spec.without(modalities=lost) if lost else self.spec
        self.findings += undated(self.spec)
        for error in filter(None, self.underived.values()):
            self._note(error)
        if self.spec.keys.missing:
            self._say_what_misses_nothing()
        samples = self._try(partial(self._samples, found, table, split))
        if samples is None:
            return None
        frame, index = samples
        shown = table.frame.copy(deep=False)
        shown["split"] = split.reindex(shown.index)
        shown[SITE] = (
            np.broadcast_to(np.array(None), len(shown))
            if site is None
            else site.reindex(shown.index)
        )
        opened = Opened(
            fingerprint=self._fingerprint(tree),
            subjects=shown,
            records={name: one.frame for name, one in found.items()},
            samples=frame,
            counts=self.counts,
            labels=self._labels(found, table, frame, index),
            maps=known_maps,
        )
        if self.spec.keys.remove is not None:
            opened = self._thinned(opened)
        opened = replace(opened, choices=self._choices(table, opened))
        return opened if self.spec.noisy_pairs is None else self._shuffled(opened)

    def _thinned(self, opened: Opened) -> Opened:
        """Take entries out as ``remove:`` says; labels were read before, and stay."""
        keys, names = self.spec.keys.remove, list(opened.records)
        assert keys is not None
        removal = self._try(partial(draw_removal, keys, opened.samples, names))
        if removal is None:
            return opened
        self.findings.append(removal.finding(keys))
        frame = thin(opened.samples, removal, names)
        rows = frame[names].notna().any(axis=1).to_numpy()
        return replace(
            opened,
            samples=frame[rows].reset_index(drop=True),
            records={n: kept_records(one, removal, n) for n, one in opened.records.items()},
            labels={name: one.take(rows) for name, one in opened.labels.items()},
        )

    def _choices(self, subjects: SubjectTable, opened: Opened) -> dict[str, Choice]:
        """Read ``choices:``, noting pairs that are none."""
        found = {}
        for name, keys in self.spec.keys.choices.items():
            step = partial(read_choice, name, keys, subjects, opened.samples, opened.maps)
            choice = self._try(step)
            if choice is not None:
                found[name] = choice
                self.findings += choice_findings(choice, opened.samples)
        return found

    def _shuffled(self, opened: Opened) -> Opened:
        """Let pairs exchange records as ``noisy_pairs:`` says; labels ``of`` a record go with it.

        All that was read before stays with its sample: index dates, and labels of other things.
        """
        keys = self.spec.noisy_pairs
        assert keys is not None
        is_there = keys.task is None or keys.task in opened.labels
        if keys.modality not in opened.records or not is_there:
            return opened  # it is at fault itself, which is noted
        noise = self._try(partial(self._noise, keys, opened))
        if noise is None:
            return opened
        samples, name = opened.samples, keys.modality
        self.findings.append(noise_finding(keys, noise, samples["split"].to_numpy(object)))
        moved = {
            task: replace(rows, rows=rows.rows[noise.record_of])
            for task, rows in opened.labels.items()
            if self.spec.tasks[task].of == name
        }
        given = pd.Series(noise.own[noise.record_of], index=samples.index, dtype=object)
        return replace(
            opened,
            samples=samples.assign(**{name: given}),
            labels={**opened.labels, **moved},
            noise=noise,
        )

    def _noise(self, keys: NoisyPairsKeys, opened: Opened) -> Noise:
        targets = None
        if keys.task is not None:
            task = self.spec.tasks[keys.task]
            targets = build_targets(keys.task, task, opened.labels[keys.task], opened.maps)[0]
            if targets is None:
                raise CohortError(
                    f"the label sets of the task '{keys.task}' cannot be read",
                    where="noisy_pairs.task",
                    fix=f"correct the task {keys.task}, or name another",
                )
        names = list(opened.records)
        says = Sayings(self.spec.modalities[keys.modality], opened.records[keys.modality])
        return draw_noise(keys, opened.samples, names, targets, says)

    def _look_for_tables(self) -> None:
        """Note the other tables that are not there, where there are no subjects to go on with."""
        for spec in self.spec.modalities.values():
            if spec.keys.table is not None:
                self._try(partial(self._table, spec.keys.table, spec.keys.join))

    def _try(self, step: Callable[[], T]) -> T | None:
        try:
            return step()
        except CohortError as error:
            self._note(error)
            return None
        finally:
            let_go()

    def _note(self, error: CohortError) -> None:
        if isinstance(error, VaryingError):
            self.findings.append(error.finding())
            return
        got = f" (got {error.got})" if error.got is not None else ""
        expected = None if error.expected is None else f"expected: {error.expected}"
        fix = "; ".join(part for part in (error.fix, expected) if part)
        access = how_to_get(self.spec.keys.access, self.file)
        if isinstance(error, NoTableError) and access is not None:
            fix = f"{access}; or {fix}"
        self.findings.append(
            cohort_error(
                "cohort.invalid" if "no column" not in error.what else "cohort.column",
                str(error.where or self.file),
                f"{error.what}{got}",
                fix,
            )
        )

    def _warn(self, code: str, where: str, what: str, fix: str) -> None:
        self.findings.append(cohort_warning(code, where, what, fix))

    def _table(self, pattern: str, joins: tuple[JoinKeys, ...] = ()) -> Table:
        table = self._read(pattern)
        for keys in joins:
            try:
                table = join(table, self._read(keys.table), keys.on)
            except CohortError as error:  # what reads the columns of the join is noted too
                self._note(error)
        made = self.spec.keys.derive
        return derived(table, made, self.underived, self.findings) if made else table

    def _read(self, pattern: str) -> Table:
        """Read a table from the data root, or from beside cohort.yaml if it is not there."""
        if pattern not in self.tables:
            beside = self.file.parent
            magic = is_pattern(pattern) or pattern.endswith(".tar")
            here = magic or (self.root / pattern).exists() or not (beside / pattern).exists()
            codes = code_columns(self.spec.modalities.values(), pattern)
            keys = self.spec.keys
            own = [one.keys for one in self.spec.modalities.values()]
            ids = {keys.subjects.id, *(one.id for one in keys.subjects.dates.values())}
            ids |= {name for one in own for name in (one.id, one.record)}
            for join in (*keys.subjects.join, *(join for one in own for join in one.join)):
                ids |= {*join.on, *join.on.values()}
            counts: dict[str, int] = {}

            def emptied(frame: pd.DataFrame) -> pd.DataFrame:
                said = self.spec.keys.missing
                # no pattern takes columns that say whose a row is, or where a file lies
                named = {*ids, *(one.key for one in keys.maps.values())}
                for spec in self.spec.modalities.values():
                    row = spec.source.model_dump().get("row")  # of an array: 999 is one like others
                    named |= {row, *path_columns(spec)}
                spared = {*codes, *(one for one in named if one is not None)}
                return empty_cells(frame, said, spared, counts)

            where = self.root if here else beside
            confined = Confined([where, *self._roots], fixed_starts(pattern))
            refuse = partial(confined.refuse, f"table {pattern}", str(self.file))
            rows = EventRows.of(self.spec, pattern, codes)
            read = None if rows is None else rows.read
            fill = emptied if self.spec.keys.missing else None
            self.tables[pattern] = read_table(
                where, pattern, codes, fill, refuse, read, {one for one in ids if one is not None}
            )
            for note in self.tables[pattern].notes:
                listed = self.tables[pattern].listed
                code, rest = ("listing", "write the shards anew") if listed else (
                    "columns", "call it alike in every file")  # fmt: skip
                fix = f"nothing, if that is meant; otherwise {rest}"
                self._warn(f"cohort.{code}", f"table {pattern}", note, fix)
            for name, cell in self.tables[pattern].frame.attrs.get(THOUSANDS, {}).items():
                what = f"{cell} is read as {float(cell):g}; other columns have decimal commas"
                fix = f"if its points part thousands, write {cell.replace('.', '')} and its like"
                self._warn("cohort.thousands", f"table {pattern}, column '{name}'", what, fix)
            if counts:
                self.findings.append(emptied_finding(pattern, counts))
        return self.tables[pattern]

    @property
    def _roots(self) -> list[Path]:
        """Folders that files of the cohort may lie in, the data root first."""
        return [self.root, *(self.file.parent / one for one in self.spec.keys.roots)]

    def _say_what_misses_nothing(self) -> None:
        """Note columns under ``missing:`` that no table has."""
        known = {str(name) for table in self.tables.values() for name in table.frame.columns}
        for one in self.spec.keys.missing:
            if one not in known and not any(fnmatchcase(name, one) for name in known):
                what = f"no table has a column '{one}'{nearest(one, known)}"
                fix = "correct the name; names are case-sensitive"
                self._warn("cohort.missing_code", "missing", what, fix)

    def _subjects(self) -> tuple[SubjectTable, pd.Series, pd.Series | None]:
        keys = self.spec.keys.subjects
        table = self._table(keys.table, keys.join)
        ids = (
            self._row_ids(table)
            if keys.id is None
            else texts(table.require(keys.id, "subjects.id"))
        )
        if keys.dates:
            table, found = add_dates(keys, table, ids, self._read)
            self.findings += found
        self._count("in the subjects table", ids)
        rows = pd.notna(ids)
        if not rows.all():
            self._left_out(f"{counted(int((~rows).sum()), 'row')} without a subject id")
        if keys.where is not None:
            rows = rows & self._meeting(keys.where, table.frame, rows)
        splits = self._try(partial(row_splits, table, ids, keys.split))
        if splits is None:
            splits = stand_in_splits(table, ids, keys.split)
            self.spec = replace(self.spec, left_out=self.spec.left_out | {"subjects.split"})
        lines = np.flatnonzero(rows) + 1
        of = slice(None) if rows.all() else rows  # then what is made of them shares them
        split, findings = subject_splits(ids[of], splits[of], lines)
        self.findings += findings
        if split.isna().any():
            split = split.dropna()
            rows &= pd.Series(ids, dtype=object).isin(split.index).to_numpy()
        self.counts.append(("in a split", len(split), int(rows.sum())))
        if len(split) < rows.sum():
            self._say_what_is_repeated(table, ids, rows)
            people = pd.Index(ids[rows], dtype=object, name="subject", copy=False)
        else:
            people = split.index  # with its table of hashes
        lines = np.flatnonzero(rows) + 1
        agreed = one_row_each(_rows_of(table, rows), people, lines, keys.id or "id", keys.table)
        if not len(agreed.frame):
            out = [one.what for one in self.findings if one.code == "cohort.left_out"]
            raise CohortError(
                "no subject is in a split",
                where=f"subjects, table {keys.table}",
                got="; ".join(out) or f"{counted(len(rows), 'row')}",
                fix="correct subjects.where and subjects.split, or the cells that they read",
            )
        site = None
        if keys.group is not None:
            named = table.frame.loc[rows, keys.group] if keys.group in table.frame else None
            site = self._try(partial(self._sites, agreed, named, ids[rows]))
        return agreed, split, site

    def _row_ids(self, table: Table) -> np.ndarray:
        """Call every row by its number, where no column names the subject. (rows,) object.

        Raises:
            CohortError: A column is called as one that names subjects; rows of one person would
                fall into two splits.
        """
        where = f"subjects, table {self.spec.keys.subjects.table}"
        named = [str(one) for one in table.frame.columns if str(one).lower() in ID_COLUMNS]
        if named:
            raise CohortError(
                f"`id:` is not given, and the column '{named[0]}' is called as one that names "
                "subjects",
                where=where,
                fix=f"write id: {named[0]} under subjects:; if it does not name them, rename it",
            )
        self._warn(
            "cohort.no_id",
            where,
            f"no `id:` is given: each of the {counted(len(table.frame), 'row')} is taken "
            "for one person",
            "nothing, if nobody has two rows; otherwise name the column of the subject",
        )
        return np.array([str(number + 1) for number in range(len(table.frame))], dtype=object)

    def _sites(
        self, subjects: SubjectTable, cells: pd.Series | None, owner: np.ndarray
    ) -> pd.Series:
        """Site of each subject; those of fewer than ``group_min`` subjects are one, `POOLED`.

        Args:
            subjects: The subjects.
            cells: Column of the sites, a row each as in the file; None if there is none.
            owner: Subject of each row. (rows,) object
        """
        keys = self.spec.keys.subjects
        column, least = str(keys.group), keys.group_min
        if cells is None or keys.group_varies == "refuse":
            on_purpose = (
                "whoever was at several sites is at none: write `group_varies: unknown` under "
                "`subjects:` (--set cohort.subjects.group_varies=unknown)"
            )
            subjects.require([column], "subjects.group", on_purpose)
        assert cells is not None  # else it was refused
        rows = pd.DataFrame({"owner": owner, "said": texts(cells)}).dropna()
        each = rows.groupby("owner")["said"].agg(["first", "nunique"])
        several = each.index[each["nunique"] > 1]
        names = each["first"].drop(several).reindex(subjects.frame.index)
        if len(several):
            self._warn(
                "cohort.several_groups",
                "subjects.group",
                f"{counted(len(several), 'subject')} with rows of several sites, for "
                f"example {several[0]}: the site is not known",
                "nothing, if that is meant; otherwise correct the rows",
            )
        sizes = names.value_counts()
        small = sizes[sizes < least]
        if len(small):
            self._warn(
                "cohort.pooled",
                "subjects.group",
                f"{counted(len(small), 'site')} of fewer than {least} subjects "
                f"({int(small.sum())} in all) are one site, '{POOLED}'",
                "nothing, if that is meant; otherwise lower group_min",
            )
        return names.mask(names.isin(small.index), POOLED)

    def _count(self, step: str, ids: np.ndarray) -> None:
        self.counts.append((step, pd.Series(ids, dtype=object).nunique(), len(ids)))

    def _say_what_is_repeated(self, table: Table, ids: np.ndarray, rows: np.ndarray) -> None:
        """Count rows that tell of a subject what another row does, word for word."""
        if self.spec.keys.subjects.id is None:
            return
        again = np.zeros(len(ids), dtype=bool)
        again[rows] = repeated_rows(_rows_of(table, rows), ids[rows])
        if not again.any():
            return
        self._count("without repeated rows", ids[rows & ~again])
        line, whose = int(np.flatnonzero(again)[0]) + 1, counted(len(set(ids[again])), "subject")
        self._warn(
            "cohort.repeated_rows",
            f"subjects, table {self.spec.keys.subjects.table}",
            f"{counted(int(again.sum()), 'row')} of {whose} equal to another row of the same "
            f"subject in every column, the first is row {line:,}: counted once",
            "nothing, if the file was put together twice; if they are visits, a date or a "
            "record id is missing",
        )

    def _meeting(self, where: str, frame: pd.DataFrame, rows: np.ndarray) -> np.ndarray:
        """Rows for which ``where:`` is true, (N,) bool; all if it cannot be read."""
        said = self._try(partial(evaluate, where, frame, {}, "subjects.where"))
        if said is None:
            return np.ones(len(frame), bool)
        kept = np.asarray(said.known & said.data.astype(bool))
        lost = int((rows & ~kept).sum())
        self._left_out(f"{counted(lost, 'row')} not meeting `where: {where}`")
        for what, fix in other_spellings(where, frame):
            self._warn("cohort.two_spellings", "subjects.where", what, fix)
        return kept

    def _left_out(self, what: str) -> None:
        self._warn(
            "cohort.left_out",
            f"subjects, table {self.spec.keys.subjects.table}",
            f"{what}: left out",
            "nothing, if that is meant",
        )

    def _map(self, name: str) -> CodeMap:
        keys = self.spec.keys.maps[name]
        table = self._table(keys.table)
        codes = texts(table.require(keys.key, f"maps.{name}.key"))
        values = texts(table.require(keys.value, f"maps.{name}.value"))
        rows = np.ones(len(codes), bool)
        if keys.where is not None:
            said = evaluate(keys.where, table.frame, {}, f"maps.{name}.where")
            rows = said.known & said.data.astype(bool)
        meaning: dict[str, set[str]] = {}
        for code, value in zip(codes[rows], values[rows], strict=True):
            if code is not None and value is not None:
                meaning.setdefault(code, set()).add(value)
        return CodeMap(name, {code: frozenset(many) for code, many in meaning.items()})

    def _records(self, name: str, subjects: SubjectTable, maps: Mapping[str, CodeMap]) -> Records:
        spec = self.spec.modalities[name]
        own = None
        if spec.keys.table is not None:
            if self.spec.keys.subjects.id is None:
                raise CohortError(
                    "a table of its own needs subjects that have names, not row numbers",
                    where=f"modalities.{name}",
                    fix="write `id:` under subjects:, the column that both tables have",
                )
            own = self._table(spec.keys.table, spec.keys.join)
        elif spec.keys.join:
            raise CohortError(
                "join needs a table of its own",
                where=f"modalities.{name}",
                fix="move the join to subjects:, or name the table",
            )
        if spec.traits.tabular:
            spec = self._written_out(spec, own, subjects)
        refuse_future_inputs(spec, own, subjects, self.spec.keys.subjects.dates)
        if spec.traits.records_from == "events":
            if spec.keys.table is not None:
                check_shards(spec, self._read(spec.keys.table).files)
            return load_events(spec, own, subjects, maps, self.spec.keys.index)
        templates = [*path_templates(spec).values()]
        parts = (next(iter(string.Formatter().parse(one)), ("",)) for one in templates)
        confined = Confined(self._roots, (literal for literal, *_ in parts))
        records = load_records(spec, own, subjects, self.root, maps, confined.really)
        if templates:
            files = [
                (f"subject {one.subject}", path)
                for one in records.frame["place"]
                for path in one.paths.values()
            ]
            confined.refuse(name, f"modalities.{name}.path", files)
            refuse_packed(spec, records)
        if spec.traits.records_from == "genotypes":
            from medmcl.data.cohort.genotype_records import keep_genotyped

            records = keep_genotyped(spec, records)
        index = self.spec.keys.index
        if index is None or index.column is None or not records.has_dates:
            return records
        return keep_before(name, records, subjects, index.column)

    def _written_out(
        self, spec: ModalitySpec, own: Table | None, subjects: SubjectTable
    ) -> ModalitySpec:
        """Write out the columns that a table modality names by patterns."""
        keys, people = spec.keys, self.spec.keys.subjects
        reserved = {keys.id or people.id, keys.record, keys.date, people.id}
        frame = subjects.frame if own is None else own.frame
        of = None if own is None else spec.name
        for task in self.spec.tasks.values():
            try:
                reserved |= tellers(task, frame.columns) if task.of == of else set()
            except CohortError:  # building the task says what is wrong with its expression
                continue
        if own is None:
            reserved |= {people.split.column, people.group, *people.dates}
        written = write_out(spec, frame, {one for one in reserved if one is not None})
        if written is not spec:
            modalities = {**self.spec.modalities, spec.name: written}
            self.spec = replace(self.spec, modalities=modalities)
        return written

    def _samples(
        self, records: Mapping[str, Records], subjects: SubjectTable, split: pd.Series
    ) -> tuple[pd.DataFrame, np.ndarray]:
        anchor = self.spec.anchor
        candidates = {name: one.candidates for name, one in records.items()}
        ids = subjects.frame.index.to_numpy(object)
        keys = self.spec.keys.pairing
        frame = only_choices(candidates, ids, keys, anchor, split)
        if frame is None:
            pairs = (
                pair(candidates, ids, keys, anchor) if records else Pairs([(s, {}) for s in ids])
            )
            self._say_what_is_not_paired(pairs)
            frame = sample_frame(pairs, list(records), anchor, split)
        if frame["sample"].duplicated().any():
            raise CohortError(
                "two samples have the same id",
                where="pairing",
                got=frame["sample"][frame["sample"].duplicated()].iloc[0],
                fix="give records ids without ':'",
            )
        # subjects of whom no record is there make no sample
        nothing = len(subjects.frame.index.difference(pd.Index(frame["subject"]), sort=False))
        if nothing and len(frame):
            self._warn(
                "cohort.nothing_present",
                "modalities",
                f"{counted(nothing, 'subject')} with no record of any modality: left out",
                "nothing, if that is meant; otherwise see id: and present: of the modalities",
            )
        asked = self.spec.keys.index
        if asked is None:
            return frame, np.full(len(frame), np.datetime64("NaT"), dtype="M8[ns]")
        frame, index, noted = index_samples(frame, records, subjects, asked)
        self.findings += noted
        return frame, index

    def _say_what_is_not_paired(self, pairs: Pairs) -> None:
        """Tell of records that could have been of one sample, and why they are not."""
        undated_pairs = any(finding.code == "pairing.no_date" for finding in self.findings)
        if pairs.unclear and "pairing" not in self.spec.left_out and not undated_pairs:
            self._note(unclear_error(pairs.unclear, self.spec.keys.pairing))
        for counter, code, what in (
            (pairs.beyond_gap, "beyond_gap", "further than max_gap_days from the next"),
            (pairs.undated, "undated", "not paired because a date is missing"),
        ):
            for name, count in counter.items():
                self._warn(
                    f"pairing.{code}",
                    f"modalities.{name}",
                    f"{counted(count, 'record')} {what}; each is a sample without {name}",
                    "nothing, if that is meant; otherwise see pairing:",
                )

    def _labels(
        self,
        records: Mapping[str, Records],
        subjects: SubjectTable,
        frame: pd.DataFrame,
        index: np.ndarray,
    ) -> dict[str, LabelRows]:
        labels = {}
        train = (frame["split"] == "train").to_numpy()
        for name, task in self.spec.tasks.items():
            column = "subject" if task.of is None else task.of
            table = subjects.frame if task.of is None else records[task.of].table
            if task.of is None and not self._agree(name, task, subjects):
                table = subjects.all_columns  # other faults of the task are worth knowing too
            position = pd.Series(np.arange(len(table)), index=table.index)
            rows = position.reindex(frame[column]).fillna(-1).to_numpy(np.int64)
            labels[name] = LabelRows(
                table=table.reset_index(drop=True),
                rows=rows,
                subjects=frame["subject"].to_numpy(object),
                train=train,
                index=index,
            )
        return labels

    def _agree(self, name: str, task: Task, subjects: SubjectTable) -> bool:
        """Note a task of subjects that reads a column whose rows differ within a subject."""
        known = pd.Index([*subjects.frame.columns, *subjects.varying])
        try:
            read = [c for text in task_texts(task) for c in columns_of(text, known, name)]
        except CohortError:
            return True  # building the task says what is wrong with its expression
        try:
            varying = [one for one in read if one in subjects.varying]
            on_purpose = f"the label belongs to records: write `of: MODALITY` in tasks.{name}"
            subjects.require(varying, f"tasks.{name}", on_purpose)
        except VaryingError as error:
            self.findings.append(
                replace(
                    error.finding(),
                    code="task.varies",
                    where=f"task {name}",
                    scope="task",
                    task=name,
                )
            )
            return False
        return True

    def _fingerprint(self, tree: Mapping[str, Any]) -> str:
        digest = hashlib.blake2b(digest_size=8)
        unread = {"data_root"} | ({"noisy_pairs"} if self.spec.noisy_pairs is None else set())
        said = {key: value for key, value in tree.items() if key not in unread}
        digest.update(fingerprint(said).encode())
        for pattern in sorted(self.tables):
            digest.update(pattern.encode())
            for content in self.tables[pattern].content():
                digest.update(content)
        return digest.hexdigest()


def told_by_derived(spec: CohortSpec) -> CohortSpec:
    """Let tasks know of columns of ``derive:`` that tell them, as of their ``leaky_columns``."""
    tasks = {}
    for name, task in spec.tasks.items():
        made_of = set().union(*map(names_in, task_texts(task)))
        told = told_through(spec.keys.derive, {*made_of, *task.leaky_columns})
        leaky = (*task.leaky_columns, *sorted(told - made_of - {*task.leaky_columns}))
        tasks[name] = task.model_copy(update={"leaky_columns": leaky})
    return replace(spec, tasks=tasks)


def _rows_of(table: Table, rows: np.ndarray) -> pd.DataFrame:
    """Some rows of a table; the table itself where it is all of them."""
    return table.frame if rows.all() else table.frame[rows]
