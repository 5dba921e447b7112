"""Train records that a stage is confined to: of a share of the subjects, by a column, or listed.

What a cure can trust is such a part: records that somebody looked at.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medmcl.core.config import fingerprint
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.core.rng import derive_seed
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.prepare import Prepared
from medmcl.stages.cluster.column_groups import column_texts
from medmcl.stages.select.filters import listed_ids
from medmcl.stages.train.subset_spec import SubsetSpec


def in_subset(
    rows: np.ndarray, spec: SubsetSpec | None, prepared: Prepared, seed: int, where: str
) -> np.ndarray:
    """Leave the rows out that are not of the subset; all stay without one.

    Which subjects a share holds depends on the seed and the ids of the train subjects, not on the
    stage: stages with the same share are trained on the same people, and those of a small share
    are among those of a larger one.

    Args:
        rows: Sample numbers, (N,).
        spec: What the stage says of its subset.
        prepared: The cohort.
        seed: Of the run.
        where: What an error calls the place.

    Raises:
        ConfigError: There is no such column or value, or no row is left.
        ArtefactError: The list cannot be read, or has ids that the cohort does not have.
    """
    if spec is None:
        return rows
    is_in = (
        _drawn(spec.share, prepared, seed)
        if spec.share is not None
        else picked(spec, prepared.cohort, where)
    )
    left = rows[is_in[rows]]
    if len(rows) and not len(left):
        raise ConfigError(
            "none of the rows that the stage would train on is of its subset",
            where=f"{where}, subset",
            got=f"0 of {len(rows):,} rows",
            fix="a larger share, or other values",
        )
    return left


def picked(spec: SubsetSpec, cohort: Cohort, where: str) -> np.ndarray:
    """Give the samples with one of the values in the column, or on the list, (N,) bool.

    Args:
        spec: A subset with ``column`` or ``file``.
        cohort: Whose samples.
        where: What an error calls the stage.

    Raises:
        ConfigError: There is no such column, or no train sample has one of the values.
        ArtefactError: The list cannot be read, or has ids that the cohort does not have.
    """
    if spec.file is not None:
        return _listed(spec.file, cohort)
    found = column_texts(str(spec.column), cohort, f"{where}, subset").astype(str)
    known = sorted(set(found[(cohort.samples["split"] == "train").to_numpy()].tolist()))
    unknown = [one for one in spec.values if one not in known]
    if unknown:
        raise ConfigError(
            f"no train record has {spec.column} = {unknown[0]}",
            where=f"{where}, subset.values",
            got=", ".join(spec.values),
            expected=", ".join(known),
            fix='write "yes" and "no" in quotes: without them YAML reads them as True and False'
            if unknown[0] in ("True", "False")
            else None,
        )
    return np.isin(found, spec.values)


def _listed(file: str, cohort: Cohort) -> np.ndarray:
    samples, subjects = (cohort.samples[one].astype(str).tolist() for one in ("sample", "subject"))
    expected = "a text file with the id of a sample or a subject in each line"
    named = listed_ids(Path(file), [*samples, *subjects], expected)
    return np.isin(samples, named) | np.isin(subjects, named)


def list_of(spec: SubsetSpec | None) -> str:
    """Short hash of the list of a subset; empty without one, or where the file is gone."""
    path = None if spec is None or spec.file is None else Path(spec.file)
    if path is None or not path.is_file():
        return ""
    return fingerprint(sorted({one.strip() for one in path.read_text("utf-8").splitlines()} - {""}))


def refuse_another_list(spec: SubsetSpec | None, was: object, where: str) -> None:
    """Refuse to go on where the list is another one by now.

    Args:
        spec: What the stage says of its subset.
        was: Hash of the list that the stage was trained on, or began with.
        where: What an error calls the stage.

    Raises:
        ArtefactError: The file has other ids.
    """
    now = list_of(spec)
    if was and now and now != was:
        raise ArtefactError(
            "is not the list that the stage was trained on",
            where=f"{where}, subset: {spec.file if spec else ''}",
            got=f"fingerprint {now}",
            expected=f"fingerprint {was}",
            fix="put the list back, or start a new run with this one",
        )


def _drawn(share: float, prepared: Prepared, seed: int) -> np.ndarray:
    """Samples of a share of the train subjects, of one at least, (N,) bool."""
    names = prepared.samples["subject"].astype(str).to_numpy()
    people = np.unique(names[prepared.rows("train")])
    order = np.argsort([derive_seed(seed, "subset", one) for one in people], kind="stable")
    return np.isin(names, people[order[: max(1, round(share * len(people)))]])
