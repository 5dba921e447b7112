"""What a study was, read from the cohort, the recipe and the finished stages of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from medmcl.core.config import Config
from medmcl.core.findings import counted
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.cohort.spec import (
    BinaryKeys,
    MulticlassKeys,
    MultilabelKeys,
    RegressionKeys,
    SubjectsKeys,
    SurvivalKeys,
    Task,
)
from medmcl.evaluation.report.study import Outcome, Predictor, Study
from medmcl.evaluation.report.words import listed
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.run.run import Run
from medmcl.stages.stage import TAUGHT

MOST_NAMED = 8  # columns or settings in a clause; the others are counted


ROSE = 0.1
"""Share of its best value by which tuning loss rose, from which a stage is said to overfit."""


def study_of(run: Run, cohort: Cohort, tasks: Sequence[str], evaluated_s: float = 0.0) -> Study:
    """Collect the facts that the files state; what they do not state stays empty.

    Args:
        run: The run.
        cohort: The cohort that was scored.
        tasks: Its tasks that were scored.
        evaluated_s: Seconds that scoring them took.
    """
    keys = cohort.spec.keys
    first, last = _dates(cohort)
    read = [name for name in run.recipe.inputs if name in cohort.spec.modalities]
    return Study(
        about=keys.about,
        first_date=first,
        last_date=last,
        sites=None if keys.subjects.group is None else cohort.sites.nunique(),
        eligibility=_rules(cohort),
        split_rule=_split_rule(keys.subjects),
        index=_index(cohort),
        outcomes=tuple(_outcome(name, cohort.spec.tasks[name]) for name in tasks),
        predictors=tuple(_predictor(name, run, cohort) for name in read),
        towers=_towers(run.recipe),
        training=_training(run),
        seconds={
            "training": _summed(run, "seconds"),
            "data_wait": _summed(run, "data_wait_seconds"),
            "evaluation": round(evaluated_s, 3),
        },
        external=is_another(run, cohort),
    )


def is_another(run: Run, cohort: Cohort) -> bool:
    """Whether the cohort is another than the run's own, by its name and by its content."""
    own = (run.config.get("cohort"), run.config.get("cohort_fingerprint"))
    return cohort.name != own[0] and cohort.fingerprint != own[1]


def changed_since(run: Run, cohort: Cohort) -> str:
    """Say that the run's own cohort is no longer what it was trained on; empty where it is."""
    trained = run.config.get("cohort_fingerprint")
    if trained in (None, cohort.fingerprint) or is_another(run, cohort):
        return ""
    return (
        f"cohort {cohort.name} is not as it was when the run was trained on it (fingerprint "
        f"{cohort.fingerprint}, then {trained}): a table, cohort.yaml or a key of --set has "
        "changed since; what was trained is of then, what is fitted and scored here is of now"
    )


def stage_sentence(fact: Mapping[str, Any]) -> str:
    """Say in a sentence what a stage trained on; a stage without steps has said it itself."""
    if "sentence" in fact:
        return str(fact["sentence"])
    spare = fact.get("tuning_left_out", 0)
    left = f" ({spare} of the tuning split left out of its batches)"
    best = f", best at step {fact['best_step']}{left if spare else ''}"
    if fact.get("keep") == "last" and fact["best_step"] != fact["steps"]:
        best = f", the last step kept (tuning loss was best at step {fact['best_step']})"
        best += left if spare else ""
    if fact["best_tuning_loss"] is None:
        best = ", no tuning loss to choose by: the last step is kept"
    skipped = f", {fact['skipped_steps']} steps skipped" if fact["skipped_steps"] else ""
    empty = fact.get("empty_steps", 0)
    skipped += f", {empty} without rows to charge for" if empty else ""
    if fact.get("judged_rows"):
        kept, judged = (f"{fact[name]:,}" for name in ("kept_rows", "judged_rows"))
        skipped += f", {kept} of {judged} rows kept ({fact['selection_seconds']:g} s of judging)"
    skipped += _within(fact)
    spikes = fact.get("gradient_spikes", 0)
    skipped += f", {counted(spikes, 'spike')} of the gradient norm" if spikes else ""
    lacking = fact.get("lacking", 0)
    without = f" ({counted(lacking, 'train sample')} without its modalities left out)"
    kept = fact.get("kept_for_later", 0)
    later = f" ({counted(kept, 'subject')} left for a later stage to learn pairs on)"
    bad = f", {fact['poisoned']} of them poisoned" if "poisoned" in fact else ""
    gone = fact.get("not_selected", 0)
    why = f"subset ({fact['subset']}), " if "subset" in fact else ""
    why += "selection, fold or group"
    taught = fact.get(TAUGHT)
    heard = "" if taught is None else f" ({taught} of them have what its head reads)"
    chosen = f" ({counted(gone, 'sample')} left out by {why})" if gone else ""
    last = f" Wrecked: {fact['wrecked']}." if "wrecked" in fact else ""
    if not last and (said := overfitting(fact)):
        last = f" {said}"
    wait = fact.get("data_wait_seconds", 0.0) / max(fact["seconds"], 1e-9)
    waited = f", {wait:.0%} of them waiting for rows" if fact["seconds"] >= 1 else ""
    return (
        f"Stage {fact['stage']}: {fact['rows']} samples of {fact['subjects']} subjects{bad}{heard}"
        f"{without if lacking else ''}{later if kept else ''}{chosen}, "
        f"{fact['steps']} steps of {fact['batch_size']}{best}{skipped}; "
        f"{fact['parameters'] / 1e6:.2f} M parameters; {fact['seconds']:.0f} s{waited}.{last}"
    )


