"""The factorised table: a vector for every code and concept, saved as parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from medmcl.core.errors import ArtefactError
from medmcl.core.sealed import reading

COLUMNS = ("token", "modality", "vector")


@dataclass(frozen=True)
class TokenVectors:
    """Embeddings of the tokens of all modalities, in one space.

    Attributes:
        tokens: Codes and concepts; a token may stand once in each modality.
        modalities: Of each token.
        vectors: Float64 (d, p); zeros where a token has no embedding (it never paired).
    """

    tokens: tuple[str, ...]
    modalities: tuple[str, ...]
    vectors: np.ndarray

    def __post_init__(self) -> None:
        if not len(self.tokens) == len(self.modalities) == len(self.vectors):
            raise ArtefactError(
                "tokens, modalities and vectors differ in number",
                got=f"{len(self.tokens)}, {len(self.modalities)} and {len(self.vectors)}",
            )
        if len(self.rows) < len(self.tokens):
            raise ArtefactError("a token stands twice in its modality", expected="each once")

    @cached_property
    def rows(self) -> dict[tuple[str, str], int]:
        """Row of each (modality, token)."""
        both = zip(self.modalities, self.tokens, strict=True)
        return {key: row for row, key in enumerate(both)}

    @cached_property
    def units(self) -> np.ndarray:
        """Vectors of length 1, zeros where there is none; dot products are cosines. (d, p)."""
        lengths = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        return np.divide(self.vectors, lengths, out=np.zeros_like(self.vectors), where=lengths > 0)

    @property
    def embedded(self) -> np.ndarray:
        """Which tokens have an embedding, (d,)."""
        return np.asarray(self.vectors.any(axis=1))

    def find(self, token: str) -> int | None:
        """Row of a token, whatever its modality; None if it is unknown.

        Raises:
            ArtefactError: If several modalities have it.
        """
        found = self._anywhere.get(token, [])
        if len(found) > 1:
            raise ArtefactError(
                f"several modalities have the token '{token}'",
                got=", ".join(self.modalities[row] for row in found),
                expected="tokens that tell modalities apart, as CUI//C0003873 does",
            )
        return found[0] if found else None

    @cached_property
    def _anywhere(self) -> dict[str, list[int]]:
        places: dict[str, list[int]] = {}
        for row, token in enumerate(self.tokens):
            places.setdefault(token, []).append(row)
        return places

    @classmethod
    def join(
        cls, tokens: Mapping[str, Sequence[str]], vectors: Mapping[str, np.ndarray]
    ) -> TokenVectors:
        """Put modalities below one another.

        Args:
            tokens: Of each modality.
            vectors: Of each modality, (d, p), all with the same p.
        """
        names = list(tokens)
        return cls(
            tuple(t for n in names for t in tokens[n]),
            tuple(n for n in names for _ in tokens[n]),
            np.concatenate([np.asarray(vectors[n], dtype=np.float64) for n in names]),
        )

    def save(self, path: Path) -> None:
        """Write parquet with the columns token, modality, vector."""
        width = self.vectors.shape[1]
        flat = pa.array(self.vectors.reshape(-1))
        table = {
            "token": pa.array(self.tokens, pa.string()),
            "modality": pa.array(self.modalities, pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(flat, width),
        }
        pq.write_table(pa.table(table), path)

    @classmethod
    def load(cls, path: Path) -> TokenVectors:
        """Read what `save` wrote.

        Raises:
            ArtefactError: If the file is no such table.
        """
        with reading(path, "is no parquet file that can be read"):
            table = pq.read_table(path)
        kinds = [table.schema.field(c).type for c in COLUMNS if c in table.column_names]
        if len(kinds) < len(COLUMNS) or not pa.types.is_fixed_size_list(kinds[2]):
            raise ArtefactError(
                "is no table of token vectors",
                where=path,
                got=", ".join(f"{f.name}: {f.type}" for f in table.schema),
                expected="token: string, modality: string, vector: fixed_size_list<double>",
            )
        vectors = table["vector"].combine_chunks()
        return cls(
            tuple(table["token"].to_pylist()),
            tuple(table["modality"].to_pylist()),
            vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, kinds[2].list_size),
        )
