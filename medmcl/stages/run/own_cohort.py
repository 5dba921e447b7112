"""A run's own cohort is opened as the run opened it: with the overrides it was started with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medmcl.core.errors import ArtefactError, MedmclError
from medmcl.core.overrides import written
from medmcl.core.suppression import placeless
from medmcl.data.cohort.cohort import Cohort, at_hand, find_cohort, open_cohort
from medmcl.stages.recipe.settings import only_cohort_overrides
from medmcl.stages.run.run import Run

COHORT_FILE = "cohort_file"
"""Key of ``provenance.json``: the cohort.yaml that a run was started on."""


def own_overrides(run: Run, cohort: str | Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Give the overrides of a run that hold for a cohort, but for those that are given anew.

    They hold for the cohort.yaml that the run was started on, and for a copy of it whose tables
    are the same bytes; where the data lie (``data_root``) is not taken over to a copy.

    Args:
        run: The run.
        cohort: Folder, cohort.yaml or name.
        given: Overrides of the command, without ``cohort.`` before them.
    """
    kept: dict[str, Any] = dict(run.config.get("cohort_overrides") or {})
    if kept and not _is_own_file(run, find_cohort(cohort)):
        kept.pop("data_root", None)
        root = {key: value for key, value in given.items() if key == "data_root"}
        kept = kept if _is_own_content(run, cohort, {**kept, **root}) else {}
    return {key: value for key, value in kept.items() if key not in given}


def open_as_own(
    run: Run,
    cohort: Cohort | str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    default: Mapping[str, Any] | None = None,
    last: Mapping[str, Any] | None = None,
) -> tuple[Cohort, str]:
    """Open a cohort; the run's own as the run did.

    Args:
        run: The run.
        cohort: Folder, cohort.yaml or name; an open cohort stays as it is.
        overrides: Overrides of the command, as ``--set``: they win over those of the run.
        default: Overrides that both win over.
        last: Overrides that win over all.

    Returns:
        The cohort, and a sentence that says what was taken from the run; empty if nothing was.
    """
    given = only_cohort_overrides(overrides or {})
    if isinstance(cohort, Cohort):
        return at_hand(cohort, given), ""
    own = own_overrides(run, cohort, given)
    opened = open_cohort(cohort, {**(default or {}), **own, **given, **(last or {})})
    return opened, _sentence(own) if own else ""


def _sentence(own: Mapping[str, Any]) -> str:
    said = " ".join(
        written(key if key == "data_root" else f"cohort.{key}", value)
        for key, value in placeless(own).items()
    )
    return f"this is the run's own cohort: opened as the run was, {said}"


def _is_own_file(run: Run, file: Path) -> bool:
    """Whether the run was started on this very file."""
    try:
        kept = run.tree("provenance", {}).get(COHORT_FILE)
    except ArtefactError:
        return False
    return kept is not None and Path(kept) == file.resolve()


def _is_own_content(run: Run, cohort: str | Path, overrides: Mapping[str, Any]) -> bool:
    """Whether a cohort, opened with the run's overrides, is the run's own."""
    try:
        opened = open_cohort(cohort, overrides)
    except MedmclError:  # it is another, and its faults are told when it is opened as it is
        return False
    return opened.fingerprint == run.config.get("cohort_fingerprint")
