"""What all releases from the same patients cost together, in a file that the site keeps.

The file is bound to its patients by the registers (`medmcl.cooccurrence.release.register`) beside
it and beside the patients' rows, or the one of the site. They keep a copy of each budget as it was
last charged and the tags of whom it was charged for. So a second ledger for the same rows is
refused wherever it lies, and a ledger that was cut, edited or set back to an older copy.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from medmcl.cooccurrence.count.people import PLACE, People
from medmcl.cooccurrence.exchange.manifest import Positive, Probability, SpentKeys
from medmcl.cooccurrence.exchange.tables import read_json
from medmcl.cooccurrence.release.accounting import check_budget, epsilon_of, rho_for
from medmcl.cooccurrence.release.register import ROWS_OF_OTHERS, BudgetKeys, Register
from medmcl.core.atomic import write_atomically
from medmcl.core.config import Config, check
from medmcl.core.errors import ArtefactError
from medmcl.core.file_lock import alone, sweep_lock

log = logging.getLogger(__name__)
SCHEMA: Final = "medmcl/privacy-ledger@1"


class EntryKeys(Config):
    """One release: what it was and what it cost."""

    what: str
    rho: Positive


class LedgerKeys(Config):
    """The whole file: the budget, fixed when it was made, and every release charged to it.

    Attributes:
        id: By which the register knows it; files that older versions wrote get one when charged.
        checksum: Of all the rest; finds edits by hand.
    """

    schema_: Literal["medmcl/privacy-ledger@1"] = Field(alias="schema")
    id: str | None = None
    epsilon: Positive
    delta: Probability
    releases: tuple[EntryKeys, ...] = ()
    checksum: str | None = None


@dataclass(frozen=True)
class Ledger:
    """A budget of (epsilon, delta) for all releases from the same patients.

    Costs are charged before noise is drawn: a release that dies halfway has still been paid for.
    Sites with different patients have each their own; their releases together cost no more than
    the dearest of them.

    Attributes:
        path: Where the ledger is kept. Not part of any release; back it up with the patients.
        register: What binds it to the patients; those beside it and beside their rows if not given.
        rows: The table of these patients, if they come as one.
        other_people: Patients who are called by the numbers of rows (from 0 or 1 on), as others
            are for whom another budget was charged, are not they: somebody says so, and each
            charge tells it.
    """

    path: Path
    register: Register | None = None
    rows: Path | None = None
    other_people: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(os.path.realpath(self.path)))  # by whatever link

    @classmethod
    def start(
        cls, path: str | Path, *, epsilon: float, delta: float, register: Register | None = None
    ) -> Ledger:
        """A new ledger with this budget.

        Raises:
            ArtefactError: If the file is there already: a budget is not refilled.
        """
        check_budget(epsilon, delta)
        path = Path(os.path.realpath(path))
        if path.exists():
            sweep_lock(path)
            raise ArtefactError(
                "there is a budget already, and it is fixed once",
                where=path,
                fix=f"read it: medmcl cooccur budget {path}; another file for other patients only",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        ledger = cls(path, register)
        with ledger._alone():
            keys = LedgerKeys(schema=SCHEMA, id=secrets.token_hex(16), epsilon=epsilon, delta=delta)
            ledger._write(_checked(keys))
        return ledger

    def read(self) -> LedgerKeys:
        """Budget and releases so far.

        Raises:
            ArtefactError: There is none, or it is not as it was written.
        """
        if not self.path.exists():
            raise ArtefactError(
                "there is no budget here",
                where=self.path,
                fix=f"start one: medmcl cooccur budget {self.path} --epsilon E --delta D",
            )
        keys = check(LedgerKeys, read_json(self.path), self.path, ArtefactError)
        if keys.id is not None and keys != _checked(keys):
            raise ArtefactError(
                "was changed after it was written: its checksum is another",
                where=self.path,
                fix="restore the ledger as it was last charged; nothing in it is edited by hand",
            )
        return keys

    def charge(self, what: str, rho: float, people: Sequence[People] = ()) -> SpentKeys:
        """Enter one release and give what was spent so far, this one included.

        Args:
            what: The release, in words.
            rho: What it costs.
            people: Whose it is; the budget is theirs from now on.

        Raises:
            ArtefactError: If the budget does not cover it, some of the patients have another
                budget, or the ledger is not as it was last charged; nothing is entered then.
        """
        with self._alone(), ExitStack() as stack:
            registers = self._registers()
            for register in registers:
                stack.enter_context(register.alone())
            keys = self._as_last_charged(registers)
            assert keys.id is not None
            for register in registers:
                register.refuse_other_budget(
                    keys.id, people, self.path, other_people=self.other_people
                )
            what += ROWS_OF_OTHERS if self.other_people else ""
            entries = (*keys.releases, EntryKeys(what=what, rho=rho))
            after = _checked(keys.model_copy(update={"releases": entries}))
            spent = _spent(after)
            if spent.epsilon > keys.epsilon * (1 + 1e-9):  # the bisection's last digits
                raise ArtefactError(
                    "the privacy budget does not cover this release",
                    where=self.path,
                    got=f"epsilon {spent.epsilon:.3g} together with {len(keys.releases)} before",
                    expected=f"{keys.epsilon:.3g} at delta {keys.delta:g}",
                    fix=f"an epsilon of at most {_left(keys):.3g} at that delta; spent is "
                    f"{_spent(keys).epsilon:.3g}",
                )
            for pending in (True, False):
                for register in registers:
                    known = register.budget(keys.id)
                    owners = (*(known.people if known else ()), *register.owners(people))
                    budget = BudgetKeys(
                        path=str(self.path.absolute()),
                        values=after.model_dump(by_alias=True, mode="json"),
                        pending=pending,
                        people=tuple(dict.fromkeys(owners)),
                    )
                    register.enter_budget(keys.id, budget)
                if pending:
                    self._write(after)
        return spent

    @contextmanager
    def paying(self, rho: float) -> Iterator[None]:
        """Charge also what is refused for what patients' rows hold: a refusal tells of them.

        Raises:
            ArtefactError: What was refused, and that it was charged.
        """
        try:
            yield
        except ArtefactError as error:
            self.charge("refused for what the rows hold", rho)
            raise ArtefactError(
                f"{error.what}; the release was charged, since a refusal tells of the rows",
                where=error.where,
                got=error.got,
                expected=error.expected,
                fix=f"{error.fix or 'mend the rows'}; medmcl cooccur listed looks at rows for free",
            ) from None

    def spent(self) -> SpentKeys:
        """What all releases so far cost together."""
        return _spent(self.read())

    def left(self) -> float:
        """The largest epsilon, at the ledger's delta, that one more release may cost."""
        return _left(self.read())

    def _registers(self) -> list[Register]:
        """All that know of it, in an order in which everybody waits for them."""
        if self.register is not None:
            return [self.register]
        places = [self.path, *([] if self.rows is None else [self.rows])]
        found = {one.folder: one for one in (Register.beside(at.parent) for at in places)}
        return [found[folder] for folder in sorted(found)]

    def _as_last_charged(self, registers: Sequence[Register]) -> LedgerKeys:
        """The file, if it is what the registers saw last.

        A process that was killed after it had entered a charge and before it wrote the file left
        the file one release behind: what was entered is spent, and the file is written now.
        """
        keys = self.read()
        if keys.id is None:
            return keys.model_copy(update={"id": secrets.token_hex(16)})
        seen = [(one, budget) for one in registers if (budget := one.budget(keys.id)) is not None]
        if not seen:
            if keys.releases:
                log.warning(
                    "%s was charged elsewhere: the register in %s does not know it (%s names "
                    "another)", self.path, registers[0].folder, PLACE,
                )  # fmt: skip
            return keys
        register, known = max(seen, key=lambda one: len(one[1].values["releases"]))
        last = check(LedgerKeys, known.values, self.path, ArtefactError)
        before = _checked(last.model_copy(update={"releases": last.releases[:-1]}))
        if keys == last or (known.pending and keys == before):
            if keys != last:
                log.warning("%s: the last charge was entered and not written; it stands", self.path)
            return last
        raise ArtefactError(
            "the ledger is not as it was last charged: it was edited, or set back to an older copy",
            where=self.path,
            got=f"{len(keys.releases)} releases, rho {_spent(keys).rho:.6g}",
            expected=f"{len(last.releases)} releases, rho {_spent(last).rho:.6g}, as the register "
            "knows it",
            fix=f"restore the newest copy; the register's stands in {register.folder} "
            f"(register.json, budgets, {keys.id})",
        )

    def _write(self, keys: LedgerKeys) -> None:
        write_atomically(self.path, json.dumps(keys.model_dump(by_alias=True), indent=2) + "\n")

    def _alone(self) -> AbstractContextManager[str]:
        """Nobody else charges meanwhile: two releases must not both see the same rest."""
        return alone(self.path, "another release is being charged")


def _checked(keys: LedgerKeys) -> LedgerKeys:
    """The same with its checksum."""
    said = keys.model_dump(by_alias=True, mode="json", exclude={"checksum"})
    whole = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    return keys.model_copy(update={"checksum": whole})


def _spent(keys: LedgerKeys) -> SpentKeys:
    total = math.nextafter(math.fsum(one.rho for one in keys.releases), math.inf)
    rho = total if keys.releases else 0.0
    return SpentKeys(
        releases=len(keys.releases),
        rho=rho,
        epsilon=epsilon_of(rho, keys.delta),
        delta=keys.delta,
    )


def _left(keys: LedgerKeys) -> float:
    """Costs add up as rho, so more is left than the difference of both epsilons."""
    rho = rho_for(keys.epsilon, keys.delta) - _spent(keys).rho
    return epsilon_of(rho, keys.delta) if rho > 0 else 0.0
