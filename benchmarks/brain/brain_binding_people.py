"""The people of `brain_binding`: OASIS-1 and ABIDE I as modalities in memory, nothing fitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from medmcl.core.targets import Targets
from medmcl.data.cohort.cohort import Cohort, open_cohort
from medmcl.data.cohort.removal import draw_removal
from medmcl.data.cohort.spec import RemoveKeys
from medmcl.data.loading.prepare import build_adapters
from medmcl.evaluation.models.cross_validation import Folds, site_folds, subject_folds


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Which modalities a cohort is taken apart into.

    Attributes:
        task: The outcome.
        components: Modality of many numbers to the principal components it is reduced to.
        table: The modality that is a table.
        groups: Name of a group of its columns to these; each is a modality.
        draw: How folds are drawn.
    """

    task: str
    components: Mapping[str, int]
    table: str
    groups: Mapping[str, tuple[str, ...]]
    draw: Folds


LAYOUTS = {
    "oasis1": Layout(
        task="dementia",
        components={"axial": 24, "coronal": 24, "sagittal": 24},
        table="clinic",
        groups={"demographics": ("Age", "M/F", "Educ", "SES"), "volumes": ("eTIV", "nWBV", "ASF")},
        draw=subject_folds,
    ),
    "abide": Layout(
        task="autism",
        components={"connectome": 100},
        table="phenotypes",
        groups={"age": ("AGE_AT_SCAN",), "iq": ("FIQ", "VIQ", "PIQ"), "motion": ("func_mean_fd",)},
        draw=site_folds,
    ),
}


@dataclass(frozen=True, kw_only=True)
class People:
    """Everyone in a cohort, nothing fitted.

    Attributes:
        raw: Modality to numbers as read, (N, F), NaN in cells that are missing.
        present: Modality to who has it, (N,) bool.
        targets: The outcome.
        subjects: Ids, (N,).
        units: What a fold keeps together: the subject, or the site. (N,)
    """

    layout: Layout
    raw: Mapping[str, np.ndarray]
    present: Mapping[str, np.ndarray]
    targets: Targets
    subjects: np.ndarray
    units: np.ndarray

    @cached_property
    def labelled(self) -> np.ndarray:
        """Rows with a known outcome."""
        return np.flatnonzero(self.targets.complete)

    def without(self, share: float, seed: int) -> People:
        """The same with a share of entries removed at random."""
        frame = pd.DataFrame({n: np.where(has, "there", None) for n, has in self.present.items()})
        frame.insert(0, "subject", self.subjects)
        names = list(self.present)
        gone = draw_removal(RemoveKeys(share=share, seed=seed), frame, names).gone
        left = {
            name: has & np.array([name not in gone.get(str(one), ()) for one in self.subjects])
            for name, has in self.present.items()
        }
        return replace(self, present=left)


def read_people(name: str) -> People:
    """Read a shipped cohort."""
    layout, cohort = LAYOUTS[name], open_cohort(name)
    if cohort.samples["subject"].duplicated().any():
        raise RuntimeError("a person has one sample in these cohorts")
    inputs: dict[str, dict[str, Any]] = {one: {} for one in (*layout.components, layout.table)}
    if name == "oasis1":
        inputs |= {one: {"size": 32} for one in layout.components}
    adapters = build_adapters(cohort, inputs)
    raw = {
        one: _rows(cohort, one, lambda place, a=adapters[one]: _numbers(a, place))
        for one in layout.components
    }
    cells = _rows(cohort, layout.table, lambda p: _cells(adapters[layout.table].read(p)))
    columns = list(cohort.spec.modalities[layout.table].source.columns)
    for group, names in layout.groups.items():
        raw[group] = cells[:, [columns.index(one) for one in names]]
    subjects = cohort.samples["subject"].astype(str).to_numpy()
    sites = cohort.sites.reindex(subjects).to_numpy() if name == "abide" else subjects
    return People(
        layout=layout,
        raw=raw,
        present={one: ~np.isnan(x).all(axis=1) for one, x in raw.items()},
        targets=cohort.targets(layout.task),
        subjects=subjects,
        units=sites,
    )


def _rows(cohort: Cohort, name: str, read: Callable[[Any], np.ndarray]) -> np.ndarray:
    places = cohort.records[name]["place"]
    found = [None if pd.isna(one) else read(places[one]) for one in cohort.samples[name].to_numpy()]
    blank = np.full_like(next(one for one in found if one is not None), np.nan)
    return np.stack([blank if one is None else one for one in found])


def _numbers(adapter: Any, place: Any) -> np.ndarray:
    """Pixels, which are scaled by their own record alone, or weights of edges."""
    record = adapter.read(place)
    if adapter.kind == "image":
        return np.asarray(adapter.prepare(record), dtype=np.float32).ravel()
    return np.asarray(record.weights[np.triu_indices(len(record.weights), 1)], dtype=np.float32)


def _cells(row: Mapping[str, Any]) -> np.ndarray:
    """Numbers as they are; of the one category, sex: 1 = male."""
    return np.array(
        [np.nan if x is None else float(x == "M") if isinstance(x, str) else x
         for x in row.values()]
    )  # fmt: skip
