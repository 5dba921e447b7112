"""The target of NormSim: which rows of which cohort a pool should be near to."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from medmcl.core.config import refuse_absent
from medmcl.core.errors import ConfigError, LeakageError
from medmcl.core.targets import Targets
from medmcl.data.cohort.cohort import open_cohort
from medmcl.data.loading.prepare import Prepared, cache_folder, prepare
from medmcl.selection.settings import TargetSpec


def target_of(
    spec: TargetSpec, prepared: Prepared, run: Path, modality: str, where: str
) -> tuple[Prepared, np.ndarray]:
    """Give the cohort and the rows that a pool should be near to.

    Args:
        spec: What the recipe says.
        prepared: The cohort that is selected from.
        run: The run folder; prepared records are kept beside it.
        modality: What is compared.
        where: What an error calls the place.

    Returns:
        The cohort, prepared as this one is, and sample numbers of it.

    Raises:
        ConfigError: The cohort has no such modality, or the target would be empty.
        LeakageError: A row, or its subject, is of held_out, there or in the cohort selected from.
    """
    if spec.cohort is None:
        return prepared, target_rows(spec, prepared, modality, where)
    place = _another(spec.cohort, prepared, run, modality, where)
    rows = target_rows(spec, place, modality, where)
    refuse_held_out(rows, place, prepared, modality, where)
    return place, rows


def _another(name: str, prepared: Prepared, run: Path, modality: str, where: str) -> Prepared:
    """Prepare one modality of another cohort as that of this one was."""
    opened = open_cohort(name)
    refuse_absent(
        modality,
        opened.records,
        f"the target cohort has no modality '{modality}'",
        where=where,
        got=f"{opened.name}: {', '.join(opened.records)}",
        fix=f"call it '{modality}' in a copy of its cohort.yaml, or name a score of another "
        "modality",
    )
    adapter = prepared.adapters[modality]
    return prepare(
        opened,
        {modality: json.loads(adapter.settings.model_dump_json())},
        cache=cache_folder(run.parent),
        fitted={modality: json.loads(json.dumps(adapter.state()))},  # as a run keeps it
        splits="all",
    )


def target_rows(spec: TargetSpec, place: Prepared, modality: str, where: str) -> np.ndarray:
    """Give the rows of a target, sample numbers of ``place``.

    Args:
        spec: What the recipe says.
        place: The cohort.
        modality: What must be present.
        where: What an error calls the place.

    Raises:
        ConfigError: There is no such row: the target would be empty.
        LeakageError: A row, or its subject, is of held_out.
    """
    split = spec.split or ("tuning" if spec.cohort is None else "train")
    rows = place.rows(split, (modality,))
    if spec.task is not None:
        rows = rows[_labelled(place.tasks(spec.task), rows, spec.label, where)]
    if not len(rows):
        asked = f"{split} rows with {modality}"
        asked += "" if spec.task is None else f" and a label of {spec.task}"
        raise ConfigError(
            "the target is empty: there is nothing to be near to",
            where=where,
            got=f"no {asked}{'' if spec.label is None else f' {spec.label}'} in "
            f"{place.cohort.name}",
            fix="name another split or cohort, or choose norm_sim_dynamic, which needs no target",
        )
    place.sides.refuse_leak(rows, "the target of NormSim")
    return rows


def refuse_held_out(
    rows: np.ndarray, place: Prepared, prepared: Prepared, modality: str, where: str
) -> None:
    """Refuse rows of another cohort that this one holds out: by their subject, or their record.

    Texts and tables of two people may be equal, so that records tell only where they are measured.

    Args:
        rows: Sample numbers of ``place``.
        place: The target cohort.
        prepared: The cohort that is selected from.
        modality: What is compared.
        where: What an error calls the place.

    Raises:
        LeakageError: Says how many are held out here.
    """
    cohort = prepared.cohort
    split = cohort.subjects["split"]
    people = set(map(str, split.index[split == "held_out"]))
    subjects = place.samples["subject"].astype(str).to_numpy()[rows]
    known = np.array([one in people for one in subjects], dtype=bool)
    equal = np.zeros(len(rows), dtype=bool)
    if prepared.adapters[modality].measured:
        theirs = place.stored[modality].digests[place.index(modality)[rows]]
        held = split.reindex(cohort.records[modality]["subject"]).to_numpy() == "held_out"
        ours = prepared.stored[modality].digests[held]
        equal = np.isin(theirs, ours[ours != b""])
    if (known | equal).any():
        raise LeakageError(
            "the target of NormSim would see who is held out in the cohort that is selected from",
            where=where,
            got=f"{int((known | equal).sum())} of {len(rows)} rows of {place.cohort.name}: "
            f"{len(set(subjects[known]))} subjects by their id, {int(equal.sum())} rows by their "
            f"{modality}",
            expected=f"nobody of held_out of {cohort.name}",
            fix="leave them out of the target cohort, or name a split or label without them; "
            "people who only share an id need ids of their own",
        )


def _labelled(targets: Targets, rows: np.ndarray, label: str | None, where: str) -> np.ndarray:
    """Which rows have a label of the task, or the label named, (len(rows),) bool."""
    if label is None:
        return np.asarray(targets.known[rows].any(axis=1))
    cases = {} if targets.kind == "survival" else targets.cases()
    names = ", ".join(map(str, targets.names))
    what, got = f"the task '{targets.name}' has no label '{label}'", f"{targets.kind}: {names}"
    refuse_absent(label, cases, what, where=where, got=got)
    return cases[label][rows]
