"""The page of a screening: what ``medmcl check --screen`` writes for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medmcl.evaluation.aspects.screen.evidence import ScreenEvidence, Suspect
from medmcl.evaluation.aspects.screen.figures import roc_curves
from medmcl.evaluation.aspects.selection.contact_sheet import (
    SINGLE_PEOPLE,
    Card,
    Look,
    Sheet,
    columns_for,
    faces_of,
    scales_said,
    scores_said,
)
from medmcl.evaluation.report.frame import fill
from medmcl.evaluation.report.numbers import plain_text
from medmcl.evaluation.report.pictures import shorten
from medmcl.evaluation.report.section import Section
from medmcl.evaluation.report.tables import OPEN_ROWS, Shown

ODD = (
    "Odd is not poisoned. A score says how unlike its neighbours an embedding lies among the rows "
    "of this cohort, so some rows are always the most suspect, in clean data too: a rare but right "
    "record, a bad scan or a duplicate scores high as well. Look before anything is left out."
)


def screen_page(
    evidence: ScreenEvidence,
    *,
    title: str = "",
    subtitle: str = "",
    provenance: Mapping[str, Any] | None = None,
) -> str:
    """Give the page, HTML text that needs nothing outside itself.

    Args:
        evidence: What was found.
        title: Heading.
        subtitle: One line below it.
        provenance: Name to value, shown at the end.
    """
    return fill(
        "selection.html.j2",
        title=title or f"Suspects of stage {evidence.stage}",
        subtitle=subtitle,
        sections=[_found(evidence), _looked_at(evidence)],
        provenance={str(key): plain_text(value) for key, value in (provenance or {}).items()},
    )


def _found(evidence: ScreenEvidence) -> Section:
    picture = roc_curves(evidence)
    return Section(
        key="screening",
        title=f"Screening of {evidence.modality}, stage {evidence.stage}",
        pictures=() if picture is None else (picture,),
        tables=() if not evidence.judged else (_judged(evidence),),
        empty="Nobody says which rows are poisoned, so the detectors are not judged.",
        short="Screening",
        lines=evidence.lines,
        warnings=(ODD, *evidence.warnings),
    )


def _judged(evidence: ScreenEvidence) -> Shown:
    top = next(iter(evidence.judged.values())).top
    rows = tuple(
        (name, str(one.auroc), f"{one.in_top:,}", f"{one.by_chance:.3g}")
        for name, one in evidence.judged.items()
    )
    notes = dict.fromkeys(one.auroc.note for one in evidence.judged.values() if one.auroc.note)
    return Shown(
        title="Detectors against the manifest",
        aid="AUROC: the chance that a poisoned row is more suspect than a clean one, with its "
        "95 % bootstrap interval over subjects; 0.5 = no better than chance.",
        header=("detector", "AUROC (95 % interval)", f"poisoned among the top {top:,}",
                "as many by chance"),
        rows=rows,
        notes=tuple(notes),
    )  # fmt: skip


def _looked_at(evidence: ScreenEvidence) -> Section:
    return Section(
        key="suspects",
        title=f"The most suspect rows by {evidence.detector}"
        + (", and the first by each other detector" if evidence.others else ""),
        pictures=(),
        tables=(_listed(evidence),),
        short="Suspects",
        sheet=_sheet(evidence),
    )


def _listed(evidence: ScreenEvidence) -> Shown:
    names = tuple(evidence.scores)
    said = () if evidence.is_poisoned is None else ("manifest",)
    rows = tuple(
        (f"{one.rank:,}", one.id, one.subject, *(f"{one.scores[name]:.4g}" for name in names),
         *([_state(one)] if said else []))
        for one in evidence.suspects
    )  # fmt: skip
    return Shown(
        title=f"{len(rows):,} of {len(evidence):,} rows, by {evidence.detector}",
        aid="Higher = more suspect. All rows, with the scores and ranks of every detector, are in "
        "suspects.csv.",
        header=("rank", "sample", "subject", *names, *said),
        rows=rows,
        folded="The rows and their scores" if len(rows) > OPEN_ROWS else "",
    )


def _sheet(evidence: ScreenEvidence) -> Sheet:
    by = {evidence.detector: evidence.suspects, **evidence.others}
    contents = [side.content for some in by.values() for one in some for side in one.sides]
    attacked = (
        "Pictures are shown as the stage saw them, with the triggers of the attack, and poisoned "
        "rows with the texts that it gave them. "
        if evidence.attack
        else ""
    )
    rows = tuple((f"By {name}", tuple(map(_card, some))) for name, some in by.items())
    return Sheet(
        title="Pairs to look at",
        aid="The most suspect first. " + attacked + scales_said(contents) + SINGLE_PEOPLE,
        rows=rows,
        columns=columns_for(contents, len(evidence.suspects)),
    )


def _card(one: Suspect) -> Card:
    look: Look = "plain" if one.is_poisoned is None else "odd" if one.is_poisoned else "out"
    return Card(
        title=f"{one.rank}. {shorten(one.id, 34)}",
        state=_state(one),
        look=look,
        scores=scores_said(one.scores),
        faces=faces_of(one.sides),
    )


def _state(one: Suspect) -> str:
    if one.is_poisoned is None:
        return ""
    return "poisoned" if one.is_poisoned else "clean"
