"""What all releases from the same patients cost together, in a file that the site keeps."""

from __future__ import annotations

import json
import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from medmcl.cooccurrence.exchange.manifest import Positive, Probability, SpentKeys
from medmcl.cooccurrence.exchange.tables import read_json
from medmcl.cooccurrence.release.accounting import check_budget, epsilon_of, rho_for
from medmcl.core.atomic import write_atomically
from medmcl.core.config import Config, check
from medmcl.core.errors import ArtefactError
from medmcl.core.file_lock import alone

SCHEMA: Final = "medmcl/privacy-ledger@1"


class EntryKeys(Config):
    """One release: what it was and what it cost."""

    what: str
    rho: Positive


class LedgerKeys(Config):
    """The whole file: the budget, fixed when it was made, and every release charged to it."""

    schema_: Literal["medmcl/privacy-ledger@1"] = Field(alias="schema")
    epsilon: Positive
    delta: Probability
    releases: tuple[EntryKeys, ...] = ()


@dataclass(frozen=True)
class Ledger:
    """A budget of (epsilon, delta) for all releases from the same patients.

    Costs are charged before noise is drawn: a release that dies halfway has still been paid for.
    Sites with different patients have each their own; their releases together cost no more than
    the dearest of them.

    Attributes:
        path: Where the ledger is kept. Not part of any release; back it up with the patients.
    """

    path: Path

    @classmethod
    def start(cls, path: str | Path, *, epsilon: float, delta: float) -> Ledger:
        """A new ledger with this budget.

        Raises:
            ArtefactError: If the file is there already: a budget is not refilled.
        """
        check_budget(epsilon, delta)
        path = Path(path)
        if path.exists():
            raise ArtefactError(
                "there is a budget already, and it is fixed once",
                where=path,
                fix=f"read it: medmcl cooccur budget {path}; another file for other patients only",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        ledger = cls(path)
        with ledger._alone():
            ledger._write(LedgerKeys(schema=SCHEMA, epsilon=epsilon, delta=delta))
        return ledger

    def read(self) -> LedgerKeys:
        """Budget and releases so far."""
        if not self.path.is_file():
            raise ArtefactError(
                "there is no budget here",
                where=self.path,
                fix=f"start one: medmcl cooccur budget {self.path} --epsilon E --delta D",
            )
        return check(LedgerKeys, read_json(self.path), self.path, ArtefactError)

    def charge(self, what: str, rho: float) -> SpentKeys:
        """Enter one release and give what was spent so far, this one included.

        Raises:
            ArtefactError: If the budget does not cover it; nothing is entered then.
        """
        with self._alone():
            keys = self.read()
            entries = (*keys.releases, EntryKeys(what=what, rho=rho))
            after = keys.model_copy(update={"releases": entries})
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
            self._write(after)
        return spent

    def spent(self) -> SpentKeys:
        """What all releases so far cost together."""
        return _spent(self.read())

    def left(self) -> float:
        """The largest epsilon, at the ledger's delta, that one more release may cost."""
        return _left(self.read())

    def _write(self, keys: LedgerKeys) -> None:
        write_atomically(self.path, json.dumps(keys.model_dump(by_alias=True), indent=2) + "\n")

    def _alone(self) -> AbstractContextManager[str]:
        """Nobody else charges meanwhile: two releases must not both see the same rest."""
        return alone(self.path, "another release is being charged")


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
