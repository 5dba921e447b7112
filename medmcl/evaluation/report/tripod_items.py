"""The parts of the TRIPOD+AI checklist, which ``tripod_items.yaml`` holds.

Source: Collins et al. 2024, BMJ 385:e078378. D: studies that develop a model, E: that evaluate one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medmcl.core.config import read_yaml


@dataclass(frozen=True)
class Part:
    """A part of an item.

    Attributes:
        code: As ``12c``; the digits are the item.
        section: Section of a paper.
        topic: Topic in a few words.
        asks: What is to be reported.
        applies: ``D``, ``E`` or ``D;E``.
        remains: What no run can say, if it can say something.
    """

    code: str
    section: str
    topic: str
    asks: str
    applies: str = "D;E"
    remains: str = ""

    @property
    def item(self) -> int:
        """Number of the item, 1 to 27."""
        return int(self.code.rstrip("abcdefg"))


PARTS = tuple(
    Part(**one) for one in read_yaml(Path(__file__).with_name("tripod_items.yaml"))["parts"]
)
