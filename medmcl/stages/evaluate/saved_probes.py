"""Probes that a run keeps, so that another cohort can be scored without fitting anything on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medmcl.core.errors import ArtefactError
from medmcl.core.sealed import reading
from medmcl.core.targets import Targets
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.simple_reading import SimpleReading
from medmcl.evaluation.models.competing import NO_RIVAL, event_free
from medmcl.evaluation.models.contract import KeptModel, read_model
from medmcl.evaluation.models.strength import said_alike
from medmcl.evaluation.protocol.evaluate import TaskEvaluation
from medmcl.evaluation.protocol.evidence import Applied, FittedOn
from medmcl.evaluation.protocol.predicted import Given
from medmcl.evaluation.protocol.results import COVARIATES
from medmcl.evaluation.protocol.subsets import LabelCounts
from medmcl.stages.evaluate.spec import EvaluateSpec, ProbeSpec
from medmcl.stages.run.features import READING
from medmcl.stages.run.run import Run
from medmcl.stages.run.store import refuse_schema

FOLDER = "probes"
SIMPLE = f"{FOLDER}/simple_features"
SCHEMA = "medmcl/probe@1"
SIMPLE_SCHEMA = "medmcl/simple-features@1"


@dataclass(frozen=True, kw_only=True)
class SavedProbe:
    """A probe as it was fitted on a run's own cohort.

    Attributes:
        task: Task it was fitted for.
        method: Name in the table.
        protocol: How it was fitted.
        model: Its arrays.
        about: Kind, columns, classes and unit of the task; modality, space, stage; the penalty
            chosen; the cohort, what it was fitted on and whose labels it had; what could have told
            its encoder the outcome.
    """

    task: str
    method: str
    protocol: str
    model: KeptModel
    about: Mapping[str, Any]

    def differs(self, targets: Targets) -> str:
        """Say what a task of another cohort asks otherwise; empty where a probe fits it."""
        said = self.about
        run, here = (
            {
                "kind": kind,
                "columns": ", ".join(columns),
                "classes": ", ".join(map(str, classes)) or "none",
                "unit": unit or "none",
            }
            for kind, columns, classes, unit in (
                (said["kind"], said["columns"], said["classes"], said["unit"]),
                (targets.kind, targets.columns, targets.classes, targets.unit),
            )
        )
        return ", ".join(
            f"{name} (run: {run[name]}, here: {here[name]})"
            for name in run
            if run[name] != here[name]
        )

    def predict(self, features: np.ndarray, rival: KeptModel | None = None) -> Given:
        """Predict every row of features (N, E), nothing fitted.

        Args:
            features: As those it was fitted on.
            rival: What the run keeps of the competing event, where events compete.

        Raises:
            ArtefactError: The features are not as wide as those it was fitted on.
        """
        if features.shape[1] != self.model.width:
            raise ArtefactError(
                f"the kept probe of '{self.method}' reads other features",
                got=f"{features.shape[1]} columns",
                expected=self.model.width,
                fix="evaluate --probe refit fits it on a cohort with outcomes; predict takes "
                "another --method",
            )
        model, labels = self.model, self.about.get("labels")  # runs made before kept no count
        curves = event_free(model, rival) if model.has_curves else None
        return Given(
            values=model.predict(features),
            survival=None if curves is None else lambda times: curves(features, times),
            is_absolute=rival is not None or NO_RIVAL in self.about["notes"],
            protocol=f"{self.protocol}, frozen",
            fitted=(self.ledger_line(),),
            notes=(
                "the probe is the one of the run: nothing was fitted on this cohort",
                *said_alike(self.about["notes"]),
            ),
            counts=None if labels is None else LabelCounts(**labels),
            told=tuple(self.about.get("told", ())),
        )

    def ledger_line(self) -> FittedOn:
        """What it was fitted on."""
        on = self.about["fitted_on"]
        return FittedOn(
            what=f"{self.protocol}, kept in the run",
            splits=tuple(on["splits"]),
            subjects=on["subjects"],
            rows=on["rows"],
            task=self.task,
            method=self.method,
            labels=True,
            note=f"of the cohort {self.about['cohort']}",
        )


def save_probes(
    run: Run,
    cohort: Cohort,
    targets: Targets,
    done: TaskEvaluation,
    probe: ProbeSpec | None,
    covariates: str | None = None,
) -> None:
    """Keep the fitted probes of a task in the run, arrays as safetensors beside JSON.

    Probes that hold people's rows (kNN) are not kept. ``covariates``: the modality of plain
    columns, if there is one.
    """
    labels = None if done.setting is None else asdict(done.setting.counts_beside())
    told = {one.method: list(one.told) for one in done.tables}
    for number, (method, fitted) in enumerate(done.models.items()):
        if fitted.model is None:
            continue
        lines = [one for one in done.fitted if one.method == method and one.task == targets.name]
        fits = [one for one in lines if "standardisation" in one.what and one.use == "fit"]
        on = max(fits, key=lambda one: one.rows or 0, default=None)  # all labels, not a share
        about = {
            "schema": SCHEMA,
            "task": targets.name,
            "kind": targets.kind,
            "columns": list(targets.columns),
            "classes": [str(name) for name in targets.classes],
            "unit": targets.unit,
            "method": method,
            "protocol": on.what.removesuffix(" and its standardisation") if on else "probe",
            **_read_by(method, probe, covariates),
            "link": fitted.model.link,
            "chosen": list(fitted.chosen),
            "notes": list(fitted.notes),
            "thresholds": dict(done.thresholds),
            "cohort": cohort.name,
            "cohort_fingerprint": cohort.fingerprint,
            "fitted_on": {
                "splits": list(on.splits) if on else ["train"],
                "subjects": on.subjects if on else None,
                "rows": on.rows if on else None,
            },
            "labels": labels,
            "told": told.get(method, []),
        }
        name = f"{FOLDER}/{targets.name}.{number}"
        run.save_arrays(name, fitted.model.arrays())
        run.save_tree(name, about)


def _read_by(method: str, probe: ProbeSpec | None, covariates: str | None) -> dict[str, Any]:
    """Say from which stage, modality and space the features of a method are."""
    if method == COVARIATES or probe is None:
        modality = covariates if method == COVARIATES else ""
        return {"stage": "", "modality": modality, "fusion": "", "space": ""}
    return {
        "stage": probe.models.get(method, ""),
        "modality": probe.modality if isinstance(probe.modality, str) else [*probe.modality],
        "fusion": probe.fusion if probe.several else "",
        "space": probe.space,
    }


def applied_by_predict(run: Run, spec: EvaluateSpec, tasks: Sequence[str]) -> list[Applied]:
    """Say of every model of a run that `predict` can apply on whom it was fitted.

    Args:
        run: The run.
        spec: The evaluate stage whose folds were scored.
        tasks: What was scored; a task without a kept model is named, too.
    """
    found = [
        Applied(
            task=one.task,
            method=one.method,
            protocol=one.protocol,
            splits=tuple(one.about["fitted_on"]["splits"]),
            subjects=one.about["fitted_on"]["subjects"],
            cohort=one.about["cohort"],
            encoder=bool(one.about["stage"]) and one.about["stage"] != "untrained",
        )
        for one in load_probes(run)
        if one.task in tasks and one.method not in spec.embeddings
    ]
    found += [
        Applied(
            task=task,
            method=label,
            protocol="fine_tune",
            splits=("train",),
            cohort=str(run.config["cohort"]),
        )
        for label in spec.finetuned
        for task in tasks
    ]
    return found


def save_reading(run: Run, modality: str, kept: Mapping[str, Any]) -> None:
    """Keep how covariates are read: settings and fitted state of their adapter."""
    run.save_tree(READING, {modality: dict(kept)})


def save_simple(run: Run, learned: Mapping[str, SimpleReading], *, several: bool) -> None:
    """Keep what simple features learned from train rows, by modality.

    ``several``: they are those of several modalities side by side, each with a file of its own.
    """
    for modality, one in learned.items():
        name = f"{SIMPLE}.{modality}" if several else SIMPLE
        run.save_arrays(name, one.arrays())
        run.save_tree(name, {"schema": SIMPLE_SCHEMA, **one.about()})


def load_simple(run: Run, modality: str, *, several: bool = False) -> SimpleReading | None:
    """Read what the simple features of a modality learned; None if the run did not keep it.

    Raises:
        ArtefactError: A file is damaged.
    """
    name = f"{SIMPLE}.{modality}" if several else SIMPLE
    if not run.keeps(name):
        return None
    about = run.tree(name)
    with reading(run.path / f"{name}.json"):
        refuse_schema(about, SIMPLE_SCHEMA)
        found = SimpleReading.of(about, run.arrays(name) or {})
    return found if found.modality == modality else None


def load_probes(run: Run) -> list[SavedProbe]:
    """Read every probe that a run keeps; none if it keeps none.

    Raises:
        ArtefactError: A file is damaged, or of a model that no installed package reads.
    """
    found = []
    for name in run.written(FOLDER):
        about = run.tree(name)
        if about.get("schema") != SCHEMA:
            continue
        with reading(run.path / f"{name}.json"):
            said = {key: about[key] for key in ("task", "method", "protocol")}
            model = read_model(about["link"], run.arrays(name) or {})
            found.append(SavedProbe(model=model, about=about, **said))
    return found
