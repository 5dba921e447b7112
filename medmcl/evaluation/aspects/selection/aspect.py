"""Selection as an aspect: what the ``select`` stages of a run kept; those stages measure it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from typing_extensions import override

from medmcl.evaluation.aspects.aspect import Aspect, AspectSpec, Rows

if TYPE_CHECKING:
    from medmcl.evaluation.aspects.selection.evidence import SelectionEvidence
    from medmcl.evaluation.protocol.evaluation import Evaluation
    from medmcl.evaluation.report.section import Said, Section


class Selection(Aspect[AspectSpec]):
    """How many pairs each selection kept, of whom, and by which scores."""

    @override
    def sections(self, data: Evaluation) -> Iterable[Section]:
        from medmcl.evaluation.aspects.selection.section import selection_sections

        return selection_sections(data.shown.get("selection", ()), data.level)

    @override
    def sentences(self, data: Evaluation) -> Iterable[Said]:
        from medmcl.evaluation.aspects.selection.section import selection_headline
        from medmcl.evaluation.report.section import Said

        found = data.shown.get("selection", ())
        return [Said("Who", line) for line in selection_headline(found)]

    @override
    def files(self, data: Evaluation) -> Mapping[str, Rows]:
        from medmcl.evaluation.aspects.selection.figures import score_rows
        from medmcl.evaluation.aspects.selection.section import selection_rows

        found: list[SelectionEvidence] = data.shown.get("selection", [])
        return {
            "selection_groups": selection_rows(found, data.level),
            "selection_scores": [row for one in found for row in score_rows(one)],
        }
