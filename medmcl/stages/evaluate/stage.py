"""The evaluate stage: the only one that opens ``held_out``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from medmcl.core.errors import ConfigError
from medmcl.core.findings import counted
from medmcl.core.progress import Pace, progress
from medmcl.core.suppression import Covered
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.prepare import Prepared, oddities
from medmcl.data.tables.mapped import let_go
from medmcl.engine.record import Record
from medmcl.engine.signals import StopRequest
from medmcl.evaluation.aspects.aspect import aspects, trained_models
from medmcl.evaluation.aspects.tasks.doubtful import doubtful
from medmcl.evaluation.models.strength import said_alike
from medmcl.evaluation.protocol.evaluation import Evaluation, Found
from medmcl.evaluation.protocol.evidence import KEPT_BESIDE_FOLDS
from medmcl.evaluation.protocol.sample_subgroups import sample_sites
from medmcl.stages.evaluate.coefficients import baseline_rows, coefficient_rows, write_model
from medmcl.stages.evaluate.methods import Sources, gather
from medmcl.stages.evaluate.overlap import (
    mark_seen,
    scored_dataset,
)
from medmcl.stages.evaluate.refit_all import refit_all
from medmcl.stages.evaluate.runs_beside import seen_by_others
from medmcl.stages.evaluate.saved_probes import (
    SavedProbe,
    applied_by_predict,
    save_probes,
    save_reading,
    save_simple,
)
from medmcl.stages.evaluate.scene import RunScene, cloud_of
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.evaluate.task_scoring import TaskScoring
from medmcl.stages.predict.other_coding import (
    StrangeColumn,
    coded_otherwise,
    refuse_other_coding,
    said_once,
)
from medmcl.stages.predict.people import WARNING, scored_people, write_people
from medmcl.stages.predict.saved import KeptPrediction
from medmcl.stages.run.ledger import run_ledger
from medmcl.stages.run.run import Run
from medmcl.stages.run.seen import save_vectors, saved_anew, seen_by_any, seen_vectors
from medmcl.stages.run.study import changed_since, is_another
from medmcl.stages.stage import Context, Stage

if TYPE_CHECKING:
    import torch


class Evaluate(Stage[EvaluateSpec]):
    """Score frozen embeddings and fine-tuned models on the held-out split."""

    by_first_rank = True

    @override
    def run(self, prepared: Prepared, context: Context) -> dict[str, Any]:
        spec, run = self.spec, context.run
        found = run_evaluate(
            spec, run, prepared.cohort, context.world.device, context.record, stop=context.stop,
            keep_probes=True,
        )  # fmt: skip
        context.evaluations.append(found)
        if spec.predictions:
            path = run.path / f"predictions-{spec.name}.parquet"
            write_people(scored_people(found.prepared, found.people), path)
            context.record.say(f"{path}: {WARNING}")
        return {}


def run_evaluate(
    spec: EvaluateSpec,
    run: Run,
    cohort: Cohort,
    device: torch.device,
    record: Record,
    *,
    others: Mapping[str, Run] | None = None,
    seed: int | None = None,
    stop: StopRequest | None = None,
    frozen: Sequence[SavedProbe] = (),
    keep_probes: bool = False,
) -> Evaluation:
    """Run one evaluate stage; see `EvaluateSpec` for what it may hold.

    What needs a modality that the cohort does not have is left out, with a note.

    Args:
        spec: The stage.
        run: The run.
        cohort: The cohort to score.
        device: Where to run.
        record: Told what is done.
        others: Other runs to set beside, by name.
        seed: Seed of label subsets and bootstrap; that of the run if not given.
        stop: Asked whether to stop.
        frozen: Kept probes to apply instead of fitting any.
        keep_probes: Whether to keep the fitted probes in the run: its own evaluate stage does.

    Raises:
        CohortError: Another run learned from records that are held out here.
    """
    began = time.monotonic()
    modalities = tuple(name for name in run.recipe.inputs if name in cohort.spec.modalities)

    def check_interrupt(_: object = None) -> None:
        if stop is not None:
            stop.check_interrupt(spec.name)

    strange: tuple[StrangeColumn, ...] = ()
    if is_another(run, cohort):
        strange = coded_otherwise(run, cohort, spec.covariates, is_frozen=bool(frozen))
    refuse_other_coding([one for one in strange if one.is_too_much], cohort.path)
    changed = changed_since(run, cohort)
    prepared = run.prepare(cohort, modalities, check_interrupt=check_interrupt)
    lines = (
        *([changed] if changed else []),
        *said_once(strange),
        *saved_anew(run, prepared),
        *oddities(prepared.warnings, of_all=True),
    )
    if changed or is_another(run, cohort):  # `pretrain` has said it of the run's own
        for line in dict.fromkeys([*lines, *oddities(prepared.warnings)]):
            record.say(line)
    evaluation = Evaluation(
        folder=run.path,
        prepared=prepared,
        level=spec.level,
        resampling=spec.resample,
        rounding=spec.rounding,
        wrecked=run.wrecked,
        fits=not frozen,
        strange=lines,
    )
    sites = _sites(spec, cohort, is_frozen=bool(frozen))
    seed = run.seed if seed is None else seed
    chosen = list(cohort.spec.tasks) if spec.tasks == "all" else list(spec.tasks)
    spec = _what_there_is(spec, run, cohort, evaluation.notes)
    evaluation.notes += _set_beside_nowhere(spec, chosen, others or {})

    def now(part: str) -> None:
        check_interrupt()
        record.say(f"{spec.name}: {part}")

    scene = RunScene(
        spec=spec,
        run=run,
        prepared=prepared,
        device=device,
        seed=seed,
        notes=evaluation.notes,
        tasks=chosen,
        sites=sites,
        is_frozen=bool(frozen),
        others=others or {},
        tell=now,
        check_interrupt=check_interrupt,
    )
    if spec.predicts and (chosen or any(one.asks_models for one in spec.asked.values())):
        theirs, said = seen_by_others(scene)
        evaluation.notes += said
        now("embeddings" if spec.probe is not None or spec.embeddings else "covariates")
        sources = gather(scene)
        _say_given(spec, sources, evaluation, record)
        scene.scoring = TaskScoring(
            scene=scene,
            sources=sources,
            frozen=tuple(frozen),
            seen=seen_by_any(run, prepared, theirs | _by_vector(scene, sources)),
            refitted=None if frozen else refit_all(scene, stop),
        )
        evaluation.seen = scene.scoring.seen
        evaluation.embedding_map = cloud_of(scene, sources)
        _score_tasks(scene.scoring, chosen, evaluation, now, keep_probes=keep_probes)
    built = aspects()
    for name, asked in spec.asked.items():
        aspect = built[name]
        now(aspect.said or name.replace("_", " "))
        evaluation.add(aspect.measure(asked, scene))
    mark_seen(evaluation, spec, run, scored_dataset(cohort, spec))
    for line in (*evaluation.strange, *doubtful(evaluation)):
        record.say(f"warning: {line}")
    evaluation.seconds = time.monotonic() - began
    return evaluation


def _say_given(
    spec: EvaluateSpec, sources: Sources, evaluation: Evaluation, record: Record
) -> None:
    """Say what is odd about covariates, and about given vectors, and how many have one."""
    people = evaluation.prepared.subjects
    evaluation.prepared.warnings += sources.apart
    strange = [*oddities(sources.apart, of_all=True), *sources.strange]
    for line in dict.fromkeys([*strange, *oddities(sources.apart)]):
        record.say(f"warning: {line}")
    lacking = _lacking_some(spec, sources, evaluation)
    evaluation.strange = (*evaluation.strange, *strange, *lacking)
    for name in spec.embeddings:
        have = len(np.unique(people[sources.present[name]]))
        everyone = counted(len(np.unique(people)), "person", "people")
        record.say(
            f"{spec.name}: {have:,} of {everyone} have a vector of '{name}' (ids in column "
            f"'{sources.id_columns[name]}'; {len(sources.columns[name])} numbers a vector)"
        )
        for note in sources.notes:
            if note.startswith(f"{name}: "):
                record.say(f"{spec.name}: {note}")


def _lacking_some(spec: EvaluateSpec, sources: Sources, evaluation: Evaluation) -> list[str]:
    """Say who is not scored because one of several files lacks them; reports, without numbers."""
    splits, people = evaluation.prepared.splits, evaluation.prepared.subjects
    scored = np.asarray(splits) == "held_out"
    is_all = bool(spec.folds) or not scored.any()
    asked = scored | is_all
    have = {name: sources.present[name] for name in spec.embeddings}

    def heads(rows: np.ndarray) -> int:
        return len(np.unique(people[rows & asked]))

    whole = heads(asked)
    lost = {name: n for name, rows in have.items() if (n := whole - heads(rows))}
    if len(have) < 2 or not lost:
        return []
    left = heads(np.logical_and.reduce([*have.values()]))
    said = "only people with a vector in every file are fitted on and scored"
    of = f"{left:,} of {whole:,}" + ("" if is_all else " held out")
    every = ", ".join(f"{name} lacks {n:,}" for name, n in lost.items())
    return [Covered(f"{said}: {of}; {every}", f"{said}: some have none in {', '.join(lost)}")]


def _set_beside_nowhere(
    spec: EvaluateSpec, tasks: Sequence[str], others: Mapping[str, Run]
) -> list[str]:
    """Say so where nothing that is evaluated can set other runs beside."""
    is_probed = spec.predicts and bool(tasks)
    if not others or is_probed or any(one.sets_beside for one in spec.asked.values()):
        return []
    return [
        f"nothing sets {' or '.join(others)} beside this run: neither a probe of a task nor an "
        "attack is evaluated"
    ]


def _by_vector(scene: RunScene, sources: Sources) -> np.ndarray:
    """Samples whose given vector a run's probes were fitted on, (N,) bool; its own are kept."""
    run, prepared = scene.run, scene.prepared
    given = {name: sources.embeddings[name] for name in scene.spec.embeddings}
    nobody = np.zeros(len(prepared.splits), dtype=bool)
    if not given:
        return nobody
    if not scene.is_outside:
        save_vectors(run, given, sources.present, prepared.splits)
        return nobody
    seen = seen_vectors(run, given, sources.present)
    if seen is None:
        return nobody
    return np.asarray(np.isin(prepared.subjects, prepared.subjects[seen]))


