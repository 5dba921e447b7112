"""A map of codes and concepts: near = alike, coloured by family, one marker a modality."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medmcl.cooccurrence.embed.token_vectors import TokenVectors
from medmcl.core.errors import CohortError
from medmcl.evaluation.report.pictures import COLOURS, MARKERS, PAGE, canvas, shorten, style
from medmcl.evaluation.report.training.embedding_figures import project

OTHERS = "#BBBBBB"
_FAMILIES = len(COLOURS) - 1
"""The last of the colours is a grey, too near to that of the others."""


def draw_map(table: TokenVectors, families: Mapping[str, str], path: Path, *, seed: int = 0) -> int:
    """Write the map of all tokens that have a vector (at most 1,500, evenly spaced).

    Args:
        table: Vectors.
        families: Token to family; the seven largest get colours, all others are grey.
        path: File to write; SVG, PNG or PDF by its ending.
        seed: Of the map.

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
        figure.savefig(path, dpi=150, metadata={dated: None} if dated else None)
    return len(rows)
