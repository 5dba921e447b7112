"""Faults of cluster and join stages, and of what trains on them, seen before anything is read."""

from __future__ import annotations

from collections.abc import Mapping

from medmcl.core.config import refuse_absent
from medmcl.core.contracts import LearnsFromTeacher
from medmcl.core.errors import ConfigError
from medmcl.objectives.build import OBJECTIVES
from medmcl.stages.cluster.spec import ClusterSpec
from medmcl.stages.join.spec import JoinSpec
from medmcl.stages.stage import named
from medmcl.stages.train.spec import TowersSpec, TrainSpec

Made = Mapping[str, TowersSpec]
"""Name to stage, of all before that have towers."""
Clustered = Mapping[str, ClusterSpec]
"""Name to stage, of all before that cluster."""


def refuse_clusters(spec: ClusterSpec, made: Made, clustered: Clustered) -> None:
    """Refuse to cluster what no stage embeds, and to go on with labels that no stage gives.

    Raises:
        ConfigError: Names the stage and the key.
    """
    where = f"stage {spec.name}"
    what = f"'{spec.of}' is no stage before it that has towers"
    refuse_absent(spec.of, made, what, where=f"{where}, of", none="a train stage before it")
    for name in spec.modalities:
        what = f"stage '{spec.of}' has no tower '{name}'"
        refuse_absent(name, made[spec.of].towers, what, where=f"{where}, modality")
    if spec.after is not None:
        what = f"'{spec.after}' is no cluster stage before it"
        none = "none: this is the first; leave `after` out"
        refuse_absent(spec.after, clustered, what, where=f"{where}, after", none=none)


def refuse_many(spec: ClusterSpec, name: str, rows: int) -> None:
    """Refuse more clusters than there are train rows with a modality.

    Raises:
        ConfigError: Names the stage.
    """
    if spec.clusters != "auto" and spec.clusters > rows:
        fewer = max(2, rows // spec.smallest)
        raise ConfigError(
            "there are fewer rows than clusters",
            where=f"stage {spec.name}, clusters",
            got=f"{spec.clusters:,} clusters of {rows:,} train rows with {name}",
            expected=f"at most {rows:,}; groups of {spec.smallest} people or more need {fewer} or "
            "fewer",
            fix=f"--set stages.{spec.name}.clusters={fewer}",
        )


def refuse_join(spec: JoinSpec, made: Made) -> None:
    """Refuse to join what has no towers, or no modality in common.

    Raises:
        ConfigError: Names the stage and the key.
    """
    where = f"stage {spec.name}, of"
    for name in spec.of:
        able = named(made.values(), TrainSpec)
        refuse_absent(name, able, f"'{name}' is no train stage before it", where=where)
    for name in spec.of:
        lacks = [one for one in spec.towers if one not in made[name].towers]
        if lacks or not spec.towers:
            raise ConfigError(
                f"the stages have no tower of {', '.join(lacks)} in common"
                if lacks
                else "the stages have no modality in common",
                where=where,
                got=", ".join(f"{one}: {' and '.join(made[one].towers)}" for one in spec.of),
            )


def refuse_sources(spec: TrainSpec, made: Made, clustered: Clustered) -> None:
    """Refuse groups of a stage that does not cluster, and a teacher that has no towers.

    Raises:
        ConfigError: Names the stage and the key.
    """
    where = f"stage {spec.name}"
    grouped = None if spec.groups is None else spec.groups.stage
    if grouped is not None:
        what = f"'{grouped}' is no cluster stage before it"
        none = "a cluster stage before it, or `columns: [site]`"
        refuse_absent(grouped, clustered, what, where=f"{where}, groups", none=none)
    models = {one.kind: OBJECTIVES.settings.get(one.kind) for one in spec.objectives.values()}
    from_teacher = [
        kind for kind, one in models.items() if isinstance(one, LearnsFromTeacher) and one.is_taught
    ]
    if spec.teacher is None:
        if from_teacher:
            raise ConfigError(
                f"the objective {', '.join(sorted(from_teacher))} has nothing to learn from",
                where=where,
                fix=f"name an earlier stage: --set stages.{spec.name}.teacher=NAME",
            )
        return
    if not from_teacher:
        raise ConfigError(
            "has a teacher, and no objective that learns from it",
            where=f"{where}, teacher",
            fix="add `distil: {}` (or `par: {}`) to its objectives, or leave the teacher out",
        )
    what = f"the teacher '{spec.teacher}' is no stage before it that has towers"
    refuse_absent(spec.teacher, made, what, where=f"{where}, teacher")
    if not set(spec.towers) & set(made[spec.teacher].towers):
        raise ConfigError(
            f"the teacher '{spec.teacher}' has none of the stage's modalities",
            where=f"{where}, teacher",
            got=", ".join(made[spec.teacher].towers),
            expected=", ".join(spec.towers),
        )
