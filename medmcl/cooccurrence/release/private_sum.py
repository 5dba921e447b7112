"""A private release of several sites whose exact sum nobody ever holds.

Each site clips its patients, adds a share of the noise to its own cells, and masks them (see
`medmcl.cooccurrence.exchange.secure`). In the sum the masks cancel and the shares of noise add up.

What is promised to a patient, who is at one site: (epsilon, delta) against everybody who sees the
release, and against any sites of the round, with the coordinator or without, that together are no
more than all but ``honest``: the noise of ``honest`` sites alone is enough. Each site knows its own
noise, so ``honest`` is at most all sites but one. Sites are honest but curious: one that adds no
noise, or counts that are not clipped, is not found out. Towards those who see masked shares the
promise rests on SHAKE-256, besides. A patient of two sites is protected as two patients.

A round is a public file, the same for all sites. A site that drops out ends the round: no sum can
be had without it. Another round has fresh noise, and each site pays again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from medmcl.cooccurrence.count.counts import Vocabulary
from medmcl.cooccurrence.count.people import people_of_rows
from medmcl.cooccurrence.count.rules import WindowName
from medmcl.cooccurrence.count.tokens import Table, whole
from medmcl.cooccurrence.exchange.manifest import (
    NoiseSharesKeys,
    Number,
    Positive,
    PrivateKeys,
    Probability,
)
from medmcl.cooccurrence.exchange.secure import FEWEST_SITES, Round, Share, SiteKeys, masked_sum
from medmcl.cooccurrence.exchange.secure_files import PRIVATE_ROUND, SECURE_ROUND
from medmcl.cooccurrence.exchange.tables import read_json
from medmcl.cooccurrence.release.accounting import (
    add_noise,
    epsilon_of,
    rho_for,
    rho_of_shares,
    scale_of_shares,
)
from medmcl.cooccurrence.release.clipping import check_bound
from medmcl.cooccurrence.release.ledger import Ledger
from medmcl.cooccurrence.release.private import (
    RESOLUTION,
    clipped_pairs,
    names_of,
    noisy_counts,
    refuse_unfit,
    words_of,
)
from medmcl.cooccurrence.release.release import Release
from medmcl.core.atomic import write_atomically
from medmcl.core.config import Config, check
from medmcl.core.errors import ArtefactError

_UNITS = RESOLUTION**2
_LARGEST = 1 << 60


@dataclass(frozen=True)
class Plan:
    """What all sites of a private round do, public.

    Attributes:
        vocabularies: Of both modalities, fixed in public, each with a version.
        clip: Largest length (L2) of a patient's counts of each modality, public constants.
        epsilon: Of the release.
        delta: Of the release.
        honest: So many sites' noise alone keeps the promise.
        window: Whose windows the rows are.
        scale: Of each site's noise, in the units of its cells (pairs / 256).
        rho: Most that the release costs with the noise of ``honest`` sites.
    """

    vocabularies: Mapping[str, Vocabulary]
    clip: Mapping[str, Number]
    epsilon: Positive
    delta: Probability
    honest: Number
    window: WindowName
    scale: Positive
    rho: Positive

    @property
    def shape(self) -> tuple[int, int]:
        """Cells, rows by columns."""
        first, second = self.vocabularies.values()
        return len(first), len(second)

    @property
    def sensitivity(self) -> int:
        """Most that one patient moves all cells (L2), in pairs."""
        return math.prod(self.clip.values())

    @property
    def digest(self) -> str:
        """Hash of all of it; sites that differ in anything cannot sum."""
        words = [[name, one.version, one.tokens] for name, one in self.vocabularies.items()]
        numbers = [self.epsilon, self.delta, self.honest, self.scale, self.rho, RESOLUTION]
        text = json.dumps(["private sum", words, dict(self.clip), self.window, numbers])
        return hashlib.sha256(text.encode()).hexdigest()

    def check(self, sites: int) -> None:
        """Refuse a plan that does not keep what it promises.

        Every site checks it before it gives anything: the noise is not taken on trust.

        Raises:
            ArtefactError: Too few sites or too much trust, no bound, or noise that is too small
                for its rho, or a rho that is too large for its epsilon.
        """
        names_of(self.vocabularies)
        if list(self.clip) != list(self.vocabularies):
            raise ArtefactError("every modality needs a clip bound", got=", ".join(self.clip),
                                expected=", ".join(self.vocabularies))  # fmt: skip
        for bound in self.clip.values():
            check_bound(bound, RESOLUTION)
        if sites < FEWEST_SITES or not 1 <= self.honest <= sites - 1:
            raise ArtefactError(
                "each site knows its own noise, which hides nothing from it",
                got=f"{self.honest} honest of {sites} sites",
                expected=f"{FEWEST_SITES} sites or more, honest from 1 to all but one",
            )
        rows, columns = self.shape
        cost = rho_of_shares(self.sensitivity * _UNITS, self.scale, self.honest, rows * columns)
        promised = epsilon_of(self.rho, self.delta)
        if cost > self.rho or promised > self.epsilon * (1 + 1e-9):
            raise ArtefactError(
                "the plan's noise does not keep its promise",
                got=f"rho {cost:.6g}, epsilon {promised:.6g} at delta {self.delta:g}",
                expected=f"rho at most {self.rho:.6g}, epsilon at most {self.epsilon:g}",
                fix="have the round started anew; give no share for this one",
            )


def make_plan(
    vocabularies: Mapping[str, Vocabulary],
    clip: Mapping[str, int],
    *,
    epsilon: float,
    delta: float,
    sites: int,
    honest: int | None = None,
    window: str = "record",
) -> Plan:
    """The plan with as little noise as the promise allows.

    Args:
        vocabularies: Of both modalities, fixed in public.
        clip: Of each modality, public constants.
        epsilon: Of the release.
        delta: Of the release.
        sites: How many take part.
        honest: See `Plan`; all but one if not given. Fewer mean more noise: its variance is that
            of one release times sites / honest.
        window: Name of the window of a row.

    Raises:
        ArtefactError: See `Plan.check`.
    """
    trusted = sites - 1 if honest is None else honest
    rho = rho_for(epsilon, delta)
    moved = math.prod(clip.values()) * _UNITS
    cells = math.prod(len(words) for words in vocabularies.values())
    scale = scale_of_shares(moved, rho, max(trusted, 1), cells)
    plan = Plan(vocabularies, clip, epsilon, delta, trusted, window, scale, rho)
    plan.check(sites)
    return plan


def share_privately(
    x1: Table,
    x2: Table,
    *,
    plan: Plan,
    turn: Round,
    keys: SiteKeys,
    ledger: Ledger,
    patients: Sequence[object] | np.ndarray | None = None,
) -> Share:
    """A site's cells, clipped, with its share of the noise, under masks.

    Args:
        x1: Counts of the first modality, (n, d1), a row a patient, or a window of one.
        x2: Of the second, (n, d2), the same rows.
        plan: Of the round.
        turn: The round.
        keys: The site's seeds.
        ledger: Budget of the site's patients, charged with the whole release before noise is drawn.
        patients: Whose window each row is.

    Raises:
        ArtefactError: The plan does not keep its promise, the tables do not fit, the round was
            masked for, or the budget does not cover it; nothing is charged then. Or they hold what
            is no count: that is charged.
    """
    plan.check(len(turn.sites))
    first, second = plan.vocabularies
    with ledger.paying(plan.rho):
        one, two = whole(x1, first), whole(x2, second)
    refuse_unfit((one, two), plan.vocabularies, patients, plan.window)
    keys.check(turn, plan.digest)
    people = people_of_rows((one, two), words_of(plan.vocabularies), patients)
    what = f"{first} x {second}, {plan.window}, share of round {turn.name}"
    ledger.charge(what, plan.rho, people)
    noisy = add_noise(clipped_pairs(one, two, plan.clip, patients).ravel(), plan.scale)
    if _beyond(noisy, _LARGEST // len(turn.sites)):
        raise ArtefactError("cells are too large to be summed", where=keys.site)
    return keys.mask(noisy, turn, plan.digest)


def sum_privately(shares: Sequence[Share], turn: Round, plan: Plan) -> Release[PrivateKeys]:
    """The release of all sites together, from their masked shares.

    Raises:
        ArtefactError: See `medmcl.cooccurrence.exchange.secure.add_shares`, and `Plan.check`.
    """
    plan.check(len(turn.sites))
    rows, columns = plan.shape
    total = masked_sum(shares, turn, plan.digest, rows * columns).view(np.int64)
    if _beyond(total, _LARGEST):
        raise ArtefactError(
            "the masks did not cancel",
            where=f"round {turn.name}",
            fix="a site did not follow the protocol; start a new round",
        )
    each, sites = plan.scale / _UNITS, len(turn.sites)
    sigma = each * math.sqrt(sites)
    cells = total.reshape(rows, columns)
    counts = noisy_counts(cells, plan.vocabularies, plan.window, sigma, sites=sites)
    keys = PrivateKeys(
        mechanism="sum of discrete Gaussians",
        epsilon=epsilon_of(plan.rho, plan.delta),
        delta=plan.delta,
        rho=plan.rho,
        sigma=sigma,
        clip=dict(plan.clip),
        resolution=RESOLUTION,
        sensitivity=plan.sensitivity,
        shares=NoiseSharesKeys(sites=turn.sites, honest=plan.honest, each=each),
        spent=None,
    )
    return Release(counts, keys)


def _beyond(values: np.ndarray, largest: int) -> bool:
    return bool(((values > largest) | (values < -largest)).any())


class PrivateRoundKeys(Config):
    """The file of a round: who takes part, and what all do."""

    schema_: Literal["medmcl/private-round@1"] = Field(alias="schema")
    name: str
    sites: tuple[str, ...]
    plan: Plan


def save_private_round(turn: Round, plan: Plan, path: Path) -> None:
    """Write a round; nothing in it is secret."""
    keys = PrivateRoundKeys(schema=PRIVATE_ROUND, name=turn.name, sites=turn.sites, plan=plan)
    write_atomically(path, keys.model_dump_json(by_alias=True, indent=2) + "\n")


def load_private_round(path: Path) -> tuple[Round, Plan]:
    """Read a round and its plan.

    Raises:
        ArtefactError: If it is none, or its plan does not keep what it promises.
    """
    values = read_json(path)
    if values.get("schema") == SECURE_ROUND:
        raise ArtefactError(
            "is a round of an exact sum, without noise", where=path,
            fix="start one with noise: medmcl cooccur private-start",
        )  # fmt: skip
    keys = check(PrivateRoundKeys, values, path, ArtefactError)
    keys.plan.check(len(keys.sites))
    return Round(keys.name, keys.sites, keys.plan.digest), keys.plan
