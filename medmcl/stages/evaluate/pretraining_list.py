"""What a model was pretrained on, as a list: who of it is scored, by id or by content.

A list is a table or text of ids, a folder of records, or a cohort. Records are compared with those
that are scored: equal ones, and one measurement saved anew (`medmcl.data.check.copies`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd

from medmcl.core.config import refuse_absent
from medmcl.core.contracts import Adapter, RecordRef
from medmcl.core.errors import ConfigError
from medmcl.core.findings import counted
from medmcl.core.limits import whole_bytes
from medmcl.core.plain_text import encoding_fix
from medmcl.data.check.copies import copies_of
from medmcl.data.cohort.cohort import Cohort, open_cohort
from medmcl.data.cohort.locate import list_cohorts
from medmcl.data.loading.prepare import build_adapters
from medmcl.data.loading.reading import Outcome, read_outcome
from medmcl.data.loading.worker_pool import each
from medmcl.data.tables.files import read_table, texts
from medmcl.encoders.published.overlap import Overlap

OPTION = "--pretrained-on"
_TABLES = (".csv", ".tsv", ".parquet", ".gz")
_PEOPLE, _RECORDS = ("subject", "subject_id"), ("record", "record_id")
_HEADERS = {".dat", ".mat", ".atr", ".xyz"}
"""Suffixes of files that no record is named by."""
_NUMBER = re.compile(r"(?=[\d-]*[a-f])[0-9a-f]{8}[0-9a-f-]*|\d+")


def split_list(text: str) -> tuple[str, str]:
    """Give the model, empty for all, and the list of ``[MODEL=]LIST``."""
    name, sign, what = text.partition("=")
    return (name.strip(), what) if sign else ("", text)


@dataclass
class ListSearch:
    """Searches lists for who is scored; each list is read once.

    Attributes:
        given: Model to its lists; those of "" are of every model.
    """

    given: Mapping[str, Sequence[str]]
    _read: dict[tuple[str, str], _Listed] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, options: Iterable[str], cards: Mapping[str, Path | None] | None = None
    ) -> ListSearch:
        """Take lists of a command, and those that cards name.

        Args:
            options: ``[MODEL=]LIST``.
            cards: Model to the list of its card; None where that has none.
        """
        given: dict[str, list[str]] = {}
        for name, what in map(split_list, options):
            given.setdefault(name, []).append(what)
        for name, path in (cards or {}).items():
            if path is not None:
                given.setdefault(name, []).append(str(path))
        return cls(given)

    def refuse_unknown(self, names: Collection[str]) -> None:
        """Refuse lists of models that are not scored.

        Raises:
            ConfigError: Names one, with the nearest.
        """
        for name in self.given:
            if name:
                refuse_absent(name, names, f"no model is called '{name}'", where=OPTION)

    def found(self, names: Iterable[str], cohort: Cohort, modality: str) -> dict[str, Overlap]:
        """Say of each model that has a list who of those that are held out is in it.

        Args:
            names: Models.
            cohort: Whose held-out people are scored.
            modality: Whose records are compared.

        Raises:
            ConfigError: A list cannot be read.
        """
        found = {}
        for name in names:
            lists = [*self.given.get("", ()), *self.given.get(name, ())]
            if lists:
                found[name] = self._overlap(lists, cohort, modality)
        return found

    def _overlap(self, lists: Sequence[str], cohort: Cohort, modality: str) -> Overlap:
        held = cohort.samples[cohort.samples["split"] == "held_out"]
        records = cohort.records[modality]
        scored = records.loc[
            [one for one in held[modality].dropna().unique() if one in records.index]
        ]
        seen, said, silent = set[str](), [], []
        for what in lists:
            key = (what, modality)
            if key not in self._read:
                self._read[key] = _read(what, cohort, modality)
            listed = self._read[key]
            by_id, equal, near = listed.among(scored, cohort, modality)
            seen |= by_id | equal | near
            told = [f"{len(people):,} {how}" for people, how in (
                (by_id, "by id"), (equal, "with an equal record"), (near, "with a near copy of one")
            ) if people]  # fmt: skip
            rows = counted(len(listed), "entry", "entries")
            said.append(f"{Path(what).name} ({rows}): {', '.join(told) or 'nobody'}")
            why = listed.why_silent(cohort, modality)
            silent += [f"{Path(what).name} {why}"] if why else []
        people = len(set(scored["subject"]))
        if seen:
            return Overlap(
                "seen",
                f"pretrained on {len(seen):,} of {people:,} people scored, {'; '.join(said)}",
            )
        if silent:
            return Overlap("not known", "; ".join(silent))
        return Overlap("not seen", f"none of {people:,} people scored is in {'; '.join(said)}")


def with_list(ledger: Overlap, found: Overlap | None) -> Overlap:
    """Join what a ledger says and what a list shows; a list goes before nothing that is known."""
    if found is None:
        return ledger
    if "seen" in (found.status, ledger.status):
        both = found.status == ledger.status
        said = f"{ledger.said}; {found.said}" if both else found.said
        return Overlap("seen", said if found.status == "seen" else f"{ledger.said}; {found.said}")
    is_new = (ledger.status, found.status) == ("not known", "not seen")
    return found if is_new else Overlap(ledger.status, f"{ledger.said}; {found.said}")


@dataclass
class _Listed:
    """One list: ids, or records that are read."""

    people: frozenset[str] = frozenset()
    records: frozenset[str] = frozenset()
    adapter: Adapter | None = None
    places: Sequence[RecordRef] = ()
    read: Sequence[Outcome] = ()

    def __len__(self) -> int:
        return sum(bool(one.digest) for one in self.read) or len(self.records) or len(self.people)

    def among(
        self, scored: pd.DataFrame, cohort: Cohort, modality: str
    ) -> tuple[set[str], set[str], set[str]]:
        """People among those scored: by id, with an equal record, with a near copy."""
        subjects = scored["subject"].astype(str).to_numpy(object)
        if self.adapter is None:
            places = list(scored["place"])
            named = {*self.records, *map(_bare, self.records)}
            hit = {
                who for who, record, place in zip(subjects, scored.index, places, strict=True)
                if who in self.people or named & {str(record), *_stems([place])}
            }  # fmt: skip
            return hit, set(), set()
        adapter = build_adapters(cohort, {modality: {}})[modality]
        places = list(scored["place"])
        read = list(each(partial(read_outcome, adapter), places))
        found = copies_of(adapter, (places, read), (self.adapter, self.places, self.read))
        equal = {subjects[row] for row, is_equal in found.items() if is_equal}
        return set(), equal, {subjects[row] for row in found} - equal

    def why_silent(self, cohort: Cohort, modality: str) -> str:
        """Say why nobody could be found by it; empty where somebody could.

        No id is written as those of the cohort are; or hardly a record of it can be read.
        """
        if 2 * len(self) < len(self.read):
            return f"shows little: {len(self.read) - len(self)} of {len(self.read)} cannot be read"
        records = cohort.records[modality]
        ours = {*cohort.subjects.index}, {*records.index, *_stems(records["place"])}
        theirs = {*self.people}, {*map(_bare, self.records)}
        pairs = [pair for pair in zip(theirs, ours, strict=True) if all(pair)]
        if any(_forms(listed, own) & _forms(own, own) for listed, own in pairs):
            return ""
        shown = [
            f"{min(listed)!r}, not as {max(map(str, own), key=len)!r}" for listed, own in pairs
        ]
        return f"shows nothing: its ids are written as {'; '.join(shown)}" if pairs else ""


def _stems(places: Iterable[RecordRef]) -> set[str]:
    return {_bare(path) for place in places for path in place.paths.values()}


def _bare(name: str | Path) -> str:
    """Name of a record or file without folders and suffixes; what a dot and a digit begin stays."""
    return re.sub(r"(\.[A-Za-z]\w*)+$", "", Path(name).name)


def _forms(names: Iterable[object], like: Iterable[object]) -> set[str]:
    """How names are written: their numbers are alike, as far as zeros stand before those of others.

    So are long runs of hexadecimal digits.
    """
    is_padded = any(re.search(r"(?<!\d)0\d", str(one)) for one in like)

    def plain(found: re.Match[str]) -> str:
        number = found[0]
        if not number.isdecimal():
            return "h"
        return "0" * len(number) if is_padded or number.startswith("0") else "0"

    return {_NUMBER.sub(plain, str(one)) for one in names}


def _read(what: str, cohort: Cohort, modality: str) -> _Listed:
    path = Path(what).expanduser()
    if path.is_file() and path.suffix.lower() in _TABLES:
        return _of_table(path, cohort, modality)
    if path.is_file() and path.suffix.lower() not in (".yaml", ".yml"):
        return _of_text(path)
    if path.is_dir() and not (path / "cohort.yaml").is_file():
        return _of_folder(path, cohort, modality)
    if path.exists() or what in list_cohorts():
        return _of_cohort(what, cohort, modality)
    raise ConfigError(
        "there is no such list",
        where=OPTION,
        got=what,
        expected="a table or text of ids, a folder of records, or a cohort",
    )


def _of_text(path: Path) -> _Listed:
    """Names of records or of their files, in lines or between commas."""
    text = whole_bytes(path, "table", ConfigError).decode("utf-8-sig", "replace")
    if "\0" in text or "\ufffd" in text:
        fix = encoding_fix(path) or "save it as UTF-8"
        raise ConfigError("the list cannot be read as text", where=path, fix=fix)
    names = re.split(r"[\s,;]+", text)
    return _filled(_Listed(records=frozenset(filter(None, names))), path)


def _filled(found: _Listed, path: Path) -> _Listed:
    if not len(found):
        raise ConfigError("the list is empty: it shows nothing", where=path)
    return found


def _of_table(path: Path, cohort: Cohort, modality: str) -> _Listed:
    """Ids of people, or of records, by the name of the column."""
    keys = cohort.spec.modalities[modality].keys
    people = {cohort.spec.keys.subjects.id, *_PEOPLE}
    records = {keys.record, *_RECORDS}
    ids = {one for one in (people | records) if one is not None}
    frame = read_table(path.absolute().parent, path.name, ids=ids).frame
    if not (people | records) & {*frame.columns}:
        raise ConfigError(
            "the list has no column of people or records",
            where=path,
            got=", ".join(map(str, frame.columns[:10])),
            expected=" or ".join(sorted({str(one) for one in people | records if one})),
            fix="name a column so; or give a text with a record a line",
        )
    named = _cells(frame, people - records), _cells(frame, records - {None})
    return _filled(_Listed(*named), path)


def _cells(frame: pd.DataFrame, names: Collection[str | None]) -> frozenset[str]:
    columns = [name for name in frame.columns if name in names]
    return frozenset(
        str(cell) for name in columns for cell in texts(frame[name]) if cell is not None
    )


def _of_folder(folder: Path, cohort: Cohort, modality: str) -> _Listed:
    """Every file of a folder that the reader of the scored records reads."""
    adapter = build_adapters(cohort, {modality: {}})[modality]
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    headers = [path for path in files if path.suffix.lower() == ".hea"]
    chosen = headers or [path for path in files if path.suffix.lower() not in _HEADERS]
    places = [
        RecordRef(
            subject=path.stem, record=path.relative_to(folder).as_posix(), paths={"path": path}
        )
        for path in chosen
    ]
    return _of_records(adapter, places, folder)


def _of_cohort(what: str, cohort: Cohort, modality: str) -> _Listed:
    listed = open_cohort(what, {"on_bad_record": "exclude"})
    kind = cohort.spec.modalities[modality].kind
    alike = [name for name, one in listed.spec.modalities.items() if one.kind == kind]
    if not alike:
        raise ConfigError(
            f"the list has no {kind}", where=OPTION, got=f"cohort {listed.name}: "
            f"{', '.join(listed.spec.modalities)}",
        )  # fmt: skip
    name = modality if modality in alike else alike[0]
    adapter = build_adapters(listed, {name: {}})[name]
    return _of_records(adapter, list(listed.records[name]["place"]), Path(what))


def _of_records(adapter: Adapter, places: Sequence[RecordRef], where: Path) -> _Listed:
    if not adapter.measured:
        raise ConfigError(
            f"records of {adapter.kind} are equal by chance: content does not tell people",
            where=OPTION,
            got=where,
            fix="give a table of ids",
        )
    read = list(each(partial(read_outcome, adapter), places))
    if not any(one.digest for one in read):
        first = next((str(one.findings[0]) for one in read if one.findings), "no file")
        raise ConfigError(
            "no record of the list can be read",
            where=where,
            got=first,
            fix="give a cohort (a folder with cohort.yaml) that says how its records are read",
        )
    return _Listed(adapter=adapter, places=places, read=read)
