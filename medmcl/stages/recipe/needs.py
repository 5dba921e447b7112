"""``medmcl recipes``: what ships, and what a cohort must have for each; no stage is read."""

from __future__ import annotations

from medmcl.core.config import faults_of
from medmcl.modalities import ADAPTERS, tables
from medmcl.stages.recipe.file import Heads, list_recipes, read_head
from medmcl.stages.recipe.spec import RecipeHead


def list_of_recipes() -> str:
    """Write every recipe with what it is and the modalities it reads."""
    lines: list[str] = []
    heads: Heads = {}
    for name, path in list_recipes().items():
        head = read_head(path, heads)
        lines.append(f"{name:20s} {head.about}\n{'':20s} needs: {_needs(head)}")
    return "\n".join([*lines, "one of them, with the keys that can be set: medmcl recipes NAME"])


def _needs(head: RecipeHead) -> str:
    if head.modalities == "all":
        return f"any two modalities or more, of the kinds {', '.join(head.kinds)}"
    return ", ".join(
        f"{' or '.join(head.kinds_of(modality))} of any name"
        if modality in head.roles
        else modality
        if kind in (modality, None)
        else f"{modality} ({kind})"
        for modality, kind in kinds(head).items()
    )


def kinds(recipe: RecipeHead) -> dict[str, str | None]:
    """Give each modality that a recipe reads with its kind, None where several kinds would do."""
    found: dict[str, str | None] = {}
    for name, settings in recipe.inputs.items():
        if name in ADAPTERS:
            fitting = [name]
        elif name in recipe.roles:
            fitting = list(recipe.kinds_of(name))
        elif name in recipe.covariates:
            fitting = tables()
        else:
            models = ADAPTERS.settings.items()
            fitting = [kind for kind, model in models if not faults_of(model, settings)]
        found[name] = fitting[0] if len(fitting) == 1 else None
    for role in recipe.roles:
        found.setdefault(role, recipe.kinds_of(role)[0])
    return found
