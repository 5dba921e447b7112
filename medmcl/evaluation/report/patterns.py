"""Which modalities are present together, counted."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from medmcl.core.suppression import few_share, hide


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """Samples with the same modalities.

    Attributes:
        present: Whether each modality is there.
        samples: Their number, or the text shown where it is small or would tell a small one.
    """

    present: dict[str, bool]
    samples: int | str

    @property
    def name(self) -> str:
        """Modalities that are there, as ``ecg + cmr``."""
        return " + ".join(name for name, there in self.present.items() if there) or "none"

    @property
    def shown(self) -> str:
        """The count as shown."""
        return self.samples if isinstance(self.samples, str) else f"{self.samples:,}"

    @property
    def height(self) -> int:
        """Height of its bar; 0 where the count is not shown."""
        return 0 if isinstance(self.samples, str) else self.samples


_AT_ONCE = 2**14
"""Samples."""


@dataclass(frozen=True, kw_only=True)
class Presence:
    """Patterns of present modalities, as shown.

    Attributes:
        names: Modalities.
        patterns: Most frequent first.
        shares: Modality to its share of the samples, as text; a word where it would tell a small
            count.
        absent: Modality to the share of samples without it, likewise.
        part: Modality to its share, to draw: full or empty where the text is a word.
    """

    names: tuple[str, ...]
    patterns: tuple[Pattern, ...]
    shares: dict[str, str]
    absent: dict[str, str]
    part: dict[str, float]


def presence(missingness: pd.DataFrame) -> Presence | None:
    """Count patterns of present modalities; None if there is nothing to count.

    Args:
        missingness: Either one bool column a modality and a column ``samples`` of counts (one row a
            pattern), or the bool columns alone (one row a sample).
    """
    table = counted_patterns(missingness)
    names = tuple(name for name in table.columns if name != "samples")
    if table.empty or not names:
        return None
    keys = list(table[list(names)].astype(bool).itertuples(index=False, name=None))
    counts = dict(zip(keys, table["samples"].astype(int).tolist(), strict=True))
    masked = hide(counts)
    total = sum(counts.values())
    has = {
        name: sum(n for key, n in counts.items() if key[place]) for place, name in enumerate(names)
    }
    shares = {name: few_share(n, total) for name, n in has.items()}
    words = {"few": 0.0, "almost all": 1.0}
    return Presence(
        names=names,
        patterns=tuple(
            Pattern(present=dict(zip(names, key, strict=True)), samples=masked[key]) for key in keys
        ),
        shares=shares,
        absent={name: few_share(total - n, total) for name, n in has.items()},
        part={name: words.get(shares[name], n / max(1, total)) for name, n in has.items()},
    )


def counted_patterns(missingness: pd.DataFrame) -> pd.DataFrame:
    """Count samples of each pattern, most frequent first; whole numbers."""
    if missingness.empty:
        return pd.DataFrame()
    table = missingness.set_axis([str(name) for name in missingness.columns], axis=1)
    modalities = [name for name in table.columns if name != "samples"]
    if not modalities:
        return pd.DataFrame()
    parts = []  # of many people: what groups them would be larger than they are
    for first in range(0, len(table), _AT_ONCE):
        part = table[first : first + _AT_ONCE]
        part = part if "samples" in part else part.assign(samples=1)
        parts.append(part.groupby(modalities, sort=False)[["samples"]].sum().reset_index())
    table = pd.concat(parts, ignore_index=True)
    counted = table.groupby(modalities, sort=False)[["samples"]].sum().reset_index()
    return counted.sort_values("samples", ascending=False, kind="stable", ignore_index=True)
