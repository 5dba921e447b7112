from __future__ import annotations

import pytest
from made_report import full_report
from matplotlib.figure import Figure


@pytest.fixture(scope="session")
def report():
    """A report with every part filled, from made numbers."""
    return full_report()


@pytest.fixture
def drawn(monkeypatch):
    """Every figure that is saved, as matplotlib holds it."""
    found = []
    save = Figure.savefig

    def kept(self, *args, **kwargs):
        found.append(self)
        return save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", kept)
    return found
