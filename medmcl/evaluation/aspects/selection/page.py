"""A page of its own on one selection: what ``medmcl select`` writes beside its keep file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from medmcl.evaluation.aspects.selection.evidence import SelectionEvidence
from medmcl.evaluation.aspects.selection.section import selection_sections
from medmcl.evaluation.report.frame import page_of
from medmcl.evaluation.report.words import at_level


def selection_page(
    evidence: SelectionEvidence,
    *,
    title: str = "",
    subtitle: str = "",
    provenance: Mapping[str, Any] | None = None,
    level: float = 0.95,
) -> str:
    """Give the section of a selection as a page, HTML text that needs nothing outside itself.

    Args:
        evidence: What was selected.
        title: Heading; default says whose selection it is.
        subtitle: One line below it.
        provenance: Name to value, shown at the end.
        level: Coverage that intervals aim at.
    """
    sections = [
        replace(
            one,
            pictures=tuple(
                replace(
                    picture,
                    aid=at_level(picture.aid, level),
                    header=tuple(at_level(name, level) for name in picture.header),
                )
                for picture in one.pictures
            ),
        )
        for one in selection_sections([evidence], level)
    ]
    title = title or f"Selection of pairs, {evidence.name}"
    return page_of(sections, title, subtitle, provenance)
