"""Vectors that were made elsewhere, laid over the samples of a cohort."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from medmcl.core.errors import CohortError, ConfigError
from medmcl.core.findings import counted
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.cohort.outcomes import tellers
from medmcl.data.cohort.splits import SPLITS
from medmcl.data.tables.lost_zeros import refuse_lost_zeros
from medmcl.encoders.published.overlap import of_anybody, overlap_of_provenance
from medmcl.evaluation.protocol.evidence import ENCODER_OF, UNKNOWN_ENCODER, FittedOn
from medmcl.stages.factorise.vector_files import Vectors, read_vectors


@dataclass(frozen=True, kw_only=True)
class SampleVectors:
    """One vector a sample.

    Attributes:
        values: (N, E); zeros where there is none.
        present: Samples that have one. (N,) bool
        notes: What a reader must know: what was left out.
        fitted: The line of the ledger: whom the encoder saw, as far as that is known.
        columns: What the E are called.
        id_column: Column of the file that says whose they are.
        other_files: The note that says so, if they were made of other files than the cohort has.
    """

    values: np.ndarray
    present: np.ndarray
    notes: tuple[str, ...]
    fitted: FittedOn
    columns: tuple[str, ...]
    id_column: str
    other_files: str = ""


_PLACE = re.compile(r"e?(\d+)")
"""Columns of arrays, and of tables without names, are called by their place: e0 or 0."""
_SHOWN = 5
_ALMOST: dict[str, Callable[[str], str]] = {
    "zeros before them": lambda one: one.lstrip("0"),
    "a point: numbers with gaps became so": lambda one: re.sub(r"\.0+$", "", one).lstrip("0"),
    "capitals": str.lower,
    "the folder and the ending of a file": lambda one: re.split(r"[/\\]", one)[-1].split(".")[0],
    "letters before the number": lambda one: re.sub(r"^\D+", "", one).lstrip("0") or one,
}
"""How ids of two sources differ that are the same people's."""


def lay_vectors(
    name: str,
    path: Path,
    cohort: Cohort,
    columns: Sequence[str] | None = None,
    *,
    is_frozen: bool = False,
    in_folds: bool = False,
) -> SampleVectors:
    """Read vectors and give each sample its own: by record or sample if they say, else by subject.

    Args:
        name: What they are called in results.
        path: The file; see `medmcl.stages.factorise.vector_files.read_vectors`.
        cohort: Whose samples.
        columns: Those of the vectors that a run fitted its probes on: the file's are put into
            their order. None where it kept none.
        is_frozen: Whether these probes are applied, so that other columns are none of theirs.
        in_folds: Whether people are scored in folds, not by the split of the cohort.

    Raises:
        ArtefactError: The file cannot be read.
        ConfigError: It does not hold vectors by subject; none is of this cohort; all are alike;
            ``is_frozen``, and its columns are others than the run's.
    """
    vectors = read_vectors(name, path, cohort.spec.keys.subjects.id or "id")
    if columns is not None:
        vectors = _in_order(vectors, columns, is_frozen=is_frozen)
    _refuse_outcomes(vectors, cohort)
    _refuse_own(vectors, cohort, columns or ())
    rows, how = _rows_of(vectors, cohort)
    present = rows >= 0
    if not present.any():
        raise _nobody(vectors, cohort)
    where = f"{vectors.where}, ids beside those of the cohort {cohort.name}"
    refuse_lost_zeros(vectors.subjects, cohort.subjects.index.astype(str), where, ConfigError)
    values = np.zeros((len(rows), vectors.values.shape[1]))
    values[present] = vectors.values[rows[present]]
    flat = np.ptp(values[present], axis=0) == 0
    if flat.all():
        raise ConfigError(
            "every vector is the same: nothing can be told from them",
            where=vectors.where,
            got=f"{int(present.sum())} samples, {len(flat)} columns",
        )
    other = _of_others(vectors, path, cohort)
    said = (*vectors.notes, *how, *filter(None, [other]), *_counts(vectors, rows, cohort))
    notes = [f"{name}: {note}" for note in said]
    if flat.any():
        notes.append(f"{name}: {int(flat.sum())} of {len(flat)} columns are alike for everyone")
    dataset = cohort.spec.keys.dataset
    note = _encoder_saw(path, of_anybody(dataset) if in_folds else dataset)
    line = FittedOn(what=f"{ENCODER_OF} '{name}'", splits=(), method=name, note=note)
    return SampleVectors(
        values=values,
        present=present,
        notes=tuple(notes),
        fitted=line,
        columns=vectors.columns,
        id_column=vectors.id_column,
        other_files=other,
    )


