"""What a cohort says of cardiac MR, how a recipe prepares it, and how a view disturbs it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from medmcl.core.config import Config, Pixels, Probability
from medmcl.modalities.dicom import DICOM_KEYS, Chosen, FrameOrder


class FractionCrop(Config):
    """A square window at a fixed place, as fractions of the image squared by zero-padding.

    Source: the authors' code, utils of oetu/MMCL-ECG-CMR: top .21, left .325, size .375 of a
    canvas of 210 pixels. It is a position for UK Biobank's images as that code lays them out, not
    a detector: look at a few crops before you use it on other data.
    """

    top: Probability = 0.21
    left: Probability = 0.325
    size: Annotated[float, Field(gt=0, le=1)] = 0.375
    canvas: PositiveInt | None = None
    """pixels of the square before cropping; none: the longer side"""

    @model_validator(mode="after")
    def _check(self) -> FractionCrop:
        if self.top + self.size > 1 or self.left + self.size > 1:
            raise ValueError("the window leaves the image: top + size and left + size must be <= 1")
        return self


class CMRSource(Config):
    """What a cohort says of its cardiac MR files."""

    reader: Literal["nifti", "npy", "dicom"]
    axes: str | None = None
    """a letter for each axis of a file, in its order: xyzt, xyz, tyx; DICOM says it itself: there,
    which axes may be longer than 1"""
    series: Chosen | None = None
    """dicom: number or description of the series that is meant, * for any letters; a list: together
    they are one stack"""
    frame_order: FrameOrder = "trigger_time"
    """dicom: what orders the frames of a slice in time"""
    repeated: Literal["refuse", "last"] = "refuse"
    """dicom: of series of one description at one place, take the last by number"""
    spacing_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    """along x, y, z; overrides the header"""
    row: str | None = None
    """npy: column with the row of the array"""
    frames: dict[str, str] = {}
    """named frame to the column with its number: {ed: ED, es: ES}"""
    first_frame: Literal[0, 1] = 0
    """number of a cycle's first frame in those columns (ACDC: 1)"""
    orient: Literal["canonical", "stored"] = "canonical"
    """turn the plane by the header, or leave it as stored"""

    def named_cells(self) -> Iterable[str]:
        """Columns with the numbers of frames."""
        return self.frames.values()

    @model_validator(mode="after")
    def _check(self) -> CMRSource:
        if self.axes is not None:
            letters = set(self.axes)
            if not {"x", "y"} <= letters <= set("xyzt") or len(letters) != len(self.axes):
                raise ValueError("axes: each of x, y, z, t at most once; x and y are needed")
        elif self.reader != "dicom":
            raise ValueError(f"axes: the {self.reader} format does not say it; say axes: xyzt")
        for key in DICOM_KEYS:
            default = type(self).model_fields[key].default
            if self.reader != "dicom" and getattr(self, key) != default:
                raise ValueError(f"{key}: only the reader dicom knows it")
        if self.row is not None and self.reader != "npy":
            raise ValueError("row: only the npy reader reads rows")
        return self


class Grid(Config):
    """A volume of one size and spacing, 8-bit levels scaled to [0, 1]; along x, y, z.

    Defaults are those of CineMA (Fu et al. 2025): see `medmcl.modalities.cmr.grid`.
    """

    spacing_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (1.0, 1.0, 10.0)
    voxels: tuple[PositiveInt, PositiveInt, PositiveInt] = (192, 192, 16)
    """cut about the left ventricle, or the middle; padded"""
    label: PositiveInt = 3
    """of the left ventricle in a mask (ACDC: 3)"""
    lower_percentile: Annotated[float, Field(ge=0, lt=50)] = 0.95
    upper_percentile: Annotated[float, Field(gt=50, le=100)] = 99.5
    levels: Annotated[int, Field(ge=2)] = 256
    """grey values kept"""


