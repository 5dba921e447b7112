"""The stages of a recipe in order, as they are run.

A stage with ``for_each`` becomes one stage for each combination of its variables, written
``{task}`` in its strings.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medmcl.core.config import check, nearest
from medmcl.core.errors import ConfigError
from medmcl.stages.cluster.spec import ClusterSpec
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.poison.spec import PoisonSpec
from medmcl.stages.recipe.spec import AnyStage, RecipeSpec
from medmcl.stages.recipe.stage_names import with_exceptions
from medmcl.stages.select.spec import SelectSpec
from medmcl.stages.train.spec import JoinSpec, TowersSpec, TrainSpec


def expand(recipe: RecipeSpec, tasks: Sequence[str]) -> list[AnyStage]:
    """Give the stages in order, each ``for_each`` stage once for each combination.

    Args:
        recipe: The recipe as checked.
        tasks: Tasks of the cohort, for ``task: all``.

    Raises:
        ConfigError: A stage has both epochs and steps, or neither; names or order do not fit.
    """
    stages: list[AnyStage] = []
    for spec in recipe.stages:
        if isinstance(spec, TrainSpec):
            check_length(spec)
        stages.extend(each(spec, tasks))
    _check_order(stages)
    return stages


def check_length(spec: TrainSpec) -> None:
    """Refuse a train stage whose length is not said, or said twice.

    Raises:
        ConfigError: It has both epochs and steps, or neither.
    """
    key = f"--set stages.{spec.name}"
    if spec.epochs is not None and spec.steps is not None:
        raise ConfigError(
            "has both epochs and steps, and only one of them can say how long it trains",
            where=f"stage {spec.name}",
            got=f"epochs={spec.epochs:g} and steps={spec.steps}",
            expected="one of them; the other null",
            mend=f"'{key}.epochs=null', or '{key}.steps=null'",
        )
    if spec.epochs is None and spec.steps is None:
        raise ConfigError(
            "has neither epochs nor steps, so it is not said how long it trains",
            where=f"stage {spec.name}",
            mend=f"'{key}.epochs=10', or '{key}.steps=1000'",
        )


def each(spec: AnyStage, tasks: Sequence[str]) -> Iterable[AnyStage]:
    """Give the stages that one is written for: itself, or one for each combination."""
    if not isinstance(spec, TrainSpec) or not spec.for_each:
        yield spec
        return
    values = {
        name: list(tasks) if chosen == "all" else list(chosen)
        for name, chosen in spec.for_each.items()
    }
    tree = spec.model_dump(by_alias=True)
    tree["for_each"] = {}
    combinations = [
        dict(zip(values, one, strict=True)) for one in itertools.product(*values.values())
    ]
    names = [str(fill(spec.name, variables)) for variables in combinations]
    for name in spec.exceptions:
        if name not in names:
            raise ConfigError(
                f"there is no stage '{name}'{nearest(name, names)}",
                mend=f"write one of these names; '{spec.name}' is written for them all",
            )
    for name, variables in zip(names, combinations, strict=True):
        laid = with_exceptions(tree, spec.exceptions.get(name, {}))
        yield check(
            TrainSpec, fill(laid, variables), f"stage {name}", ConfigError, f"stages.{name}"
        )


def fill(tree: Any, variables: Mapping[str, Any]) -> Any:
    """Replace ``{name}`` in every string of ``tree``; a string that is only that keeps the type."""
    if isinstance(tree, dict):
        return {key: fill(value, variables) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [fill(value, variables) for value in tree]
    if not isinstance(tree, str):
        return tree
    for name, value in variables.items():
        if tree == f"{{{name}}}":
            return value
        tree = tree.replace(f"{{{name}}}", str(value))
    return tree


def _check_order(stages: Sequence[AnyStage]) -> None:
    made: list[str] = []
    for key in ("level", "resample"):
        found = sorted({str(getattr(s, key)) for s in stages if isinstance(s, EvaluateSpec)})
        if len(found) > 1:
            raise ConfigError(
                f"evaluate stages differ in '{key}', but one report shows their intervals",
                got=", ".join(found),
            )
    for spec in stages:
        if spec.name in made:
            raise ConfigError(f"two stages are named '{spec.name}'")
        for wanted in needs(spec):
            if wanted not in made:
                grouped = spec.groups if isinstance(spec, TrainSpec) else None
                is_group = grouped is not None and grouped.stage == wanted
                raise ConfigError(
                    f"stage '{spec.name}' needs the stage '{wanted}' before it"
                    f"{nearest(wanted, made)}",
                    mend=f"for groups by a column of the cohort, write groups: [{wanted}]"
                    if is_group
                    else None,
                )
        made.append(spec.name)


def needs(spec: AnyStage | TowersSpec) -> list[str]:
    """Stages a stage reads from, fine-tuned patterns aside."""
    if isinstance(spec, SelectSpec):
        return list(spec.teachers)
    if isinstance(spec, ClusterSpec):
        return [spec.of, *([] if spec.after is None else [spec.after])]
    if isinstance(spec, JoinSpec):
        return list(spec.of)
    if isinstance(spec, PoisonSpec):
        return []
    if isinstance(spec, TrainSpec):
        grouped = None if spec.groups is None else spec.groups.stage
        named = (spec.selected_by, spec.poisoned_by, grouped, spec.teacher)
        scales = [one.scale_option("start_from") for one in spec.objectives.values()]
        chosen = [one for one in (*named, *scales) if one is not None]
        return [*spec.start_from.values(), *spec.vectors.values(), *chosen]
    if isinstance(spec, TowersSpec):
        return list(spec.start_from.values())
    parts = (spec.probe, spec.paired_choice, spec.attack)
    scored = [part.models.values() for part in parts if part]
    wanted = [stage for models in scored for stage in models if stage != "untrained"]
    if spec.attack is not None and spec.attack.attack is not None:
        wanted.append(spec.attack.attack)
    single = (spec.retrieval, spec.zero_shot, spec.maps, spec.experts)
    return wanted + [part.stage for part in single if part]