def _encoder_saw(path: Path, dataset: str | None) -> str:
    """Say whether an encoder saw the people of a data set, as far as its vectors tell."""
    from medmcl.stages.run.embedding import provenance_of_table

    made_by = provenance_of_table(path).get("made_by", {})
    found = overlap_of_provenance(dataset, made_by)
    if found.status == "not known":
        return f"{UNKNOWN_ENCODER}: {found.said}" if made_by else UNKNOWN_ENCODER
    said = {
        "seen": "may have seen these people",
        "other parts seen": "did not see who is scored, but others of these data",
        "not seen": "did not see these people",
    }[found.status]
    return f"the card of the encoder says that it {said}: {found.said}"


def _of_others(vectors: Vectors, path: Path, cohort: Cohort) -> str:
    """Refuse vectors that say they are of another cohort, whose ids may agree by chance.

    A copy of a cohort under another name has the same records, as far as their files tell. Of a
    cohort of the same name that has others now it is said.

    Raises:
        ConfigError: They are of another.
    """
    from medmcl.stages.run.embedding import marks_of, provenance_of_table

    said = provenance_of_table(path)
    kept, of = said.get("records", []), said.get("cohort", cohort.name)
    asked = {record for _, record, _ in kept}
    here = [
        mark for listed in cohort.records.values()
        for mark in marks_of(listed[listed.index.astype(str).isin(asked)])
    ]  # fmt: skip
    if any(mark in here for mark in kept):
        return ""
    if of == cohort.name:
        is_other = any(mark[:2] in [one[:2] for one in here] for mark in kept)
        return "made of other files of these records than the cohort has now" if is_other else ""
    if not kept and said.get("cohort_fingerprint") == cohort.fingerprint:
        return ""
    raise ConfigError(
        f"the vectors are of another cohort, {of}: people who are called alike are others",
        where=vectors.where,
        got="no record of which the file is the same",
        expected=f"vectors of {cohort.name}",
        fix="embed this cohort: medmcl embed ... --cohort; where these are the same people with "
        f"other files, give the folder or file of the cohort the name {of}",
    )


def _in_order(vectors: Vectors, wanted: Sequence[str], *, is_frozen: bool) -> Vectors:
    """Put columns into the order in which a run has them, by name.

    Where neither names more than places, as arrays do, the place counts.

    Raises:
        ConfigError: ``is_frozen``, and they are others.
    """
    have = vectors.columns
    if have == tuple(wanted):
        return vectors
    if len(set(have)) == len(have) and set(have) == set(wanted):
        places = [have.index(name) for name in wanted]
        said = "columns put into the order of the run, by name"
        return replace(
            vectors,
            values=vectors.values[:, places],
            columns=tuple(wanted),
            notes=(*vectors.notes, said),
        )
    is_bare = all(_names_places(names) for names in (have, wanted))
    if not is_frozen or (is_bare and len(have) == len(wanted)):
        return vectors
    lacking, other = ([one for one in left if one not in right] for left, right in
                      ((wanted, have), (have, wanted)))  # fmt: skip
    raise ConfigError(
        "the columns of the vectors are not those that the kept probe reads",
        where=vectors.where,
        got=f"{len(have)} columns; not in the run: {_some(other)}",
        expected=f"the {len(wanted)} columns of the run, in any order; missing: {_some(lacking)}",
        fix="give the vectors of the same encoder under the names that the run has, or "
        "--probe refit, which fits a probe on this cohort's train split",
    )


def _names_places(names: Sequence[str]) -> bool:
    """Whether columns are called by nothing but their place, from the first to the last."""
    found = [_PLACE.fullmatch(name) for name in names]
    places = [int(one[1]) for one in found if one is not None]
    return len(places) == len(names) and places == [*range(places[0], places[0] + len(names))]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) or "none") + more


def _refuse_outcomes(vectors: Vectors, cohort: Cohort) -> None:
    """Refuse columns that are called as those that a task is made of, or told by."""
    for task, labels in cohort.labels.items():
        try:
            telling = tellers(cohort.spec.tasks[task], labels.table.columns)
        except CohortError:  # a fault of the task, which whoever scores it is told of
            continue
        shown = [column for column in vectors.columns if column in telling]
        if shown:
            raise ConfigError(
                f"a column of the vectors is called as what the task '{task}' is made of",
                where=vectors.where,
                got=", ".join(shown),
                fix="take outcomes out of the file; if it is none, call it otherwise",
            )


