"""`medmcl cooccur evaluate`: related pairs, relevance, neighbours and a map of an embedding.

On the map of codes and concepts near = alike; colours are families, markers modalities.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from medmcl.cooccurrence.count.counts import Counts
from medmcl.cooccurrence.embed.embed import EmbedSettings, embed_tokens
from medmcl.cooccurrence.embed.jackknife import jackknife
from medmcl.cooccurrence.embed.relations import (
    code_system,
    neighbours,
    pairs_of_parents,
    read_columns,
    read_pairs,
    relations_of,
)
from medmcl.cooccurrence.embed.token_vectors import TokenVectors
from medmcl.cooccurrence.exchange.merging import merge, open_sites
from medmcl.core.atomic import file_aside, write_atomically
from medmcl.core.config import check
from medmcl.core.errors import ArtefactError, CohortError, ConfigError, damage
from medmcl.core.file_lock import one_writer
from medmcl.core.path_suggestions import require_file
from medmcl.core.writing import refuse_unwritable
from medmcl.evaluation.report.pictures import COLOURS, MARKERS, PAGE, canvas, shorten, style
from medmcl.evaluation.report.training.embedding_figures import project
from medmcl.stages.cooccur.embed import ONE_DIMENSION, read_facts
from medmcl.stages.cooccur.relations import score_relations, score_relevance
from medmcl.stages.run.outputs import claim_names, write_table

SCORES, NEIGHBOURS, MAP = "evaluation.json", "neighbours.csv", "map.svg"


@one_writer("an evaluation is being written", filled=True)
def evaluate(
    table: TokenVectors,
    out: Path,
    *,
    relations: Path | None = None,
    hierarchy: Path | None = None,
    relevance: Path | None = None,
    types: Path | None = None,
    neighbours_of: Sequence[str] = (),
    groups: Groups | None = None,
    draws: int = 1000,
    seed: int = 0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Score an embedding and write ``evaluation.json``, ``neighbours.csv`` and ``map.svg``.

    Args:
        table: Vectors.
        out: Folder to write.
        relations: Known pairs: first, second, relation (CSV, TSV, parquet).
        hierarchy: MEDS ``codes.parquet``: code, parent_codes. Parents and siblings are scored as
            relations, and first parents colour the map.
        relevance: CSV: query, candidate, relevance.
        types: CSV: token, type. Random pairs have the types of known ones; if not given, a type is
            the modality and what stands before ``//``.
        neighbours_of: Tokens whose ten neighbours are listed.
        groups: Counts of groups of the patients behind the vectors, for standard errors of the
            neighbours' cosines.
        draws: Of the bootstraps.
        seed: Of random pairs, bootstraps and the map.
        overwrite: Write over an evaluation that is there.

    Returns:
        What stands in ``evaluation.json``.

    Raises:
        ConfigError: If there is nothing to do.
        CohortError: If a file cannot be used, or a token to list neighbours of has no vector.
        ArtefactError: If an evaluation is there already.
    """
    if not (relations or hierarchy or relevance or neighbours_of):
        raise ConfigError(
            "nothing to evaluate",
            expected="relations, a hierarchy, a relevance file, or tokens to list neighbours of",
            fix="add --relations FILE, --hierarchy FILE, --relevance FILE or --neighbours TOKEN",
        )
    if groups is not None and not neighbours_of:
        raise ConfigError(
            "standard errors are those of neighbours, and no token to list them of is named",
            fix="add --neighbours TOKEN",
        )
    refuse_unwritable(out)
    claim_names(out, (SCORES, NEIGHBOURS, MAP), "an evaluation", overwrite=overwrite)
    listed = _neighbours(table, neighbours_of)  # before minutes of scoring
    found: dict[str, Any] = {}
    if table.vectors.shape[1] == 1:
        found["warnings"] = [ONE_DIMENSION]
    if groups is not None:
        listed["standard_error"], found["standard_errors"] = groups.errors(table, listed)
    parents = {} if hierarchy is None else read_parents(hierarchy)
    known = chain(
        read_pairs(relations) if relations else (),
        pairs_of_parents(parents, "parent"),
        pairs_of_parents(parents, "sibling"),
    )
    files = [path.name for path in (relations, hierarchy) if path is not None]
    if files:
        given = relations_of(known, table)
        type_of = code_system if types is None else _types_of(types)
        scores = score_relations(table, given, type_of=type_of, draws=draws, seed=seed)
        found["relations"] = {
            "files": files,
            "scores": [asdict(score) for score in scores],
            "left_out_unknown": given.unknown,
            "left_out_repeated": given.repeated,
        }
    if relevance is not None:
        scored = score_relevance(table, relevance, draws=draws, seed=seed)
        found["relevance"] = [asdict(one) for one in scored]
    families = {code: above[0] for code, above in parents.items() if above}
    found["on_the_map"] = draw_map(table, families, out / MAP, seed=seed, page=out / SCORES)
    (out / NEIGHBOURS).unlink(missing_ok=True)  # of an evaluation that is written over
    if neighbours_of:
        write_table(listed.set_index(listed.columns[0]), out / NEIGHBOURS)
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    write_atomically(out / SCORES, text)
    return found


def said(found: dict[str, Any]) -> list[str]:
    """What `evaluate` found, a line a score, with what was left out and what is not estimable."""
    lines = [f"warning: {text}" for text in found.get("warnings", ())]
    errors = found.get("standard_errors")
    if errors:
        lines.append(
            f"standard errors of neighbours: {errors['groups']} groups left out one by one, "
            f"themselves good to about {errors['error_of_the_error']:.0%}"
        )
    relations = found.get("relations", {})
    for score in relations.get("scores", ()):
        lines.append(f"{score['kind']}: AUC {_number(score['auc'])}, {score['pairs']} pairs")
        if score["unmatched"]:
            lines.append(f"  {score['unmatched']} pairs left out: no random pair of the same types")
    for key, why in (
        ("left_out_unknown", "a token is not among the vectors, or has none"),
        ("left_out_repeated", "given twice, or of a token with itself"),
    ):
        if relations.get(key):
            named = " and ".join(relations["files"])
            lines.append(f"{relations[key]} pairs of {named} left out: {why}")
    for score in found.get("relevance", ()):
        gone = f", {score['unknown']} candidates left out: no vector" if score["unknown"] else ""
        lines.append(f"{score['query']}: tau {_number(score['tau'])}{gone}")
    return lines


def _number(interval: dict[str, Any]) -> str:
    """A value with its interval, or the reason why there is none."""
    why = interval["note"] or "too few tokens to draw from"
    if interval["value"] is None:
        return f"not estimable ({why})"
    if interval["low"] is None:
        return f"{interval['value']:.3f} (no interval: {why})"
    return f"{interval['value']:.3f} ({interval['low']:.3f} to {interval['high']:.3f})"


def read_parents(path: Path) -> dict[str, list[str]]:
    """Code to its parents, from MEDS ``codes.parquet``.

    Raises:
        CohortError: If the file has not the columns code and parent_codes.
    """
    require_file(path, CohortError)
    what, expected = "is no MEDS codes.parquet", "code, parent_codes"
    with damage(path, what, error=CohortError, expected=expected, fix=None):
        table = pq.read_table(path, columns=["code", "parent_codes"])
    both = zip(table["code"].to_pylist(), table["parent_codes"].to_pylist(), strict=True)
    return {code: [p for p in above or () if p is not None] for code, above in both}


def _types_of(path: Path) -> Any:
    """From modality and token to a type; what the file does not name is of its code system."""
    given = read_columns(path, ("token", "type"), "CSV with columns token, type")
    named = dict(zip(given["token"], given["type"], strict=True))
    return lambda modality, token: named.get(token, code_system(modality, token))


def _neighbours(table: TokenVectors, tokens: Sequence[str]) -> pd.DataFrame:
    rows = [
        (token, rank, modality, other, round(cosine, 4))
        for token in tokens
        for rank, (modality, other, cosine) in enumerate(neighbours(table, token), start=1)
    ]
    columns = ["token", "rank", "modality", "neighbour", "cosine"]
    return pd.DataFrame(rows, columns=columns)


OTHERS = "#BBBBBB"
_FAMILIES = len(COLOURS) - 1
"""The last of the colours is a grey, too near to that of the others."""


def draw_map(
    table: TokenVectors,
    families: Mapping[str, str],
    path: Path,
    *,
    seed: int = 0,
    page: Path | None = None,
) -> int:
    """Write the map of all tokens that have a vector (at most 1,500, evenly spaced).

    Args:
        table: Vectors.
        families: Token to family; the seven largest get colours, all others are grey.
        path: File to write; SVG, PNG or PDF by its ending.
        seed: Of the map.
        page: As of `file_aside`.

    Returns:
        How many tokens it shows.

    Raises:
        CohortError: Fewer than three tokens have a vector.
    """
    embedded = np.flatnonzero(table.embedded)
    if len(embedded) < 3:
        raise CohortError("too few tokens for a map", got=len(embedded), expected="3 with a vector")
    places, shown, how = project(table.units[embedded], seed=seed)
    rows = embedded[shown]
    family = np.array([families.get(table.tokens[row], "") for row in rows])
    largest = Counter(f for f in family.tolist() if f).most_common(_FAMILIES)
    colours = dict(zip(sorted(name for name, _ in largest), COLOURS, strict=False))
    modality = np.array(table.modalities)[rows]
    with style():
        figure, ((axes,),) = canvas(PAGE, 4.6)
        for name, marker in zip(dict.fromkeys(table.modalities), MARKERS, strict=False):
            mine = modality == name
            shades = [colours.get(f, OTHERS) for f in family[mine]]
            axes.scatter(*places[mine].T, s=24, c=shades, marker=marker, linewidths=0)
            axes.scatter([], [], c="black", marker=marker, label=shorten(name))
        for name, shade in colours.items():
            axes.plot([], [], color=shade, linewidth=6, label=shorten(name))
        if not np.isin(family, list(colours)).all():
            axes.plot([], [], color=OTHERS, linewidth=6, label="other")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        axes.axis("off")
        axes.set_title(f"Codes and concepts: near = alike ({how} of cosines)")
        dated = {".svg": "Date", ".pdf": "CreationDate"}.get(path.suffix)
        kind, undated = path.suffix.removeprefix("."), {dated: None} if dated else None
        with file_aside(path, page=page) as aside:
            figure.savefig(aside, dpi=150, format=kind, metadata=undated)
    return len(rows)


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
