"""An aspect: how alike held-out people are to a stage, which tells a collapsed embedding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from typing_extensions import override

from medmcl.evaluation.aspects.aspect import Aspect, OfStage

if TYPE_CHECKING:
    from medmcl.evaluation.aspects.scene import Scene
    from medmcl.evaluation.protocol.evaluation import Evaluation, Found
    from medmcl.evaluation.report.section import Said, Section

NAME = "likeness"


class LikenessSpec(OfStage):
    """How alike people are to a stage: the mean cosine between two of them."""

    modality: str

    @override
    def modalities(self) -> tuple[str, ...]:
        """Leave it out of a cohort without the modality."""
        return (self.modality,)


class Likeness(Aspect[LikenessSpec]):
    """The mean cosine between two held-out people; 1: the stage tells nobody apart."""

    Settings = LikenessSpec
    has_rows = True

    @override
    def measure(self, spec: LikenessSpec, scene: Scene) -> Found:
        """Embed whom may be scored, one record a person, and average all pairs."""
        import numpy as np

        from medmcl.evaluation.protocol.evaluation import Found
        from medmcl.evaluation.protocol.results import Result

        rows = scene.scored()
        rows = rows[scene.prepared.present[spec.modality][rows]]
        rows = rows[np.unique(scene.prepared.subjects[rows], return_index=True)[1]]
        if len(rows) < 2:
            return Found(notes=[f"{NAME} left out: fewer than two people are scored"])
        vectors = scene.vectors(spec.stage, spec.modality)[rows]
        cosine = np.triu(vectors @ vectors.T, k=1).sum() / (len(rows) * (len(rows) - 1) / 2)
        row = Result(
            task=NAME, target=spec.modality, kind=NAME, metric="mean_cosine", direction="lower",
            method=spec.stage, protocol=NAME, value=float(cosine), n=len(rows), subjects=len(rows),
        )  # fmt: skip
        return Found(results=[row])

    @override
    def sections(self, data: Evaluation) -> Iterator[Section]:
        """Show a line a stage."""
        from medmcl.evaluation.report.section import Section, Shown

        rows = data.rows_of(NAME)
        table = Shown(
            title="Mean cosine between two people",
            aid="Near 1 the stage tells nobody apart.",
            header=("stage", "modality", "mean cosine", "people"),
            rows=tuple((row.method, row.target, row.shown, f"{row.n:,}") for row in rows),
        )
        yield Section.of(NAME, "How alike people are", tables=[table] if rows else [])

    @override
    def sentences(self, data: Evaluation) -> Iterator[Said]:
        """Say it at the head of the report, too."""
        from medmcl.evaluation.report.section import Said

        for row in data.rows_of(NAME):
            yield Said("Also", f"Two people are as alike as {row.shown} to {row.method} (cosine).")
