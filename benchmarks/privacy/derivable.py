"""Derivability: what linear programming finds of suppressed cells in random series of releases.

    python -m benchmarks.privacy.derivable [--series N] [--quick]

Three to six sites with few patients, some of whom have very much, are summed and released by threshold, three
random sums a series. Somebody holds all that was published and solves for what was not: each cell
of each site is an unknown of at least 0, each published cell and margin an equation. An absent
cell, zeros among them, or a site's cell in a sum, is recovered if its least and its largest value
are the same. In one hospital, of which some wards are counted each time, so that releases overlap, it
is the cells of fewer patients than the threshold, or of none, that a release has more than another,
or than two others. So it is where the same patients are counted each time by the events of other
settings or years: what is unknown then is each pair of two settings; and where codes are of some of
them and concepts of others, in modalities of their own names. Wards may be small, and one of the
sums of sites a secure sum, beside counts of patients who are known.
The same series without the register, and with margins as they were counted, show that the attack works.
"""

from __future__ import annotations

import argparse
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from unittest.mock import patch

import numpy as np
from scipy.optimize import linprog

from benchmarks.study import Row, Study, percent, table
from medmcl.cooccurrence import Vocabulary, count_tokens, load_counts
from medmcl.cooccurrence.count.counts import Counts, Provenance
from medmcl.cooccurrence.count.drawn import DRAWN
from medmcl.cooccurrence.count.people import people_of_subjects
from medmcl.cooccurrence.exchange.secure import site_by_name
from medmcl.cooccurrence.release.register import Register
from medmcl.cooccurrence.release.release import release_threshold
from medmcl.core.errors import ArtefactError

D1, D2, LEAST = 4, 3, 11
ASKED = {"sites": 3, "wards": 3, "events": 4, "small wards": 3, "modalities": 4, "a sum": 3}
"""Sums of a series; of four the combinations have factors up to 2."""
WAYS = {
    "as it is": (True, False, "sites"),
    "as it is, wards of one hospital": (True, False, "wards"),
    "as it is, other events of the same patients": (True, False, "events"),
    "each release by itself (no register)": (False, False, "sites"),
    "the same, wards of one hospital": (False, False, "wards"),
    "the same, other events of the same patients": (False, False, "events"),
    "margins as they were counted": (True, True, "sites"),
    "as it is, small wards of one hospital": (True, False, "small wards"),
    "as it is, codes and concepts of other settings": (True, False, "modalities"),
    "as it is, a secure sum beside counts": (True, False, "a sum"),
    "no register, small wards": (False, False, "small wards"),
    "no register, codes and concepts of other settings": (False, False, "modalities"),
    "no register, a secure sum beside counts": (False, False, "a sum"),
}
"""Whether there is a register, margins are those that were counted, and of what sums are."""
SETTINGS = 3
Tables = list[np.ndarray]
Patients = Callable[[list[int]], np.ndarray]
Published = tuple[tuple[int, ...], np.ndarray, np.ndarray, np.ndarray]
"""Unknowns of a sum, its released cells (0: absent), row sums and column sums."""


def ward(generator: np.random.Generator, least: int = 15, most: int = 70) -> Tables:
    n = int(generator.integers(least, most))
    x = [generator.poisson(generator.uniform(0.1, 0.9), (n, d)) for d in (D1, D2)]
    for one in x:
        one[generator.random(one.shape) < 0.01] = 30
    return x


def counted(
    wards: Sequence[Tables], numbers: Sequence[int], called: tuple[str, str] = ("codes", "concepts")
) -> Counts:
    """Wards as the counts of one hospital, whose patients have names."""
    words = {
        called[k]: Vocabulary(tuple(f"{name}:{k}" for k in range(d)), "public")
        for k, (name, d) in enumerate((("codes", D1), ("concepts", D2)))
    }
    x = [np.concatenate(tables) for tables in zip(*wards, strict=True)]
    names = [f"{k} {n}" for k, one in zip(numbers, wards, strict=True) for n in range(len(one[0]))]
    found = count_tokens(*x, names=called, vocabularies=words)
    return replace(found, provenance=Provenance(people=people_of_subjects(names)))


