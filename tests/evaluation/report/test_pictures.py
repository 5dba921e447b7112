"""A figure is drawn once, and is the picture that matplotlib's own saving gives."""

import base64
import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from medmcl.evaluation.report.pictures import DPI, canvas, encode, legend_below, style


def made():
    """Long names, wide numbers, a bar of colours and a legend outside: all that a layout moves."""
    figure, grid = canvas(6, 4, rows=2, columns=2)
    for place, axes in enumerate(grid.flat):
        axes.plot([0, 1, 2], np.array([0.0, 3.0, 1.0]) * 10.0 ** (4 * place), label=f"line {place}")
        axes.set(title="a title", xlabel="a long name of what is shown", ylabel="value")
    grid[0, 0].set_yticks([0, 3], ["a name of many letters", "short"])
    figure.colorbar(grid[1, 0].scatter([0, 1], [1, 2], c=[0, 1]), ax=grid[1, 0])
    legend_below(figure)
    return figure


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_a_figure_is_drawn_once_and_looks_as_if_saved(kind, monkeypatch):
    times = []
    draw = Figure.draw
    with style():
        saved = io.BytesIO()
        nothing = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
        made().savefig(saved, format=kind, dpi=DPI, metadata=nothing)
        monkeypatch.setattr(Figure, "draw", lambda f, r: (times.append(f), draw(f, r)))
        src = encode(made(), raster=kind == "png")
    assert base64.b64decode(src.partition(",")[2]) == saved.getvalue()
    assert len(times) == 1
