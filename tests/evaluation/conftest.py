from __future__ import annotations

import pytest
from made_report import full_report


@pytest.fixture(scope="session")
def report():
    """A report with every part filled, from made numbers."""
    return full_report()
