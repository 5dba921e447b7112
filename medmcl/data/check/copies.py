"""Records that are copies of one another: equal to the last bit, or one measurement saved anew.

Equal content is found by digest. A measurement that was saved anew (another gain, unit, rate,
rounding or scaling of grey values) is found by its sketch: neighbours among the sketches are
candidates, and each pair is read once more and compared closely before anything is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from medmcl.core.contracts import Adapter, RecordRef, Sketches
from medmcl.core.findings import Finding, cohort_warning, first_of
from medmcl.data.cohort.garbage import collector_paused
from medmcl.data.cohort.splits import SPLITS
from medmcl.data.loading.reading import Outcome, read_record
from medmcl.data.loading.worker_pool import processors

NEAR = 0.15
"""Sketches so near are compared closely. Unrelated: ECGs of PTB-XL 0.20 or more, ACDC 0.35, slices
of brains in one template (OASIS) 0.66."""
CERTAIN, LIKELY = 0.1, 0.35
"""Distance of two records up to which they are one measurement, and look like one: correlations of
0.995 and 0.94. Saved anew in steps of 10 uV or at another rate: at most 0.17 and 0.22 (PTB-XL), so
some copies are only warned of. Images (OASIS, chest X-rays) saved as JPEG, at 0.5 to 1.7 times the
size, with another gain or gamma: at most 0.17. Not copies: 1.3 or more in the nearest of PTB-XL,
0.82 in ACDC, 0.87 in OASIS, 0.96 in 296 chest X-rays."""
_NEIGHBOURS = 3
WIDE = 5
"""Cells of a row of a table, one of them no whole number, from which equal rows are looked at."""
UNLIKELY = 100
"""Times as many equal rows as columns that know nothing of one another would give by chance."""
_FIX = "find out whose it is, and take the other row out of the table"


@dataclass(frozen=True)
class _Members:
    """The records of a modality, as messages call them."""

    places: Sequence[RecordRef]
    splits: Sequence[str] | np.ndarray

    def finding(
        self, kind: str, code: str, row: int, others: Sequence[int], what: str, *, doubt: bool
    ) -> Finding:
        """Say what a record shares with others; between people that is an error."""
        mine = self.places[row]
        theirs = [self.places[other] for other in others]  # each is made when asked for
        shown = first_of((f"{one.record} of subject {one.subject}" for one in theirs), 3)
        owners = {one.subject for one in theirs} | {mine.subject}
        sides = {str(self.splits[other]) for other in (row, *others)}
        split = " and ".join(side for side in SPLITS if side in sides)
        across = f"; across splits: {split}" if len(sides) > 1 else ""
        return Finding(
            code=f"{kind}.{code}",
            where=f"subject {mine.subject}, record {mine.record}",
            what=what.format(others=shown) + across,
            fix=_FIX if len(owners) > 1 else "nothing, if that is meant: both are one person's",
            level="error" if len(owners) > 1 and not doubt else "warning",
        )


def find_copies(
    adapter: Adapter,
    places: Sequence[RecordRef],
    splits: Sequence[str] | np.ndarray,
    digests: Sequence[str | bytes] | np.ndarray,
    sketch: Callable[[int], np.ndarray | None],
) -> dict[int, list[Finding]]:
    """Find records of one measurement under several ids.

    Between two subjects that is an error (whose is it?) if it is certain and a warning if it only
    looks like it; within one subject a warning if it is certain.

    Args:
        adapter: Adapter of the modality; kinds that are not measured have no copies.
        places: The records.
        splits: Split of each.
        digests: Digest of each; empty if it cannot be used.
        sketch: Gives that of one, None where there is none.

    Returns:
        Number of the record to its findings; every copy has one.
    """
    if not adapter.measured:
        return {}
    members = _Members(places, splits)
    groups: dict[str | bytes, list[int]] = {}
    for row, digest in enumerate(digests):
        if digest:
            groups.setdefault(digest, []).append(row)
    found: dict[int, list[Finding]] = {}
    what = "has exactly the content of record {others}"
    for rows in groups.values():
        for row in rows if len(rows) > 1 else []:
            others = [other for other in rows if other != row]
            found[row] = [
                members.finding(adapter.kind, "duplicate", row, others, what, doubt=False)
            ]
    sketches = {rows[0]: sketch(rows[0]) for rows in groups.values()}
    known = {row: one for row, one in sketches.items() if one is not None}
    if isinstance(adapter, Sketches) and len(known) > 1:
        firsts, near = [*known], neighbours(np.stack([*known.values()]))
        pairs = [(firsts[one], firsts[other]) for one, other in near]
        for row, finding in _near(adapter, members, pairs) if pairs else ():
            found.setdefault(row, []).append(finding)
    return found


def copies_of(
    adapter: Adapter,
    here: tuple[Sequence[RecordRef], Sequence[Outcome]],
    there: tuple[Adapter, Sequence[RecordRef], Sequence[Outcome]],
) -> dict[int, bool]:
    """Find records that others have too: equal ones, and one measurement saved anew.

    Args:
        adapter: Reads the records here.
        here: Records, and what became of each as it was read.
        there: What reads the others, the others, and what became of them.

    Returns:
        Number of each such record here, and whether it is equal; otherwise it looks like one
        measurement (`LIKELY`).
    """
    places, read = here
    other, others, known = there
    digests = {one.digest for one in known if one.digest}
    found = {row: True for row, one in enumerate(read) if one.digest in digests}
    mine = [row for row, one in enumerate(read) if one.sketch is not None and row not in found]
    theirs = [row for row, one in enumerate(known) if one.sketch is not None]
    if not mine or not theirs or not isinstance(adapter, Sketches):
        return found
    of_mine = np.stack([np.asarray(read[row].sketch) for row in mine])
    for one, place in near_each(
        of_mine, np.stack([np.asarray(known[row].sketch) for row in theirs])
    ):
        row = mine[one]
        if row in found:
            continue
        raw = read_record(adapter, places[row])[0]
        beside = read_record(other, others[theirs[place]])[0]
        if raw is not None and beside is not None and adapter.distance(raw, beside) <= LIKELY:
            found[row] = False
    return found


def near_each(sketches: np.ndarray, others: np.ndarray) -> list[tuple[int, int]]:
    """Give pairs of a row of (N, K) and one of (M, K) nearer than `NEAR`: a few of each row."""
    from scipy.spatial import cKDTree

    count = min(_NEIGHBOURS, len(others))
    distance, place = cKDTree(others).query(
        sketches, k=[*range(1, count + 1)], workers=processors()
    )
    rows, ranks = np.nonzero(distance < NEAR)
    return list(zip(rows.tolist(), place[rows, ranks].tolist(), strict=True))


@collector_paused()
def same_rows(
    name: str,
    places: Sequence[RecordRef],
    subjects: Sequence[str] | np.ndarray,
    splits: Sequence[str] | np.ndarray,
    digests: np.ndarray,
) -> list[Finding]:
    """Warn of rows of a table that several people share, where that is no chance.

    By chance two rows agree as often as their cells do, column by column.

    Args:
        name: The modality, a table.
        places: Its rows.
        subjects: Whose each is.
        splits: Split of each.
        digests: Digest of each; empty if it cannot be used. (N,) bytes
    """
    groups: dict[bytes, dict[str, int]] = {}
    for row in _repeated(digests):
        groups.setdefault(digests[row], {}).setdefault(subjects[row], row)
    alike = [list(group.values()) for group in groups.values() if len(group) > 1]
    shared = [rows for rows in alike if _is_telling(places[rows[0]])]
    if not shared:
        return []
    count = len(places)
    chance = count * (count - 1) / 2
    for column in places[0].values:
        cells = Counter(str(place.values.get(column)) for place in places)
        chance *= sum(n * (n - 1) for n in cells.values()) / (count * (count - 1))
    if sum(len(rows) * (len(rows) - 1) / 2 for rows in shared) < UNLIKELY * chance:
        return []
    people = sum(len(rows) for rows in shared)
    parted = sum(len(rows) for rows in shared if len({splits[row] for row in rows}) > 1)
    first = " and ".join(subjects[row] for row in shared[0][:2])
    across = f"; {parted:,} of them share it across splits" if parted else ""
    fix = (
        f"find out whether they (for example {first}) are one person under two ids, and take the "
        "second out of the table"
    )
    good = "; scores of people whose copy is in training are too good" if parted else ""
    return [
        cohort_warning(
            "tabular.same_rows",
            f"modalities.{name}",
            f"{people:,} people have exactly the row of another id, {len(shared):,} different "
            f"rows; chance would give {chance:.1g} such pairs{across}",
            f"{fix}{good}",
        )
    ]


def _repeated(digests: np.ndarray) -> list[int]:
    """Rows whose digest is that of another row, too; looked for among those that begin alike."""
    found = []
    begins = digests.astype("S1")
    for first in np.unique(begins[begins != b""]):
        rows = np.flatnonzero(begins == first)
        rows = rows[np.argsort(digests[rows], kind="stable")]
        alike = digests[rows[1:]] == digests[rows[:-1]]
        found += rows[np.r_[False, alike] | np.r_[alike, False]].tolist()
    return sorted(found)


def _is_telling(place: RecordRef) -> bool:
    """Whether a row has many cells, and one that is no whole number."""
    cells = [cell for cell in place.values.values() if not _is_gap(cell)]
    return len(cells) >= WIDE and any(_is_fraction(cell) for cell in cells)


def _is_gap(cell: Any) -> bool:
    return cell is None or cell != cell or not str(cell).strip()


def _is_fraction(cell: Any) -> bool:
    try:
        return not float(cell).is_integer()
    except (TypeError, ValueError):
        return False


def neighbours(sketches: np.ndarray, reach: float = NEAR) -> list[tuple[int, int]]:
    """Give pairs of rows (N, K) nearer than ``reach``: of each row the nearest few at most."""
    from scipy.spatial import cKDTree

    centred = sketches - sketches.mean(axis=0)
    turned = centred @ np.linalg.eigh(centred.T @ centred)[1][:, ::-1]  # widest axes first
    distance, other = cKDTree(turned).query(
        turned, k=min(_NEIGHBOURS + 1, len(turned)), distance_upper_bound=reach,
        workers=processors(),
    )  # fmt: skip
    rows, places = np.nonzero(np.isfinite(distance))
    beside = other[rows, places]
    pairs = set(
        zip(np.minimum(rows, beside).tolist(), np.maximum(rows, beside).tolist(), strict=True)
    )
    return sorted((one, two) for one, two in pairs if one != two)


def _near(
    adapter: Any, members: _Members, pairs: list[tuple[int, int]]
) -> Iterator[tuple[int, Finding]]:
    """Compare candidates closely; each record is told of the one it is nearest to."""

    @lru_cache(maxsize=2 * _NEIGHBOURS)
    def raw(row: int) -> Any:
        return read_record(adapter, members.places[row])[0]

    best: dict[int, tuple[float, int]] = {}
    for one, other in pairs:
        if raw(one) is None or raw(other) is None:
            continue
        apart = adapter.distance(raw(one), raw(other))
        for row, beside in ((one, other), (other, one)):
            best[row] = min(best.get(row, (apart, beside)), (apart, beside))
    for row, (apart, other) in sorted(best.items()):
        same_subject = members.places[row].subject == members.places[other].subject
        if apart > (CERTAIN if same_subject else LIKELY):
            continue
        certain = apart <= CERTAIN
        agrees = f"(their details correlate {1 - apart**2 / 2:.4f})"
        what = f"is record {{others}} saved anew {agrees}"
        if not certain:
            what = f"is perhaps record {{others}} resampled, filtered or saved anew {agrees}"
        yield (
            row,
            members.finding(adapter.kind, "near_copy", row, [other], what, doubt=not certain),
        )
