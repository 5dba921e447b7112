"""Cross-validation in which every stage is trained anew in each fold, without its test people."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from medmcl.core.config import fingerprint
from medmcl.core.errors import ConfigError
from medmcl.core.findings import counted
from medmcl.core.progress import Pace
from medmcl.core.targets import Targets
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.prepare import Prepared
from medmcl.engine.signals import StopRequest
from medmcl.engine.world import World
from medmcl.evaluation.models.contract import Fitted
from medmcl.evaluation.models.cross_validation import (
    Fold,
    FoldFeatures,
    Folds,
    draw_folds,
    site_folds,
    strata_of,
    subject_folds,
)
from medmcl.evaluation.protocol.folds import refuse_more_folds
from medmcl.evaluation.protocol.predicted import Method, with_baseline
from medmcl.evaluation.protocol.resampling import site_codes
from medmcl.stages.evaluate.methods import Sources, gather
from medmcl.stages.evaluate.scene import RunScene
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.run.features import predict
from medmcl.stages.run.run import Run
from medmcl.stages.run.training import refuse_ranks, seconds_of, train_apart
from medmcl.stages.train.spec import fill

if TYPE_CHECKING:
    import torch

FOLDER = "folds"


@dataclass(frozen=True, kw_only=True)
class FoldRun:
    """What was trained in one fold, and what it says of everybody.

    Attributes:
        run: The run, in a folder of its own.
        prepared: The cohort in the splits of the fold: its test people are ``held_out``.
        sources: Features of every method.
    """

    run: Run
    prepared: Prepared
    sources: Sources


@dataclass(frozen=True, kw_only=True)
class Refitted:
    """Every fold with what was trained in it.

    Attributes:
        plan: The folds, over all samples.
        runs: What was trained in each.
        device: Where to run.
    """

    plan: tuple[Fold, ...]
    runs: tuple[FoldRun, ...]
    device: torch.device

    def anew(
        self, methods: Mapping[str, Method], each: Sequence[Mapping[str, Method]]
    ) -> dict[str, Method]:
        """Give methods that read in each fold what was trained in it.

        Args:
            methods: Those of the run.
            each: The same of each fold; one that a fold lacks is left out.
        """
        return {
            name: replace(
                method,
                anew=tuple(
                    FoldFeatures(
                        features=np.asarray(own[name].features),
                        fit=own[name].fit,
                        variants=own[name].variants if method.variants else (),
                    )
                    for own in each
                ),
            )
            for name, method in methods.items()
            if all(name in own for own in each)
        }

    def finetuned(
        self,
        spec: EvaluateSpec,
        task: str,
        targets: Targets,
        told: Callable[[str], tuple[str, ...]],
    ) -> Iterator[tuple[tuple[str, float], Method]]:
        """Give the fine-tuned stages of a task as methods, a label fraction each.

        What a fold's stage says of everybody is its features, and nothing but the baseline hazard
        is fitted on them.

        Args:
            spec: The evaluate stage.
            task: Name of the task.
            targets: The task.
            told: Stage to what could have named the outcome to it.
        """
        for label, pattern in spec.finetuned.items():
            for fraction in spec.label_fractions:
                stage = fill(pattern, {"task": task, "label_fraction": fraction})
                able = [one.run for one in self.runs if stage in one.run.stages]
                if len(able) < len(self.runs) or any(run.skipped(stage) for run in able):
                    continue
                made = [self._said(one, stage, targets) for one in self.runs]
                yield (
                    (label, fraction),
                    Method(
                        features=made[0],
                        fit=as_predicted,
                        protocol="fine_tune",
                        fractions=(fraction,),
                        anew=tuple(FoldFeatures(features=x, fit=as_predicted) for x in made),
                        told=told(stage),
                        is_fitted=True,
                    ),
                )

    def _said(self, one: FoldRun, stage: str, targets: Targets) -> np.ndarray:
        rows = np.flatnonzero(np.isin(one.prepared.splits, ("train", "tuning", "held_out")))
        return predict(one.run, stage, one.prepared, targets, self.device, rows)


def as_predicted(
    features: np.ndarray,
    targets: Targets,
    train: np.ndarray,
    tuning: np.ndarray,
    *,
    refit_on: np.ndarray | None = None,
) -> Fitted:
    """Take features for predictions; log hazards have their baseline from the rows fitted on."""
    if targets.kind != "survival":
        return Fitted(predict=lambda x: x)
    del tuning
    rows = np.asarray(train if refit_on is None else refit_on)
    given = with_baseline(features, targets, rows)
    curves: Any = given.survival
    if curves is None:
        return Fitted(predict=lambda x: x, notes=given.notes)
    return Fitted(
        predict=lambda x: x,
        survival=lambda x, times: replace(curves, eta=np.asarray(x)[:, 0])(times),
        notes=given.notes,
    )


def refit_all(scene: RunScene, stop: StopRequest | None = None) -> Refitted | None:
    """Train every stage of a run anew in each fold; None where that is not asked for.

    What an earlier try has finished is kept. Where a run has no stage to train, it is done unasked,
    if it can be: how inputs are read was learned from people whom folds score.

    Args:
        scene: Of a finished run and its own cohort; told beforehand what it will cost. Folds are
            balanced by its tasks, in turn.
        stop: Asked whether to stop.

    Raises:
        ConfigError: The cohort is not the run's own, pairs or records were chosen elsewhere with
            people of the folds, or runs are to be set beside that were not trained in these folds.
        Interrupted: A stop signal came; the fold goes on from there at the next try.
    """
    spec, run = scene.spec, scene.run
    if spec.folds is None or (spec.refit != "all" and run.trains):
        return None
    cohort = scene.prepared.cohort
    hindered = _hindered(spec, run, cohort, scene.others)
    if hindered and spec.refit == "all":
        raise hindered
    if hindered:
        if spec.covariates is not None:
            scene.say(
                f"what stands in for a missing cell of {spec.covariates}, and which levels it has, "
                f"was learned from train, of whom folds score some: {hindered.what}"
            )
        return None
    refuse_ranks(int(os.environ.get("WORLD_SIZE", "1")), spec.name)
    plan = _plan(scene)
    stages = [one for one in run.recipe.stages if one.learns]
    what = (
        f"trains {counted(len(stages), 'stage')} anew in each of {len(plan)} folds, about "
        f"{len(plan)} x {seconds_of(run, stages):.0f} s; what is finished is kept in "
        f"{run.path / FOLDER}"
        if stages
        else f"the recipe has no stage to train, so nothing is trained; how inputs are read, and "
        f"the probes, are fitted anew in each of {len(plan)} folds"
    )
    scene.now(f"refit: all{' ' if stages else ': '}{what}")
    made, pace = [], Pace(len(plan))
    with nullcontext(stop) if stop is not None else StopRequest() as asked:
        for number, fold in enumerate(plan):
            scene.now(f"fold {pace.place(number)}")
            trained, own = _fold_run(scene, fold, number, asked)
            here = trained.prepare(own, tuple(scene.prepared.adapters), scene.check_interrupt)
            inside = replace(scene, run=trained, prepared=here, others={}, notes=[])
            made.append(FoldRun(run=trained, prepared=here, sources=gather(inside)))
    if not stages:  # there is nothing to go on from
        shutil.rmtree(run.path / FOLDER, ignore_errors=True)
    elif "MEDMCL_CACHE" not in os.environ:
        shutil.rmtree(run.path / FOLDER / ".prepared", ignore_errors=True)
    return Refitted(plan=plan, runs=tuple(made), device=scene.device)


def _hindered(
    spec: EvaluateSpec, run: Run, cohort: Cohort, others: Mapping[str, Run]
) -> ConfigError | None:
    """Say why nothing can be made anew in folds; None if it can."""
    reasons = {
        "the cohort is not the one that the run was trained on": (
            run.config.get("cohort_fingerprint") != cohort.fingerprint,
            "medmcl pretrain --cohort … with this evaluate stage",
        ),
        f"{', '.join(others)} was not trained in these folds": (
            bool(others),
            "leave --compare out, or folds",
        ),
        "vectors that were made elsewhere cannot be made anew": (
            bool(spec.embeddings),
            "refit: probe, or leave folds out",
        ),
        "the rows of --keep were chosen with people of the folds": (
            "keep" in run.config,
            "a select stage in the recipe chooses anew in each fold",
        ),
        "pairs were made wrong (noisy_pairs) in the cohort's own split": (
            cohort.noise is not None,
            "leave folds out: held_out is scored",
        ),
    }
    for what, (is_so, way) in reasons.items():
        if is_so:
            return ConfigError(what, where=f"{spec.name}.refit", got="refit: all", fix=way)
    return None


def _plan(scene: RunScene) -> tuple[Fold, ...]:
    """Part everybody into folds, balanced by the tasks in turn; not whom the cohort holds out."""
    spec, prepared, sites = scene.spec, scene.prepared, scene.sites
    rows = np.arange(len(prepared.splits))
    if prepared.cohort.spec.keys.subjects.split.random is None:
        rows = rows[prepared.splits != "held_out"]
    classes = [
        np.zeros(len(prepared.splits)),
        *(strata_of(prepared.tasks(task)) for task in scene.tasks),
    ]
    strata = np.unique(np.stack(classes, axis=1), axis=0, return_inverse=True)[1].ravel()
    units, draw = one_person(prepared), cast("Folds", subject_folds)
    if spec.fold_by == "site" and sites is not None:
        units, draw = site_codes(sites, units), site_folds
    folds, repeats = spec.folds_and_repeats
    count = len(np.unique(units[rows]))
    if count < 3:
        raise ConfigError(
            f"folds need three {spec.fold_by}s at least: to train, to tune and to test on",
            where=f"{spec.name}.folds",
            got=f"{count} beside those that the cohort holds out itself",
            fix="leave folds out: held_out is scored",
        )
    refuse_more_folds(
        folds, repeats, count, spec.fold_by, where=f"{spec.name}.folds",
        who="beside those that the cohort holds out itself",
    )  # fmt: skip
    return tuple(
        draw_folds(
            units,
            strata,
            rows,
            name="refit_all",
            draw=draw,
            repeats=repeats,
            folds=folds,
            seed=scene.seed,
        )
    )


def one_person(prepared: Prepared) -> np.ndarray:
    """Number people so that those who share a measured record, a copy, have one number, (N,)."""
    subjects = prepared.subjects
    links = [np.stack([subjects, subjects])]
    for codes in prepared.sides.contents:
        known = np.flatnonzero(codes >= 0)
        _, first = np.unique(codes[known], return_index=True)
        owner = np.zeros(codes.max(initial=0) + 1, dtype=np.int64)
        owner[codes[known][first]] = subjects[known][first]
        links.append(np.stack([subjects[known], owner[codes[known]]]))
    a, b = np.concatenate(links, axis=1)
    size = int(subjects.max(initial=-1)) + 1
    graph = coo_matrix((np.ones(len(a)), (a, b)), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1][subjects], dtype=np.int64)


def _fold_run(scene: RunScene, fold: Fold, number: int, stop: StopRequest) -> tuple[Run, Cohort]:
    run, cohort = scene.run, scene.prepared.cohort
    splits = np.full(len(cohort.samples), "held_out", dtype=object)
    splits[fold.train], splits[fold.tuning] = "train", "tuning"
    own = split_otherwise(cohort, splits)
    config = {**run.config, "cohort_fingerprint": own.fingerprint, "fold": number}
    folder, world = f"{number:03d}-{fingerprint(config)}", World(device=scene.device)
    trained = train_apart(
        run.path / FOLDER / folder, own, run.recipe, config, world=world, stop=stop
    )
    return trained, own


def split_otherwise(cohort: Cohort, splits: np.ndarray) -> Cohort:
    """Give a cohort whose samples are in other splits.

    Args:
        cohort: The cohort.
        splits: Split of each sample; that of a subject is the same in all of them. (N,)
    """
    samples = cohort.samples.assign(split=splits)
    by_subject = samples.groupby("subject", sort=False)["split"].first()
    subjects = cohort.subjects.copy()
    subjects["split"] = by_subject.reindex(subjects.index).fillna(subjects["split"])
    content = fingerprint([cohort.fingerprint, sorted(by_subject.items())])
    return replace(cohort, samples=samples, subjects=subjects, fingerprint=content)
