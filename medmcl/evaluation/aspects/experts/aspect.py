"""Experts as an aspect: what those of a shared tower took while it trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from typing_extensions import override

from medmcl.evaluation.aspects.aspect import Aspect, AspectSpec, Rows

if TYPE_CHECKING:
    from medmcl.evaluation.protocol.evaluation import Evaluation
    from medmcl.evaluation.report.section import Section


class Experts(Aspect[AspectSpec]):
    """Which expert takes what share of each modality, and how that came about.

    Read from the record of training: nothing is measured for it.
    """

    @override
    def sections(self, data: Evaluation) -> Iterator[Section]:
        from medmcl.evaluation.aspects.experts.figures import routing_curves, share_pictures
        from medmcl.evaluation.aspects.experts.lines import expert_rows, share_rows
        from medmcl.evaluation.report.section import Section

        shares = share_pictures(share_rows(data.curves, data.kept_steps))
        curves = routing_curves(expert_rows(data.curves))
        yield Section.of("experts", "Experts", *shares, *curves, part="Training")

    @override
    def files(self, data: Evaluation) -> Mapping[str, Rows]:
        from medmcl.evaluation.aspects.experts.lines import expert_rows, share_rows

        return {
            "experts": expert_rows(data.curves),
            "expert_shares": share_rows(data.curves, data.kept_steps),
        }
