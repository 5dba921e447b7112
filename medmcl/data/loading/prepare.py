"""From a cohort to prepared arrays and batches; held_out stays shut until it is asked for."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from medmcl import modalities
from medmcl.core.batch import Batch
from medmcl.core.config import check, nearest, refuse_absent
from medmcl.core.contracts import Adapter, RecordRef, WeighsOdds
from medmcl.core.errors import ArtefactError, CohortError, ConfigError, ContractError, RecordError
from medmcl.core.file_lock import sweep_lock
from medmcl.core.findings import LEAVE_OUT, UNLIKE_TRAINING, Finding, counted
from medmcl.core.split_guard import SplitGuard
from medmcl.core.targets import Targets
from medmcl.core.writing import refuse_full
from medmcl.data.check.copies import find_copies, same_rows
from medmcl.data.check.lost_by_outcome import Loss, losses
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.cohort.manifest import listed, refuse
from medmcl.data.cohort.splits import SPLITS
from medmcl.data.loading.cache import (
    ClosedSplitError,
    OpenRows,
    Rows,
    Stored,
    claimed_entry,
    entry_key,
    write_entry,
)
from medmcl.data.loading.outcome_parts import OutcomeParts, stand_of
from medmcl.data.loading.reading import (
    Outcome,
    fit,
    good_raws,
    good_records,
    inspect_together,
    of_modality,
    prepare_outcome,
    prepared_row,
    record_files,
)
from medmcl.data.loading.shared_work import Parts, Shard
from medmcl.modalities.outside import (
    blamed,
    checked_state,
    code_of,
    fitted_shape,
    refuse_incomplete,
    rehearse,
    said_of,
)

if TYPE_CHECKING:
    import torch

Progress = Callable[[int], object]
"""Told how many records are done."""


@dataclass(kw_only=True)
class Prepared:
    """A cohort whose records are prepared: what stages read.

    Attributes:
        cohort: The cohort.
        adapters: Modality to its fitted adapter.
        samples: The samples of the cohort; row number = sample number.
        splits: Split of each sample, (N,) object.
        subjects: Subject of each sample as a number, (N,) int64.
        present: Modality to (N,) bool; False also for a record that was excluded.
        excluded: Errors of the records that were left out (``on_bad_record: exclude``).
        warnings: What is odd about records that were kept, and about many of them together.
        opened: Splits whose rows may be read.
    """

    cohort: Cohort
    adapters: dict[str, Adapter]
    samples: pd.DataFrame
    splits: np.ndarray
    subjects: np.ndarray
    present: dict[str, np.ndarray]
    excluded: list[Finding]
    warnings: list[Finding]
    opened: tuple[str, ...]
    stored: dict[str, Stored] = field(repr=False)
    numbers: dict[str, np.ndarray] = field(repr=False)
    """Modality to the number of each sample's record, -1 where absent, (N,) int64."""
    partly: frozenset[str] = frozenset()
    """Modalities whose adapters were fitted on a part of the train records (`stand_in`): what they
    learned, as a vocabulary, is not what training will have."""

    def inputs(self, modality: str) -> np.ndarray | Rows:
        """Prepared rows of every record, (R, ...), in the order of ``cohort.records[modality]``.

        What `for_learning` gives refuses those of held_out (`ClosedSplitError`).
        """
        return self.stored[modality].rows

    @cached_property
    def for_learning(self) -> Prepared:
        """What a stage that learns is given of it: held_out is shut, however its rows are read.

        Who is in held_out and who has which modality can still be counted. A record is on the side
        of its subject; one that a sample of an open split holds is open.
        """
        opened = tuple(split for split in self.opened if split != "held_out")
        stored = {}
        for name, one in self.stored.items():
            side = self.cohort.sides(name)
            closed = np.where(np.isin(side, [*opened]), "", side).astype("S8")
            numbers = self.numbers[name]
            closed[numbers[np.isin(self.splits, opened) & (numbers >= 0)]] = b""
            stored[name] = replace(one, rows=OpenRows(one.rows, closed))
        return replace(self, opened=opened, stored=stored)

    def usable(self, modality: str) -> np.ndarray:
        """Which records could be prepared and are no doubtful copies, (R,) bool."""
        return self.stored[modality].usable

    def faults(self, modality: str) -> dict[str, str]:
        """Record id to why it is not usable."""
        return self._said(modality, lambda finding: finding.level == "error", usable=False)

    def warned(self, modality: str, is_told: Callable[[str], bool]) -> dict[str, str]:
        """Record id to what was found, of codes that are told, of records that are kept."""
        return self._said(modality, lambda finding: is_told(finding.code), usable=True)

    def _said(
        self, modality: str, is_told: Callable[[Finding], bool], *, usable: bool
    ) -> dict[str, str]:
        """Record id to what is told of it, of records that are usable, or of those that are not."""
        ids, stored = self.cohort.records[modality].index, self.stored[modality]
        return {
            str(ids[row]): "; ".join(said)
            for row, found in stored.findings.items()
            if stored.usable[row] == usable and (said := [f.what for f in found if is_told(f)])
        }

    def index(self, modality: str) -> np.ndarray:
        """Number of each sample's record in `inputs`, -1 where absent. (N,) int64."""
        return self.numbers[modality]

    def rows(
        self, split: str, needs: Sequence[str] = (), how: Literal["all", "any"] = "all"
    ) -> np.ndarray:
        """Give the samples of a split that have all (or any) of the modalities named.

        Raises:
            ClosedSplitError: The split is not open.
        """
        if split not in SPLITS:
            raise ConfigError(f"there is no split '{split}'{nearest(split, SPLITS)}")
        if split not in self.opened:
            raise ClosedSplitError(split)
        rows = np.flatnonzero(self.splits == split)
        if not needs:
            return rows
        have = np.stack([self.present[name][rows] for name in needs])
        return rows[have.all(axis=0) if how == "all" else have.any(axis=0)]

    def tasks(self, name: str) -> Targets:
        """Give the targets of a task by sample; unknown in splits that are not open.

        Raises:
            CohortError: There is no such task, or it has faults.
        """
        targets = replace(self.cohort.targets(name), sides=self.sides)
        shut = ~np.isin(self.splits, self.opened)
        if not shut.any():
            return targets
        values, known = targets.values.copy(), targets.known.copy()
        values[shut], known[shut] = 0.0, False
        competing = None if targets.competing is None else targets.competing & ~shut
        return replace(targets, values=values, known=known, competing=competing)

    @cached_property
    def sides(self) -> SplitGuard:
        """Split, subject and content of each sample: what guards whatever is fitted.

        Texts, tables and codes of two people may be equal; without a measured modality nothing
        stands for a record.
        """
        measured = [name for name, adapter in self.adapters.items() if adapter.measured]
        contents = tuple(self.identity(name) for name in measured)
        nothing = np.full(len(self.splits), -1)
        return SplitGuard(
            splits=self.splits, subjects=self.subjects, contents=contents or (nothing,)
        )

    def batch(
        self,
        rows: np.ndarray,
        tasks: Sequence[str] = (),
        modalities: Sequence[str] | None = None,
    ) -> Batch:
        """Load samples as a batch of CPU tensors; absent rows are zeros.

        Args:
            rows: Sample numbers, (B,).
            tasks: Tasks whose targets to load.
            modalities: Modalities to load; all if not given.

        Raises:
            ClosedSplitError: A row belongs to a split that is not open.
        """
        import torch

        rows = np.asarray(rows, dtype=np.int64)
        shut = ~np.isin(self.splits[rows], self.opened)
        if shut.any():
            raise ClosedSplitError(str(self.splits[rows][shut][0]))
        names = tuple(self.adapters) if modalities is None else tuple(modalities)
        targets = {name: self.tasks(name).take(rows) for name in tasks}
        return Batch(
            ids=torch.from_numpy(rows),
            inputs={name: self._gather(name, rows) for name in names},
            present={name: torch.from_numpy(self.present[name][rows]) for name in names},
            targets={n: torch.from_numpy(t.values.astype(np.float32)) for n, t in targets.items()},
            known={n: torch.from_numpy(t.known) for n, t in targets.items()},
        )

    def _gather(self, name: str, rows: np.ndarray) -> torch.Tensor:
        import torch

        stored = self.stored[name].rows
        numbers = self.numbers[name][rows]
        has = numbers >= 0
        loaded = np.zeros((len(rows), *stored.shape[1:]), dtype=stored.dtype)
        loaded[has] = stored[numbers[has]]
        return torch.from_numpy(loaded)

    def flow(self) -> list[tuple[str, int, int]]:
        """Give the participant flow of the cohort, less what was excluded.

        Where records were excluded, a step for each modality says who still has a usable one, and
        the splits count without the samples that have no usable record left.
        """
        steps = self.cohort.flow()
        if not self.excluded:
            return steps
        steps = steps[: -len(SPLITS)]
        for name, one in self.stored.items():
            if not one.usable.all():
                steps.append(self._step(f"with {name} usable", self.present[name]))
        return steps + [self._step(name, self.kept & (self.splits == name)) for name in SPLITS]

    @property
    def kept(self) -> np.ndarray:
        """Samples that did not lose every record to a check. (N,) bool."""
        has = {name: self.samples[name].notna().to_numpy() for name in self.cohort.spec.modalities}
        usable = {name: self.present.get(name, there) for name, there in has.items()}
        return np.asarray(~np.any([*has.values()], axis=0) | np.any([*usable.values()], axis=0))

    def _step(self, name: str, rows: np.ndarray) -> tuple[str, int, int]:
        return name, len(np.unique(self.subjects[rows])), int(rows.sum())

    def exclusions(self) -> str:
        """Say in a line how many records were excluded, and why; empty if none was."""
        if not self.excluded:
            return ""
        out = sum(int((~one.usable).sum()) for one in self.stored.values())
        total = sum(len(one.usable) for one in self.stored.values())
        codes = Counter(finding.code for finding in self.excluded).most_common()
        said = ", ".join(f"{code} {count}" for code, count in codes)
        return f"excluded {out} records of {total}: {said} (cohort.on_bad_record: exclude)"

    def masked_leads(self) -> list[str]:
        """Say for each modality how many of its records go without some leads, and which."""
        lines = []
        for name, one in self.stored.items():
            found = {
                row: [finding.what for finding in found if finding.code.endswith(".masked_lead")]
                for row, found in one.findings.items()
                if one.usable[row]
            }
            count = sum(map(bool, found.values()))
            if count:
                leads = Counter(what for whats in found.values() for what in whats).most_common()
                said = ", ".join(f"{what} {times}" for what, times in leads)
                total = int(one.usable.sum())
                records = counted(total, f"{name} record")
                lines.append(f"leads masked in {count} of {records}: {said}")
        return lines

    def losses(self) -> list[Loss]:
        """Who lost every usable record of a modality, by outcome; in open splits only."""
        if not self.excluded:
            return []
        tasks = [self.tasks(name) for name in self.cohort.usable_tasks]
        found: list[Loss] = []
        for name, one in self.stored.items():
            if not one.usable.all():
                had = self.samples[name].notna().to_numpy()
                found += losses(name, self.subjects, had, self.present[name], tasks)
        return found

    def identity(self, modality: str) -> np.ndarray:
        """Give samples of equal content the same number; -1 where absent. (N,) int64."""
        codes = np.unique(self.stored[modality].digests, return_inverse=True)[1]
        numbers = self.numbers[modality]
        result = np.full(len(numbers), -1, dtype=np.int64)
        result[numbers >= 0] = codes[numbers[numbers >= 0]]
        return result


