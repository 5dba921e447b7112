"""Embeddings of several modalities of the same rows, any of which may be absent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medmcl.core.errors import ConfigError, MedmclError

EPSILON = 1e-6
"""A mean of unit vectors shorter than this points nowhere, and stays as it is."""


@dataclass(frozen=True, kw_only=True)
class Together:
    """Embeddings by modality, and which rows have them. What stands in absent rows is never read.

    Attributes:
        vectors: Modality to (N, E_m).
        present: Modality to (N,) bool.
    """

    vectors: Mapping[str, np.ndarray]
    present: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        """Refuse what does not fit together."""
        if not self.vectors or set(self.vectors) != set(self.present):
            raise MedmclError(
                "embeddings and presence must name the same modalities, at least one",
                got=f"{', '.join(self.vectors)}; {', '.join(self.present)}",
            )
        rows = {len(one) for one in (*self.vectors.values(), *self.present.values())}
        if len(rows) > 1:
            raise MedmclError("embeddings and presence must have the same rows", got=rows)

    @property
    def names(self) -> tuple[str, ...]:
        """Modalities in their order."""
        return tuple(self.vectors)

    @property
    def widths(self) -> tuple[int, ...]:
        """E_m of each modality."""
        return tuple(one.shape[1] for one in self.vectors.values())

    @property
    def flags(self) -> np.ndarray:
        """Which row has which modality, (N, M) bool."""
        return np.stack([np.asarray(self.present[n], dtype=bool) for n in self.names], axis=1)

    @property
    def any(self) -> np.ndarray:
        """Rows that have at least one modality, (N,) bool."""
        return np.asarray(self.flags.any(axis=1))

    def of(self, rows: np.ndarray) -> Together:
        """The same for some rows (indices)."""
        return Together(
            vectors={name: one[rows] for name, one in self.vectors.items()},
            present={name: one[rows] for name, one in self.present.items()},
        )

    def only(self, names: Sequence[str]) -> Together:
        """The same as if only the modalities named were there."""
        nothing = np.zeros(len(next(iter(self.present.values()))), dtype=bool)
        has = {name: one if name in names else nothing for name, one in self.present.items()}
        return Together(vectors=self.vectors, present=has)

    def blocks(self) -> list[np.ndarray]:
        """Embeddings with zeros where absent, whatever stood there. [(N, E_m)]."""
        return [
            np.where(np.asarray(self.present[name])[:, None], np.asarray(one, np.float64), 0.0)
            for name, one in self.vectors.items()
        ]

    def table(self) -> np.ndarray:
        """Blocks side by side, then a 0 or 1 for each modality: (N, sum of E_m + M)."""
        return np.hstack([*self.blocks(), self.flags.astype(np.float64)])

    def mean(self) -> np.ndarray:
        """Mean of the unit embeddings of those present, of unit length again, (N, D).

        Zeros where nothing is present.

        Raises:
            ConfigError: The modalities do not share a space.
        """
        if len(set(self.widths)) > 1:
            raise ConfigError(
                "a mean needs embeddings of one width: those of the space that modalities share",
                got=", ".join(f"{n} {w}" for n, w in zip(self.names, self.widths, strict=True)),
                fix="space: pooled with heads of one `out`, or another fusion",
            )
        total = np.sum([_unit(block) for block in self.blocks()], axis=0)
        return _unit(total / np.maximum(1, self.flags.sum(axis=1))[:, None])

    def patterns(self) -> np.ndarray:
        """What each row has, as ``ecg + cmr``; ``none`` where it has nothing. (N,) object."""
        words = [
            " + ".join(name for name, ok in zip(self.names, row, strict=True) if ok) or "none"
            for row in self.flags
        ]
        return np.array(words, dtype=object)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The same rows as if they had other modalities, for predictors that were fitted on all.

    Attributes:
        name: As ``only ecg`` or ``without ecg``.
        has: Rows it is asked of: those whose modalities it changes, and leaves some. (N,) bool
        features: Row numbers to features as the predictor takes them, (rows, E).
        modalities: What is left.
    """

    name: str
    has: np.ndarray
    features: Callable[[np.ndarray], np.ndarray] = field(compare=False)
    modalities: tuple[str, ...]


def _unit(x: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(length > EPSILON, length, 1.0))
