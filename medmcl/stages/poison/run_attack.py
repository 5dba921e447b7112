"""The manifest of an attack of a finished run, for whoever looks at the run afterwards."""

from __future__ import annotations

from medmcl.core.errors import ArtefactError
from medmcl.data.cohort.cohort import Cohort
from medmcl.stages.poison.given import unlike
from medmcl.stages.poison.spec import PoisonSpec
from medmcl.stages.run.run import Run
from medmcl.threats import Poison


def load_attack(run: Run, spec: PoisonSpec, cohort: Cohort | None = None) -> Poison:
    """Read the manifest of a poison stage, and make sure whose it is.

    Args:
        run: The run.
        spec: Its poison stage.
        cohort: What the manifest must be of to the letter; None where only the trigger is wanted.

    Raises:
        ArtefactError: It is missing or damaged, of another cohort, of another recipe than the
            run's, or not what the stage wrote.
    """
    path = run.file(spec.name, Poison)
    manifest = Poison.load(path)
    if cohort is not None and manifest.cohort != cohort.fingerprint:
        raise ArtefactError(
            f"the manifest of stage {spec.name} is of another cohort",
            where=path,
            got=f"{cohort.name}, fingerprint {cohort.fingerprint}",
            expected=f"{run.config.get('cohort', 'a cohort')}, fingerprint {manifest.cohort}",
            fix="name the cohort that the run was trained on, with the same --set and unchanged "
            "tables; or --attack none, to look at this one without the attack",
        )
    differing = unlike(manifest, spec)
    if differing:
        raise ArtefactError(
            f"the manifest is of another recipe than the stage {spec.name} of this run",
            where=path,
            got=", ".join(f"{name}: {manifest.provenance.get(name)}" for name in differing),
            expected=", ".join(f"{name}: {getattr(spec, name)}" for name in differing),
            fix="put the manifest of this run back",
        )
    run.refuse_changed(spec.name, manifest)
    return manifest
