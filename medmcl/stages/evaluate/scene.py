"""The scene of an evaluate stage: what its aspects may ask of the run and the cohort."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from medmcl.core.contracts import EncodesTexts
from medmcl.core.errors import ConfigError
from medmcl.core.targets import Targets
from medmcl.data.loading.prepare import Prepared
from medmcl.evaluation.aspects.attack.aspect import AttackSpec
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.protocol.evaluation import Found
from medmcl.evaluation.protocol.folds import CrossValidation
from medmcl.evaluation.protocol.predicted import Method
from medmcl.evaluation.protocol.resampling import resampling_of
from medmcl.evaluation.protocol.sample_subgroups import sample_subgroups
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.run.features import chunks, plain_view, sample_vectors, scored_rows
from medmcl.stages.run.run import Run
from medmcl.stages.run.seen import outside_splits, seen_people
from medmcl.stages.run.study import is_another
from medmcl.stages.train.models import scale_of

if TYPE_CHECKING:
    import torch

    from medmcl.stages.evaluate.methods import Sources
    from medmcl.stages.evaluate.task_scoring import TaskScoring


@dataclass(kw_only=True)
class RunScene:
    """See `medmcl.evaluation.aspects.scene.Scene`, which it is.

    Attributes:
        spec: The evaluate stage.
        run: The run.
        prepared: The cohort as the run prepares it.
        device: Where to run.
        seed: Seed of label subsets and bootstrap.
        notes: What a reader must know; added to.
        tasks: Tasks that are scored.
        sites: Site of each sample, where sites are drawn or folds are of sites; None otherwise.
        is_frozen: Whether kept probes are applied instead of fitting any.
        others: Runs to set beside, by name.
        tell: Told what is done.
        check_interrupt: Told that work goes on; ends it where that was asked for.
        scoring: How tasks are scored; None where nothing predicts any.
    """

    spec: EvaluateSpec
    run: Run
    prepared: Prepared
    device: torch.device
    seed: int
    notes: list[str]
    tasks: Sequence[str] = ()
    sites: np.ndarray | None = None
    is_frozen: bool = False
    others: Mapping[str, Run] = field(default_factory=dict)
    tell: Callable[[str], None] | None = None
    check_interrupt: Callable[[Any], None] = lambda _: None
    scoring: TaskScoring | None = None

    @property
    def name(self) -> str:
        """Of the evaluate stage."""
        return self.spec.name

    @property
    def draws(self) -> int:
        """Bootstrap draws."""
        return self.spec.bootstrap_draws

    @property
    def level(self) -> float:
        """Coverage that intervals aim at."""
        return self.spec.level

    @property
    def resample(self) -> str:
        """What the bootstrap draws."""
        return self.spec.resample

    @cached_property
    def resampling(self) -> Resampling:
        """How the bootstrap draws samples where there is no outcome."""
        kind = "site" if self.sites is not None and self.resample == "site" else "subject"
        return resampling_of(kind, self.prepared.subjects, self.sites, draws=self.draws,
                             seed=self.seed, level=self.level)  # fmt: skip

    @property
    def fold_by(self) -> str:
        """What a fold is made of."""
        return self.spec.fold_by

    @cached_property
    def is_outside(self) -> bool:
        """Whether the cohort is another than the run's own."""
        return is_another(self.run, self.prepared.cohort)

    @property
    def features(self) -> Mapping[str, np.ndarray]:
        """What the models of ``probe`` and ``embeddings`` say of each sample."""
        return self._scoring.sources.embeddings

    @property
    def present(self) -> Mapping[str, np.ndarray]:
        """Samples that have the inputs of each method."""
        return self._scoring.sources.present

    @cached_property
    def subgroups(self) -> Mapping[str, np.ndarray]:
        """Attribute to the group of each sample."""
        return sample_subgroups(self.prepared.cohort, self.prepared.present)

    @property
    def _scoring(self) -> TaskScoring:
        assert self.scoring is not None  # of a stage that predicts nothing no aspect asks for it
        return self.scoring

    def now(self, part: str) -> None:
        """Say what is done now, and stop where that was asked for."""
        if self.tell is not None:
            self.tell(part)

    def say(self, note: str) -> None:
        """Add a note, once."""
        if note not in self.notes:
            self.notes.append(note)

    def scored(self, *, fits: bool | None = None) -> np.ndarray:
        """Give the samples that may be scored without an outcome, their numbers in order."""
        is_outside = self.is_frozen if fits is None else self.is_outside and not fits
        return scored_rows(self.run, self.prepared, is_outside=is_outside)

    def scored_of(self, targets: Targets) -> tuple[Targets, np.ndarray]:
        """Give a task as it is scored without a fit, and ``held_out`` for whom it is scored, (N,).

        A split that is drawn only because none is said is heeded where probes are fitted, too.
        """
        if not self.is_outside:
            seen, splits = seen_people(self.run, self.prepared), self.prepared.splits
            return targets, splits if seen is None else np.where(seen, "not scored", splits)
        fits = self.spec.predicts and len(self.tasks) > 0 and not self.is_frozen
        known = np.asarray(targets.known.any(axis=1))
        splits, said = outside_splits(self.run, self.prepared, known, fits=fits)
        for note in said:
            self.say(note)
        return replace(targets, sides=None), splits

    def vectors(self, stage: str, modality: str) -> np.ndarray:
        """Embed a modality of every sample by a stage, unit norm, (N, D); zeros where absent."""
        return sample_vectors(self.run, self.prepared, stage, modality, "pooled", self.device)

    def texts(
        self, stage: str, modality: str, texts: Mapping[str, Sequence[str]]
    ) -> dict[str, np.ndarray]:
        """Embed texts by a stage, name to (P, D), unit norm."""
        return embed_prompts(self.run, self.prepared, stage, modality, texts, self.device)

    def logit_scale(self, stage: str, pair: tuple[str, str]) -> float:
        """Give the factor of cosines that a stage learned with; 1 without."""
        scale = scale_of(self.run.learner(stage, self.device), pair)
        return 1.0 if scale is None else float(scale().detach())

    def towers(self, stage: str) -> Any:
        """Give the trained towers of a stage."""
        return self.run.towers(stage, self.device)

    def batches(self, stage: str, rows: np.ndarray) -> Iterator[tuple[np.ndarray, Any]]:
        """Give samples with a batch of them as the towers of a stage read them, plainly."""
        spec = self.run.stage(stage)
        view = plain_view(spec, self.prepared)
        for chosen in chunks(rows):
            batch = self.prepared.batch(chosen, modalities=spec.towers).to(self.device)
            yield chosen, view(batch)

    def probes(self, targets: Targets) -> Mapping[str, Method]:
        """Give the probes of `features` for some target, and the prediction that knows nothing."""
        return self._scoring.methods(
            targets,
            lambda one: replace(one, covariates=None, simple=None, baselines=("majority",)),
        )

    def folds(self) -> CrossValidation | None:
        """Say how tasks are scored out of fold; None where held_out is scored."""
        return self._scoring.cross_validation()

    def attacked(self, spec: AttackSpec) -> Found:
        """Ask models of the run, and of runs beside it, about records with and without trigger."""
        from medmcl.stages.evaluate.attack.attacked import attack_results

        return attack_results(
            spec, self.run, self.prepared, self.device, self.resampling, self.notes, self.others
        )


