"""Records of graphs: connectivity matrices, time series of regions, lists of edges."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np

from medmcl.core.contracts import RecordRef
from medmcl.core.errors import RecordError
from medmcl.modalities.graph.files import (
    Block,
    ending_of,
    read_block,
    read_frame,
    read_lines,
    row_of,
)
from medmcl.modalities.graph.settings import GraphSource
from medmcl.modalities.opening import as_text, kept, row_number

_EDGE_COLUMNS = ("source", "target", "weight")


@dataclass(frozen=True)
class Connectome:
    """A graph as it was read: weights of all pairs, or the series they are to be made of.

    Attributes:
        weights: (R, R) float64; None of time series.
        series: (T, R) float64; None of weights.
        names: Names of the regions, where the files give any.
    """

    weights: np.ndarray | None = None
    series: np.ndarray | None = None
    names: tuple[str, ...] | None = None

    @property
    def regions(self) -> int:
        """R."""
        shown = self.series if self.weights is None else self.weights
        assert shown is not None
        return int(shown.shape[1])


def read_connectome(source: GraphSource, place: RecordRef) -> Connectome:
    """Read one record.

    Raises:
        RecordError: A file is missing, damaged, of another shape, or does not say whose a row is.
    """
    path = place.paths.get("path")
    if path is None:
        fix = "name its path: in cohort.yaml"
        raise RecordError("has no file", where=place.where, fix=fix)
    listed = place.paths.get("regions")
    names = None if listed is None else read_lines(listed)
    if source.reader == "edge_list":
        return _from_edges(source, place, path, names)
    block = read_block(path, source.array, source.ids)
    values, names_there = _of_record(source, place, block, path)
    if source.reader == "timeseries":
        values = values if source.axes == "TR" else values.T
        names_there = names_there if source.axes == "TR" else None
        named = _one_naming(names, names_there, values.shape[1], path)
        return Connectome(series=np.array(values, dtype=np.float64), names=named)
    weights = values / source.divide_by if source.divide_by != 1 else values
    if source.layout == "matrix":
        weights = _square(np.asarray(weights, dtype=np.float64), path)
    else:
        weights, names_there = _unfold(np.asarray(weights), source, path), None
    return Connectome(weights=weights, names=_one_naming(names, names_there, len(weights), path))


def _of_record(
    source: GraphSource, place: RecordRef, block: Block, path: Path
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """The part of a file that is of one record."""
    ids = place.paths.get("ids")
    own = 1 if source.layout != "matrix" else 2
    values = block.values
    everybody = values.ndim == own + 1
    if everybody and own == 1 and len(values) == 1 and not (source.row or source.ids or ids):
        return np.asarray(values[0]), None  # a text file with one line
    if everybody and own == 1 and values.shape[1] == 1 and not (source.row or source.ids or ids):
        return np.asarray(values[:, 0]), None  # a text file with a number a line
    if not everybody and values.ndim != own:
        layout = "matrices" if own == 2 else "vectors"
        raise RecordError(
            "has axes that do not fit what cohort.yaml says", where=path,
            got=f"shape {values.shape}", expected=f"{own} axes, or {own + 1} with everybody's",
            fix=f"{layout} are read (layout: {source.layout}); name the array or the layout",
        )  # fmt: skip
    if not everybody:
        return np.asarray(values), block.names
    row = None
    if source.row is not None:
        row = row_number(place, source.row)
    return np.asarray(values[row_of(block, place.record, row, ids, path)]), None


def _square(weights: np.ndarray, path: Path) -> np.ndarray:
    if weights.shape[0] != weights.shape[1]:
        raise RecordError(
            "is no square matrix", where=path, got=f"{weights.shape[0]} x {weights.shape[1]}",
            expected="regions by regions",
            fix="of time series, say reader: timeseries; of vectors, say layout: upper",
        )  # fmt: skip
    return weights


def _unfold(vector: np.ndarray, source: GraphSource, path: Path) -> np.ndarray:
    """Make a symmetric matrix of a triangle without its diagonal; the diagonal is 1."""
    count = len(vector)
    regions = (1 + isqrt(1 + 8 * count)) // 2
    if regions * (regions - 1) // 2 != count:
        raise RecordError(
            "is no triangle of a matrix", where=path, got=f"{count} numbers",
            expected="R (R - 1) / 2, for example 19,900 of 200 regions",
        )  # fmt: skip
    weights = np.eye(regions)
    if source.layout == "upper":
        row, column = np.triu_indices(regions, 1)
    else:
        row, column = np.tril_indices(regions, -1)
    weights[row, column] = weights[column, row] = vector
    return weights


def _one_naming(
    listed: tuple[str, ...] | None, written: tuple[str, ...] | None, count: int, path: Path
) -> tuple[str, ...] | None:
    """Names of the regions: those that the file has itself, or else those of the list."""
    names = written or listed
    if names is None:
        return None
    if len(names) != count:
        raise RecordError(
            "has another number of regions than names", where=path, got=f"{count} regions",
            expected=f"{len(names)} names",
        )  # fmt: skip
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RecordError("names a region twice", where=path, got=twice)
    return names


def _from_edges(
    source: GraphSource, place: RecordRef, path: Path, listed: tuple[str, ...] | None
) -> Connectome:
    """Weights of the pairs that a table lists; a pair that it does not list has weight 0."""
    edges = _edges(path, source.ids).get(place.record if source.ids else "")
    if edges is None:
        raise RecordError(
            "has no edge of this record", where=path, fix="say with `present` who has it"
        )
    start, end, weight = edges
    names = listed or tuple(sorted({*start, *end}, key=region_order))
    number = {name: place for place, name in enumerate(names)}
    unknown = [name for name in (*start, *end) if name not in number]
    if unknown:
        raise RecordError(
            "has an edge of a region that the list of regions does not have", where=path,
            got=unknown[0], expected=f"{', '.join(names[:3])}, ...",
        )  # fmt: skip
    found = np.eye(len(names))
    seen: dict[tuple[int, int], float] = {}
    for one, other, value in zip(start, end, weight / source.divide_by, strict=True):
        i, j = number[one], number[other]
        if seen.setdefault((i, j), value) != value:
            raise RecordError("has two weights for one edge", where=path, got=f"{one}, {other}")
        found[i, j] = value
        if (j, i) not in seen:
            found[j, i] = value
    return Connectome(weights=found, names=names)


@kept(4)
def _edges(path: Path, ids: str | None) -> dict[str, tuple[Any, Any, np.ndarray]]:
    """Starts, ends and weights of every record of a table; one without a name if it has no ids."""
    if ending_of(path) in (".npy", ".npz"):
        raise RecordError("is no table of edges", where=path, expected="csv, tsv, txt or parquet")
    frame = read_frame(path, ids)
    lower = {str(name).strip().lower(): name for name in frame.columns}
    columns = [lower.get(name) for name in _EDGE_COLUMNS]
    if frame.columns.dtype.kind in "iu" and frame.shape[1] == 3 and ids is None:
        columns = list(frame.columns)
    if None in columns or (ids is not None and ids not in frame.columns):
        raise RecordError(
            "has not the columns of an edge list", where=path,
            got=", ".join(map(str, frame.columns[:8])),
            expected=", ".join([*([ids] if ids else []), *_EDGE_COLUMNS]),
        )  # fmt: skip
    source, target, weight = columns
    if frame[weight].dtype.kind not in "fiub":
        raise RecordError("column 'weight' does not hold numbers", where=path)
    groups = [("", frame)] if ids is None else list(frame.groupby(ids, sort=False))
    return {
        as_text(name): (
            tuple(map(as_text, part[source])),
            tuple(map(as_text, part[target])),
            part[weight].to_numpy(dtype=np.float64),
        )
        for name, part in groups
    }


def region_order(name: str) -> tuple[int, int, str]:
    """Whole numbers by size, other names by their letters."""
    return (0, int(name), "") if name.isdecimal() else (1, 0, name)
