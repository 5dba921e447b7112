"""Cosine maps as an aspect: where in the image the embedding of another modality looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from pydantic import Field
from typing_extensions import override

from medmcl.core.errors import ConfigError
from medmcl.evaluation.aspects.aspect import Aspect, OfStage, Rows

if TYPE_CHECKING:
    import numpy as np

    from medmcl.evaluation.aspects.scene import Scene
    from medmcl.evaluation.protocol.evaluation import Evaluation, Found
    from medmcl.evaluation.report.section import Section


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

    @override
    def measure(self, spec: MapSpec, scene: Scene) -> Found:
        from medmcl.evaluation.aspects.maps.localisation import cosine_map
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

    @override
    def sections(self, data: Evaluation) -> Iterator[Section]:
        from medmcl.evaluation.aspects.maps.figures import map_pictures
        from medmcl.evaluation.report.cards import SINGLE_PEOPLE
        from medmcl.evaluation.report.section import Section

        for images, heat in data.shown.get("maps", ())[-1:]:
            picture = map_pictures(images, heat)
            said = () if picture is None else (SINGLE_PEOPLE,)
            yield Section.of("maps", "Cosine maps", picture, warnings=said, part="Embeddings")

    @override
    def files(self, data: Evaluation) -> Mapping[str, Rows]:
        from medmcl.evaluation.aspects.maps.figures import cosine_rows

        heats = [heat for _, heat in data.shown.get("maps", ())[-1:]]
        return {"cosine_maps": [row for heat in heats for row in cosine_rows(heat)]}


def map_parts(
    spec: MapSpec, scene: Scene, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]:
    """Projected image tokens (N, T, D), query embeddings (N, D), images (N, H, W), token grid.

    Images are as the encoder saw them, the last frame.
    """
    import numpy as np
    import torch

    towers = scene.towers(spec.stage)
    tokens, pooled, images = [], [], []
    with torch.no_grad():
        for _, batch in scene.batches(spec.stage, rows):
            seen = towers(batch)
            if spec.image not in seen.tokens:
                raise ConfigError(f"the encoder of '{spec.image}' gives no tokens to map")
            tokens.append(towers.project_tokens(spec.image, seen.tokens[spec.image]).cpu().numpy())
            pooled.append(seen.pooled[spec.query].float().cpu().numpy())
            images.append(batch.inputs[spec.image][:, -1].float().cpu().numpy())
    grid = towers.tower(spec.image).facts.grid
    if grid is None or len(grid) != 2:
        raise ConfigError(f"the tokens of '{spec.image}' do not lie in a plane", got=grid)
    flat = (grid[0], grid[1])
    return np.concatenate(tokens), np.concatenate(pooled), np.concatenate(images), flat