def oddities(
    warnings: Iterable[Finding],
    way_out: Callable[[Finding], str] = lambda _: "",
    *,
    of_all: bool = False,
) -> list[str]:
    """Say what is odd about records that are read, a line a kind: the first, and how many more.

    Args:
        warnings: Of `Prepared`, or of what is prepared apart (covariates).
        way_out: Ends what is said of a warning, with how to do without it.
        of_all: Whether only what concerns many records together is said.
    """
    by_code: dict[str, list[Finding]] = {}
    for one in warnings:
        is_told = one.scope == "cohort" or UNLIKE_TRAINING in one.code if of_all else True
        # leads that are masked are counted by lead, levels that are new by column
        if is_told and not one.code.endswith((".masked_lead", ".unseen")):
            by_code.setdefault(one.code, []).append(one)
    return [
        f"{first.where}: {first.what}{way_out(first)}"
        + (f"; {len(more):,} more are alike" if more else "")
        for first, *more in by_code.values()
    ]


def cache_folder(beside: Path) -> Path:
    """Give the folder for prepared records: ``$MEDMCL_CACHE``, or ``.prepared`` in ``beside``."""
    return Path(os.environ.get("MEDMCL_CACHE") or beside / ".prepared")


def build_adapters(cohort: Cohort, inputs: Mapping[str, Mapping[str, Any]]) -> dict[str, Adapter]:
    """Build the adapter of each modality from the cohort's source and a recipe's settings.

    Raises:
        ConfigError: A modality that the cohort does not have, or settings that are not valid.
    """
    adapters: dict[str, Adapter] = {}
    for name, given in inputs.items():
        what = f"the cohort '{cohort.name}' has no modality '{name}'"
        refuse_absent(name, cohort.spec.modalities, what, where=f"inputs.{name}")
        spec = cohort.spec.modalities[name]
        kind = modalities.ADAPTERS[spec.kind]
        where = f"inputs.{name}"
        settings = check(kind.Settings, given, where, ConfigError, under=where)
        adapter = kind(spec.source, settings)
        if isinstance(adapter, WeighsOdds):
            adapter.among = max(1, len(cohort.records[name]))
        refuse_incomplete(adapter)
        adapters[name] = adapter
    return adapters


