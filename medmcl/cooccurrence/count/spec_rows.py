"""Patients' token counts from the events of a spec: the long table that a private release reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from medmcl.cooccurrence.count.command import events_of, reading_of
from medmcl.cooccurrence.count.counter import events_at_a_time
from medmcl.cooccurrence.count.counts import Vocabulary
from medmcl.cooccurrence.count.items import arrange
from medmcl.cooccurrence.count.reading import read_tokens
from medmcl.cooccurrence.count.run import Means, scan_shards
from medmcl.cooccurrence.count.spec import Spec
from medmcl.cooccurrence.count.tally import Tally
from medmcl.cooccurrence.count.uncounted import refuse_unread
from medmcl.cooccurrence.count.windows import parse_window
from medmcl.core.errors import ConfigError
from medmcl.data.events.events import starts

COLUMNS = ("subject", "modality", "code", "count")


def rows_of(spec: Spec, work: Path) -> tuple[pd.DataFrame, Tally]:
    """Count the tokens of each patient's whole record; every code that occurs, listed or not.

    Args:
        spec: What to count; its pairing and its rule on duplicates hold, its vocabulary does not.
        work: Folder for the events of sources that are not MEDS; it holds patients' records.

    Returns:
        A row a subject, modality and code, with the columns `COLUMNS`; and what was left out.

    Raises:
        ConfigError: The spec names no modality, or a window other than the whole record.
        CohortError: A source that cannot be used, or a modality that no event is of.
    """
    if not spec.keys.modalities:
        raise ConfigError("'modalities' is missing", where=spec.file)
    if spec.keys.window != "record":
        raise ConfigError(
            "rows are of whole records",
            where=spec.file,
            got=f"window {spec.keys.window}",
            expected="record",
            fix="--set window=record; for months or visits make the table yourself, with a column "
            "window (docs/cooccurrence_exchange.md); sliding windows (days:N) cannot be released "
            "privately",
        )
    dataset, _ = events_of(spec, work)
    reading = reading_of(spec, dataset)
    seen = scan_shards(dataset.shards, reading, Means(memory=spec.keys.memory))
    refuse_unread(dataset.shards, reading, seen, spec.file, ())
    words = {name: Vocabulary(tuple(sorted(seen.codes[name]))) for name in reading.modalities}
    window, rules = parse_window("record"), spec.keys.rules
    sizes, size = tuple(map(len, words.values())), events_at_a_time(spec.keys.memory)
    tally, frames = Tally(), []
    for shard in dataset.shards:
        for tokens in read_tokens(shard, reading, words, size, tally):
            chunk = arrange(
                tokens, sizes, window, distinct=rules.pairing == "distinct",
                drop_duplicates=rules.drop_duplicates, tally=tally,
            )  # fmt: skip
            # A whole record leaves no patient out, so the patients are those of the events.
            subjects = starts(tokens.subject)
            for (name, listed), items in zip(words.items(), chunk.modalities, strict=True):
                codes = np.array(listed.tokens, dtype=object)[items.token]
                owners = subjects[items.patient]
                frames.append(_frame(owners, name, codes, items.weight.astype(np.int64)))
    return pd.concat(frames, ignore_index=True), tally


def _frame(owners: np.ndarray, name: str, codes: np.ndarray, weights: np.ndarray) -> pd.DataFrame:
    values = (owners, np.full(len(owners), name, dtype=object), codes, weights)
    return pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))
