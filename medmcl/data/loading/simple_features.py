"""Simple features of a modality by sample: what embeddings are compared with.

Numbers are measured on each raw record once and kept beside the prepared records. Nothing is
learned when they are read; `SimpleTable.matrix` learns from the rows it is given, train rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.atomic import file_aside
from medmcl.core.contracts import Adapter, RecordRef, SimpleFeatures
from medmcl.core.errors import ArtefactError
from medmcl.core.sealed import reading
from medmcl.core.split_guard import SplitGuard
from medmcl.data.loading.cache import entry_key
from medmcl.data.loading.prepare import Prepared, described
from medmcl.data.loading.reading import record_files
from medmcl.data.loading.simple_reading import FilledNumbers, SimpleReading, TermWeights
from medmcl.data.loading.worker_pool import each
from medmcl.modalities.outside import blamed

VERSION = 1  # of what the features of any kind mean; raise it when that changes


@dataclass(frozen=True, kw_only=True)
class SimpleTable:
    """What is plain to see of each sample, before anything is learned.

    Attributes:
        modality: Name of the modality.
        names: Names of the numbers, or the terms.
        values: (N, F) float64, NaN where a number cannot be told or the sample has no record; of
            terms, their counts as a sparse matrix.
        present: Whether a sample has a usable record in an open split. (N,) bool
        train: Rows of the train split that are present.
        sides: Which split the rows are in: nothing is learned from those of `held_out`.
    """

    modality: str
    names: tuple[str, ...]
    values: Any
    present: np.ndarray
    train: np.ndarray
    sides: SplitGuard | None = field(default=None, repr=False, compare=False)

    @property
    def has_terms(self) -> bool:
        """Whether these are counts of terms."""
        return not isinstance(self.values, np.ndarray)

    @property
    def untold(self) -> dict[str, int]:
        """Number to the count of samples that have a record, but not it; without zeros."""
        if self.has_terms:
            return {}
        counts = np.isnan(self.values[self.present]).sum(axis=0)
        return {name: int(n) for name, n in zip(self.names, counts, strict=True) if n}

    def note(self) -> str:
        """Say in a line what could not be told and what stands in; empty if all could."""
        untold = self.untold
        if not untold:
            return ""
        most = sorted(untold.items(), key=lambda pair: -pair[1])[:4]
        said = ", ".join(f"{name} {count}" for name, count in most)
        return (
            f"{self.modality}: {len(untold)} of {len(self.names)} numbers cannot be told in some "
            f"of {int(self.present.sum())} samples (most: {said}); the train mean and a flag "
            "stand in"
        )

    def learn(self, train: np.ndarray | None = None) -> SimpleReading:
        """Learn means, flags and weights from train rows.

        Numbers: the mean of train rows where one cannot be told, and a flag ``no NAME`` for each
        pattern of such gaps; numbers that no train row has are left out. Terms: see
        `medmcl.data.loading.simple_reading.TermWeights`.

        Args:
            train: Rows to learn from; default those of the train split.

        Raises:
            ArtefactError: No row to learn from.
            LeakageError: A row is of `held_out`, or its subject or record is.
        """
        rows = self.train if train is None else np.asarray(train, dtype=np.int64)
        if self.sides is not None and train is not None:
            self.sides.refuse_leak(rows, f"what {self.modality} features learn")
        rows = rows[self.present[rows]]
        if not len(rows):
            raise ArtefactError(
                f"no train sample has '{self.modality}': nothing to learn its features from"
            )
        learned: FilledNumbers | TermWeights
        if self.has_terms:
            learned = TermWeights.learn(self.values, self.names, rows)
        else:
            learned = FilledNumbers.learn(self.values, self.names, self.present, rows)
        return SimpleReading(modality=self.modality, learned=learned)

    def matrix(
        self, train: np.ndarray | None = None, *, reading: SimpleReading | None = None
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        """Give finite features (N, F) and their names; absent samples get the means, or zeros.

        Args:
            train: Rows to learn from, as in `learn`.
            reading: What was learned elsewhere; then nothing is learned here.
        """
        reading = self.learn(train) if reading is None else reading
        return reading.apply(self.values, self.names, self.present), reading.learned.columns


def simple_table(
    prepared: Prepared,
    modality: str,
    *,
    cache: Path | None = None,
    progress: Callable[[int], object] | None = None,
) -> SimpleTable | None:
    """Read the simple features of every usable record; None if the kind has none.

    Args:
        prepared: The cohort; rows of splits that are not open are absent.
        modality: Name of the modality, one of ``prepared.adapters``.
        cache: Folder of prepared records; numbers are kept there. None: measured anew.
        progress: Told how many records are read.
    """
    adapter = prepared.adapters[modality]
    if not isinstance(adapter, SimpleFeatures):
        return None
    places = list(prepared.cohort.records[modality]["place"])
    usable = prepared.usable(modality)
    path = None if cache is None else cache / f"simple-{_key(prepared, modality, places)}.npz"
    kept = None if path is None else _read(path, len(places))
    if kept is None:
        chosen = [place for place, fine in zip(places, usable, strict=True) if fine]
        found = _told(each(partial(_measured, adapter), chosen), progress)
        with blamed(adapter, "simple_features"):
            names, values = _stack(found, usable)
        if path is not None and isinstance(values, np.ndarray):
            _write(path, names, values)
    else:
        names, values = kept
    index = prepared.index(modality)
    present = (index >= 0) & np.isin(prepared.splits, prepared.opened)
    return SimpleTable(
        modality=modality,
        names=names,
        values=_by_sample(values, index, present),
        present=present,
        train=np.flatnonzero(present & (prepared.splits == "train")),
        sides=prepared.sides,
    )


Found = Mapping[str, float] | Sequence[str]


def _measured(adapter: Any, place: RecordRef) -> Found:
    raw = adapter.read(place)
    with blamed(adapter, "simple_features", place):
        found: Found = adapter.simple_features(raw)
    return found


def _told(found: Iterator[Found], progress: Callable[[int], object] | None) -> Iterator[Found]:
    for number, one in enumerate(found, start=1):
        yield one
        if progress is not None:
            progress(number)


def _stack(found: Iterable[Found], usable: np.ndarray) -> tuple[tuple[str, ...], Any]:
    """Names, and numbers (R, F) with NaN where not usable, or sparse counts of terms."""
    from scipy.sparse import csr_matrix

    names: tuple[str, ...] = ()
    rows: list[np.ndarray] = []
    numbers: dict[str, int] = {}
    terms: list[tuple[np.ndarray, np.ndarray]] = []
    for one in found:
        if isinstance(one, Mapping):
            names = names or tuple(one)
            if tuple(one) != names:
                raise RuntimeError("simple_features must give the same names for every record")
            rows.append(np.fromiter(one.values(), dtype=np.float64, count=len(names)))
        else:
            counts = Counter(one)
            places = [numbers.setdefault(term, len(numbers)) for term in counts]
            terms.append((np.array(places, np.int32), np.array([*counts.values()], np.float32)))
    if not terms:
        values = np.full((len(usable), len(names)), np.nan)
        if rows:
            values[usable] = np.stack(rows)
        values[np.isinf(values)] = np.nan
        return names, values
    lengths = np.zeros(len(usable) + 1, dtype=np.int64)
    lengths[1:][usable] = [len(one) for one, _ in terms]
    columns, counted = (np.concatenate(part) for part in zip(*terms, strict=True))
    shape = (len(usable), len(numbers))
    return tuple(numbers), csr_matrix((counted, columns, lengths.cumsum()), shape=shape)


def _by_sample(values: Any, index: np.ndarray, present: np.ndarray) -> Any:
    if isinstance(values, np.ndarray):
        full = np.full((len(index), values.shape[1]), np.nan)
        full[present] = values[index[present]]
        return full
    from scipy.sparse import csr_matrix

    rows = np.flatnonzero(present)
    pick = csr_matrix(
        (np.ones(len(rows), np.float32), (rows, index[rows])), (len(index), values.shape[0])
    )
    return pick @ values


def _key(prepared: Prepared, modality: str, places: Sequence[RecordRef]) -> str:
    adapter: Adapter = prepared.adapters[modality]
    said = described(prepared.cohort, modality, adapter)
    description = ["simple", VERSION, *said, adapter.state()]
    return entry_key(description, places, partial(record_files, adapter))


def _read(path: Path, count: int) -> tuple[tuple[str, ...], np.ndarray] | None:
    """Read kept numbers; None if there are none, or they are damaged, or of another file."""
    try:
        with reading(path), path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            names, values = tuple(map(str, kept["names"])), np.asarray(kept["values"])
            is_own = str(kept["of"]) == path.name and values.shape == (count, len(names))
    except ArtefactError:  # it is made anew
        return None
    return (names, values) if is_own else None


def _write(path: Path, names: tuple[str, ...], values: np.ndarray) -> None:
    try:
        with file_aside(path) as aside, aside.open("wb") as file:
            np.savez(file, names=np.array(names, dtype=str), values=values, of=path.name)
    except OSError as error:
        raise ArtefactError(f"the features cannot be kept: {error}", where=path.parent) from None
