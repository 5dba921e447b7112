"""What a cohort says of its events, how a recipe prepares them, and how a view disturbs them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from medmcl.core.config import Config


class CodesSettings(Config):
    """How a recipe prepares codes. Sizes are ours."""

    max_events: Annotated[int, Field(ge=2)] = 256
    """events of a row; the latest are kept"""
    vocabulary: Annotated[int, Field(ge=4)] = 20_000
    """largest number of distinct codes, the most frequent ones"""
    min_patients: Annotated[int, Field(ge=1)] = 2
    """a code that fewer train patients have has no number of its own"""
    repeats: Literal["all", "day", "first"] = "all"
    """keep every event, each code once a day, or once a person"""


class CodesAugment(Config):
    """How a view disturbs codes: some events are left out."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """share of events that are left out of a row"""
    shift_days: Annotated[int, Field(ge=0)] = 0
    """all days of a row move by up to so many, never below 0"""


class CodesSource(Config):
    """What a cohort says of its events: a long table, a row an event."""

    reader: Literal["events", "meds"] = "events"
    """``meds``: columns are called, and of the type, as in MEDS 0.4: subject_id, time, code."""
    column: str = "code"
    """Column with the code."""
    roll_up: str | bool = False
    """``meds``: a code is read as its ``parent_codes`` (all, or those with a prefix)."""

    @model_validator(mode="after")
    def _of_meds(self) -> CodesSource:
        if self.reader != "meds" and self.roll_up is not False:
            raise ValueError("roll_up reads metadata/codes.parquet: it needs reader: meds")
        return self
