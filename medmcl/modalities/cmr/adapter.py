"""Cardiac MR: cine stacks, single frames and ED/ES pairs as 2-D, 3-D or time-resolved inputs.

Voxels are (T, Z, Y, X) from the reader on, spacing is in mm, intensities leave `prepare` in
[0, 1]. Resampling and augmentation are torch operations: they run on the device of the batch with
the generator of the view, and spare every process the seconds that importing MONAI takes; MONAI
makes the truncated-k-space (Gibbs) artefact, where it is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from medmcl.core.batch import InputShape
from medmcl.core.config import Config
from medmcl.core.contracts import RecordRef
from medmcl.core.errors import RecordError
from medmcl.core.findings import Finding
from medmcl.core.rng import RowGenerator
from medmcl.core.shown import ShownImage, aspect_of
from medmcl.modalities.cmr.features import cmr_features
from medmcl.modalities.cmr.readers import (
    CMRVolume,
    check_geometry,
    check_marked,
    check_turn,
    check_voxels,
    fault,
    join,
)
from medmcl.modalities.cmr.settings import CMRAugment, CMRSettings, CMRSource, Grid
from medmcl.modalities.dicom import DICOM_ENDINGS
from medmcl.modalities.opening import row_number, whole_number
from medmcl.modalities.ordered import percentiles
from medmcl.modalities.sketches import cmr_distance, cmr_sketch
from medmcl.modalities.volumes import PAIRS, Stack, Turn, files_of, read_nifti, read_npy, zyx

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("medmcl")
LABELS = "labels"
"""Among the paths of a record, that of what somebody drew."""
FRAMES_OF = 32
"""Train records that say which frames there are."""


class CMR:
    """Cardiac MR: volumes and cines; see `medmcl.core.contracts.Adapter`.

    ED is the frame named ``ed``, otherwise the cycle's first frame (cine is triggered by the R
    wave). ES is the frame named ``es``; where nobody says, the frame at a third of the cycle is
    taken and `inspect` says so. ``mid`` is half-way from ED to ES. Where no frames are asked for,
    `fit` finds whether the train records have it: of files with ED and ES alone, it takes these.
    """

    kind: ClassVar[str] = "cmr"
    measured: ClassVar[bool] = True
    pictured: ClassVar[bool] = True
    input_projection: ClassVar[str] = "patches"
    endings: ClassVar[Mapping[str, str]] = {
        **{".nii": "nifti", ".nii.gz": "nifti", ".npy": "npy"},
        **dict.fromkeys(PAIRS, "nifti"),
        **dict.fromkeys(DICOM_ENDINGS, "dicom"),
    }
    of_many: ClassVar[tuple[str, ...]] = ("row", "frames", "first_frame")
    Source: ClassVar[type[Config]] = CMRSource
    Settings: ClassVar[type[Config]] = CMRSettings
    Augment: ClassVar[type[Config]] = CMRAugment

    def __init__(self, source: CMRSource, settings: CMRSettings) -> None:
        self.source, self.settings = source, settings
        self._found: tuple[str, ...] | None = None
        self._is_mixed = False

    @property
    def inspects_fitted(self) -> bool:
        """Whether records differ in their frames, so that `inspect` says more once fitted."""
        return self._is_mixed

    @property
    def _chosen(self) -> tuple[str, ...] | int:
        return self.settings.chosen_frames if self._found is None else self._found

    def read(self, place: RecordRef) -> CMRVolume:
        """Read one file, or one file a frame (``paths: {ed: ..., es: ...}``), stacked on t.

        What is called ``labels`` among them is what somebody drew.
        """
        names = [name for name in place.paths if name != LABELS]
        where = " + ".join(str(place.paths[name]) for name in names)
        if "path" in names:
            stack, frames = self._read_file(place, "path"), {}
        else:
            stacks = {name: self._read_file(place, name) for name in names}
            stack = join(stacks, where)
            frames = {name: number for number, name in enumerate(stacks)}
        declared, row = self.source.spacing_mm, self._row(place)
        said = {} if declared is None else {"spacing_mm": zyx(declared)}
        return CMRVolume(
            **{**vars(stack), **said},
            header_spacing_mm=stack.spacing_mm,
            frames=frames or self._named_frames(place, len(stack.voxels), where),
            where=where if row is None else f"{where} row {row}",
            labels=self._read_labels(place, stack.voxels.shape) if LABELS in place.paths else None,
        )

    def _read_labels(self, place: RecordRef, shape: tuple[int, ...]) -> np.ndarray:
        """Labels of every frame, or of one that stands for all."""
        labels = self._read_file(place, LABELS).voxels
        if labels.shape[1:] != shape[1:] or len(labels) not in (1, shape[0]):
            raise RecordError(
                "labels are of another shape than the image",
                where=place.paths[LABELS],
                got=f"{labels.shape}",
                expected=f"{shape}, or one frame of it",
                fix="name the labels of this image, their axes in the same order",
            )
        return labels

    def _read_file(self, place: RecordRef, name: str) -> Stack:
        path, axes = place.paths[name], self.source.axes
        turn: Turn = "plane" if self.source.orient == "canonical" else "none"
        if self.source.reader == "dicom" or axes is None:
            from medmcl.modalities.dicom_series import read_series

            source = self.source
            return read_series(
                path, series=source.series, frame_order=source.frame_order, turn=turn,
                is_last=source.repeated == "last", axes=axes,
            )  # fmt: skip
        if self.source.reader == "nifti":
            return read_nifti(path, axes, turn)
        return read_npy(path, axes, self._row(place))

    def _row(self, place: RecordRef) -> int | None:
        return None if self.source.row is None else row_number(place, self.source.row)

    def files(self, place: RecordRef) -> list[Path]:
        """The files of a record: of a folder of DICOM every file in it, of a pair both."""
        return files_of(self.source.reader, place.paths.values())

    def _named_frames(self, place: RecordRef, length: int, where: str) -> dict[str, int]:
        frames = {}
        for name, column in self.source.frames.items():
            number = whole_number(place, column)
            if number is None:
                continue
            frames[name] = number - self.source.first_frame
            if not 0 <= frames[name] < length:
                first = self.source.first_frame
                raise RecordError(
                    f"there is no frame '{name}' with the number of column '{column}'",
                    where=where,
                    got=number,
                    expected=f"{first} to {length - 1 + first}",
                    fix="correct the column, or say in cohort.yaml modalities.NAME.first_frame: "
                    "0 or 1",
                )
        return frames

    def inspect(self, raw: CMRVolume, place: RecordRef) -> list[Finding]:
        """Non-finite or constant voxels, empty slices, spacing, axes, frames."""
        where = f"subject {place.subject}, {raw.where}"
        findings = [
            *check_voxels(raw, where),
            *check_geometry(raw, where, self.source.spacing_mm),
        ]
        if self.settings.grid is not None:
            findings += check_turn(raw, where, of_dicom=self.source.reader == "dicom")
            findings += check_marked(raw, self.settings.grid.label, where)
        chosen = self._chosen
        if self.settings.finds_frames and self._found is None:
            chosen = ("es", "ed")  # whether there is one between them is found by `fit`
        try:
            self._pick(raw, chosen)
        except RecordError as error:
            findings.append(fault("frames", where, error.what, str(error.fix)))
        guessed = isinstance(chosen, tuple) and {"es", "mid"} & set(chosen)
        if guessed and "es" not in raw.frames and len(raw.voxels) > 1:
            what = f"end-systole is not named; frame {self._end_systole(raw)} (a third) is taken"
            fix = (
                "name the column that says it in cohort.yaml: modalities.NAME.frames: {es: COLUMN}"
            )
            findings.append(fault("es_guessed", where, what, fix, "warning"))
        return findings

    def show(self, raw: CMRVolume) -> ShownImage:
        """The slice that the recipe takes, at end-diastole (`ed`, else the first frame).

        Rows lie as the reader gives them, as in the report's cosine maps: the orientation of
        cardiac files is often made up (ACDC's is the identity), and turning by it shows hearts
        upside down.
        """
        frames, slices = raw.voxels.shape[:2]
        frame = raw.frames.get("ed", 0)
        at = min(int(slices * self.settings.slice_at), slices - 1)
        return ShownImage(
            pixels=raw.voxels[frame, at],
            aspect=aspect_of(*raw.spacing_mm[1:]),
            note=f"slice {at + 1} of {slices}, frame {frame + 1} of {frames}",
        )

    def sketch(self, raw: CMRVolume) -> np.ndarray | None:
        """Numbers by which copies know each other; see `medmcl.core.contracts.Sketches`."""
        return cmr_sketch(raw)

    def distance(self, raw: CMRVolume, other: CMRVolume) -> float:
        """How far two images are from being one, 0 to 1.41."""
        return cmr_distance(raw, other)

    def simple_features(self, raw: CMRVolume) -> dict[str, float]:
        """Intensities, motion and volumes of bright blood, of all frames and slices."""
        return cmr_features(raw)

    def fit(self, raws: Iterable[Any]) -> None:
        """Find whether most of the first 32 records have a frame between ES and ED.

        Nothing is read where the recipe names its frames, and nothing else is learned: every volume
        is scaled by itself.
        """
        if not self.settings.finds_frames:
            return
        have = ["mid" in self._known(raw) for raw in islice(raws, FRAMES_OF)]
        self._is_mixed = any(have) and not all(have)
        usual = self.settings.chosen_frames
        assert isinstance(usual, tuple)  # names, for frames as channels
        most = 2 * sum(have) >= len(have)
        self._found = usual if most else tuple(name for name in usual if name != "mid")

    def prepare(self, raw: CMRVolume) -> np.ndarray:
        """Frames, slice, intensities, spacing, crop: (*prepared_shape) float32 in [0, 1].

        Raises:
            RecordError: Voxels that are not finite or all alike, unknown spacing where
                resampling is asked for, frames that do not exist.
        """
        if self.settings.grid is not None:
            return self._gridded(raw, self.settings.grid)
        if not np.isfinite(raw.voxels).all():
            raise RecordError("holds NaN or infinite voxels", where=raw.where)
        wanted = self.settings.lower_percentile, self.settings.upper_percentile
        low, high = percentiles(raw.voxels, wanted)
        if not high > low:
            raise RecordError(
                "all intensities are alike", where=raw.where, got=f"percentiles {low}, {high}"
            )
        scaled = (self._select(raw).astype(np.float64) - low) / (high - low)
        return self._place(scaled.clip(0, 1).astype(np.float32), raw)

    def _gridded(self, raw: CMRVolume, grid: Grid) -> np.ndarray:
        """One frame on a grid, (1, Z, Y, X)."""
        from medmcl.modalities.cmr.grid import on_grid

        depth, height, width = raw.spacing_mm
        (number,) = self._pick(raw, self._chosen)
        labels = None if raw.labels is None else raw.labels[min(number, len(raw.labels) - 1)].T
        volume, spacing_mm = raw.voxels[number].T, (width, height, depth)
        frame = on_grid(volume, spacing_mm, grid, labels, where=raw.where)
        return np.ascontiguousarray(frame.T[None])

    @classmethod
    def prepare_array(
        cls,
        array: np.ndarray,
        settings: CMRSettings,
        *,
        spacing_mm: tuple[float, float, float],
        mask: np.ndarray | None = None,
        label: int | None = None,
    ) -> np.ndarray:
        """Prepare a frame without a file; see `medmcl.core.contracts.PreparesArrays`.

        Args:
            array: (X, Y, Z), x growing to the right, y to the front.
            settings: How; ``mode: volume_3d``.
            spacing_mm: Distance of neighbours along x, y, z.
            mask: (X, Y, Z) labels of the same frame; a grid is cut about them.
            label: Which of them is the left ventricle. If not given it is ``grid.label``, and of a
                mask of nothing but 0 and 1 whatever is marked, which is warned of: it may be
                another structure.

        Returns:
            (X, Y, Z) float32: what `prepare` gives, along x, y, z again.

        Raises:
            RecordError: As `prepare`; or it is no volume.
        """
        found = np.asarray(array)
        if found.ndim != 3 or settings.mode != "volume_3d":
            raise RecordError(
                "an array of one frame has axes x, y, z",
                got=f"shape {found.shape}, mode {settings.mode}",
                expected="shape (x, y, z), mode volume_3d",
                fix="give one frame, array[..., t], without axes of channels",
            )
        lengths = np.asarray(spacing_mm)
        if lengths.shape != (3,) or lengths.dtype.kind not in "fiu":
            raise RecordError(
                "the spacing of a volume is three numbers",
                got=f"spacing_mm={spacing_mm!r}"[:120],
                expected="mm between neighbours along x, y and z",
            )
        raw = CMRVolume(
            voxels=np.asarray(found, np.float32).T[None],
            spacing_mm=(float(lengths[2]), float(lengths[1]), float(lengths[0])),  # not float32
            frames={"ed": 0},
            where="volume",
            labels=None if mask is None else np.asarray(mask).T[None],
        )
        if raw.labels is not None and label is not None:
            raw = replace(raw, labels=raw.labels == label)
        elif settings.grid is not None:
            for finding in check_marked(raw, settings.grid.label, "volume"):
                log.warning("%s; %s", finding.what, finding.fix)
        prepared = cls(CMRSource(reader="npy", axes="xyz"), settings).prepare(raw)
        return np.ascontiguousarray(prepared[0].T)

    @property
    def prepared_shape(self) -> tuple[int, ...]:
        """(frames, Y, X), or (frames, Z, Y, X)."""
        depth = () if self.settings.is_flat else (self.settings.depth,)
        return (len(self._names), *depth, *self.settings.plane)

    @property
    def input_shape(self) -> InputShape:
        """As prepared; names are the frames."""
        return InputShape(kind=self.kind, shape=self.prepared_shape, names=self._names)

    @property
    def _names(self) -> tuple[str, ...]:
        chosen = self._chosen
        if isinstance(chosen, int):
            return tuple(f"t{number:02d}" for number in range(chosen))
        return chosen

    def plain(self, x: Tensor) -> Tensor:
        """The prepared rows as they are."""
        return x.float()

    def augment(self, x: Tensor, options: CMRAugment, generator: RowGenerator) -> Tensor:
        """Flip, turn, zoom, brightness, contrast, noise: one draw a row, all frames alike."""
        from medmcl.modalities.cmr.augment import disturb

        return disturb(self.plain(x), options, generator)

    def state(self) -> dict[str, Any]:
        """The frames that were found, where none are asked for."""
        return {} if self._found is None else {"frames": list(self._found)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take the frames that were found; runs from before they were have all three."""
        found = state.get("frames")
        if self.settings.finds_frames:
            usual = self.settings.chosen_frames
            assert isinstance(usual, tuple)  # names, for frames as channels
            self._found = usual if found is None else tuple(found)

    def _end_systole(self, raw: CMRVolume) -> int:
        length = len(raw.voxels)
        return raw.frames.get("es", (raw.frames.get("ed", 0) + round(length / 3)) % length)

    def _known(self, raw: CMRVolume) -> dict[str, int]:
        """Named frames of a record with their numbers, ED, ES and one between them with it."""
        length, start, end = len(raw.voxels), raw.frames.get("ed", 0), self._end_systole(raw)
        known = {"ed": start, "es": end, **raw.frames}
        span = (end - start) % length
        if span >= 2:
            known.setdefault("mid", (start + span // 2) % length)
        return known

    def _pick(self, raw: CMRVolume, chosen: tuple[str, ...] | int) -> list[int]:
        """Numbers of the chosen frames; evenly spaced ones start at ED."""
        length, known = len(raw.voxels), self._known(raw)
        if (chosen if isinstance(chosen, int) else len(chosen)) > 1 and length == 1:
            fix = (
                "one frame is read with --set inputs.NAME.mode=volume_3d, or --set "
                "'inputs.NAME.frames=[ed]'; if the files hold more, say in cohort.yaml which axis "
                "is time, modalities.NAME.axes: xyzt"
            )
            raise RecordError("only one time frame", where=raw.where, expected=chosen, fix=fix)
        if isinstance(chosen, int):
            return [(known["ed"] + i * length // chosen) % length for i in range(chosen)]
        lacking = [name for name in chosen if name not in known]
        if lacking:
            have = ", ".join(name for name in chosen if name in known) or ", ".join(known)
            raise RecordError(
                f"there is no frame '{lacking[0]}'",
                where=raw.where,
                got=f"{length} frames, ED {known['ed']}, ES {known['es']}",
                expected=", ".join(known),
                fix=f"choose frames that every record has: --set 'inputs.NAME.frames=[{have}]'",
            )
        return [known[name] for name in chosen]

    def _select(self, raw: CMRVolume) -> np.ndarray:
        frames = raw.voxels[self._pick(raw, self._chosen)]
        if not self.settings.is_flat:
            return frames
        depth = frames.shape[1]
        slice_number = min(int(depth * self.settings.slice_at), depth - 1)
        return frames[:, slice_number : slice_number + 1]

    def _place(self, voxels: np.ndarray, raw: CMRVolume) -> np.ndarray:
        import torch

        from medmcl.modalities.cmr.augment import crop
        from medmcl.modalities.resampling import fit_length, respace

        settings = self.settings
        x = torch.from_numpy(np.ascontiguousarray(voxels, dtype=np.float32))
        depth_mm = None if settings.is_flat else settings.slice_spacing_mm
        wanted = (depth_mm, settings.spacing_mm, settings.spacing_mm)
        x = respace(x, raw.spacing_mm, wanted, raw.where)
        if not settings.is_flat:
            x = fit_length(x, 1, settings.slices)
        x = crop(x, settings.crop, settings.plane)
        return np.ascontiguousarray((x[:, 0] if settings.is_flat else x).numpy())
