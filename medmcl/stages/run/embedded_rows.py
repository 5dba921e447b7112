"""Rows that name subjects, and where their records stand in a table of embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from medmcl.core.errors import CohortError, ConfigError
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.tables.files import as_text


def read_rows(X: Any, id_column: str) -> pd.DataFrame:
    """Read rows of subject ids, and record ids if there are any, as text.

    Args:
        X: See `MedMCLEmbedder.transform`.
        id_column: Name of the subject column in cohort.yaml.

    Raises:
        ConfigError: If X does not say which subjects.
    """
    frame = _as_frame(X, id_column)
    for name in frame.columns:
        blank = int(frame[name].isna().sum())
        if blank:
            raise ConfigError(f"{blank} rows have no {name} id", fix="leave these rows out")
    return pd.DataFrame(
        {str(name): [as_text(cell) for cell in frame[name]] for name in frame.columns}
    )


def _as_frame(X: Any, id_column: str) -> pd.DataFrame:
    """A table with the column ``subject`` and perhaps ``record``."""
    if isinstance(X, pd.Series):
        return X.to_frame("subject").reset_index(drop=True)
    if isinstance(X, pd.DataFrame):
        levels = [name for name in X.index.names if name is not None]
        flat = X.reset_index([n for n in levels if n not in X.columns]).reset_index(drop=True)
        for name in ("subject", id_column):
            if name in flat.columns:
                kept = [name, *(["record"] if "record" in flat.columns else [])]
                return flat[kept].rename(columns={name: "subject"})
        if X.shape[1] == 1:
            return X.set_axis(["subject"], axis=1).reset_index(drop=True)
        raise ConfigError(
            "the rows do not say which subjects they are",
            got=f"columns {', '.join(map(str, X.columns))}",
            expected=f"a column 'subject' or '{id_column}', or one column",
        )
    array = np.asarray(X, dtype=object)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] not in (1, 2):
        raise ConfigError(
            "an array of ids has one column (subject) or two (subject, record)", got=array.shape
        )
    return pd.DataFrame(array, columns=["subject", "record"][: array.shape[1]])


def find_rows(
    rows: pd.DataFrame, table: pd.DataFrame, cohort: Cohort, several: str
) -> list[np.ndarray]:
    """Find the records of each row in a table of embeddings: none, one, or several to average.

    Raises:
        CohortError: For subjects or records that the cohort does not have, or several records.
    """
    known = set(map(str, cohort.subjects.index))
    strange = [subject for subject in dict.fromkeys(rows["subject"]) if subject not in known]
    if strange:
        raise CohortError(
            f"{len(strange)} subjects are not in the cohort",
            where=f"cohort {cohort.name}",
            got=", ".join(strange[:5]),
            expected=f"ids like {', '.join(sorted(known)[:3])}",
        )
    if "record" in rows:
        owned = table.groupby(level=["subject", "record"]).indices
        pairs = list(zip(rows["subject"], rows["record"], strict=True))
        lost = [pair for pair in dict.fromkeys(pairs) if pair not in owned]
        if lost:
            raise CohortError(
                f"{len(lost)} records are not in the cohort",
                where=f"cohort {cohort.name}",
                got=", ".join(f"{subject}/{record}" for subject, record in lost[:5]),
            )
        return [np.asarray(owned[pair]) for pair in pairs]
    owned = table.groupby(level="subject").indices
    places = [np.asarray(owned.get(name, []), dtype=np.int64) for name in rows["subject"]]
    crowded = [s for s, found in zip(rows["subject"], places, strict=True) if len(found) > 1]
    if crowded and several == "raise":
        raise CohortError(
            f"{len(set(crowded))} subjects have several records",
            where=f"cohort {cohort.name}",
            got=", ".join(list(dict.fromkeys(crowded))[:5]),
            fix="give X a column 'record', or MedMCLEmbedder(..., several='mean')",
        )
    return places


def reasons_of(places: list[np.ndarray], table: pd.DataFrame, modality: str) -> np.ndarray:
    """Give ``ok`` where a row has an embedding, otherwise why not. (N,) object."""
    quality = table["quality"].to_numpy()
    reasons = np.full(len(places), f"no {modality} record", dtype=object)
    for row, found in enumerate(places):
        if len(found):
            states = quality[found]
            reasons[row] = "ok" if (states == "ok").any() else states[0]
    return reasons


def mean_of(places: list[np.ndarray], vectors: np.ndarray) -> np.ndarray:
    """Give the mean of each row's embeddings that exist, NaN if none does. (N, E)."""
    owner = np.repeat(np.arange(len(places)), [len(found) for found in places])
    number = np.concatenate([*places, np.zeros(0, dtype=np.int64)]).astype(np.int64)
    usable = np.isfinite(vectors[number]).all(axis=1)
    owner, number = owner[usable], number[usable]
    total = np.zeros((len(places), vectors.shape[1]))
    np.add.at(total, owner, vectors[number])
    count = np.bincount(owner, minlength=len(places))[:, None]
    found = total / np.maximum(count, 1)
    return np.where(count > 0, found, np.nan).astype(np.float32)
