"""Which records of a subject make one sample.

One sample for each record of the anchor modality; every other modality adds at most one record:
the one with the same id (``on: record``), the nearest in time (``on: date``), or the only one a
subject has. A record that no sample took leads a sample of its own, so nothing is dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from medmcl.core.errors import CohortError
from medmcl.core.findings import counted, first_of
from medmcl.data.cohort.spec import PairingKeys

DAY = np.timedelta64(1, "D")


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The records of one modality that may be paired, one row a record.

    Attributes:
        subject: Subject of each record.
        record: Id of each record.
        date: When it was taken, datetime64; NaT where unknown.
        has_ids: Whether the table names records; otherwise a record is called as its subject.
        has_dates: Whether the table has a date column.
    """

    subject: Sequence[str] | np.ndarray
    record: Sequence[str] | np.ndarray
    date: np.ndarray
    has_ids: bool = False
    has_dates: bool = False


@dataclass
class Pairs:
    """Samples, and what pairing could not bring together.

    Attributes:
        samples: One (subject, modality to record id) a sample; absent modalities are not named.
        beyond_gap: Modality to anchor records whose nearest record was too far in time.
        undated: Modality to anchor records that could not be paired because a date is missing.
        unclear: (subject, modality) with several candidates and nothing that says which one; none
            of them was taken.
    """

    samples: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    beyond_gap: Counter[str] = field(default_factory=Counter)
    undated: Counter[str] = field(default_factory=Counter)
    unclear: list[tuple[str, str]] = field(default_factory=list)


def pair(
    records: Mapping[str, Candidates],
    subjects: Sequence[str] | np.ndarray,
    keys: PairingKeys,
    anchor: str,
) -> Pairs:
    """Bring the records of each subject together.

    Args:
        records: Modality to its records.
        subjects: Order in which samples come.
        keys: The rule.
        anchor: The modality whose records lead samples.

    Returns:
        The samples. If any choice is ``unclear`` they are good for a check only.
    """
    order = [anchor, *(name for name in records if name != anchor)]
    rows = {name: _by_subject(records[name]) for name in order}
    pairs = Pairs()
    for subject in subjects:
        own = {name: rows[name][subject] for name in order if subject in rows[name]}
        if len(own) == 1:  # nothing to choose
            ((name, mine),) = own.items()
            pairs.samples.extend((subject, {name: records[name].record[row]}) for row in mine)
            continue
        chooser = _Chooser(records, keys, pairs)
        pairs.samples.extend((subject, sample) for sample in chooser.samples(own, list(own)))
        pairs.unclear += [(subject, name) for name in chooser.unclear]
    return pairs


def _by_subject(candidates: Candidates) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, subject in enumerate(candidates.subject):
        rows.setdefault(subject, []).append(row)
    return rows


class _Chooser:
    """Pairs the records of one subject."""

    def __init__(self, records: Mapping[str, Candidates], keys: PairingKeys, pairs: Pairs) -> None:
        self.records, self.keys, self.pairs = records, keys, pairs
        self.unclear: list[str] = []

    def samples(self, own: Mapping[str, list[int]], order: list[str]) -> list[dict[str, str]]:
        """Give the samples of one subject, led by each modality in turn."""
        taken: dict[str, set[int]] = {name: set() for name in order}
        found = []
        for number, lead in enumerate(order):
            for row in own[lead]:
                if row in taken[lead]:
                    continue
                sample = {lead: self.records[lead].record[row]}
                for name in order[number + 1 :]:
                    chosen = self._choose(lead, row, name, own[name])
                    if chosen is not None:
                        taken[name].add(chosen)
                        sample[name] = self.records[name].record[chosen]
                found.append(sample)
        return found

    def _choose(self, lead: str, row: int, name: str, options: list[int]) -> int | None:
        if not options:
            return None
        ours, theirs = self.records[lead], self.records[name]
        if self.keys.on == "record" and ours.has_ids and theirs.has_ids:
            same = [option for option in options if theirs.record[option] == ours.record[row]]
            return same[0] if same else None
        if self.keys.on == "date" and ours.has_dates and theirs.has_dates:
            date, dates = ours.date[row], theirs.date[options]
            dated = ~np.isnat(dates)
            if np.isnat(date) or not dated.any():
                self.pairs.undated[name] += 1
                return None
            gaps = np.abs(dates[dated] - date)
            best = int(np.argmin(gaps))  # the first of equals: the order of the table
            days = abs((dates[dated][best].astype("M8[D]") - date.astype("M8[D]")) / DAY)
            if self.keys.max_gap_days is not None and days > self.keys.max_gap_days:
                self.pairs.beyond_gap[name] += 1
                return None
            return [option for option, ok in zip(options, dated, strict=True) if ok][best]
        if len(options) > 1:
            self.unclear.append(name)
            return None
        return options[0]


