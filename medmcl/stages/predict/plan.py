"""Which kept probe or fine-tuned model predicts which task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medmcl.core.config import refuse_absent
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.evaluation.protocol.results import BESIDE, COVARIATES
from medmcl.stages.evaluate.saved_probes import SavedProbe, load_probes
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.run.run import Run
from medmcl.stages.train.spec import fill


@dataclass(frozen=True, kw_only=True)
class TaskPlan:
    """How one task is predicted.

    Attributes:
        task: The task.
        method: Name in the results.
        spec: Evaluate stage that scored it.
        probe: The kept probe; None of a fine-tuned model.
        head: Stage of the fine-tuned model; empty of a probe.
    """

    task: str
    method: str
    spec: EvaluateSpec
    probe: SavedProbe | None = None
    head: str = ""


def plan_tasks(
    run: Run, tasks: Sequence[str] | None = None, method: str | None = None
) -> tuple[list[TaskPlan], list[str]]:
    """Choose what predicts each task.

    Args:
        run: The run.
        tasks: Tasks to predict; all that have something to predict them if not given.
        method: Name in the results; if not given, the first of the evaluate stage; where that is
            of vectors made elsewhere the covariates, and that is said.

    Returns:
        Plans in the order of the run's tasks, and what a reader must know.

    Raises:
        ArtefactError: The run keeps nothing that predicts.
        ConfigError: There is no such task or method; or the first method is not kept.
    """
    offered = _offered(run)
    if not offered:
        raise ArtefactError(
            "the run keeps no probe and no fine-tuned model: nothing predicts",
            where=run.path,
            expected="an evaluate stage in the run's recipe; it keeps its probes in probes/",
            fix="train with such a stage. Probes that hold people's rows (protocol: knn) are not "
            "kept, on purpose; and those of vectors made elsewhere cannot read records",
        )
    known = list(dict.fromkeys(task for task, _ in offered))
    for task in tasks or ():
        refuse_absent(task, known, f"the run has nothing that predicts '{task}'", where="--task")
    methods = list(dict.fromkeys(name for _, name in offered))
    if method is not None:
        refuse_absent(method, methods, f"the run keeps no method '{method}'", where="--method")
    wanted = [task for task in known if not tasks or task in tasks]
    plans = [_plan(offered, task, method) for task in wanted]
    lost = [task for task, plan in zip(wanted, plans, strict=True) if plan is None]
    found = [plan for plan in plans if plan is not None]
    name = method or _first(next(iter(offered.values())).spec)
    said = [f"{task}: not predicted, the run keeps no probe of '{name}'" for task in lost]
    if method is None:
        said += _instead(found)
    if not found:
        raise ConfigError(
            f"no probe of '{name}' is kept in the run",
            where="--method",
            got=f"kept: {', '.join(methods)}",
            fix=f"--method '{methods[0]}'. Probes that hold people's rows (protocol: knn) are not "
            "kept, on purpose",
        )
    return found, said


def _instead(plans: Sequence[TaskPlan]) -> list[str]:
    """Say which method is taken where the evaluate stage is about vectors made elsewhere."""
    found: dict[tuple[str, ...], str] = {}
    for plan in plans:
        if plan.spec.embeddings and not plan.spec.probe and not plan.spec.finetuned:
            found[tuple(plan.spec.embeddings)] = plan.method
    return [
        f"predicted by '{method}': the run's first method is of vectors made elsewhere "
        f"({', '.join(names)}), which predict does not read. A cohort with outcomes and such "
        f"vectors is scored: medmcl evaluate RUN --cohort COHORT --embeddings {names[0]}=FILE"
        for names, method in found.items()
    ]


def _plan(
    offered: dict[tuple[str, str], TaskPlan], task: str, method: str | None
) -> TaskPlan | None:
    if method is not None:
        return offered.get((task, method))
    specs = {plan.spec.name: plan.spec for (name, _), plan in offered.items() if name == task}
    firsts = [offered.get((task, _first(spec))) for spec in specs.values()]
    return next((plan for plan in firsts if plan is not None), None)


def _first(spec: EvaluateSpec) -> str:
    """The method that an evaluate stage is about."""
    if spec.probe is not None:
        return next(iter(spec.probe.models))
    return next(iter(spec.finetuned), COVARIATES)


def _offered(run: Run) -> dict[tuple[str, str], TaskPlan]:
    """Everything that predicts: (task, method) to its plan, in the order of the run's tasks."""
    specs = [*run.of(EvaluateSpec).values()]
    found: dict[tuple[str, str], TaskPlan] = {}
    if not specs:
        return found
    kept: dict[str, list[SavedProbe]] = {}
    for one in load_probes(run):
        kept.setdefault(one.task, []).append(one)
    for task in run.config["tasks"]:
        for probe in kept.get(task, ()):
            if not _can_read(probe.method, specs):
                continue
            spec = next((s for s in specs if _has(s, probe.method)), specs[-1])
            plan = TaskPlan(task=task, method=probe.method, spec=spec, probe=probe)
            found[task, probe.method] = plan
        for spec in specs:
            for label, pattern in spec.finetuned.items():
                stage = _head(run, pattern, task, spec)
                if stage and task in run.tasks:
                    plan = TaskPlan(task=task, method=label, spec=spec, head=stage)
                    found.setdefault((task, label), plan)
    return found


def _can_read(method: str, specs: Sequence[EvaluateSpec]) -> bool:
    """Whether a method reads records, not vectors that were made elsewhere."""
    if any(method in spec.embeddings for spec in specs):
        return False
    return method != BESIDE or any(spec.probe is not None for spec in specs)


def _has(spec: EvaluateSpec, method: str) -> bool:
    return spec.probe is not None and method in spec.probe.models


def _head(run: Run, pattern: str, task: str, spec: EvaluateSpec) -> str:
    """The stage fine-tuned with the largest share of the labels; empty if there is none."""
    for fraction in sorted(spec.label_fractions, reverse=True):
        stage = str(fill(pattern, {"task": task, "label_fraction": fraction}))
        if stage in run.stages and run.is_finished(stage) and not run.skipped(stage):
            return stage
    return ""