class CMRSettings(Config):
    """How a recipe prepares cardiac MR.

    ``multi_frame_2d``: one slice, frames as channels, (frames, Y, X). ``volume_3d``: one frame,
    (1, Z, Y, X). ``cine_2dt``: one slice over the cycle, (T, Y, X). ``cine_3dt``: (T, Z, Y, X).
    """

    mode: Literal["multi_frame_2d", "volume_3d", "cine_2dt", "cine_3dt"] = "multi_frame_2d"
    frames: tuple[str, ...] | PositiveInt | None = None
    """names (es, mid, ed, or as declared), or how many evenly over the cycle; none: es, mid, ed for
    multi_frame_2d (the paper's), or es, ed where most train records have no frame between these; ed
    for volume_3d, 16 for cines"""
    slice_at: Probability = 0.5
    """position in the stack; .5 is slice Z // 2, the paper's"""
    spacing_mm: PositiveFloat | None = None
    """resample the plane to this; none: as acquired (the paper's)"""
    slice_spacing_mm: PositiveFloat | None = None
    """resample along z"""
    size: Pixels | tuple[Pixels, Pixels] = 210
    """pixels (Y, X), or of a square; 210 is the paper's"""
    slices: Pixels = 10
    """3-D modes: slices, cut or padded"""
    crop: Literal["none", "center"] | FractionCrop = "none"
    """none: pad to a square and resize; center: cut or pad, no resizing; or a window (the paper's:
    {top: .21, left: .325, size: .375, canvas: 210}) and resize"""
    lower_percentile: Annotated[float, Field(ge=0, lt=50)] = 0.0
    upper_percentile: Annotated[float, Field(gt=50, le=100)] = 99.0
    """of the whole volume, clipped and scaled to 1 (the paper's)"""

    grid: Grid | None = None
    """volume_3d: resampled, cut and scaled as CineMA's authors do it; {}: their numbers; takes the
    place of spacing, size, slices, crop and percentiles"""

    @model_validator(mode="after")
    def _check(self) -> CMRSettings:
        chosen = self.chosen_frames
        if self.grid is not None and self.mode != "volume_3d":
            raise ValueError("grid: volumes only; say mode: volume_3d")
        if (
            self.mode == "volume_3d"
            and chosen != 1
            and (isinstance(chosen, int) or len(chosen) > 1)
        ):
            raise ValueError("volume_3d takes one frame; cine_3dt takes several")
        if isinstance(chosen, tuple) and not chosen:
            raise ValueError("frames: name at least one")
        return self

    @property
    def chosen_frames(self) -> tuple[str, ...] | int:
        """Frames by name, or their number, with the default of the mode filled in."""
        if self.frames is not None:
            return self.frames
        defaults: dict[str, tuple[str, ...] | int] = {
            "multi_frame_2d": ("es", "mid", "ed"),
            "volume_3d": ("ed",),
        }
        return defaults.get(self.mode, 16)

    @property
    def finds_frames(self) -> bool:
        """Whether the train records say if there is a frame between ES and ED."""
        return self.frames is None and self.mode == "multi_frame_2d"

    @property
    def is_flat(self) -> bool:
        """Whether one slice is taken."""
        return self.mode in ("multi_frame_2d", "cine_2dt")

    @property
    def depth(self) -> int:
        """Slices of the 3-D modes."""
        return self.slices if self.grid is None else self.grid.voxels[2]

    @property
    def plane(self) -> tuple[int, int]:
        """Pixels along (y, x)."""
        if self.grid is not None:
            return self.grid.voxels[1], self.grid.voxels[0]
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)


class CMRAugment(Config):
    """How a view disturbs cardiac MR.

    Source: Turgut et al. 2025 (arXiv 2308.05764) and its code. Differs: saturation jitter is left
    out, because it mixes time frames as if they were colours; brightness is always before
    contrast; flip, rotation and crop are one resampling instead of three.
    """

    probability: Probability = 0.95
    """of disturbing a row at all (paper)"""
    flip: Probability = 0.5
    """of mirroring along x (paper)"""
    rotation_deg: NonNegativeFloat = 45.0
    """up to, either way (paper)"""
    rotation: Probability = 1.0
    """of turning (code; the paper says .5)"""
    brightness: Probability = 0.5
    """factor 1 +- this (code; paper .25)"""
    contrast: Probability = 0.5
    """factor 1 +- this (code; paper .25)"""
    scale: tuple[PositiveFloat, PositiveFloat] = (0.6, 1.0)
    """area of the random crop, as a fraction (paper)"""
    ratio: tuple[PositiveFloat, PositiveFloat] = (0.75, 4 / 3)
    """width over height of the random crop (code)"""
    noise: NonNegativeFloat = 0.0
    """deviation of added noise (not paper)"""
    gibbs: Probability = 0.0
    """largest share of k-space cut off, by MONAI (not the paper's)"""

    @model_validator(mode="after")
    def _check(self) -> CMRAugment:
        for name, (low, high) in (("scale", self.scale), ("ratio", self.ratio)):
            if low > high:
                raise ValueError(f"{name}: the first number must not exceed the second")
        if self.scale[1] > 1:
            raise ValueError("scale: a crop is at most the whole image, 1")
        return self
