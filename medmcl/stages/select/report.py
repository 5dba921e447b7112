"""From a cohort and what a selection keeps of it to what the report shows of the selection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from medmcl.core.config import refuse_absent
from medmcl.core.suppression import UNKNOWN
from medmcl.core.targets import Targets
from medmcl.data.loading.prepare import Prepared
from medmcl.evaluation.aspects.selection.evidence import Row, SelectionEvidence
from medmcl.evaluation.protocol.sample_subgroups import sample_subgroups
from medmcl.evaluation.protocol.subgroups import in_order, pooled
from medmcl.evaluation.report.cards import Card
from medmcl.selection.keep import Keep
from medmcl.stages.run.ledger import specs_of
from medmcl.stages.run.record_views import side_of
from medmcl.stages.run.run import Run
from medmcl.stages.select.spec import SelectSpec

Groups = dict[str, dict[str, np.ndarray]]


def selections_of(run: Run, prepared: Prepared) -> list[SelectionEvidence]:
    """Give what the report shows of every select stage of a run, from what the stages kept."""
    found: list[SelectionEvidence] = []
    if not run.of(SelectSpec) and run.given_keep is None:
        return found
    numbers = {str(one): row for row, one in enumerate(prepared.samples["sample"])}
    for name, spec in run.of(SelectSpec).items():
        if run.skipped(name):
            continue
        keep = run.artefact(name, Keep, prepared.cohort.fingerprint)
        assert keep is not None  # the run is finished
        rows = np.array([numbers[str(one)] for one in keep.ids], dtype=np.int64)
        found.append(evidence_of(spec, prepared, keep, rows, run.facts(name).get("notes", ())))
    if run.given_keep is not None:
        found.insert(0, _given(run.given_keep, prepared, numbers))
    return found


def _given(keep: Keep, prepared: Prepared, numbers: Mapping[str, int]) -> SelectionEvidence:
    """What the report shows of the file that ``--keep`` named; no pairs if nobody says of what."""
    rows = np.array([numbers[str(one)] for one in keep.ids], dtype=np.int64)
    for spec in specs_of(keep):
        if set(spec.pair) <= set(prepared.adapters) and spec.rule[0].names[0] in keep.scores:
            return evidence_of(spec.model_copy(update={"name": "--keep"}), prepared, keep, rows, ())
    return selection_evidence(prepared, keep, rows, (), name="--keep", shown=0)


def evidence_of(
    spec: SelectSpec, prepared: Prepared, keep: Keep, rows: np.ndarray, notes: Sequence[str]
) -> SelectionEvidence:
    """Give what a page shows of a selection, as its spec asks: pairs by the first step's score."""
    sign = "warning: "
    found = selection_evidence(
        prepared,
        keep,
        rows,
        spec.pair,
        name=spec.name,
        shown=spec.shown,
        score=spec.rule[0].names[0],
        warnings=[one.removeprefix(sign) for one in notes if one.startswith(sign)],
    )
    said = (f"{one[0].upper()}{one[1:]}." for one in notes if not one.startswith(sign))
    return replace(found, notes=tuple(said))


def selection_evidence(
    prepared: Prepared,
    keep: Keep,
    rows: np.ndarray,
    pair: tuple[str, ...],
    *,
    name: str,
    shown: int = 0,
    score: str | None = None,
    warnings: Sequence[str] = (),
) -> SelectionEvidence:
    """Gather scores, groups and the pairs to look at.

    Args:
        prepared: The cohort; the splits of ``rows`` must be open.
        keep: What is kept of N pairs.
        rows: Number of the sample of each row of ``keep``, (N,).
        pair: The two modalities; none where nobody says of what, and no pairs are shown.
        name: Of the selection, for titles: its stage.
        shown: Pairs in each row of the contact sheet; 0 shows none. They are single people's.
        score: The score that pairs are shown by; default the first one.
        warnings: What else a reader must see.

    Raises:
        ArtefactError: A row is of a split that is not open.
        ConfigError: There is no such score or modality.
    """
    rows = np.asarray(rows, dtype=np.int64)
    if rows.shape != keep.ids.shape:
        raise ValueError(f"{rows.shape} sample numbers for {keep.ids.shape} rows of the keep file")
    for modality in pair:
        refuse_absent(modality, prepared.adapters, f"there is no modality '{modality}'")
    for split in np.unique(prepared.splits[rows].astype(str)).tolist():
        prepared.rows(split)  # refuses a split that is not open
    if score is not None:
        refuse_absent(score, keep.scores, f"there is no score '{score}'")
    by = next(iter(keep.scores), "") if score is None else score
    subjects = prepared.subjects[rows]
    chosen: dict[Row, list[int]] = {}
    placed = keep.ranks.get(by)
    if shown and by:
        equal = [first for kind, first in keep.copies.items() if kind != "near"]
        alike = [subjects, *equal]  # near-duplicates are what a weak teacher takes for them
        chosen = rows_to_show(keep.comparable(keep.scores[by]), keep.kept, alike, shown)
    return SelectionEvidence(
        name=name,
        kept=keep.kept,
        rule=keep.rule,
        scores=keep.scores,
        subgroups=pair_groups(prepared, rows),
        subjects=subjects,
        pairs={
            line: tuple(_shown(prepared, keep, int(rows[at]), at, pair, placed) for at in places)
            for line, places in chosen.items()
        },
        sheet_by=by,
        copies=keep.copies,
        warnings=tuple(warnings),
    )


