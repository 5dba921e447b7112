"""What is set beside each other on a task: embeddings, and the baselines they must beat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from medmcl.core.targets import Targets
from medmcl.data.loading import Prepared, cache_folder
from medmcl.data.simple_features import simple_table
from medmcl.data.simple_reading import SimpleReading
from medmcl.evaluation.evaluate import PROTOCOLS
from medmcl.evaluation.models.baselines import beside, majority, probe_terms
from medmcl.evaluation.models.probe import Fitted, linear_probe
from medmcl.evaluation.predicted import Method
from medmcl.evaluation.results import BESIDE, COVARIATES
from medmcl.stages.features import Covariates, sample_vectors
from medmcl.stages.ledger import label_tasks
from medmcl.stages.recipe import EvaluateSpec
from medmcl.stages.run import Run
from medmcl.stages.saved_probes import load_simple
from medmcl.stages.study import is_another

if TYPE_CHECKING:
    import torch

MAJORITY = "majority"
SURVIVAL_ONLY = ("cox", "discrete_time")


@dataclass(kw_only=True)
class Sources:
    """Features of every method, by sample, and where they exist.

    Attributes:
        embeddings: Method to (N, E): the run's stages, then other runs.
        present: Method to (N,) bool.
        label_tasks: Method to the tasks whose train labels of this cohort its encoder learned from.
        covariates: Plain columns of a table; None without.
        simple: What is plain to see of the modality; None if it has none, or was not asked for.
        simple_fit: Probe for it.
        simple_name: Its name in the table.
        simple_reading: What it learned from train rows.
        baselines: Which baselines are asked for.
        notes: What a reader must know.
        gaps: What stands in for missing cells and numbers.
    """

    embeddings: dict[str, np.ndarray]
    present: dict[str, np.ndarray]
    label_tasks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    covariates: Covariates | None = None
    simple: np.ndarray | None = None
    simple_fit: Callable[..., Fitted] = linear_probe
    simple_name: str = ""
    simple_reading: SimpleReading | None = None
    baselines: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)

    @property
    def others(self) -> tuple[str, ...]:
        """Embeddings beside the main one."""
        return tuple(self.embeddings)[1:]

    def methods(self, targets: Targets, protocol: str) -> dict[str, Method]:
        """Give every method of a task, the main one first."""
        survival = targets.kind == "survival"
        if not survival and protocol in SURVIVAL_ONLY:
            protocol = "linear_probe"
        fit = PROTOCOLS[protocol]
        methods = {
            name: Method(
                features=x,
                fit=fit,
                protocol=protocol,
                label_tasks=self.label_tasks.get(name, ()),
            )
            for name, x in self.embeddings.items()
        }
        main = next(iter(self.embeddings.values()))
        linear = "cox" if survival and protocol == "cox" else "linear_probe"
        if self.covariates is not None and "covariates" in self.baselines:
            methods[COVARIATES] = Method(
                features=self.covariates.values, fit=linear_probe, protocol=linear
            )
        if self.covariates is not None and "covariates+embedding" in self.baselines:
            both, together = beside(self.covariates.values, main)
            methods[BESIDE] = Method(
                features=both,
                fit=together,
                protocol=linear,
                fractions=(1.0,),
                label_tasks=self.label_tasks.get(next(iter(self.embeddings)), ()),
            )
        if self.simple is not None:
            methods[self.simple_name] = Method(
                features=self.simple, fit=self.simple_fit, protocol=linear
            )
        if "majority" in self.baselines:
            name = "Kaplan-Meier" if survival else MAJORITY
            methods[name] = Method(
                features=np.zeros((len(main), 1)), fit=majority, protocol=name, fractions=(1.0,)
            )
        return methods


def gather(
    spec: EvaluateSpec,
    run: Run,
    prepared: Prepared,
    device: torch.device,
    others: Mapping[str, Run],
    *,
    is_frozen: bool = False,
    heed: Callable[[Any], None] | None = None,
) -> Sources:
    """Compute the features of every method of an evaluate stage.

    Args:
        spec: The stage.
        run: The run.
        prepared: The cohort, as the run prepares it.
        device: Where to encode.
        others: Other runs to set beside.
        is_frozen: Nothing is fitted on this cohort: simple features and covariates are read as
            the run kept them, and left out where it did not.
        heed: Told that work goes on.
    """
    probe = spec.probe
    assert probe is not None
    embeddings = {
        label: sample_vectors(run, prepared, stage, probe.modality, probe.space, device)
        for label, stage in probe.models.items()
    }
    learned = {label: (run, stage) for label, stage in probe.models.items()}
    for name, other in others.items():
        again = other.prepare(prepared.cohort, (probe.modality,))
        stage = other.default_stage(probe.modality)
        learned[name] = other, stage
        embeddings[name] = sample_vectors(other, again, stage, probe.modality, probe.space, device)
    has = prepared.present[probe.modality]
    wanted = spec.wanted_baselines
    found = Sources(
        embeddings=embeddings,
        present=dict.fromkeys(embeddings, has),
        label_tasks={
            name: label_tasks(one, stage)
            for name, (one, stage) in learned.items()
            if not is_another(one, prepared.cohort)
        },
        baselines=wanted,
    )
    if spec.covariates is not None and {"covariates", "covariates+embedding"} & set(wanted):
        found.covariates = Covariates.of(run, prepared.cohort, spec.covariates, is_frozen=is_frozen)
        if found.covariates is None:
            found.notes.append("covariates left out: the run did not keep how it reads them")
        else:
            found.present[COVARIATES] = found.covariates.present
            found.gaps.append(f"{spec.covariates}: the train mean and a flag stand in for a cell")
    if "simple" in wanted:
        _simple(found, run, prepared, probe.modality, is_frozen, heed)
    return found


def _simple(
    found: Sources,
    run: Run,
    prepared: Prepared,
    modality: str,
    is_frozen: bool,
    heed: Callable[[Any], None] | None,
) -> None:
    reading = load_simple(run, modality) if is_frozen else None
    if is_frozen and reading is None:
        found.notes.append("simple features left out: the run did not keep what they learned")
        return
    table = simple_table(prepared, modality, cache=cache_folder(run.path.parent), progress=heed)
    if table is None or (reading is None and not len(table.train)):
        why = "this kind of modality has none" if table is None else "no train row to learn from"
        found.notes.append(f"simple features of {modality} left out: {why}")
        return
    found.simple_reading = reading or table.learn()
    found.simple = table.matrix(reading=found.simple_reading)[0]
    found.simple_fit = probe_terms if table.has_terms else linear_probe
    found.simple_name = f"simple features ({modality})"
    found.notes += [table.note()] if table.note() else []
    found.gaps += [table.note()] if table.note() else []
