"""Where the recipes and cohorts that ship with medmcl lie."""

from __future__ import annotations

import sys
from pathlib import Path


def shipped(folder: str) -> Path:
    """Give ``configs`` or ``cohorts``: beside the package in a checkout, under share/ installed."""
    checkout = Path(__file__).resolve().parents[2] / folder
    return checkout if checkout.is_dir() else Path(sys.prefix) / "share" / "medmcl" / folder
