"""The artefact `Keep`: which rows of a cohort deserve training, by which scores and which rule."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

import medmcl
from medmcl.core.cohort_rows import read_rows, write_rows
from medmcl.core.config import fingerprint
from medmcl.core.errors import ArtefactError
from medmcl.core.findings import first_of
from medmcl.core.sealed import reading

SCHEMA = "medmcl/keep@1"


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Scores of rows, and which of them are kept.

    Attributes:
        ids: Of each row, (N,): whole numbers or strings, each once.
        scores: Name to (N,), higher = keep; never NaN.
        kept: (N,) bool.
        rule: In words: what was kept, by which scores and shares.
        cohort: Fingerprint of the cohort the ids are of.
        provenance: Plain JSON values: teacher, temperature, batch size, seed, parents.
        copies: Kind (``exact``, ``near``) to (N,) int64: position of the first row of a row's
            group of duplicates; its own where there is none.
        parts: Name of the teacher that scored each row, (N,): scores of one are comparable, and
            `ranks` compare rows by the share of their part that is lower. None: one scored all.
    """

    kept_in: ClassVar[str] = "selection"

    ids: np.ndarray
    kept: np.ndarray
    rule: str
    cohort: str
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    copies: Mapping[str, np.ndarray] = field(default_factory=dict)
    parts: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("ids", "kept"):
            object.__setattr__(self, name, np.asarray(getattr(self, name)))
        for name in ("scores", "copies"):
            plain = {key: np.asarray(value) for key, value in getattr(self, name).items()}
            object.__setattr__(self, name, plain)
        if self.ids.ndim != 1 or self.ids.dtype.kind not in "iuUO":
            raise ArtefactError(
                "ids must be whole numbers or strings on one axis",
                got=f"{self.ids.dtype}, shape {self.ids.shape}",
            )
        if self.kept.dtype != bool:
            raise ArtefactError("kept must be true or false for each row", got=self.kept.dtype)
        parts = {} if self.parts is None else {"parts": self.parts}
        for name, value in {"kept": self.kept, **self.scores, **self.copies, **parts}.items():
            if value.shape != self.ids.shape:
                raise ArtefactError(
                    f"'{name}' has another shape than the ids",
                    got=value.shape,
                    expected=self.ids.shape,
                )
        for name, value in self.scores.items():
            if np.isnan(value).any():
                raise ArtefactError(f"{int(np.isnan(value).sum())} scores '{name}' are NaN")
        if len(set(self.ids.tolist())) < len(self.ids):
            raise ArtefactError("an id stands twice", expected="each once")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def kept_ids(self) -> np.ndarray:
        """Ids of the rows that are kept, in their order."""
        return np.asarray(self.ids[self.kept])

    @property
    def ranks(self) -> dict[str, np.ndarray]:
        """Name of a score to ranks, (N,): 1 = the highest, each number once."""
        named = self.scores.items()
        return {name: _ranks(self.comparable(value)) for name, value in named}

    def comparable(self, scores: np.ndarray) -> np.ndarray:
        """Give scores that rows of all parts can be compared by, (N,), higher = keep.

        The scores themselves if one teacher scored all; else the share of a row's part that ranks
        no higher.
        """
        if self.parts is None or len(set(self.parts.tolist())) < 2:
            return scores
        found = np.zeros(len(scores))
        for part in sorted(set(self.parts.tolist())):
            own = self.parts == part
            found[own] = 1 - (_ranks(scores[own]) - 0.5) / own.sum()
        return found

    @property
    def fingerprint(self) -> str:
        """Short hash of who is kept, by which rule, of which cohort: for the run's provenance."""
        return fingerprint([self.cohort, self.rule, sorted(map(str, self.kept_ids.tolist()))])

    def among(self, ids: Sequence[Any] | np.ndarray, cohort: str) -> np.ndarray:
        """Tell which rows of a cohort are kept.

        Args:
            ids: Ids of the rows to ask about, all that the cohort has; rows that were never scored
                are not kept. Numbers and texts are compared as texts.
            cohort: Its fingerprint.

        Returns:
            (len(ids),) bool.

        Raises:
            ArtefactError: If this was made of another cohort, or has ids that are not among these.
        """
        self._same_cohort(cohort)
        known, own = np.asarray(ids).tolist(), self.ids.tolist()
        if {type(one) for one in known} != {type(one) for one in own}:
            known, own = [str(one) for one in known], [str(one) for one in own]
        self._refuse_unknown(set(own) - set(known), "the cohort")
        chosen = {one for one, kept in zip(own, self.kept.tolist(), strict=True) if kept}
        return np.array([one in chosen for one in known], dtype=bool)

    def union(self, other: Keep | Collection[Any]) -> Keep:
        """Keep what this or another filter keeps; rows and scores stay these.

        Args:
            other: A `Keep` of the same cohort, or the ids that another filter keeps.

        Raises:
            ArtefactError: If the other is of another cohort, or keeps ids that are not here.
        """
        there, rule = self._other(other)
        return self._combined(self.kept | there, f"({self.rule}) or ({rule})", other)

    def intersection(self, other: Keep | Collection[Any]) -> Keep:
        """Keep what this and another filter keep; as `union`."""
        there, rule = self._other(other)
        return self._combined(self.kept & there, f"({self.rule}) and ({rule})", other)

    def save(self, path: Path | str, *, page: Path | None = None) -> None:
        """Write parquet: id, kept, score.NAME, rank.NAME, copy_of.KIND (an id, empty if none).

        The rule, the cohort's fingerprint and the provenance are in the metadata of the file. A
        ``page`` of an earlier one goes as this takes its place.
        """
        columns: dict[str, Any] = {"id": pa.array(self.ids.tolist()), "kept": self.kept}
        placed = self.ranks
        for name, value in self.scores.items():
            columns[f"score.{name}"] = value
            columns[f"rank.{name}"] = placed[name]
        if self.parts is not None:
            columns["teacher"] = pa.array(self.parts.tolist())
        for kind, first in self.copies.items():
            alone = first == np.arange(len(self))
            columns[f"copy_of.{kind}"] = pa.array(self.ids[first].tolist(), mask=alone)
        said = {"schema": SCHEMA, "medmcl": medmcl.__version__, "rule": self.rule}
        about = {**said, "cohort": self.cohort, "provenance": dict(self.provenance)}
        write_rows(Path(path), columns, about, page)

    @classmethod
    def load(cls, path: Path | str, *, cohort: str | None = None) -> Keep:
        """Read what `save` wrote.

        Args:
            path: The file.
            cohort: Fingerprint of the cohort it must be of; not asked if None.

        Raises:
            ArtefactError: If the file is none, or of another cohort.
        """
        fix = "a list of ids becomes one with `medmcl select --and FILE`"
        table, said = read_rows(path, SCHEMA, "keep file", ("id", "kept"), None, fix)
        with reading(Path(path), "is no keep file that can be read", fix=fix):
            found = cls(
                ids=_plain(table["id"]),
                kept=_plain(table["kept"]),
                rule=said["rule"],
                cohort=said["cohort"],
                scores={n: _plain(table[f"score.{n}"]) for n in _names(table, "score.")},
                provenance=said["provenance"],
                copies={n: _first(table, n) for n in _names(table, "copy_of.")},
                parts=_plain(table["teacher"]) if "teacher" in table.column_names else None,
            )
        if cohort is not None:
            found._same_cohort(cohort, path)
        return found

    def _same_cohort(self, cohort: str, where: object = None) -> None:
        if cohort != self.cohort:
            raise ArtefactError(
                "the keep file was made of another cohort, or the cohort has changed since",
                where=where,
                got=f"fingerprint {self.cohort}",
                expected=f"fingerprint {cohort}",
                fix="select again from this cohort",
            )

    def _refuse_unknown(self, unknown: set[Any], where: str) -> None:
        if unknown:
            raise ArtefactError(
                f"{len(unknown)} ids are unknown to {where}",
                got=first_of(sorted(unknown, key=str)),
                fix="the ids must be those of the cohort the rows were scored in",
            )

    def _other(self, other: Keep | Collection[Any]) -> tuple[np.ndarray, str]:
        if isinstance(other, Keep):
            self._same_cohort(other.cohort)
            rule, there = other.rule, set(other.kept_ids.tolist())
        else:
            rule = f"{len(other)} ids given"
            there = {one.item() if isinstance(one, np.generic) else one for one in other}
        ids = self.ids.tolist()
        self._refuse_unknown(there - set(ids), "this keep file")
        return np.array([one in there for one in ids], dtype=bool), rule

    def _combined(self, kept: np.ndarray, rule: str, other: Keep | Collection[Any]) -> Keep:
        theirs = dict(other.provenance) if isinstance(other, Keep) else None
        parents = {"parents": [dict(self.provenance), theirs]}
        return replace(self, kept=kept, rule=rule, provenance=parents)


def _ranks(scores: np.ndarray) -> np.ndarray:
    import torch  # not at the top: keep files are read without it

    from medmcl.selection.ranking import ranks

    return ranks(torch.from_numpy(np.array(scores))).numpy()


def _names(table: pa.Table, prefix: str) -> list[str]:
    return [n.removeprefix(prefix) for n in table.column_names if n.startswith(prefix)]


def _plain(column: pa.ChunkedArray) -> np.ndarray:
    if column.null_count:
        raise TypeError("empty cells")
    return np.array(column.to_numpy())


def _first(table: pa.Table, kind: str) -> np.ndarray:
    rows = {one: row for row, one in enumerate(table["id"].to_pylist())}
    of = table[f"copy_of.{kind}"].to_pylist()
    return np.array([row if one is None else rows[one] for row, one in enumerate(of)], np.int64)
