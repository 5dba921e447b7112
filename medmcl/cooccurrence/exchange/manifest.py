"""What ``manifest.json`` of saved counts says (schema ``medmcl/cooccurrence@1``).

Whether what a private release claims of its noise can be true is checked without OpenDP. A reader
cannot see the patients, but can see that a claim contradicts itself: noise of scale sigma on cells
that move by the sensitivity costs rho = (sensitivity / sigma)^2 / 2 at least, bounds that were
chosen from the patients cost what they say on top, and rho comes to no smaller epsilon than the
Gaussian mechanism's own (Balle and Wang, ICML 2018, theorem 8), below which no conversion can go.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, StrictInt
from scipy.special import log_ndtr

from medmcl.cooccurrence.count.people import Kind
from medmcl.cooccurrence.count.rules import WindowName
from medmcl.core.config import Config
from medmcl.core.errors import ArtefactError

SCHEMA: Final = "medmcl/cooccurrence@1"
Count = Annotated[StrictInt, Field(ge=0)]
Number = Annotated[StrictInt, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Probability = Annotated[float, Field(gt=0, lt=1)]
File = Annotated[str, Field(pattern=r"^[a-z0-9_]+\.parquet$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ModalityKeys(Config):
    """One modality: how many tokens its vocabulary has, and the sums of its margins."""

    most_bits: ClassVar[int] = 1024
    """Pairs are counted exactly, also beyond what arrays hold."""
    name: str
    version: str
    size: Count
    tokens: StrictInt
    pairs: StrictInt


class BlockKeys(Config):
    """One file of cells, for the tokens of ``first`` (i) and ``second`` (j)."""

    most_bits: ClassVar[int] = 1024
    """Pairs are counted exactly, also beyond what arrays hold."""
    first: str
    second: str
    file: File
    sha256: Sha256
    cells: Count
    pairs: StrictInt
    patients_counted: bool
    pairs_per_patient: Annotated[float, Field(ge=1)] | None = None


class VocabularyKeys(Config):
    """The file of tokens and margins."""

    file: File
    sha256: Sha256


class PatientsKeys(Config):
    """The patients of one site (`medmcl.cooccurrence.count.people.People`)."""

    site: Sha256
    patients: Count | None
    kind: Kind
    tags: Count | None


class PeopleKeys(Config):
    """Whose counts these are: the file of tags, none if none are known, and the sites in it."""

    file: File | None
    sha256: Sha256 | None
    sites: tuple[PatientsKeys, ...]


class ThresholdKeys(Config):
    """A release in which cells of few patients are absent.

    Attributes:
        min_patients: Cells of fewer patients are absent.
        absent: What an absent cell means.
        largest_share: Most of a cell's pairs that one patient may have given, or one of several
            sites; None in older folders, where nothing said so.
        entry: Keyed hash of what the register of the site says of this release.
        earlier_min_patients: Highest threshold of earlier releases of some of these patients, if
            it is above this one; None if none is, or in older folders.
        beside_private: Whether noisy releases of some of these patients were made before: what
            their epsilon promises does not hold against who has this release too.
        public_vocabulary: Whether tokens of few patients are named, because the vocabulary was
            fixed in public beforehand; otherwise they are left out.
        sites: Sites that were summed before cells were suppressed.
        warnings: What this release does not protect against.
    """

    mode: Literal["threshold"] = "threshold"
    unit: Literal["patient"] = "patient"
    min_patients: Annotated[StrictInt, Field(ge=2)]
    absent: Literal[
        "0 or below the threshold",
        "0, below the threshold, mostly of one patient or site, or told by earlier releases",
    ] = "0 or below the threshold"
    largest_share: Share | None = None
    entry: Sha256 | None = None
    earlier_min_patients: Annotated[StrictInt, Field(ge=2)] | None = None
    beside_private: bool = False
    public_vocabulary: bool
    sites: Number
    warnings: tuple[str, ...] = ()


class SpentKeys(Config):
    """What all releases from the same patients cost together, this one included."""

    releases: Count
    rho: Annotated[float, Field(ge=0)]
    epsilon: Annotated[float, Field(ge=0)]
    delta: Probability


class ChosenClipKeys(Config):
    """A clip bound that was chosen from the patients, and what it cost of the release's own.

    Attributes:
        quantile: Of the patients' lengths, with noise.
        longest: Bound of the search, fixed in public.
        rho: Most that the choice cost; part of the release's ``rho``.
        epsilon: The same at the release's ``delta``.
    """

    quantile: Probability
    longest: Number
    rho: Positive
    epsilon: Positive


class PrivateKeys(Config):
    """A release under differential privacy.

    Attributes:
        epsilon: Of this release alone, private choices of bounds included, at ``delta``.
        rho: Of this release alone, zero-concentrated differential privacy.
        sigma: Scale of the noise in every cell, in token pairs.
        clip: Largest length (L2) of a patient's counts, for each modality.
        clip_chosen: Those of the bounds that were chosen from the patients; the others are public
            constants.
        resolution: Counts were clipped and noised in units of one over this, squared for pairs.
        sensitivity: Most that one patient moves all cells (L2), in token pairs.
        shares: Of older folders, which say here that one site added all noise.
        spent: By all releases from these patients.
    """

    mode: Literal["differential privacy"] = "differential privacy"
    unit: Literal["patient"] = "patient"
    neighbours: Literal["add or remove one patient"] = "add or remove one patient"
    mechanism: Literal["discrete Gaussian"] = "discrete Gaussian"
    epsilon: Positive
    delta: Probability
    rho: Positive
    sigma: Positive
    clip: dict[str, Number]
    clip_chosen: dict[str, ChosenClipKeys] = {}
    resolution: Number
    sensitivity: Number
    shares: Annotated[None, Field(exclude=True)] = None
    spent: SpentKeys


class ManifestKeys(Config):
    """The whole manifest.

    Attributes:
        medmcl: Version that wrote it.
        min_patients: See `medmcl.cooccurrence.count.counts.Counts`; likewise ``noise_sd``,
        ``sites``
            (absent in older folders) and ``nested``.
        people: Whose counts they are; never in a release.
        merged_from: See `medmcl.cooccurrence.count.counts.Provenance`; likewise
            ``outside_vocabulary`` and ``splits``.
        release: How the counts were made safe to leave a site; none if they were not.
        checksum: Of all the rest (`medmcl.cooccurrence.exchange.tables`); none in older folders.
    """

    schema_: Literal["medmcl/cooccurrence@1"] = Field(alias="schema")
    medmcl: str
    window: WindowName
    pairing: Literal["product", "distinct"]
    units: Count | None
    patients: Count | None
    min_patients: Annotated[StrictInt, Field(ge=2)] | None = None
    noise_sd: Positive | None = None
    sites: Number | None = None
    nested: tuple[str, ...] = ()
    merged_from: tuple[Sha256, ...] = ()
    outside_vocabulary: Count | None = None
    splits: tuple[str, ...] | None = None
    people: PeopleKeys | None = None
    modalities: tuple[ModalityKeys, ...]
    vocabulary: VocabularyKeys
    blocks: tuple[BlockKeys, ...]
    notes: tuple[str, ...] = ()
    release: Annotated[ThresholdKeys | PrivateKeys, Field(discriminator="mode")] | None = None
    checksum: Sha256 | None = None


_ROUNDING = 1e-6


def check_private(keys: PrivateKeys, modalities: Sequence[str], where: object) -> None:
    """Refuse a private release whose claims contradict one another.

    Raises:
        ArtefactError: Names the first claim that cannot be true, and what it is at least.
    """
    if list(keys.clip) != list(modalities):
        _lie("clip", ", ".join(keys.clip), ", ".join(modalities), where)
    product = math.prod(keys.clip.values())
    if keys.sensitivity != product:
        _lie("sensitivity", keys.sensitivity, f"{product}, the product of the clips", where)
    for name, chosen in keys.clip_chosen.items():
        if keys.clip.get(name, math.inf) > chosen.longest:
            _lie(f"clip of {name}", keys.clip.get(name), f"at most {chosen.longest}", where)
    bounds = math.fsum(chosen.rho for chosen in keys.clip_chosen.values())
    least = (keys.sensitivity / keys.sigma) ** 2 / 2 + bounds
    if keys.rho < least * (1 - _ROUNDING):
        _lie("rho", keys.rho, f"{least:.6g} or more at this sensitivity and sigma", where)
    if keys.spent.releases < 1 or keys.spent.rho < keys.rho * (1 - _ROUNDING):
        _lie("spent.rho", keys.spent.rho, f"{keys.rho:.6g} or more: this release alone", where)
    for what, rho, epsilon, delta in (
        ("epsilon", keys.rho, keys.epsilon, keys.delta),
        ("spent.epsilon", keys.spent.rho, keys.spent.epsilon, keys.spent.delta),
    ):
        if least_delta(rho, epsilon) > delta * (1 + _ROUNDING):
            _lie(what, epsilon, f"more, at rho {rho:.6g} and delta {delta:g}", where)


def least_delta(rho: float, epsilon: float) -> float:
    """The delta that Gaussian noise of this rho has at ``epsilon``, exactly.

    Phi(m / 2 - epsilon / m) - e^epsilon Phi(-m / 2 - epsilon / m), m = sqrt(2 rho).
    """
    if rho == 0:
        return 0.0
    m = math.sqrt(2 * rho)
    inside = float(log_ndtr(m / 2 - epsilon / m))
    outside = epsilon + float(log_ndtr(-m / 2 - epsilon / m))
    return math.exp(inside) - math.exp(outside)


def _lie(what: str, got: object, expected: object, where: object) -> None:
    raise ArtefactError(
        f"the manifest does not tell the truth about: {what}",
        where=where,
        got=got,
        expected=expected,
        fix="have it sent again, or made anew: medmcl cooccur release-private",
    )
