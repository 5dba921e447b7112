"""What simulators write alike: who is in which split, tables, truth, cohort.yaml, README."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import yaml

from medmcl.core.config import yaml_text
from medmcl.core.whole_folder import whole_folder
from medmcl.simulation.settings import SimulationSettings

S = TypeVar("S", bound=SimulationSettings)


def whole(*marks: str) -> Callable[[Callable[[Path, S], None]], Callable[[Path, S], Path]]:
    """Let what writes a cohort into a folder make that folder: whole, or not at all.

    Args:
        *marks: Files that show that a folder is an earlier simulation of this kind.

    Raises:
        CohortError: (by what it gives) The folder is not empty, and is no earlier simulated cohort
            to overwrite.
    """

    def wrapped(write: Callable[[Path, S], None]) -> Callable[[Path, S], Path]:
        @wraps(write)
        def simulate(out: Path, settings: S) -> Path:
            with whole_folder(out, marks=marks, overwrite=settings.overwrite) as folder:
                write(folder, settings)
            return Path(out).absolute()

        return simulate

    return wrapped


def splits_of(
    order: np.ndarray, settings: SimulationSettings, *, rounded: bool = True
) -> np.ndarray:
    """Give the split of each subject, by its place in a random order, (N,) str.

    Args:
        order: A permutation of 0 to N - 1.
        settings: Shares of the splits.
        rounded: Whether shares are rounded to whole subjects, or up.
    """
    ends = np.cumsum([settings.held_out, settings.tuning]) * len(order)
    ends = np.round(ends) if rounded else ends
    return np.array(["held_out", "tuning", "train"])[np.searchsorted(ends, order, side="right")]


def write_tables(
    folder: Path, people: pd.DataFrame, truth: pd.DataFrame, facts: Mapping[str, Any]
) -> None:
    """Write who the subjects are, and apart from it what the cohort does not know."""
    people.to_csv(folder / "participants.tsv", sep="\t", index=False)
    truth.to_parquet(folder / "truth.parquet", index=False)
    (folder / "truth.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def cohort_tree(kind: str, settings: SimulationSettings, **more: object) -> dict[str, Any]:
    """Give what cohort.yaml says, in the order of its keys; see `write_about`."""
    tree: dict[str, Any] = yaml.safe_load(_rendered(f"{kind}cohort.yaml.j2", settings, more))
    return tree


def write_about(folder: Path, kind: str, settings: SimulationSettings, **more: object) -> None:
    """Write cohort.yaml and README.md.

    Args:
        folder: Where.
        kind: How their templates among the package's data files begin: ``ehr/``.
        settings: What they may quote, as ``s``.
        **more: What else they may.
    """
    write_yaml(folder / "cohort.yaml", cohort_tree(kind, settings, **more))
    text = _rendered(f"{kind}README.md.j2", settings, more)
    (folder / "README.md").write_text(text, encoding="utf-8")


def _rendered(template: str, settings: SimulationSettings, more: Mapping[str, object]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    known = Environment(
        loader=PackageLoader("medmcl", "simulation"),
        undefined=StrictUndefined,
        autoescape=False,  # Markdown and YAML
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    known.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return known.get_template(template).render(s=settings, **more)


def write_yaml(path: Path, tree: Mapping[str, Any]) -> None:
    """Write a tree in the order of its keys."""
    text = yaml_text(dict(tree), width=100, allow_unicode=True)
    path.write_text(text, encoding="utf-8")
