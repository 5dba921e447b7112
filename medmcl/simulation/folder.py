"""What simulators write alike: who is in which split, tables, truth, cohort.yaml, README."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import yaml


class Shares(Protocol):
    """Settings that say how many are in which split."""

    held_out: float
    tuning: float


def splits_of(order: np.ndarray, settings: Shares, *, whole: bool = True) -> np.ndarray:
    """Give the split of each subject, by its place in a random order, (N,) str.

    Args:
        order: A permutation of 0 to N - 1.
        settings: Shares of the splits.
        whole: Whether shares are rounded to whole subjects, or up.
    """
    ends = np.cumsum([settings.held_out, settings.tuning]) * len(order)
    ends = np.round(ends) if whole else ends
    return np.array(["held_out", "tuning", "train"])[np.searchsorted(ends, order, side="right")]


def write_tables(
    folder: Path, people: pd.DataFrame, truth: pd.DataFrame, facts: Mapping[str, Any]
) -> None:
    """Write who the subjects are, and apart from it what the cohort does not know."""
    people.to_csv(folder / "participants.tsv", sep="\t", index=False)
    truth.to_parquet(folder / "truth.parquet", index=False)
    (folder / "truth.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def write_about(
    folder: Path, template: str, tree: Mapping[str, Any], settings: Any, **more: object
) -> None:
    """Write cohort.yaml and README.md.

    Args:
        folder: Where.
        template: The README among the package's data files, ``ehr/README.md.j2``.
        tree: What cohort.yaml says, in the order of its keys.
        settings: What the README may quote.
        **more: What else it may.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    write_yaml(folder / "cohort.yaml", tree)
    known = Environment(
        loader=PackageLoader("medmcl", "simulation"),
        undefined=StrictUndefined,
        autoescape=False,  # Markdown
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = known.get_template(template).render(s=settings, **more)
    (folder / "README.md").write_text(text, encoding="utf-8")


def write_yaml(path: Path, tree: Mapping[str, Any]) -> None:
    """Write a tree in the order of its keys."""
    text = yaml.safe_dump(dict(tree), sort_keys=False, width=100, allow_unicode=True)
    path.write_text(text, encoding="utf-8")