def prepare(
    cohort: Cohort,
    inputs: Mapping[str, Mapping[str, Any]],
    *,
    cache: Path,
    fitted: Mapping[str, Mapping[str, Any]] | None = None,
    splits: Sequence[str] | Literal["all"] = ("train", "tuning"),
    progress: Progress | None = None,
) -> Prepared:
    """Prepare every record of some modalities once, and open some splits.

    Args:
        cohort: The cohort.
        inputs: Modality to how its adapter prepares it.
        cache: Folder for prepared records; an entry is reused while nothing it depends on changes.
        fitted: Modality to the state its adapter learned in a run; without it the adapter is
            fitted, on records of the train split only.
        splits: Splits whose rows may be read; the others refuse.
        progress: Told how many records are done, over all modalities.

    Raises:
        CohortError: Records that cannot be used, unless the cohort says to exclude them.
        DiskError: They do not fit onto the disk of the cache.
    """
    adapters = build_adapters(cohort, inputs)
    stored: dict[str, Stored] = {}
    done = 0
    _require_room(cohort, adapters, cache)
    for name, adapter in adapters.items():
        parts = _fitted(cohort, name, adapter, cache, (fitted or {}).get(name))
        counter = _Told(progress, done)
        found = _read_sound(parts)
        if found is None:
            with claimed_entry(parts.whole.parent, parts.whole.name, counter.again):
                found = _read_sound(parts)
                if found is None:
                    _write(cohort, parts, counter)
                    found = parts.read()
        else:
            sweep_lock(parts.whole)
        if found is None:
            raise ArtefactError(
                "the prepared records cannot be read back",
                where=parts.whole,
                fix="is the disk full?",
            )
        stored[name] = found
        done += len(cohort.records[name])
        if progress is not None:
            progress(done)
    excluded = _note_copies(cohort, adapters, stored)
    if excluded and cohort.spec.keys.on_bad_record == "refuse":
        lost = [name for name, one in stored.items() if len(one.usable) and not one.usable.any()]
        for name in lost:
            _blame_adapter(adapters[name], name, stored[name])
        raise _refuse_records(cohort, excluded, lost)
    return in_order(cohort, adapters, stored, excluded, splits)


