"""What a recipe says of a factorise stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator
from typing_extensions import override

from medmcl.stages.train.spec import ObjectiveSpec, TowersSpec

if TYPE_CHECKING:
    from medmcl.evaluation.protocol.evidence import FittedOn


class FactoriseSpec(TowersSpec):
    """Fill the tables of two ``lookup`` towers with the factors of their co-occurrence.

    Counted are the tokens of whole records of train subjects, however long a row is.
    """

    stage: Literal["factorise"]
    towers: tuple[str, ...] = Field(min_length=1, max_length=2)
    """The two modalities; one is enough where vectors are taken."""
    estimator: Literal["claime", "concate", "cl", "within_only"] = "claime"
    """Cai et al., arXiv 2403.14926: its own, or one of its baselines."""
    shrink: bool = False
    """Shrink singular values by what noise adds to them; differs from the paper."""
    embedded: Path | None = None
    """Folder that ``medmcl cooccur embed`` wrote: its vectors are taken, by the text of a code, and
    nothing is counted here. Of whose records its counts are, the run knows no more than the splits
    that they name."""

    objectives: dict[str, ObjectiveSpec] = Field(default={}, max_length=0)
    keep: Literal["last"] = "last"

    @model_validator(mode="after")
    def _two_to_count(self) -> FactoriseSpec:
        if self.embedded is None and len(set(self.towers)) != 2:
            raise ValueError("towers: two modalities, whose codes are counted together")
        if self.shrink and self.estimator != "claime":
            raise ValueError(f"shrink: only of the estimator claime, not of {self.estimator}")
        return self

    @property
    @override
    def tables_filled(self) -> tuple[str, ...]:
        return self.towers

    @property
    @override
    def is_of_subjects(self) -> bool:
        return self.embedded is None

    @override
    def fitted(self, cohort: str, done: Mapping[str, Any], wrong: str = "") -> list[FittedOn]:
        weights, *more = self.fitted_weights(cohort, wrong)
        if self.embedded is not None:
            note = f"from {self.embedded}; {counted_on(done.get('counted_on'))}"
            what = f"vectors of stage {self.name}"
            weights = replace(weights, what=what, splits=(), note=note)
        return [weights, *more]


def counted_on(splits: Sequence[str] | None) -> str:
    """Say on whose records vectors were counted, by the splits that ``embedding.json`` names."""
    if splits is None:
        return "whose records they were counted from is not known here"
    named = "split" if len(splits) == 1 else "splits"
    return f"counted on {named} {', '.join(splits)} of their source"
