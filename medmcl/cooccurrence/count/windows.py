"""Windows: which tokens of a patient meet.

| name | tokens meet if they are of one patient and | a unit is |
|---|---|---|
| ``record`` | (always) | a patient |
| ``month`` | their dates are in the same calendar month | a patient's month |
| ``visit`` | they carry the same visit id | a visit |
| ``days:N`` | their dates are at most N days apart, in either order | a patient |

``month`` loses pairs across the end of a month; ``days:N`` loses none, but one token then meets
others in many overlapping windows, so its unit is the patient. Time of day is never looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator

from medmcl.core.config import nearest
from medmcl.core.errors import ConfigError

Kind = Literal["record", "month", "visit", "days"]
PAIRINGS = ("product", "distinct")
_LONGEST_DAYS = 1_000_000


@dataclass(frozen=True)
class Window:
    """A window by its kind; ``days`` is the reach of a sliding one."""

    kind: Kind
    days: int = 0

    def __str__(self) -> str:
        return f"days:{self.days}" if self.sliding else self.kind

    @property
    def sliding(self) -> bool:
        """Whether each token has a window of its own."""
        return self.kind == "days"

    @property
    def needs_time(self) -> bool:
        """Whether an event without a date has to be left out."""
        return self.kind in ("days", "month")


def parse_window(name: str) -> Window:
    """Read a window by name.

    Raises:
        ConfigError: No such window.
    """
    if name in ("record", "month", "visit"):
        return Window(name)  # type: ignore[arg-type]  # one of `Kind`, as was asked
    days = re.fullmatch(r"days:(\d{1,7})", name)
    if days is not None and int(days[1]) <= _LONGEST_DAYS:
        return Window("days", int(days[1]))
    raise ConfigError(
        f"unknown window '{name}'{nearest(name, ('record', 'month', 'visit', 'days:30'))}",
        expected="record, month, visit, or days:N with N from 0 to 1000000",
    )


def _known(name: str) -> str:
    try:
        parse_window(name)
    except ConfigError as error:
        raise ValueError(f"{error.what}, expected {error.expected}") from None
    return name


WindowName = Annotated[str, AfterValidator(_known)]
"""Name of a window in a file: checked when it is read."""


def check_pairing(name: str) -> str:
    """Give the pairing rule back, or refuse it."""
    if name in PAIRINGS:
        return name
    raise ConfigError(f"unknown pairing '{name}'{nearest(name, PAIRINGS)}")
