"""What a train stage says of the records that it is confined to."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from medmcl.core.config import Config
from medmcl.stages.cluster.spec import cell_text


class SubsetSpec(Config):
    """A share of the train subjects, drawn by the run's seed; or samples, by a column or a list."""

    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    column: str | None = None
    """Of the subjects table or of tables of each record; ``site``, ``sex``, ``age``, a subgroup."""
    values: tuple[str, ...] = ()
    """Those of the column that are taken; ``unknown``: rows without one."""
    file: Annotated[str, Field(min_length=1)] | None = None
    """Text file with the id of a sample or a subject in each line."""

    @property
    def said(self) -> str:
        """What it takes, in words."""
        if self.share is not None:
            return f"a share of {self.share:g} of the subjects"
        return f"{self.column} = {' or '.join(self.values)}" if self.column else f"{self.file}"

    @field_validator("values", mode="before")
    @classmethod
    def _as_text(cls, given: object) -> object:
        many = given if isinstance(given, list | tuple) else [given]
        return tuple(map(cell_text, many))

    @model_validator(mode="after")
    def _one_way(self) -> SubsetSpec:
        ways = ("share", "column", "file")
        if sum(getattr(self, way) is not None for way in ways) != 1:
            raise ValueError("subset: one of `share`, `column` with `values`, and `file`")
        if bool(self.values) != (self.column is not None):
            raise ValueError("subset: `column` says where to look, and `values` which are taken")
        return self
