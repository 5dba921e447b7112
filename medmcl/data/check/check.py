"""``medmcl check``: everything that is wrong with a cohort, at once, each with its fix."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray

from medmcl.core import members
from medmcl.core.config import nearest
from medmcl.core.contracts import AcceptsFaults, Adapter, RecordRef, traits
from medmcl.core.errors import CohortError, ConfigError, ContractError, MedmclError, RecordError
from medmcl.core.findings import (
    LEAVE_OUT,
    LEVELS,
    SCOPES,
    Finding,
    cohort_error,
    cohort_warning,
    counted,
    task_finding,
)
from medmcl.core.path_suggestions import instead_of
from medmcl.data.check.copies import find_copies, same_rows
from medmcl.data.check.lost_by_outcome import lacking_splits, losses, told, uneven
from medmcl.data.check.overview import (
    Overview,
    RecordCount,
    as_index,
    count_labels,
    count_records,
    count_subjects,
    few_sites,
    kinds_of_columns,
    look_for_room,
    look_for_scant,
    subject_numbers,
)
from medmcl.data.cohort.cohort import Cohort, load_cohort
from medmcl.data.cohort.locate import how_to_get
from medmcl.data.cohort.outcomes import task_texts
from medmcl.data.cohort.records import padded_path
from medmcl.data.cohort.splits import SPLITS, filling_seed
from medmcl.data.expressions.syntax import columns_of, names_in
from medmcl.data.loading.cache import entry_key
from medmcl.data.loading.outcome_parts import OutcomeParts, stand_of
from medmcl.data.loading.prepare import build_adapters, cache_folder, described, row_bytes
from medmcl.data.loading.reading import (
    Looked,
    MispreparedError,
    fit,
    good_raws,
    good_records,
    inspect_together,
    look,
    of_modality,
    outcomes,
    prepared_row,
    read_record,
    record_files,
)
from medmcl.data.loading.shared_work import Parts, Shard
from medmcl.data.tables.mapped import let_go
from medmcl.modalities.outside import rehearse
from medmcl.modalities.tabular.settings import TabularSource

_OF_A_RECIPE = frozenset({"ecg.too_short", "cmr.frames", "cmr.es_guessed", "text.long"})
"""What depends on how a recipe prepares a record, and says nothing where no recipe reads it."""
_OF_A_CELL = frozenset({"tabular.number"})
"""Faults that name the cell they were found in."""
_FIT_ON, _TRIED = 200, 3
_EXPLAINED = (ContractError, MispreparedError)
"""What a package or its row is at fault of: shown with what was got and expected."""


class Checked(list[Finding]):
    """The findings of a check, errors first, grouped by scope and code; none twice.

    Attributes:
        overview: What was looked at; None if the cohort could not be opened. ``print`` it.
        unread: How its shards stand, where others have not read theirs: nothing is judged then.
        skipped: What an error kept from being looked at, in a line; empty if nothing.
    """

    def __init__(
        self,
        findings: Iterable[Finding],
        overview: Overview | None = None,
        unread: Parts | None = None,
        skipped: str = "",
    ) -> None:
        super().__init__(grouped(findings))
        self.overview, self.unread, self.skipped = overview, unread, skipped


def check_cohort(
    cohort: Cohort | str | Path,
    inputs: Mapping[str, Mapping[str, Any]] | None = None,
    tasks: Sequence[str] | None = None,
    *,
    trains: bool = False,
    progress: Callable[[int], object] | None = None,
    limit: int | None = None,
    parts: Path | None = None,
) -> Checked:
    """Find every fault of a cohort: file, tables, splits, outcomes, and each record.

    Args:
        cohort: An open cohort (its own findings are among those given back), or where one lies;
            then faults of cohort.yaml itself are findings too.
        inputs: Modality to a recipe's settings; the other modalities are read with defaults.
        tasks: Tasks to check; all of the cohort if not given.
        trains: Whether the recipe trains, and so needs people to train on.
        progress: Told how many records are done.
        limit: Read at most this many records of each modality, evenly spaced.
        parts: Folder in which shards left what they read (`check_shard`); they are not read again.

    Returns:
        A list of findings, errors first, grouped by scope and code, none twice; its ``overview``
        says what was looked at.
    """
    if not isinstance(cohort, Cohort):
        opened, findings = load_cohort(cohort)
        if opened is None:
            return Checked(findings)
        cohort = opened
    findings = [finding for finding in cohort.findings if finding.scope != "task"]
    findings += check_tasks(cohort, tasks)
    chosen = list(cohort.spec.tasks if tasks is None else tasks)
    inputs = inputs or {}
    findings += check_people(cohort, inputs, chosen, trains=trains)
    done = 0
    counts: list[RecordCount] = []
    unjudged = [name for name, one in cohort.spec.modalities.items() if _lacks_kinds(one.source)]
    for name in cohort.spec.modalities:
        if name in unjudged:
            continue
        rows = _some(len(cohort.records[name]), limit)
        faults: list[Finding] = []
        adapter = _build(cohort, name, inputs.get(name) or {}, faults)
        wanted = inputs.get(name) is not None and not faults
        modality = _Modality(cohort, name, adapter, rows, wanted=wanted)
        findings += faults
        found, count, bad = modality.check(_told(progress, done), parts)
        findings += found
        if bad and cohort.spec.keys.on_bad_record == "exclude":
            findings += modality.lost(bad, chosen)
        counts.append(count)
        done += len(rows)
    findings += look_for_room(counts, cache_folder(Path("runs")))
    overview = Overview(
        root=cohort.root,
        subjects=count_subjects(cohort),
        records=tuple(counts),
        labels=count_labels(cohort, chosen),
        faulty_tasks=(
            *(n for n in chosen if n not in cohort.usable_tasks),
            *(n for n in cohort.spec.lost("tasks") if tasks is None or n in tasks),
        ),
        faulty_modalities=(*cohort.spec.lost("modalities"), *unjudged),
        excludes=cohort.spec.keys.on_bad_record == "exclude",
        splits_known="subjects.split" not in cohort.spec.left_out,
        columns=kinds_of_columns(cohort),
        split_drawn=not cohort.spec.keys.subjects.declares_split,
    )
    return Checked(findings, overview)


def _lacks_kinds(source: object) -> bool:
    """Whether a table was refused before it was known which of its columns are numbers."""
    columns = source.columns.values() if isinstance(source, TabularSource) else ()
    return any(one.kind == "auto" for one in columns)


def check_people(
    cohort: Cohort,
    inputs: Collection[str],
    tasks: Sequence[str],
    *,
    trains: bool = False,
    fits: bool = True,
) -> list[Finding]:
    """Note what tables alone tell: leaks, people without inputs, splits and outcomes too scant.

    Args:
        cohort: The cohort.
        inputs: Modalities that a recipe reads.
        tasks: Tasks of the cohort.
        trains: Whether the recipe trains, and so needs people to train on.
        fits: Whether anything may be fitted or chosen on the cohort.
    """
    findings = [*_check_leaks(cohort, tasks), *_check_together(cohort, inputs)]
    if "subjects.split" in cohort.spec.left_out:
        return findings
    scant = look_for_scant(
        count_subjects(cohort),
        count_labels(cohort, tasks),
        trains=trains,
        fits=fits,
    )
    return [*findings, *(_of_the_draw(one, cohort) for one in scant), *few_sites(cohort)]


@dataclass(frozen=True)
class _Modality:
    """A modality that is checked.

    Attributes:
        cohort: The cohort.
        name: Its name.
        adapter: Reads its records.
        rows: Numbers of the records that are read.
        wanted: Whether the recipe reads it.
    """

    cohort: Cohort
    name: str
    adapter: Adapter
    rows: Sequence[int]
    wanted: bool

    @cached_property
    def places(self) -> Any:
        """The records that are read."""
        return self.cohort.records[self.name]["place"].array[as_index(self.rows)]

    @property
    def where(self) -> str:
        """Where cohort.yaml speaks of it."""
        return f"modalities.{self.name}"

    def check(
        self, progress: Callable[[int], object], parts: Path | None
    ) -> tuple[list[Finding], RecordCount, set[int]]:
        """Check the records, and say which cannot be used."""
        cohort, name, rows, places = self.cohort, self.name, self.rows, self.places
        findings = self._accepted()
        read = self._read(progress, parts)
        subjects = cohort.records[name]["subject"].to_numpy(object)[as_index(rows)]
        sides = cohort.sides(name)[as_index(rows)]
        digests = read.digests.copy() if read.bad else read.digests
        digests[read.bad] = b""

        def sketch(row: int) -> np.ndarray | None:
            return read.read[row].sketch if row in read.read else None

        copies = find_copies(self.adapter, places, sides, digests, sketch)
        if cohort.spec.modalities[name].traits.tabular:
            findings += same_rows(name, places, subjects, sides, digests)
        records = self._records(read)
        records += [finding for found in copies.values() for finding in found]
        beside: dict[int, list[Finding]] = {}
        if len(read.bad) == len(digests):
            records = _of_all(name, records, len(digests))
        if self.wanted and len(read.bad) < len(digests):
            records += self._try_preparing(sides)
            beside = self._beside_train(read)
            records += [finding for found in beside.values() for finding in found]
        excludes = cohort.spec.keys.on_bad_record == "exclude"
        if excludes:
            records = [_excluded(finding) for finding in records]
            if len(read.bad) == len(digests) == len(cohort.records[name]):
                what = f"none of its {len(digests)} records can be used, all are excluded"
                records += [self._absent(what, is_error=self.wanted)] if len(digests) else []
        unusable = {rows[row] for row in read.bad}
        together = inspect_together(self.adapter, name, places[read.digests != b""])
        doubtful = {
            rows[row]
            for row, found in copies.items()
            if any(finding.level == "error" for finding in found)
        }
        bad = unusable | doubtful | set(beside)
        findings += self._presence(bad if excludes else set())
        cached = row_bytes(self.adapter) * len(cohort.records[name]) if self.wanted else 0
        counted_ = count_records(cohort, name, rows, bad, read.held, cached)
        return [*findings, *records, *together], counted_, bad

    def lost(self, bad: set[int], tasks: Sequence[str]) -> list[Finding]:
        """Say whom the exclusion of records takes from train and tuning, by outcome."""
        cohort, samples = self.cohort, self.cohort.samples
        ids = cohort.records[self.name].index
        seen = samples["split"].isin(["train", "tuning"]).to_numpy()
        read = samples[self.name].isin(ids[[*self.rows]]).to_numpy() & seen
        usable = read & ~samples[self.name].isin(ids[sorted(bad)]).to_numpy()
        subjects = samples["subject"].to_numpy(object)
        targets = [cohort.targets(task) for task in tasks if task in cohort.usable_tasks]
        found = losses(self.name, subjects, read, usable, targets)
        fix = "nothing, if records are lost alike with and without the outcome"
        notes = [
            cohort_warning("cohort.excluded", self.where, f"{line} (train and tuning)", fix)
            for line in told(found)
        ]
        return [*notes, *uneven(found)]

    def in_parts(self, places: Sequence[RecordRef], parts: Path) -> OutcomeParts:
        """Give the outcomes of records as shards leave them, by what these depend on."""
        said = ["check", *described(self.cohort, self.name, self.adapter)]
        key = entry_key(said, places, partial(record_files, self.adapter))
        return OutcomeParts(self.adapter, self.name, places, parts / key, prepared=False)

    def _read(self, progress: Callable[[int], object], parts: Path | None) -> Looked:
        """Read and inspect records, without the findings to ignore."""
        ignored = frozenset() if self.wanted else _OF_A_RECIPE
        read = look(self.adapter, self.places)
        doubtful = read.doubtful
        done = len(read.digests) - len(doubtful)
        if done:
            progress(done)
        found = outcomes(self.adapter, self.name, self.places[doubtful], prepared=False)
        if parts is not None:
            found = self.in_parts([*self.places[doubtful]], parts).outcomes()
        for row, outcome in zip(doubtful.tolist(), found, strict=True):
            kept = tuple(finding for finding in outcome.findings if finding.code not in ignored)
            read.add(row, outcome if kept == outcome.findings else replace(outcome, findings=kept))
            done += 1
            progress(done)
        return read

    def _records(self, read: Looked) -> list[Finding]:
        """Give what is wrong with records one by one."""
        places, count = self.places, len(self.cohort.records[self.name])
        findings = [finding for outcome in read.read.values() for finding in outcome.findings]
        missing = sum(finding.code.endswith(".missing_file") for finding in findings)
        shown = record_files(self.adapter, places[0]) if missing else []
        if shown and missing == len(places) and not any(members.exists(path) for path in shown):
            findings = [self._nothing_there(missing, shown[0])]
        if len(places) < count:
            what = f"{len(places)} of {counted(count, 'record')} read"
            fix = "check without a limit before a long run"
            findings.append(cohort_warning("check.sampled", self.where, what, fix))
        return findings

    def _nothing_there(self, missing: int, shown: Path) -> Finding:
        """Say once that no file of a modality is there, and what is."""
        cohort, place = self.cohort, self.places[0]
        what = f"none of its {missing} files is there, for example {shown}"
        path = cohort.spec.modalities[self.name].keys.path
        for key, template in ({"path": path} if isinstance(path, str) else path or {}).items():

            def find(text: str, key: str = key) -> Path | None:
                paths = {**place.paths, key: cohort.root / text}
                files = record_files(self.adapter, replace(place, paths=paths))
                return next((one for one in files if members.exists(one)), None)

            found = padded_path(template, place.values, find)
            if found is not None:
                what += f"; {found[1]} is: its numbers have other leading zeros"
                field = f"{self.where}.path" + ("" if isinstance(path, str) else f".{key}")
                fix = f'{field}: "{found[0]}"'
                break
        else:
            what += instead_of(shown)
            access = how_to_get(cohort.spec.keys.access, cohort.path)
            fix = f"correct path:, or say where the data lie: data_root (now {cohort.root})"
            fix = fix if access is None else f"{access}; or {fix}"
        return cohort_error("cohort.no_files", self.where, what, fix)

    def _presence(self, out: set[int]) -> list[Finding]:
        """Note a modality that nobody has, or nobody of a split, but for the records left out."""
        samples = self.cohort.samples
        records = samples[self.name]
        if not records.notna().any():
            return [self._absent("no subject has it", is_error=self.wanted)]
        left_out = self.cohort.records[self.name].index[sorted(out)]
        has = records.notna() & ~records.isin(left_out)
        if not has.any():  # said of its records
            return []
        subjects = subject_numbers(self.cohort, samples["subject"])
        found = lacking_splits(has.to_numpy(), samples["split"].to_numpy(object), subjects)
        return [
            self._absent(said, is_error=self.wanted and split == SPLITS[0])
            for split, said in found.items()
        ]

    def _absent(self, what: str, *, is_error: bool) -> Finding:
        make = cohort_error if is_error else cohort_warning
        fix = "see present:, id: and path: of the modality, or take it out"
        return make("cohort.modality_absent", self.where, what, fix)

    def _accepted(self) -> list[Finding]:
        """Note records whose faults are accepted and that are not there."""
        source = self.cohort.spec.modalities[self.name].source
        accepted = source.accept if isinstance(source, AcceptsFaults) else {}
        asked = set(accepted) - {"*"}
        known = set(map(str, self.cohort.records[self.name].index)) if asked else set()
        unknown = sorted(asked - known)
        if not unknown:
            return []
        what = f"there is no record {', '.join(unknown[:5])}{nearest(unknown[0], known)}"
        fix = "write ids of records, as check names them, or take them out"
        return [cohort_warning("cohort.accept", f"{self.where}.accept", what, fix)]

    def _beside_train(self, read: Looked) -> dict[int, list[Finding]]:
        """Errors of sound records that show once the adapter knows from train what is usual."""
        if not traits(self.adapter).inspects_fitted:
            return {}
        errors, bad = {}, set(read.bad)
        for number, (row, place) in enumerate(zip(self.rows, self.places, strict=True)):
            if number not in bad:
                found = of_modality(read_record(self.adapter, place)[1], self.name)
                errors[row] = [one for one in found if one.level == "error"]
        return {row: some for row, some in errors.items() if some}

    def _try_preparing(self, sides: np.ndarray) -> list[Finding]:
        """Prepare a few records with the recipe's settings, so that these are tried too.

        Where not one of them can be prepared the settings are at fault, not the records.
        """
        adapter, places, name = self.adapter, self.places, self.name
        train = np.flatnonzero(sides == "train")
        spread = _some(len(train), _FIT_ON)  # files may be sorted by outcome
        others = (number for number in range(len(train)) if number not in spread)
        learned = (places[train[number]] for number in (*spread, *others))
        faults: list[MedmclError] = []
        prepared = 0
        try:
            fit(adapter, islice(good_raws(adapter, learned), _FIT_ON), name)
            for place, raw in islice(good_records(adapter, places), _TRIED):
                try:
                    row = prepared_row(adapter, raw, place)
                except RecordError as error:
                    on = f"{self.where}, subject {place.subject}, record {place.record}"
                    faults.append(error.again(type(error), where=error.where or on))
                    continue
                if not prepared:
                    rehearse(adapter, self.cohort.spec.modalities[name].source, raw, row, place)
                prepared += 1
        except MedmclError as error:
            faults, prepared = [error], 0
        unprepared = [
            Finding(
                code=f"{adapter.kind}.unprepared",
                where=str(error.where or self.where),
                what=error.detailed if isinstance(error, _EXPLAINED) else error.what,
                fix=error.fix or f"see inputs.{name} of the recipe",
                scope="record" if prepared else "cohort",
            )
            for error in (faults if prepared else faults[:1])
        ]
        return of_modality(unprepared, name)


def _of_the_draw(finding: Finding, cohort: Cohort) -> Finding:
    """Say of an empty split that chance left it empty, where it is drawn and has a share."""
    keys = cohort.spec.keys.subjects.split.random
    if keys is None or finding.code != "cohort.empty_split":
        return finding
    shares = (1 - keys.tuning - keys.held_out, keys.tuning, keys.held_out)
    share = next(
        s for name, s in zip(SPLITS, shares, strict=True) if f"the {name} " in finding.what
    )
    if not share:
        return finding
    ids = [str(one) for one in cohort.subjects.index]
    seed, column = filling_seed(ids, keys), "say the split in a column"
    return replace(
        finding,
        what=f"{finding.what}; each person is drawn alone, by id, and of {len(ids):,} with a share "
        f"of {share:g} none was",
        fix=column
        if seed is None
        else f"another seed (random: {{seed: {seed}, ...}} leaves no split empty), or {column}",
    )


def check_tasks(cohort: Cohort, names: Sequence[str] | None = None) -> list[Finding]:
    """Give what is wrong with some outcomes (all if not given)."""
    chosen = list(cohort.spec.tasks) if names is None else list(names)
    return [finding for name in chosen for finding in cohort.task_findings(name)]


def grouped(findings: Iterable[Finding]) -> list[Finding]:
    """Sort findings: errors first, then by scope and code; each once."""
    return sorted(
        dict.fromkeys(findings),
        key=lambda f: (LEVELS.index(f.level), SCOPES.index(f.scope), f.code),
    )


def summarise(findings: Sequence[Finding], shown: int = 5) -> list[tuple[str, int, list[Finding]]]:
    """Give (code, how many, the first few) for each level and code, in the order of `grouped`."""
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for finding in grouped(findings):
        kinds.setdefault((finding.level, finding.code), []).append(finding)
    return [(code, len(found), found[:shown]) for (_, code), found in kinds.items()]


def _some(count: int, limit: int | None) -> Sequence[int]:
    if limit is None or count <= limit:
        return range(count)
    return [int(row) for row in np.linspace(0, count - 1, limit).round()]


def _told(progress: Callable[[int], object] | None, before: int) -> Callable[[int], object]:
    return lambda done: progress(before + done) if progress is not None else None


def _build(
    cohort: Cohort, name: str, settings: Mapping[str, Any], findings: list[Finding]
) -> Adapter:
    """Build an adapter; settings that are not valid are noted and the defaults taken."""
    try:
        return build_adapters(cohort, {name: settings})[name]
    except ConfigError as error:
        findings.append(
            cohort_error(
                "recipe.inputs", str(error.where), error.what, error.fix or "correct the recipe"
            )
        )
        return build_adapters(cohort, {name: {}})[name]


def check_shard(
    cohort: Cohort,
    inputs: Mapping[str, Mapping[str, Any]],
    shard: Shard,
    *,
    parts: Path,
    progress: Callable[[int], object],
) -> Parts:
    """Read and inspect a shard's parts of all records; say how all stand.

    Args:
        cohort: The cohort.
        inputs: As for `check_cohort`.
        shard: Whose parts are read.
        parts: Folder that what is found is left in, for `check_cohort`.
        progress: Told how many records are done.
    """
    made: list[tuple[OutcomeParts, Parts]] = []
    done = 0

    def told(count: int) -> None:
        nonlocal done
        done += count
        progress(done)

    for name in cohort.spec.modalities:
        adapter = _build(cohort, name, inputs.get(name) or {}, [])
        modality = _Modality(cohort, name, adapter, range(len(cohort.records[name])), wanted=False)
        places = cohort.records[name]["place"].array
        doubtful = look(adapter, places).doubtful
        shared = modality.in_parts([*places[doubtful]], parts)
        made.append((shared, shared.make(shard, told)))
    return stand_of(made)


def _of_all(name: str, findings: list[Finding], count: int) -> list[Finding]:
    """Rewrite the findings of a modality of which no record can be used: none is to be left out.

    A fault that every record has in the same words, with no file of its own named, is one fault: of
    what cohort.yaml says. In the words of a table's fault only the cell differs.
    """
    plain = [replace(one, fix=one.fix.replace(LEAVE_OUT, "")) for one in findings]
    kinds: dict[tuple[str, str, str], list[Finding]] = {}
    for one in plain:
        if one.level == "error" and ("/" not in one.where or one.code in _OF_A_CELL):
            kinds.setdefault(_alike(one), []).append(one)
    same = {kind: found for kind, found in kinds.items() if len(found) == count > 1}
    kept = [one for one in plain if _alike(one) not in same]
    whole = [
        replace(
            found[0],
            where=f"modalities.{name}",
            what=f"each of its {count:,} records: {found[0].what} (the first: {found[0].where})",
            scope="cohort",
        )
        for found in same.values()
    ]
    return [*kept, *whole]


def _alike(finding: Finding) -> tuple[str, str, str]:
    """What findings of one cause have in common."""
    what = finding.what.partition(", got ")[0] if finding.code in _OF_A_CELL else finding.what
    return finding.code, what, finding.fix


def _excluded(finding: Finding) -> Finding:
    """Turn the error of a record into a warning: `prepare` leaves the record out and goes on."""
    if finding.level != "error" or finding.scope != "record":
        return finding
    what = f"{finding.what}; the record will be excluded"
    return replace(finding, level="warning", what=what, fix=finding.fix.replace(LEAVE_OUT, ""))


def _check_together(cohort: Cohort, inputs: Collection[str]) -> list[Finding]:
    """Note people who have none of a recipe's inputs, and pairs of inputs that nobody has both."""
    names = [name for name in inputs if name in cohort.samples]
    has = {name: cohort.samples[name].notna().to_numpy() for name in names}
    train = (cohort.samples["split"] == SPLITS[0]).to_numpy()
    findings = []
    if names:
        nothing = ~np.any(list(has.values()), axis=0)
        people = cohort.samples["subject"][nothing].nunique()
        if people:
            what = f"{counted(people, 'subject')} without any of {', '.join(names)}: not used"
            findings.append(_of_inputs("cohort.no_input", what))
    for a, b in combinations(names, 2):
        both = int((has[a] & has[b] & train).sum())
        if both < 2 and (has[a] & train).any() and (has[b] & train).any():
            what = f"{counted(both, 'train sample')} with both {a} and {b}: they cannot be aligned"
            findings.append(_of_inputs("cohort.no_pair", what))
    return findings