def overfitting(fact: Mapping[str, Any]) -> str:
    """Say that tuning loss was best in the first half and rose by a tenth or more since."""
    best, last = fact.get("best_tuning_loss"), fact.get("last_tuning_loss")
    if best is None or last is None or 2 * fact["best_step"] > fact["steps"]:
        return ""
    if last - best < ROSE * abs(best):
        return ""
    return (
        f"Tuning loss was best at step {fact['best_step']} of {fact['steps']} ({best:.3g}) and "
        f"{last:.3g} at the end: the stage overfits; more data, weaker towers, stronger views or "
        "fewer steps help."
    )


def _within(fact: Mapping[str, Any]) -> str:
    """Say of which groups negatives were, and which rows were in no batch."""
    if "groups" not in fact:
        return ""
    alone, waiting = fact["alone_rows"], fact["waiting_rows"]
    out = f", {counted(alone, 'row')} alone in their group left out" if alone else ""
    out += f", {counted(waiting, 'row')} of people with many waiting an epoch" if waiting else ""
    notes = "".join(f"; {note}" for note in fact["notes"])
    return f", negatives within {counted(fact['groups'], 'group')}{out}{notes}"


def _training(run: Run) -> tuple[str, ...]:
    """A sentence a finished stage that trained without labels, or only prepared; others counted.

    Without any stage of its own a run scores covariates, or vectors from elsewhere.
    """
    made = _made(run)
    done = {name: run.facts(name) for name in made}
    free = [stage_sentence(f) for n, f in done.items() if f and made[n] is None]
    free += [] if run.stages else ["No encoder is trained."]
    tuned = sum(bool(f) and made[n] is not None for n, f in done.items())
    return (*free, *([f"{counted(tuned, 'stage')} fine-tuned with labels."] if tuned else []))


def _made(run: Run) -> dict[str, str | None]:
    """Stages that train or prepare, to the task of those that learn labels."""
    return {one.name: one.trained_task for one in run.specs.values() if one.learns}


def _summed(run: Run, key: str) -> float:
    """Sum seconds of all finished stages before the evaluation."""
    return round(sum(float(run.facts(name).get(key, 0.0)) for name in _made(run)), 3)


def cost_sentence(seconds: Mapping[str, float]) -> str:
    """Say how long training and evaluation took; nothing without an evaluation."""
    if not seconds["evaluation"]:
        return ""
    training, evaluation = (_spell(seconds[name]) for name in ("training", "evaluation"))
    return (
        f"Training took {training}, the stages added up, also those that ran at the same time; "
        f"evaluation {evaluation} (drawing this page not counted)."
    )


