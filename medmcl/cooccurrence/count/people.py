"""Whose counts they are, without saying who: keyed tags by which the same patients are known again.

A tag is a keyed hash (BLAKE2b, 64 bits) of a patient's name, or, where a table has no names, of the
whole record. Names are the numbers that MEDS gives them (`number_of`), wherever they come from.
Beside that of a name stands what is drawn of the patient's events
(`medmcl.cooccurrence.count.drawn`): some days, by which other people of the same names (numbers, at
another hospital) are told apart, whatever was filtered or added; two days in a row, by which
patients are known again under other names or dates; and a hash of all events that were counted, by
which releases of the same patients with other events are told from releases of the same records.
The key lies in the register's folder of this user on this machine and goes nowhere but into the
processes that count. Whoever lacks the key cannot find out a patient by trying all names; who holds
two folders of counts of one site sees how many patients they share, and who of these has days in
common, and nothing else. So tags go with exact counts only (which tell more than that) and no
release carries any.

The same patient has another tag under another key: overlaps between machines are not seen.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import sparse

from medmcl.cooccurrence.count.drawn import days_in_common, digest, mixed, numbers, tags_of
from medmcl.core.atomic import write_atomically
from medmcl.core.errors import ArtefactError
from medmcl.core.file_lock import alone, sweep_lock
from medmcl.core.writing import file_error
from medmcl.data.events.write import number_of

log = logging.getLogger(__name__)
PLACE = "MEDMCL_REGISTER"
"""The environment variable that names the folder of the register."""
KEY = "key"
_KEY_BYTES = 32
_LONGEST_WAIT = 120
"""Seconds; a register is held for as long as a release is written."""
_ODD = np.uint64(0x9E3779B97F4A7C15)
FEWEST_LOOKED = 20
"""Drawn days of either table that must have been looked for in the other before patients of the
same names are other people; of fewer patients one a patient."""
_SAME_EVENTS, _FEWEST_EVENTS = 0.02, 3
"""Share of these days that are there with the same code, and how many at least, from which on names
are the same people's: of others, with 20 days in ten years, one day in 180 is there."""
_SAME, _ENOUGH_ALIKE = 0.05, 5
"""Share of patients of the same names, or how many, from which on contents of their own that agree
tell that they are the same. Of others fewer than one is expected to have the name of the only
patient of the other table with that content, however many patients there are."""
_HALF = 0.5
"""Share of these days that are there with whatever codes, and of contents, from which on two tables
hold the same patients, whatever codes or patients are called."""
FEWEST_ALIKE = 8
"""Different records that two tables must share before they are taken for the same patients'."""
_UNIQUE = 0.6
"""Share of records that no other patient of a table has, from which on records identify: of other
people's fewer than the rest are found in the table by chance, and half are asked for."""
_NEARLY_ALL = 0.9
"""Share of the smaller of two tables that stands in the other, from which on records that hardly
differ may be the same patients'."""
Kind = Literal["subjects", "records", "rows", "numbers"]
"""Tags of names, of what patients have, of both together, or of names that may be row numbers."""


@dataclass(frozen=True)
class People:
    """The patients of one site.

    Attributes:
        site: Hash that names them, hexadecimal: of their tags, or, where they are not known one by
            one, of the counts or of the site's name.
        patients: How many; None if it is not known.
        kind: What the tags are of.
        tags: One a patient, ascending, uint64; of records two may be alike. None if not known.
        days: Tags of the patients' drawn days, (patients, DAYS) uint32, 0 where a patient has
            fewer; None if not known.
        contents: Tags of two days in a row of each patient, (patients,) uint64: neither names nor
            dates are in them; None if not known.
        records: Tags of all events of each patient that were counted, with their dates, (patients,)
            uint64; None if not known.
    """

    site: str
    patients: int | None
    kind: Kind = "subjects"
    tags: np.ndarray | None = field(default=None, compare=False, repr=False)
    days: np.ndarray | None = field(default=None, compare=False, repr=False)
    contents: np.ndarray | None = field(default=None, compare=False, repr=False)
    records: np.ndarray | None = field(default=None, compare=False, repr=False)

    @property
    def is_name(self) -> bool:
        """Whether a site is known by its name alone, as those of a secure sum are."""
        return self.tags is None and self.patients is None


