"""What a cohort says of its ECG files, and how a recipe prepares them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from medmcl.core.config import Config, Probability
from medmcl.modalities.ecg.disturb import Disturbance
from medmcl.modalities.ecg.leads import TWELVE, canonical, is_known
from medmcl.modalities.ecg.steps import AnyStep, FlattenLeads, Rate, Resample, Windows, shortest

Reader = Literal[
    "wfdb", "muse_xml", "ukb_xml", "aecg", "dicom", "edf", "npy", "hdf5", "zarr", "parquet"
]

Spread = Annotated[float, Field(ge=0)]

WITHOUT_HEADER = ("npy", "hdf5", "zarr")
"""Readers of files that hold numbers alone."""
IN_COLUMNS = "parquet"
"""That of tables, which may say rate and unit in a column of times and in names of columns."""
NAMED = ("hdf5", "zarr")
"""Those of files that hold several arrays by name."""
NOT_IN_TABLES = ("rate_hz", "units")
"""What a cohort must say of the former."""


class ECGSource(Config):
    """What a cohort says of its ECG files."""

    reader: Reader | Literal["ecg"]
    """the format; ecg: by the file's ending"""
    leads: Literal["12std"] | tuple[str, ...] | dict[str, str] = "12std"
    """npy, hdf5, zarr: names along the lead axis. Other formats name their leads: a list says what
    they must hold, a mapping takes names in the files to leads ({MLII: II})"""
    rate_hz: PositiveFloat | None = None
    """needed for npy, hdf5, zarr and parquet; otherwise checked against the file"""
    units: Literal["mV", "uV", "µV", "V"] | None = None
    """needed for npy, hdf5, zarr and parquet; otherwise checked against the file"""
    axes: Literal["LS", "SL"] = "LS"
    """npy, hdf5, zarr: lead by sample, or sample by lead"""
    row: str | None = None
    """npy, hdf5, zarr, parquet with a list a lead: column of your table with the number of the row;
    with ids: its name"""
    dataset: str | None = None
    """hdf5, zarr: name of the array; not needed if there is one"""
    ids: str | None = None
    """hdf5, zarr: name of the list with the name of each row (exam_id)"""
    trim: Literal["zeros"] | None = None
    """zeros: what is zero in every lead at both ends, as CODE-15 pads, is cut off"""
    accept: dict[
        str, tuple[Literal["checksum", "swapped_leads", "wrong_rate", "wrong_units"], ...]
    ] = {}
    """record id to faults that somebody looked at and found none: they become warnings; '*' is
    every record and the cohort as a whole"""

    @field_validator("accept", mode="before")
    @classmethod
    def _ids_are_texts(cls, accept: Any) -> Any:
        return (
            {str(key): codes for key, codes in accept.items()}
            if isinstance(accept, dict)
            else accept
        )

    @model_validator(mode="after")
    def _check(self) -> ECGSource:
        if self.reader in WITHOUT_HEADER:
            unsaid = [name for name in NOT_IN_TABLES if getattr(self, name) is None]
            if unsaid:
                raise ValueError(
                    f"the {self.reader} format cannot say it: state {' and '.join(unsaid)}"
                )
        if self.row is not None and self.reader not in (*WITHOUT_HEADER, IN_COLUMNS, "ecg"):
            raise ValueError("row: only the readers npy, hdf5, zarr and parquet read rows")
        if self.reader in ("npy", *NAMED) and isinstance(self.leads, dict):
            raise ValueError(f"leads: {self.reader} files hold no names; give a list")
        for key in ("dataset", "ids"):
            if getattr(self, key) is not None and self.reader not in (*NAMED, "ecg"):
                raise ValueError(f"{key}: only the readers hdf5 and zarr know it")
        if self.ids is not None and self.row is None:
            raise ValueError("ids: say with row: COLUMN which column has these names")
        return self

    @property
    def axis_names(self) -> tuple[str, ...]:
        """Names along the lead axis of an npy file."""
        return self.leads if isinstance(self.leads, tuple) else TWELVE

    @property
    def rename(self) -> dict[str, str]:
        """Names in the files to leads."""
        return self.leads if isinstance(self.leads, dict) else {}


