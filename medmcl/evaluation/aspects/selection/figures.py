"""Figures of a selection: how pairs score, and how two scores agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from medmcl.core.rng import numpy_generator
from medmcl.evaluation.aspects.selection.evidence import SelectionEvidence, cut_of
from medmcl.evaluation.report.captions import caption
from medmcl.evaluation.report.columns import counted, short, written
from medmcl.evaluation.report.pictures import (
    COLOURS,
    COLUMN,
    PAGE,
    Picture,
    drawing,
    head,
    legend_below,
    shorten,
    small_multiples,
)

OUT, KEPT = "#C2C2C2", COLOURS[0]  # told apart by lightness too
CUT = COLOURS[1]
BARS = 40
TAIL = 0.001  # of the scores at each end lie in the outermost bars
COLUMNS = 3
MOST_SCORES = 12  # with a panel of their own
MOST_DOTS = 5000


def score_distributions(evidence: SelectionEvidence) -> Picture | None:
    """Draw every score, kept pairs above the others, and the cut where a score alone decides."""
    scores = list(evidence.scores.items())
    if not scores:
        return None
    drawn = scores[:MOST_SCORES]
    narrow = len(drawn) == 1
    hidden = len(scores) - len(drawn)
    infinite = sum(int(np.isinf(values).sum()) for _, values in scores)
    width = COLUMN if narrow else PAGE
    with small_multiples(len(drawn), 2.5, COLUMNS, width) as (figure, grid):
        for axes, (name, values) in zip(grid, drawn, strict=False):
            _bars(axes, name, values, evidence.kept)
        for axes in grid[::COLUMNS]:
            axes.set_ylabel("pairs")
        legend_below(figure, 3)
        return Picture.of(
            figure,
            caption(__file__, "scores", name=evidence.name, infinite=infinite, hidden=hidden),
            said=[_said(name, values, evidence.kept) for name, values in scores],
            **written(score_rows(evidence), "score", "pairs", ("number", counted("n")),
                      *((name.replace("_", " "), short(name)) for name in QUANTILES),
                      "infinite", ("cut", short("cut"))),
            narrow=narrow,
        )  # fmt: skip


def _bars(axes: Any, name: str, values: np.ndarray, kept: np.ndarray) -> None:
    finite = np.isfinite(values)
    cut = cut_of(values, kept)
    said = "no cut by this score alone" if cut is None else f"kept from {cut:.4g}"
    head(axes, name, said if finite.any() else "no finite score")
    if not finite.any():
        axes.set(xticks=[], yticks=[])
        return
    shown = values[finite].astype(np.float64)
    low, high = np.quantile(shown, [TAIL, 1 - TAIL])
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = _edges(float(low), float(high), cut)
    inside = shown.clip(edges[0], edges[-1])
    below = np.histogram(inside[~kept[finite]], edges)[0]
    above = np.histogram(inside[kept[finite]], edges)[0]
    wide = edges[1] - edges[0]
    axes.bar(edges[:-1], below, width=wide, align="edge", color=OUT, label="not kept")
    axes.bar(edges[:-1], above, width=wide, align="edge", bottom=below, color=KEPT, label="kept")
    axes.plot([], [], color=CUT, linestyle="--", linewidth=1.2, label="cut")
    if cut is not None and np.isfinite(cut):
        axes.axvline(min(max(cut, edges[0]), edges[-1]), color=CUT, linestyle="--", linewidth=1.2)
    axes.set_ylim(0, 1.08 * (below + above).max())
    axes.set_xlabel("score")
    axes.locator_params(axis="x", nbins=5)
    axes.locator_params(axis="y", integer=True, nbins=5)


def _edges(low: float, high: float, cut: float | None) -> np.ndarray:
    """Edges of the bars; one of them is at the cut, so that no bar is of both kinds."""
    if cut is None or not low < cut < high:
        return np.linspace(low, high, BARS + 1)
    wide = (high - low) / BARS
    return cut + wide * np.arange(-np.ceil((cut - low) / wide), np.ceil((high - cut) / wide) + 1)


QUANTILES = {"lowest": 0.0, "lower_quarter": 0.25, "median": 0.5, "upper_quarter": 0.75,
             "highest": 1.0}  # fmt: skip


def score_rows(evidence: SelectionEvidence) -> list[dict[str, Any]]:
    """Quantiles of every score among pairs that are kept and that are not; of finite ones."""
    rows = []
    for name, values in evidence.scores.items():
        for what, flags in (("kept", evidence.kept), ("not kept", ~evidence.kept)):
            own = values[flags]
            finite = own[np.isfinite(own)]
            ends = {
                key: float(np.quantile(finite, q)) if finite.size else None
                for key, q in QUANTILES.items()
            }
            rows.append({
                "selection": evidence.name, "score": name, "pairs": what, "n": len(own), **ends,
                "infinite": int(np.isinf(own).sum()), "cut": cut_of(values, evidence.kept),
            })  # fmt: skip
    return rows


def _said(name: str, values: np.ndarray, kept: np.ndarray) -> str:
    finite = np.isfinite(values)
    parts = [
        f"{np.median(values[flags & finite]):.4g} of those {what}"
        for what, flags in (("kept", kept), ("not kept", ~kept))
        if (flags & finite).any()
    ]
    return f"{name}: median {', '.join(parts)}" if parts else f"{name}: 0 finite"


def score_scatter(evidence: SelectionEvidence) -> Picture | None:
    """Draw the first two scores against one another; None if there are fewer."""
    if len(evidence.scores) < 2:
        return None
    (first, x), (second, y) = list(evidence.scores.items())[:2]
    finite = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if not len(finite):
        return None
    rows = finite
    if len(rows) > MOST_DOTS:
        draw = numpy_generator(0, "scatter of scores", evidence.name)
        rows = draw.choice(rows, MOST_DOTS, replace=False)
    agreement = rank_correlation(x[finite], y[finite])
    said = "no rank correlation: a score is the same for all" if agreement is None else (
        f"rank correlation {agreement:.2f}")  # fmt: skip
    with drawing(COLUMN + 0.6, COLUMN + 0.2) as (figure, ((axes,),)):
        size = 14 if len(rows) <= 500 else 6
        for flag, look, name in ((False, OUT, "not kept"), (True, KEPT, "kept")):
            own = rows[evidence.kept[rows] == flag]
            axes.scatter(x[own], y[own], s=size, color=look, label=name, linewidths=0, alpha=0.8)
        for cut, line in ((cut_of(x, evidence.kept), axes.axvline),
                          (cut_of(y, evidence.kept), axes.axhline)):  # fmt: skip
            if cut is not None and np.isfinite(cut):
                line(cut, color=CUT, linestyle="--", linewidth=1.2)
        axes.set(xlabel=shorten(first, 40), ylabel=shorten(second, 40))
        axes.locator_params(nbins=5)
        figure.legend(loc="outside lower left", ncols=2, fontsize=8.5, markerscale=2)
        return Picture.of(
            figure,
            caption(__file__, "scatter", name=evidence.name, drawn=len(rows), pairs=len(evidence),
                      agreement=said, lost=len(evidence) - len(finite)),
            said=[f"{len(rows)} pairs", said],
            header=("score", "score", "pairs", "rank correlation"),
            rows=[(first, second, f"{len(finite):,}",
                   "-" if agreement is None else f"{agreement:.3f}")],
            narrow=True,
            raster=True,
        )  # fmt: skip


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float | None:
    """Spearman's rank correlation; None if one of them is the same everywhere."""
    if x.min() == x.max() or y.min() == y.max():
        return None
    return float(np.corrcoef(pd.Series(x).rank(), pd.Series(y).rank())[0, 1])