def register_beside(place: Path) -> Path:
    """Give the folder of the register of what lies in a folder: one in it.

    That of the whole site (`register_folder`) if ``$MEDMCL_REGISTER`` names one, and where nothing
    can be written into the folder.
    """
    place = place.absolute()
    there = next(one for one in (place, *place.parents) if one.exists())
    if names_a_register() or not os.access(there, os.W_OK):
        return register_folder()
    return place / ".medmcl-register"


def names_a_register() -> bool:
    """Whether ``$MEDMCL_REGISTER`` names one register for all that is released."""
    return bool(os.environ.get(PLACE))


def register_folder() -> Path:
    """Give ``$MEDMCL_REGISTER``, the register of a site, or else one in the user's state folder.

    The latter holds the key by which patients are known again, and the register of what lies in
    folders that cannot be written into.

    Raises:
        ArtefactError: The variable names a place that is another one in each working directory.
    """
    said = os.environ.get(PLACE)
    if said:
        place = Path(os.path.expanduser(said))  # noqa: PTH111 - Path's raises for unknown users
        if not place.is_absolute():
            raise ArtefactError(
                "names another register in each working directory, so that nobody knows what was "
                "released from the last one",
                where=PLACE,
                got=said,
                expected="a whole path, or one below the home directory (~/register)",
                fix=f"{PLACE}={place.absolute()}",
            )
        return place
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "medmcl" / "register"


def register_key(folder: Path) -> bytes:
    """Give the key of a register; it is drawn when it is first asked for.

    Raises:
        ArtefactError: The folder cannot be written, or the key is not whole.
    """
    file = folder / KEY
    if not file.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with alone(file, "a key is being drawn", wait=for_a_while(folder)):
                if not file.exists():
                    write_atomically(file, secrets.token_hex(_KEY_BYTES) + "\n", mode=0o600)
        except OSError as error:
            raise _no_register(folder, error) from None
    sweep_lock(file)
    try:
        key = bytes.fromhex(file.read_text(encoding="ascii"))
    except OSError as error:
        raise _no_register(folder, error) from None
    except ValueError:
        key = b""
    if len(key) != _KEY_BYTES:
        raise ArtefactError(
            "is no whole key of a register", where=file, expected=f"{_KEY_BYTES} bytes, as hex",
            fix="restore it from a backup: without it patients of earlier releases are not known "
            "again",
        )  # fmt: skip
    return key


def for_a_while(folder: Path) -> Callable[[str], None]:
    """Give what waits for another process that uses a register, and gives up in the end."""
    end = time.monotonic() + _LONGEST_WAIT

    def wait(owner: str) -> None:
        if time.monotonic() > end:
            raise ArtefactError(
                "the register of releases is in use",
                where=folder,
                got=f"held for {_LONGEST_WAIT} seconds by {owner}",
                fix="wait until it has ended, or stop it",
            )

    return wait


def _no_register(folder: Path, error: OSError) -> ArtefactError:
    other = file_error(error) if isinstance(error, IsADirectoryError) else None
    return other or ArtefactError(
        f"the register of releases cannot be used: {error.strerror}",
        where=folder,
        fix=f"name a folder that lasts and that you may write to: {PLACE}=FOLDER",
    )


def people_of_subjects(
    subjects: Iterable[object], found: np.ndarray | None = None, how: str = ""
) -> tuple[People, ...]:
    """Give the tags of patients by their names; nothing where no key can be kept.

    Args:
        subjects: Names.
        found: What is `drawn` of each with its `counted_records`, (n,), if it is known.
        how: What else decides how the events of a patient are counted, but window and pairing.
    """
    key = _key_if_any()
    if key is None:
        return ()
    names = [str(one) for one in subjects]
    if found is None:
        return (named(numbers([digest(key, one) for one in sorted(set(names))]), "subjects"),)
    tags = numbers([digest(key, one) for one in names])
    contents = tags_of(key, "content", found["content"])
    records = tags_of(key, f"record {how}", found["record"])
    return (named(tags, "subjects", found["days"], contents, records),)


