"""Modalities without a date, where ``pairing:`` or ``index:`` compares dates.

A modality that names its records may have several of a person, and without dates nothing could
say which belong together or which came before the index date: an error. One with a single record
a person leaves nothing to choose; what is taken for granted of it is said in a warning.
"""

from __future__ import annotations

from medmcl.core.findings import Finding, cohort_error, cohort_warning
from medmcl.data.cohort.spec import CohortSpec, ModalitySpec


def undated(spec: CohortSpec) -> list[Finding]:
    """Give what is wrong with, or taken for granted of, the modalities without ``date:``."""
    dateless = [one for one in spec.modalities.values() if one.keys.date is None]
    without = [one for one in dateless if one.traits.records_from != "events"]
    findings: list[Finding] = []
    if spec.keys.pairing.on == "date" and len(spec.modalities) > 1:
        for one in without:
            findings += _unpaired(one, spec.keys.pairing.max_gap_days)
    if spec.keys.index is not None:
        for one in without:
            findings += _unplaced(one, leads=one.name == spec.keys.index.modality)
    return findings


def _has_several(one: ModalitySpec) -> bool:
    """Whether a person may have several records: they lie in a table of their own and have ids."""
    return one.keys.table is not None and one.keys.record is not None


def _unpaired(one: ModalitySpec, gap: float | None) -> list[Finding]:
    if _has_several(one):
        what = "has a table of records and no `date:`, and pairing is `on: date`"
        fix = (
            "name its column with the date: date: COLUMN; or pair by another rule: "
            "pairing: {on: record} (the same id) or {on: subject} (the only record)"
        )
        return [_finding("pairing.no_date", one, what, fix, error=True)]
    if gap is None:
        return []
    what = (
        f"has no `date:`: its only record of a person is paired whatever the gap (max_gap_days: "
        f"{gap:g})"
    )
    return [_finding("pairing.no_date", one, what, _FIX.format("the gap does not matter for it"))]


def _unplaced(one: ModalitySpec, *, leads: bool) -> list[Finding]:
    if leads:
        what = "gives the index date and has no `date:`"
        fix = "name its column with the date: date: COLUMN; or index: {column: COLUMN}"
        return [_finding("index.no_date", one, what, fix, error=True)]
    if _has_several(one):
        what = "has a table of records and no `date:`: those after the index date would be inputs"
        fix = "name its column with the date: date: COLUMN; or take the modality out"
        return [_finding("index.no_date", one, what, fix, error=True)]
    what = "has no `date:`: its record is taken as known at the index date"
    return [_finding("index.no_date", one, what, _FIX.format("it was known by then"))]


_FIX = "name its column with the date: date: COLUMN; nothing, if {}"


def _finding(code: str, one: ModalitySpec, what: str, fix: str, *, error: bool = False) -> Finding:
    make = cohort_error if error else cohort_warning
    return make(code, f"modalities.{one.name}", what, fix)
