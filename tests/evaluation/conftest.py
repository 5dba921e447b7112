from __future__ import annotations

import pytest
from made_report import full_report
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG

from medmcl.evaluation.report.page import pages
from medmcl.evaluation.report.sections import sections_of


@pytest.fixture(scope="session")
def report():
    """A report with every part filled, from made numbers."""
    return full_report()


@pytest.fixture(scope="session")
def sections(report):
    """Its sections, by key, in order."""
    return {section.key: section for section in sections_of(report)}


@pytest.fixture(scope="session")
def both(report):
    """Its first page and its appendix, as one text."""
    return "".join(pages(report))


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


@pytest.fixture
def legends_beside(drawn):
    """Say how many legends the painted figures have; none may lie over a plot or its labels."""

    def count():
        seen = 0
        for figure in drawn:
            figure.draw_without_rendering()
            legends = [*figure.legends, *(a.get_legend() for a in figure.axes if a.get_legend())]
            seen += len(legends)
            for legend in legends:
                box = legend.get_window_extent()
                for axes in figure.axes:
                    own = legend is axes.get_legend()  # a part of what its axes take up
                    other = axes.get_window_extent() if own else axes.get_tightbbox()
                    if other is None:
                        continue  # nothing is drawn in it
                    wide = min(box.x1, other.x1) - max(box.x0, other.x0)
                    high = min(box.y1, other.y1) - max(box.y0, other.y0)
                    assert wide <= 1 or high <= 1, (axes.get_title("left"), box, other)
        return seen

    return count
