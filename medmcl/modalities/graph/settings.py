"""What a cohort says of its graphs, and how a recipe prepares and disturbs them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from medmcl.core.config import Config, Probability

NodeFeature = Literal["profile", "strength", "degree", "local_degree", "identity"]


class GraphSource(Config):
    """What a cohort says of its graphs.

    Files may have names: ``path: {path: "fc/{id}.csv", regions: atlas.txt, ids: ids.txt}``; a line
    of ``regions`` is the name of a region, a line of ``ids`` the record of a row.
    """

    reader: Literal["connectivity", "timeseries", "edge_list"]
    measure: Literal["correlation", "fisher_z", "partial_correlation", "other"] = "correlation"
    """what the weights of files are: correlations lie in [-1, 1]; other has no bounds (streamlines,
    distances)"""
    layout: Literal["matrix", "upper", "lower"] = "matrix"
    """connectivity: whole matrices, or a vector of the upper or lower triangle without the
    diagonal, row by row (numpy's triu_indices(R, 1), tril_indices(R, -1))"""
    axes: Literal["TR", "RT"] = "TR"
    """timeseries: time by regions, or regions by time"""
    array: str | None = None
    """npz: name of the array"""
    row: str | None = None
    """an array or table that holds everybody: column of your table with the number of the row, from
    0"""
    ids: str | None = None
    """instead: array of the npz, or column of the file, that says whose a row is"""
    divide_by: PositiveFloat = 1.0
    """stored numbers are so many times the weights (127 for int8)"""
    regions: Annotated[int, Field(ge=3)] | None = None
    """number of regions every record must have"""
    min_frames: Annotated[int, Field(ge=3)] = 50
    """timeseries: a record with fewer time points is a fault"""
    absent_regions: Literal["refuse", "mask"] = "refuse"
    """a region without signal is a fault of the record, or it is masked and told"""

    @model_validator(mode="after")
    def _check(self) -> GraphSource:
        if self.row is not None and self.ids is not None:
            raise ValueError("name either row or ids, not both")
        if self.row is not None and self.reader == "edge_list":
            raise ValueError("an edge list has several rows a record: name ids, not row")
        if self.layout != "matrix" and self.reader != "connectivity":
            raise ValueError("layout belongs to the reader connectivity")
        if self.axes != "TR" and self.reader != "timeseries":
            raise ValueError("axes belong to the reader timeseries")
        if self.reader == "timeseries" and self.measure != "correlation":
            raise ValueError(
                "time series have no weights yet: how they are made of them is said in the recipe "
                "(inputs: estimate)"
            )
        return self


class GraphSettings(Config):
    """How a recipe turns a record into a graph. Self-loops are always removed.

    Source: node features and proportional thresholds as in Cui et al. 2022 (BrainGB, arXiv
    2204.07054); ``local_degree`` after Cai & Wang 2018 (arXiv 1811.03508).
    """

    estimate: Literal["pearson", "ledoit_wolf", "partial"] = "pearson"
    """timeseries: correlation; of a covariance shrunk after Ledoit & Wolf; partial correlation of
    that covariance"""
    fisher_z: bool = False
    """weights are artanh of the correlations"""
    min_weight: PositiveFloat | None = None
    """keep edges whose weight is at least this, by absolute value"""
    density: Annotated[float, Field(gt=0, le=1)] | None = None
    """keep this share of all pairs of regions, the strongest"""
    neighbours: PositiveInt | None = None
    """keep edges that are among so many strongest of either end"""
    signs: Literal["signed", "split", "absolute", "positive"] = "signed"
    """one channel of signed weights; two of positive and of negative ones, both as magnitudes; one
    of magnitudes; or negative ones left out"""
    nodes: tuple[NodeFeature, ...] = ("profile",)
    """features of a region: weights of all its pairs before the threshold; mean positive and
    negative weight; share of positive and negative edges; degree with least, largest, mean and
    deviation among neighbours; which region it is"""
    windows: Annotated[int, Field(ge=0)] = 0
    """timeseries: parts of the series that are also prepared, for views"""
    window: Annotated[float, Field(gt=0, lt=1)] = 0.7
    """share of the time points that such a part has"""
    simple: Literal["edges", "strength"] = "edges"
    """what the plain baseline reads: every edge, R (R - 1) / 2 numbers a record, or mean positive
    and negative weight of each region"""

    @model_validator(mode="after")
    def _check(self) -> GraphSettings:
        given = [n for n in ("min_weight", "density", "neighbours") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ValueError(f"one threshold at most: {' or '.join(given)}")
        if len(set(self.nodes)) < len(self.nodes):
            raise ValueError("a node feature stands twice")
        return self


class GraphAugment(Config):
    """How a view disturbs a graph.

    Source: edge and node dropping as in You et al. 2020 (GraphCL, arXiv 2010.13902). Differs: an
    edge that is dropped is dropped in both directions and in the features made of it, and none is
    added.
    """

    edge_dropout: Probability = 0.1
    """share of pairs whose edge is cut"""
    node_dropout: Probability = 0.0
    """share of regions taken out"""
    noise: Annotated[float, Field(ge=0)] = 0.0
    """deviation of normal noise added to weights, alike both ways"""
    window: Probability = 0.0
    """share of rows that show a part of their time series instead"""
