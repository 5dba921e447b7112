"""Stages that another run has finished, taken over instead of being trained again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from medmcl.core.atomic import folder_aside, write_atomically
from medmcl.core.config import fingerprint, lookup
from medmcl.core.errors import ConfigError
from medmcl.core.sealed import OF, read_sealed, sealed
from medmcl.core.suppression import placeless
from medmcl.engine.record import read_metrics, write_metrics
from medmcl.objectives import wanted_probe
from medmcl.stages.run.run import SAME, Run
from medmcl.stages.stage import StageSpec
from medmcl.stages.train.train_filter import going_on_from

SAME_IN_RECIPE = ("inputs", "towers", "shared")
_SHOWN = 5
"""Differences that are named."""
_LONGEST = 40
"""Characters of a value that are shown."""


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Say where two trees of plain values differ, a line each: ``a.b: old -> new``.

    What stands in a list is called by its name where it has one, as a stage of a recipe.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted({*old, *new}):
            found += differences(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
        return found
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        found = []
        for number, (a, b) in enumerate(zip(old, new, strict=True)):
            name = a.get("name", number) if isinstance(a, dict) else number
            found += differences(a, b, f"{path}.{name}")
        return found
    return [] if old == new else [f"{path}: {_short(old)} -> {_short(new)}"]


def named(lines: Sequence[str]) -> str:
    """Give the first differences on one line, and how many more there are."""
    more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    return "; ".join(lines[:_SHOWN]) + more


def _short(value: Any) -> str:
    """A value in a few letters: what a whole section says is left to its file."""
    if value is None or isinstance(value, dict):
        return "given" if value else "nothing"
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def run_and_stage(given: Run | str | Path) -> tuple[Run, str | None]:
    """Give the run that is meant, and the stage that ends what is taken: ``FOLDER:STAGE``.

    A folder whose name has a colon is taken as it is.
    """
    if isinstance(given, Run):
        return given, None
    folder, colon, stage = str(given).rpartition(":")
    if not colon or not stage or Path(given).exists():
        return Run(given), None
    return Run(folder), stage


def shared_stages(
    other: Run, config: Mapping[str, Any], stages: Sequence[StageSpec], until: str | None = None
) -> list[StageSpec]:
    """Give the stages of a recipe that another run has finished under the same settings.

    Args:
        other: The run to take them from.
        config: Of the run that is to be.
        stages: Its stages.
        until: Stage of the other run: this one and those that it needs, and no others.

    Raises:
        ConfigError: The runs are of other data, seeds or models; a stage of both is set otherwise;
            they share no finished stage; or ``until`` is none that they share.
    """
    before = json.loads(json.dumps(other.config))
    now = json.loads(json.dumps(config))
    unlike = [line for key in SAME for line in differences(before.get(key), now.get(key), key)]
    for key in SAME_IN_RECIPE:
        unlike += differences(before["recipe"].get(key), now["recipe"].get(key), f"recipe.{key}")
    views, own_views = (tree["recipe"].get("views", {}) for tree in (before, now))
    for name in sorted({*views, "plain"} & {*own_views, *views}):
        if name in own_views or name == "plain":
            unlike += differences(views.get(name), own_views.get(name), f"recipe.views.{name}")
    theirs = other.specs
    allowed = set(theirs) if until is None else _with_sources(until, theirs, other.path)
    taken: list[StageSpec] = []
    for stage in stages:
        same = theirs.get(stage.name) if stage.name in allowed else None
        if same is None or not stage.learns:
            continue
        unlike += differences(*_compared(other, same, stage), f"stages.{stage.name}")
        own, before_it = (_watchers(stage.name, some) for some in (stages, theirs.values()))
        if own != before_it:
            unlike.append(
                f"stages.{stage.name}: rows kept for {', '.join(before_it) or 'no later stage'} "
                f"-> for {', '.join(own) or 'none'}"
            )
        names = {one.name for one in taken}
        if other.is_finished(stage.name) and {*stage.sources()} <= names:
            taken.append(stage)
    if unlike:
        raise ConfigError(
            "the run whose stages are to be reused was made with other settings (then -> now)",
            where=other.path,
            got=named(unlike),
            fix="give the same cohort, seed and --set as that run; a recipe whose stages of these "
            "names are set alike; --reuse FOLDER:STAGE, which takes over that stage and what it "
            "needs alone; or train anew, without --reuse",
        )
    if not taken or (until is not None and until not in {stage.name for stage in taken}):
        raise ConfigError(
            "there is no stage to reuse" if until is None else f"there is no '{until}' to reuse",
            where=other.path,
            got=f"finished stages of that run: {', '.join(_finished(other, theirs)) or 'none'}",
            expected=f"one of: {', '.join(one.name for one in stages)}",
            fix="give the folder of a run of the recipe that this one goes on from",
        )
    return taken


def _finished(run: Run, stages: Iterable[str]) -> list[str]:
    return [name for name in stages if run.is_finished(name)]


def _with_sources(name: str, stages: Mapping[str, StageSpec], where: Path) -> set[str]:
    """Give a stage and all that it goes back to."""
    found = {name}
    for source in lookup("stage to reuse", name, stages, where=where).sources():
        found |= _with_sources(source, stages, where)
    return found


def _compared(other: Run, before: StageSpec, now: StageSpec) -> tuple[Any, Any]:
    """What a stage says in either run, but for what it did in the other says it better."""
    said = now.settled(other.facts(now.name))
    old, new = ({key: value for key, value in _plain(one).items() if key not in said}
                for one in (before, now))  # fmt: skip
    return old, new


def _watchers(name: str, stages: Iterable[StageSpec]) -> dict[str, Any]:
    """Later stages for which a stage keeps rows apart, with their settings."""
    later = going_on_from(name, list(stages))
    return {
        one.name: _plain(one)
        for one in later
        if any(wanted_probe(o.kind, o.settings) is not None for o in one.objectives.values())
    }


def take_over(other: Run, stages: Sequence[StageSpec], run: Run) -> dict[str, Any]:
    """Copy finished stages into a run, each whole or not at all; give their provenance."""
    lines = read_metrics(other.path / "metrics.jsonl", times=True)
    for stage in stages:
        _copy_stage(other, stage.name, run)
    names = [stage.name for stage in stages]
    own = read_metrics(run.path / "metrics.jsonl", times=True)
    kept = [row for row in own if row.get("stage") not in names]
    rows = [row for row in lines if row.get("stage") in names]
    write_metrics(run.path / "metrics.jsonl", [*rows, *kept])
    return {
        "run": str(other.path.resolve()),
        "config_hash": fingerprint(placeless(other.config)),
        "stages": names,
    }


def _copy_stage(other: Run, name: str, run: Run) -> None:
    """Copy what a stage made; ``done.json`` comes with its folder, after all the rest."""
    for made in other.kept(name):
        write_atomically(run.path / made.relative_to(other.path), made.read_bytes())
    own = run.checkpoints(name)
    if own.folder.exists():
        return
    with folder_aside(own.folder) as aside:
        shutil.copytree(other.checkpoints(name).folder, aside, dirs_exist_ok=True)
        for key, files in ((OF, "done.json"), ("of", "*/whole.json")):
            for file in aside.glob(files):
                tree = read_sealed(file)
                if key in tree:  # not of versions that did not say whose they are
                    tree[key] |= own.of
                    file.write_text(json.dumps(sealed(tree), indent=1), encoding="utf-8")


def _plain(stage: StageSpec) -> Any:
    return json.loads(stage.model_dump_json())