def prepare_shard(
    cohort: Cohort,
    inputs: Mapping[str, Mapping[str, Any]],
    shard: Shard,
    *,
    cache: Path,
    progress: Progress | None = None,
) -> Parts:
    """Prepare a shard's parts of the records; `prepare` takes those that are there.

    Each shard fits the adapters itself, on the train records, as `prepare` does.

    Args:
        cohort: As for `prepare`.
        inputs: As there.
        shard: Whose parts are made.
        cache: As there.
        progress: Told how many records of all are prepared, by this shard or before.

    Returns:
        How all modalities stand; whole ones have no part left to make.
    """
    adapters = build_adapters(cohort, inputs)
    _require_room(cohort, adapters, cache)
    made: list[tuple[OutcomeParts, Parts]] = []
    told = _Told(progress, 0)
    for name, adapter in adapters.items():
        parts = _fitted(cohort, name, adapter, cache)
        if _read_sound(parts) is None:
            made.append((parts, parts.make(shard, told.more)))
        else:
            parts.tidy()
    return stand_of(made)


def in_order(
    cohort: Cohort,
    adapters: dict[str, Adapter],
    stored: dict[str, Stored],
    excluded: Sequence[Finding] = (),
    splits: Sequence[str] | Literal["all"] = ("train", "tuning"),
    partly: frozenset[str] = frozenset(),
) -> Prepared:
    """Give prepared records in the order of a cohort's samples; see `Prepared` for the rest."""
    numbers = {name: _numbers(cohort, name, one.usable) for name, one in stored.items()}
    whose = cohort.samples["subject"].to_numpy(object)
    return Prepared(
        cohort=cohort,
        adapters=adapters,
        samples=cohort.samples,
        splits=cohort.samples["split"].to_numpy(object),
        subjects=np.unique(whose, return_inverse=True)[1],
        present={name: one >= 0 for name, one in numbers.items()},
        excluded=list(excluded),
        warnings=[
            finding
            for one in stored.values()
            for found in (one.shared, *one.findings.values())
            for finding in found
            if finding.level == "warning"
        ]
        + [found for name in adapters for found in _rows_of_others(cohort, name, stored[name])],
        opened=SPLITS if splits == "all" else tuple(splits),
        stored=stored,
        numbers=numbers,
        partly=partly,
    )


