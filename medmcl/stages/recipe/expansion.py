"""The stages of a recipe in order, as they are run.

A stage with ``for_each`` becomes one stage for each combination of its variables, written
``{task}`` in its strings.
"""

from __future__ import annotations

from collections.abc import Sequence

from medmcl.core.config import refuse_absent
from medmcl.core.errors import ConfigError
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.stage import StageSpec


def expand(recipe: RecipeSpec, tasks: Sequence[str]) -> RecipeSpec:
    """Give the recipe of single stages, in order: a ``for_each`` stage once for each combination.

    Done once a run, or once for a run folder that is opened: whoever reads stages reads these.

    Args:
        recipe: The recipe as checked.
        tasks: Tasks of the cohort, for ``task: all``.

    Raises:
        ConfigError: A stage has both epochs and steps, or neither; names or order do not fit.
    """
    pairs: list[tuple[StageSpec, StageSpec]] = []
    for spec in recipe.stages:
        spec.refuse_incomplete()
        pairs += [(single, spec) for single in spec.written_out(tasks)]
    stages = [single for single, _ in pairs]
    # what all stages of one kind must say alike
    for key, why in {key: why for one in stages for key, why in one.alike.items()}.items():
        told = [one for one in stages if key in one.alike]
        found = sorted({str(getattr(one, key)) for one in told})
        if len(found) > 1:
            raise ConfigError(
                f"{told[0].stage} stages differ in '{key}', but {why}", got=", ".join(found)
            )
    made: list[str] = []
    for each in stages:
        if each.name in made:
            raise ConfigError(f"two stages are named '{each.name}'")
        for wanted in each.sources():
            what = f"stage '{each.name}' needs the stage '{wanted}' before it"
            refuse_absent(wanted, made, what, fix=each.fix_source(wanted))
        made.append(each.name)
    return recipe.with_stages({single.name: (single, spec) for single, spec in pairs})
