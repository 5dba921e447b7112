"""What ``manifest.json`` of saved counts says (schema ``medmcl/cooccurrence@1``)."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, StrictInt, field_validator

from medmcl.cooccurrence.count.windows import WindowName, check_pairing
from medmcl.core.config import Config
from medmcl.core.errors import ConfigError

SCHEMA: Final = "medmcl/cooccurrence@1"
Count = Annotated[StrictInt, Field(ge=0)]
Number = Annotated[StrictInt, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(gt=0, lt=1)]
File = Annotated[str, Field(pattern=r"^[a-z0-9_]+\.parquet$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ModalityKeys(Config):
    """One modality: how many tokens its vocabulary has, and the sums of its margins."""

    name: str
    version: str
    size: Count
    tokens: StrictInt
    pairs: StrictInt


class BlockKeys(Config):
    """One file of cells, for the tokens of ``first`` (i) and ``second`` (j)."""

    first: str
    second: str
    file: File
    sha256: Sha256
    cells: Count
    pairs: StrictInt
    patients_counted: bool
    pairs_per_patient: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None


class VocabularyKeys(Config):
    """The file of tokens and margins."""

    file: File
    sha256: Sha256


class ThresholdKeys(Config):
    """A release in which cells of few patients are absent.

    Attributes:
        min_patients: Cells of fewer patients are absent.
        absent: What an absent cell means.
        public_vocabulary: Whether tokens of few patients are named, because the vocabulary was
            fixed in public beforehand; otherwise they are left out.
        sites: Sites that were summed before cells were suppressed.
        warnings: What this release does not protect against.
    """

    mode: Literal["threshold"] = "threshold"
    unit: Literal["patient"] = "patient"
    min_patients: Annotated[StrictInt, Field(ge=2)]
    absent: Literal["0 or below the threshold"] = "0 or below the threshold"
    public_vocabulary: bool
    sites: Number
    warnings: tuple[str, ...] = ()


class SpentKeys(Config):
    """What all releases from the same patients cost together, this one included."""

    releases: Count
    rho: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    epsilon: Annotated[float, Field(ge=0, allow_inf_nan=False)]
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


class NoiseSharesKeys(Config):
    """Who added the noise, where no site and no coordinator ever held the exact sum.

    Attributes:
        sites: Each added a share.
        honest: So many shares alone cost the release's ``rho``: up to the other sites may pool what
            they know.
        each: Scale of one share in every cell, in token pairs.
    """

    sites: tuple[str, ...]
    honest: Number
    each: Positive


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
        shares: Whose shares the noise is the sum of; none if one site added it all.
        spent: By all releases from these patients; none where several sites keep a ledger each.
    """

    mode: Literal["differential privacy"] = "differential privacy"
    unit: Literal["patient"] = "patient"
    neighbours: Literal["add or remove one patient"] = "add or remove one patient"
    mechanism: Literal["discrete Gaussian", "sum of discrete Gaussians"] = "discrete Gaussian"
    epsilon: Positive
    delta: Probability
    rho: Positive
    sigma: Positive
    clip: dict[str, Number]
    clip_chosen: dict[str, ChosenClipKeys] = {}
    resolution: Number
    sensitivity: Number
    shares: NoiseSharesKeys | None = None
    spent: SpentKeys | None


class ManifestKeys(Config):
    """The whole manifest.

    Attributes:
        medmcl: Version that wrote it.
        min_patients: See `medmcl.cooccurrence.count.counts.Counts`; likewise ``noise_sd``,
        ``sites``
            (absent in older folders) and ``nested``.
        merged_from: See `medmcl.cooccurrence.count.provenance.Provenance`; likewise
            ``outside_vocabulary`` and ``splits``.
        release: How the counts were made safe to leave a site; none if they were not.
        checksum: Of all the rest (`medmcl.cooccurrence.exchange.checksum`); none in older folders.
    """

    schema_: Literal["medmcl/cooccurrence@1"] = Field(alias="schema")
    medmcl: str
    window: WindowName
    pairing: str
    units: Count | None
    patients: Count | None
    min_patients: Annotated[StrictInt, Field(ge=2)] | None = None
    noise_sd: Positive | None = None
    sites: Number | None = None
    nested: tuple[str, ...] = ()
    merged_from: tuple[Sha256, ...] = ()
    outside_vocabulary: Count | None = None
    splits: tuple[str, ...] | None = None
    modalities: tuple[ModalityKeys, ...]
    vocabulary: VocabularyKeys
    blocks: tuple[BlockKeys, ...]
    notes: tuple[str, ...] = ()
    release: Annotated[ThresholdKeys | PrivateKeys, Field(discriminator="mode")] | None = None
    checksum: Sha256 | None = None

    @field_validator("pairing")
    @classmethod
    def _known_pairing(cls, pairing: str) -> str:
        try:
            return check_pairing(pairing)
        except ConfigError as error:
            raise ValueError(error.what) from None
