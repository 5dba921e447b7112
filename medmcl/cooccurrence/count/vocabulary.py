"""Which codes are counted: those seen often enough, or those of a file that all sites share.

A spec by which nothing would be counted is refused: what it asks for, and what there is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from medmcl.cooccurrence.count.counts import Vocabulary
from medmcl.cooccurrence.count.reading import Reading, Sighting
from medmcl.core.errors import CohortError
from medmcl.core.findings import first_of
from medmcl.core.plain_text import text_lines
from medmcl.data.events.events import ModalityRule
from medmcl.data.events.spelling import spelt_otherwise, spelt_twice, told
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
        lines = map(str.strip, text_lines(path, "table", CohortError))
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


def refuse_unread(reading: Reading, seen: Sighting, spec: Path, shared: Sequence[str]) -> None:
    """Refuse an ``only`` that no event meets, and modalities that no event is of.

    Args:
        reading: What is asked for.
        seen: What was found of it.
        spec: The file that asks.
        shared: Modalities whose codes are those of a file that sites share. One of them may be
            empty at a site, with a warning, where two others are not.

    Raises:
        CohortError: Says what was asked for.
    """
    tally = seen.tally
    read = tally.rows - tally.other_splits
    if reading.only is not None and read and tally.not_asked_for == read:
        raise _none(reading.only, "`only` leaves out every event", f"{spec}, only")
    empty = [name for name in reading.modalities if not seen.codes.get(name)]
    for name in empty:
        if name in shared and len(reading.modalities) - len(empty) > 1:
            log.warning("no event is of modality %s: it is counted as zeros", name)
            continue
        rule, place = reading.modalities[name], f"{spec}, modalities.{name}"
        raise _none(rule, f"no event is of modality {name}", place)


def refuse_unlisted(seen: Sighting, vocabularies: Mapping[str, Vocabulary], spec: Path) -> None:
    """Refuse a vocabulary file that lists no code of those that occur.

    Codes that it lists but for their spelling are left out with a warning; so is one said of codes
    that are counted in two spellings.

    Raises:
        CohortError: Shows codes of both.
    """
    for name, words in vocabularies.items():
        there = seen.codes.get(name, {})
        often = sorted(there, key=lambda code: (-there[code][0], code))
        if there and there.keys().isdisjoint(words.tokens):
            raise CohortError(
                f"the vocabulary of modality {name} lists no code that occurs",
                where=f"{spec}, vocabulary.files.{name}",
                got=f"{len(there):,} codes in the data: {first_of(code[:60] for code in often)}",
                expected="codes as the file writes them: "
                + (first_of(code[:60] for code in words.tokens) or "it has none"),
                fix="write codes in both alike, prefix and capitals included",
            )
        listed = set(words.tokens)
        if twice := spelt_twice(code for code in often if code in listed):
            log.warning(
                "%s events of modality %s have codes that others have in another spelling, and "
                "count as other codes: %s",
                f"{sum(there[code][0] for code in twice):,}", name, told(twice),
            )  # fmt: skip
        if meant := spelt_otherwise(often, words.tokens):
            log.warning(
                "%s events of modality %s are left out: the vocabulary has their codes, but spelt "
                "otherwise: %s",
                f"{sum(there[code][0] for code in meant):,}", name, told(meant),
            )  # fmt: skip


def _none(rule: ModalityRule, what: str, where: str) -> CohortError:
    asked = rule.model_dump(mode="json", exclude_defaults=True)
    return CohortError(
        what,
        where=where,
        got=", ".join(f"{key} {one}" for key, one in asked.items()),
        fix="write what is asked for as it stands in the data, capitals included",
    )
