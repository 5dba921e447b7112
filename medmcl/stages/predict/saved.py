"""What a run keeps beside its probes so that one person can be predicted, and told from strangers.

Horizons of survival tasks, baseline hazards of fine-tuned heads, models of competing events, and
where the train people lie (`medmcl.evaluation.protocol.reach`): ``prediction.json`` of the run,
and arrays
beside it. No row of anybody.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from medmcl.core.contracts import traits
from medmcl.core.errors import ArtefactError
from medmcl.core.sealed import reading
from medmcl.data.cohort.spec import UNITS_PER_YEAR
from medmcl.data.loading.prepare import Prepared
from medmcl.evaluation.models.competing import EventFree
from medmcl.evaluation.models.contract import KeptModel, read_model
from medmcl.evaluation.models.cox_model import Baseline
from medmcl.evaluation.protocol.evaluate import TaskEvaluation
from medmcl.evaluation.protocol.predicted import Curves
from medmcl.evaluation.protocol.reach import RATE, ColumnReach, EmbeddingReach, read_reach
from medmcl.evaluation.protocol.setting import Setting
from medmcl.stages.run.features import Cells
from medmcl.stages.run.run import Run
from medmcl.stages.run.store import refuse_schema

if TYPE_CHECKING:
    from medmcl.stages.evaluate.task_scoring import TaskScoring

log = logging.getLogger("medmcl")
SCHEMA = "medmcl/prediction@1"
FILE = "prediction"
COLUMNS = "columns"
VECTORS = "vectors"
LENGTH = "length of the vector"
"""Stands behind the columns of vectors in what is kept of their ranges."""
Reach = EmbeddingReach | ColumnReach


@dataclass(kw_only=True)
class KeptPrediction:
    """What a run keeps for predictions.

    Attributes:
        horizons: Survival task to its horizons: in years, and in the unit of the task.
        heads: (task, name of a fine-tuned model) to its baseline hazard.
        rivals: (task, method) to the model of the competing event.
        competing: Survival tasks in which other events compete.
        reach: (method, modality) to where its train embeddings lie; (`COLUMNS`, table) to ranges;
            (name of given vectors, `VECTORS`) to theirs, and that of their `LENGTH`.
    """

    horizons: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = field(default_factory=dict)
    heads: dict[tuple[str, str], Baseline] = field(default_factory=dict)
    rivals: dict[tuple[str, str], KeptModel] = field(default_factory=dict)
    reach: dict[tuple[str, str], Reach] = field(default_factory=dict)
    competing: set[str] = field(default_factory=set)

    def add_task(self, task: str, done: TaskEvaluation) -> None:
        """Take what an evaluation of a task found."""
        if done.setting is not None and done.setting.horizons is not None:
            self.horizons[task] = horizon_years(done.setting), done.setting.horizons.times
            if done.setting.targets.competing is not None:
                self.competing.add(task)
        for method, fitted in done.models.items():
            curves = fitted.survival
            if isinstance(curves, EventFree) and curves.other.model is not None:
                self.rivals[task, method] = curves.other.model

    def add_head(self, task: str, label: str, curves: object) -> None:
        """Take the baseline hazard of a fine-tuned model; nothing where it has none."""
        if isinstance(curves, Curves):
            self.heads[task, label] = curves.baseline

    def add_reach(self, scoring: TaskScoring) -> None:
        """Learn where the train people lie, in every embedding and in the covariates."""
        scene, sources = scoring.scene, scoring.sources
        spec, prepared = scene.spec, scene.prepared
        people, splits = prepared.subjects, prepared.splits
        train, tuning = splits == "train", splits == "tuning"
        if spec.probe is not None:
            for method in spec.probe.models:
                several = sources.fused.get(method)
                vectors = {str(spec.probe.modality): sources.embeddings[method]}
                vectors = vectors if several is None else dict(several.vectors)
                rate = RATE / len(vectors)  # of all of them together
                for name, x in vectors.items():
                    has = sources.present[method] if several is None else several.present[name]
                    rows = np.flatnonzero(train & has), np.flatnonzero(tuning & has)
                    found = EmbeddingReach.learn(x, *rows, people, rate=rate, seed=scene.seed)
                    if found is not None:
                        self.reach[method, name] = found
                    self._add_ranges(name, prepared, scene.seed)
        for name, columns in sources.columns.items():
            both = np.flatnonzero((train | tuning) & sources.present[name])
            given = with_length(sources.embeddings[name])
            names = (*columns, LENGTH)
            ranges = ColumnReach.learn(given, names, both, people, seed=scene.seed)
            if ranges is not None:
                self.reach[name, VECTORS] = ranges
        covariates = sources.covariates
        if covariates is not None and spec.covariates is not None:
            both = np.flatnonzero((train | tuning) & covariates.present)
            cells = covariates.cells
            ranges = ColumnReach.learn(cells.numbers, cells.columns, both, people, seed=scene.seed)
            if ranges is not None:
                self.reach[COLUMNS, spec.covariates] = ranges

    def _add_ranges(self, table: str, prepared: Prepared, seed: int) -> None:
        """Learn the ranges of a table that an encoder reads; nothing of another kind."""
        adapter = prepared.adapters.get(table)
        if adapter is None or not traits(adapter).tabular or (COLUMNS, table) in self.reach:
            return
        is_seen = np.isin(prepared.splits, ("train", "tuning"))
        rows = np.flatnonzero(prepared.present[table] & is_seen)
        cells = Cells.of_table(prepared, table)
        found = ColumnReach.learn(cells.numbers, cells.columns, rows, prepared.subjects, seed=seed)
        if found is not None:
            self.reach[COLUMNS, table] = found

    def save(self, run: Run) -> None:
        """Write it into the run, beside what other evaluate stages of it kept.

        Where that is damaged, this is written anew: a run that goes on comes by each of them.
        """
        try:
            kept = load_prediction(run)
        except ArtefactError as error:
            log.warning("%s: %s; written anew", error.where, error.what)
            kept = KeptPrediction()
        for name in ("horizons", "heads", "rivals", "reach", "competing"):
            getattr(kept, name).update(getattr(self, name))
        arrays: dict[str, np.ndarray] = {}
        about: dict[str, Any] = {
            "schema": SCHEMA,
            "horizons": {task: [list(one) for one in both] for task, both in kept.horizons.items()},
            "competing": sorted(kept.competing),
            "heads": [],
            "rivals": [],
            "reach": [],
        }
        for number, ((task, label), baseline) in enumerate(kept.heads.items()):
            about["heads"].append({"task": task, "method": label})
            arrays[f"heads.{number}.times"] = baseline.times
            arrays[f"heads.{number}.curve"] = baseline.log_cumulative
        for number, ((task, method), model) in enumerate(kept.rivals.items()):
            about["rivals"].append({"task": task, "method": method, "link": model.link})
            arrays |= {f"rivals.{number}.{name}": one for name, one in model.arrays().items()}
        for number, ((method, modality), reach) in enumerate(kept.reach.items()):
            about["reach"].append({"method": method, "modality": modality, "is": reach.about()})
            arrays |= {f"reach.{number}.{name}": one for name, one in reach.arrays().items()}
        run.save_arrays(FILE, arrays)
        run.save_tree(FILE, about)


def with_length(vectors: np.ndarray) -> np.ndarray:
    """Set the length of vectors (N, E) beside them: it tells another scale. (N, E + 1)."""
    return np.column_stack([vectors, np.linalg.norm(vectors, axis=1)])


def horizon_years(setting: Setting) -> tuple[float, ...]:
    """Horizons of a survival task in years; of one without a unit as they are."""
    found = setting.horizons
    if found is None or found.suffix == "y":
        return () if found is None else found.years
    per_year = UNITS_PER_YEAR.get(setting.targets.unit, 1.0)
    return tuple(time / per_year for time in found.times)


def load_prediction(run: Run) -> KeptPrediction:
    """Read what a run keeps for predictions; nothing where it was made without.

    Raises:
        ArtefactError: A file is damaged, or gone.
    """
    if not run.keeps(FILE):
        return KeptPrediction()
    about = run.tree(FILE)
    with reading(run.path / f"{FILE}.json"):
        refuse_schema(about, SCHEMA)
        return _read(about, run.arrays(FILE) or {})


def _read(about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> KeptPrediction:
    def of(part: str, number: int) -> dict[str, np.ndarray]:
        start = f"{part}.{number}."
        return {k.removeprefix(start): one for k, one in arrays.items() if k.startswith(start)}

    kept = KeptPrediction(
        horizons={
            task: (tuple(years), tuple(times)) for task, (years, times) in about["horizons"].items()
        },
        competing=set(about["competing"]),
    )
    for number, one in enumerate(about["heads"]):
        curve = of("heads", number)
        kept.heads[one["task"], one["method"]] = Baseline(curve["times"], curve["curve"])
    for number, one in enumerate(about["rivals"]):
        model = read_model(one["link"], of("rivals", number))
        kept.rivals[one["task"], one["method"]] = model
    for number, one in enumerate(about["reach"]):
        kept.reach[one["method"], one["modality"]] = read_reach(one["is"], of("reach", number))
    return kept
