"""Which confounders a cohort has of those that an evaluate stage asks for."""

from __future__ import annotations

from medmcl.core.config import nearest
from medmcl.core.errors import ConfigError
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.cohort.spec import SITE
from medmcl.evaluation.aspects.confounders.aspect import ConfounderSpec
from medmcl.evaluation.protocol.sample_subgroups import attribute_names

USUAL = ("site", "sex", "age")
"""Names that a recipe may ask for before it knows the cohort."""


def confounder_names(
    spec: ConfounderSpec, cohort: Cohort, *, where: str, is_own: bool = True
) -> tuple[list[str], list[str]]:
    """Give the confounders that a cohort has, and notes of those that it has not.

    A recipe that asks for site, sex or age does not know the cohort: without it, that is a note. So
    is any other name in a cohort that the recipe was not written for.

    Args:
        spec: What is asked.
        cohort: The cohort to score.
        where: Name of the evaluate stage, for the error.
        is_own: Whether the recipe was trained on it.

    Raises:
        ConfigError: Another name that the cohort does not have.
    """
    attributes = attribute_names(cohort)
    if spec.names == "all":
        notes = [] if attributes else ["confounders: the cohort has none of site, sex, age"]
        return list(attributes), notes
    columns = [str(one) for one in cohort.subjects.columns if one not in ("split", SITE)]
    have = list(dict.fromkeys([*attributes, *columns]))
    missing = [name for name in dict.fromkeys(spec.names) if name not in have]
    for name in missing:
        if name not in USUAL and is_own:
            raise ConfigError(
                f"there is no confounder '{name}'{nearest(name, have)}",
                where=f"{where}.confounders",
                got=name,
                expected="an attribute of `subgroups:` in cohort.yaml, or a column of the subjects "
                "table",
                fix="write one of these names, or name it under `subgroups:`",
            )
    notes = [f"confounder {name} left out: the cohort does not have it" for name in missing]
    return [name for name in dict.fromkeys(spec.names) if name in have], notes
