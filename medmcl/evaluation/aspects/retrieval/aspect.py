"""Retrieval as an aspect: does a record find its own partner in another modality?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Literal, Self

from typing_extensions import override

from medmcl.evaluation.aspects.aspect import Aspect, OfStage

if TYPE_CHECKING:
    from medmcl.data.cohort.cohort import Cohort
    from medmcl.evaluation.aspects.scene import Scene
    from medmcl.evaluation.protocol.evaluation import Evaluation, Found
    from medmcl.evaluation.protocol.results import Result
    from medmcl.evaluation.report.section import Said, Section

MOST_DIRECTIONS = 4  # that have a sentence of their own


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

    @override
    def sections(self, data: Evaluation) -> Iterator[Section]:
        from medmcl.evaluation.aspects.retrieval.figures import retrieval_bars
        from medmcl.evaluation.report.section import Section

        yield Section.of("retrieval", "Retrieval", retrieval_bars(data.rows_of("retrieval")),
                         part="Also")  # fmt: skip

    @override
    def sentences(self, data: Evaluation) -> Iterable[Said]:
        from medmcl.evaluation.report.section import Said

        return [Said("Also", line) for line in retrieval_lines(data.rows_of("retrieval"))]


def retrieval_lines(found: Sequence[Result]) -> list[str]:
    """A line a direction; of many directions the best, the worst and the middle."""
    from statistics import median

    recalls = [row for row in found if row.metric == "recall@10" and row.value is not None]
    chance = {row.target: row.value for row in recalls if row.method == "chance"}
    ours = [row for row in recalls if row.method != "chance"]
    lines = []
    if len(ours) > MOST_DIRECTIONS:
        ranked = sorted(ours, key=lambda row: -(row.value or 0.0))
        middle = median(row.value or 0.0 for row in ranked)
        lines = [f"Retrieval in {len(ours)} directions: median recall@10 is {middle:.3f}; best and "
                 "worst:"]  # fmt: skip
        ours = [ranked[0], ranked[-1]]
    for row in ours:
        by_chance = "" if row.target not in chance else f" (chance {chance[row.target]:.3f})"
        lines.append(f"Retrieval {row.target}: {row.metric} is {row.told_whole}{by_chance}.")
    return lines
