"""Manifests read from files, and refused where they do not fit stage, cohort or run.

Of one that a poison stage is given, who is poisoned, with what, and the seed of the patterns are
those of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from medmcl.core.errors import ArtefactError
from medmcl.core.overrides import written
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.prepare import Prepared
from medmcl.stages.poison.checks import AttackTask
from medmcl.stages.poison.spec import PoisonSpec
from medmcl.stages.run.run import Run
from medmcl.threats import Poison

SAME = ("modality", "trigger", "official", "height_mv", "leads", "text", "task", "label")
"""What a manifest that is given says as the stage does; name, count and share are its own."""
_NAMED = 3
"""Samples that an error names."""


def given_poison(spec: PoisonSpec, prepared: Prepared, task: AttackTask) -> Poison:
    """Read the manifest that a stage names.

    Args:
        spec: A poison stage with ``manifest``.
        prepared: The cohort.
        task: Which class each sample shows, and the one that the stage wants.

    Raises:
        ArtefactError: It is missing, damaged or empty; of another cohort or attack; or names
            samples that the stage cannot poison, or cannot poison with.
    """
    manifest = read_given(spec, prepared.cohort)
    where = f"stage {spec.name}, manifest: {spec.manifest}"
    ids = prepared.samples["sample"].astype(str).to_numpy()
    train = prepared.rows("train")
    text = () if spec.text is None else (spec.text,)
    for who, names, needs in (
        ("poisoned", manifest.ids, spec.wanted),
        ("donors", manifest.donors, text),
    ):
        _refuse(names, ids[train], f"{who} samples that are no train samples of the cohort", where)
        for one in needs:
            have = ids[prepared.rows("train", (one,))]
            _refuse(names, have, f"{who} samples without a usable record of {one}", where)
    showing = ids[train[task.shown[train] == task.target]]
    lacks = f"donors that do not show {spec.task} = {spec.label}"
    _refuse(manifest.donors, showing, lacks, where)
    return manifest


def read_given(spec: PoisonSpec, cohort: Cohort) -> Poison:
    """Read the manifest that a stage names, and refuse one of another cohort or attack.

    Raises:
        ArtefactError: It is missing, damaged or empty; of another cohort or attack.
    """
    path = Path(str(spec.manifest))
    where = f"stage {spec.name}, manifest: {path}"
    manifest = _read(path, where)
    if manifest.cohort != cohort.fingerprint:
        raise ArtefactError(
            "the manifest is of another cohort",
            where=where,
            got=f"fingerprint {manifest.cohort}",
            expected=f"{cohort.name}, fingerprint {cohort.fingerprint}",
            fix="name the cohort that it was drawn for, with the same --set and unchanged tables; "
            "or draw another: medmcl poison",
        )
    differing = unlike(manifest, spec)
    if differing:
        said = {name: manifest.provenance.get(name) for name in differing}
        sets = (quote(written(f"stages.{spec.name}.{name}", one)) for name, one in said.items())
        raise ArtefactError(
            f"the manifest is of another attack than the stage: {', '.join(differing)}",
            where=where,
            got=", ".join(f"{name}: {one}" for name, one in said.items()),
            expected=", ".join(f"{name}: {getattr(spec, name)}" for name in differing),
            fix=f"{' '.join(sets)}, or draw another: medmcl poison",
        )
    return manifest


def unlike(manifest: Poison, spec: PoisonSpec) -> list[str]:
    """Give the keys of a stage of which its manifest says something else.

    Of one that was drawn for the stage all count, of one that it was given `SAME`.
    """
    own = spec.drawn
    names = own if spec.manifest is None else SAME
    said = manifest.provenance
    return [name for name in names if _plain(name, said.get(name)) != _plain(name, own[name])]


def _plain(name: str, value: Any) -> Any:
    """A value of the stage as it counts: leads by their usual names, in any order."""
    if name != "leads":
        return value
    from medmcl.stages.poison.signals import lead_name

    return sorted({lead_name(str(one)) for one in value or ()})


def refuse_replaced(spec: PoisonSpec, done: Mapping[str, Any]) -> None:
    """Refuse to go on where the file is another one by now; gone it may be.

    Args:
        spec: A poison stage that is done.
        done: What it wrote of itself.

    Raises:
        ArtefactError: The file has another fingerprint.
    """
    if spec.manifest is None or not Path(spec.manifest).is_file():
        return
    found = _read(Path(spec.manifest), f"stage {spec.name}, manifest: {spec.manifest}")
    if found.fingerprint != done.get("fingerprint"):
        raise ArtefactError(
            f"is not the manifest that stage {spec.name} took",
            where=spec.manifest,
            got=f"fingerprint {found.fingerprint}",
            expected=f"fingerprint {done.get('fingerprint')}",
            fix="put the file back, or start a new run with this one",
        )


def _read(path: Path, where: str) -> Poison:
    try:
        manifest = Poison.load(path)
    except ArtefactError as error:
        fix = "give a file that `medmcl poison` wrote, or poison/STAGE.parquet of a run"
        raise error.again(ArtefactError, where=where, fix=error.fix or fix) from None
    if not len(manifest):
        raise ArtefactError("the manifest poisons no record", where=where)
    seed = manifest.provenance.get("seed")
    if type(seed) is not int:
        raise ArtefactError(
            "the manifest has no seed to lay patterns by",
            where=where,
            got=f"seed: {seed}",
            expected="a whole number",
        )
    return manifest


def _refuse(names: np.ndarray, known: np.ndarray, what: str, where: str) -> None:
    lost = names[~np.isin(names, known)]
    if len(lost):
        more = ", …" if len(lost) > _NAMED else ""
        raise ArtefactError(
            f"the manifest names {what}",
            where=where,
            got=f"{len(lost):,} of {len(names):,}: {', '.join(lost[:_NAMED])}{more}",
            fix="draw another for this recipe: medmcl poison",
        )


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