def people_of_records(
    tables: Sequence[sparse.csr_array],
    tokens: Mapping[str, Sequence[str]],
    patients: Sequence[object] | None = None,
) -> tuple[People, ...]:
    """Give tags of what patients have: beside their names, or in place of them.

    Args:
        tables: Whole counts of each modality, (n, d), a row a patient.
        tokens: Names of the columns of each modality, in the order of ``tables``.
        patients: Names, (n,). If not given, records stand for patients, in whatever order.
    """
    key = _key_if_any()
    if key is None:
        return ()
    names, found = _records(key, tables, tokens, patients, empty=True)
    if patients is None:
        return (named(numbers(found), "records"),)
    tags = numbers([digest(key, one) for one in names])
    return (named(tags, "subjects", records=numbers(found)),)


def _records(
    key: bytes,
    tables: Sequence[sparse.csr_array],
    tokens: Mapping[str, Sequence[str]],
    patients: Sequence[object] | np.ndarray | None,
    *,
    empty: bool,
) -> tuple[list[str], list[bytes]]:
    """Name and tag of the record of each patient."""
    rows = tables[0].shape[0] if tables else 0
    who = np.arange(rows) if patients is None else patient_numbers(patients)
    names, owner = np.unique(who, return_inverse=True)
    sums = np.zeros(int(owner.max(initial=-1)) + 1, dtype=np.uint64)
    for table, words in zip(tables, tokens.values(), strict=True):
        column = numbers([digest(key, word) for word in words])
        row = np.repeat(owner, np.diff(table.indptr))
        np.add.at(sums, row, mixed(column[table.indices] + _ODD * table.data.astype(np.uint64)))
    kept = np.flatnonzero(sums) if not empty else np.arange(len(sums))
    tags = [digest(key, str(one)) for one in sums[kept].tolist()]
    return list(map(str, names[kept].tolist())), tags


def people_of_rows(
    tables: Sequence[sparse.csr_array],
    tokens: Mapping[str, Sequence[str]],
    patients: Sequence[object] | np.ndarray | None,
) -> tuple[People, ...]:
    """Give tags of what patients have, of their names, and of both together.

    For arguments see `people_of_records`; of patients who have nothing the name alone gets a tag.
    Names that are all numbers from 0 or 1 on may be those of rows (``numbers``): of two such tables
    somebody may say that they are of other people. Names that may be written in another way
    (`_plain`) have tags of that, too.
    """
    key = _key_if_any()
    if key is None:
        return ()
    who, records = _records(key, tables, tokens, patients, empty=False)
    found = [named(numbers(records), "records")]
    if patients is None:
        return tuple(found)
    both = [digest(key, f"{name}\n{one.hex()}") for name, one in zip(who, records, strict=True)]
    found.append(named(numbers(both), "rows"))
    names, spelt = (np.unique(patient_numbers(one)) for one in (patients, _plain(patients)))
    for one in (names, *([] if np.array_equal(names, spelt) else [spelt])):
        tags = numbers([digest(key, str(name)) for name in one.tolist()])
        of_rows = any(np.array_equal(one, np.arange(len(one)) + first) for first in (0, 1))
        found.append(named(tags, "numbers" if of_rows else "subjects"))
    return tuple(found)


def _plain(patients: Sequence[object] | np.ndarray) -> list[str]:
    """Names without what is written otherwise at another time: ``007`` and ``+7`` are 7."""
    texts = (unicodedata.normalize("NFKC", str(one)).casefold() for one in patients)
    return [re.sub(r"^\+|(?<!\d)0+(?=\d)", "", "".join(text.split())) for text in texts]


def patient_numbers(patients: Sequence[object] | np.ndarray) -> np.ndarray:
    """Give each name as the number that a patient has in MEDS (`number_of`), (n,) int64."""
    names, place = np.unique([str(one) for one in patients], return_inverse=True)
    return np.array([number_of(one) for one in names.tolist()], dtype=np.int64)[place]


def named(
    tags: np.ndarray,
    kind: Kind,
    days: np.ndarray | None = None,
    contents: np.ndarray | None = None,
    records: np.ndarray | None = None,
) -> People:
    """Give patients by their tags."""
    order = np.argsort(tags, kind="stable")
    tags = tags[order]
    days, contents, records = (
        None if one is None else one[order] for one in (days, contents, records)
    )
    parts = [one.astype(one.dtype.newbyteorder("<")).tobytes()
             for one in (tags, days, contents, records) if one is not None]  # fmt: skip
    said = hashlib.sha256(b"".join([kind.encode(), *parts])).hexdigest()
    return People(said, len(tags), kind, tags, days, contents, records)