def _of_inputs(code: str, what: str) -> Finding:
    return cohort_warning(
        code, "modalities", what, "nothing, if that is meant; otherwise see present: and pairing:"
    )


def _check_leaks(cohort: Cohort, tasks: Iterable[str]) -> list[Finding]:
    """Note columns that are an input and an outcome at once, or that tell the outcome."""
    findings = []
    for task_name in tasks:
        if task_name not in cohort.labels:
            continue
        task = cohort.spec.tasks[task_name]
        known = cohort.labels[task_name].table.columns
        try:
            read = {column for text in task_texts(task) for column in columns_of(text, known)}
        except CohortError:  # its own finding says it
            continue
        findings += _unknown_tellers(cohort, task_name, known)
        findings += _told_by_cells(cohort, task_name, {*read, *task.leaky_columns})
        for name, spec in cohort.spec.modalities.items():
            shown = {*spec.cell_columns, *spec.needed_columns}
            for columns, how in ((read, "made of"), (set(task.leaky_columns) - read, "told by")):
                both = sorted(columns & shown)
                if both:
                    what = f"is {how} {', '.join(both)}, which the modality '{name}' shows"
                    fix = f"take the column out of {name}, or never predict the task from it"
                    findings.append(task_finding(task_name, "task.leak", what, fix))
    return findings


