"""A stage: the mean flow of train people, kept beside the run as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from typing_extensions import override

from medmcl.core.errors import ConfigError
from medmcl.data.loading.prepare import Prepared
from medmcl.evaluation.protocol.evidence import FittedOn
from medmcl.stages.recipe.resolve_modalities import refuse_unread
from medmcl.stages.stage import Check, Context, Plan, Stage, StageSpec

FEWEST = 10
"""People behind a mean that may leave the machine."""


class MeanCurveSpec(StageSpec):
    """Keep the mean curve of train people."""

    stage: Literal["mean_curve"]
    modality: str

    @override
    def checks(self, plan: Plan) -> Iterable[Check]:
        """Refuse a modality that the recipe does not read, before any record is read."""
        yield partial(refuse_unread, [self.modality], plan.recipe, f"stage {self.name}, modality")

    @override
    def fitted(self, cohort: str, done: Mapping[str, Any], wrong: str = "") -> list[FittedOn]:
        """Say in the leakage ledger whose curves the mean is of."""
        what = f"mean curve of stage {self.name}"
        return [FittedOn(what=what, splits=("train",), rows=done.get("rows"), note=f"of {cohort}")]


class MeanCurve(Stage[MeanCurveSpec]):
    """Average the prepared rows of people in ``train``."""

    Settings = MeanCurveSpec
    by_first_rank = True

    @override
    def dry_run(self, prepared: Prepared, context: Context) -> None:
        """Refuse a mean over few people."""
        people = len(np.unique(prepared.subjects[self._rows(prepared)]))
        if people < FEWEST:
            raise ConfigError(
                "a mean over so few people could show one of them",
                where=f"stage {self.spec.name}",
                got=people,
                expected=f"{FEWEST} or more with {self.spec.modality} in train",
            )

    @override
    def run(self, prepared: Prepared, context: Context) -> dict[str, Any]:
        """Write ``mean_curve.csv`` into the stage's own folder; give the facts for the record."""
        rows = self._rows(prepared)
        batch = prepared.batch(rows, modalities=(self.spec.modality,))
        mean = batch.inputs[self.spec.modality].mean(dim=0).flatten().numpy()
        path = context.run.checkpoints(self.spec.name).folder / "mean_curve.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({"sample": np.arange(len(mean)), "mean": mean}).to_csv(path, index=False)
        context.record.say(f"{self.spec.name}: the mean of {len(rows)} train records")
        return {"rows": len(rows)}

    def _rows(self, prepared: Prepared) -> np.ndarray:
        return prepared.rows("train", (self.spec.modality,))
