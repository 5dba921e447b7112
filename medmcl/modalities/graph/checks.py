"""What can be wrong with a graph: shape, symmetry, bounds, regions without signal, names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from medmcl.core.findings import LEAVE_OUT, Finding, counted, record_finding
from medmcl.modalities.graph.build import constant_columns
from medmcl.modalities.graph.readers import Connectome
from medmcl.modalities.graph.settings import GraphSource

SYMMETRY = 1e-4
"""Largest difference between the two weights of a pair, as a share of the largest weight."""
BEYOND = 1e-6
"""How far rounding may take a correlation out of [-1, 1]."""
UNIT = 1e-3
"""How far the diagonal of a correlation matrix may lie from 1 (or 0)."""
FEWEST = 3
"""Regions that a graph needs."""


@dataclass(frozen=True)
class Atlas:
    """The regions of a cohort, in their order.

    Attributes:
        count: R; 0 while nobody knows.
        names: Their names, where records have any.
        grows: Whether a record may leave out regions without an edge (edge lists do).
    """

    count: int = 0
    names: tuple[str, ...] | None = None
    grows: bool = False

    def places(self, raw: Connectome) -> np.ndarray | None:
        """Where the regions of a record stand in the atlas, (R of the record,); None if unknown."""
        if raw.names is None or self.names is None:
            return np.arange(raw.regions) if raw.regions == self.count else None
        number = {name: place for place, name in enumerate(self.names)}
        if any(name not in number for name in raw.names):
            return None
        return np.array([number[name] for name in raw.names], dtype=np.int64)


def silent_regions(raw: Connectome, source: GraphSource) -> np.ndarray:
    """Regions without signal, (R,) bool: series that do not vary, rows of NaN or of zeros.

    A row of zeros is a region without edges where weights have no bounds, and in an edge list.
    """
    if raw.series is not None:
        gone = np.isnan(raw.series).all(axis=0) & (len(raw.series) > 0)
        return np.asarray(gone | constant_columns(raw.series))
    assert raw.weights is not None
    pairs = ~np.eye(raw.regions, dtype=bool)
    unknown = (~np.isfinite(raw.weights) | ~pairs).all(axis=1)
    if source.reader == "edge_list" or source.measure == "other":
        return np.asarray(unknown)
    zero = ((raw.weights == 0) | ~pairs).all(axis=1)
    return np.asarray(unknown | (zero if not zero.all() else False))


def graph_findings(raw: Connectome, source: GraphSource, atlas: Atlas, where: str) -> list[Finding]:
    """Everything that is wrong with one record, as read."""
    silent = silent_regions(raw, source)
    found = [*_regions(raw, atlas), *_silence(raw, silent, source)]
    if raw.series is not None:
        found += _series(raw.series[:, ~silent], source)
    elif raw.weights is not None:
        found += _weights(raw.weights[np.ix_(~silent, ~silent)], source)
    return [replace(one, where=where) for one in found]


def uneven_sizes(raws: Iterable[Connectome]) -> list[Finding]:
    """Say that records have different numbers of regions."""
    sizes = np.array([raw.regions for raw in raws], dtype=np.int64)
    if len(np.unique(sizes)) < 2:
        return []
    values, counts = np.unique(sizes, return_counts=True)
    most = int(values[counts.argmax()])
    others = ", ".join(str(size) for size in values if size != most)
    what = f"{int((sizes != most).sum())} of {len(sizes)} records read have {others} regions"
    fix = f"use one atlas for everybody, and say modalities.NAME.regions: {most}"
    return [record_finding("graph", "regions", "all", f"{what}, the others {most}", fix, "warning")]


def _fault(
    code: str, what: str, fix: str, *, level: Literal["error", "warning"] = "error"
) -> Finding:
    return record_finding("graph", code, "", what, fix, level)


def _regions(raw: Connectome, atlas: Atlas) -> Iterator[Finding]:
    """Too few regions, another number than the cohort's, unknown names, another order."""
    if raw.regions < FEWEST and not atlas.grows:
        yield _fault(
            "regions",
            f"has {counted(raw.regions, 'region')}, a graph needs {FEWEST}",
            "look at the axes and at which array is read",
        )
    if atlas.count == 0 or (atlas.grows and atlas.places(raw) is not None):
        return
    by_name = raw.names is not None and atlas.names is not None
    places = atlas.places(raw)
    if by_name and places is None:
        unknown = sorted(set(raw.names or ()) - set(atlas.names or ()))
        yield _fault(
            "names",
            f"{counted(len(unknown), 'region')} that the cohort does not have: "
            f"{', '.join(unknown[:3])}",
            "name regions alike for everybody, from one atlas",
        )
    if raw.regions != atlas.count and not atlas.grows:
        hint = ""
        if raw.series is not None and len(raw.series) == atlas.count:
            hint = "; are the axes exchanged (axes: RT)?"
        yield _fault(
            "regions",
            f"has {raw.regions} regions, the cohort {atlas.count}",
            f"use one atlas for everybody{hint}",
        )
    elif places is not None and not atlas.grows and (places != np.arange(atlas.count)).any():
        yield _fault(
            "order",
            "names the regions in another order than the cohort; they are brought into its order",
            "nothing, if the names are right",
            level="warning",
        )