FEW_EACH, NEARLY_ALL = 5, 0.95
APART_EACH, MOST_LEVELS = 10, 20
"""People with and without an outcome whom no value of a column joins (by chance less than once in
10,000 columns), and different texts of a column beyond which each person may have their own."""


def _told_by_cells(cohort: Cohort, task_name: str, own: set[str]) -> list[Finding]:
    """Note input columns that tell an outcome alone: by who has a cell, or by what stands in it."""
    targets = cohort.targets(task_name) if task_name in cohort.usable_tasks else None
    if targets is None or targets.kind not in ("binary", "multilabel", "survival"):
        return []
    whose = subject_numbers(cohort, cohort.samples["subject"])
    shown = {name for spec in cohort.spec.modalities.values() for name in spec.cell_columns} - own
    inputs = cohort.subjects[[one for one in cohort.subjects if one in shown]]
    findings = []
    for number, label in enumerate(targets.columns):
        if targets.kind == "survival" and label != "event":
            continue
        known, has = targets.known[:, number], targets.values[:, number] > 0
        sides = whose[known & has], whose[known & ~has]
        if min(map(len, sides)) < FEW_EACH:
            continue
        for name, spec in cohort.spec.modalities.items():
            for column in spec.cell_columns:
                if column not in inputs:
                    continue
                both = [inputs[column].array.take(rows) for rows in sides]
                let_go()
                with_it, without = ((~cells.isna()).mean() for cells in both)
                if abs(with_it - without) >= NEARLY_ALL:
                    what = (
                        f"whether {column} of '{name}' is filled tells the outcome: it is in "
                        f"{100 * with_it:.0f} % of those with it and {100 * without:.0f} % of "
                        "others"
                    )
                elif _share_no_value(*both):
                    what = (
                        f"{column} of '{name}' alone tells the outcome: no value of it is found "
                        "both among those with the outcome and among others, or between the two"
                    )
                else:
                    continue
                fix = f"leaky_columns: [{column}] under the task, if it is known only afterwards"
                findings.append(task_finding(task_name, "task.leak", what, fix))
    return findings


