"""A scikit-learn transformer: from subjects of a cohort to the embeddings of a run."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn import get_config
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from medmcl.core.config import refuse_absent
from medmcl.core.errors import CohortError, ConfigError
from medmcl.data.cohort.cohort import Cohort, open_cohort
from medmcl.data.cohort.locate import tables_of
from medmcl.stages.recipe.settings import only_cohort_overrides
from medmcl.stages.run.embedded_rows import find_rows, mean_of, read_rows, reasons_of
from medmcl.stages.run.own_cohort import own_overrides
from medmcl.stages.run.run import Run, vector_width


class MedMCLEmbedder(TransformerMixin, BaseEstimator):
    """Turn subjects, or a whole cohort, into the embeddings that a run gives.

    Nothing is fitted, but the mean of ``missing="mean"``: otherwise `transform` may be called at
    once, and rows of a test fold have no part in what other rows become. A cohort is embedded once,
    and its embeddings stay in memory for clones of this object (the last four such tables), until a
    file of the run or of the cohort's tables changes.

    Scores of people whom the encoder has seen are not honest, however they are cross-validated:
    score those of `medmcl.stages.run.run.Run.unseen_subjects`.

    Args:
        run: A run, or its folder.
        cohort: The cohort that subject ids are looked up in: opened, its folder, or its name.
        modality: Modality to embed; the first of the recipe if not given.
        stage: Stage whose tower to use; the last one trained without labels if not given.
        space: ``features`` (before the projection head) or ``pooled`` (unit norm).
        missing: What to do with a row that has no embedding (no record, or a bad one): ``raise``;
            ``mean``, the mean of the rows that `fit` was given (of a cohort: its train split), and
            one more column, ``ecg_absent``, that is 1 there and 0 elsewhere; ``nan``, a row of NaN,
            for estimators that take it; or ``drop``, which leaves the row out and so cannot stand
            before a step that is given y. All but the first warn, with counts.
        several: What to do if a subject has several records and the rows do not say which:
            ``raise`` or ``mean`` (of those that have an embedding).
        device: ``auto``, ``cpu`` or ``cuda``.
        overrides: Cohort overrides, as ``--set``; they win over those that the run was started
            with, which hold for the run's own cohort (records that it excluded, where data lie).

    Attributes:
        mean_: What stands for an embedding that is missing, (E,); only with ``missing="mean"``.
    """

    def __init__(
        self,
        run: Run | str | Path,
        *,
        cohort: Cohort | str | Path | None = None,
        modality: str | None = None,
        stage: str | None = None,
        space: Literal["features", "pooled"] = "features",
        missing: Literal["raise", "mean", "nan", "drop"] = "raise",
        several: Literal["raise", "mean"] = "raise",
        device: str = "auto",
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        self.run = run
        self.cohort = cohort
        self.modality = modality
        self.stage = stage
        self.space = space
        self.missing = missing
        self.several = several
        self.device = device
        self.overrides = overrides

    def fit(self, X: Any = None, y: Any = None) -> MedMCLEmbedder:  # noqa: ARG002  (scikit-learn's signature)
        """Check the settings, and that X names subjects or a cohort; learn the mean if it is asked.

        Raises:
            MedmclError: For a run, stage, modality, space or X that cannot be used; if the mean is
                asked, and no row has an embedding.
        """
        plan = self._plan()
        if self.missing == "mean":
            self.mean_ = self._mean_of(X, plan)
        elif X is not None:
            cohort = self._cohort_of(X)
            if cohort is not X and not isinstance(X, str | Path):
                read_rows(X, cohort.spec.keys.subjects.id or "id")
        return self

    def transform(self, X: Any) -> np.ndarray | pd.DataFrame:
        """Embed.

        Args:
            X: Subject ids: a DataFrame with a column called ``subject`` or as in cohort.yaml, and
                ``record`` where subjects have several (index levels of these names do as well), or
                one column, a Series or an array of subject ids. Or a cohort (opened, or its
                path): all its records.

        Returns:
            (N, E) float32, in the order of X; (N, E + 1) with ``missing="mean"``. A DataFrame after
            ``set_output(transform="pandas")``, with the index of X, or (subject, record) for a
            cohort.

        Raises:
            CohortError: For subjects that the cohort does not have, and as ``missing`` says.
        """
        plan = self._plan()
        places, table, index = self._located(X, plan)
        reasons = reasons_of(places, table, plan.modality)
        bad = reasons != "ok"
        if self.missing == "mean":
            check_is_fitted(self, "mean_")
        if bad.any():
            self._tell(reasons, index, plan.modality)
        vectors = mean_of(places, table.drop(columns="quality").to_numpy(np.float32))
        if self.missing == "mean":
            filled = np.where(bad[:, None], self.mean_, vectors)
            vectors = np.column_stack([filled, bad]).astype(np.float32)
        if self.missing == "drop":
            vectors, index = vectors[~bad], index[~bad]
        if not _wants_pandas(self):
            return vectors
        return pd.DataFrame(vectors, index=index, columns=self._names(plan))

    def quality(self, X: Any) -> pd.Series:
        """Say of each row ``ok``, or why it has no embedding."""
        plan = self._plan()
        places, table, index = self._located(X, plan)
        found = reasons_of(places, table, plan.modality)
        return pd.Series(found, index=index, name="quality")

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:  # noqa: ARG002  (scikit-learn's signature)
        """Names of the columns: ``ecg_e0``, ``ecg_e1``, …; last ``ecg_absent``, if there is one.

        Args:
            input_features: Ignored; scikit-learn passes it.
        """
        return self._names(self._plan())

    def _names(self, plan: EmbeddingPlan) -> np.ndarray:
        names = [f"{plan.modality}_e{number}" for number in range(width_of(plan))]
        flag = [f"{plan.modality}_absent"] if self.missing == "mean" else []
        return np.array([*names, *flag], dtype=object)

    def _mean_of(self, X: Any, plan: EmbeddingPlan) -> np.ndarray:
        """The mean embedding of rows; of a cohort over its train split."""
        if X is None:
            raise ConfigError(
                "missing='mean' is learned from rows",
                got="fit() without any",
                expected="fit(X), with the rows of the train side",
            )
        places, table, _ = self._located(X, plan)
        if isinstance(X, Cohort | str | Path):
            subjects = self._cohort_of(X).subjects
            train = subjects.index[subjects["split"] == "train"].astype(str)
            own = table.index.get_level_values("subject").isin(train)
            places = [place for place, is_own in zip(places, own, strict=True) if is_own]
        vectors = mean_of(places, table.drop(columns="quality").to_numpy(np.float32))
        known = vectors[np.isfinite(vectors).all(axis=1)]
        if not len(known):
            raise CohortError(
                f"no row to take the mean of has a {plan.modality} embedding",
                got=f"{len(places)} rows",
                fix="fit on rows that have the record (MedMCLEmbedder.quality says which)",
            )
        return np.asarray(known.mean(axis=0, dtype=np.float64).astype(np.float32))

    def _located(
        self, X: Any, plan: EmbeddingPlan
    ) -> tuple[list[np.ndarray], pd.DataFrame, pd.Index]:
        """Places of each row's records in the table of embeddings, that table, and row labels."""
        cohort = self._cohort_of(X)
        table = embedded(plan, CohortKey(cohort.fingerprint, str(cohort.root), cohort))
        if cohort is X or isinstance(X, str | Path):
            return [np.array([k]) for k in range(len(table))], table, table.index
        rows = read_rows(X, cohort.spec.keys.subjects.id or "id")
        places = find_rows(rows, table, cohort, self.several)
        return places, table, X.index if hasattr(X, "iloc") else pd.RangeIndex(len(rows))

    def _cohort_of(self, X: Any) -> Cohort:
        given = X if isinstance(X, Cohort | str | Path) else self.cohort
        if given is None:
            raise ConfigError(
                "subject ids need a cohort to be looked up in",
                got=type(X).__name__,
                fix="MedMCLEmbedder(run, cohort=...), or give transform a cohort",
            )
        if isinstance(given, Cohort):
            return given
        run = self.run if isinstance(self.run, Run) else Run(self.run)
        asked = only_cohort_overrides(self.overrides or {})
        overrides = {"on_bad_record": "exclude", **own_overrides(run, given, asked), **asked}
        told = json.dumps(overrides, sort_keys=True, default=str)
        return opened_cohort(str(given), told, tuple(table_stamps(given, overrides)))

    def _plan(self) -> EmbeddingPlan:
        """What to embed with, every default filled in."""
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"is not a choice of '{name}'",
                    got=getattr(self, name),
                    expected=", ".join(allowed),
                )
        run = self.run if isinstance(self.run, Run) else Run(self.run)
        modality = self.modality or next(iter(run.recipe.inputs))
        refuse_absent(modality, run.recipe.inputs, f"the run has no modality '{modality}'")
        stage = run.stage_with(modality, self.stage)
        return EmbeddingPlan(
            folder=str(run.path.absolute()),
            stamp=weights_stamp(run, stage),
            modality=modality,
            stage=stage,
            space=self.space,
            device=self.device,
        )

    def _tell(self, reasons: np.ndarray, index: pd.Index, modality: str) -> None:
        """Refuse rows without an embedding, or count them."""
        bad = reasons != "ok"
        counts = Counter(reasons[bad]).most_common(5)
        text = "; ".join(f"{count} x {reason}" for reason, count in counts)
        what = f"{int(bad.sum())} of {len(bad)} rows have no {modality} embedding"
        if self.missing == "raise":
            raise CohortError(
                what,
                got=text,
                where=f"rows {', '.join(map(str, index[bad][:5]))}",
                fix="leave them out, or MedMCLEmbedder(..., missing='mean', 'nan' or 'drop')",
            )
        done = {"drop": "left out", "mean": "the mean, and flagged", "nan": "NaN"}[self.missing]
        warnings.warn(f"{what}, {done}: {text}", stacklevel=3)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = self.missing == "mean"
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.input_tags.allow_nan = False
        return tags


