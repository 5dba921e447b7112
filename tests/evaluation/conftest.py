from __future__ import annotations

import pytest
from made_report import full_report
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG


@pytest.fixture(scope="session")
def report():
    """A report with every part filled, from made numbers."""
    return full_report()


@pytest.fixture
def drawn(monkeypatch):
    """Every figure that is painted, as matplotlib holds it."""
    found = []

    def watched(paint):
        def kept(canvas, *args, **kwargs):
            paint(canvas, *args, **kwargs)  # left by an error where only a renderer is wanted
            found.append(canvas.figure)

        return kept

    monkeypatch.setattr(FigureCanvasAgg, "print_png", watched(FigureCanvasAgg.print_png))
    monkeypatch.setattr(FigureCanvasSVG, "print_svg", watched(FigureCanvasSVG.print_svg))
    return found