def _share_no_value(one: ExtensionArray, other: ExtensionArray) -> bool:
    """Whether numbers of two groups lie apart from each other, or texts of them all differ."""
    filled = [cells[~cells.isna()] for cells in (one, other)]
    if min(map(len, filled)) < APART_EACH:
        return False
    parts = [_each_text_once(cells) for cells in filled]
    numbers = [pd.to_numeric(part, errors="coerce") for part in parts]
    if not any(part.isna().any() for part in numbers):
        a, b = numbers
        return bool(a.max() < b.min() or b.max() < a.min())
    levels = [set(part.astype(str)) for part in parts]
    return sum(map(len, levels)) <= MOST_LEVELS and not levels[0] & levels[1]


def _each_text_once(cells: ExtensionArray) -> pd.Series:
    """Cells as they are, but of texts, which take many times as much as a number, each once."""
    if all(type(cell) is str for cell in cells):
        return pd.Series([*{*cells}], dtype=object)
    return pd.Series(cells, copy=False)


def _unknown_tellers(cohort: Cohort, task: str, known: Iterable[object]) -> list[Finding]:
    """Note names under ``leaky_columns:`` that no table has: they would guard nothing."""
    columns = {str(one) for one in known}
    columns |= {one for spec in cohort.spec.modalities.values() for one in spec.cell_columns}
    columns |= {*cohort.spec.modalities}
    for name, text in cohort.spec.keys.derive.items():  # of other tables, too
        columns |= {name, *names_in(text)}
    unknown = [one for one in cohort.spec.tasks[task].leaky_columns if one not in columns]
    return [
        replace(
            task_finding(
                task,
                "cohort.column",
                f"there is no column '{one}'{nearest(one, columns)}",
                "correct the name, or take it out",
            ),
            where=f"tasks.{task}.leaky_columns",
        )
        for one in unknown
    ]
