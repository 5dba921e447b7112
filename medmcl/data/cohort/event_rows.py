"""Which rows and columns of event shards a cohort reads: the others are never held in memory.

A MEDS data set has hundreds of millions of events, of which a cohort asks for some. Each shard is
read in pieces, of the columns that somebody reads; of a piece those rows stay of which some
expression (``present`` of a modality, ``where`` of a date) is true, or not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medmcl.core.errors import CohortError, damage
from medmcl.core.limits import refuse_large_parquet
from medmcl.data.cohort.locate import tables_named
from medmcl.data.cohort.spec import CohortSpec
from medmcl.data.events.meds import open_parquet
from medmcl.data.events.records import named_as_meds
from medmcl.data.expressions.expression import evaluate
from medmcl.data.expressions.syntax import columns_of
from medmcl.data.tables.files import read_file, tidy

PIECE = 1 << 18
"""Rows that are looked at together."""


@dataclass(frozen=True)
class EventRows:
    """What of a table of events is read.

    Attributes:
        columns: Columns that somebody names.
        asked: Expressions, whose columns are read too; None stands for all rows.
        codes: Columns that stay text as it stands.
    """

    columns: frozenset[str]
    asked: tuple[str | None, ...]
    codes: tuple[str, ...]

    @classmethod
    def of(cls, spec: CohortSpec, pattern: str, codes: tuple[str, ...]) -> EventRows | None:
        """Give what is read of a table; None where somebody reads it who is no reader of events."""
        keys = spec.keys
        ours = [named_as_meds(one) for one in spec.modalities.values() if one.keys.table == pattern]
        dates = [one for one in keys.subjects.dates.values() if one.table == pattern]
        plain = all(one.traits.records_from == "events" and not one.keys.join for one in ours)
        if not (ours or dates) or not plain or keys.missing or "{" in pattern:
            return None
        if sum(one == pattern for one in tables_named(keys.model_dump())) != len(ours) + len(dates):
            return None
        own = keys.subjects.id or "id"
        columns = {one.keys.id or own for one in ours} | {one.id or own for one in dates}
        columns |= {name for one in ours for name in (one.keys.date, *one.source_columns)
                    if name is not None}  # fmt: skip
        columns |= {name for one in dates for name in (one.date, one.value) if name is not None}
        asked = [*(one.keys.present for one in ours), *(one.where for one in dates)]
        return cls(frozenset(columns), tuple(dict.fromkeys(asked)), codes)

    def read(self, path: Path) -> pd.DataFrame:
        """Read what is asked for of one file.

        Raises:
            CohortError: It cannot be read.
        """
        if path.suffix != ".parquet":
            return read_file(path)
        file = open_parquet(path)
        names = pd.Index(file.schema_arrow.names)
        try:
            read = {name for one in self.asked if one for name in columns_of(one, names)}
        except CohortError:  # whoever asks it says what is wrong with it
            return read_file(path)
        if not self.columns <= set(names) or not names.is_unique:
            return read_file(path)
        refuse_large_parquet(path, error=CohortError)
        wanted = [name for name in names if name in self.columns | (read & set(names))]
        texts = [one.name for one in file.schema_arrow if str(one.type).endswith("string")]
        sure = read <= set(names) - (set(texts) - set(self.codes))
        parts = [frame[self._kept(frame)] if sure else frame
                 for frame in _pieces(path, file, wanted)]  # fmt: skip
        return pd.concat(parts, ignore_index=True) if parts else read_file(path)[wanted]

    def _kept(self, frame: pd.DataFrame) -> np.ndarray:
        """Rows of which an expression is true or not known, (N,) bool."""
        kept = np.zeros(len(frame), dtype=bool)
        for one in self.asked:
            if one is None:
                return np.ones(len(frame), dtype=bool)
            names = columns_of(one, frame.columns)
            try:
                if len(names) == 1 and names[0] in self.codes:
                    number, words = pd.factorize(frame[names[0]], use_na_sentinel=False)
                    said = evaluate(one, tidy(pd.DataFrame({names[0]: words}), self.codes))
                    kept |= (~said.known | said.data.astype(bool))[number]
                else:
                    said = evaluate(one, tidy(frame, self.codes))
                    kept |= ~said.known | said.data.astype(bool)
            except CohortError:  # of maps, or of columns of subjects: whoever asks it knows them
                return np.ones(len(frame), dtype=bool)
        return kept


def _pieces(path: Path, file: Any, columns: list[str]) -> Iterator[pd.DataFrame]:
    with damage(path, "cannot be read as a table", error=CohortError):
        for batch in file.iter_batches(batch_size=PIECE, columns=columns):
            batch.validate(full=True)  # text that is no UTF-8 shows here
            yield batch.to_pandas()[columns]