_CHOICES = {
    "space": ("features", "pooled"),
    "missing": ("raise", "mean", "nan", "drop"),
    "several": ("raise", "mean"),
}


def _wants_pandas(embedder: MedMCLEmbedder) -> bool:
    """Whether `set_output`, or scikit-learn's configuration, asks for DataFrames."""
    own = getattr(embedder, "_sklearn_output_config", {}).get("transform")
    return (own or get_config()["transform_output"]) == "pandas"


KEPT = 4
"""Tables of embeddings (one a run, stage, modality, space and cohort) that memory holds."""


@dataclass(frozen=True)
class EmbeddingPlan:
    """What embeddings depend on, beside the cohort."""

    folder: str
    stamp: str
    modality: str
    stage: str
    space: str
    device: str


@dataclass(frozen=True)
class CohortKey:
    """A cohort, told apart by its fingerprint and its folder."""

    fingerprint: str
    root: str
    cohort: Cohort = field(compare=False)


@lru_cache(maxsize=KEPT)
def embedded(plan: EmbeddingPlan, source: CohortKey) -> pd.DataFrame:
    """Embed a cohort as `Run.embed` does, or give what that gave before. Do not change it."""
    return Run(plan.folder).embed(
        source.cohort,
        modality=plan.modality,
        stage=plan.stage,
        space=plan.space,
        device=plan.device,
    )


