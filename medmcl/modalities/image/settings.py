"""What a cohort says of its images, and how a recipe prepares them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from medmcl.core.config import Config, Pixels, Probability
from medmcl.modalities.dicom import Chosen

Interpolation = Literal["linear", "cubic", "nearest"]
Fit = Literal["pad", "stretch", "crop", "center"]
Three = tuple[float, float, float]
Positive = tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class Normalise(Config):
    """Mean and deviation of red, green, blue, of values in [0, 1]."""

    mean: Three
    std: Positive


ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif")
"""How the files are called that the reader `image` reads."""
USUAL: dict[str, tuple[Three, Three]] = {
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Those of OpenAI's and open_clip's models; of most of timm; of SigLIP and many ViTs of timm."""

Size = Pixels | tuple[Pixels, Pixels] | tuple[Pixels, Pixels, Pixels]


class ImageSource(Config):
    """What a cohort says of its images."""

    reader: Literal["image", "nifti", "dicom"]
    axes: str = "xyz"
    """nifti: a letter for each axis of a file, in its order"""
    spacing_mm: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    """along x, y, z; overrides the header"""
    orient: Literal["canonical", "stored"] = "canonical"
    """turn it as the file says (affine to RAS, EXIF), or leave it as stored"""
    window: bool = True
    """dicom: apply the window (or VOI table) that the file names"""

    series: Chosen | None = None
    """dicom: number or description of the series that is meant, * for any letters; a list: together
    they are one volume"""

    @model_validator(mode="after")
    def _check(self) -> ImageSource:
        letters = set(self.axes)
        if not {"x", "y"} <= letters <= set("xyz") or len(letters) != len(self.axes):
            raise ValueError("axes: each of x, y, z at most once; x and y are needed")
        for key, reader in (("axes", "nifti"), ("window", "dicom"), ("series", "dicom")):
            if key in self.model_fields_set and self.reader != reader:
                raise ValueError(f"{key}: only the reader {reader} knows it")
        return self


class ImageSettings(Config):
    """How a recipe prepares images.

    Two numbers of ``size`` make an image (channels, rows, columns), three a volume (channels,
    slices, rows, columns).
    """

    size: Size = 224
    """[rows, columns], or of a square, or [slices, rows, columns]"""
    channels: Literal["grey", "colour"] = "grey"
    """`grey`: one, the luminance of a colour; `colour`: three"""
    plane: Literal["axial", "coronal", "sagittal"] = "axial"
    """`axial`, `coronal` or `sagittal` slice of a volume, where `size` is flat"""
    slice_at: Probability = 0.5
    """which slice of that plane: 0 is inferior, posterior or left"""
    spacing_mm: PositiveFloat | None = None
    """resample every axis to this; none: as acquired"""
    fit: Literal["pad", "stretch", "crop", "center", "timm"] = "pad"
    """to `size`; `pad`: zeros beside the image; `crop`: what sticks out is cut; `stretch`:
    proportions change; `center`: cut or pad about the middle, no resizing; `timm`: `crop` to the
    pixel as timm and CLIP do it"""
    crop_pct: Annotated[float, Field(gt=0, le=1)] = 1.0
    """`fit: timm`: share of the resized side that is kept; timm's name and number"""
    interpolation: Literal["linear", "cubic", "nearest"] = "linear"
    """`linear` and `cubic` smooth before making an image smaller; `nearest`"""
    intensity: Literal["percentile", "zscore", "range"] = "percentile"
    """`percentile`: 0 to 1 between two percentiles of the record; `zscore`: mean 0 and deviation 1
    of what is not 0; `range`: 0 to 1 over `range`"""
    lower_percentile: Annotated[float, Field(ge=0, lt=50)] = 0.0
    """what becomes 0"""
    upper_percentile: Annotated[float, Field(gt=50, le=100)] = 99.5
    """what becomes 1; of a volume, of all its voxels"""
    range: tuple[float, float] | None = None
    """values that become 0 and 1; none: what 8 or 16 bits can hold"""
    normalise: Literal["none", "clip", "imagenet", "half"] | Normalise = "none"
    """what a pretrained network saw: mean and deviation of each colour taken out of 0 to 1 (`clip`,
    `imagenet`, `half` and half, or {mean, std}), after augmentation"""

    @model_validator(mode="after")
    def _check(self) -> ImageSettings:
        if self.normalise != "none" and (self.channels == "grey" or not self.is_unit):
            raise ValueError("normalise: needs channels: colour, and another intensity than zscore")
        if self.fit == "timm" and not (self.is_flat and len(set(self.shape)) == 1 and self.is_unit):
            raise ValueError("fit: timm makes square images, of another intensity than zscore")
        if self.crop_pct != 1 and self.fit != "timm":
            raise ValueError("crop_pct: only fit: timm reads it")
        if self.range is not None and self.intensity != "range":
            raise ValueError("range: only intensity: range reads it")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError("range: the first number must be below the second")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns) or (slices, rows, columns)."""
        return (self.size, self.size) if isinstance(self.size, int) else tuple(self.size)

    @property
    def is_flat(self) -> bool:
        """Whether an image is made, not a volume."""
        return len(self.shape) == 2

    @property
    def is_unit(self) -> bool:
        """Whether prepared values lie in [0, 1]."""
        return self.intensity != "zscore"

    @property
    def mean_and_std(self) -> tuple[Three, Three] | None:
        """What is taken out of each colour; None: nothing."""
        if isinstance(self.normalise, Normalise):
            return self.normalise.mean, self.normalise.std
        return USUAL.get(self.normalise)


class ImageAugment(Config):
    """How a view disturbs images.

    Mirroring is off: left and right of a body are not alike. Source of the hole: DeVries and
    Taylor 2017 (arXiv 1708.04552). Differs: its area is set, not its side; it stays inside.
    """

    probability: Probability = 1.0
    """of disturbing a row at all"""
    flip: Probability = 0.0
    """of mirroring left and right"""
    flip_rows: Probability = 0.0
    """of mirroring top and bottom"""
    rotation_deg: NonNegativeFloat = 10.0
    """up to, either way; of a volume, about each of its three axes"""
    zoom: tuple[PositiveFloat, PositiveFloat] = (0.9, 1.1)
    """factor on the size, about the middle"""
    crop: tuple[PositiveFloat, PositiveFloat] = (0.8, 1.0)
    """share of the area (volume) that a random window keeps"""
    brightness: Probability = 0.1
    """factor 1 +- this"""
    contrast: Probability = 0.1
    """factor 1 +- this, about the mean"""
    noise: NonNegativeFloat = 0.0
    """deviation of added noise"""
    cutout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """share of the area (volume) of a hole of zeros"""

    @model_validator(mode="after")
    def _check(self) -> ImageAugment:
        for name, (low, high) in (("zoom", self.zoom), ("crop", self.crop)):
            if low > high:
                raise ValueError(f"{name}: the first number must not exceed the second")
        if self.crop[1] > 1:
            raise ValueError("crop: a window is at most the whole image, 1")
        return self

    @property
    def moves(self) -> bool:
        """Whether pixels change place, mirroring aside."""
        still = self.zoom == self.crop == (1.0, 1.0)
        return self.rotation_deg > 0 or not still
