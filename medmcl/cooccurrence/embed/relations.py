"""Known relations between codes and concepts, and random pairs to set them against.

The test of an embedding that needs no patient: are related tokens more alike (cosine) than random
pairs of the same types (a disease and a drug, say)? Source of the test: Cai et al., arXiv
2403.14926, section 6.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from medmcl.cooccurrence.embed.token_vectors import TokenVectors
from medmcl.core.errors import AGAIN, CohortError, damage
from medmcl.core.limits import refuse_large_parquet
from medmcl.core.path_suggestions import require_file
from medmcl.core.plain_text import encoding_fix, refuse_unsound_text, separator_fix
from medmcl.core.rng import numpy_generator

_TRIES = 200
_NEAREST = 5


@dataclass(frozen=True)
class Relations:
    """Pairs of tokens, as rows of a table of vectors.

    Attributes:
        first: Row of one token, (m,).
        second: Row of the other, (m,).
        kinds: Name of each relation, (m,).
        unknown: Pairs that were given and left out: a token is not in the table, or not embedded.
        repeated: Pairs that were given and left out: named before (in either order), or of a token
            with itself.
    """

    first: np.ndarray
    second: np.ndarray
    kinds: np.ndarray
    unknown: int = 0
    repeated: int = 0

    def __len__(self) -> int:
        return len(self.first)


Named = tuple[str, str, str]
"""Two tokens, and the name of their relation."""


def read_pairs(path: Path) -> Iterator[Named]:
    """Read pairs from CSV, TSV or parquet: columns first, second, and relation if there is one.

    Raises:
        CohortError: If the file cannot be read, or has not these columns.
    """
    given = read_columns(path, ("first", "second"), "first, second and, if you like, relation")
    kinds = given["relation"] if "relation" in given else ["related"] * len(given)
    return zip(given["first"], given["second"], kinds, strict=True)


def pairs_of_parents(
    parents: Mapping[str, Sequence[str]], kind: Literal["parent", "sibling"] = "sibling"
) -> Iterator[Named]:
    """Pairs from a code hierarchy, as MEDS ``codes.parquet`` has it in ``parent_codes``.

    Args:
        parents: Code to its parents.
        kind: ``parent``: a code and its parent; ``sibling``: two codes of one parent.
    """
    if kind == "parent":
        return ((code, parent, kind) for code, above in parents.items() for parent in above)
    families: dict[str, list[str]] = {}
    for code, above in parents.items():
        for parent in above:
            families.setdefault(parent, []).append(code)
    both = (pair for members in families.values() for pair in combinations(members, 2))
    return ((one, other, kind) for one, other in both)


def relations_of(pairs: Iterable[Named], table: TokenVectors) -> Relations:
    """Relations from (token, token, relation); what cannot be used is counted."""
    embedded = table.embedded
    seen: set[tuple[int, int, str]] = set()
    kept: list[tuple[int, int, str]] = []
    unknown = repeated = 0
    for one, other, kind in pairs:
        a, b = table.find(one), table.find(other)
        if a is None or b is None or not (embedded[a] and embedded[b]):
            unknown += 1
            continue
        key = (min(a, b), max(a, b), kind)
        if a == b or key in seen:
            repeated += 1
            continue
        seen.add(key)
        kept.append((a, b, kind))
    return Relations(
        np.array([a for a, _, _ in kept], dtype=np.int64),
        np.array([b for _, b, _ in kept], dtype=np.int64),
        np.array([k for _, _, k in kept], dtype=str),
        unknown,
        repeated,
    )


def code_system(modality: str, token: str) -> str:
    """Type of a token where nothing better is known: its modality and what stands before ``//``."""
    return f"{modality}/{re.split('//', token, maxsplit=1)[0]}" if "//" in token else modality


def token_types(
    table: TokenVectors, type_of: Callable[[str, str], str] = code_system
) -> np.ndarray:
    """Type of every token, (d,)."""
    both = zip(table.modalities, table.tokens, strict=True)
    return np.array([type_of(modality, token) for modality, token in both])


