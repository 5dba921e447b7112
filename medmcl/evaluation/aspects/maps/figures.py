"""Figure of cosine maps: where an embedding looks in an image."""

from __future__ import annotations

from typing import Any

import numpy as np

from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.columns import rounded, written
from medmcl.evaluation.report.pictures import PAGE, Picture, drawing, number

MOST_MAPS = 8
COSINES = ("highest cosine", "mean cosine")


def map_pictures(images: np.ndarray, heat: np.ndarray) -> Picture | None:
    """Draw images with the cosine map over them.

    Args:
        images: (N, H, W), any scale.
        heat: Cosine maps at any resolution, (N, h, w).
    """
    count = min(MOST_MAPS, len(images))
    if count == 0:
        return None
    most = max(1e-6, float(np.quantile(heat[:count], 0.995)))
    columns = min(4, count)
    lines = -(-count // columns)
    with drawing(PAGE, 3.5 * lines, 2 * lines, columns) as (figure, grid):
        for axes in grid.flat:
            axes.axis("off")
        for place in range(count):
            line, column = divmod(place, columns)
            _gray(grid[2 * line, column], images[place])
            _gray(grid[2 * line + 1, column], images[place])
            drawn = _over(grid[2 * line + 1, column], images[place].shape, heat[place], most)
        bar = figure.colorbar(
            drawn, ax=list(grid.flat), orientation="horizontal", shrink=0.4, pad=0.01, aspect=40
        )
        bar.set_label("cosine")
        rows = cosine_rows(heat)
        return Picture.of(
            figure,
            caption(__file__, "maps"),
            said=[
                f"image {one['image']}: highest cosine {number(one['highest cosine'])}"
                for one in rows
            ],
            **written(rows, "image", *((name, rounded(name)) for name in COSINES)),
            raster=True,
        )


def cosine_rows(heat: np.ndarray) -> list[dict[str, Any]]:
    """Highest and mean cosine of each map that is drawn."""
    return [
        {"image": i, "highest cosine": float(one.max()), "mean cosine": float(one.mean())}
        for i, one in enumerate(heat[:MOST_MAPS])
    ]


def _gray(axes: Any, image: np.ndarray) -> None:
    low, high = np.quantile(image, [0.01, 0.99])
    axes.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1e-9))


def _over(axes: Any, shape: tuple[int, ...], heat: np.ndarray, most: float) -> Any:
    """Lay a map over an image, clear where the cosine is not positive."""
    height, width = shape
    strength = np.clip(heat / most, 0, 1)
    return axes.imshow(
        heat,
        cmap="inferno",
        vmin=0,
        vmax=most,
        alpha=0.15 + 0.5 * strength,
        interpolation="nearest",
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )
