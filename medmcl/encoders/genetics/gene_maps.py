"""Which variant lies in which gene, which gene belongs to which pathway or acts on which gene.

Maps are read from tables as people have them: csv, tsv or parquet, GMT, and folders of node and
edge tables, one pair a pathway, as they are drawn from WikiPathways.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from medmcl.core.config import nearest
from medmcl.core.errors import ConfigError
from medmcl.core.plain_text import text_lines
from medmcl.data.tables.files import as_text, read_table, texts

GENE_TYPES = frozenset({"geneproduct", "protein", "rna"})
"""Types of a node that are a gene; the others are metabolites, pathways and labels."""
_NODES, _EDGES = "_nodes.csv", "_edges.csv"


@dataclass(frozen=True)
class Links:
    """Pairs (from, to) between two lists of names, each once, in order.

    Attributes:
        pairs: Numbers, (E, 2) int64.
        names: Names on the second side.
        unlinked: Names on the first side without any pair.
    """

    pairs: np.ndarray
    names: tuple[str, ...]
    unlinked: int


def link_variants(
    variants: Sequence[str],
    places: Sequence[str],
    snp_gene: Path | None,
    genes: Path | None,
    window_kb: float,
) -> Links:
    """Link variants to genes: by a table of pairs, or by where both lie.

    Args:
        variants: Their ids. (V,)
        places: Chromosome and position of each, ``10:101955``. (V,)
        snp_gene: Table with the columns ``snp`` and ``gene``.
        genes: Table with ``gene``, ``chromosome``, ``start`` and ``end``, of the same genome build.
        window_kb: A variant so far outside a gene still belongs to it.

    Raises:
        ConfigError: Not exactly one table, columns that are missing, or no variant in any gene.
    """
    if (snp_gene is None) == (genes is None):
        raise ConfigError(
            "variants are linked to genes by one table",
            got="none" if genes is None else "both snp_gene and genes",
            expected="snp_gene: (columns snp, gene), or genes: (gene, chromosome, start, end)",
        )
    if snp_gene is not None:
        frame = _table(snp_gene, ("snp", "gene"))
        known = set(variants)
        found = [(s, g) for s, g in _pairs(frame, "snp", "gene") if s in known and g]
        where = snp_gene
    else:
        assert genes is not None
        found = _by_place(variants, places, genes, window_kb)
        where = genes
    if not found:
        raise ConfigError(
            "no variant lies in any gene", where=where,
            got=f"variants such as {variants[0]} at {places[0] if places else '?'}",
            fix="check the ids, or the genome build of the positions",
        )  # fmt: skip
    return _links(found, variants, sorted({gene for _, gene in found}))


def _by_place(
    variants: Sequence[str], places: Sequence[str], path: Path, window_kb: float
) -> list[tuple[str, str]]:
    if not places:
        raise ConfigError(
            "the places of the variants are not known", where=path,
            fix="name a table of pairs: snp_gene",
        )  # fmt: skip
    frame = _table(path, ("gene", "chromosome", "start", "end"))
    chromosomes = np.array([place.rpartition(":")[0] for place in places], dtype=object)
    positions = np.array([int(place.rpartition(":")[2]) for place in places])
    found = []
    bounds = frame[["start", "end"]].to_numpy(np.float64)
    for (gene, chromosome), (start, end) in zip(
        _pairs(frame, "gene", "chromosome"), bounds, strict=True
    ):
        if not gene:
            continue
        inside = (chromosomes == chromosome.upper().removeprefix("CHR")) & (positions > 0)
        inside &= positions >= start - 1000 * window_kb
        inside &= positions <= end + 1000 * window_kb
        found += [(variants[row], gene) for row in np.flatnonzero(inside).tolist()]
    return found


def link_pathways(genes: Sequence[str], path: Path) -> Links:
    """Link genes to pathways.

    Args:
        genes: Their names.
        path: A GMT file; a table with ``gene`` and ``pathway``; or a folder of node tables
            (``NAME_nodes.csv`` with ``label`` and ``type``), one a pathway.

    Raises:
        ConfigError: Columns that are missing, or no gene in any pathway.
    """
    if path.is_dir():
        pairs = list(_of_folder(path))
    elif path.suffix == ".gmt":
        pairs = list(_of_gmt(path))
    else:
        pairs = _pairs(_table(path, ("gene", "pathway")), "gene", "pathway")
    known = set(genes)
    found = [pair for pair in pairs if pair[0] in known and pair[1]]
    if not found:
        raise ConfigError(
            "no gene lies in any pathway", where=path,
            got=f"genes such as {', '.join(genes[:3])}; in pathways "
            f"{', '.join([gene for gene, _ in pairs[:3]]) or 'none'}",
            fix="both must use the same names (symbols, Ensembl or Entrez ids)",
        )  # fmt: skip
    return _links(found, genes, sorted({pathway for _, pathway in found}))


def link_genes(genes: Sequence[str], path: Path) -> Links:
    """Link genes that act on one another, both ways, and each to itself.

    Args:
        genes: Their names.
        path: A table of edges whose first two columns are genes (``protein1 protein2`` of STRING,
            mapped to the same names), or a folder of edge tables (``NAME_edges.csv`` with
            ``source_label`` and ``target_label``).

    Raises:
        ConfigError: Columns that are missing.
    """
    if path.is_dir():
        frames = [_table(file, ("source_label", "target_label")) for file in _files(path, _EDGES)]
        edges = [e for frame in frames for e in _pairs(frame, "source_label", "target_label")]
    else:
        frame = _table(path, ())
        edges = _pairs(frame, *map(str, frame.columns[:2]))
    known = set(genes)
    inside = [(a, b) for a, b in edges if a in known and b in known and a != b]
    both = [*inside, *((b, a) for a, b in inside)]
    linked = _links([*both, *((gene, gene) for gene in genes)], genes, list(genes))
    alone = len(known - {gene for pair in both for gene in pair})
    return Links(linked.pairs, linked.names, alone)


def _links(found: Iterable[tuple[str, str]], first: Sequence[str], second: Sequence[str]) -> Links:
    left = {name: number for number, name in enumerate(first)}
    right = {name: number for number, name in enumerate(second)}
    pairs = sorted({(left[a], right[b]) for a, b in found})
    unlinked = len(first) - len({a for a, _ in pairs})
    return Links(np.array(pairs, dtype=np.int64).reshape(-1, 2), tuple(second), unlinked)


def _of_gmt(path: Path) -> Iterable[tuple[str, str]]:
    for number, line in enumerate(text_lines(path, "table", ConfigError), 1):
        name, *rest = line.split("\t")
        if line.strip() and len(rest) < 2:
            raise ConfigError(
                "is no line of a GMT file", where=f"{path}, line {number}", got=line[:60],
                expected="pathway, description and genes, with tabs between",
            )  # fmt: skip
        yield from ((gene.strip(), name) for gene in rest[1:] if gene.strip())


def _of_folder(path: Path) -> Iterable[tuple[str, str]]:
    for file in _files(path, _NODES):
        frame = _table(file, ("label", "type"))
        is_gene = frame["type"].astype(str).str.lower().isin(GENE_TYPES)
        pathway = file.name.removesuffix(_NODES)
        yield from ((as_text(gene), pathway) for gene in frame["label"][is_gene].dropna())


def _files(path: Path, end: str) -> list[Path]:
    files = sorted(path.glob(f"*{end}"))
    if not files:
        raise ConfigError("the folder has no such table", where=path, expected=f"NAME{end}")
    return files


def _table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    frame = read_table(path.parent, path.name).frame
    for name in columns:
        if name not in frame.columns:
            raise ConfigError(
                f"the table has no column '{name}'{nearest(name, map(str, frame.columns))}",
                where=path, expected=", ".join(columns),
            )  # fmt: skip
    if len(frame.columns) < 2:
        raise ConfigError("the table has one column only", where=path)
    return frame


def _pairs(frame: pd.DataFrame, first: str, second: str) -> list[tuple[str, str]]:
    """Rows of two columns as text; an empty cell is an empty text, which names nothing."""
    left, right = ([cell or "" for cell in texts(frame[name])] for name in (first, second))
    return list(zip(left, right, strict=True))
