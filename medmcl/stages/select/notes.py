"""What must be said of a selection: what was not scored, and why its scores may mislead."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medmcl.core.findings import counted
from medmcl.data.loading.prepare import Prepared
from medmcl.selection.keep import Keep
from medmcl.selection.settings import NegClipLossSettings
from medmcl.stages.run.run import Run
from medmcl.stages.run.train_records import learned_from
from medmcl.stages.select.spec import SelectSpec

MOST_ALIKE = 0.9
"""Share of near-duplicates above which a teacher is warned of."""
MOST_COMPARED = 50_000
"""Rows up to which near-duplicates are looked for: the time grows with their square."""


def notes_of(
    spec: SelectSpec,
    run: Run,
    prepared: Prepared,
    rows: np.ndarray,
    copies: Mapping[str, np.ndarray],
    parts: Mapping[str, np.ndarray],
) -> tuple[str, ...]:
    """Say what a reader of a selection must know.

    Args:
        spec: The selection.
        run: Holds the teachers.
        prepared: The cohort.
        rows: The pool, sample numbers, (N,).
        copies: Kind of duplicates to the first row of each row's group, (N,).
        parts: Teacher to the rows that it scored.

    Returns:
        Lines; those that begin with ``warning: `` concern whether to believe it at all.
    """
    notes = []
    if "near" not in copies:
        notes.append(f"near-duplicates were not looked for in more than {MOST_COMPARED:,} pairs")
    again = copies["near"] != np.arange(len(rows)) if "near" in copies else np.zeros(1, bool)
    if again.mean() > MOST_ALIKE:
        notes.append(
            f"warning: {int(again.sum()):,} of {len(rows):,} pairs are near-duplicates to the "
            "teacher: it hardly tells pairs apart, as before it has learned, or after it collapsed"
        )
    able = len(prepared.rows("train", spec.wanted))
    for left, why in (
        (len(prepared.rows("train")) - able, f"without {' and '.join(spec.wanted)}"),
        (able - len(rows), "left out by --keep"),
    ):
        if left:
            notes.append(f"{counted(left, 'train sample')} {why} not scored")
    smallest = min(map(len, parts.values()))
    if len(parts) > 1:
        notes.append(
            "each teacher's scores are ranked and cut on their own, and near-duplicates looked for "
            "among the pairs of one teacher"
        )
    small = [name for name, one in spec.scores.items()
             if isinstance(one, NegClipLossSettings) and one.batch_size >= smallest]  # fmt: skip
    if small:
        notes.append(
            f"a teacher's pool is smaller than a batch of {', '.join(small)}, so it is one batch"
        )
    made_wrong = [one for one in prepared.cohort.findings if one.code == "cohort.noisy_pairs"]
    notes += [f"warning: {one.what}" for one in made_wrong]
    if len(parts) == 1:
        notes += _met(spec, run, prepared, rows)
    return tuple(notes)


def _met(spec: SelectSpec, run: Run, prepared: Prepared, rows: np.ndarray) -> list[str]:
    """Warn of a teacher that was trained on rows it scores."""
    teacher = spec.teachers[0]
    seen = learned_from(run, prepared, spec.pair)
    by = getattr(run.stages[teacher], "selected_by", None)
    if seen is not None and by is not None:
        kept = set(Keep.load(run.file(by, Keep)).kept_ids.tolist())
        seen &= prepared.samples["sample"].astype(str).isin(kept).to_numpy()
    count = len(rows) if seen is None else int(seen[rows].sum())
    if not count:
        return []
    whose = "perhaps all" if seen is None else f"{count:,}"
    return [
        f"warning: the teacher was trained on {whose} of the rows it scores, and what it learned "
        "by heart scores high; teachers without a fold (`without_fold`) score rows that they never "
        "saw"
    ]