def random_pairs(
    relations: Relations, types: np.ndarray, embedded: np.ndarray, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """For each relation a random one of the same types: the second token is swapped.

    The first token stays, so that a token that is alike to everything gains nothing. (The paper
    draws both at random.) A drawn pair is in no known relation and has two different tokens.

    Args:
        relations: Known ones.
        types: Of every token, (d,).
        embedded: Which tokens may be drawn, (d,).
        seed: Of the draws.

    Returns:
        The second tokens, (m,), and which of them exist, (m,): none does where a token is related
        to all of a type.
    """
    rng = numpy_generator(seed, "random pairs")
    size = len(types)
    known = np.unique(
        np.concatenate(
            [
                relations.first * size + relations.second,
                relations.second * size + relations.first,
            ]
        )
    )
    members = {t: np.flatnonzero((types == t) & embedded) for t in np.unique(types)}
    drawn = np.full(len(relations), -1)
    for kind, candidates in members.items():
        open_rows = np.flatnonzero(types[relations.second] == kind)
        for _ in range(_TRIES):
            if not len(open_rows) or not len(candidates):
                break
            tried = rng.choice(candidates, size=len(open_rows))
            anchor = relations.first[open_rows]
            good = (tried != anchor) & ~np.isin(anchor * size + tried, known)
            drawn[open_rows[good]] = tried[good]
            open_rows = open_rows[~good]
    return drawn, drawn >= 0


def cosines(table: TokenVectors, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine of each pair of rows, (m,); higher = more alike."""
    return np.einsum("ij,ij->i", table.units[first], table.units[second])


def neighbours(
    table: TokenVectors, token: str, number: int = 10, modality: str | None = None
) -> list[tuple[str, str, float]]:
    """The tokens most like one: (modality, token, cosine), most alike first.

    Args:
        table: Vectors.
        token: Of any modality.
        number: How many.
        modality: Only tokens of this one.

    Raises:
        CohortError: If the token is unknown or has no embedding.
    """
    row = table.find(token)
    if row is None:
        near = get_close_matches(token, table.tokens, n=_NEAREST, cutoff=0.5)
        raise CohortError(
            f"there is no token '{token}'",
            got=f"{len(table.tokens):,} tokens" + (f"; nearest: {', '.join(near)}" if near else ""),
            expected="a token as it stands in vectors.parquet, prefix and capitals included",
        )
    if not table.embedded[row]:
        raise CohortError(
            f"the token '{token}' has no embedding",
            fix="it never occurred together with another, or its association is 0 with all others; "
            "ask for another token",
        )
    alike = table.units @ table.units[row]
    allowed = table.embedded.copy()
    allowed[row] = False
    if modality is not None:
        allowed &= np.array(table.modalities) == modality
    places = np.flatnonzero(allowed)
    best = places[np.argsort(-alike[places], kind="stable")[:number]]
    return [(table.modalities[i], table.tokens[i], float(alike[i])) for i in best]


def read_columns(path: Path, columns: Sequence[str], expected: str) -> pd.DataFrame:
    """Read a table of texts: CSV, TSV or parquet.

    Args:
        path: The file.
        columns: That it must have.
        expected: What an error says of them.

    Raises:
        CohortError: If the file cannot be read, or has not these columns.
    """
    require_file(path, CohortError)
    with damage(path, error=CohortError, fix=encoding_fix(path) or AGAIN):
        if path.suffix == ".parquet":
            refuse_large_parquet(path, error=CohortError)
            given = pd.read_parquet(path)
        else:
            refuse_unsound_text(path, error=CohortError)
            given = pd.read_csv(path, sep="\t" if ".tsv" in path.suffixes else ",", dtype=str)
    missing = [name for name in columns if name not in given]
    if missing:
        raise CohortError(
            f"has no column {' and '.join(missing)}",
            where=path,
            got=", ".join(map(str, given.columns)),
            expected=expected,
            fix=separator_fix(given.columns),
        )
    return given.astype(str)
