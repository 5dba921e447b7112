"""What a train stage says of the subjects that it is confined to."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from medmcl.core.config import Config
from medmcl.stages.group_spec import cell_text


class SubsetSpec(Config):
    """A share of the train subjects, drawn by the run's seed, or samples by a column."""

    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    column: str | None = None
    """Of the subjects table or of tables of each record; ``site``, ``sex``, ``age``, a subgroup."""
    values: tuple[str, ...] = ()
    """Those of the column that are taken; ``unknown``: rows without one."""

    @field_validator("values", mode="before")
    @classmethod
    def _as_text(cls, given: object) -> object:
        many = given if isinstance(given, list | tuple) else [given]
        return tuple(map(cell_text, many))

    @model_validator(mode="after")
    def _one_way(self) -> SubsetSpec:
        if (self.share is None) == (self.column is None):
            raise ValueError("subset: either `share`, or `column` with `values`")
        if bool(self.values) != (self.column is not None):
            raise ValueError("subset: `column` says where to look, and `values` which are taken")
        return self