STEPS_REPLACE: dict[str, Any] = {"clip_sigma": None, "baseline": "none", "normalise": "none"}
"""Settings of the paper's preparation, and what they are where ``steps`` are given."""


class ECGSettings(Config):
    """How a recipe prepares ECGs. Defaults are those of Turgut et al. 2025 (code)."""

    rate_hz: Rate = 500.0
    """every record is resampled to it"""
    seconds: PositiveFloat = 10.0
    """length that is prepared and kept"""
    crop_seconds: PositiveFloat = 5.0
    """what the encoder sees: the first seconds, or a random piece"""
    leads: Literal["12std"] | tuple[str, ...] = "12std"
    """I II III aVR aVL aVF V1 to V6, or some leads in any order"""
    missing_leads: Literal["refuse", "zero"] = "refuse"
    """a lead that is absent and cannot be derived"""
    dead_leads: Literal["refuse", "mask"] = "refuse"
    """a lead without a signal (NaN, constant, at its rail for half of the time); mask: derived if
    it can be, otherwise absent"""
    most_masked_leads: PositiveInt = 3
    """a record in which more leads would be masked is judged as it is"""
    missing_samples: Literal["refuse", "interpolate", "zero"] = "refuse"
    """NaN in a lead; zero is the paper's"""
    pad: Literal["zero", "repeat"] | None = None
    """fill records that are too short; none: refuse them"""
    clip_sigma: PositiveFloat | None = 4.0
    """clip to +- this many standard deviations of the whole record"""
    baseline: Literal["als", "highpass", "none"] = "als"
    als_lambda: PositiveFloat = 1e7
    """stiffness at 500 Hz; scaled by (rate / 500)^4 at other rates"""
    als_p: Annotated[float, Field(gt=0, lt=1)] = 0.3
    als_reweightings: PositiveInt = 5
    highpass_hz: PositiveFloat = 0.5
    """cut-off of baseline: highpass"""
    normalise: Literal["lead_groups", "lead", "record", "none"] = "lead_groups"
    """one mean and variance each for I-III, aVR-aVF, V1-V6 (paper); or each lead; or the record;
    none: mV"""
    steps: tuple[AnyStep, ...] | None = None
    """a list of {step: NAME, ...}, taken in this order in place of clip_sigma, baseline and
    normalise; none: the record in mV. A record enters at rate_hz, or at its own rate where a step
    resamples; its first `seconds`, or (whole: true) all of it"""
    disturb: Disturbance | None = None
    """faults that are put into the record, in mV, before anything else: to study how an encoder
    bears them"""
    whole: bool = False
    """steps: the whole record enters, and a step cuts it. It may be shorter than `seconds` where a
    step takes pieces for as long as it lasts (of one piece; training repeats its pieces), or pads
    it"""

    @model_validator(mode="before")
    @classmethod
    def _steps_replace(cls, given: Any) -> Any:
        """With ``steps`` the paper's own are off, and nothing is cropped unless it is asked for."""
        if not isinstance(given, dict) or given.get("steps") is None:
            return given
        said = [key for key, off in STEPS_REPLACE.items() if given.get(key, off) != off]
        if said:
            raise ValueError(
                f"steps replace {', '.join(said)}: give either (where the card of a published "
                "encoder gives the steps, inputs.NAME={} leaves it to the card)"
            )
        seconds = given.get("seconds", cls.model_fields["seconds"].default)
        return {"crop_seconds": seconds, **given, **STEPS_REPLACE}

    @model_validator(mode="after")
    def _steps_alone(self) -> ECGSettings:
        if self.steps is None and self.whole:
            raise ValueError("whole: only where steps are given")
        kinds = [type(step) for step in self.steps or ()]
        if self.takes_all and FlattenLeads in kinds[: len(kinds) - kinds[::-1].index(Windows)]:
            raise ValueError("windows with every: before flatten_leads")
        if self.steps is not None and self.may_lack:
            raise ValueError(
                "steps: every lead must be there; missing_leads: refuse and dead_leads: refuse"
            )
        return self

    @field_validator("leads")
    @classmethod
    def _known_leads(cls, leads: Any) -> Any:
        if leads == "12std":
            return leads
        names = tuple(canonical(name)[0] for name in leads)
        unknown = [name for name in names if not is_known(name)]
        if unknown:
            raise ValueError(f"'{unknown[0]}' is not a lead (known: {', '.join(TWELVE)}, ...)")
        if not names or len(set(names)) < len(names):
            raise ValueError("leads: name at least one lead, and each once")
        return names

    @model_validator(mode="after")
    def _lengths(self) -> ECGSettings:
        if self.crop_seconds > self.seconds:
            raise ValueError("crop_seconds must not exceed seconds")
        for name in ("seconds", "crop_seconds"):
            samples = getattr(self, name) * self.rate_hz
            if abs(samples - round(samples)) > 1e-6 or samples < 3:
                raise ValueError(
                    f"{name} times rate_hz must be a whole number of samples, 3 or more"
                )
        if self.baseline == "highpass" and self.highpass_hz >= self.rate_hz / 2:
            raise ValueError("highpass_hz must lie below half of rate_hz")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Leads in their order."""
        return TWELVE if isinstance(self.leads, str) else self.leads

    @property
    def enters_as_recorded(self) -> bool:
        """Whether records enter the steps at their own rate: a step resamples."""
        return any(isinstance(step, Resample) for step in self.steps or ())

    @property
    def takes_all(self) -> bool:
        """Whether steps cut a record into pieces for as long as it lasts."""
        found = any(isinstance(step, Windows) and step.every for step in self.steps or ())
        return self.whole and found

    @property
    def least_seconds(self) -> float:
        """What a record must last at least, if it is not padded."""
        least = shortest(self.steps or (), self.rate_hz) if self.whole else None
        return self.seconds if least is None else min(self.seconds, least)

    @property
    def may_lack(self) -> bool:
        """Whether leads of a prepared record may be absent."""
        return self.missing_leads == "zero" or self.dead_leads == "mask"

    @property
    def samples(self) -> int:
        """Samples that are prepared."""
        return round(self.seconds * self.rate_hz)

    @property
    def crop_samples(self) -> int:
        """Samples that the encoder sees."""
        return round(self.crop_seconds * self.rate_hz)


class ECGAugment(Config):
    """How a view disturbs an ECG. Defaults disturb nothing; steps run in the order given here.

    Source:
        Turgut et al. 2025, arXiv 2308.05764, and its code. Masked modelling: crop, ft_surrogate
        .1 with probability .5, jitter .25, rescale .5. Contrastive: the same with ft_surrogate
        always and probability .95. Fine-tuning: ft_surrogate .075 with probability .5, jitter .2,
        rescale .5. Their SimCLR, BYOL and Barlow Twins add time_flip .5, sign_flip .5 and
        spec_augment .25.
    """

    probability: Probability = 1.0
    """of disturbing a row at all; the crop is not part of it (code)"""
    crop: bool = False
    """random start of the crop; otherwise start 0"""
    ft_surrogate: Probability = 0.0
    """phase noise, share of a full turn (paper: .1)"""
    ft_surrogate_probability: Probability = 1.0
    jitter: Spread = 0.0
    """sigma of multiplicative noise: x + .6 x N(0, sigma) (code: .25)"""
    noise: Spread = 0.0
    """sigma of additive noise, in units of the prepared signal"""
    rescale: Spread = 0.0
    """sigma of one factor N(1, sigma) a record (paper: .5)"""
    rescale_may_flip: bool = True
    """leave a negative factor as it is (code: 2.3 % at sigma .5), or take its size"""
    time_flip: Probability = 0.0
    sign_flip: Probability = 0.0
    spec_augment: Probability = 0.0
    """share of short-time spectrum that is blanked (code: .25)"""
    lead_dropout: Probability = 0.0
    """probability of blanking each lead; one is always kept"""
    time_mask: Probability = 0.0
    """share of the record blanked as one piece, in all leads"""
