"""``medmcl evaluate``: a run, or vectors from elsewhere, scored on a cohort; its report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medmcl.core.errors import ConfigError
from medmcl.core.file_lock import claimed, one_writer
from medmcl.data.cohort.cohort import Cohort
from medmcl.encoders.published.overlap import refuse_overlap
from medmcl.engine.record import Record
from medmcl.engine.world import pick_device
from medmcl.evaluation.aspects.aspect import ASPECTS
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.protocol.results import BESIDE, COVARIATES
from medmcl.stages.evaluate.nobody import refuse_nobody
from medmcl.stages.evaluate.overlap import (
    dataset_of,
    mark_rows,
    refuse_runs,
    refuse_seen,
    scored_dataset,
    search_lists,
    seen_before,
)
from medmcl.stages.evaluate.spec import KEYS, EvaluateSpec, ProbeSpec
from medmcl.stages.evaluate.stage import run_evaluate
from medmcl.stages.evaluate.task_scoring import ProbeMode, frozen_probes
from medmcl.stages.evaluate.vectors import OfModels, evaluate_vectors, new_folder
from medmcl.stages.factorise.named_vectors import named_vectors, vectors_by_name
from medmcl.stages.predict.people import scored_people, write_people
from medmcl.stages.recipe.on_cohort import refuse_faulty
from medmcl.stages.recipe.settings import evaluate_overrides, of_fitting, with_settings
from medmcl.stages.run.outputs import claim_report_folder, claim_table, refuse_input
from medmcl.stages.run.own_cohort import open_as_own
from medmcl.stages.run.run import Run
from medmcl.stages.run.study import is_another


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
    round_to: int | None = None,
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
        round_to: Rounds all counts of the report to multiples of this; as the recipe says if not
            given.
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
    changes = _changes(tasks, label_fractions, resample, round_to)
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
    tasks: Sequence[str] | None,
    fractions: Sequence[float] | None,
    resample: str | None,
    round_to: int | None,
) -> dict[str, Any]:
    """Keys of the evaluate stage that are given by name."""
    given = {
        "tasks": None if tasks is None else tuple(tasks),
        "label_fractions": None if fractions is None else tuple(fractions),
        "resample": resample,
        "round_to": round_to,
    }
    return {key: value for key, value in given.items() if value is not None}


def _with_assumed(spec: EvaluateSpec, cohort: Cohort) -> EvaluateSpec:
    """Add the aspects that a cohort asks for where the recipe says nothing of them."""
    found = {name: ASPECTS.settings[name].assumed(spec.asked, cohort)
             for name in KEYS if name not in spec.asked}  # fmt: skip
    return spec.asking({name: one for name, one in found.items() if one is not None})