def _sites(spec: EvaluateSpec, cohort: Cohort, *, is_frozen: bool) -> np.ndarray | None:
    """The site of every sample, where sites are drawn or folds are made of them.

    Kept probes are applied without folds.

    Raises:
        ConfigError: The cohort names none.
    """
    key = "resample" if spec.resample == "site" else "fold_by"
    if getattr(spec, key) != "site" or (key == "fold_by" and is_frozen):
        return None
    sites = sample_sites(cohort)
    if sites is None:
        is_drawn = key == "resample"
        raise ConfigError(
            f"{'sites are to be drawn' if is_drawn else 'folds are of sites'}, but the cohort "
            "names none",
            where=f"{spec.name}.{key}",
            got="site",
            expected="`group:` of `subjects:` in cohort.yaml, the column that holds the site",
            fix=f"name it in {cohort.path}, or draw subjects ({key}: subject)",
        )
    return sites


def _score_tasks(
    scoring: TaskScoring,
    tasks: Sequence[str],
    evaluation: Evaluation,
    now: Callable[[str], None],
    *,
    keep_probes: bool,
) -> None:
    """Score every task, and keep the probes in the run if asked to."""
    spec, run, prepared = scoring.scene.spec, scoring.scene.run, scoring.scene.prepared
    sources = scoring.sources
    evaluation.notes += sources.notes
    evaluation.gaps = ["samples that lack an input of any method are not scored", *sources.gaps]
    learned = () if spec.probe is None else spec.probe.models.values()
    fitted = (*run_ledger(run, [*learned]), *sources.fitted)
    evaluation.add(Found(fitted=[*fitted]))
    if keep_probes and sources.covariates is not None and spec.covariates is not None:
        save_reading(run, spec.covariates, sources.covariates.reading)
    if keep_probes and spec.probe is not None:
        save_simple(run, sources.simple_readings, several=bool(sources.fused))
    kept = KeptPrediction()
    pace = Pace(len(tasks))
    with progress(f"{spec.name}: tasks", len(tasks)) as bar:
        for number, task in enumerate(tasks):
            now(f"{task} (task {pace.place(number)})")

            def told(share: float, number: int = number, task: str = task) -> None:
                scoring.scene.check_interrupt(share)
                bar(number + share, task)

            done = scoring.score(task, told)
            let_go()
            evaluation.add(done)
            evaluation.people.append((task, done))
            if keep_probes:
                if spec.folds:  # another fit than those scored
                    evaluation.notes += [
                        f"{task}: {method}, as medmcl predict applies it: {note}"
                        for method, model in done.models.items()
                        for note in said_alike(model.notes)
                    ]
                targets = prepared.tasks(task)
                save_probes(run, prepared.cohort, targets, done, spec.probe, spec.covariates)
                kept.add_task(task, done)
                for label, curves in scoring.heads.items():
                    kept.add_head(task, label, curves)
                plain = targets, done.models, sources.covariates, done.setting
                evaluation.coefficients += coefficient_rows(*plain, spec.level)
                evaluation.baselines += baseline_rows(*plain)
    if keep_probes:
        kept.add_reach(scoring)
        kept.save(run)
    _say_what_is_applied(scoring, tasks, evaluation, keep_probes=keep_probes)
    if evaluation.coefficients:
        written = write_model(run.path, evaluation.coefficients, evaluation.baselines)
        said = " and ".join(written)
        evaluation.notes.append(f"the models of the covariates, written out: {said}")


