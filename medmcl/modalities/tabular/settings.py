"""What a cohort says of a table, how a recipe prepares it, and how a view disturbs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from medmcl.core.config import Config, Probability

Kind = Literal["number", "category", "auto"]
"""Of a column; ``auto`` until its table is opened, and a number if none is."""


class Column(Config):
    """One column of a table modality."""

    kind: Kind
    unit: str = ""
    min: float | None = None
    """number: anything below is a fault"""
    max: float | None = None
    """number: anything above is a fault"""

    @model_validator(mode="after")
    def _check(self) -> Column:
        if self.kind == "category" and not self.min is self.max is None:
            raise ValueError("min and max belong to numbers")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max")
        return self

    def of_kind(self, kind: Literal["number", "category"]) -> Column:
        """Give the column of the kind that ``auto`` stands for; itself if it says its own."""
        return self.model_copy(update={"kind": kind}) if self.kind == "auto" else self


class TabularSource(Config):
    """What a cohort says of a table modality: its columns, ``{age: number, sex: category}``.

    In a list of names, or one name, each is ``auto``: a category if its cells are words, otherwise
    a number; opening a cohort says which. Names may be patterns (``gene_*``), which
    opening a cohort writes out.
    """

    reader: Literal["table"] = "table"
    columns: dict[str, Column] = Field(min_length=1)

    @field_validator("columns", mode="before")
    @classmethod
    def _expand(cls, columns: Any) -> Any:
        """Let ``age: number`` stand for ``age: {kind: number}``, and names alone for ``auto``."""
        if isinstance(columns, str):
            columns = [columns]
        if isinstance(columns, list | tuple) and all(isinstance(one, str) for one in columns):
            columns = dict.fromkeys(columns, "auto")
        if not isinstance(columns, Mapping):
            return columns
        return {
            name: {"kind": column} if isinstance(column, str) else column
            for name, column in columns.items()
        }


class TabularSettings(Config):
    """How a recipe prepares a table."""

    min_count: PositiveInt = 1
    """a category seen in fewer training records counts as unseen"""
    clip_sd: PositiveFloat | None = None
    """cut standardised numbers at this many deviations"""


class TabularAugment(Config):
    """How a view disturbs a table.

    Source: corruption after SCARF (Bahri et al. 2022, arXiv 2106.15147), rate .3 as in Hager et
    al. 2023 (arXiv 2303.14080); SCARF's own is .6. Differs: values come from the present cells of
    the same column in the batch, not in the training set; absent cells stay absent; ``noise`` is
    not SCARF's.
    """

    corruption: Probability = 0.3
    """share of present cells replaced"""
    dropout: Probability = 0.0
    """share of present cells made absent"""
    noise: Annotated[float, Field(ge=0)] = 0.0
    """Gaussian noise added to present numbers, in deviations of the train column"""