def hospital(generator: np.random.Generator) -> Tables:
    """Patients with events in each of some settings, (patients, settings, tokens) each."""
    n = int(generator.integers(60, 150))
    x = [
        generator.poisson(generator.uniform(0.02, 0.5, (SETTINGS, d)), (n, SETTINGS, d))
        for d in (D1, D2)
    ]
    for one in x:
        one[generator.random(one.shape) < 0.003] = 30
    return x


def of_settings(patients: Tables, *chosen: Sequence[int]) -> Counts:
    """The counts of all patients by codes of some settings, and concepts of the same or others."""
    first, last = chosen[0], chosen[-1]
    x = [one[:, list(some)].sum(axis=1) for one, some in zip(patients, (first, last), strict=True)]
    drawn = np.zeros(len(x[0]), dtype=DRAWN)  # no dates: names tell who is who
    drawn["content"] = np.arange(len(drawn))
    drawn["record"] = [zlib.crc32(np.ascontiguousarray(row).tobytes()) for row in np.hstack(x)]
    called = ("codes", "concepts") if first is last else (f"codes {first}", f"concepts {last}")
    found = counted([x], [0], called)
    people = people_of_subjects([str(k) for k in range(len(drawn))], drawn)
    return replace(found, provenance=Provenance(people=people))


def across(first: Sequence[int], last: Sequence[int]) -> tuple[int, ...]:
    """Pairs of settings that meet where some are counted: the unknowns."""
    return tuple(SETTINGS * one + other for one, other in product(first, last))


def publish(
    sums: Sequence[tuple[tuple[int, ...], Counts]],
    folder: Path,
    remembers: bool,
    as_counted: bool,
) -> list[Published]:
    """What leaves of some sums, each with its unknowns, as it is read by whoever gets it."""
    found: list[Published] = []
    for number, (chosen, exact) in enumerate(sums):
        register = Register(folder / (f"register{0 if remembers else number}"))
        try:
            release = release_threshold(exact, LEAST, public_vocabulary=True, register=register)
            read = load_counts(release.save(folder / f"release{number}"))
        except ArtefactError:
            continue
        cells = read.D.toarray()
        margins = [read.margins[name].tokens for name in read.vocabularies]
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


def look(truth: np.ndarray, found: Sequence[Published], people: Patients | None = None) -> Row:
    """How many absent cells, and cells of a site in a sum (of a difference), are recovered.

    Args:
        truth: Cells of each unknown, (unknowns, D1, D2).
        found: What was published.
        people: Gives the patients of the cells of some unknowns together, where those that a
            release has more than others are asked for, and not those of each site.
    """
    row = {"suppressed": 0, "suppressed_found": 0, "site_cells": 0, "site_cells_found": 0}
    alone = {chosen for chosen, *_ in found if len(chosen) == 1}
    summed = {site for chosen, *_ in found for site in chosen if (site,) not in alone}
    targets = [
        ("suppressed", np.isin(np.arange(len(truth)), chosen)[:, None, None] & mask_of(i, j)[None])
        for chosen, cells, *_ in found
        for i, j in zip(*np.nonzero(cells == 0), strict=True)
    ]
    wanted = [((site,), truth[site] >= 0) for site in sorted(summed)]
    if people is not None:
        sums = [set(one) for one, *_ in found]
        taken = [set().union(*some) for n in (1, 2) for some in combinations(sums, n)]
        less = {tuple(sorted(one - other)) for one in sums for other in taken} - {()}
        wanted = [(one, people(list(one)) < LEAST) for one in sorted(less)]
    targets += [
        ("site_cells", np.isin(np.arange(len(truth)), chosen)[:, None, None] & mask_of(i, j)[None])
        for chosen, asked in wanted
        for i, j in zip(*np.nonzero(asked), strict=True)
    ]
    for kind, unknown in targets:
        row[kind] += 1
        row[f"{kind}_found"] += width(found, len(truth), unknown.astype(float)) < 0.5
    return row