def _say_what_is_applied(
    scoring: TaskScoring, tasks: Sequence[str], evaluation: Evaluation, *, keep_probes: bool
) -> None:
    """Where folds were scored, say what `predict` applies: none of the models of the folds."""
    spec = scoring.scene.spec
    if spec.folds is None or scoring.frozen:
        return
    evaluation.applied += applied_by_predict(scoring.scene.run, spec, tasks)
    if not keep_probes:  # what was fitted beside the folds is not kept: no line of the ledger
        evaluation.fitted[:] = [x for x in evaluation.fitted if x.note != KEPT_BESIDE_FOLDS]


def _what_there_is(spec: EvaluateSpec, run: Run, cohort: Cohort, notes: list[str]) -> EvaluateSpec:
    """Leave out what would score stages that were not trained, or reads what the cohort lacks.

    Each is said in ``notes``.

    Raises:
        ConfigError: The cohort lacks what is scored itself.
    """
    said: list[str] = []
    probe = spec.probe
    if probe is not None:
        models, said = trained_models(probe.models, run.skipped)
        probe = probe.model_copy(update={"models": models}) if models else None
        spec = spec.model_copy(update={"probe": probe})
    have, changes = cohort.spec.modalities, dict[str, Any]()
    wanted = () if probe is None else probe.read(run.recipe.inputs)
    missing = [name for name in wanted if name not in have]
    if probe is not None and missing and not (probe.several and len(missing) < len(wanted)):
        changes["probe"] = None
        said.append(f"probe left out: the cohort has no {', '.join(missing)}")
    if spec.covariates is not None and spec.covariates not in have:
        changes["covariates"] = None
        said.append(f"covariates left out: the cohort has no {spec.covariates}")
    is_own = not is_another(run, cohort)
    for name, asked in spec.asked.items():
        changes[name], more = asked.wanted(name, cohort, run.skipped, is_own=is_own)
        said += more
    notes += dict.fromkeys(said)
    left = spec.model_copy(update=changes)
    lost = ", ".join(wanted) if "probe" in changes else ""
    if spec.predicts and not left.predicts:
        lost = lost or str(spec.covariates)
    if lost:
        what = "embeddings are scored" if probe is not None else "columns are the predictors"
        raise ConfigError(
            f"the cohort has no '{lost}', the modality whose {what}",
            got=", ".join(have),
            fix="if it has it under another name, call it as the run does in a copy of its "
            "cohort.yaml",
        )
    return left
