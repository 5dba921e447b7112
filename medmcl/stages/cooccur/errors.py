"""Standard errors of neighbours' cosines, from counts of groups of the patients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medmcl.cooccurrence.count.counts import Counts
from medmcl.cooccurrence.embed.embed import EmbedSettings, embed_tokens
from medmcl.cooccurrence.embed.jackknife import jackknife
from medmcl.cooccurrence.embed.token_vectors import TokenVectors
from medmcl.cooccurrence.exchange.merging import merge, open_sites
from medmcl.core.config import check
from medmcl.core.errors import ArtefactError
from medmcl.stages.cooccur.embed import read_facts

_SETTINGS = ("association", "rank", "shrink", "weighted", "seed")
_TOLERANCE = 1e-6
"""By so much a cosine may differ when the counts are summed and embedded again."""


@dataclass(frozen=True)
class Groups:
    """Groups of the patients behind an embedding.

    Attributes:
        folder: Of the vectors, for messages.
        counts: Of each group, disjoint, exact.
        settings: As the vectors were embedded, their rank as a number.
    """

    folder: Path
    counts: tuple[Counts, ...]
    settings: EmbedSettings

    def errors(
        self, table: TokenVectors, listed: pd.DataFrame
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """The standard error of each cosine, and what to say of them.

        The groups are left out one by one, and the rest is embedded anew with the same settings.

        Args:
            table: Vectors of all groups together.
            listed: Columns token, modality, neighbour.

        Raises:
            ArtefactError: The groups together do not give these vectors.
        """
        ours = np.array([table.find(token) for token in listed["token"]])
        both = zip(listed["modality"], listed["neighbour"], strict=True)
        theirs = np.array([table.rows[key] for key in both])

        def cosines(counts: Counts) -> np.ndarray:
            units = embed_tokens(counts, self.settings).table.units
            return np.asarray((units[ours] * units[theirs]).sum(axis=1))

        self._refuse_others(table)
        found = jackknife(self.counts, cosines)
        said = (table.units[ours] * table.units[theirs]).sum(axis=1)
        if not np.allclose(found.value, said, rtol=0, atol=_TOLERANCE):
            raise self._others("cosines of the sum differ from those of the vectors")
        facts = {
            "method": "delete-a-group jackknife of the neighbours' cosines",
            "groups": found.groups,
            "error_of_the_error": 1 / math.sqrt(2 * (found.groups - 1)),
        }
        return np.round(found.error, 4), facts

    def _refuse_others(self, table: TokenVectors) -> None:
        words = self.counts[0].vocabularies
        tokens = {(name, token) for name in words for token in words[name].tokens}
        if tokens != set(table.rows):
            raise self._others(f"{len(tokens)} tokens, the vectors {len(table.rows)}")

    def _others(self, got: str) -> ArtefactError:
        return ArtefactError(
            "the groups together are not the patients of these vectors",
            where=self.folder,
            got=got,
            expected="counts of all groups, each patient in one, over one vocabulary",
            fix="merge the groups (medmcl cooccur merge), embed the sum, and evaluate that",
        )


def open_groups(vectors: Path, groups: Sequence[Path]) -> Groups:
    """Groups for standard errors of an embedded folder.

    Args:
        vectors: Folder that ``cooccur embed`` wrote.
        groups: Folders of exact counts, two or more.

    Raises:
        ArtefactError: A folder is no such thing, groups cannot be added or were released, or their
            sum is not what the vectors say of their counts.
    """
    facts = read_facts(vectors)
    if "merged" in facts:
        raise ArtefactError(
            "merged embeddings have no counts that groups could be left out of",
            where=vectors,
            fix="evaluate an embedding of one set of counts",
        )
    if len(groups) < 2:
        raise ArtefactError(
            "a jackknife leaves out one group at a time",
            got=f"{len(groups)} group",
            expected="two groups or more, ten are better",
            fix="name each group: --groups A --groups B ...",
        )
    counts = tuple(one for _, one in open_sites(groups))
    for folder, one in zip(groups, counts, strict=True):
        if one.is_released:
            raise ArtefactError(
                "is a release, of which nothing can be taken away exactly",
                where=folder,
                expected="exact counts of each group, which stay at the site",
            )
    pooled = merge(*groups)
    opened = Groups(vectors, counts, _settings(facts, vectors))
    if facts.get("totals") != pooled.totals:
        raise opened._others(f"totals {pooled.totals}, the vectors say {facts.get('totals')}")
    return opened


def _settings(facts: Mapping[str, Any], vectors: Path) -> EmbedSettings:
    missing = [key for key in _SETTINGS if key not in facts]
    if missing:
        raise ArtefactError(
            f"embedding.json does not say: {', '.join(missing)}",
            where=vectors,
            fix="embed the counts again: medmcl cooccur embed COUNTS --out FOLDER",
        )
    return check(EmbedSettings, {key: facts[key] for key in _SETTINGS}, vectors, ArtefactError)