def overlap(one: People, other: People) -> bool:
    """Whether two sites may have patients in common, of the same names or of the same contents."""
    return one.site == other.site or same_names(one, other) or bool(len(renamed(one, other)[0]))


def counted_alike(one: People, other: People) -> bool:
    """Whether all patients of both sites have the same events in both.

    Where nothing is known of events, names stand for them; counts of events that do not say which
    they are (older ones) are never alike. Where patients are known by what they have
    (`known_by_contents`), those that are in one table only may be the same in both.
    """
    if one.tags is None or other.tags is None:
        return True
    if one.kind == "records":
        both = len(np.intersect1d(_numbered(one.tags), _numbered(other.tags)))
        return both == min(len(one.tags), len(other.tags)) or not shared_patients(one, other)
    if one.records is None or other.records is None:
        return one.days is None and other.days is None
    _, i, j = np.intersect1d(one.tags, other.tags, return_indices=True)
    names = len(i) if same_names(one, other) else 0
    if names and not np.array_equal(one.records[i], other.records[j]):
        return False
    i, j = renamed(one, other)  # who is who is not told where contents are alike
    if len(i) and len(i) + names < min(len(one.tags), len(other.tags)):
        return False
    return np.array_equal(np.sort(one.records[i]), np.sort(other.records[j]))


def known_by_contents(one: People, other: People) -> bool:
    """Whether patients of two sites are known by what they have: more may be the same."""
    return one.kind == "records" or bool(len(renamed(one, other)[0]))


def same_names(one: People, other: People, *, untold: bool = True) -> bool:
    """Whether patients of two sites have the same names, and are not other people.

    Names are the same people's unless what was drawn shows that they are not: of either table days
    were looked for in the other, of which hardly any are there, and of contents hardly any agree
    that one patient alone has, nor half of all. Of a filter or a source less all days are in the
    other table, however few they are; other dates leave the contents; where days are not known or
    too few, nothing tells people apart.

    Args:
        one: A site.
        other: Another.
        untold: What to say of common names where nothing tells.
    """
    if one.tags is None or other.tags is None or one.kind != other.kind:
        return False
    _, i, j = np.intersect1d(one.tags, other.tags, return_indices=True)
    if one.days is None or other.days is None or not len(i):
        return bool(len(i)) and untold
    mine, theirs = one.days[i], other.days[j]
    for looked, there, alike in (days_in_common(mine, theirs), days_in_common(theirs, mine)):
        if looked < min(FEWEST_LOOKED, len(i)):
            if untold:
                return True
        elif there >= _HALF * looked:
            return True
        if alike >= max(_FEWEST_EVENTS, _SAME_EVENTS * looked):
            return True
    if one.contents is None or other.contents is None:
        return False
    agree = one.contents[i] == other.contents[j]
    rare = agree & np.isin(one.contents[i], _alone(one.contents))
    rare &= np.isin(other.contents[j], _alone(other.contents))
    enough = max(1, min(_SAME * len(i), _ENOUGH_ALIKE))
    return bool(rare.sum() >= enough or agree.sum() >= _HALF * len(i))


def renamed(one: People, other: People) -> tuple[np.ndarray, np.ndarray]:
    """Find the patients of two sites whose contents agree under other names.

    Where names are the same people's (`same_names`), those who have them are left out.

    Returns:
        Places of the patients in both, (shared,) each; none if fewer agree than half of the
        contents that one patient of the smaller table alone has, or than `FEWEST_ALIKE`.
    """
    none = np.zeros(0, dtype=np.int64)
    if one.contents is None or other.contents is None:
        return none, none
    mine, theirs = _alone(one.contents), _alone(other.contents)
    alike = len(np.intersect1d(mine, theirs, assume_unique=True))
    if alike < max(FEWEST_ALIKE, _HALF * min(len(mine), len(theirs))):
        return none, none
    rest = [np.arange(len(one.contents)), np.arange(len(other.contents))]
    if one.tags is not None and other.tags is not None and same_names(one, other):
        shared = np.intersect1d(one.tags, other.tags)
        rest = [np.flatnonzero(~np.isin(tags, shared)) for tags in (one.tags, other.tags)]
    first, second = _numbered(one.contents[rest[0]]), _numbered(other.contents[rest[1]])
    _, i, j = np.intersect1d(first, second, return_indices=True)
    return rest[0][i], rest[1][j]


