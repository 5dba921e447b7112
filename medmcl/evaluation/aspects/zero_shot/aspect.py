"""Tasks scored without labels, as an aspect: by the embeddings of the cohort's prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from typing_extensions import override

from medmcl.core.config import lookup
from medmcl.core.errors import CohortError
from medmcl.evaluation.aspects.aspect import Aspect, OfStage

if TYPE_CHECKING:
    import numpy as np

    from medmcl.core.targets import Targets
    from medmcl.data.cohort.cohort import Cohort
    from medmcl.evaluation.aspects.scene import Scene
    from medmcl.evaluation.protocol.evaluation import Found

NAME = "zero-shot"
T = TypeVar("T")


class ZeroShotSpec(OfStage):
    """Classification by the prompts of the cohort."""

    modality: str
    text: str

    @override
    def modalities(self) -> tuple[str, ...]:
        return self.modality, self.text

    @override
    def checks_on(self, name: str, cohort: Cohort, tasks: Sequence[str]) -> object:
        for task, told in cohort.spec.keys.prompts.items():
            if task in tasks and task in cohort.usable_tasks:
                _positive(cohort.targets(task), told)
        return None


class ZeroShot(Aspect[ZeroShotSpec]):
    """Scores of tasks by prompts; its rows stand beside those of the tasks.

    A label is set against its own negative prompts (``not LABEL``), or, where the cohort has none,
    against the prompts of the other labels.
    """

    Settings = ZeroShotSpec
    said = NAME

    @override
    def measure(self, spec: ZeroShotSpec, scene: Scene) -> Found:
        from medmcl.evaluation.protocol.evaluate import evaluate_embeddings
        from medmcl.evaluation.protocol.evaluation import Found

        found, prepared = Found(), scene.prepared
        pooled = scene.vectors(spec.stage, spec.modality)
        for task in scene.tasks:
            if task not in prepared.cohort.spec.keys.prompts:
                found.notes.append(f"{NAME}: the cohort has no prompts for {task}")
                continue
            targets, splits = scene.scored_of(prepared.tasks(task))
            refuse_nobody(scene, targets, splits)
            found.results += evaluate_embeddings(
                {},
                targets,
                splits,
                prepared.subjects,
                predictions={NAME: _scores(spec, scene, targets, pooled)},
                present={NAME: prepared.present[spec.modality]},
                predictions_protocol="zero_shot",
                seed=scene.seed,
                bootstrap_draws=scene.draws,
                level=scene.level,
                resample=scene.resample,
                sites=scene.sites,
            )
        return found


def _scores(spec: ZeroShotSpec, scene: Scene, targets: Targets, pooled: np.ndarray) -> np.ndarray:
    """Probability of each class or label by the prompts of a task, (N, C)."""
    import numpy as np

    from medmcl.evaluation.models.zero_shot import zero_shot_classes, zero_shot_labels

    scale = scene.logit_scale(spec.stage, (spec.modality, spec.text))
    told = scene.texts(spec.stage, spec.text, scene.prepared.cohort.spec.keys.prompts[targets.name])
    positive, names = _positive(targets, told), targets.names
    if targets.kind == "multiclass":
        return zero_shot_classes(pooled, positive, logit_scale=scale)
    negative = [
        told[f"not {name}"]
        if f"not {name}" in told
        else np.concatenate([p for n, p in enumerate(positive) if n != number])
        for number, name in enumerate(names)
    ]
    return zero_shot_labels(pooled, positive, negative, logit_scale=scale)


def _positive(targets: Targets, told: Mapping[str, T]) -> list[T]:
    """Give what is told of each class or label of a task, by its name.

    Raises:
        ConfigError: Of one nothing is told.
    """
    what, names = f"prompts of task {targets.name}", [str(name) for name in targets.names]
    fix = f"in cohort.yaml, prompts.{targets.name}, give texts under {' and '.join(names)}"
    if targets.kind != "multiclass":
        fix += f"; what a label is set against under 'not {names[0]}'"
    return [lookup(what, name, told, fix=fix) for name in names]


def refuse_nobody(scene: Scene, targets: Targets, splits: np.ndarray) -> None:
    """Refuse a task of which nobody who has the outcome may be scored.

    Raises:
        CohortError: Says why.
    """
    known = targets.known.any(axis=1)
    if not known.any() or (known & (splits == "held_out")).any():
        return
    why = "all of them have a record that the run learned from"
    if not scene.is_outside:
        why = "none of them is in held_out, and the run was trained on this cohort"
    raise CohortError(
        f"{NAME}: there is nobody to score on {targets.name}",
        where=f"cohort {scene.prepared.cohort.name}",
        got=f"{int(known.sum())} samples with the outcome; {why}",
        expected="people in held_out, or a cohort that the run did not learn from",
        fix="give the cohort a held_out split (`split:` of `subjects:` in cohort.yaml), or "
        f"leave the task out (--set cohort.tasks.{targets.name}=null)",
    )
