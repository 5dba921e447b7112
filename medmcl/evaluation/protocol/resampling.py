"""Who is drawn by the bootstrap of an evaluation: subjects, whole sites, or subjects by outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np

from medmcl.core.errors import ConfigError
from medmcl.core.suppression import UNKNOWN
from medmcl.core.targets import Targets
from medmcl.evaluation.metrics.intervals import Resampling
from medmcl.evaluation.metrics.metric import is_missing
from medmcl.evaluation.models.cross_validation import strata_of

Resample = Literal["subject", "site", "stratified"]
Sites = Sequence[Any] | np.ndarray | None
OVER = {
    "subject": "over subjects",
    "site": "over sites",
    "stratified": "over subjects stratified by outcome",
}
"""What intervals are over, in words."""


def resampling_of(
    kind: str, subjects: np.ndarray, sites: Sites = None, **settings: Any
) -> Resampling:
    """Say how rows are drawn.

    A subject without a site (missing, or ``unknown``) is drawn on its own.

    Args:
        kind: ``subject``: subjects with all their records. ``site``: whole sites, with all their
            subjects: what another set of hospitals would have given. ``stratified``: subjects
            inside the classes of the outcome, whose sizes every draw keeps.
        subjects: Subject of each row. (N,)
        sites: Site of each row. (N,)
        settings: Draws, seed and level, as `Resampling` takes them.

    Raises:
        ConfigError: Another kind, or sites are to be drawn and none are known.
    """
    people = np.asarray(subjects)
    if kind not in get_args(Resample):
        raise ConfigError("no such resampling", got=kind, expected=get_args(Resample))
    if kind == "stratified":
        return Resampling(people, strata="outcome", **settings)
    if kind == "subject":
        return Resampling(people, **settings)
    if sites is None:
        raise ConfigError(
            "sites are to be drawn, but no row has one",
            got="resample: site",
            expected="the site of each subject",
            fix="name its column as `group:` of `subjects:` in cohort.yaml, or draw subjects "
            "(resample: subject)",
        )
    return Resampling(people, clusters=site_codes(sites, people), **settings)


def of_task(how: Resampling, targets: Targets) -> Resampling:
    """Give the strata of a task's rows their classes, where the bootstrap keeps these.

    The pattern of labels counts by the rarest label a row has; numbers have no classes.
    """
    if how.strata is None:
        return how
    strata = strata_of(targets)
    if targets.competing is not None:
        strata = np.where(targets.competing, 2, strata)
    return replace(how, strata=strata)


def said_of(how: Resampling) -> str:
    """Say how the intervals of rows were drawn; empty for subjects, the default."""
    if how.strata is not None:
        if len(np.unique(how.strata)) < 2:
            return "intervals draw subjects: the outcome has no two classes to keep"
        return "intervals draw subjects inside classes of the outcome"
    if how.clusters is None:
        return ""
    pairs = np.unique(np.stack([how.clusters, how.codes]), axis=1)
    sizes = np.unique(pairs[0], return_counts=True)[1]
    single = int((sizes == 1).sum())
    said = f"intervals draw whole sites ({len(sizes)}"
    return said + (f", {single} of a single subject)" if single else ")")


def site_codes(sites: Sequence[Any] | np.ndarray, subjects: np.ndarray) -> np.ndarray:
    """Number the sites; a subject without one (missing, or ``unknown``) is its own, (N,)."""
    names = np.asarray(sites, dtype=object)
    none = is_missing(names) | np.array([str(site) == UNKNOWN for site in names], dtype=bool)
    named = np.array([str(site) for site in np.where(none, "", names)], dtype=str)
    codes = np.unique(named, return_inverse=True)[1].reshape(-1)
    own = codes.max(initial=0) + 1 + np.unique(subjects, return_inverse=True)[1].reshape(-1)
    return np.asarray(np.where(none, own, codes))
