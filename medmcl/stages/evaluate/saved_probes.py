"""Probes that a run keeps, so that another cohort can be scored without fitting anything on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medmcl.core.atomic import write_atomically
from medmcl.core.errors import ArtefactError
from medmcl.core.targets import Targets
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.simple_reading import SimpleReading
from medmcl.evaluation.models.competing import NO_RIVAL, event_free
from medmcl.evaluation.models.contract import KeptModel, read_model
from medmcl.evaluation.protocol.evaluate import TaskEvaluation
from medmcl.evaluation.protocol.evidence import FittedOn
from medmcl.evaluation.protocol.label_counts import LabelCounts
from medmcl.evaluation.protocol.predicted import Given
from medmcl.evaluation.protocol.results import COVARIATES
from medmcl.stages.evaluate.spec import ProbeSpec
from medmcl.stages.run.run import Run

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

    def fits(self, targets: Targets) -> bool:
        """Whether a task of another cohort asks the same: kind, columns, classes and unit."""
        said = self.about
        return (said["kind"], tuple(said["columns"]), tuple(map(str, said["classes"]))) == (
            targets.kind,
            targets.columns,
            tuple(map(str, targets.classes)),
        ) and said["unit"] == targets.unit

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
                fix="--probe refit",
            )
        model, labels = self.model, self.about.get("labels")  # runs made before kept no count
        curves = event_free(model, rival) if model.has_curves else None
        return Given(
            values=model.predict(features),
            survival=None if curves is None else lambda times: curves(features, times),
            is_absolute=rival is not None or NO_RIVAL in self.about["notes"],
            protocol=f"{self.protocol}, frozen",
            fitted=(self.ledger_line(),),
            notes=("the probe is the one of the run: nothing was fitted on this cohort",),
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
    from safetensors.numpy import save

    folder = run.path / "probes"
    folder.mkdir(exist_ok=True)
    labels = None if done.setting is None else asdict(done.setting.counts_beside())
    told = {one.method: list(one.told) for one in done.tables}
    for number, (method, fitted) in enumerate(done.models.items()):
        if fitted.model is None:
            continue
        lines = [
            one for one in done.evidence.fitted if one.method == method and one.task == targets.name
        ]
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
        arrays = {k: np.ascontiguousarray(a) for k, a in fitted.model.arrays().items()}
        stem = f"{targets.name}.{number}"
        write_atomically(folder / f"{stem}.safetensors", save(arrays))
        write_atomically(folder / f"{stem}.json", json.dumps(about, indent=1))


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


def save_reading(run: Run, modality: str, reading: Mapping[str, Any]) -> None:
    """Keep how covariates are read: settings and fitted state of their adapter."""
    folder = run.path / "probes"
    folder.mkdir(exist_ok=True)
    write_atomically(folder / "covariates.json", json.dumps({modality: dict(reading)}, indent=1))


def save_simple(run: Run, reading: SimpleReading) -> None:
    """Keep what simple features learned from train rows."""
    from safetensors.numpy import save

    folder = run.path / "probes"
    folder.mkdir(exist_ok=True)
    write_atomically(folder / "simple_features.safetensors", save(reading.arrays()))
    about = {"schema": SIMPLE_SCHEMA, **reading.about()}
    write_atomically(folder / "simple_features.json", json.dumps(about, indent=1))


def load_simple(run: Run, modality: str) -> SimpleReading | None:
    """Read what the simple features of a modality learned; None if the run did not keep it.

    Raises:
        ArtefactError: A file is damaged.
    """
    from safetensors.numpy import load_file

    path = run.path / "probes" / "simple_features.json"
    if not path.is_file():
        return None
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        if about.get("schema") != SIMPLE_SCHEMA:
            raise ValueError(f"schema {about.get('schema')}, expected {SIMPLE_SCHEMA}")
        reading = SimpleReading.of(about, load_file(path.with_suffix(".safetensors")))
    except Exception as error:  # damaged files raise many kinds
        raise ArtefactError(f"is damaged: {error}", where=path) from None
    return reading if reading.modality == modality else None


def load_probes(run: Run) -> list[SavedProbe]:
    """Read every probe that a run keeps; none if it keeps none.

    Raises:
        ArtefactError: A file is damaged, or of a model that no installed package reads.
    """
    from safetensors.numpy import load_file

    found = []
    for path in sorted((run.path / "probes").glob("*.json")):
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            if about.get("schema") != SCHEMA:
                continue
            arrays = load_file(path.with_suffix(".safetensors"))
            model = read_model(about["link"], arrays)
            found.append(
                SavedProbe(
                    task=about["task"],
                    method=about["method"],
                    protocol=about["protocol"],
                    model=model,
                    about=about,
                )
            )
        except ArtefactError:
            raise
        except Exception as error:  # damaged files raise many kinds
            raise ArtefactError(f"is damaged: {error}", where=path) from None
    return found