def _shown(
    prepared: Prepared,
    keep: Keep,
    row: int,
    at: int,
    pair: tuple[str, ...],
    ranks: np.ndarray | None,
) -> Card:
    place = {} if ranks is None else {"rank": float(ranks[at])}
    return Card(
        id=str(keep.ids[at]),
        state="kept" if keep.kept[at] else "not kept",
        look="kept" if keep.kept[at] else "out",
        numbers={**{name: float(values[at]) for name, values in keep.scores.items()}, **place},
        sides=tuple(side_of(prepared, modality, row) for modality in pair),
    )


def rows_to_show(
    scores: np.ndarray, kept: np.ndarray, alike: Sequence[np.ndarray], count: int
) -> dict[Row, list[int]]:
    """Choose the best, borderline and worst rows by a score, no row twice.

    Borderline rows lie nearest, on either side, to the place where as many rows as are kept end:
    of a rule that keeps the highest scores this is its cut. Where all or none are kept there are
    none. Of equal scores, kept rows come first.

    Args:
        scores: (N,), higher = keep.
        kept: (N,) bool.
        alike: Codes, (N,) each: rows of equal code (one person, duplicates) are shown once a line.
        count: Rows of a line.

    Returns:
        Line to positions: best first; borderline from above to below; worst first.
    """
    order = np.lexsort((np.arange(len(scores)), ~kept, -scores)).tolist()
    cut, used = int(kept.sum()), set[int]()
    best = _distinct(order, alike, count, used)
    near: list[int] = []
    if 0 < cut < len(order):
        above = _distinct(order[:cut][::-1], alike, (count + 1) // 2, used)
        below = _distinct(order[cut:], alike, count // 2, used, above)
        near = [*above[::-1], *below]
    worst = _distinct(order[::-1], alike, count, used)
    return {"best": best, "borderline": near, "worst": worst}


def _distinct(
    places: Sequence[int], alike: Sequence[np.ndarray], count: int, used: set[int],
    beside: Sequence[int] = (),
) -> list[int]:  # fmt: skip
    """The first places that are not used and like no other of their line; notes them as used."""
    seen = [{codes[at] for at in beside} for codes in alike]
    found: list[int] = []
    for at in places:
        if len(found) == count:
            break
        if at in used or any(codes[at] in known for codes, known in zip(alike, seen, strict=True)):
            continue
        for codes, known in zip(alike, seen, strict=True):
            known.add(codes[at])
        found.append(at)
    used.update(found)
    return found


def pair_groups(prepared: Prepared, rows: np.ndarray) -> Groups:
    """Give the groups of some samples: classes of the cohort's tasks, sex, age, site and so on.

    Tasks that are binary, multiclass or multilabel; labels of a multilabel task overlap. Attributes
    of which all samples are in one group are left out.

    Args:
        prepared: The cohort.
        rows: Sample numbers, (N,).

    Returns:
        Attribute to group to (N,) bool.
    """
    found: Groups = {}
    for task in prepared.cohort.usable_tasks:
        found[task] = task_groups(prepared.tasks(task).take(rows))
    for attribute, labels in sample_subgroups(prepared.cohort, prepared.present).items():
        names = labels[rows]
        if attribute == "site":
            names = pooled(names, prepared.subjects[rows])
        known = sorted({str(one) for one in names.tolist()} - {UNKNOWN}, key=in_order)
        key = attribute if attribute not in found else f"{attribute} (subgroup)"
        found[key] = {one: np.asarray(names == one, dtype=bool) for one in (*known, UNKNOWN)}
    return {
        attribute: groups
        for attribute, groups in found.items()
        if sum(members.any() for members in groups.values()) > 1
    }


def task_groups(targets: Targets) -> dict[str, np.ndarray]:
    """Give the members of each class or label of a task, (N,) bool; nothing of other kinds."""
    values, known = targets.values > 0, targets.known
    if targets.kind == "binary":
        name = targets.name
        groups = {name: known[:, 0] & values[:, 0], f"not {name}": known[:, 0] & ~values[:, 0]}
    elif targets.kind == "multiclass":
        number = targets.values[:, 0].astype(np.int64)
        groups = {
            name: known[:, 0] & (number == place) for place, name in enumerate(targets.classes)
        }
    elif targets.kind == "multilabel":
        groups = {
            name: known[:, place] & values[:, place] for place, name in enumerate(targets.columns)
        }
        groups["none of them"] = np.asarray(known.all(axis=1) & ~values.any(axis=1))
    else:
        return {}
    return {**groups, UNKNOWN: np.asarray(~known.any(axis=1))}
