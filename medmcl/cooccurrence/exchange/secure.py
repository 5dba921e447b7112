"""Sum the counts of three or more sites so that nobody sees the counts of one.

Each pair of sites adds the same pseudorandom row of numbers, one of them with a minus, modulo 2^64.
Each share alone is then uniform noise to whoever lacks the seeds; in the sum the masks cancel and
the plain sum is left, bit for bit (the masking of Bonawitz et al., CCS 2017, without its recovery
from sites that drop out).

Who sees what:

- The *coordinator* sees the shares and the sum. It holds no seed, and no site's counts.
- A *site* sees its own counts, its seeds, and the sum once it is published. It never sees a share.
- All follow the protocol and may be curious (honest but curious). A site that lies about its counts
  changes the sum and is not found out; checksums find accidents, not forgers.
- The coordinator together with all sites but two learns only the sum of those two; together with
  all but one it learns that one. With two sites each learns the other by subtraction: refused.
- The sum itself is exact. Small sums tell of patients: suppress (`release_threshold`) before it is
  published. To hide it from the coordinator too, have each site release with noise
  (`release_private`), and merge the releases.
- *Key agreement is not done here.* `pair_seed` gives 32 bytes from the operating system; one of the
  two sites makes them and brings them to the other by a channel that the coordinator cannot read.
- A mask is spent once: two shares with the same masks tell the difference of their counts. The
  round's name enters every mask, and `SiteKeys` refuses a round that it has masked for before. So
  keys that are lost are never rebuilt from an old seed, which would forget the rounds that were
  masked for: agree on new seeds with every site.
- A site that drops out stops the round. Nothing is lost: start another round without it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from medmcl.cooccurrence.count.counts import Counts, Provenance
from medmcl.cooccurrence.count.people import People
from medmcl.cooccurrence.exchange.flat import Layout, flatten, layout_of, unflatten
from medmcl.core.errors import ArtefactError

FEWEST_SITES = 3
SEED_BYTES = 32
_TAIL = 4
"""Words at the end that hold 1 at every site: their sum says whether the masks cancelled."""
_PIECE = 1 << 20


def pair_seed() -> bytes:
    """A secret for two sites, 32 bytes from the operating system."""
    return secrets.token_bytes(SEED_BYTES)


@dataclass(frozen=True)
class Round:
    """One secure sum: who takes part, in which layout, under a name that is used once.

    Attributes:
        name: Random, 32 hexadecimal digits.
        sites: All that take part, three or more.
        layout: Hash of vocabularies, window, pairing rule and blocks (`Layout.digest`).
    """

    name: str
    sites: tuple[str, ...]
    layout: str

    def __post_init__(self) -> None:
        if len(set(self.sites)) < len(self.sites):
            raise ArtefactError("a site takes part twice", got=", ".join(self.sites))
        if not all(site.strip() for site in self.sites):
            raise ArtefactError(
                "a site has no name", got=", ".join(map(repr, self.sites)), expected="a name each"
            )
        if len(self.sites) < FEWEST_SITES:
            raise ArtefactError(
                "too few sites to hide one: each would learn the other by subtraction",
                got=", ".join(self.sites) or "no site",
                expected=f"{FEWEST_SITES} sites or more",
            )


def new_round(sites: Sequence[str], layout: Layout) -> Round:
    """A round with a fresh name.

    Raises:
        ArtefactError: If there are fewer than three sites, or one twice.
    """
    return Round(secrets.token_hex(16), tuple(sites), layout.digest)


@dataclass(frozen=True)
class Share:
    """What a site hands to the coordinator: its counts under masks.

    Attributes:
        site: Who made it.
        round: For which round.
        layout: In which layout the site counted.
        values: uint64 (size + tail,), uniform to whoever lacks the seeds.
        pairs: For each other site a hash of the seed that was used; tells nothing of the seed.
        checksum: Of all of the above.
    """

    site: str
    round: str
    layout: str
    values: np.ndarray
    pairs: Mapping[str, str]
    checksum: str

    def is_whole(self) -> bool:
        """Whether it arrived as it was made."""
        return self.checksum == _checksum(
            self.site, self.round, self.layout, self.values, self.pairs
        )


@dataclass
class SiteKeys:
    """A site's seeds, one for each other site, and the rounds they were spent on.

    Attributes:
        site: Whose they are.
        seeds: Other site to the 32 bytes that the two share. Never handed to the coordinator.
        spent: Names of rounds that were masked for; keep it with the seeds.
    """

    site: str
    seeds: Mapping[str, bytes]
    spent: set[str] = field(default_factory=set)

    def share(self, counts: Counts, turn: Round) -> Share:
        """The site's counts under masks, for one round.

        Raises:
            ArtefactError: If the round was masked for before, a seed is missing or too short, the
                counts are of another layout, or so large that the sum could pass 2^63.
        """
        self._check(turn, layout_of(counts).digest)
        plain = flatten(counts)
        self.spent.add(turn.name)  # first: a share that is lost half-made has spent its masks
        if plain.min() < 0 or int(plain.max()) > (2**63 - 1) // len(turn.sites):
            raise ArtefactError(
                "counts are negative, or too large to be summed", where=self.site, got=plain.max()
            )
        tailed = np.concatenate([plain, np.ones(_TAIL, dtype=np.int64)])
        values = tailed.astype(np.int64).view(np.uint64)
        pairs = {}
        for other in turn.sites:
            if other == self.site:
                continue
            key = _key(self.seeds[other], turn, self.site, other)
            pairs[other] = hashlib.sha256(b"medmcl pair" + key).hexdigest()
            for piece, mask in _masks(key, len(values)):
                if self.site < other:
                    values[piece] += mask
                else:
                    values[piece] -= mask
        checksum = _checksum(self.site, turn.name, turn.layout, values, pairs)
        return Share(self.site, turn.name, turn.layout, values, pairs, checksum)

    def _check(self, turn: Round, layout: str) -> None:
        """Refuse a round that cannot be masked for with these keys, or is of another layout."""
        if self.site not in turn.sites:
            raise ArtefactError("takes no part in this round", where=self.site,
                                expected=", ".join(turn.sites))  # fmt: skip
        if turn.name in self.spent:
            raise ArtefactError(
                "has masked for this round before; a second share would tell the difference",
                where=self.site,
                got=turn.name,
                fix="start a new round: medmcl cooccur secure-start",
            )
        for other in turn.sites:
            if other != self.site and len(self.seeds.get(other, b"")) != SEED_BYTES:
                raise ArtefactError(
                    f"has no seed of {SEED_BYTES} bytes for {other}",
                    where=self.site,
                    fix=f"medmcl cooccur secure-pair --site {self.site} --other {other} --keys "
                    "KEYS --seed FILE: one of the two draws it and brings it to the other",
                )
        if layout != turn.layout:
            raise ArtefactError(
                "counts of another layout than the round's",
                where=self.site,
                expected="the same tokens in the same order, versions, window and pairing rule",
                fix="count over the vocabulary that the sites agreed on",
            )


def add_shares(shares: Sequence[Share], turn: Round, layout: Layout) -> Counts:
    """The plain sum of all sites.

    Raises:
        ArtefactError: If a site dropped out, sent twice, sent for another round or layout, a share
            was damaged, or two sites used different seeds; the message names the site.
    """
    _refuse_absent(shares, turn)
    for share in shares:
        _refuse_damaged(share, turn, layout)
    _refuse_other_seeds(shares)
    total = np.zeros(layout.size + _TAIL, dtype=np.uint64)
    for share in shares:
        total += share.values
    if (total[-_TAIL:] != len(turn.sites)).any() or (total[:-_TAIL] >= 2**63).any():
        raise ArtefactError(
            "the masks did not cancel, and no share says why",
            where=f"round {turn.name}",
            fix="a site did not follow the protocol; start a new round: medmcl cooccur "
            "secure-start",
        )
    summed = unflatten(total[:-_TAIL].astype(np.int64), layout)
    people = tuple(site_by_name(site) for site in turn.sites)
    return replace(summed, sites=len(turn.sites), provenance=Provenance(people=people))


def site_by_name(name: str) -> People:
    """The patients of a site whose counts nobody else sees: the same name, the same patients."""
    return People(hashlib.sha256(f"medmcl site {name}".encode()).hexdigest(), None)


def _refuse_absent(shares: Sequence[Share], turn: Round) -> None:
    sent = [share.site for share in shares]
    for what, sites in (
        ("dropped out", [s for s in turn.sites if s not in sent]),
        ("take no part in this round", [s for s in sent if s not in turn.sites]),
        ("sent more than one share", sorted({s for s in sent if sent.count(s) > 1})),
    ):
        if sites:
            raise ArtefactError(
                f"sites that {what}",
                where=f"round {turn.name}",
                got=", ".join(sites),
                expected=f"one share each from {', '.join(turn.sites)}",
                fix="have it sent, or start a new round with the sites that are there: medmcl "
                "cooccur secure-start",
            )


def _refuse_damaged(share: Share, turn: Round, layout: Layout) -> None:
    where = f"share of {share.site}"
    if not share.is_whole():
        raise ArtefactError("was damaged on its way", where=where, fix="have it sent again")
    if share.round != turn.name:
        raise ArtefactError(
            "is of another round", where=where, got=share.round, expected=turn.name,
            fix="an old share was sent again; ask for the one of this round",
        )  # fmt: skip
    if share.layout != layout.digest or turn.layout != layout.digest:
        raise ArtefactError("is of another layout", where=where, expected=layout.digest[:16])
    if share.values.dtype != np.uint64 or share.values.shape != (layout.size + _TAIL,):
        raise ArtefactError(
            "is of another size",
            where=where,
            got=f"{share.values.dtype} {share.values.shape}",
            expected=f"uint64 ({layout.size + _TAIL},)",
        )


def _refuse_other_seeds(shares: Sequence[Share]) -> None:
    said = {(share.site, other): tag for share in shares for other, tag in share.pairs.items()}
    for (one, other), tag in said.items():
        if said.get((other, one)) != tag:
            raise ArtefactError(
                "two sites used different seeds, so their masks do not cancel",
                where=f"{one} and {other}",
                fix="agree on one seed again (medmcl cooccur secure-pair, with new keys at both "
                "sites) and start a new round (secure-start)",
            )


def _key(seed: bytes, turn: Round, one: str, other: str) -> bytes:
    """A key for one pair in one round; every part goes in with its length."""
    state = hashlib.sha3_256(b"medmcl mask 1")
    for part in (
        seed,
        turn.name.encode(),
        turn.layout.encode(),
        *sorted((one.encode(), other.encode())),
    ):
        state.update(len(part).to_bytes(8, "little") + part)
    return state.digest()


def _masks(key: bytes, size: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Uniform uint64 numbers from SHAKE-256, piece by piece."""
    for number, start in enumerate(range(0, size, _PIECE)):
        stop = min(size, start + _PIECE)
        stream = hashlib.shake_256(key + number.to_bytes(8, "little")).digest(8 * (stop - start))
        yield slice(start, stop), np.frombuffer(stream, dtype="<u8").astype(np.uint64, copy=False)


def _checksum(
    site: str, turn: str, layout: str, values: np.ndarray, pairs: Mapping[str, str]
) -> str:
    state = hashlib.sha256()
    for part in (site, turn, layout, *(f"{s} {t}" for s, t in sorted(pairs.items()))):
        state.update(len(part.encode()).to_bytes(8, "little") + part.encode())
    state.update(np.ascontiguousarray(values, dtype="<u8").tobytes())
    return state.hexdigest()
