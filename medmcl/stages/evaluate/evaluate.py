"""The evaluate stage: the only one that opens ``held_out``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medmcl.core.errors import CohortError, ConfigError
from medmcl.core.findings import counted
from medmcl.core.progress import Pace
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.prepare import Prepared
from medmcl.engine.record import Record
from medmcl.engine.signals import StopRequest
from medmcl.engine.world import pick_device
from medmcl.evaluation.aspects.confounders.measure import Confounder
from medmcl.evaluation.aspects.experts.content import ExpertContent
from medmcl.evaluation.aspects.retrieval.measure import retrieval
from medmcl.evaluation.aspects.tasks.too_good import too_good
from medmcl.evaluation.protocol.evaluate import TaskEvaluation
from medmcl.evaluation.protocol.evidence import Evidence
from medmcl.evaluation.protocol.results import BESIDE, COVARIATES, Result
from medmcl.stages.evaluate.attack.attacked import attack_results, own_attack
from medmcl.stages.evaluate.coefficients import FILE as COEFFICIENTS
from medmcl.stages.evaluate.coefficients import coefficient_rows, write_coefficients
from medmcl.stages.evaluate.confounders import ask_confounders
from medmcl.stages.evaluate.expert_report import expert_content
from medmcl.stages.evaluate.maps import held_out_maps
from medmcl.stages.evaluate.methods import Sources, gather
from medmcl.stages.evaluate.nobody import refuse_nobody
from medmcl.stages.evaluate.paired_choice import paired_choice_results
from medmcl.stages.evaluate.refit_all import refit_all
from medmcl.stages.evaluate.saved_probes import SavedProbe, save_probes, save_reading, save_simple
from medmcl.stages.evaluate.settings import evaluate_overrides, of_fitting, with_settings
from medmcl.stages.evaluate.spec import EvaluateSpec, PairedChoiceSpec, ProbeSpec, RetrievalSpec
from medmcl.stages.evaluate.task_scoring import ProbeMode, TaskScoring, frozen_probes
from medmcl.stages.evaluate.trained_models import what_was_trained
from medmcl.stages.evaluate.vectors import evaluate_vectors
from medmcl.stages.evaluate.zero_shot import zero_shot_results
from medmcl.stages.factorise.vector_files import vectors_by_name
from medmcl.stages.predict.other_coding import coded_otherwise, refuse_other_coding
from medmcl.stages.predict.people import scored_people, write_people
from medmcl.stages.predict.saved import KeptPrediction
from medmcl.stages.run.features import sample_vectors, scored_rows
from medmcl.stages.run.ledger import run_ledger, whom_they_saw
from medmcl.stages.run.outputs import claim_report_folder, claim_table
from medmcl.stages.run.own_cohort import open_as_own
from medmcl.stages.run.run import Run
from medmcl.stages.run.runs_beside import apart, what_it_reads
from medmcl.stages.run.seen import save_vectors, seen_by_any, seen_vectors
from medmcl.stages.run.study import is_another
from medmcl.stages.run.subgroups import sample_groups, sample_sites
from medmcl.stages.stage import named

if TYPE_CHECKING:
    import torch


@dataclass
class Evaluation:
    """What an evaluate stage found.

    Attributes:
        folder: Where its report lies.
        results: Task results, retrieval, zero-shot and paired-choice rows.
        cloud: Held-out embeddings of the first probe method, (N, E), for the map.
        cloud_rows: Their sample numbers.
        images: Image inputs shown with maps, (N, H, W).
        heat: Cosine maps over them, (N, H, W).
        prepared: The cohort as it was scored.
        evidence: Calibration, decision curves, risk groups, subgroups and the leakage ledger.
        compared: Runs set beside this one: name to folder.
        gaps: What was done about missing inputs and cells.
        level: Coverage that its intervals aim at.
        resampling: What the bootstrap of its intervals draws.
        experts: What the experts of a shared tower take of the tuning split.
        confounders: How well site, sex, age are predicted from the same embeddings.
        coefficients: The models of the covariates that were kept, a row a column and target.
        people: Task to what was predicted of single people (`medmcl.stages.predict.people`).
        seconds: How long it took.
        wrecked: Stages of the run that are wrecked, each with the reason.
        strange: Columns that some people have coded otherwise than the run learned them.
    """

    folder: Path
    prepared: Prepared
    results: list[Result] = field(default_factory=list)
    cloud: np.ndarray | None = None
    cloud_rows: np.ndarray | None = None
    cloud_modality: str = ""
    images: np.ndarray | None = None
    heat: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)
    evidence: Evidence = field(default_factory=Evidence)
    compared: dict[str, Path] = field(default_factory=dict)
    gaps: list[str] = field(default_factory=list)
    level: float = 0.95
    resampling: str = "subject"
    experts: list[ExpertContent] = field(default_factory=list)
    confounders: list[Confounder] = field(default_factory=list)
    coefficients: list[dict[str, Any]] = field(default_factory=list)
    people: list[tuple[str, TaskEvaluation]] = field(default_factory=list)
    seconds: float = 0.0
    wrecked: dict[str, str] = field(default_factory=dict)
    strange: tuple[str, ...] = ()


def evaluate(
    run: Run | str | Path | None = None,
    cohort: Cohort | str | Path | None = None,
    *,
    embeddings: Any = None,
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

    Raises:
        ArtefactError: A run is not finished; the folder holds a report already, or is a run;
            ``frozen``, and the run kept no probe.
        CohortError: A compared run learned from records that are held out here; or nobody can be
            scored.
        ConfigError: ``label_fractions``, and kept probes are applied; ``site``, and the cohort
            names no sites; a run to compare is called as another, or as a model of the run; neither
            a run nor vectors, or no cohort.
    """
    if cohort is None or (run is None and embeddings is None):
        what = "no cohort is named" if cohort is None else "there is nothing to evaluate"
        raise ConfigError(what, fix="give a run or embeddings, and a cohort")
    changes = _changes(tasks, label_fractions, resample)
    if predictions is not None:
        claim_table(Path(predictions), overwrite=overwrite, option="--predictions")
    with vectors_by_name(embeddings) as vectors:
        if run is not None:
            evaluation = _evaluate_run(
                run if isinstance(run, Run) else Run(run), cohort, vectors, changes,
                compare=compare, out=out, overwrite=overwrite, overrides=overrides or {},
                seed=seed, device=device, probe=probe,
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
                seed=seed or 0, device=device,
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
) -> Evaluation:
    """Score a run, and vectors beside its models."""
    from medmcl.stages.run.report import write_evaluation_report

    others = _by_name(compare)
    for one in (opened_run, *others.values()):
        one.refuse_unfinished()
    own, rest = evaluate_overrides(overrides)
    opened, said = open_as_own(opened_run, cohort, rest)
    frozen = frozen_probes(opened_run, opened, probe)
    if frozen and "label_fractions" in changes:
        shares = ",".join(f"{one:g}" for one in changes["label_fractions"])
        raise of_fitting(f"--label-fraction {shares}")
    tree = {**_stage_of(opened_run, vectors, is_another(opened_run, opened)), **changes}
    spec = _with_choices(with_settings(tree, own, is_frozen=bool(frozen)), opened)
    models = spec.probe.models if spec.probe else ()
    _refuse_names(others, [*models, *spec.embeddings, COVARIATES, BESIDE])
    folder = Path(out) if out else opened_run.path / f"evaluation-{opened.name}"
    claim_report_folder(folder, overwrite=overwrite)
    asked = opened.spec.tasks if spec.tasks == "all" else spec.tasks
    refuse_faulty(opened, asked)
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
    evaluation.compared = {name: other.path for name, other in others.items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_evaluation_report(opened_run, opened, evaluation)
    return evaluation


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
    given = [*named(run.recipe.stages, EvaluateSpec).values()]
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


def _with_choices(spec: EvaluateSpec, cohort: Cohort) -> EvaluateSpec:
    """Score a cohort's pairs by the towers of ``zero_shot``, where the recipe names no models."""
    zero_shot = spec.zero_shot
    if not cohort.choices or spec.paired_choice is not None or zero_shot is None:
        return spec
    chosen = PairedChoiceSpec(
        models={zero_shot.stage: zero_shot.stage}, image=zero_shot.modality, text=zero_shot.text
    )
    return spec.model_copy(update={"paired_choice": chosen})


def refuse_faulty(cohort: Cohort, tasks: Iterable[str]) -> None:
    """Refuse outcomes that are at fault, all in one error.

    Raises:
        CohortError: Names every fault, and how to leave the outcomes out.
    """
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
    raise CohortError(
        "outcomes that are used here have faults:\n" + "\n".join(f"  - {f}" for f in faults),
        where=f"cohort {cohort.name}",
        fix=f"fix them, or leave them out: {leave}",
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

    strange = coded_otherwise(run, cohort, spec.covariates, is_frozen=bool(frozen))
    refuse_other_coding(strange, cohort.path, record.say)
    prepared = run.prepare(cohort, modalities, check_interrupt=check_interrupt)
    evaluation = Evaluation(
        folder=run.path,
        prepared=prepared,
        level=spec.level,
        resampling=spec.resample,
        wrecked=run.wrecked,
        strange=tuple(map(str, strange)),
    )
    sites = _sites(spec, cohort, is_frozen=bool(frozen))
    seed = run.seed if seed is None else seed
    chosen = list(cohort.spec.tasks) if spec.tasks == "all" else list(spec.tasks)
    spec = what_was_trained(spec, run, evaluation.notes)
    spec = _what_the_cohort_has(spec, run, cohort, evaluation.notes)
    spec = own_attack(spec, run, cohort, evaluation.notes)
    evaluation.notes += _set_beside_nowhere(spec, chosen, others or {})
    unlabelled = scored_rows(run, prepared, is_outside=bool(frozen))

    def now(part: str) -> None:
        check_interrupt()
        record.say(f"{spec.name}: {part}")

    theirs = np.zeros(len(prepared.splits), dtype=bool)
    if spec.predicts and (chosen or spec.confounders):
        theirs, said = _whom_they_saw(spec, run, others or {}, prepared, bool(frozen))
        evaluation.notes += said
        now("embeddings" if spec.probe is not None or spec.embeddings else "covariates")
        sources = gather(
            spec,
            run,
            prepared,
            device,
            others or {},
            is_frozen=bool(frozen),
            check_interrupt=check_interrupt,
        )
        for name in spec.embeddings:
            have = len(np.unique(prepared.subjects[sources.present[name]]))
            everyone = counted(len(np.unique(prepared.subjects)), "person", "people")
            record.say(f"{spec.name}: {have:,} of {everyone} have a vector of '{name}'")
        scoring = TaskScoring(
            spec=spec,
            run=run,
            prepared=prepared,
            sources=sources,
            device=device,
            seed=seed,
            notes=evaluation.notes,
            groups=sample_groups(cohort, prepared.present),
            sites=sites,
            frozen=tuple(frozen),
            seen=seen_by_any(run, prepared, theirs | _by_vector(spec, run, sources, prepared)),
            refitted=None
            if frozen
            else refit_all(
                spec,
                run,
                prepared,
                device,
                record,
                tasks=chosen,
                seed=seed,
                sites=sites,
                stop=stop,
                others=others,
                check_interrupt=check_interrupt,
            ),
        )
        _keep_cloud(evaluation, spec, sources, unlabelled)
        _score_tasks(scoring, chosen, evaluation, now, keep_probes=keep_probes)
        evaluation.confounders = ask_confounders(scoring, now)
    if spec.retrieval is not None:
        now("retrieval")
        evaluation.results += _retrieval(
            spec.retrieval,
            run,
            prepared,
            device,
            spec,
            seed,
            unlabelled,
            sites if spec.resample == "site" else None,
        )
    if spec.zero_shot is not None:
        now("zero-shot")
        evaluation.results += zero_shot_results(
            spec.zero_shot, run, prepared, device, spec, chosen, seed, evaluation.notes, sites,
            fits=bool(spec.predicts and chosen) and not frozen,
        )  # fmt: skip
    if spec.paired_choice is not None:
        now("paired choice")
        evaluation.results += paired_choice_results(
            spec.paired_choice,
            run,
            prepared,
            device,
            spec,
            seed,
            evaluation.notes,
            sites if spec.resample == "site" else None,
        )
    if spec.attack is not None:
        now("attack")
        rows, ledger = attack_results(
            spec, run, prepared, device, seed, evaluation.notes, sites, others
        )
        evaluation.results += rows
        evaluation.evidence = evaluation.evidence.joined(ledger)
    _look_at_maps(spec, run, evaluation, device, unlabelled, now)
    _look_at_experts(spec, run, evaluation, device, seed, now)
    _warn_of_leaks(evaluation.results, record)
    evaluation.seconds = time.monotonic() - began
    return evaluation


def _warn_of_leaks(results: Sequence[Result], record: Record) -> None:
    for line in too_good(results):
        record.say(f"warning: {line}")


def _set_beside_nowhere(
    spec: EvaluateSpec, tasks: Sequence[str], others: Mapping[str, Run]
) -> list[str]:
    """Say so where nothing that is evaluated can set other runs beside."""
    is_probed = spec.predicts and bool(tasks or spec.confounders)
    if not others or is_probed or spec.attack is not None:
        return []
    return [
        f"nothing sets {' or '.join(others)} beside this run: neither a probe of a task nor an "
        "attack is evaluated"
    ]


def _look_at_maps(
    spec: EvaluateSpec,
    run: Run,
    evaluation: Evaluation,
    device: torch.device,
    scored: np.ndarray,
    now: Callable[[str], None],
) -> None:
    """Keep cosine maps of scored samples, or a note that says why there are none."""
    if spec.maps is None:
        return
    if not spec.maps.pixels:
        evaluation.notes.append(
            "maps left out: they show images of single people; ask for them by "
            f"--set stages.{spec.name}.maps.pixels=true"
        )
        return
    now("maps")
    shown = held_out_maps(spec.maps, run, evaluation.prepared, device, scored)
    if shown is None:
        evaluation.notes.append("maps left out: no scored sample has both modalities")
    else:
        evaluation.images, evaluation.heat = shown


def _look_at_experts(
    spec: EvaluateSpec,
    run: Run,
    evaluation: Evaluation,
    device: torch.device,
    seed: int,
    now: Callable[[str], None],
) -> None:
    """Keep what the experts of a stage take, or a note that says why there is nothing."""
    if spec.experts is None:
        return
    now("experts")
    found = expert_content(spec.experts, run, evaluation.prepared, device, seed)
    if isinstance(found, str):
        evaluation.notes.append(found)
    else:
        evaluation.experts.append(found)
        evaluation.notes += found.left_out


def _by_vector(spec: EvaluateSpec, run: Run, sources: Sources, prepared: Prepared) -> np.ndarray:
    """Samples whose given vector a run's probes were fitted on, (N,) bool; its own are kept."""
    given = {name: sources.embeddings[name] for name in spec.embeddings}
    nobody = np.zeros(len(prepared.splits), dtype=bool)
    if not given:
        return nobody
    if not is_another(run, prepared.cohort):
        save_vectors(run, given, sources.present, prepared.splits)
        return nobody
    seen = seen_vectors(run, given, sources.present)
    if seen is None:
        return nobody
    return np.asarray(np.isin(prepared.subjects, prepared.subjects[seen]))


def _whom_they_saw(
    spec: EvaluateSpec, run: Run, others: Mapping[str, Run], prepared: Prepared, is_frozen: bool
) -> tuple[np.ndarray, list[str]]:
    """Samples of people whom runs that are set beside have seen, (N,) bool; and remarks.

    Raises:
        ConfigError: Kept probes are applied (``is_frozen``), and a run without an encoder, or one
            beside it, would have to be fitted here.
    """
    cohort, strange = prepared.cohort, apart(spec, others)
    if strange and is_frozen:
        raise ConfigError(
            "the probes that the run kept are applied here and nothing is fitted, so other runs "
            "cannot be set beside it",
            where="--compare",
            got=", ".join(strange),
            fix="--probe refit, which fits all of them on this cohort's train split",
        )
    again = {}
    for name, other in others.items():
        if name in strange:
            what_it_reads(name, other, cohort)  # refuses
            read = tuple(n for n in other.recipe.inputs if n in cohort.spec.modalities)
        else:
            assert spec.probe is not None  # else every run is apart
            read = _shared(spec.probe, run, other, cohort)
        again[name] = other, other.prepare(cohort, read)
    return whom_they_saw(again, prepared.splits)


def _shared(probe: ProbeSpec, run: Run, other: Run, cohort: Cohort) -> tuple[str, ...]:
    """Modalities of a probe that another run and the cohort have, too.

    Raises:
        ConfigError: There is none.
    """
    wanted = probe.read(run.recipe.inputs)
    found = [n for n in wanted if n in other.recipe.inputs and n in cohort.spec.modalities]
    if not found:
        raise ConfigError(
            f"the run to compare with does not read {' or '.join(wanted)}",
            where=other.path,
            expected=", ".join(other.recipe.inputs),
        )
    return tuple(found)


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
    spec, run, prepared, sources = scoring.spec, scoring.run, scoring.prepared, scoring.sources
    evaluation.notes += sources.notes
    evaluation.gaps = ["samples that lack an input of any method are not scored", *sources.gaps]
    learned = () if spec.probe is None else spec.probe.models.values()
    fitted = (*run_ledger(run, [*learned]), *sources.fitted)
    evaluation.evidence = Evidence(fitted=fitted)
    if keep_probes and sources.covariates is not None and spec.covariates is not None:
        save_reading(run, spec.covariates, sources.covariates.reading)
    if keep_probes and sources.simple_reading is not None:
        save_simple(run, sources.simple_reading)
    kept = KeptPrediction()
    pace = Pace(len(tasks))
    for number, task in enumerate(tasks):
        left = pace.left(number)
        now(f"{task} (task {number + 1} of {len(tasks)}{left and f', {left}'})")
        done = scoring.score(task)
        evaluation.results += done.results
        evaluation.people.append((task, done))
        evaluation.evidence = evaluation.evidence.joined(done.evidence)
        if keep_probes:
            targets = prepared.tasks(task)
            save_probes(run, prepared.cohort, targets, done, spec.probe, spec.covariates)
            kept.add_task(task, done)
            for label, curves in scoring.heads.items():
                kept.add_head(task, label, curves)
            evaluation.coefficients += coefficient_rows(
                targets, done.models, sources.covariates, done.setting, spec.level
            )
    if keep_probes:
        kept.add_reach(scoring)
        kept.save(run)
    if evaluation.coefficients:
        write_coefficients(run.path, evaluation.coefficients)
        evaluation.notes.append(f"the models of the covariates, written out: {COEFFICIENTS}")


def _what_the_cohort_has(
    spec: EvaluateSpec, run: Run, cohort: Cohort, notes: list[str]
) -> EvaluateSpec:
    """Leave out parts that read modalities which the cohort does not have, each with a note."""
    have = cohort.spec.modalities
    parts: dict[str, tuple[str, ...]] = {}
    wanted = () if spec.probe is None else spec.probe.read(run.recipe.inputs)
    if spec.probe is not None and not (spec.probe.several and any(n in have for n in wanted)):
        parts["probe"] = wanted
    if spec.covariates is not None:
        parts["covariates"] = (spec.covariates,)
    parts |= _of_two(spec)
    changes: dict[str, Any] = {}
    if spec.retrieval is not None:
        pairs = tuple(p for p in spec.retrieval.named if all(name in have for name in p))
        changes["retrieval"] = spec.retrieval.model_copy(update={"pairs": pairs}) if pairs else None
        if len(pairs) < len(spec.retrieval.named):
            notes.append(f"retrieval left out: the cohort has only {', '.join(have)}")
    for part, needed in parts.items():
        missing = [name for name in needed if name not in have]
        if missing:
            changes[part] = None
            notes.append(f"{part} left out: the cohort has no {', '.join(missing)}")
    left = spec.model_copy(update=changes)
    lost = ", ".join(wanted) if spec.probe is not None and left.probe is None else ""
    if not left.predicts and spec.predicts:
        lost = lost or str(spec.covariates)
    if lost:
        what = "embeddings are scored" if spec.probe is not None else "columns are the predictors"
        raise ConfigError(
            f"the cohort has no '{lost}', the modality whose {what}",
            got=", ".join(have),
            fix="if it has it under another name, call it as the run does in a copy of its "
            "cohort.yaml",
        )
    return left


def _of_two(spec: EvaluateSpec) -> dict[str, tuple[str, ...]]:
    """Parts that read two modalities together, with their names."""
    parts: dict[str, tuple[str, ...]] = {}
    if spec.zero_shot is not None:
        parts["zero_shot"] = (spec.zero_shot.modality, spec.zero_shot.text)
    if spec.paired_choice is not None:
        parts["paired_choice"] = (spec.paired_choice.image, spec.paired_choice.text)
    if spec.maps is not None:
        parts["maps"] = (spec.maps.query, spec.maps.image)
    return parts


def _keep_cloud(
    evaluation: Evaluation, spec: EvaluateSpec, sources: Sources, rows: np.ndarray
) -> None:
    """Keep the embeddings of the first method for the map; covariates alone have none."""
    if not sources.embeddings:
        return
    label = next(iter(sources.embeddings))
    rows = rows[sources.present[label][rows]]
    evaluation.cloud, evaluation.cloud_rows = sources.embeddings[label][rows], rows
    if spec.probe is None:
        evaluation.cloud_modality = label
        return
    read = spec.probe.modality
    named = read if isinstance(read, str) else " + ".join(read)
    evaluation.cloud_modality = "all modalities" if named == "all" else named


def _retrieval(
    spec: RetrievalSpec,
    run: Run,
    prepared: Prepared,
    device: torch.device,
    stage: EvaluateSpec,
    seed: int,
    scored: np.ndarray,
    sites: np.ndarray | None,
) -> list[Result]:
    rows: list[Result] = []
    vectors = {
        name: sample_vectors(run, prepared, spec.stage, name, "pooled", device)
        for name in dict.fromkeys(name for pair in spec.named for name in pair)
    }
    for a, b in spec.named:
        both = scored[prepared.present[a][scored] & prepared.present[b][scored]]
        rows += retrieval(
            vectors[a][both],
            vectors[b][both],
            names=(a, b),
            identity=(prepared.identity(a)[both], prepared.identity(b)[both]),
            groups=prepared.subjects[both],
            sites=None if sites is None else sites[both],
            ks=spec.ks,
            draws=stage.bootstrap_draws,
            level=stage.level,
            seed=seed,
            method=spec.stage,
        )
    return rows