def _rows_of_others(cohort: Cohort, name: str, stored: Stored) -> list[Finding]:
    """Warn of rows of a table that several people share (`same_rows`)."""
    if not cohort.spec.modalities[name].traits.tabular:
        return []
    table = cohort.records[name]
    subjects = table["subject"].to_numpy(object)
    digests = np.where(stored.usable, stored.digests, b"")
    return same_rows(name, table["place"].array, subjects, cohort.sides(name), digests)


@dataclass
class _Told:
    """Passes outcomes on and tells the progress."""

    progress: Progress | None
    done: int

    def __call__(self, source: Iterator[Outcome]) -> Iterator[Outcome]:
        for outcome in source:
            yield outcome
            self.done += 1
            self.again()

    def more(self, count: int) -> None:
        """Tell of so many records more."""
        self.done += count
        self.again()

    def again(self) -> None:
        """Tell what was told before, so that whoever waits can be stopped."""
        if self.progress is not None:
            self.progress(self.done)


def _fitted(
    cohort: Cohort,
    name: str,
    adapter: Adapter,
    cache: Path,
    state: Mapping[str, Any] | None = None,
) -> OutcomeParts:
    """Fit an adapter, or give it a state; give what becomes of the records of its modality."""
    places: Sequence[RecordRef] = cohort.records[name]["place"].array  # each is made when asked for
    if state is not None:
        with blamed(adapter, "load_state"):
            adapter.load_state(state)
    else:
        fit(adapter, good_raws(adapter, train_places(cohort, name)), name)
        if adapter.kind in modalities.ADAPTERS.outside:
            _rehearse(cohort, name, adapter)
    said = [*described(cohort, name, adapter), checked_state(adapter)]
    key = entry_key(said, places, partial(record_files, adapter))
    return OutcomeParts(adapter, name, places, cache / key, prepared=True)


def described(cohort: Cohort, name: str, adapter: Adapter) -> list[Any]:
    """Say how the records of a modality are read, without what an adapter learned."""
    source = cohort.spec.modalities[name].source.model_dump(mode="json")
    said = [adapter.kind, source, adapter.settings.model_dump(mode="json")]
    code = code_of(type(adapter))
    return [*said, code] if code else said


def _read_sound(parts: OutcomeParts) -> Stored | None:
    """Read an entry; None if there is none, or a record that it refused is sound now."""
    found = parts.read()
    if found is None:
        return None
    findings = dict(found.findings)
    for row in np.flatnonzero(~found.usable).tolist():
        outcome = prepare_outcome(parts.adapter, parts.places[row])
        if outcome.usable:
            return None
        findings[row] = of_modality(outcome.findings, parts.name)
    return replace(found, findings=findings)


_ON_ANOTHER_DISK = "set MEDMCL_CACHE=FOLDER to keep them on another disk"


def _write(cohort: Cohort, parts: OutcomeParts, counter: _Told) -> None:
    """Prepare records and write them as an entry."""
    adapter, name, places, whole = parts.adapter, parts.name, parts.places, parts.whole
    needed = row_bytes(adapter) * len(places)
    refuse_full(whole.parent, needed, f"the prepared records of {name}", _ON_ANOTHER_DISK)
    shared = inspect_together(adapter, name, places)
    faults = [finding for finding in shared if finding.level == "error"]
    if faults:
        raise refuse(faults, f"cohort {cohort.name}")
    made, shape = counter(parts.outcomes()), fitted_shape(adapter, name)
    write_entry(whole.parent, whole.name, name, made, shape, len(places), shared)
    parts.remove()


