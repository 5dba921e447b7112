"""Images: radiographs, photographs, slices and volumes of brains, 2-D or 3-D.

Pixels are (channels, [slices,] rows, columns) from the reader on. Volumes grow towards right,
anterior and superior (RAS) as their affine says, spacing is in mm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from medmcl.core import members
from medmcl.core.batch import InputShape
from medmcl.core.config import Config
from medmcl.core.contracts import RecordRef
from medmcl.core.errors import RecordError
from medmcl.core.findings import Finding
from medmcl.core.rng import RowGenerator
from medmcl.core.shown import ShownImage, aspect_of, colours_last
from medmcl.modalities.dicom import DICOM_ENDINGS
from medmcl.modalities.image.checks import (
    Look,
    Usual,
    check_depths,
    check_file,
    check_pixels,
    compare,
)
from medmcl.modalities.image.files import ImageRecord, of_stack, read_dicom_image, read_image
from medmcl.modalities.image.geometry import grey, scale
from medmcl.modalities.image.settings import ENDINGS, ImageAugment, ImageSettings, ImageSource
from medmcl.modalities.sketches import block_means, image_distance, image_sketch
from medmcl.modalities.volumes import PAIRS, files_of, read_nifti, zyx

if TYPE_CHECKING:
    from torch import Tensor

_FIT_ON = 20
"""So many images of the train split say what is usual."""
PLANES = ("axial", "coronal", "sagittal")
"""By the axis that is cut: slices, rows, columns."""
_FLAT_CELLS, _VOLUME_CELLS = 16, 8


class Image:
    """Pictures: photographs, radiographs, slides; see `medmcl.core.contracts.Adapter`."""

    kind: ClassVar[str] = "image"
    measured: ClassVar[bool] = True
    pictured: ClassVar[bool] = True
    triggers: ClassVar[str] = "pixels"
    input_projection: ClassVar[str] = "patches"
    endings: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(ENDINGS, "image"),
        **dict.fromkeys((".nii", ".nii.gz"), "nifti"),
        **dict.fromkeys(PAIRS, "nifti"),
        **dict.fromkeys(DICOM_ENDINGS, "dicom"),
    }
    packed: ClassVar[Mapping[str, tuple[str, str]]] = {"image": ("image", "{name}")}
    Source: ClassVar[type[Config]] = ImageSource
    Settings: ClassVar[type[Config]] = ImageSettings
    Augment: ClassVar[type[Config]] = ImageAugment

    def __init__(self, source: ImageSource, settings: ImageSettings) -> None:
        self.source, self.settings = source, settings
        self._usual: Usual | None = None

    def read(self, place: RecordRef) -> ImageRecord:
        """Read one file.

        Raises:
            RecordError: No path, or a file that cannot be read.
        """
        if "path" not in place.paths:
            raise RecordError("no file is named", fix="give the modality path: one template")
        path = place.paths["path"]
        turn = self.source.orient == "canonical"
        if self.source.reader == "image":
            raw = read_image(path, turn=turn)
        elif self.source.reader == "dicom":
            raw = read_dicom_image(
                path, window=self.source.window, series=self.source.series, turn=turn
            )
        else:
            raw = of_stack(read_nifti(path, self.source.axes, "body" if turn else "none"), path)
        declared = self.source.spacing_mm
        return raw if declared is None else replace(raw, spacing_mm=zyx(declared))

    def files(self, place: RecordRef) -> list[Path]:
        """The files of a record: of a folder of DICOM every file in it, of a pair both."""
        return files_of(self.source.reader, place.paths.values())

    def inspect(self, raw: ImageRecord, place: RecordRef) -> list[Finding]:
        """NaN, constant, nearly empty or saturated images, and what reading left out."""
        where = f"subject {place.subject}, {raw.where}"
        turned = self.source.orient == "canonical"
        return [*check_pixels(raw, where), *check_file(raw, where, turned=turned)]

    def inspect_together(self, raws: Iterable[ImageRecord]) -> list[Finding]:
        """Images of another size, on their side, with other channels or bits than the rest."""
        seen = [Look.at(raw) for raw in raws]
        return [*compare(seen, self._usual), *check_depths(seen, self.settings)]

    def pack(self, place: RecordRef) -> tuple[str, bytes]:
        """The file, byte for byte.

        Raises:
            RecordError: Its name does not say which kind of image it is, or it cannot be read.
        """
        path = place.paths["path"]
        if path.suffix.lower() not in ENDINGS:
            raise RecordError(
                "its name does not say which kind of image it is",
                where=path,
                got=path.suffix or "no suffix",
                expected=", ".join(ENDINGS),
                fix="give the file its suffix",
            )
        try:
            with members.open_binary(path) as file:
                return path.suffix.lower()[1:], file.read()
        except OSError as error:
            raise RecordError(
                "cannot be read",
                where=path,
                got=error.strerror or "there is no such member",
                fix="correct the path in cohort.yaml, or say with `present` which subjects have it",
            ) from None

    def show(self, raw: ImageRecord) -> ShownImage:
        """The whole of a flat image; of a volume the slice the recipe takes, else the middle."""
        if raw.pixels.ndim == 3:
            return ShownImage(
                pixels=colours_last(raw.pixels), aspect=aspect_of(*raw.spacing_mm[1:])
            )
        settings = self.settings
        plane, at = (settings.plane, settings.slice_at) if settings.is_flat else ("axial", 0.5)
        axis = PLANES.index(plane)
        count = raw.pixels.shape[1 + axis]
        taken = min(int(count * at), count - 1)
        pixels = np.take(raw.pixels, taken, axis=1 + axis)[:, ::-1]  # upright, as `take_slice`
        rows, columns = (mm for place, mm in enumerate(raw.spacing_mm) if place != axis)
        note = f"{plane} slice {taken + 1} of {count}"
        return ShownImage(pixels=colours_last(pixels), aspect=aspect_of(rows, columns), note=note)

    def sketch(self, raw: ImageRecord) -> np.ndarray | None:
        """Numbers by which copies know each other; see `medmcl.core.contracts.Sketches`."""
        return image_sketch(raw)

    def distance(self, raw: ImageRecord, other: ImageRecord) -> float:
        """How far two images are from being one, 0 to 1.41."""
        return image_distance(raw, other)

    def simple_features(self, raw: ImageRecord) -> dict[str, float]:
        """Means over 16 by 16 blocks of the prepared image (8 by 8 by 8 of a volume), grey."""
        prepared = self.prepare(raw).mean(axis=0)
        cells = (_FLAT_CELLS,) * 2 if self.settings.is_flat else (_VOLUME_CELLS,) * 3
        means = block_means(prepared, cells)
        letters = "rc" if self.settings.is_flat else "zrc"
        values = {}
        for place, value in np.ndenumerate(means):
            at = (f"{letter}{number:02d}" for letter, number in zip(letters, place, strict=True))
            values["_".join(("block", *at))] = float(value)
        return values

    def fit(self, raws: Iterable[ImageRecord]) -> None:
        """Note the usual size and channels, by which other cohorts' images are judged.

        Preparation learns nothing: every record is scaled by itself. 20 records are looked at.
        """
        looks = [Look.at(raw) for raw in islice(raws, _FIT_ON)]
        self._usual = Usual.of(looks) if looks else None

    def prepare(self, raw: ImageRecord) -> np.ndarray:
        """Channels, intensities, slice, spacing, size: (*prepared_shape) float32.

        Raises:
            RecordError: Values that are not finite or all alike, unknown spacing where resampling
                is asked for, a flat image where a volume is wanted.
        """
        import torch

        settings = self.settings
        if raw.pixels.ndim == 3 and not settings.is_flat:
            raise RecordError(
                "is a flat image, and the recipe makes volumes",
                where=raw.where,
                got=f"{raw.pixels.shape[1]} by {raw.pixels.shape[2]} pixels",
                fix="say both: --set 'inputs.NAME.size=[ROWS, COLUMNS]'",
            )
        values = grey(raw.pixels) if settings.channels == "grey" else raw.pixels.astype(np.float32)
        if not np.isfinite(values).all():
            raise RecordError("holds NaN or infinite pixels", where=raw.where)
        x = torch.from_numpy(np.ascontiguousarray(scale(values, settings, raw)))
        x = self._place(x[:, None] if x.ndim == 3 else x, raw)
        if settings.is_unit:
            x = x.clamp(0, 1)  # cubic interpolation overshoots
        if settings.channels == "colour" and len(x) == 1:
            x = x.expand(3, *x.shape[1:])
        return np.ascontiguousarray((x[:, 0] if settings.is_flat else x).numpy())

    def _place(self, x: Tensor, raw: ImageRecord) -> Tensor:
        from medmcl.modalities.image.geometry import fit_as_timm, fit_to, resize_to, take_slice
        from medmcl.modalities.resampling import respaced

        settings, spacing = self.settings, raw.spacing_mm
        if settings.is_flat and raw.pixels.ndim == 4:
            x, spacing = take_slice(x, spacing, settings.plane, settings.slice_at)
        want = settings.spacing_mm
        if want is not None:
            wanted = (None if settings.is_flat else want, want, want)
            lengths = respaced(tuple(x.shape[1:]), spacing, wanted, raw.where, len(x))
            x = resize_to(x, tuple(lengths), settings.interpolation)
        if settings.fit == "timm":
            as_stored = settings.intensity == "range" and settings.range is None
            return fit_as_timm(
                x,
                settings.shape[0],
                settings.crop_pct,
                settings.interpolation,
                eight_bits=as_stored
                and raw.pixels.dtype == np.uint8
                and settings.spacing_mm is None,
            )
        depth, rows, columns = (1, *settings.shape) if settings.is_flat else settings.shape
        return fit_to(x, (depth, rows, columns), settings.fit, settings.interpolation)

    @property
    def prepared_shape(self) -> tuple[int, ...]:
        """(channels, rows, columns), or (channels, slices, rows, columns)."""
        return (len(self._names), *self.settings.shape)

    @property
    def input_shape(self) -> InputShape:
        """As prepared; names are the channels."""
        return InputShape(kind=self.kind, shape=self.prepared_shape, names=self._names)

    @property
    def _names(self) -> tuple[str, ...]:
        return ("grey",) if self.settings.channels == "grey" else ("red", "green", "blue")

    def plain(self, x: Tensor) -> Tensor:
        """The prepared rows, with mean and deviation taken out where the recipe asks for it."""
        return self._normalised(x.float())

    def augment(self, x: Tensor, options: ImageAugment, generator: RowGenerator) -> Tensor:
        """Turn, zoom, cut, brightness, contrast, a hole, noise: one draw a row."""
        from medmcl.modalities.image.augment import disturb

        unit = self.settings.is_unit
        return self._normalised(disturb(x.float(), options, generator, unit=unit))

    def _normalised(self, x: Tensor) -> Tensor:
        from medmcl.modalities.image.geometry import normalised

        taken = self.settings.mean_and_std
        return x if taken is None else normalised(x, *taken)

    def state(self) -> dict[str, Any]:
        """What images of the train split are like."""
        return {"usual": None if self._usual is None else self._usual.as_dict()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
        usual = state["usual"]
        self._usual = None if usual is None else Usual.from_dict(usual)
