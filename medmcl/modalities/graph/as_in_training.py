"""Whether weights of another cohort are of the scale, and in the order, that training had."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medmcl.core.findings import Finding
from medmcl.modalities.graph.build import fisher_z
from medmcl.modalities.graph.readers import Connectome
from medmcl.modalities.graph.settings import GraphSource

OTHER_SCALE = 10.0
"""Times the size of training from which weights are told as of another unit."""
EDGES = 500
"""Pairs of regions whose mean weight is kept, evenly spaced over all."""
ALIKE, BETTER = 0.3, 0.3
"""Correlation of mean weights of pairs with those of training where vectors are read the other way,
and how much above that of how they are read now (in Fisher z), from which that is told."""
TRIANGLES = {"upper": (np.triu_indices, 1, "lower"), "lower": (np.tril_indices, -1, "upper")}


@dataclass(frozen=True)
class UsualWeights:
    """What weights of many records are like: sums over people, no row of anybody.

    Attributes:
        size: Median over records of the median size of an edge that is there.
        regions: R of the records.
        edges: Mean weight of some pairs of regions, in the order of the records; see `EDGES`.
    """

    size: float
    regions: int
    edges: tuple[float, ...]

    def about(self) -> dict[str, Any]:
        """All, as JSON takes it."""
        return {"size": self.size, "regions": self.regions, "edges": list(self.edges)}

    @classmethod
    def read(cls, kept: Mapping[str, Any] | None) -> UsualWeights | None:
        """Read back what `about` gave; None of a run that did not keep it."""
        if not kept:
            return None
        return cls(float(kept["size"]), int(kept["regions"]), tuple(kept["edges"]))


@dataclass
class WeightSums:
    """What `UsualWeights` is made of, a record at a time."""

    sizes: list[float] = field(default_factory=list)
    regions: int = 0
    edges: np.ndarray | float = 0.0

    def add(self, weights: np.ndarray) -> None:
        """Count weights (R, R), all of one R; one without an edge passes."""
        self.regions = len(weights)
        edges = np.nan_to_num(weights[np.triu_indices(len(weights), 1)], posinf=0.0, neginf=0.0)
        there = np.abs(edges[edges != 0])
        if len(there):
            some = np.unique(np.linspace(0, len(edges) - 1, min(len(edges), EDGES)).round())
            self.sizes.append(float(np.median(there)))
            self.edges = self.edges + edges[some.astype(np.int64)]

    @property
    def usual(self) -> UsualWeights | None:
        """What they are like; None of none with an edge."""
        if not self.sizes:
            return None
        edges = np.atleast_1d(self.edges) / len(self.sizes)
        size = _rounded(np.median(self.sizes))
        return UsualWeights(size, self.regions, tuple(map(_rounded, edges)))


def unlike_training(
    raws: Iterable[Connectome], source: GraphSource, usual: UsualWeights
) -> list[Finding]:
    """Compare records with those of training: another unit, or the other triangle."""
    own, turned = WeightSums(), WeightSums()
    for one in raws:
        if one.weights is not None and one.regions == usual.regions:
            own.add(one.weights)
            if source.layout in TRIANGLES:
                turned.add(read_otherwise(one.weights, source.layout))
    here, otherwise = own.usual, turned.usual
    if here is None:
        return []
    found = []
    times = here.size / usual.size
    if not 1 / OTHER_SCALE < times < OTHER_SCALE:
        divide_by = source.divide_by * 10.0 ** round(float(np.log10(times)))
        what = (
            f"half of the weights are below {here.size:.3g}, of training below {usual.size:.3g}: "
            "another unit?"
        )
        fix = f"if so, write in cohort.yaml modalities.NAME.divide_by: {divide_by:g}"
        found.append(_warning("other_scale", what, fix))
    if otherwise is not None:
        *_, other = TRIANGLES[source.layout]
        now, then = _likeness(here, usual), _likeness(otherwise, usual)
        if then >= ALIKE and fisher_z(np.array(then)) - fisher_z(np.array(now)) >= BETTER:
            what = (
                f"read as layout: {source.layout}, regions are connected otherwise than in "
                f"training (r = {now:.2f}); as layout: {other} alike (r = {then:.2f})"
            )
            fix = f"write in cohort.yaml modalities.NAME.layout: {other}"
            found.append(_warning("other_layout", what, fix))
    return found


def other_measure(here: str, training: str) -> list[Finding]:
    """Tell weights that are of another measure than those of training; one of none is none."""
    if here == training:
        return []
    what = f"the weights are of measure: {here}, those of training of measure: {training}"
    fix = (
        f"write the files as {training}, or, if that is what they hold, write in cohort.yaml "
        f"modalities.NAME.measure: {training}"
    )
    return [_warning("other_measure", what, fix)]


def read_otherwise(weights: np.ndarray, layout: str) -> np.ndarray:
    """Lay the vector that was read as one triangle out as the other one. (R, R)."""
    indices, offset, other = TRIANGLES[layout]
    turn, back, _ = TRIANGLES[other]
    found = np.zeros_like(weights)
    row, column = turn(len(weights), back)
    found[row, column] = found[column, row] = weights[indices(len(weights), offset)]
    return found


def _likeness(one: UsualWeights, other: UsualWeights) -> float:
    x, y = np.array(one.edges), np.array(other.edges)
    if len(x) < 3 or not x.std() or not y.std():
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def _rounded(number: Any) -> float:
    return float(f"{float(number):.4g}")


def _warning(code: str, what: str, fix: str) -> Finding:
    return Finding(code=f"graph.{code}", where="all", what=what, fix=fix, level="warning")