def row_bytes(adapter: Adapter) -> int:
    """Bytes of a prepared record; 0 while that is not known, as for most kinds before `fit`."""
    try:
        return 4 * math.prod(adapter.prepared_shape)
    except Exception:  # what has learned nothing yet may raise anything
        return 0


def _require_room(cohort: Cohort, adapters: Mapping[str, Adapter], cache: Path) -> None:
    """Refuse before any record is read what will not fit, as far as its size is known by then."""
    needed: dict[str, int] = {}
    for name, adapter in adapters.items():
        count = row_bytes(adapter) * len(cohort.records[name])
        kept = [*cache.glob(f"*/{name}.npy")]  # one of its size may be what is wanted
        if not any(one.is_file() and one.stat().st_size >= count for one in kept):
            needed[name] = count
    whose = f"the prepared records of {' and '.join(needed)}"
    refuse_full(cache, sum(needed.values()), whose, _ON_ANOTHER_DISK)


def _rehearse(cohort: Cohort, name: str, adapter: Adapter) -> None:
    """Try an adapter from outside on one record before all are prepared."""
    for place, raw in islice(good_records(adapter, train_places(cohort, name)), 1):
        with suppress(RecordError):  # which is told when all are prepared
            row = prepared_row(adapter, raw, place)
            rehearse(adapter, cohort.spec.modalities[name].source, raw, row, place)


def train_places(cohort: Cohort, modality: str) -> Sequence[RecordRef]:
    """Give where the records of train people lie: what an adapter may learn from."""
    table = cohort.records[modality]
    found: Sequence[RecordRef] = table["place"].array[cohort.sides(modality) == "train"]
    return found


def _note_copies(
    cohort: Cohort, adapters: Mapping[str, Adapter], stored: dict[str, Stored]
) -> list[Finding]:
    """Take doubtful copies out, and give the errors of every record that is out."""
    errors: list[Finding] = []
    for name, adapter in adapters.items():
        one, places = stored[name], cohort.records[name]["place"].array
        copies = find_copies(adapter, places, cohort.sides(name), one.digests, one.sketch)
        if copies:
            usable, findings = one.usable.copy(), dict(one.findings)
            for row, found in copies.items():
                usable[row] &= all(finding.level != "error" for finding in found)
                findings[row] = [*findings.get(row, []), *found]
            stored[name] = one = replace(one, usable=usable, findings=findings)
        errors += [
            finding
            for row, found in sorted(one.findings.items())
            for finding in found
            if finding.level == "error"
        ]
    return errors


def _blame_adapter(adapter: Adapter, name: str, one: Stored) -> None:
    """Refuse an adapter from outside that makes nothing of any record, instead of the records.

    Raises:
        ContractError: Every record was read, and none prepared as it must be.
    """
    faults = [found for all_ in one.findings.values() for found in all_ if found.level == "error"]
    wrong = [found for found in faults if found.code == f"{adapter.kind}.misprepared"]
    if wrong and len(wrong) == len(faults) and adapter.kind in modalities.ADAPTERS.outside:
        raise ContractError(
            f"{said_of(adapter)} prepares none of its {counted(len(wrong), 'record')} as it must",
            where=f"modalities.{name}",
            got=f"{wrong[0].what} ({wrong[0].where})",
            fix=wrong[0].fix,
        )


def _refuse_records(cohort: Cohort, findings: list[Finding], lost: list[str]) -> CohortError:
    """Refuse records; to leave them out is no way where all of a modality (``lost``) would go."""
    count = "1 fault" if len(findings) == 1 else f"{len(findings)} faults"
    fix = "fix them, or leave them out and count them: --set cohort.on_bad_record=exclude"
    if lost:
        findings = [replace(one, fix=one.fix.replace(LEAVE_OUT, "")) for one in findings]
        fix = (
            f"no record of {' or '.join(lost)} can be used: see its section in cohort.yaml, and "
            "`medmcl check`"
        )
    return CohortError(
        f"records that cannot be used ({count}):\n{listed(findings)}",
        where=f"cohort {cohort.name}",
        fix=fix,
    )


def _numbers(cohort: Cohort, name: str, usable: np.ndarray) -> np.ndarray:
    """Number of each sample's record; -1 where there is none that can be used."""
    ids = cohort.records[name].index
    rows = ids.get_indexer(pd.Index(cohort.samples[name], dtype=object))
    if len(ids):
        rows[~usable[rows]] = -1
    return rows
