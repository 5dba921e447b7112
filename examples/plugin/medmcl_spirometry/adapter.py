"""Forced expirations: litres blown out over time, from a CSV file a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field, PositiveFloat
from torch import Tensor

from medmcl.core.batch import InputShape
from medmcl.core.config import Config
from medmcl.core.contracts import RecordRef
from medmcl.core.errors import RecordError
from medmcl.core.findings import Finding
from medmcl.core.rng import RowGenerator

MOST_LITRES = 9.0
"""More than anybody's lungs hold."""


class SpirometrySource(Config):
    """What a cohort says of its expirations."""

    reader: Literal["spirometry"]
    time: str = Field(default="seconds", description="column with the time")
    volume: str = Field(default="litres", description="column with what was blown out by then")
    factor: str | None = Field(
        default=None, description="column of the people's table: litres that a unit of volume is"
    )

    def named_cells(self) -> list[str]:
        """Say which cells of a record's row `read` needs: `place.values` holds them."""
        return [] if self.factor is None else [self.factor]


class SpirometrySettings(Config):
    """How a recipe prepares them."""

    seconds: PositiveFloat = Field(default=6.0, description="from the start; shorter ones hold on")
    rate_hz: PositiveFloat = Field(default=25.0, description="samples a second")


class SpirometryAugment(Config):
    """How a view disturbs them."""

    effort: float = Field(default=0.0, ge=0, lt=1, description="scale by up to this share")


class Spirometry:
    """Forced expirations: volume over time; see `medmcl.core.contracts.Adapter`.

    A prepared row is (1, T): flow in litres a second, scaled by what train people have.
    """

    kind: ClassVar[str] = "spirometry"
    measured: ClassVar[bool] = True
    Source: ClassVar[type[Config]] = SpirometrySource
    Settings: ClassVar[type[Config]] = SpirometrySettings
    Augment: ClassVar[type[Config]] = SpirometryAugment

    def __init__(self, source: SpirometrySource, settings: SpirometrySettings) -> None:
        self.source, self.settings = source, settings
        self.mean, self.deviation = 0.0, 1.0

    def read(self, place: RecordRef) -> pd.DataFrame:
        """Read time and volume.

        Raises:
            RecordError: No table, or without the two columns; the cell of the factor is no number.
        """
        path = place.paths["path"]
        try:
            table = pd.read_csv(path)
        except (OSError, ValueError) as error:
            raise RecordError(f"cannot be read as CSV: {error}", where=path) from None
        wanted = {self.source.time: "seconds", self.source.volume: "litres"}
        if not {*wanted} <= {*table.columns}:
            raise RecordError(
                "has not the columns of an expiration",
                where=path,
                got=", ".join(map(str, table.columns)),
                expected=" and ".join(wanted),
                fix="name them under the modality: time: COLUMN, volume: COLUMN",
            )
        table = table.rename(columns=wanted)[["seconds", "litres"]].astype(float)
        if self.source.factor is not None:
            factor = place.values[self.source.factor]
            if not isinstance(factor, int | float):
                raise RecordError("has no factor", where=path, got=factor, expected="a number")
            table["litres"] *= factor
        return table

    def inspect(self, raw: pd.DataFrame, place: RecordRef) -> list[Finding]:
        """Gaps, air breathed in again, and volumes in millilitres."""
        where = f"subject {place.subject}, record {place.record}"
        if not np.isfinite(raw.to_numpy()).all():
            return [Finding(code="spirometry.nan", where=where, what="values are missing",
                            fix="leave the record out")]  # fmt: skip
        if raw["litres"].max() > MOST_LITRES:
            what = f"{raw['litres'].max():g} litres are more than lungs hold"
            return [Finding(code="spirometry.units", where=where, what=what,
                            fix="write litres, not millilitres")]  # fmt: skip
        if not raw["seconds"].is_monotonic_increasing:
            return [Finding(code="spirometry.time", where=where, what="time goes backwards",
                            fix="sort the rows by time")]  # fmt: skip
        return []

    def fit(self, raws: Iterable[pd.DataFrame]) -> None:
        """Learn mean and deviation of the flow from train people."""
        flows = [self._flow(raw) for raw in raws]
        self.mean, self.deviation = float(np.mean(flows)), float(np.std(flows)) or 1.0

    def prepare(self, raw: pd.DataFrame) -> np.ndarray:
        """Give the flow at ``rate_hz`` over ``seconds``, scaled, (1, T) float32."""
        return ((self._flow(raw) - self.mean) / self.deviation)[None].astype(np.float32)

    def _flow(self, raw: pd.DataFrame) -> np.ndarray:
        times = np.arange(self.prepared_shape[1] + 1) / self.settings.rate_hz
        return np.diff(np.interp(times, raw["seconds"], raw["litres"])) * self.settings.rate_hz

    @property
    def prepared_shape(self) -> tuple[int, int]:
        """(1, T)."""
        return 1, round(self.settings.seconds * self.settings.rate_hz)

    @property
    def input_shape(self) -> InputShape:
        """What an encoder sees: one channel over time."""
        return InputShape(kind=self.kind, shape=self.prepared_shape, names=("flow",))

    def plain(self, x: Tensor) -> Tensor:
        """Give the rows as they are, (B, 1, T)."""
        return x

    def augment(self, x: Tensor, options: SpirometryAugment, generator: RowGenerator) -> Tensor:
        """Scale each row by 1 ± ``effort``."""
        drawn = generator.uniform(len(x), 1, 1)
        return x * (1 + options.effort * (2 * drawn - 1))

    def simple_features(self, raw: pd.DataFrame) -> dict[str, float]:
        """What a spirometer prints, in litres: the baseline that embeddings must beat."""
        litres = np.interp([1.0, self.settings.seconds], raw["seconds"], raw["litres"])
        return {"fev1": litres[0], "fvc": litres[1], "ratio": litres[0] / max(litres[1], 1e-6)}

    def state(self) -> dict[str, Any]:
        """What `fit` learned."""
        return {"mean": self.mean, "deviation": self.deviation}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        self.mean, self.deviation = float(state["mean"]), float(state["deviation"])
