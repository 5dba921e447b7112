"""Rows of the train split that a stage keeps apart, for what an objective learns from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from medmcl.core.contracts import ProbeRows
from medmcl.core.errors import CohortError
from medmcl.core.rng import numpy_generator
from medmcl.stages.stage import StageSpec
from medmcl.stages.train.spec import TowersSpec, TrainSpec


def keep_apart(
    rows: np.ndarray, subjects: np.ndarray, wanted: Sequence[ProbeRows], key: tuple[int, str]
) -> tuple[np.ndarray, np.ndarray]:
    """Part rows into those to train on and one row for each of some subjects to watch.

    A subject is on one side only. Of a subject with several rows one is drawn, as the sampler does,
    so that no two probe rows belong to one person.

    Args:
        rows: Samples to draw from, (N,).
        subjects: Subject of each, (N,).
        wanted: What every watcher asks for; the largest share and number count.
        key: Seed and name of the stage.

    Returns:
        Rows to train on, rows to watch (none if nobody watches).

    Raises:
        CohortError: There are fewer than 4 subjects.
    """
    if not wanted:
        return rows, rows[:0]
    seed, stage = key
    people = np.unique(subjects)
    if len(people) < 4:
        raise CohortError(
            "there are too few train subjects to keep some apart for learning pairs",
            where=f"stage {stage}",
            got=len(people),
            expected="4 at least, hundreds to learn anything",
            fix="name the pairs: `pairs: all`, or a list",
        )
    share, most = max(one.share for one in wanted), max(one.most for one in wanted)
    count = min(max(2, round(share * len(people))), most, len(people) - 2)
    generator = numpy_generator(seed, stage, "probe subjects")
    apart = np.isin(subjects, generator.permutation(people)[:count])
    shuffled = generator.permutation(np.flatnonzero(apart))
    _, first = np.unique(subjects[shuffled], return_index=True)
    return rows[~apart], np.sort(rows[shuffled[first]])


def going_on_from(name: str, stages: Sequence[StageSpec]) -> list[TrainSpec]:
    """Later stages with weights of the stage ``name``, at first hand or through others."""
    reached, found = {name}, []
    for stage in stages:  # in their order: a stage goes on from earlier ones only
        if isinstance(stage, TowersSpec) and reached & {*stage.goes_on_from()}:
            reached.add(stage.name)
            found += [stage] if isinstance(stage, TrainSpec) else []
    return found


def kept_for_later(
    name: str, stages: Sequence[StageSpec], probed: Callable[[TrainSpec], np.ndarray]
) -> np.ndarray:
    """Give the subjects that a stage may not train on, as a later one that goes on from it watches.

    Args:
        name: The stage.
        stages: Those of the recipe, in their order.
        probed: A stage to the subjects it watches.
    """
    found = [probed(later) for later in going_on_from(name, stages)]
    return np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=object)
