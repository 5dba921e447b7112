"""Which codes are counted: those seen often enough, or those of a file that all sites share.

A spec by which nothing would be counted is refused: what it asks for, and what there is.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from medmcl.cooccurrence.count.counts import Vocabulary
from medmcl.cooccurrence.count.reading import Reading, Sighting
from medmcl.core.errors import CohortError
from medmcl.core.limits import whole_bytes
from medmcl.core.plain_text import encoding_fix
from medmcl.data.events.events import SOURCE, ModalityRule
from medmcl.data.events.meds import open_parquet
from medmcl.data.tables.files import read_table, texts


def choose_vocabulary(
    seen: Sighting, name: str, *, min_occurrences: int, min_patients: int
) -> Vocabulary:
    """Give the codes of a modality that occur often enough, in alphabetical order.

    Occurrences and patients are those in the data, before the window leaves anything out.

    Raises:
        CohortError: No code is left.
    """
    total = seen.codes.get(name, {})
    kept = sorted(c for c, (t, p) in total.items() if t >= min_occurrences and p >= min_patients)
    if not kept:
        raise CohortError(
            f"no code of modality {name} is left to count",
            got=f"{len(total)} codes in the data",
            expected=f"some with at least {min_occurrences} occurrences, {min_patients} patients",
            fix="correct the modality's prefix, column or source, or lower the limits under "
            "vocabulary",
        )
    return Vocabulary(tuple(kept))


def read_vocabulary(path: Path, version: str = "") -> Vocabulary:
    """Read a vocabulary: a table with a column ``code``, or a text file with a code a line."""
    if path.suffix == ".txt":
        if not path.is_file():
            raise CohortError("there is no such file", where=path)
        try:
            text = whole_bytes(path, "table", CohortError).decode("utf-8-sig")
            lines = map(str.strip, text.splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise CohortError(
                f"cannot be read: {error}", where=path,
                fix=encoding_fix(path) or "save it as UTF-8",
            ) from None  # fmt: skip
        return Vocabulary(tuple(line for line in lines if line), version)
    codes = texts(read_table(path.parent, path.name).require("code", "vocabulary"))
    return Vocabulary(tuple(code for code in codes if code is not None), version)


def refuse_shared_subjects(seen: Sighting) -> None:
    """Refuse a subject that is in two shards: their events would never meet.

    Raises:
        CohortError: Names the subject and both shards.
    """
    shards = list(seen.subjects)
    subject = np.concatenate([*seen.subjects.values(), np.zeros(0, dtype=np.int64)])
    shard = np.repeat(np.arange(len(shards)), [len(one) for one in seen.subjects.values()])
    order = np.argsort(subject, kind="stable")
    again = np.flatnonzero(subject[order][1:] == subject[order][:-1])
    if len(again):
        first, second = (shards[shard[order[again[0] + n]]] for n in (0, 1))
        raise CohortError(
            "a subject is in two shards",
            where=f"{first} and {second}",
            got=f"subject {subject[order][again[0]]}, among {len(again)}",
            expected="each subject in one shard only, as in MEDS",
            fix="convert with `medmcl cooccur to-meds`, which brings their rows together",
        )


log = logging.getLogger(__name__)
_SHOWN = 8


def refuse_unread(
    shards: Sequence[Path], reading: Reading, seen: Sighting, spec: Path, shared: Sequence[str]
) -> None:
    """Refuse an ``only`` that no event meets, and modalities that no event is of.

    Args:
        shards: Files of events.
        reading: What is asked for.
        seen: What was found of it.
        spec: The file that asks.
        shared: Modalities whose codes are those of a file that sites share. One of them may be
            empty at a site, with a warning, where two others are not.

    Raises:
        CohortError: Says what was asked for and which values occur.
    """
    tally = seen.tally
    read = tally.rows - tally.other_splits
    if reading.only is not None and read and tally.not_asked_for == read:
        raise _none(shards, reading.only, "`only` leaves out every event", f"{spec}, only")
    empty = [name for name in reading.modalities if not seen.codes.get(name)]
    for name in empty:
        if name in shared and len(reading.modalities) - len(empty) > 1:
            log.warning("no event is of modality %s: it is counted as zeros", name)
            continue
        raise _none(
            shards, reading.modalities[name], f"no event is of modality {name}",
            f"{spec}, modalities.{name}",
        )  # fmt: skip


def refuse_unlisted(seen: Sighting, vocabularies: Mapping[str, Vocabulary], spec: Path) -> None:
    """Refuse a vocabulary file that lists no code of those that occur.

    Raises:
        CohortError: Shows codes of both.
    """
    for name, words in vocabularies.items():
        there = seen.codes.get(name, {})
        if there and there.keys().isdisjoint(words.tokens):
            often = sorted(there, key=lambda code: (-there[code][0], code))
            raise CohortError(
                f"the vocabulary of modality {name} lists no code that occurs",
                where=f"{spec}, vocabulary.files.{name}",
                got=f"{len(there):,} codes in the data: {_listed(often)}",
                expected=f"codes as the file writes them: {_listed(words.tokens)}",
                fix="write codes in both alike, prefix and capitals included",
            )


def _none(shards: Sequence[Path], rule: ModalityRule, what: str, where: str) -> CohortError:
    asked, occurs = [], []
    for field, column, values in (
        (rule.column, rule.column, rule.values),
        ("source", SOURCE, rule.source),
    ):
        if values and field is not None and column is not None:
            asked.append(f"{field} is {' or '.join(values)}")
            occurs.append(f"{field}: {_listed(_values(shards, column))}")
    if rule.prefix or rule.not_prefix:
        asked += [f"prefix {' or '.join(rule.prefix)}"] if rule.prefix else []
        asked += [f"not_prefix {' or '.join(rule.not_prefix)}"] if rule.not_prefix else []
        occurs.append(f"codes: {_listed(_values(shards, 'code', heads=True))}")
    return CohortError(
        what,
        where=where,
        got=", ".join(asked),
        expected="values that occur; " + "; ".join(occurs),
        fix="write the value as it stands in the data, capitals included",
    )


def _values(shards: Sequence[Path], column: str, *, heads: bool = False) -> list[str]:
    """Values of a column, the most frequent first; of codes with ``//`` what stands before it."""
    found: Counter[str] = Counter()
    for path in shards:
        for batch in open_parquet(path).iter_batches(columns=[column]):
            for one in pc.value_counts(batch.column(0)).to_pylist():
                if one["values"] is not None:
                    text = str(one["values"])
                    head, sign, _ = text.partition("//")
                    found[head + sign if heads and sign else text] += one["counts"]
    return [value for value, _ in found.most_common()]


def _listed(values: Sequence[str]) -> str:
    more = f", … ({len(values):,} in all)" if len(values) > _SHOWN else ""
    return (", ".join(value[:60] for value in values[:_SHOWN]) or "none") + more