def unclear_error(unclear: Sequence[tuple[str, str]], keys: PairingKeys) -> CohortError:
    """Give the error for subjects with several candidates and nothing that says which one."""
    names = sorted({name for _, name in unclear})
    subjects = list(dict.fromkeys(subject for subject, _ in unclear))
    return CohortError(
        f"several records of {', '.join(names)}, and nothing says which belongs to which, for "
        f"{counted(len(subjects), 'subject')}",
        where="pairing",
        got=f"on: {keys.on}; subjects {first_of(subjects)}",
        fix="pairing: {on: record} with `record:` in both modalities, or pairing: {on: date, "
        "max_gap_days: 30} with `date:` in both, or choose the anchor: pairing: {anchor: NAME}; or "
        "keep one record of each subject",
    )


def only_choices(
    records: Mapping[str, Candidates],
    subjects: Sequence[str] | np.ndarray,
    keys: PairingKeys,
    anchor: str,
    split: pd.Series,
) -> pd.DataFrame | None:
    """Give samples as a table, at once, where each subject has one record of a modality at most.

    Args:
        records: Modality to its records.
        subjects: Order in which samples come.
        keys: The rule.
        anchor: The modality whose records lead samples.
        split: Of each subject.

    Returns:
        As `sample_frame` of what `pair` gives; None where somebody has several records of a
        modality, or the rule compares ids or dates.
    """
    tells = {"record": "has_ids", "date": "has_dates"}.get(str(keys.on), "")
    compared = sum(bool(tells and getattr(one, tells)) for one in records.values())
    if not records or compared > 1:
        return None
    order = [anchor, *(name for name in records if name != anchor)]
    columns = {}
    for name in order:
        column = np.asarray(records[name].record, dtype=object)
        if not np.array_equal(records[name].subject, subjects):
            own = _index(records[name].subject)
            if not own.is_unique:
                return None
            rows = own.get_indexer(_index(subjects))
            column = np.array([*column, None], dtype=object)[rows]  # -1 is the last
        columns[name] = column
    ids = columns[anchor]
    for name in order[1:]:
        led = pd.isna(ids) & pd.notna(columns[name])
        if led.any():
            ids = ids.copy()
            ids[led] = [f"{name}:{one}" for one in columns[name][led]]
    there: Any = pd.notna(ids)
    there = slice(None) if there.all() else there  # then columns share what they are made of
    mine = np.asarray(subjects, dtype=object)[there]
    sides = split.reindex(_index(mine)).to_numpy(object)
    found = {"sample": ids[there], "subject": mine, "split": sides}
    found |= {name: columns[name][there] for name in records}
    series = {n: pd.Series(one, dtype=object, copy=False) for n, one in found.items()}
    return pd.DataFrame(series, copy=False)


def _index(names: Sequence[str] | np.ndarray) -> pd.Index:
    """Texts as they are: made into Arrow they would be copied twice."""
    return pd.Index(np.asarray(names, dtype=object), dtype="object", name="subject", copy=False)


def sample_frame(
    pairs: Pairs, modalities: Sequence[str], anchor: str, split: pd.Series
) -> pd.DataFrame:
    """Give samples as a table: sample id, subject, split, and the record of each modality.

    A sample is called as its anchor record; one without is called ``modality:record``.
    """
    ids = [
        sample[anchor] if anchor in sample else ":".join(next(iter(sample.items()), (subject,)))
        for subject, sample in pairs.samples
    ]
    subjects = [subject for subject, _ in pairs.samples]
    sides = split.reindex(_index(subjects)).to_numpy(object)
    frame = pd.DataFrame({"sample": ids, "subject": subjects, "split": sides}, dtype=object)
    for name in modalities:
        column = [sample.get(name) for _, sample in pairs.samples]
        frame[name] = pd.Series(column, dtype=object, index=frame.index)
    return frame
