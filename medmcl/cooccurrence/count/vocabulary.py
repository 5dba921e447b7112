"""Which codes are counted: those seen often enough, or those of a file that all sites share."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medmcl.cooccurrence.count.counts import Vocabulary
from medmcl.cooccurrence.count.reading import Sighting
from medmcl.core.errors import CohortError
from medmcl.core.plain_text import encoding_fix
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
            lines = map(str.strip, path.read_text(encoding="utf-8-sig").splitlines())
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