def cloud_of(scene: RunScene, sources: Sources) -> dict[str, Any]:
    """Embeddings of the first method, for the map; covariates alone have none."""
    if not sources.embeddings:
        return {}
    label = next(iter(sources.embeddings))
    spec, prepared, rows = scene.spec, scene.prepared, scene.scored()
    rows = rows[sources.present[label][rows]]
    name = label
    if spec.probe is not None:
        read = spec.probe.modality
        name = read if isinstance(read, str) else " + ".join(read)
    targets = [prepared.tasks(task).take(rows) for task in prepared.cohort.usable_tasks[:6]]
    return {
        "points": sources.embeddings[label][rows],
        "modality": "all modalities" if name == "all" else name,
        "colours": {_coloured(one): _colour(one) for one in targets},
    }


def _coloured(targets: Targets) -> str:
    """The task, with the one of its columns that gives the colour."""
    several = len(targets.columns) > 1 and targets.kind != "survival"
    return f"{targets.name}: {targets.columns[0]}" if several else targets.name


def _colour(targets: Targets) -> np.ndarray:
    """One value a sample: class or label name, number, event or none; None or NaN if unknown."""
    if targets.kind == "multiclass":
        names = np.array([*targets.classes, None], dtype=object)
        return names[
            np.where(targets.known[:, 0], targets.values[:, 0], len(names) - 1).astype(int)
        ]
    if targets.kind == "regression":
        return np.where(targets.known[:, 0], targets.values[:, 0], np.nan)
    column = 1 if targets.kind == "survival" else 0
    flags = np.where(targets.values[:, column] > 0, "yes", "no").astype(object)
    flags[~targets.known[:, column]] = None
    return flags


def embed_prompts(
    run: Run,
    prepared: Prepared,
    stage: str,
    modality: str,
    prompts: Mapping[str, Sequence[str]],
    device: torch.device,
) -> dict[str, np.ndarray]:
    """Embed the prompts of each name with the text tower of a stage, name to (P, D).

    The weights are read once, however many names there are.
    """
    import torch

    from medmcl.core.batch import Batch

    adapter = prepared.adapters[modality]
    if not isinstance(adapter, EncodesTexts):
        raise ConfigError(
            "prompts can be read by no tower of this modality: its records are no texts",
            got=f"{modality}: {adapter.kind}",
            fix="name a modality of texts",
        )
    towers = run.towers(stage, device)
    all_texts = [text for one in prompts.values() for text in one]
    pooled = []
    for rows in chunks(np.arange(len(all_texts))):
        texts = [all_texts[row] for row in rows]
        batch = Batch(
            ids=torch.arange(len(texts), device=device),
            inputs={modality: adapter.plain(torch.as_tensor(adapter.encode(texts), device=device))},
            present={modality: torch.ones(len(texts), dtype=torch.bool, device=device)},
        )
        with torch.no_grad():
            pooled.append(towers(batch).pooled[modality].float().cpu().numpy())
    ends = np.cumsum([len(one) for one in prompts.values()])
    return dict(zip(prompts, np.split(np.concatenate(pooled), ends[:-1]), strict=True))
