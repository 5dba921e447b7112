"""What made the keep file that a run was given: the selections behind it, and their labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medmcl.core.config import faults_of
from medmcl.selection.keep import Keep
from medmcl.stages.run.run import Run
from medmcl.stages.select.spec import SelectSpec
from medmcl.stages.train.train_filter import GIVEN, keep_file


def given_keep(run: Run) -> Keep | None:
    """The keep file that ``--keep`` named; None if there was none."""
    path = keep_file(run.path, GIVEN)
    return Keep.load(path) if run.config.get("keep") and path.exists() else None


def specs_of(keep: Keep) -> list[SelectSpec]:
    """The selections behind a keep file, those of its parents too; none if it was made by hand."""
    return list(_specs(keep.provenance))


def _specs(provenance: Mapping[str, Any] | None) -> list[SelectSpec]:
    if not provenance:
        return []
    spec = provenance.get("spec")
    own = [] if spec is None or faults_of(SelectSpec, spec) else [SelectSpec.model_validate(spec)]
    return own + [one for parent in provenance.get("parents", ()) for one in _specs(parent)]
