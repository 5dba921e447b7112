"""Figure of embeddings: the map of a cloud."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from medmcl.core.rng import derive_seed
from medmcl.core.suppression import FEWEST_SUBJECTS
from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.columns import written
from medmcl.evaluation.report.pictures import (
    COLOURS,
    Picture,
    colour,
    mark,
    shorten,
    small_multiples,
)

MOST_POINTS = 1500  # of an embedding map
KNOWN = "with a known outcome, at least"
LETTERS = 96  # of legends that fit side by side on a page


def project(
    points: np.ndarray, *, seed: int = 0, fives: bool = False
) -> tuple[np.ndarray, np.ndarray, str]:
    """Lay embeddings out in the plane: (n, 2), the rows taken, and the name of the method.

    Principal components, then t-SNE where there are enough points; points already in the plane
    pass. At most 1,500 rows, evenly spaced; of people in fives, as all tell who lacks a vector. By
    one OpenMP thread: copies of a process draw, too (`beside`), and sums are alike to the last bit.

    Source:
        van der Maaten & Hinton 2008, JMLR 9:2579-2605, started from principal components. Differs:
        none.
    """
    rows = _shown_rows(len(points), fives=fives)
    x = np.asarray(points, dtype=np.float64)[rows]
    if x.shape[1] == 2:
        return x, rows, "given"
    centred = x - x.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    components = left * values
    if components.shape[1] < 2:
        return np.column_stack([components[:, 0], np.zeros(len(x))]), rows, "PCA"
    if len(x) < 50 or values[0] <= 1e-9:
        return components[:, :2], rows, "PCA"
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    model = TSNE(
        init="pca",
        perplexity=min(30, len(x) // 5),
        random_state=derive_seed(seed, "tsne") % 2**31,
        max_iter=350,  # 250 of them with exaggerated nearness; later ones only spread groups
        angle=0.8,
    )
    with threadpool_limits(1, user_api="openmp"):  # as copies have it, so that sums are alike
        return model.fit_transform(components[:, :30]), rows, "t-SNE"


def embedding_map(embedding: Mapping[str, Any]) -> Picture | None:
    """Draw embeddings in the plane, one panel a task, coloured by its outcome.

    Args:
        embedding: ``points`` (N, D), ``modality``, and ``colours``: task to values (N,), numbers or
            class names; NaN or None = unknown.
    """
    points = np.asarray(embedding.get("points", np.zeros((0, 2))))
    if len(points) < 3:
        return None
    flat, rows, how = project(points, fives=True)
    colours = _colours(embedding)
    with small_multiples(len(colours), 2.7) as (figure, grid):
        for axes in grid:
            axes.axis("off")
        for axes, (task, values) in zip(grid, colours.items(), strict=False):
            chosen = None if values is None else np.asarray(values, dtype=object)[rows]
            _scatter(figure, axes, flat, chosen)
            axes.set_title(shorten(task, 30))
        modality = str(embedding.get("modality", ""))
        return Picture.of(
            figure,
            caption(__file__, "embedding", whose=modality or "the", how=how, samples=len(flat)),
            said=[
                f"{t}: at least {_known(v, rows)} of {len(flat)} known" for t, v in colours.items()
            ],
            **written(map_rows(embedding), "task", "samples shown", KNOWN),
            raster=True,
        )


def map_rows(embedding: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How many dots each panel of the map shows, and how many at least have a known outcome."""
    points = np.asarray(embedding.get("points", np.zeros((0, 2))))
    if len(points) < 3:
        return []
    rows = _shown_rows(len(points), fives=True)
    return [
        {"task": task, "samples shown": len(rows), KNOWN: _known(values, rows)}
        for task, values in _colours(embedding).items()
    ]


def _colours(embedding: Mapping[str, Any]) -> dict[str, Any]:
    """The tasks that colour a panel; one grey panel if there is none."""
    return dict(list(dict(embedding.get("colours") or {}).items())[:6]) or {"": None}


def _shown_rows(count: int, *, fives: bool) -> np.ndarray:
    """Rows of a cloud that are drawn, evenly spaced."""
    shown = min(MOST_POINTS, (fives and _fives(count)) or count)
    return np.linspace(0, count - 1, shown).astype(int)


def _known(values: Any, rows: np.ndarray) -> int:
    known = [] if values is None else ~pd.isna(np.asarray(values, dtype=object)[rows])
    return _fives(int(np.sum(known)))


def _fives(count: int) -> int:
    return count - count % FEWEST_SUBJECTS


def _scatter(figure: Any, axes: Any, flat: np.ndarray, values: np.ndarray | None) -> None:
    size = 14 if len(flat) < 400 else 6
    missing = np.ones(len(flat), bool) if values is None else np.asarray(pd.isna(values))
    axes.scatter(*flat[missing].T, s=size, color="#BBBBBB", linewidths=0)
    if values is None or missing.all():
        return
    known = values[~missing]
    levels = sorted(set(known.tolist()), key=str)
    if len(levels) > len(COLOURS) and not any(isinstance(level, str) for level in levels):
        numbers = known.astype(float)
        low, high = np.quantile(numbers, [0.02, 0.98])
        drawn = axes.scatter(
            *flat[~missing].T, s=size, c=numbers, cmap="viridis", vmin=low, vmax=high, linewidths=0
        )
        figure.colorbar(drawn, ax=axes, orientation="horizontal", shrink=0.7, pad=0.02, aspect=30)
        return
    order = {level: place for place, level in enumerate(levels)}
    letters, longest = LETTERS // axes.get_gridspec().ncols, 0
    for level in levels[: len(COLOURS)]:
        here = np.flatnonzero(~missing)[[value == level for value in known.tolist()]]
        label = f"{level:g}" if isinstance(level, (int, float)) else shorten(level, 16)
        longest = max(longest, len(label))
        axes.scatter(
            *flat[here].T,
            s=size,
            color=colour(order[level]),
            label=label,
            linewidths=0,
            alpha=0.8,
            marker=mark(order[level]),
        )
    axes.legend(
        markerscale=1.8,
        fontsize=8,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.01),
        ncols=min(4, len(levels), max(1, letters // (longest + 4))),
        handletextpad=0.1,
        columnspacing=0.8,
    )
