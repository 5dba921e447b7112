"""Derivability: what linear programming finds of suppressed cells in random series of releases.

    python -m benchmarks.privacy.derivable [--series N] [--quick]

Three to six sites with few patients, some of whom have very much, are summed and released by threshold, three
random sums a series. Somebody holds all that was published and solves for what was not: each cell
of each site is an unknown of at least 0, each published cell and margin an equation. An absent
cell, zeros among them, or a site's cell in a sum, is recovered if its least and its largest value
are the same. In one hospital, of which some wards are counted each time, so that releases overlap, it
is the cells of fewer patients than the threshold, or of none, that a release has more than another.
The same series without the register, and with margins as they were counted, show that the attack works.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
from scipy.optimize import linprog

from benchmarks.study import Row, Study, percent, table
from medmcl.cooccurrence import Vocabulary, count_tokens, load_counts
from medmcl.cooccurrence.count.counts import Counts, Provenance
from medmcl.cooccurrence.count.people import people_of_subjects
from medmcl.cooccurrence.release.register import Register
from medmcl.cooccurrence.release.release import release_threshold
from medmcl.core.errors import ArtefactError

D1, D2, LEAST = 4, 3, 11
ASKED = 3
WAYS = {
    "as it is": (True, False, False),
    "as it is, wards of one hospital": (True, False, True),
    "each release by itself (no register)": (False, False, False),
    "the same, wards of one hospital": (False, False, True),
    "margins as they were counted": (True, True, False),
}
"""Whether there is a register, margins are those that were counted, and sites are wards."""
Tables = list[np.ndarray]
Published = tuple[tuple[int, ...], np.ndarray, np.ndarray, np.ndarray]
"""Sites of a sum, its released cells (0: absent), row sums and column sums."""


def ward(generator: np.random.Generator) -> Tables:
    n = int(generator.integers(15, 70))
    x = [generator.poisson(generator.uniform(0.1, 0.9), (n, d)) for d in (D1, D2)]
    for one in x:
        one[generator.random(one.shape) < 0.01] = 30
    return x


def counted(wards: Sequence[Tables], numbers: Sequence[int]) -> Counts:
    """Wards as the counts of one hospital, whose patients have names."""
    words = {
        name: Vocabulary(tuple(f"{name}:{k}" for k in range(d)), "public")
        for name, d in (("codes", D1), ("concepts", D2))
    }
    x = [np.concatenate(tables) for tables in zip(*wards, strict=True)]
    names = [f"{k} {n}" for k, one in zip(numbers, wards, strict=True) for n in range(len(one[0]))]
    found = count_tokens(*x, vocabularies=words)
    return replace(found, provenance=Provenance(people=people_of_subjects(names)))


def publish(
    sites: Sequence[Tables],
    sums: Sequence[tuple[int, ...]],
    folder: Path,
    way: tuple[bool, bool, bool],
) -> list[Published]:
    """What leaves of some sums, as it is read by whoever gets it."""
    remembers, as_counted, pooled = way
    found: list[Published] = []
    for number, chosen in enumerate(sums):
        exact = (
            counted([sites[k] for k in chosen], chosen)
            if pooled
            else sum(counted([sites[k]], [k]) for k in chosen)
        )
        assert isinstance(exact, Counts)
        register = Register(folder / (f"register{0 if remembers else number}"))
        try:
            release = release_threshold(exact, LEAST, public_vocabulary=True, register=register)
            read = load_counts(release.save(folder / f"release{number}"))
        except ArtefactError:
            continue
        cells = read.D.toarray()
        margins = [read.margins[name].tokens for name in ("codes", "concepts")]
        if as_counted:
            margins = [exact.D.toarray().sum(axis=axis) for axis in (1, 0)]
        found.append((chosen, cells, margins[0], margins[1]))
    return found


def width(found: Sequence[Published], sites: int, unknown: np.ndarray) -> float:
    """Largest less least value of a sum of unknowns, (sites, D1, D2) of 0 and 1."""
    rows, values = [], []
    for chosen, cells, first, second in found:
        member = np.isin(np.arange(sites), chosen)[:, None, None]
        places = [(i, j) for i in range(D1) for j in range(D2)]
        masks = [(np.ones((D1, D2), dtype=bool) & mask_of(i, j), cells[i, j]) for i, j in places
                 if cells[i, j]]  # fmt: skip
        masks += [(mask_of(i, None), first[i]) for i in range(D1) if first[i] != cells[i].sum()]
        masks += [
            (mask_of(None, j), second[j]) for j in range(D2) if second[j] != cells[:, j].sum()
        ]
        for mask, value in masks:
            rows.append((member & mask[None]).ravel())
            values.append(value)
    ends = []
    for sign in (1, -1):
        done = linprog(sign * unknown.ravel(), A_eq=np.array(rows, dtype=float), b_eq=values,
                       bounds=(0, None), method="highs")  # fmt: skip
        if done.status == 3:  # no bound at all
            return float("inf")
        ends.append(sign * done.fun)
    return float(ends[1] - ends[0])


def mask_of(i: int | None, j: int | None) -> np.ndarray:
    """A cell, a row or a column."""
    mask = np.zeros((D1, D2), dtype=bool)
    mask[slice(None) if i is None else i, slice(None) if j is None else j] = True
    return mask


def look(sites: Sequence[Counts], found: Sequence[Published], *, pooled: bool = False) -> Row:
    """How many absent cells, and cells of a site in a sum (of a difference), are recovered."""
    row = {"suppressed": 0, "suppressed_found": 0, "site_cells": 0, "site_cells_found": 0}
    truth = np.array([one.D.toarray() for one in sites])
    alone = {chosen for chosen, *_ in found if len(chosen) == 1}
    summed = {site for chosen, *_ in found for site in chosen if (site,) not in alone}
    targets = [
        ("suppressed", np.isin(np.arange(len(sites)), chosen)[:, None, None] & mask_of(i, j)[None])
        for chosen, cells, *_ in found
        for i, j in zip(*np.nonzero(cells == 0), strict=True)
    ]
    wanted = [((site,), truth[site] >= 0) for site in sorted(summed)]
    if pooled:
        people = np.array([one.cross().patients.toarray() for one in sites])
        less = {tuple(k for k in one if k not in other) for one, *_ in found for other, *_ in found}
        wanted = [(one, people[list(one)].sum(axis=0) < LEAST) for one in sorted(less - {()})]
    targets += [
        ("site_cells", np.isin(np.arange(len(sites)), chosen)[:, None, None] & mask_of(i, j)[None])
        for chosen, asked in wanted
        for i, j in zip(*np.nonzero(asked), strict=True)
    ]
    for kind, unknown in targets:
        row[kind] += 1
        row[f"{kind}_found"] += width(found, len(sites), unknown.astype(float)) < 0.5
    return row


def run(given: argparse.Namespace) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, patch.dict("os.environ", MEDMCL_REGISTER=folder):
        return tried(10 if given.quick else given.series)


def tried(series: int) -> list[Row]:
    """Each way to release of each series."""
    totals = {way: dict.fromkeys(("series", "asked", "released"), 0) for way in WAYS}
    for seed in range(series):
        generator = np.random.default_rng(seed)
        sites = [ward(generator) for _ in range(generator.integers(3, 7))]
        exact = [counted([one], [k]) for k, one in enumerate(sites)]
        sums = [
            tuple(sorted(generator.choice(len(sites), generator.integers(1, len(sites) + 1), False)))
            for _ in range(ASKED)
        ]  # fmt: skip
        for name, way in WAYS.items():
            with tempfile.TemporaryDirectory() as folder:
                found = publish(sites, sums, Path(folder), way)
                row = {
                    "series": 1,
                    "asked": ASKED,
                    "released": len(found),
                    **look(exact, found, pooled=way[2]),
                }
            totals[name] = {key: totals[name].get(key, 0) + value for key, value in row.items()}
        if seed % 20 == 19:
            print(seed + 1, totals)
    return [{"way": name, **values} for name, values in totals.items()]


def parts(rows: list[Row]) -> dict[str, str]:
    shown = [
        {**row, "share": row["suppressed_found"] / row["suppressed"],
         "site_share": row["site_cells_found"] / row["site_cells"]}
        for row in rows
    ]  # fmt: skip
    columns = {
        "releases": "way",
        "series": "series",
        "sums asked for": "asked",
        "released": "released",
        "absent cells": "suppressed",
        "recovered": "suppressed_found",
        "share": percent("share", 1),
        "sites' cells, or small ones of differences": "site_cells",
        "recovered of these": "site_cells_found",
        "their share": percent("site_share", 1),
    }
    first, wards = rows[:2]
    return {
        "derivable": table(columns, shown),
        "derivable found": f"{first['suppressed_found']} of {first['suppressed']:,}",
        "derivable sites": f"{first['site_cells_found']} of {first['site_cells']:,}",
        "derivable wards": f"{wards['site_cells_found']} of {wards['site_cells']:,}",
    }


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--series", type=int, default=70, help="of three sums each")


STUDY = Study(__file__, parts=parts, run=run, options=options, page="privacy", quick=True)

if __name__ == "__main__":
    STUDY.main()
