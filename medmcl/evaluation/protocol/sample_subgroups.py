"""Subgroups of a cohort's samples: sex, age band, site, pattern of modalities, and those named."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from medmcl.core.errors import CohortError
from medmcl.core.suppression import UNKNOWN
from medmcl.data.cohort.cohort import Cohort
from medmcl.data.cohort.spec import SITE, SubgroupKeys
from medmcl.data.expressions.expression import Values, evaluate
from medmcl.modalities.tabular.settings import TabularSource

SEXES = ("sex", "gender", "sex_at_birth")
AGES = ("age", "age_years", "age_at_recruitment", "patient_age", "anchor_age")
MOST_GROUPS = 30
WIDE = 64
"""Columns beyond which a table is not looked through for what nobody names."""
AGE_BANDS = (50.0, 60.0, 70.0)


def sample_subgroups(cohort: Cohort, present: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Give the group of every sample, (N,) text, by attribute.

    ``subgroups:`` of cohort.yaml is taken if there is one; otherwise columns that are called as sex
    and age usually are, of the subjects table or else of tabular modalities (those of the sample's
    own record). Site and pattern of modalities come with both.

    Args:
        cohort: The cohort.
        present: Modality to (N,) bool: samples with a usable record.

    Raises:
        CohortError: An expression of ``subgroups:`` cannot be read.
    """
    found: dict[str, np.ndarray] = {}
    for name, keys, said in _said(cohort):
        labels = _labels(said, keys.bands, f"{cohort.path}, subgroups.{name}")
        names = keys.names
        if said.kind == "truth":  # of a column of true and false, 1 and 0 are its codes, too
            names = {_TRUTH.get(code.lower(), code): called for code, called in names.items()}
        found[name] = np.array([names.get(label, label) for label in labels], dtype=object)
    sites = sample_sites(cohort)
    if "site" not in found and sites is not None:
        found["site"] = sites
    if len(present) > 1:
        has = np.stack(list(present.values()), axis=1)
        found["modalities"] = np.array(
            [" + ".join(n for n, ok in zip(present, row, strict=True) if ok) or "none"
             for row in has],
            dtype=object,
        )  # fmt: skip
    return found


def sample_numbers(cohort: Cohort) -> dict[str, np.ndarray]:
    """Give the numbers that bands are cut from, (N,) float64, by attribute; NaN where unknown.

    Raises:
        CohortError: An expression of ``subgroups:`` cannot be read.
    """
    return {name: _numbers(said) for name, keys, said in _said(cohort) if keys.bands}


_TRUTH = {"1": "yes", "true": "yes", "0": "no", "false": "no"}


def attribute_names(cohort: Cohort) -> tuple[str, ...]:
    """Name the attributes of `sample_subgroups` that say who one is: all but ``modalities``."""
    named = cohort.spec.keys.subgroups or _usual(sample_table(cohort, ""))
    has_sites = cohort.sites.notna().any()
    return tuple(dict.fromkeys([*named, *(["site"] if has_sites else [])]))


def sample_sites(cohort: Cohort) -> np.ndarray | None:
    """Give the site of every sample, ``unknown`` where a subject has none, (N,); None without."""
    sites = cohort.sites
    if not sites.notna().any():
        return None
    where = cohort.subjects.index.get_indexer(pd.Index(cohort.samples["subject"]))
    return np.asarray(sites.fillna(UNKNOWN).astype(str).to_numpy(object)[where])


def _said(cohort: Cohort) -> Iterator[tuple[str, SubgroupKeys, Values]]:
    """Each attribute that is named, or usual, with its value of each sample."""
    table = sample_table(
        cohort, " ".join(one.column for one in cohort.spec.keys.subgroups.values())
    )
    for name, keys in (cohort.spec.keys.subgroups or _usual(table)).items():
        yield name, keys, evaluate(keys.column, table, cohort.maps, f"subgroups.{name}")


def _numbers(said: Values) -> np.ndarray:
    """Values as numbers, NaN where unknown or none, (N,) float64."""
    numbers = pd.to_numeric(pd.Series(said.data, dtype=object), errors="coerce").to_numpy(float)
    return np.where(said.known & np.isfinite(numbers), numbers, np.nan)


def sample_table(cohort: Cohort, named: str) -> pd.DataFrame:
    """One row a sample: columns of its subject, and those that only its tabular records have.

    Of wide tables only the columns that ``named`` names, and those called as sex and age are.
    """
    table = cohort.subjects.drop(columns=["split", SITE])
    whose = cohort.samples["subject"].to_numpy(object)
    if not np.array_equal(whose, table.index.to_numpy(object)):
        table = table.loc[whose]
    table = table.reset_index(drop=True)  # of one sample a subject no copy
    more: dict[str, pd.Series] = {}
    for name, spec in cohort.spec.modalities.items():
        if not isinstance(spec.source, TabularSource):
            continue
        wide = len(spec.source.columns) > WIDE
        wanted = {
            column: about
            for column, about in spec.source.columns.items()
            if (not wide or column.lower() in (*SEXES, *AGES) or column in named)
            and column not in table
            and column not in more
        }
        if not wanted:
            continue
        cells = cohort.records[name]["place"].map(lambda place: place.values)
        own = cohort.own_records(name)
        rows = [{} if pd.isna(record) else cells.get(record, {}) for record in own]
        for column, about in wanted.items():
            values = pd.Series([row.get(column) for row in rows], dtype=object)
            is_number = about.kind == "number"
            more[column] = pd.to_numeric(values, errors="coerce") if is_number else values
    return pd.concat([table, pd.DataFrame(more, index=table.index)], axis=1)


def _usual(table: pd.DataFrame) -> dict[str, SubgroupKeys]:
    """Columns that are called as sex and age usually are."""
    names = {str(column).lower(): str(column) for column in reversed(table.columns)}
    found = {}
    sex = next((names[one] for one in SEXES if one in names), None)
    age = next((names[one] for one in AGES if one in names), None)
    if sex is not None:
        found["sex"] = SubgroupKeys(column=f'col("{sex}")')
    if age is not None and pd.to_numeric(table[age], errors="coerce").notna().any():
        found["age"] = SubgroupKeys(column=f'col("{age}")', bands=AGE_BANDS)
    return found


def _labels(said: Values, bands: tuple[float, ...], where: str) -> np.ndarray:
    """Turn values of each sample into group names, ``unknown`` where missing. (N,) object."""
    labels = np.full(len(said.known), UNKNOWN, dtype=object)
    known = said.known
    if bands:
        numbers = _numbers(said)
        if not np.isfinite(numbers[known]).any() and known.any():
            raise CohortError("bands need numbers", where=where, got=said.data[known][0])
        known = known & np.isfinite(numbers)
        place = np.searchsorted(bands, numbers[known], side="right")
        ends = [f"{band:g}" for band in bands]
        middle = [f"{low} to <{high}" for low, high in itertools.pairwise(ends)]
        labels[known] = np.array([f"<{ends[0]}", *middle, f">={ends[-1]}"], dtype=object)[place]
        return labels
    data = said.data[known]
    if len(set(map(str, data))) > MOST_GROUPS:
        raise CohortError(
            f"has more than {MOST_GROUPS} groups",
            where=where,
            fix="write an expression with fewer values, or bands: [50, 60, 70] of a number",
        )
    labels[known] = [_text(value) for value in data]
    return labels


def _text(value: object) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
