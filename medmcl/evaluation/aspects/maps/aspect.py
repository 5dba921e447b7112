"""Cosine maps as an aspect: where in the image the embedding of another modality looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field
from typing_extensions import override

from medmcl.evaluation.aspects.aspect import Aspect, OfStage

if TYPE_CHECKING:
    from medmcl.evaluation.aspects.scene import Scene
    from medmcl.evaluation.protocol.evaluation import Found


class MapSpec(OfStage):
    """Where an embedding of ``query`` looks in the image tokens of ``image``."""

    looks_inside = True

    query: str
    image: str
    pixels: bool = False
    """Whether the report may show images of single people: without, there are no maps."""
    shown: int = Field(default=6, ge=1)

    @override
    def modalities(self) -> tuple[str, ...]:
        return self.query, self.image


class Maps(Aspect[MapSpec]):
    """Images of the first few scored samples that have both, (N, H, W), and their cosine maps."""

    Settings = MapSpec
    page = "medmcl.evaluation.aspects.maps.figures"

    @override
    def measure(self, spec: MapSpec, scene: Scene) -> Found:
        from medmcl.evaluation.aspects.maps.localisation import cosine_map, map_parts
        from medmcl.evaluation.protocol.evaluation import Found

        if not spec.pixels:
            return Found(notes=[
                "maps left out: they show images of single people; ask for them by "
                f"--set stages.{scene.name}.maps.pixels=true"
            ])  # fmt: skip
        present, rows = scene.prepared.present, scene.scored()
        rows = rows[present[spec.query][rows] & present[spec.image][rows]]
        if not len(rows):
            return Found(notes=["maps left out: no scored sample has both modalities"])
        tokens, pooled, images, grid = map_parts(spec, scene, rows[: spec.shown])
        return Found(shown={"maps": [(images, cosine_map(tokens, pooled, grid))]})