def _alone(values: np.ndarray) -> np.ndarray:
    """Values that occur once."""
    found, often = np.unique(values, return_counts=True)
    return np.asarray(found[often == 1])


def _numbered(values: np.ndarray) -> np.ndarray:
    """Other values for the second, third, ... of equal ones."""
    order = np.argsort(values, kind="stable")
    first = np.r_[True, np.diff(values[order]) != 0] if len(values) else np.zeros(0, dtype=bool)
    begin = np.flatnonzero(first)
    nth = np.arange(len(values)) - np.repeat(begin, np.diff(np.r_[begin, len(values)]))
    found = values.copy()
    found[order] += _ODD * nth.astype(np.uint64)
    return found


def shared_patients(one: People, other: People) -> int:
    """How many patients two sites have in common, 0 where it cannot be told.

    Patients whose names may be others' too are taken for the same if all are alike, or if half of
    the smaller table stands in the other: names and records together; or records alone, where
    hardly two patients of a table have the same.
    """
    if one.site == other.site:
        return 1 if one.patients is None else one.patients
    if one.tags is None or other.tags is None or one.kind != other.kind:
        return 0
    if not len(one.tags) or not len(other.tags):
        return 0
    different, alike = _tags_shared(one.tags, other.tags)
    if one.kind == "subjects":
        return (alike if same_names(one, other) else 0) + len(renamed(one, other)[0])
    identify = different >= FEWEST_ALIKE and _identify(one) and _identify(other)
    if one.kind == "records" and not identify:
        return 0
    return alike if 2 * alike >= min(len(one.tags), len(other.tags)) else 0


def counted_twice(one: People, other: People, *, other_people: bool = False) -> int:
    """How many patients a sum of two sites would count twice: all of the same names.

    Unlike `shared_patients` whatever their days are: a patient of two years has other days in each,
    and adds to a cell of both as two.

    Args:
        one: A site.
        other: Another.
        other_people: Somebody says that names are others' in each; they are the same people's only
            where days or contents show it.
    """
    if one.tags is None or other.tags is None or {one.kind, other.kind} != {"subjects"}:
        return shared_patients(one, other)
    names = np.intersect1d(one.tags, other.tags)
    if other_people and not same_names(one, other, untold=False):
        names = names[:0]
    return len(names) + int((~np.isin(one.tags[renamed(one, other)[0]], names)).sum())


def may_be_the_same(one: People, other: People) -> bool:
    """Whether records tell too little: they hardly differ, and nearly all are in both tables."""
    if one.kind != "records" or other.kind != "records" or one.tags is None or other.tags is None:
        return False
    if _identify(one) and _identify(other):
        return False
    _, alike = _tags_shared(one.tags, other.tags)
    return alike >= _NEARLY_ALL * max(1, min(len(one.tags), len(other.tags)))


def _tags_shared(mine: np.ndarray, theirs: np.ndarray) -> tuple[int, int]:
    """How many different tags stand in both, and how many patients these are at least."""
    each, often = np.unique(mine, return_counts=True)
    others, again = np.unique(theirs, return_counts=True)
    _, i, j = np.intersect1d(each, others, assume_unique=True, return_indices=True)
    return len(i), int(np.minimum(often[i], again[j]).sum())


def _identify(one: People) -> bool:
    """Whether most records are of one patient each."""
    assert one.tags is not None
    often = np.unique(one.tags, return_counts=True)[1]
    return len(often) >= FEWEST_ALIKE and (often == 1).sum() >= _UNIQUE * len(one.tags)


def _key_if_any() -> bytes | None:
    folder = register_folder()  # a place that is none is no reason to go on without tags
    try:
        return register_key(folder)
    except ArtefactError as error:
        log.warning("patients get no tags, so that releases of them are not compared: %s", error)
        return None
