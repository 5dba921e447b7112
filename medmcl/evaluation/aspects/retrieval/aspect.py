"""Retrieval as an aspect: does a record find its own partner in another modality?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Literal, Self

from typing_extensions import override

from medmcl.evaluation.aspects.aspect import Aspect, OfStage

if TYPE_CHECKING:
    from medmcl.data.cohort.cohort import Cohort
    from medmcl.evaluation.aspects.scene import Scene
    from medmcl.evaluation.protocol.evaluation import Found


class RetrievalSpec(OfStage):
    """Retrieval between two modalities with the towers of one stage."""

    pairs: tuple[tuple[str, str], ...] | Literal["all"]
    """``all``: every two modalities of the stage."""
    ks: tuple[int, ...] = (1, 5, 10)

    @property
    def named(self) -> tuple[tuple[str, str], ...]:
        """The pairs by name; none while ``all`` waits for a cohort."""
        return () if self.pairs == "all" else self.pairs

    @override
    def for_cohort(self, towers: Callable[[str], Sequence[str]]) -> Self:
        if self.pairs != "all":
            return self
        return self.model_copy(update={"pairs": tuple(combinations(towers(self.stage), 2))})

    @override
    def wanted(
        self, name: str, cohort: Cohort, left_out: Callable[[str], str], *, is_own: bool
    ) -> tuple[Self | None, list[str]]:
        found, notes = super().wanted(name, cohort, left_out, is_own=is_own)
        have = cohort.spec.modalities
        pairs = tuple(pair for pair in self.named if all(one in have for one in pair))
        if found is None or pairs == self.named:
            return found, notes
        notes.append(f"retrieval left out: the cohort has only {', '.join(have)}")
        return (self.model_copy(update={"pairs": pairs}) if pairs else None), notes


class Retrieval(Aspect[RetrievalSpec]):
    """Recall among the first k, both ways, and the median rank."""

    Settings = RetrievalSpec
    has_rows = True
    page = "medmcl.evaluation.aspects.retrieval.figures"

    @override
    def measure(self, spec: RetrievalSpec, scene: Scene) -> Found:
        from medmcl.evaluation.aspects.retrieval.measure import retrieval
        from medmcl.evaluation.protocol.evaluation import Found

        found, prepared, scored = Found(), scene.prepared, scene.scored()
        names = dict.fromkeys(name for pair in spec.named for name in pair)
        vectors = {name: scene.vectors(spec.stage, name) for name in names}
        for a, b in spec.named:
            both = scored[prepared.present[a][scored] & prepared.present[b][scored]]
            found.results += retrieval(
                vectors[a][both],
                vectors[b][both],
                names=(a, b),
                identity=(prepared.identity(a)[both], prepared.identity(b)[both]),
                resampling=scene.resampling.take(both),
                ks=spec.ks,
                method=spec.stage,
            )
        return found
