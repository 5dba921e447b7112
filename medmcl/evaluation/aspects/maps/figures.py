"""Figure of cosine maps: where an embedding looks in an image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from medmcl.evaluation.aspects.aspect import Rows
from medmcl.evaluation.protocol.evaluation import Evaluation
from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.cards import SINGLE_PEOPLE
from medmcl.evaluation.report.columns import rounded, written
from medmcl.evaluation.report.pictures import PAGE, Picture, drawing, number
from medmcl.evaluation.report.section import Section

MOST_MAPS = 8
COSINES = ("highest cosine", "mean cosine")


def sections(data: Evaluation) -> Iterator[Section]:
    """Images with the cosine map over them, of the last stage that was asked for any."""
    for images, heat in data.shown.get("maps", ())[-1:]:
        picture = map_picture(images, heat)
        yield Section.of("maps", "Cosine maps", picture, warnings=(SINGLE_PEOPLE,),
                         part="Embeddings")  # fmt: skip


def files(data: Evaluation) -> dict[str, Rows]:
    """Numbers of each map that is drawn."""
    heats = [heat for _, heat in data.shown.get("maps", ())[-1:]]
    return {"cosine_maps": [row for heat in heats for row in cosine_rows(heat)]}


def map_picture(images: np.ndarray, heat: np.ndarray) -> Picture:
    """Draw images, and below each the same with the cosine map, clear where that is not positive.

    Args:
        images: (N, H, W), any scale.
        heat: Cosine maps at any resolution, (N, h, w).
    """
    count = min(MOST_MAPS, len(images))
    most = max(1e-6, float(np.quantile(heat[:count], 0.995)))
    columns = min(4, count)
    lines = -(-count // columns)
    with drawing(PAGE, 3.5 * lines, 2 * lines, columns) as (figure, grid):
        for axes in grid.flat:
            axes.axis("off")
        for place, image in enumerate(images[:count]):
            line, column = divmod(place, columns)
            plain, beneath = grid[2 * line : 2 * line + 2, column]
            low, high = np.quantile(image, [0.01, 0.99])
            for axes in (plain, beneath):
                axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-9))
            drawn = beneath.imshow(
                heat[place], cmap="inferno", vmin=0, vmax=most, interpolation="nearest",
                alpha=0.15 + 0.5 * np.clip(heat[place] / most, 0, 1),
                extent=(-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5),
            )  # fmt: skip
        bar = figure.colorbar(
            drawn, ax=list(grid.flat), orientation="horizontal", shrink=0.4, pad=0.01, aspect=40
        )
        bar.set_label("cosine")
        rows = cosine_rows(heat)
        said = [f"image {r['image']}: highest cosine {number(r['highest cosine'])}" for r in rows]
        return Picture.of(
            figure,
            caption(__file__, "maps"),
            said=said,
            **written(rows, "image", *((name, rounded(name)) for name in COSINES)),
            raster=True,
        )


def cosine_rows(heat: np.ndarray) -> list[dict[str, Any]]:
    """Highest and mean cosine of each map that is drawn."""
    return [
        {"image": i, "highest cosine": float(one.max()), "mean cosine": float(one.mean())}
        for i, one in enumerate(heat[:MOST_MAPS])
    ]
