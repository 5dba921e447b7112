"""The evaluate stage: the only one that opens ``held_out``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medmcl.core.errors import CohortError, ConfigError
from medmcl.core.file_lock import claimed, one_writer
from medmcl.core.findings import UNLIKE_TRAINING, counted
from medmcl.core.progress import Pace, progress
from medmcl.core.suppression import Covered
from medmcl.core.targets import Targets
from medmcl.data.cohort.cohort import Cohort
from medmcl.encoders.published.overlap import refuse_overlap
from medmcl.engine.record import Record
from medmcl.engine.signals import StopRequest
from medmcl.engine.world import pick_device
from medmcl.evaluation.aspects.aspect import ASPECTS, trained_models
from medmcl.evaluation.aspects.tasks.doubtful import doubtful
from medmcl.evaluation.models.strength import said_alike
from medmcl.evaluation.protocol.evaluation import Evaluation, Found
from medmcl.evaluation.protocol.evidence import KEPT_BESIDE_FOLDS
from medmcl.evaluation.protocol.results import BESIDE, COVARIATES
from medmcl.evaluation.protocol.sample_subgroups import sample_sites
from medmcl.stages.evaluate.coefficients import baseline_rows, coefficient_rows, write_model
from medmcl.stages.evaluate.methods import Sources, gather
from medmcl.stages.evaluate.nobody import refuse_nobody
from medmcl.stages.evaluate.overlap import (
    dataset_of,
    mark_rows,
    mark_seen,
    refuse_runs,
    refuse_seen,
    scored_dataset,
    search_lists,
    seen_before,
)
from medmcl.stages.evaluate.refit_all import refit_all
from medmcl.stages.evaluate.saved_probes import (
    SavedProbe,
    applied_by_predict,
    save_probes,
    save_reading,
    save_simple,
)
from medmcl.stages.evaluate.scene import RunScene
from medmcl.stages.evaluate.settings import evaluate_overrides, of_fitting, with_settings
from medmcl.stages.evaluate.spec import KEYS, EvaluateSpec, ProbeSpec
from medmcl.stages.evaluate.task_scoring import ProbeMode, TaskScoring, frozen_probes
from medmcl.stages.evaluate.vectors import OfModels, evaluate_vectors, new_folder
from medmcl.stages.factorise.vector_files import named_vectors, vectors_by_name
from medmcl.stages.predict.other_coding import (
    StrangeColumn,
    coded_otherwise,
    refuse_other_coding,
    said_once,
)
from medmcl.stages.predict.people import scored_people, write_people
from medmcl.stages.predict.saved import KeptPrediction
from medmcl.stages.run.ledger import run_ledger, whom_they_saw
from medmcl.stages.run.outputs import claim_report_folder, claim_table, refuse_input
from medmcl.stages.run.own_cohort import open_as_own
from medmcl.stages.run.run import Run
from medmcl.stages.run.runs_beside import apart, what_it_reads
from medmcl.stages.run.seen import save_vectors, seen_by_any, seen_vectors
from medmcl.stages.run.study import changed_since, is_another

if TYPE_CHECKING:
    import torch


@one_writer("predictions are being written", out="predictions")
def evaluate(
    run: Run | str | Path | None = None,
    cohort: Cohort | str | Path | None = None,
    *,
    embeddings: Any = None,
    models: Sequence[str] = (),
    tasks: Sequence[str] | None = None,
    label_fractions: Sequence[float] | None = None,
    compare: Sequence[str | Path] = (),
    out: str | Path | None = None,
    overwrite: bool = False,
    overrides: Mapping[str, Any] | None = None,
    seed: int | None = None,
    device: str = "auto",
    probe: ProbeMode = "auto",
    resample: str | None = None,
    predictions: str | Path | None = None,
    pretrained_on: Sequence[str] = (),
    allow_overlap: bool = False,
) -> Evaluation:
    """Score a run, or vectors from elsewhere, on the held-out split of a cohort.

    On another cohort the probes that the run kept are applied as they are, nothing is fitted
    there, and without a held-out split all of its people are scored: external validation.

    Args:
        run: Run or its folder; without one vectors alone are scored, and ``out`` becomes a run
            folder that keeps their probes.
        cohort: Cohort, folder or name: the run's own or another.
        embeddings: Vectors by subject or record: a DataFrame, a file (parquet, csv, tsv, npz), a
            mapping of names to these, or several files. They stand beside the run's models, and
            take the place of vectors of the run that are called so.
        models: Published models, ``[LABEL=]NAME[:VARIANT]:FILE``: what each makes of the cohort is
            scored as ``embeddings`` are.
        tasks: Tasks to score; all of the cohort if not given.
        label_fractions: Shares of the train labels; those of the recipe if not given.
        compare: Other runs to set beside, under the names of their folders.
        out: Folder of the report; ``RUN/evaluation-<cohort>`` if not given.
        overwrite: Write over a report that the folder holds.
        overrides: As ``--set``: ``evaluate.KEY`` of the evaluate stage; others of the cohort, which
            on the run's own are laid over those that the run was started with.
        seed: Seed of label subsets and bootstrap; that of the run if not given, or 0.
        device: ``auto``, ``cpu`` or ``cuda``.
        probe: ``frozen``: the probes that the run kept; ``refit``: probes fitted on this cohort's
            train split; ``auto``: frozen on another cohort where the run kept them.
        resample: What the bootstrap draws: ``subject``, ``site`` or ``stratified``; that of the
            recipe if not given.
        predictions: Table to write (.parquet, .csv or .tsv) of what every method said of each
            person that was scored. It is about people: see `medmcl.stages.predict.people`.
        pretrained_on: ``[MODEL=]LIST`` of what models, vectors or runs were pretrained on: who of
            it is scored is searched, and counts as seen; see
            `medmcl.stages.evaluate.pretraining_list`.
        allow_overlap: Score models, vectors of them, and runs that began with them, that may have
            been trained on who is scored (`medmcl.encoders.published.overlap`); names or notes of
            their rows, and the first page, then say so.

    Raises:
        ArtefactError: A run is not finished; the folder holds a report already, or is a run;
            ``frozen``, and the run kept no probe.
        CohortError: A compared run learned from records that are held out here; or nobody can be
            scored.
        ConfigError: ``label_fractions``, and kept probes are applied; ``site``, and the cohort
            names no sites; a run to compare is called as another, or as a model of the run; neither
            a run nor vectors, or no cohort.
    """
    if cohort is None or (run is None and embeddings is None and not models):
        what = "no cohort is named" if cohort is None else "there is nothing to evaluate"
        raise ConfigError(what, fix="give a run or embeddings, and a cohort")
    changes = _changes(tasks, label_fractions, resample)
    if predictions is not None:
        claim_table(Path(predictions), overwrite=overwrite, option="--predictions")
        refuse_input(Path(predictions), cohort, overrides or {})
    run = Run(run) if isinstance(run, str | Path) else run
    beside = [] if run is None else [run, *map(Run, compare)]
    specs = () if run is None else run.of(EvaluateSpec).values()
    source, terms, dataset = "", "", dataset_of(cohort, overrides or {}, specs)
    listed = search_lists(
        pretrained_on, models, named_vectors(embeddings),
        [one.path.absolute().name for one in beside], cohort, overrides or {},
    )  # fmt: skip
    refuse_overlap(listed, allow=allow_overlap)
    marks = {name: one.mark for name, one in listed.items() if one.status == "seen"}
    if models:
        refuse_seen(models, dataset, allow=allow_overlap)
        folder = new_folder(out) if run is None else Path(out or "runs")
        tree = {"stage": "evaluate", "name": "results", "embeddings": {"of": "models"}, **changes}
        with_settings(tree, evaluate_overrides(overrides or {})[0])  # before hours of embedding
        made = OfModels.of(
            models, cohort, beside=folder.absolute().parent, overrides=overrides or {},
            device=device,
        )  # fmt: skip
        embeddings, source = {**named_vectors(embeddings), **made.tables}, made.source
        terms = made.terms
    own = {name for spec in specs for name in spec.embeddings}
    with vectors_by_name(embeddings) as given:
        vectors = seen_before(given, dataset, allow=allow_overlap, own=own, listed=listed)
        if run is not None:
            evaluation = _evaluate_run(
                run, cohort, vectors, changes,
                compare=compare, out=out, overwrite=overwrite, overrides=overrides or {},
                seed=seed, device=device, probe=probe, allow_overlap=allow_overlap, marks=marks,
            )  # fmt: skip
        else:
            if compare:
                raise ConfigError(
                    "vectors cannot be compared with runs",
                    where="--compare",
                    got=", ".join(map(str, compare)),
                    fix="write those of the run with `medmcl embed RUN`, and give the file: "
                    "--embeddings FILE; or evaluate the run, with --embeddings beside it",
                )
            evaluation = evaluate_vectors(
                vectors, cohort, out=out, changes=changes, overrides=overrides or {},
                seed=seed or 0, device=device, source=source,
                terms="; ".join([*([terms] if terms else []),
                                 *(f"{mark} ({name})" for name, mark in marks.items())]),
            )  # fmt: skip
    if predictions is not None:
        write_people(scored_people(evaluation.prepared, evaluation.people), Path(predictions))
    return evaluation


def _evaluate_run(
    opened_run: Run,
    cohort: Cohort | str | Path,
    vectors: Mapping[str, Path],
    changes: Mapping[str, Any],
    *,
    compare: Sequence[str | Path],
    out: str | Path | None,
    overwrite: bool,
    overrides: Mapping[str, Any],
    seed: int | None,
    device: str,
    probe: ProbeMode,
    allow_overlap: bool,
    marks: Mapping[str, str],
) -> Evaluation:
    """Score a run, and vectors beside its models."""
    from medmcl.stages.run.report import write_evaluation_report

    others = _by_name(compare)
    for one in (opened_run, *others.values()):
        one.refuse_unfinished()
    own, rest = evaluate_overrides(overrides)
    opened, said = open_as_own(opened_run, cohort, rest)
    runs = {opened_run.path.name: opened_run, **others}
    frozen = frozen_probes(opened_run, opened, probe)
    if frozen and "label_fractions" in changes:
        shares = ",".join(f"{one:g}" for one in changes["label_fractions"])
        raise of_fitting(f"--label-fraction {shares}")
    tree = {**_stage_of(opened_run, vectors, is_another(opened_run, opened)), **changes}
    spec = _with_assumed(with_settings(tree, own, is_frozen=bool(frozen)), opened)
    refuse_runs(runs, scored_dataset(opened, spec), allow=allow_overlap)
    models: Mapping[str, str] = spec.probe.models if spec.probe else {}
    _refuse_names(others, [*models, *spec.embeddings, COVARIATES, BESIDE])
    asked = opened.spec.tasks if spec.tasks == "all" else spec.tasks
    refuse_faulty(opened, asked)
    folder = Path(out) if out else opened_run.path / f"evaluation-{opened.name}"
    with claimed(folder, "an evaluation is being written", filled=True):
        claim_report_folder(folder, overwrite=overwrite)
        record = Record(folder / "metrics.jsonl", active=True)
        if said:
            record.say(said)
        evaluation = run_evaluate(
            spec,
            opened_run,
            opened,
            pick_device(device),
            record,
            others=others,
            seed=seed,
            frozen=frozen,
        )
        if not evaluation.wrecked:  # a wreck may have left nothing to score: the report says so
            refuse_nobody(evaluation, opened_run, spec, asked)
        evaluation.folder = folder
        evaluation.notes += [said] if said else []
        told = dict(marks)
        mine = told.pop(opened_run.path.absolute().name, None)
        if mine is not None:
            learned = [name for name, stage in dict(models).items() if stage != "untrained"]
            told |= dict.fromkeys([*learned, *spec.finetuned], mine)
        mark_rows(evaluation, told)
        evaluation.compared = {name: _facts(other) for name, other in others.items()}
        write_evaluation_report(opened_run, opened, evaluation)
    return evaluation


def _facts(other: Run) -> dict[str, Any]:
    """What is known of a run set beside: its folder, recipe, seed and hashes."""
    facts = other.tree("provenance")
    told = ("recipe", "cohort", "config_hash", "seed")
    return {"folder": str(other.path), **{key: facts.get(key) for key in told}}


def _by_name(paths: Sequence[str | Path]) -> dict[str, Run]:
    """Give runs by the names of their folders.

    Raises:
        ConfigError: Two have one name.
    """
    found: dict[str, Run] = {}
    for path in paths:
        name = Path(path).absolute().name
        if name in found:
            raise ConfigError(
                "two runs to compare have one name",
                where="--compare",
                got=f"{found[name].path} and {path}",
                expected="folders of different names: results go by them",
                fix="rename one of the folders, or link to it by another name",
            )
        found[name] = Run(path)
    return found


def _refuse_names(others: Iterable[str], models: Iterable[str]) -> None:
    """Refuse a run that is called as a model is in the results of the first one."""
    taken = [name for name in others if name in models]
    if taken:
        raise ConfigError(
            "a run to compare is called as a model of the first run is in its results",
            where="--compare",
            got=taken[0],
            expected=f"another name than {', '.join(models)}",
            fix="rename its folder, or link to it by another name",
        )


def _stage_of(run: Run, vectors: Mapping[str, Path], is_outside: bool) -> dict[str, Any]:
    """The run's own evaluate stage, or a plain probe of its first modality; with vectors beside.

    One set of vectors takes the place of the run's own, if that is one, whatever it is called.

    Raises:
        ConfigError: Of another cohort (``is_outside``) vectors are not given that the run has of
            its own: those are of other people, even if ids agree.
    """
    given = [*run.of(EvaluateSpec).values()]
    if given:
        spec = given[-1]
    else:
        modality = next(iter(run.recipe.inputs))
        models = {run.recipe.name: run.default_stage(modality), "untrained": "untrained"}
        spec = EvaluateSpec(
            stage="evaluate", probe=ProbeSpec(modality=modality, models=models), draws=3
        )
    files = {name: str(path) for name, path in vectors.items()}
    if len(spec.embeddings) == len(files) == 1:
        files = dict(zip(spec.embeddings, files.values(), strict=True))
    missing = [name for name in spec.embeddings if name not in files]
    if missing and is_outside:
        raise ConfigError(
            f"the run scored vectors called {', '.join(missing)}, and those of this cohort are not "
            "given",
            where=run.path,
            got=f"embeddings: {', '.join(files) or 'none'}",
            fix=" ".join(f"--embeddings {name}=FILE" for name in missing),
        )
    return {**spec.model_dump(), "embeddings": {**spec.embeddings, **files}}


def _changes(
    tasks: Sequence[str] | None, fractions: Sequence[float] | None, resample: str | None
) -> dict[str, Any]:
    """Keys of the evaluate stage that are given by name."""
    given = {
        "tasks": None if tasks is None else tuple(tasks),
        "label_fractions": None if fractions is None else tuple(fractions),
        "resample": resample,
    }
    return {key: value for key, value in given.items() if value is not None}


def _with_assumed(spec: EvaluateSpec, cohort: Cohort) -> EvaluateSpec:
    """Add the aspects that a cohort asks for where the recipe says nothing of them."""
    found = {name: ASPECTS.settings[name].assumed(spec.asked, cohort)
             for name in KEYS if name not in spec.asked}  # fmt: skip
    return spec.asking({name: one for name, one in found.items() if one is not None})


def refuse_faulty(cohort: Cohort, tasks: Iterable[str]) -> None:
    """Refuse outcomes that are at fault, all in one error.

    Raises:
        CohortError: Names every fault, and how to leave the outcomes out.
    """
    tasks = [*tasks]
    faulty = [
        task
        for task in tasks
        if task not in cohort.spec.tasks
        or any(finding.level == "error" for finding in cohort.task_findings(task))
    ]
    for task in faulty:
        if task not in cohort.spec.tasks:
            cohort.targets(task)  # refuses, with the nearest name
    if not faulty:
        return
    faults = [f for task in faulty for f in cohort.task_findings(task) if f.level == "error"]
    leave = " ".join(f"--set cohort.tasks.{task}=null" for task in faulty)
    is_all = not set(cohort.usable_tasks) & set(tasks)
    predicts = "; people without outcomes are predicted: medmcl predict RUN" if is_all else ""
    raise CohortError(
        "outcomes that are used here have faults:\n" + "\n".join(f"  - {f}" for f in faults),
        where=f"cohort {cohort.name}",
        fix=f"fix them, or leave them out: {leave}{predicts}",
    )


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
        *(f"{one.where}: {one.what}" for one in prepared.warnings if UNLIKE_TRAINING in one.code),
    )
    for line in lines:
        record.say(line)
    evaluation = Evaluation(
        folder=run.path,
        prepared=prepared,
        level=spec.level,
        resampling=spec.resample,
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
        theirs, said = _whom_they_saw(scene)
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
        evaluation.embedding_map = _cloud(scene, sources)
        _score_tasks(scene.scoring, chosen, evaluation, now, keep_probes=keep_probes)
    for name, asked in spec.asked.items():
        aspect = ASPECTS[name]()
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
    """Say how many have a vector of those that were given, and which lie outside of training."""
    people = evaluation.prepared.subjects
    for line in sources.strange:
        record.say(f"warning: {line}")
    lacking = _lacking_some(spec, sources, evaluation)
    evaluation.strange = (*evaluation.strange, *sources.strange, *lacking)
    for name in spec.embeddings:
        have = len(np.unique(people[sources.present[name]]))
        everyone = counted(len(np.unique(people)), "person", "people")
        record.say(
            f"{spec.name}: {have:,} of {everyone} have a vector of '{name}' (ids in column "
            f"'{sources.id_columns[name]}'; {len(sources.columns[name])} numbers a vector)"
        )


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


def _whom_they_saw(scene: RunScene) -> tuple[np.ndarray, list[str]]:
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
                bar(number + share, task)

            done = scoring.score(task, told)
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


def _cloud(scene: RunScene, sources: Sources) -> dict[str, Any]:
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
    """One value a sample: class or label names, a number, or event and no event."""
    if targets.kind == "multiclass":
        names = np.array([*targets.classes, "unknown"], dtype=object)
        return names[
            np.where(targets.known[:, 0], targets.values[:, 0], len(names) - 1).astype(int)
        ]
    if targets.kind == "regression":
        return np.where(targets.known[:, 0], targets.values[:, 0], np.nan)
    column = 1 if targets.kind == "survival" else 0
    flags = np.where(targets.values[:, column] > 0, "yes", "no").astype(object)
    return np.where(targets.known[:, column], flags, "unknown")
