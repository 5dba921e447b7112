"""Other runs of which one, or this one, has no encoder: their features for the same people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from medmcl.core.config import refuse_absent
from medmcl.core.errors import ConfigError
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.prepare import Prepared
from medmcl.evaluation.models.contract import Fitted
from medmcl.evaluation.models.penalty import plain_probe
from medmcl.evaluation.models.probe import linear_probe
from medmcl.stages.evaluate.spec import EvaluateSpec, ProbeSpec
from medmcl.stages.run.features import Covariates, sample_vectors, scored_alone
from medmcl.stages.run.leaky_columns import leaky_by_task
from medmcl.stages.run.ledger import whom_they_saw
from medmcl.stages.run.run import Run

if TYPE_CHECKING:
    import torch

    from medmcl.stages.evaluate.scene import RunScene


@dataclass(frozen=True, kw_only=True)
class RunBeside:
    """What another run predicts from.

    Attributes:
        features: Columns that tell a task to the features that may be used for it, (N, E).
        present: Samples that have them. (N,) bool
        modality: What it reads.
        fit: The probe of such features.
        told: Task to what its encoder was paired with that could name the outcome.
    """

    features: Callable[[tuple[str, ...]], np.ndarray]
    present: np.ndarray
    modality: str
    fit: Callable[..., Fitted] = linear_probe
    told: dict[str, tuple[str, ...]] = field(default_factory=dict)


def apart(spec: EvaluateSpec, others: Mapping[str, Run]) -> dict[str, Run]:
    """Name the runs that cannot be embedded as this one is: it, or they, have no encoder."""
    return {name: one for name, one in others.items() if spec.probe is None or not one.stages}


def run_beside(name: str, other: Run, prepared: Prepared, device: torch.device) -> RunBeside:
    """Read what another run is about: the embedding that its probe reads, or its covariates.

    Covariates are read anew from this cohort's train people, as those of this run are.

    Args:
        name: What it is called in results.
        other: The run.
        prepared: The cohort, as this run prepares it.
        device: Where to encode.

    Raises:
        ConfigError: It reads several modalities together, vectors from elsewhere, or what the
            cohort does not have.
    """
    modality, cohort = what_it_reads(name, other, prepared.cohort), prepared.cohort
    if not other.stages:
        table = Covariates.of(other, cohort, modality)
        assert table is not None  # only what is read frozen may be missing
        return RunBeside(
            features=table.without, present=table.present, modality=modality, fit=plain_probe
        )
    own = other.prepare(cohort, (modality,))
    stage, space = other.default_stage(modality), _probe_of(other)
    vectors = sample_vectors(
        other, own, stage, modality, space.space if space else "pooled", device,
        scored_alone(prepared, is_frozen=False),
    )  # fmt: skip
    return RunBeside(
        features=lambda _: vectors,
        present=own.present[modality],
        modality=modality,
        told=leaky_by_task(other, stage, (modality,), prepared),
    )


def what_it_reads(name: str, other: Run, cohort: Cohort) -> str:
    """Name the one modality that another run predicts from.

    Raises:
        ConfigError: There is no such one, or the cohort does not have it.
    """
    where, probe = f"--compare {other.path}", _probe_of(other)
    specs = [*other.of(EvaluateSpec).values()]
    if not other.stages:
        given = [vector for one in specs for vector in one.embeddings]
        if given:
            raise ConfigError(
                f"'{name}' scored vectors made elsewhere, which no run keeps",
                where=where,
                fix=" ".join(f"--embeddings {vector}=FILE" for vector in given)
                + " beside this run, in the place of --compare",
            )
        found = next((one.covariates for one in specs if one.covariates), None)
    elif probe is None:
        found = next(iter(other.recipe.inputs))
    else:
        found = None if probe.several else str(probe.modality)
    if found is None:
        raise ConfigError(
            f"'{name}' does not predict from one modality alone",
            where=where,
            fix=f"the other way round: medmcl evaluate {other.path} --compare RUN",
        )
    what = f"the cohort has no '{found}', from which '{name}' predicts"
    refuse_absent(found, cohort.spec.modalities, what, where=where)
    return found


def _probe_of(other: Run) -> ProbeSpec | None:
    specs = [*other.of(EvaluateSpec).values()]
    return next((one.probe for one in reversed(specs) if one.probe is not None), None)


def seen_by_others(scene: RunScene) -> tuple[np.ndarray, list[str]]:
    """Samples of people whom runs that are set beside have seen, (N,) bool; and remarks.

    Raises:
        ConfigError: Kept probes are applied (``is_frozen``), and a run without an encoder, or one
            beside it, would have to be fitted here.
    """
    spec, cohort = scene.spec, scene.prepared.cohort
    strange = apart(spec, scene.others)
    if strange and scene.is_frozen:
        raise ConfigError(
            "the probes that the run kept are applied here and nothing is fitted, so other runs "
            "cannot be set beside it",
            where="--compare",
            got=", ".join(strange),
            fix="--probe refit, which fits all of them on this cohort's train split",
        )
    again = {}
    for name, other in scene.others.items():
        if name in strange:
            what_it_reads(name, other, cohort)  # refuses
            read = tuple(n for n in other.recipe.inputs if n in cohort.spec.modalities)
        else:
            assert spec.probe is not None  # else every run is apart
            wanted = spec.probe.read(scene.run.recipe.inputs)
            found = [n for n in wanted if n in other.recipe.inputs and n in cohort.spec.modalities]
            if not found:
                raise ConfigError(
                    f"the run to compare with does not read {' or '.join(wanted)}",
                    where=other.path,
                    expected=", ".join(other.recipe.inputs),
                )
            read = tuple(found)
        again[name] = other, other.prepare(cohort, read)
    return whom_they_saw(again, scene.prepared.splits)