def _silence(raw: Connectome, silent: np.ndarray, source: GraphSource) -> Iterator[Finding]:
    count = int(silent.sum())
    if not count:
        return
    names = raw.names or tuple(f"number {place}" for place in range(raw.regions))
    shown = ", ".join(names[place] for place in np.flatnonzero(silent)[:3])
    masked = source.absent_regions == "mask" and raw.regions - count >= FEWEST
    what = f"{counted(count, 'region')} without signal (constant, or all NaN): {shown}"
    yield _fault(
        "constant",
        what + ("; masked" if masked else ""),
        "nothing, if that is meant"
        if masked
        else "look at the registration and the field of view; or mask such regions: "
        f"absent_regions: mask{LEAVE_OUT}",
        level="warning" if masked else "error",
    )


def _series(series: np.ndarray, source: GraphSource) -> Iterator[Finding]:
    """Gaps and length of time series (T, R) that vary."""
    bad = ~np.isfinite(series)
    if bad.any():
        yield _fault(
            "nan",
            f"NaN or infinite: {counted(int(bad.sum()), 'value')} of "
            f"{counted(int(bad.any(axis=0).sum()), 'region')}",
            "fill or cut these time points before, for all regions alike" + LEAVE_OUT,
        )
    if len(series) < source.min_frames:
        yield _fault(
            "short",
            f"has {len(series)} time points, fewer than {source.min_frames}",
            "correlations of so few points are noise: lower modalities.NAME.min_frames if that is "
            "meant" + LEAVE_OUT,
        )


def _weights(weights: np.ndarray, source: GraphSource) -> Iterator[Finding]:
    """Gaps, symmetry, bounds and emptiness of weights (R, R); the diagonal is no edge."""
    pairs = ~np.eye(len(weights), dtype=bool)
    finite = np.isfinite(weights)
    bad = int((~finite & pairs).sum())
    if bad:
        yield _fault(
            "nan",
            f"NaN or infinite: {counted(bad, 'weight')}",
            "look at how the matrix was made; an edge that is not there is 0" + LEAVE_OUT,
        )
    edges = np.where(finite & pairs, weights, 0.0)
    yield from _asymmetry(edges, finite & finite.T & pairs)
    yield from _bounds(edges, np.diag(weights), source)
    values = edges[finite & pairs]
    unbounded = source.measure == "other" or source.reader == "edge_list"
    is_empty = not values.any()
    if len(values) and (is_empty or (np.ptp(values) == 0 and not unbounded)):
        yield _fault(
            "empty",
            "has no edge: every weight off the diagonal is 0"
            if is_empty
            else f"every edge has the same weight, {values[0]:g}",
            "look at how the matrix was made" + LEAVE_OUT,
        )


def _asymmetry(edges: np.ndarray, known: np.ndarray) -> Iterator[Finding]:
    apart = np.where(known, np.abs(edges - edges.T), 0.0)
    largest = float(np.abs(edges).max(initial=0.0))
    if float(apart.max(initial=0.0)) > SYMMETRY * largest:
        i, j = (int(place) for place in np.unravel_index(apart.argmax(), apart.shape))
        count = int((apart > SYMMETRY * largest).sum()) // 2
        yield _fault(
            "asymmetric",
            f"{counted(count, 'pair')} with two weights, for example {edges[i, j]:.4g} and "
            f"{edges[j, i]:.4g} (tolerance {SYMMETRY:g} of the largest weight)",
            "graphs are undirected here: write (A + A.T) / 2, if that is what is meant",
        )


def _bounds(edges: np.ndarray, diagonal: np.ndarray, source: GraphSource) -> Iterator[Finding]:
    if source.measure not in ("correlation", "partial_correlation"):
        return
    beyond = np.abs(edges) > 1 + BEYOND
    if beyond.any():
        worst = edges.flat[np.abs(edges).argmax()]
        yield _fault(
            "range",
            f"{counted(int(beyond.sum()), 'weight')} outside [-1, 1], the furthest {worst:.4g}",
            "are these Fisher z (measure: fisher_z), stored as whole numbers (divide_by: 127), or "
            "no correlations (measure: other)?",
        )
        return
    told = diagonal[np.isfinite(diagonal)]
    if len(told) and (np.minimum(np.abs(told - 1), np.abs(told)) > UNIT).any():
        yield _fault(
            "diagonal",
            f"the diagonal is neither 1 nor 0, for example {told[np.abs(told - 1).argmax()]:.4g}",
            "is this a covariance? Correlations are covariances over both deviations",
            level="warning",
        )
