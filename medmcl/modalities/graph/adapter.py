"""Graphs of fixed regions: brains as regions and how strongly their signals go together.

A prepared record holds weights; thresholds, signs and node features are made when a row is shown to
an encoder, so that a view that cuts edges cuts them in the features too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from medmcl.core.batch import InputShape
from medmcl.core.config import Config
from medmcl.core.contracts import RecordRef
from medmcl.core.errors import ConfigError, RecordError
from medmcl.core.findings import Finding
from medmcl.core.rng import RowGenerator
from medmcl.core.shown import ShownImage
from medmcl.modalities.graph.as_in_training import (
    UsualWeights,
    WeightSums,
    other_measure,
    unlike_training,
)
from medmcl.modalities.graph.build import connectivity, fisher_z, window_starts
from medmcl.modalities.graph.checks import Atlas, graph_findings, silent_regions, uneven_sizes
from medmcl.modalities.graph.readers import Connectome, read_connectome, region_order
from medmcl.modalities.graph.settings import GraphAugment, GraphSettings, GraphSource

if TYPE_CHECKING:
    from torch import Tensor

_WIDTHS = {"strength": 2, "degree": 2, "local_degree": 5}
_ONE = "every record needs one atlas"


class Graph:
    """Graphs between regions of a brain; see `medmcl.core.contracts.Adapter`.

    A raw record is a `Connectome`.

    The cohort's atlas is that of most train records (of edge lists: every region that one of them
    names); records that name their regions are brought into its order.
    """

    kind: ClassVar[str] = "graph"
    measured: ClassVar[bool] = True
    Source: ClassVar[type[Config]] = GraphSource
    Settings: ClassVar[type[Config]] = GraphSettings
    Augment: ClassVar[type[Config]] = GraphAugment

    inspects_fitted: ClassVar[bool] = True  # whether a record has another number of regions
    of_many: ClassVar[tuple[str, ...]] = ("row", "ids")

    def __init__(self, source: GraphSource, settings: GraphSettings) -> None:
        self.source, self.settings = source, settings
        self._fitted = False
        self._usual: UsualWeights | None = None
        self._is_given = False  # learned elsewhere: see load_state
        self._measure = source.measure  # of training
        self._atlas = Atlas(count=source.regions or 0)
        is_series = source.reader == "timeseries"
        if not is_series and (settings.estimate != "pearson" or settings.windows):
            raise ConfigError(
                "these graphs are read as weights: there is no time series to make them of",
                got=f"estimate {settings.estimate}, windows {settings.windows}",
                fix="leave out estimate and windows, or read reader: timeseries",
            )
        if settings.fisher_z and source.measure not in ("correlation", "partial_correlation"):
            raise ConfigError(
                "fisher_z is of correlations", got=f"measure: {source.measure}",
                fix="leave out fisher_z",
            )  # fmt: skip

    def read(self, place: RecordRef) -> Connectome:
        """Weights or time series of a record.

        Raises:
            RecordError: A file is missing, damaged, of another shape, or not of this record.
        """
        return read_connectome(self.source, place)

    def inspect(self, raw: Connectome, place: RecordRef) -> list[Finding]:
        """Symmetry, NaN, bounds, silent regions, number and names of regions, length, emptiness."""
        where = f"subject {place.subject}, record {place.record}"
        return graph_findings(raw, self.source, self._atlas, where)

    def show(self, raw: Connectome) -> ShownImage:
        """The matrix of weights, regions in the order of the atlas."""
        weights, _ = self.weights(raw)
        count = len(weights)
        return ShownImage(pixels=weights, note=f"weights of {count} by {count} regions")

    def inspect_together(self, raws: Iterable[Connectome]) -> list[Finding]:
        """Records of different numbers of regions; elsewhere, weights unlike those of training.

        Another measure than that of training among them.
        """
        if self._is_given:
            found = other_measure(self.source.measure, self._measure)
            if self._usual is not None:
                found += unlike_training(raws, self.source, self._usual)
            return found
        grows = self.source.reader == "edge_list"
        return [] if self._fitted or grows else uneven_sizes(raws)

    def fit(self, raws: Iterable[Connectome]) -> None:
        """Learn the atlas, number and names of the regions, and usual weights of train records."""
        atlases: Counter[tuple[int, tuple[str, ...] | None]] = Counter()
        sums: dict[tuple[int, tuple[str, ...] | None], WeightSums] = defaultdict(WeightSums)
        for raw in raws:
            atlases[raw.regions, raw.names] += 1
            if raw.weights is not None:
                sums[raw.regions, raw.names].add(raw.weights)
        self._fitted, self._is_given, self._usual = True, False, None
        self._measure = self.source.measure
        grows = self.source.reader == "edge_list"
        if not atlases:
            self._atlas = Atlas(count=self.source.regions or 0, grows=grows)
            return
        (count, names), _ = min(atlases.items(), key=lambda one: (-one[1], one[0][0]))
        self._usual = None if grows else sums[count, names].usual
        if grows:
            every = dict.fromkeys(name for _, some in atlases for name in some or ())
            names = max((some or () for _, some in atlases), key=len)
            names = names if set(names) == set(every) else tuple(sorted(every, key=region_order))
            count = len(names)
        self._atlas = Atlas(count=count, names=names, grows=grows)

    @property
    def atlas(self) -> Atlas:
        """The regions of the cohort; known after `fit`."""
        if not self._fitted:
            raise RuntimeError("fit or load_state comes before prepare and input_shape")
        return self._atlas

    def prepare(self, raw: Connectome) -> np.ndarray:
        """Presence and weights of the regions, (1 + windows, R, 1 + R) float32.

        Column 0 is 1 where a region is there; weights of absent regions and of the diagonal are 0.
        The first matrix is that of the whole record, the others are of parts of its series.

        Raises:
            RecordError: The record does not fit the atlas.
        """
        row = np.zeros(self.prepared_shape, dtype=np.float32)
        for place, part in enumerate(self._parts(raw)):
            weights, there = self.weights(part)
            row[place, :, 0] = there
            row[place, :, 1:] = weights
        return row

    def _parts(self, raw: Connectome) -> Iterator[Connectome]:
        yield raw
        if raw.series is None:
            return
        length = len(raw.series)
        width = max(2, round(self.settings.window * length))
        for start in window_starts(length, width, self.settings.windows):
            yield Connectome(series=raw.series[start : start + width], names=raw.names)

    def weights(self, raw: Connectome) -> tuple[np.ndarray, np.ndarray]:
        """Weights in the order of the atlas (R, R), 0 on the diagonal, and who is there (R,) bool.

        Raises:
            RecordError: The record does not fit the atlas.
        """
        places = self.atlas.places(raw)
        fits = raw.regions == self.atlas.count or self.atlas.grows
        if places is None or not fits:
            raise RecordError(
                "does not fit the regions of the cohort", got=f"{raw.regions} regions",
                expected=f"{self.atlas.count}" if self.atlas.count else "a sound train record",
                fix=_ONE,
            )  # fmt: skip
        there = ~silent_regions(raw, self.source)
        if raw.series is not None:
            own = np.zeros((raw.regions, raw.regions))
            inner = connectivity(raw.series[:, there], self.settings.estimate)
            own[np.ix_(there, there)] = inner
        else:
            assert raw.weights is not None
            own = np.where(there[:, None] & there, raw.weights, 0.0)
        np.fill_diagonal(own, 0.0)
        own = (own + own.T) / 2
        own = fisher_z(own) if self.settings.fisher_z else own
        weights = np.zeros((self.atlas.count, self.atlas.count))
        weights[np.ix_(places, places)] = own
        present = np.full(self.atlas.count, self.atlas.grows)
        present[places] = there
        return weights, present

    def simple_features(self, raw: Connectome) -> dict[str, float]:
        """Every edge (``a~b``), or mean positive and negative weight of each region (``a+``)."""
        weights, there = self.weights(raw)
        names = self.atlas.names or tuple(f"region {place}" for place in range(len(there)))
        weights = np.where(there[:, None] & there, weights, np.nan)
        if self.settings.simple == "edges":
            row, column = np.triu_indices(len(names), 1)
            values = weights[row, column].tolist()
            return {
                f"{names[i]}~{names[j]}": value
                for i, j, value in zip(row.tolist(), column.tolist(), values, strict=True)
            }
        others = max(int(there.sum()) - 1, 1)
        found = {}
        for sign, mark in ((1, "+"), (-1, "-")):
            sums = np.nansum(np.maximum(sign * weights, 0.0), axis=1) / others
            for name, value, known in zip(names, sums.tolist(), there, strict=True):
                found[f"{name}{mark}"] = value if known else float("nan")
        return found

    @property
    def prepared_shape(self) -> tuple[int, ...]:
        """(1 + windows, R, 1 + R)."""
        count = self.atlas.count
        return (1 + self.settings.windows, count, 1 + count)

    @property
    def input_shape(self) -> InputShape:
        """(R, 1 + C·R + F): presence, edges of C channels, features; `medmcl.core.graph_rows`."""
        count = self.atlas.count
        channels = 2 if self.settings.signs == "split" else 1
        features = sum(_WIDTHS.get(name, count) for name in self.settings.nodes)
        return InputShape(
            kind=self.kind,
            shape=(count, 1 + channels * count + features),
            names=self.atlas.names or (),
            channels=channels,
        )

    def plain(self, x: Tensor) -> Tensor:
        """Graphs of whole records, (B, R, 1 + C·R + F)."""
        from medmcl.core.graph_rows import pack
        from medmcl.modalities.graph.build import build_graphs

        weights, present = _taken(x[:, 0])
        return pack(build_graphs(weights, present, self.settings))

    def augment(self, x: Tensor, options: GraphAugment, generator: RowGenerator) -> Tensor:
        """Show a part of the series, add noise, take out regions and cut edges.

        Raises:
            ConfigError: A part is asked for and none was prepared.
        """
        import torch

        from medmcl.core.graph_rows import pack
        from medmcl.modalities.graph.build import build_graphs

        if options.window and not self.settings.windows:
            raise ConfigError(
                "a view shows parts of the time series, and none are prepared",
                got=f"window {options.window:g}, windows 0",
                fix="say how many in the recipe's inputs: windows: 4",
            )

        rows, count = len(x), x.shape[2]
        which = (
            (1 + generator.uniform(rows) * self.settings.windows).long().clamp(max=x.shape[1] - 1)
        )
        which = torch.where(generator.uniform(rows) < options.window, which, 0)
        weights, present = _taken(x[torch.arange(rows, device=x.device), which])
        present = present & (generator.uniform(rows, count) >= options.node_dropout)
        if options.noise:
            noise = generator.normal(rows, count, count).triu(1)
            there = weights != 0
            weights = weights + options.noise * (noise + noise.transpose(1, 2)) * there
        cut = (generator.uniform(rows, count, count) < options.edge_dropout).triu(1)
        return pack(build_graphs(weights, present, self.settings, cut | cut.transpose(1, 2)))

    def state(self) -> dict[str, Any]:
        """The atlas, and of what measure and like what weights are."""
        names = None if self.atlas.names is None else list(self.atlas.names)
        usual = {} if self._usual is None else {"usual": self._usual.about()}
        measure = {} if self.source.reader == "timeseries" else {"measure": self._measure}
        return {"regions": self.atlas.count, "names": names, **measure, **usual}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        names = None if state["names"] is None else tuple(state["names"])
        grows = self.source.reader == "edge_list"
        self._atlas, self._fitted = Atlas(int(state["regions"]), names, grows), True
        self._usual, self._is_given = UsualWeights.read(state.get("usual")), True
        self._measure = state.get("measure", self.source.measure)


def _taken(x: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (B, R, R) and presence (B, R) bool of prepared matrices (B, R, 1 + R)."""
    return x[..., 1:].float(), x[..., 0] > 0.5
