"""Experts as an aspect: what those of a shared tower take, while it trains and afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic import Field
from typing_extensions import override

from medmcl.evaluation.aspects.aspect import Aspect, OfStage, Rows

if TYPE_CHECKING:
    from medmcl.evaluation.aspects.experts.content import ExpertContent
    from medmcl.evaluation.aspects.scene import Scene
    from medmcl.evaluation.protocol.evaluation import Evaluation, Found
    from medmcl.evaluation.report.section import Section


class ExpertsSpec(OfStage):
    """What the experts of a shared tower take, shown on rows of the tuning split."""

    looks_inside = True

    rows: int = Field(default=512, ge=1)
    """Samples that are looked at, drawn by the seed; all if there are fewer."""
    shown_words: int = Field(default=8, ge=0)
    """Words an expert; one that an expert takes from fewer than 5 subjects is not named."""
    shown_pieces: int = Field(default=0, ge=0)
    """Patches of images and stretches of signals an expert, each of another subject. They are
    pieces of single people's records, so none is shown unless a number is given."""


class Experts(Aspect[ExpertsSpec]):
    """What routers did; records of people only where somebody asked for pieces of them."""

    Settings = ExpertsSpec

    @override
    def measure(self, spec: ExpertsSpec, scene: Scene) -> Found:
        from medmcl.evaluation.aspects.experts.measure import expert_content
        from medmcl.evaluation.protocol.evaluation import Found

        found = expert_content(spec, scene)
        if isinstance(found, str):
            return Found(notes=[found])
        return Found(shown={"experts": [found]}, notes=[*found.left_out])

    @override
    def sections(self, data: Evaluation) -> Iterator[Section]:
        from medmcl.evaluation.aspects.experts.content_figures import content_pictures
        from medmcl.evaluation.aspects.experts.figures import routing_curves, share_pictures
        from medmcl.evaluation.aspects.experts.lines import expert_rows, share_rows
        from medmcl.evaluation.report.cards import SINGLE_PEOPLE
        from medmcl.evaluation.report.section import Section

        every: list[ExpertContent] = data.shown.get("experts", [])
        yield Section.of(
            "experts",
            "Experts",
            *share_pictures(share_rows(data.curves, data.kept_steps)),
            *routing_curves(expert_rows(data.curves)),
            *(picture for one in every for picture in content_pictures(one)),
            warnings=(SINGLE_PEOPLE,) if any(one.piece_rows() for one in every) else (),
        )

    @override
    def files(self, data: Evaluation) -> Mapping[str, Rows]:
        from medmcl.evaluation.aspects.experts.lines import expert_rows, share_rows

        every: list[ExpertContent] = data.shown.get("experts", [])
        return {
            "experts": expert_rows(data.curves),
            "expert_shares": share_rows(data.curves, data.kept_steps),
            "expert_words": [row for one in every for row in one.word_rows()],
            "expert_pieces": [row for one in every for row in one.piece_rows()],
        }