def run(given: argparse.Namespace) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, patch.dict("os.environ", MEDMCL_REGISTER=folder):
        return tried(10 if given.quick else given.series)


def tried(series: int, ways: Sequence[str] = tuple(WAYS)) -> list[Row]:
    """Each way to release of each series."""
    totals = {way: dict.fromkeys(("series", "asked", "released"), 0) for way in ways}
    for seed in range(series):
        for name in ways:
            remembers, as_counted, kind = WAYS[name]
            sums, truth, people = asked(seed, kind)
            with tempfile.TemporaryDirectory() as folder:
                found = publish(sums, Path(folder), remembers, as_counted)
                row = {
                    "series": 1,
                    "asked": ASKED[kind],
                    "released": len(found),
                    **look(truth, found, people),
                }
            totals[name] = {key: totals[name].get(key, 0) + value for key, value in row.items()}
        if seed % 20 == 19:
            print(seed + 1, totals)
    return [{"way": name, **values} for name, values in totals.items()]


def asked(
    seed: int, kind: str
) -> tuple[list[tuple[tuple[int, ...], Counts]], np.ndarray, Patients | None]:
    """Random sums with their unknowns, the truth of these, and whose they are (see `look`)."""
    generator = np.random.default_rng(seed)
    size = (8, 20) if kind == "small wards" else (15, 70)
    sites = [ward(generator, *size) for _ in range(generator.integers(3, 7))]
    parts = SETTINGS if kind in ("events", "modalities") else len(sites)

    def some() -> tuple[int, ...]:
        return tuple(
            sorted(generator.choice(parts, generator.integers(1, parts + 1), False).tolist())
        )

    sums = [some() for _ in range(ASKED[kind])]
    if kind in ("events", "modalities"):
        x1, x2 = patients = hospital(generator)
        each = np.einsum("nsi,ntj->nstij", x1, x2).reshape(len(x1), -1, D1, D2)
        both = [(one, one if kind == "events" else some()) for one in sums]
        return (
            [(across(*chosen), of_settings(patients, *chosen)) for chosen in both],
            each.sum(axis=0),
            lambda some: (each[:, some].sum(axis=1) > 0).sum(axis=0),
        )
    exact = [counted([one], [k]) for k, one in enumerate(sites)]
    truth = np.array([one.D.toarray() for one in exact])
    if kind in ("sites", "a sum"):
        totals = [(chosen, sum(exact[k] for k in chosen)) for chosen in sums]
        if kind == "a sum":
            chosen, total = totals[0]
            people = tuple(site_by_name(str(k)) for k in chosen)
            totals[0] = (chosen, replace(total, provenance=Provenance(people=people)))
        return totals, truth, None
    wards = np.array([one.cross().patients.toarray() for one in exact])
    return (
        [(chosen, counted([sites[k] for k in chosen], chosen)) for chosen in sums],
        truth,
        lambda some: wards[some].sum(axis=0),
    )


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
    first, wards, events = rows[:3]
    others = [row for row in rows[7:] if row["way"].startswith("as it is")]
    return {
        "derivable": table(columns, shown),
        "derivable found": f"{first['suppressed_found']} of {first['suppressed']:,}",
        "derivable sites": f"{first['site_cells_found']} of {first['site_cells']:,}",
        "derivable wards": f"{wards['site_cells_found']} of {wards['site_cells']:,}",
        "derivable events": f"{events['site_cells_found']} of {events['site_cells']:,}",
        "derivable others": f"{sum(row['site_cells_found'] for row in others)} of "
        f"{sum(row['site_cells'] for row in others):,}",
    }


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--series", type=int, default=50, help="of three or four sums each")


STUDY = Study(__file__, parts=parts, run=run, options=options, page="privacy", quick=True)

if __name__ == "__main__":
    STUDY.main()