@lru_cache(maxsize=KEPT)
def opened_cohort(path: str, overrides: str, stamps: tuple[str, ...]) -> Cohort:  # noqa: ARG001  (part of the key)
    """Open a cohort, or give the one opened before if no table of it has changed."""
    return open_cohort(path, json.loads(overrides))


@lru_cache(maxsize=16)
def width_of(plan: EmbeddingPlan) -> int:
    """Give the width of the embeddings."""
    import torch

    towers = Run(plan.folder).towers(plan.stage, torch.device("cpu"))
    return vector_width(towers, plan.modality, plan.space)


def weights_stamp(run: Run, stage: str) -> str:
    """Tell which weights these are: changes when the run is trained again in the same folder."""
    files = [run.path / "config.yaml", run.path / "preprocessing.json"]
    if stage != "untrained":
        folder = run.checkpoints(stage).find(run.stage(stage).keep)
        files += [] if folder is None else [folder / "weights.safetensors"]
    return "|".join(_stamp(file) for file in files)


def _stamp(file: Path) -> str:
    if not file.exists():
        return f"{file}: absent"
    status = file.stat()
    return f"{file}: {status.st_size} {status.st_mtime_ns}"


def table_stamps(cohort: str | Path, overrides: Mapping[str, Any]) -> Iterator[str]:
    """Give the state of cohort.yaml and of every table that it names, without reading them."""
    yield from map(_stamp, tables_of(cohort, overrides))