def _refuse_own(vectors: Vectors, cohort: Cohort, known: Sequence[str]) -> None:
    """Refuse a few columns that are called as the cohort's: left there when tables were joined.

    Where all are, they are a table of the cohort, and meant; so are those ``known`` to a run.
    """
    own = {*cohort.subjects.columns}
    for spec in cohort.spec.modalities.values():
        own |= {*spec.cell_columns}
    shown = [column for column in vectors.columns if column in own and column not in known]
    if shown and len(shown) < len(vectors.columns):
        raise ConfigError(
            f"{counted(len(shown), 'column')} of {len(vectors.columns)} "
            f"{'is' if len(shown) == 1 else 'are'} called as the cohort's own",
            where=vectors.where,
            got=_some(shown),
            expected="numbers of the vectors alone",
            fix="take out what was joined to them; what is a number of the vectors, call otherwise",
        )


def _rows_of(vectors: Vectors, cohort: Cohort) -> tuple[np.ndarray, list[str]]:
    """Row of the vectors of each sample, -1 without, (N,); and how they were told."""
    samples = cohort.samples
    subjects = samples["subject"].astype(str).to_numpy(object)
    if vectors.keys is None:
        return _found(vectors.subjects, subjects), []
    if vectors.is_sample:
        return _found(
            _pairs(vectors.subjects, vectors.keys), _pairs(subjects, samples["sample"])
        ), []
    tried = {
        modality: _found(
            _pairs(vectors.subjects, vectors.keys), _pairs(subjects, samples[modality])
        )
        for modality in cohort.spec.modalities
    }
    if tried:
        best = max(tried, key=lambda one: int((tried[one] >= 0).sum()))
        if (tried[best] >= 0).any():
            return tried[best], [f"each is of a record of {best}"]
    if len(set(vectors.subjects)) == len(vectors.subjects):
        found = _found(vectors.subjects, subjects)
        return found, ["each is of a subject: no record of the cohort is called as theirs"]
    return np.full(len(samples), -1), []


def _pairs(subjects: np.ndarray, keys: np.ndarray | pd.Series) -> np.ndarray:
    found = np.empty(len(subjects), dtype=object)
    found[:] = [
        None if pd.isna(key) else (subject, str(key))
        for subject, key in zip(subjects, keys, strict=True)
    ]
    return found


def _found(have: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Place of each wanted id among those there are, -1 if it is not there. (N,) int64."""
    place = {one: row for row, one in enumerate(have)}
    return np.array([-1 if one is None else place.get(one, -1) for one in wanted], dtype=np.int64)


def _counts(vectors: Vectors, rows: np.ndarray, cohort: Cohort) -> list[str]:
    """Say how many vectors are of nobody here, and who has none, by split."""
    spare = len(vectors.subjects) - len(np.unique(rows[rows >= 0]))
    notes = []
    if spare:
        notes.append(f"{spare} of {len(vectors.subjects)} vectors are of nobody in the cohort")
    side = cohort.samples["split"].to_numpy(object)
    lost = {split: int(((rows < 0) & (side == split)).sum()) for split in SPLITS}
    if any(lost.values()):
        said = ", ".join(f"{count} of {split}" for split, count in lost.items() if count)
        total = counted(sum(lost.values()), "sample")
        notes.append(f"{total} without a vector ({said}): neither fitted on nor scored")
    return notes


def _nobody(vectors: Vectors, cohort: Cohort) -> ConfigError:
    """Give the error where no id of the vectors is one of the cohort."""
    ours = cohort.samples["subject"].astype(str).to_numpy(object)
    theirs = vectors.subjects
    shared = set(theirs) & set(ours)
    got, fix = f"for example {theirs[0]!r}" if len(theirs) else "no vector", None
    if shared and vectors.keys is not None:
        got = f"for example subject {theirs[0]!r}, {vectors.keys[0]!r}"
        fix = "give the ids of the cohort's records, or one vector a subject without that column"
    else:
        agree = (
            what for what, read in _ALMOST.items() if {*map(read, theirs)} & {*map(read, ours)}
        )
        fix = next((f"the ids agree but for {what}: write them as the cohort does, as text"
                    for what in agree), None)  # fmt: skip
    return ConfigError(
        "no vector is of anybody in the cohort",
        where=vectors.where,
        got=got,
        expected=f"for example {ours[0]!r}, as in the cohort {cohort.name}" if len(ours) else None,
        fix=fix or "give the vectors of this cohort, under its ids",
    )
