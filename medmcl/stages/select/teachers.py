"""Which teacher of a select stage scores which rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from medmcl.core.errors import ConfigError
from medmcl.stages.recipe.resolve_modalities import refuse_unread
from medmcl.stages.recipe.spec import RecipeSpec
from medmcl.stages.select.spec import SelectSpec
from medmcl.stages.train.spec import TowersSpec

if TYPE_CHECKING:
    import numpy as np

    from medmcl.data.loading.prepare import Prepared


def scored_by(
    spec: SelectSpec,
    stages: Mapping[str, TowersSpec],
    prepared: Prepared,
    seed: int,
    rows: np.ndarray,
) -> dict[str, np.ndarray]:
    """Give the rows of the pool that each teacher scores.

    Args:
        spec: The select stage.
        stages: Name to stage, of the recipe or run that has the teachers.
        prepared: The cohort.
        seed: Of the run.
        rows: The pool: train rows that have every modality.

    Raises:
        ConfigError: A teacher cannot score or comes from a stage that saw what it scores, folds do
            not fit, or a teacher has fewer than 2 pairs.
    """
    where = f"stage {spec.name}"
    able = [refuse_teacher(stages.get(name), name, spec, where) for name in spec.teachers]
    for one in able:
        refuse_seen(one, stages, where)
    parts = _parts(rows, able, prepared, seed, where)
    few = [name for name, own in parts.items() if len(own) < 2]
    if few:
        fold = stages[few[0]].fold
        whose = "" if fold is None else (
            f"; {len(parts[few[0]])} of them in fold {fold[0]} of {fold[1]}, the one that "
            f"{few[0]} was trained without"
        )  # fmt: skip
        train = prepared.rows("train")
        have = [f"{name} {int(prepared.present[name][train].sum())}" for name in spec.wanted]
        raise ConfigError(
            f"a pool must have at least 2 pairs, for {few[0]} to score",
            where=where,
            got=f"{len(rows)} train samples with {' and '.join(spec.wanted)} ({', '.join(have)})"
            f"{whose}",
            fix="a pair of modalities that subjects of the train split have"
            + ("" if fold is None else ", more subjects, or fewer folds"),
        )
    return parts


def refuse_selection(recipe: RecipeSpec, spec: SelectSpec, made: Mapping[str, TowersSpec]) -> None:
    """Refuse a select stage of what the recipe does not read, or of teachers that have no tower."""
    where = f"stage {spec.name}"
    refuse_unread(spec.wanted, recipe, f"{where}, pair and scores")
    for name in spec.teachers:
        refuse_seen(refuse_teacher(made.get(name), name, spec, where), made, where)


def refuse_teacher(
    teacher: TowersSpec | None, name: str, spec: SelectSpec, where: str
) -> TowersSpec:
    """Refuse a teacher that is no stage with the towers a select stage needs; else give it."""
    if teacher is None:
        raise ConfigError(
            f"the teacher '{name}' is no stage before it that has towers", where=where
        )
    lacks = [one for one in spec.wanted if one not in teacher.towers]
    if lacks:
        raise ConfigError(
            f"the teacher '{name}' has no tower of {', '.join(lacks)}",
            where=where,
            expected=f"a stage with towers of {', '.join(spec.wanted)}",
        )
    return teacher


def refuse_seen(teacher: TowersSpec, stages: Mapping[str, TowersSpec], where: str) -> None:
    """Refuse a teacher without a fold that starts from a stage which was trained on that fold.

    Vectors that were made elsewhere, as weights of a file, are not of this run and are let pass.

    Args:
        teacher: A stage that scores.
        stages: Name to stage, of all before it.
        where: What an error calls the place.

    Raises:
        ConfigError: Names the stage that the teacher comes from.
    """
    fold = teacher.fold
    if fold is None:
        return
    _refuse_clusters(teacher, teacher, where)
    met: set[str] = set()
    todo = teacher.goes_on_from()
    while todo:
        name = todo.pop(0)
        if name in met or name not in stages:
            continue
        met.add(name)
        parent = stages[name]
        _refuse_clusters(parent, teacher, where)
        todo += parent.goes_on_from()
        if not parent.is_of_subjects:
            continue
        theirs = parent.fold
        if theirs != fold:
            raise ConfigError(
                f"the teacher '{teacher.name}' scores fold {fold[0]} of {fold[1]}, and starts from "
                f"stage '{name}', which was trained on it",
                where=where,
                got=f"{name}: trained on everybody" if theirs is None
                else f"{name}: without fold {theirs[0]} of {theirs[1]}",
                expected=f"stages with without_fold: {fold[0]} and folds: {fold[1]}, all the way",
                fix=f"train '{name}' once for each fold, or let the teacher start from the seed",
            )  # fmt: skip


def _refuse_clusters(stage: TowersSpec, teacher: TowersSpec, where: str) -> None:
    """Refuse clusters behind a teacher without a fold: other stages, of every fold, made them."""
    if stage.grouped_by is not None:
        raise ConfigError(
            f"the teacher '{teacher.name}' leaves out a fold, and '{stage.name}' is trained within "
            f"groups of the cluster stage '{stage.grouped_by}'",
            where=where,
            expected="groups of columns, or none",
        )


def _parts(
    rows: np.ndarray, teachers: Sequence[TowersSpec], prepared: Prepared, seed: int, where: str
) -> dict[str, np.ndarray]:
    """Give the rows that each teacher scores: those of the fold it was trained without.

    Args:
        rows: The pool.
        teachers: Stages; one alone that was trained on everybody scores everybody.
        prepared: The cohort.
        seed: Of the run.
        where: What an error calls the place.

    Raises:
        ConfigError: Folds differ in number, or are not each left out by one teacher.
    """
    folded = {one.fold[0]: one for one in teachers if one.fold is not None}
    if not folded and len(teachers) == 1:
        return {teachers[0].name: rows}
    counts = {one.fold[1] for one in teachers if one.fold is not None}
    fits = len(counts) == 1 and set(folded) == set(range(min(counts)))
    if not fits or len(folded) < len(teachers):
        folds = {one.name: one.fold or (None, None) for one in teachers}
        told = (f"{name}: without {fold} of {of}" for name, (fold, of) in folds.items())
        raise ConfigError(
            "several teachers must each leave out another fold, all folds of one number",
            where=where,
            got=", ".join(told),
            expected="for example two, with folds: 2 and without_fold: 0 and 1; or one alone "
            "without folds",
        )
    from medmcl.stages.train.train_filter import folds_of

    fold = folds_of(prepared, min(counts), seed)[rows]
    return {one.name: rows[fold == number] for number, one in folded.items()}
