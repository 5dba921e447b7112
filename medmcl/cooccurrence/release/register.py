"""What a site has released, and which budgets it gave to whom: kept where copies do not escape it.

One register beside what is released: ``.medmcl-register`` in the folder in which the counts lie, or
the rows, and one where the ledger lies. Or one for a whole site, wherever its counts and ledgers
lie: ``$MEDMCL_REGISTER``. It holds

- ``key``: 32 bytes, by which patients get tags (`medmcl.cooccurrence.count.people`); registers
  beside counts share one, in the user's state folder;
- ``releases/NAME``: the cells of each release by threshold with their patients, and the tags of all
  its patients. Nothing that was suppressed is in it. The same stands in ``released`` of each
  folder of counts that was released from, so that another register finds it too;
- ``shares/NAME``: name and tags of the patients of each share of a secure sum
  (`medmcl.cooccurrence.release.shares`);
- ``people/SITE.npy``: tags of the patients that a budget was charged for;
- ``register.json``: the list of all that, a copy of every budget as it was last charged, and a
  keyed hash of it all.

It stays at the site: it is as secret as the counts. Entries are made before anything leaves, and
never taken back. Whoever removes or restores every copy of it, the key among them, on a machine of
their own is not stopped, and nothing on that machine could stop them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import Field

from medmcl.cooccurrence.count.counts import (
    Counts,
    Margin,
    Provenance,
    fingerprint_of,
    ordered_cells,
    people_of,
)
from medmcl.cooccurrence.count.people import (
    PLACE,
    Kind,
    People,
    for_a_while,
    may_be_the_same,
    named,
    names_a_register,
    register_beside,
    register_folder,
    register_key,
    shared_patients,
)
from medmcl.cooccurrence.exchange.flat import layout_of
from medmcl.cooccurrence.exchange.folder import MANIFEST, load_counts, save_counts
from medmcl.cooccurrence.exchange.manifest import Sha256
from medmcl.cooccurrence.exchange.tables import read_json, sha256_of
from medmcl.cooccurrence.release.differences import Past
from medmcl.cooccurrence.release.dominance import upper
from medmcl.core.atomic import file_aside, is_content, write_atomically
from medmcl.core.config import Config, check
from medmcl.core.errors import ArtefactError, damage
from medmcl.core.file_lock import alone

log = logging.getLogger(__name__)
SCHEMA: Final = "medmcl/release-register@3"
_EARLIER = r"medmcl/release-register@[12]"
RELEASED = "released"
"""Folder in a folder of counts: what was released of them."""
ROWS_OF_OTHERS: Final = "; row numbers are not those of another budget, because somebody said so"
"""Ends what a charge was for, where subjects of two budgets have the same row numbers."""
_BACKUP = "restore the register from a backup that is no older than the last release"


class EntryKeys(Config):
    """One release by threshold, or share: its folder, and the hash of the manifest in it."""

    name: str
    sha256: Sha256


class OwnerKeys(Config):
    """Patients whom a budget was charged for: a file of tags."""

    site: Sha256
    kind: Kind
    patients: int


class BudgetKeys(Config):
    """A budget as it was last charged.

    Attributes:
        path: Where its file was.
        values: What stands in the file.
        pending: The file may not have been written yet.
        people: Whom it was charged for.
    """

    path: str
    values: dict[str, Any]
    pending: bool
    people: tuple[OwnerKeys, ...] = ()


class RegisterKeys(Config):
    """The whole of ``register.json``."""

    schema_: Literal["medmcl/release-register@3"] = Field(alias="schema")
    releases: tuple[EntryKeys, ...] = ()
    shares: tuple[EntryKeys, ...] = ()
    budgets: dict[str, BudgetKeys] = {}
    seal: str = ""


@dataclass(frozen=True)
class Register:
    """What was released beside this.

    Attributes:
        folder: Where it lies.
        keys: Folder of its key; it holds one itself if not given.
    """

    folder: Path
    keys: Path | None = None

    @classmethod
    def here(cls) -> Register:
        """That of the whole site, or the user's (`register_folder`)."""
        return cls(register_folder())

    @classmethod
    def beside(cls, place: Path) -> Register:
        """That of what lies in a folder (`register_beside`)."""
        return cls(register_beside(place), keys=register_folder())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else releases or charges meanwhile: two must not both see the same past."""
        self._key()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with alone(self._file, "another release is being entered", wait=for_a_while(self.folder)):
            yield

    def past(self, beside: Sequence[Path] = ()) -> list[Past]:
        """All releases by threshold so far, with those whose entry is no longer in the list.

        Args:
            beside: Folders of counts that may remember releases of their own.

        Raises:
            ArtefactError: An entry is missing, or was changed.
        """
        found: dict[str, Past] = {}
        for entry in self.read().releases:
            found[entry.name] = _past(self._entered("releases", entry))
        for there in (self.folder / "releases", *(folder / RELEASED for folder in beside)):
            for place in sorted(there.iterdir()) if there.is_dir() else ():
                if is_content(place) and place.name not in found:
                    found[place.name] = _past(place)
        return list(found.values())

    def name_of(self, counts: Counts, min_patients: int) -> str:
        """Name a release: the threshold, and a keyed hash of its cells and of whose they are."""
        said = [fingerprint_of(counts), sorted(one.site for one in people_of(counts))]
        return f"{min_patients}-{self._sealed(json.dumps(said))}"

    def enter(self, new: Past, beside: Sequence[Path] = ()) -> None:
        """Remember a release; to be called alone, before it is written.

        The same release again is no other: nothing new is told by it.
        """
        self._begin()
        place = self.folder / "releases" / new.name
        for folder, one in [(None, place), *((one, one / RELEASED / new.name) for one in beside)]:
            try:
                if not one.exists():
                    save_counts(_rounded(new.counts), one)
            except ArtefactError as error:
                if folder is None:
                    raise
                log.warning("%s does not remember this release: %s", folder, error.what)
        keys = self.read()
        if any(entry.name == new.name for entry in keys.releases):
            return
        entry = EntryKeys(name=new.name, sha256=sha256_of(place / MANIFEST))
        self._write(keys.model_copy(update={"releases": (*keys.releases, entry)}))

    def _begin(self) -> None:
        """Write the list before the first entry: one without it tells of a lost register."""
        if not self._file.exists():
            self._write(RegisterKeys(schema=SCHEMA))

    def shares(self) -> list[Counts]:
        """Empty counts of each share of a secure sum so far: whose it was, its name the note.

        Raises:
            ArtefactError: An entry is missing, or was changed.
        """
        listed = [self._entered("shares", entry) for entry in self.read().shares]
        there = self.folder / "shares"
        left = sorted(filter(is_content, there.iterdir())) if there.is_dir() else []
        return [load_counts(place) for place in dict.fromkeys([*listed, *left])]

    def enter_share(self, counts: Counts, site: str) -> None:
        """Remember whose counts were shared under a name; to be called alone."""
        self._begin()
        people = people_of(counts)
        name = self._sealed(json.dumps([site, sorted(one.site for one in people)]))
        keys, place = self.read(), self.folder / "shares" / name
        if any(entry.name == name for entry in keys.shares):
            return
        if not place.exists():
            memory = replace(
                layout_of(counts).empty, notes=(site,), provenance=Provenance(people=people)
            )
            save_counts(memory, place)
        entry = EntryKeys(name=name, sha256=sha256_of(place / MANIFEST))
        self._write(keys.model_copy(update={"shares": (*keys.shares, entry)}))

    def _entered(self, kind: str, entry: EntryKeys) -> Path:
        """Folder of an entry that is as it was made."""
        place = self.folder / kind / entry.name
        if not (place / MANIFEST).is_file() or sha256_of(place / MANIFEST) != entry.sha256:
            raise ArtefactError(
                "an entry of the register is missing, or was changed", where=place, fix=_BACKUP
            )
        return place

    def budget(self, ledger: str) -> BudgetKeys | None:
        """A budget as it was last charged; None if it never was."""
        return self.read().budgets.get(ledger)

    def enter_budget(self, ledger: str, budget: BudgetKeys) -> None:
        """Remember a budget; to be called alone."""
        keys = self.read()
        self._write(keys.model_copy(update={"budgets": {**keys.budgets, ledger: budget}}))

    def owners(self, people: Sequence[People]) -> tuple[OwnerKeys, ...]:
        """Keep the tags of patients, and give what names them."""
        self._begin()
        found = []
        for one in people:
            assert one.tags is not None
            file = self.folder / "people" / f"{one.site}.npy"
            if not file.exists():
                with file_aside(file, mode=0o600) as aside, aside.open("wb") as opened:
                    np.save(opened, one.tags)
            found.append(OwnerKeys(site=one.site, kind=one.kind, patients=len(one.tags)))
        return tuple(found)

    def refuse_other_budget(
        self, ledger: str, people: Sequence[People], where: Path, *, other_people: bool = False
    ) -> None:
        """Refuse patients who have a budget already, under whatever name their table comes.

        Args:
            ledger: That is to be charged.
            people: Whose release it is.
            where: The ledger's file.
            other_people: As of `medmcl.cooccurrence.release.ledger.Ledger`.

        Raises:
            ArtefactError: Another budget was charged for some of them, or their records are too
                like one another to tell.
        """
        for budget, mine, known in self._charged(people, but=ledger, other_people=other_people):
            if shared_patients(mine, known):
                raise ArtefactError(
                    "these patients have a privacy budget already, and it is fixed once",
                    where=where,
                    got=f"patients for whom {budget.path} was charged",
                    expected="the same ledger for all releases of a patient",
                    fix=f"--ledger {budget.path} (wherever it lies now). Other people whose "
                    "subjects have the same names are taken for the same: give them names of "
                    "their own, or keep a register for each site (MEDMCL_REGISTER=FOLDER); if they "
                    "are numbers from 0 or 1 on in both tables, --other-people (of a Ledger "
                    "other_people=True)",
                )
            if may_be_the_same(mine, known):
                raise ArtefactError(
                    "whether these patients have a privacy budget already cannot be told: too few "
                    "of their records differ",
                    where=where,
                    got=f"{mine.patients:,} patients, nearly all with records like those for whom "
                    f"{budget.path} was charged",
                    expected="records most of which no other patient has, or the same ledger",
                    fix=f"--ledger {budget.path} (wherever it lies now); if they are other people, "
                    "keep a register for each site (MEDMCL_REGISTER=FOLDER)",
                )

    def refuse_private(self, people: Sequence[People]) -> None:
        """Refuse patients of whom noisy releases were made: a threshold keeps no epsilon.

        Raises:
            ArtefactError: A budget was charged for some of them.
        """
        for budget, mine, known in self._charged(people):
            if alike := shared_patients(mine, known):
                raise ArtefactError(
                    "noisy releases of these patients were made, and what epsilon promises them "
                    "does not hold against who has exact counts of them too",
                    got=f"{alike:,} patients for whom {budget.path} was charged",
                    expected="patients without a privacy budget, or noise (release-private)",
                    fix="--beside-private (beside_private=True) if that is meant; the manifest of "
                    "a release then says it",
                )

    def _charged(
        self, people: Sequence[People], but: str | None = None, *, other_people: bool = False
    ) -> Iterator[tuple[BudgetKeys, People, People]]:
        """Each budget with those of ``people`` and of whom it was charged for that may compare.

        Names that may be row numbers are names too, unless somebody says that those of both tables
        are of rows, or said so as either of two budgets was charged for the same rows.
        """
        budgets = self.read().budgets
        own = budgets.get(but or "")
        again = own is not None and any(
            shared_patients(one, self._people(known))
            for known, one in product(own.people, people)
            if known.kind == one.kind == "records"
        )
        for name, budget in budgets.items():
            said = again and ROWS_OF_OTHERS in f"{own and own.values} {budget.values}"
            for known, one in product(budget.people if name != but else (), people):
                kinds = {one.kind, known.kind}
                if kinds == {"numbers"} and (other_people or said):
                    continue
                if "numbers" in kinds and kinds <= {"subjects", "numbers"}:
                    named_so = replace(one, kind="subjects")
                    yield budget, named_so, replace(self._people(known), kind="subjects")
                elif one.kind == known.kind:
                    yield budget, one, self._people(known)

    def read(self) -> RegisterKeys:
        """What stands in ``register.json``.

        Raises:
            ArtefactError: It was changed by another hand, or with another key.
        """
        if not self._file.exists():
            for what, made in (
                ("releases", "releases were made"),
                ("shares", "shares were made"),
                ("people", "budgets were charged"),
            ):
                lost = self.folder / what
                if lost.is_dir() and any(is_content(one) for one in lost.iterdir()):
                    raise ArtefactError(f"is missing, and {made}", where=self._file, fix=_BACKUP)
            return RegisterKeys(schema=SCHEMA)
        values = read_json(self._file)
        if re.fullmatch(_EARLIER, str(values.get("schema"))):
            raise ArtefactError(
                "was written by an earlier medmcl, in which a patient had one name in rows and "
                "another in counts, so that budgets were not known again",
                where=self._file,
                got=values["schema"],
                expected=SCHEMA,
                fix=f"move all that is in {self.folder} elsewhere but key and rounds; then, before "
                "anything else, count and release again what was released then, share again in a "
                "next round what was shared, and give patients who have a ledger no other one: it "
                "goes on, and from its next charge on they are known again",
            )
        keys = check(RegisterKeys, values, self._file, ArtefactError)
        if not hmac.compare_digest(keys.seal, self._seal(keys)):
            raise ArtefactError(
                "was changed by another hand: its seal is another", where=self._file, fix=_BACKUP
            )
        return keys

    def _key(self) -> bytes:
        return register_key(self.keys or self.folder)

    @property
    def _file(self) -> Path:
        return self.folder / "register.json"

    def _people(self, keys: OwnerKeys) -> People:
        file = self.folder / "people" / f"{keys.site}.npy"
        with damage(file, error=ArtefactError, fix=_BACKUP):
            found = named(np.load(file, allow_pickle=False), keys.kind)
        if found.site != keys.site:
            raise ArtefactError("was changed by another hand", where=file, fix=_BACKUP)
        return found

    def _write(self, keys: RegisterKeys) -> None:
        sealed = keys.model_copy(update={"seal": self._seal(keys)})
        text = json.dumps(sealed.model_dump(by_alias=True, mode="json"), indent=1)
        write_atomically(self._file, text + "\n", mode=0o600)

    def _seal(self, keys: RegisterKeys) -> str:
        said = keys.model_dump(by_alias=True, mode="json", exclude={"seal"})
        return self._sealed(json.dumps(said, sort_keys=True))

    def _sealed(self, text: str) -> str:
        return hmac.new(self._key(), text.encode(), hashlib.sha256).hexdigest()


def unseen() -> list[str]:
    """What to say where no site register is named."""
    if names_a_register():
        return []
    return [
        f"no register of the site is named ({PLACE}=FOLDER): releases from other folders are seen "
        "only by folders of counts that remember them, and budgets beside other rows not at all"
    ]


def memory_of(kept: Counts, exact: Counts) -> Counts:
    """What a register remembers of a release: its cells with their patients, and whose they are.

    Also the most that one patient has of a token, and that one of several sites gives to a cell: by
    that it is known that no difference is mostly of one.

    Args:
        kept: The release's cells, blocks with patients.
        exact: The counts that it is made of.
    """
    margins = {}
    for name, one in kept.margins.items():
        cells, most = one.tokens + one.pairs, exact.margins[name].most
        margins[name] = Margin(cells, one.pairs, most=None if most is None else most * (cells > 0))
    return replace(
        kept,
        margins=margins,  # sums of cells, by which the folder is checked when it is read
        units=0,
        patients=0,
        min_patients=None,
        notes=(),
        provenance=Provenance(people=people_of(exact)),
    )


def _rounded(counts: Counts) -> Counts:
    """As it is kept: what is the most of one patient or site is rounded up, and nobody's number."""
    margins = {
        name: replace(one, most=None if one.most is None else upper(one.most))
        for name, one in counts.margins.items()
    }
    blocks = dict(counts.blocks)
    for pair, block in blocks.items():
        if block.largest is not None:
            largest = ordered_cells(block.largest)
            largest.data = np.minimum(upper(largest.data), ordered_cells(block.pairs).data)
            blocks[pair] = replace(block, largest=largest)
    return replace(counts, margins=margins, blocks=blocks)


def _past(place: Path) -> Past:
    fewest, _, _ = place.name.partition("-")
    if not fewest.isdecimal():
        raise ArtefactError("is no entry of a register", where=place,
                            fix="move it away: only what medmcl wrote belongs there")  # fmt: skip
    return Past(place.name, load_counts(place), int(fewest))
