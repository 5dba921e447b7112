"""Which rows a train stage draws: of its subset and fold, kept by a selection, or kept apart.

What a cure can trust is a subset: records that somebody looked at. A fold depends on seed and
subject id only: the same in every process, and in every cohort that has the subject, so that every
pair can be scored by a teacher that never saw its subject.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medmcl.core.config import fingerprint
from medmcl.core.contracts import ProbeRows
from medmcl.core.errors import ArtefactError, CohortError, ConfigError
from medmcl.core.plain_text import text_lines
from medmcl.core.rng import derive_seed, numpy_generator
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.loading.prepare import Prepared
from medmcl.selection.keep import Keep
from medmcl.stages.cluster.column_groups import column_texts
from medmcl.stages.stage import Context, StageSpec
from medmcl.stages.train.spec import TowersSpec, TrainSpec
from medmcl.stages.train.subset_spec import SubsetSpec


def read_keep(path: Path | str, cohort: Cohort) -> Keep:
    """Read a keep file and make sure that it is of this cohort.

    Raises:
        ArtefactError: It cannot be read, is of another cohort, or has ids unknown to this one.
        ConfigError: It keeps nothing.
    """
    keep = Keep.load(Path(path), cohort=cohort.fingerprint)
    kept = keep.among(_ids(cohort), cohort.fingerprint)
    if not kept.any():
        raise ConfigError("the keep file keeps no row", where=path, got=keep.rule)
    return keep


def kept_rows(
    rows: np.ndarray, spec: TrainSpec, prepared: Prepared, context: Context
) -> np.ndarray:
    """Leave out rows of the fold, or beside the subset, of a stage, or that no selection keeps.

    The file that ``--keep`` named holds for stages that train without labels: it judges pairs, not
    labels. What a stage is ``selected_by`` holds for it alone. In a rehearsal, before the select
    stage has run, all rows stay.

    Raises:
        ConfigError: No row is left.
        ArtefactError: What a select stage kept is gone, or is not what it kept.
    """
    if spec.without_fold is not None:
        folds = folds_of(prepared, spec.folds, context.run.seed)
        rows = rows[folds[rows] != int(spec.without_fold)]
    if spec.subset is not None:
        rows = in_subset(rows, spec.subset, prepared, context.run.seed, f"stage {spec.name}")
    left, given = rows, context.run.given_keep
    if given is not None and spec.task is None:
        left = given_rows(rows, prepared, given)
    if spec.selected_by is not None:
        keep = context.run.artefact(spec.selected_by, Keep, prepared.cohort.fingerprint)
        left = left if keep is None else left[_flags(keep, prepared)[left]]
    if len(rows) and not len(left):
        raise ConfigError(
            "the selection keeps none of the rows that the stage would train on",
            where=f"stage {spec.name}",
            got=f"0 of {len(rows)} rows",
            fix="keep a larger share",
        )
    return left


def given_rows(rows: np.ndarray, prepared: Prepared, keep: Keep | None) -> np.ndarray:
    """Leave out the rows that what ``--keep`` gave does not keep; all stay without it."""
    return rows if keep is None else rows[_flags(keep, prepared)[rows]]


def _flags(keep: Keep, prepared: Prepared) -> np.ndarray:
    return keep.among(_ids(prepared.cohort), prepared.cohort.fingerprint)


def _ids(cohort: Cohort) -> list[str]:
    return [str(one) for one in cohort.samples["sample"]]


def in_subset(
    rows: np.ndarray, spec: SubsetSpec, prepared: Prepared, seed: int, where: str
) -> np.ndarray:
    """Leave the rows out that are not of the subset.

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


def folds_of(prepared: Prepared, folds: int, seed: int) -> np.ndarray:
    """Give the fold of each sample's subject, 0 to ``folds`` - 1, (N,) int64."""
    names = prepared.samples["subject"].astype(str)
    drawn = {one: derive_seed(seed, "fold", one) % folds for one in names.unique()}
    return names.map(drawn).to_numpy(np.int64)


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


def read_filter(path: str | Path, cohort: Cohort, pool: np.ndarray) -> tuple[Keep | list[str], str]:
    """Read a keep file of this cohort (.parquet), or a text file with an id in each line.

    Args:
        path: The file.
        cohort: The cohort that is selected from.
        pool: Ids of the samples that are scored, (N,) str.

    Returns:
        What the filter keeps of the pool, and a note of how many ids are not in it; empty if none.

    Raises:
        ArtefactError: It cannot be read, is of another cohort, or names ids unknown to this one.
    """
    where = Path(path)
    ids = [str(one) for one in cohort.samples["sample"]]
    if where.suffix.lower() == ".parquet":
        keep = Keep.load(where, cohort=cohort.fingerprint)
        keep.among(ids, cohort.fingerprint)
        texts = keep.ids.astype(str)
        here = np.isin(texts, pool)
        part = replace(keep, ids=texts[here], kept=keep.kept[here], scores={}, copies={})
        return part, _note(int(keep.kept[~here].sum()), where)
    named = listed_ids(where, ids, "a keep file (.parquet), or a text file with a sample id a line")
    there = set(pool.tolist())
    kept = [one for one in dict.fromkeys(named) if one in there]
    return kept, _note(len(set(named)) - len(kept), where)


def listed_ids(where: Path, known: Sequence[str], expected: str) -> list[str]:
    """Read a text file with an id in each line.

    Args:
        where: The file.
        known: Ids of the cohort.
        expected: What an error says the file should be.

    Raises:
        ArtefactError: It cannot be read, or names ids unknown to the cohort.
    """
    lines = text_lines(where, "table", ArtefactError, expected=expected)
    named = [line.strip() for line in lines if line.strip()]
    unknown = sorted(set(named) - set(known))
    if unknown:
        raise ArtefactError(
            f"{len(unknown)} ids are unknown to the cohort",
            where=where,
            got=", ".join(unknown[:5]) + (", …" if len(unknown) > 5 else ""),
            expected=f"ids of the cohort, as {known[0] if known else 'none'}",
        )
    return named


def _note(left: int, where: Path) -> str:
    if not left:
        return ""
    what = "id of {} is" if left == 1 else "ids of {} are"
    return f"{left:,} {what.format(where.name)} not in the pool"
