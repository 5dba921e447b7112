"""How to count: window, pairing, which blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from medmcl.cooccurrence.count.counts import Pair
from medmcl.cooccurrence.count.windows import parse_window
from medmcl.core.errors import ConfigError


@dataclass(frozen=True)
class Rules:
    """How to count.

    Attributes:
        window: ``record``, ``month``, ``visit`` or ``days:N``; see `windows`.
        pairing: ``product``: every pair of tokens; ``distinct``: each pair of codes once a unit.
        pairs: Blocks to count; all pairs of different modalities if not given.
        within: Also count the block of each modality with itself.
        patients: Also count the patients of each cell, which a release needs.
        drop_duplicates: Count events that equal another in patient, time, visit and code once.
    """

    window: str = "record"
    pairing: str = "product"
    pairs: tuple[Pair, ...] | None = None
    within: bool = False
    patients: bool = True
    drop_duplicates: bool = False

    def blocks(self, modalities: Sequence[str]) -> tuple[Pair, ...]:
        """Give the blocks to count.

        Raises:
            ConfigError: A pair names no modality, or stands in both orders.
        """
        for pair in self.pairs or ():
            if unknown := set(pair) - set(modalities):
                raise ConfigError(
                    f"there is no modality '{min(unknown)}'", expected=", ".join(modalities)
                )
        turned = [(a, b) for a, b in self.pairs or () if a < b and (b, a) in (self.pairs or ())]
        if turned:
            raise ConfigError(
                "a pair of modalities stands in both orders, and would be counted twice",
                got=", ".join(f"{a} x {b} and {b} x {a}" for a, b in turned),
                expected="each pair in one order",
            )
        across = self.pairs if self.pairs is not None else tuple(combinations(modalities, 2))
        own = tuple((name, name) for name in modalities) if self.within else ()
        return tuple(dict.fromkeys((*across, *own)))


def notes_of(rules: Rules) -> tuple[str, ...]:
    """Say what a reader of the counts must know."""
    window = parse_window(rules.window)
    found = [
        "events that equal another in patient, time, visit and code count "
        + ("once" if rules.drop_duplicates else "as often as they stand there")
    ]
    if window.sliding:
        found.append(
            f"days:{window.days}: dates at most {window.days} days apart, time of day ignored; the "
            "unit is the patient; margins count the pairs of a code within its own modality "
            "inside the window"
        )
    return tuple(found)