def _spell(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def _dates(cohort: Cohort) -> tuple[str, str]:
    """Months of the first and last dated record; a day could point to one person."""
    dates = [cohort.records[name]["date"].dropna() for name in cohort.spec.modalities]
    known = [part for part in dates if len(part)]
    if not known:
        return "", ""
    every = pd.concat(known)
    return f"{every.min():%Y-%m}", f"{every.max():%Y-%m}"


def _rules(cohort: Cohort) -> tuple[str, ...]:
    keys = cohort.spec.keys
    rules = []
    if keys.subjects.where is not None:
        rules.append(f"subjects for whom {keys.subjects.where}")
    if keys.index is not None:
        rules.append("records up to the index date")
    if keys.pairing.max_gap_days is not None:
        gap = keys.pairing.max_gap_days
        rules.append(f"records within {gap:g} days of {cohort.spec.anchor}")
    rules += [f"{n} where {m.keys.present}" for n, m in cohort.spec.modalities.items()
              if m.keys.present is not None]  # fmt: skip
    if keys.on_bad_record == "exclude":
        rules.append("records that pass the checks, the others excluded and counted")
    if cohort.noise is not None:
        rules.append(f"pairs made wrong on purpose: {cohort.noise}")
    return tuple(rules)


def _split_rule(subjects: SubjectsKeys) -> str:
    split = subjects.split
    if split.everyone is not None:
        return f"everyone in {split.everyone}"
    if split.random is not None:
        drawn = split.random
        return (
            f"by subject, at random ({drawn.tuning:.0%} tuning, {drawn.held_out:.0%} held_out, "
            f"seed {drawn.seed})" + ("" if subjects.declares_split else "; none is declared")
        )
    return f"by subject, as the column {split.column} says"


def _index(cohort: Cohort) -> str:
    index = cohort.spec.keys.index
    if index is None:
        return ""
    return f"the date in {index.column}" if index.column else f"the date of {index.modality}"


def _outcome(name: str, task: Task) -> Outcome:
    unit = task.unit if isinstance(task, RegressionKeys | SurvivalKeys) else ""
    horizons = task.horizons_years if isinstance(task, SurvivalKeys) else ()
    return Outcome(name=name, kind=task.kind, definition=_definition(task), about=task.about,
                   unit=unit, horizons=horizons)  # fmt: skip


def _definition(task: Task) -> str:
    if isinstance(task, BinaryKeys | MulticlassKeys):
        return task.column
    if isinstance(task, SurvivalKeys):
        other = task.competing or task.competing_date
        beside = f", competing event {other}" if other else ""
        if task.time is not None:
            return f"time {task.time}, event {task.event}{beside}"
        return f"event date {task.event_date}, end of follow-up {task.censor_date}{beside}"
    if isinstance(task, RegressionKeys) and task.column is not None:
        return task.column
    if isinstance(task, MultilabelKeys) and task.labels is not None:
        return f"every label in {task.labels}"
    assert isinstance(task, MultilabelKeys | RegressionKeys)  # of the kinds that are left
    parts = [n if n == text else f"{n} = {text}" for n, text in task.columns.items()]
    return listed(parts, MOST_NAMED)


def _predictor(name: str, run: Run, cohort: Cohort) -> Predictor:
    spec = cohort.spec.modalities[name]
    given = run.recipe.inputs[name]
    return Predictor(
        name=name,
        kind=spec.kind,
        source=_source(spec.source),
        preparation=_clause(given) if given else "default settings of its adapter",
    )


def _source(source: Config) -> str:
    told = source.model_dump(mode="json", exclude_defaults=True)
    reader = source.model_dump(mode="json").get("reader", "")
    return _clause({"reader": reader, **{k: v for k, v in told.items() if k != "reader"}})


def _towers(recipe: RecipeSpec) -> dict[str, str]:
    """Each modality to its tower in a clause, or what all share under that name."""
    if recipe.shared is None:
        return {name: _tower(tower) for name, tower in recipe.towers.items()}
    own = {k: v for k, v in recipe.shared.items() if k not in ("input_projections", "experts")}
    input_projections, experts = (
        recipe.shared.get("input_projections", {}),
        recipe.shared.get("experts", {}),
    )
    what = {
        f"input projection of {name}": _clause(one)
        for name, one in input_projections.items()
        if one
    }
    routed = "none" if experts is None else _clause(experts) or "at their defaults"
    shared = {"one tower for all modalities": _clause(own) or "at its defaults", "experts": routed}
    return {**shared, **what}


def _tower(tower: Mapping[str, Any]) -> str:
    encoder = dict(tower.get("encoder", {}))
    name = encoder.pop("name", "encoder")
    return f"{name} ({_clause(encoder)})" if encoder else str(name)


def _clause(settings: Mapping[str, Any]) -> str:
    """Settings as ``rate_hz 100, leads 12std``."""
    return listed([f"{name} {_word(value)}" for name, value in settings.items()], MOST_NAMED)


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return listed([str(name) for name in value], MOST_NAMED, " and ")
    if isinstance(value, list | tuple):
        return listed([str(part) for part in value], MOST_NAMED, " and ")
    return "none" if value is None else str(value)
