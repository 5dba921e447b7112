"""A scikit-learn transformer: from subjects of a cohort to the embeddings of a run."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

# scikit-learn at module level: the class derives from its base. `medmcl` imports this file lazily.
from sklearn import get_config
from sklearn.base import BaseEstimator, TransformerMixin

from medmcl.core.errors import CohortError, ConfigError
from medmcl.data.cohort import Cohort
from medmcl.stages.embedded_rows import find_rows, mean_of, read_rows, reasons_of
from medmcl.stages.embedding_cache import (
    CohortKey,
    EmbeddingPlan,
    embedded,
    opened_cohort,
    table_stamps,
    weights_stamp,
    width_of,
)
from medmcl.stages.run import Run
from medmcl.stages.settings import only_cohort_overrides


class MedMCLEmbedder(TransformerMixin, BaseEstimator):
    """Turn subjects, or a whole cohort, into the embeddings that a run gives.

    Nothing is fitted: `transform` may be called at once, and rows of a test fold have no part in
    what other rows become. A cohort is embedded once, and its embeddings stay in memory for clones
    of this object (the last four such tables), until a file of the run or of the cohort's tables
    changes.

    Args:
        run: A run, or its folder.
        cohort: The cohort that subject ids are looked up in: opened, its folder, or its name.
        modality: Modality to embed; the first of the recipe if not given.
        stage: Stage whose tower to use; the last one trained without labels if not given.
        space: ``features`` (before the projection head) or ``pooled`` (unit norm).
        missing: What to do with a row that has no embedding (no record, or a bad one): ``raise``;
            ``nan``, a row of NaN; or ``drop``, which leaves the row out and so cannot stand before
            a step that is given y. The last two warn, with counts.
        several: What to do if a subject has several records and the rows do not say which:
            ``raise`` or ``mean`` (of those that have an embedding).
        device: ``auto``, ``cpu`` or ``cuda``.
        overrides: Cohort overrides, as ``--set``.
    """

    def __init__(
        self,
        run: Run | str | Path,
        *,
        cohort: Cohort | str | Path | None = None,
        modality: str | None = None,
        stage: str | None = None,
        space: Literal["features", "pooled"] = "features",
        missing: Literal["raise", "nan", "drop"] = "raise",
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
        """Check the settings, and that X names subjects or a cohort. Nothing is learned.

        Raises:
            MedmclError: For a run, stage, modality, space or X that cannot be used.
        """
        self._plan()
        if X is not None:
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
            (N, E) float32, in the order of X; a DataFrame after ``set_output(transform="pandas")``,
            with the index of X, or (subject, record) for a cohort.

        Raises:
            CohortError: For subjects that the cohort does not have, and as ``missing`` says.
        """
        plan = self._plan()
        places, table, index = self._located(X, plan)
        reasons = reasons_of(places, table, plan.modality)
        bad = reasons != "ok"
        if bad.any():
            self._tell(reasons, index, plan.modality)
        vectors = mean_of(places, table.drop(columns="quality").to_numpy(np.float32))
        if self.missing == "drop":
            vectors, index = vectors[~bad], index[~bad]
        if not _wants_pandas(self):
            return vectors
        return pd.DataFrame(vectors, index=index, columns=_names(plan))

    def quality(self, X: Any) -> pd.Series:
        """Say of each row ``ok``, or why it has no embedding."""
        plan = self._plan()
        places, table, index = self._located(X, plan)
        found = reasons_of(places, table, plan.modality)
        return pd.Series(found, index=index, name="quality")

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:  # noqa: ARG002  (scikit-learn's signature)
        """Names of the columns: ``ecg_e0``, ``ecg_e1``, ….

        Args:
            input_features: Ignored; scikit-learn passes it.
        """
        return _names(self._plan())

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
                mend="MedMCLEmbedder(run, cohort=...), or give transform a cohort",
            )
        if isinstance(given, Cohort):
            return given
        overrides = {"on_bad_record": "exclude", **only_cohort_overrides(self.overrides or {})}
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
        if modality not in run.recipe.inputs:
            raise ConfigError(
                f"the run has no modality '{modality}'", expected=", ".join(run.recipe.inputs)
            )
        stage = self.stage or run.default_stage(modality)
        if stage != "untrained" and modality not in run.stage(stage).towers:
            raise ConfigError(
                f"stage '{stage}' has no tower for '{modality}'",
                where=run.path,
                expected=", ".join(run.stage(stage).towers),
            )
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
                mend="leave them out, or MedMCLEmbedder(..., missing='nan' or 'drop')",
            )
        done = "left out" if self.missing == "drop" else "NaN"
        warnings.warn(f"{what}, {done}: {text}", stacklevel=3)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.input_tags.allow_nan = False
        return tags


_CHOICES = {
    "space": ("features", "pooled"),
    "missing": ("raise", "nan", "drop"),
    "several": ("raise", "mean"),
}


def _names(plan: EmbeddingPlan) -> np.ndarray:
    numbers = range(width_of(plan))
    return np.array([f"{plan.modality}_e{number}" for number in numbers], dtype=object)


def _wants_pandas(embedder: MedMCLEmbedder) -> bool:
    """Whether `set_output`, or scikit-learn's configuration, asks for DataFrames."""
    own = getattr(embedder, "_sklearn_output_config", {}).get("transform")
    return (own or get_config()["transform_output"]) == "pandas"
