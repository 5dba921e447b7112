"""What can be measured on cardiac MR without a trained model: intensities, motion, blood volumes.

Blood is brighter than muscle, the heart is what moves, and the left ventricle is the round one of
the bright patches near it. That is enough for volumes that go with the true ones, not for theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medmcl.modalities.cmr.readers import CMRVolume

SHARES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9)
"""Quantiles of the intensities at end-diastole, as a share of the 99th percentile."""
GEOMETRY = ("voxel_ml", "slice_mm", "slices", "frames")
MOTION = ("motion_all", "motion_heart", "bright_ed", "bright_es", "bright_ratio")
VOLUMES = ("lv_ed_ml", "lv_es_ml", "lv_ejected", "rest_ed_ml", "rest_es_ml", "rest_ejected")
SHAPE = ("lv_radius_mm", "lv_roundness", "wall_ed_mm", "wall_es_mm", "rest_to_lv")

_UNKNOWN_MM = (10.0, 1.6, 1.6)  # places are chosen with these where nobody says the spacing
_HEART_MM = 60.0  # the ventricles lie within this of their centre
_BLUR_MM = 10.0
_LV_RADII_MM = (5.0, 45.0)
_WALL_MM = 6.0  # so far beyond its radius at end-diastole the left ventricle is looked for
_FAR_MM = 35.0  # what lies so far from the centre of motion is hardly the left ventricle
_STAYS_MM = 8.0  # its centre hardly moves until end-systole
_ANGLES = 48
_SHARP = 1.5  # muscle is no blood in part, a voxel at the edge is: between a cut and a ramp


def cmr_features(volume: CMRVolume) -> dict[str, float]:
    """Measure a record; the same names for every one, NaN where it cannot be told.

    ``share_*`` quantiles of intensity at ED over the 99th percentile; ``motion_*`` mean standard
    deviation over time; ``bright_*`` share of blood-like voxels round the heart at ED and ES, and
    1 - ES / ED; ``lv_*`` the same in the round bright patch, in mL, ``rest_*`` outside it;
    ``wall_*`` thickness of the dark rim where it is thinnest (septum). Volumes and lengths need a
    known spacing; what compares ED and ES needs two frames. All frames and slices of the record
    count, whichever a recipe gives to its encoder.

    Args:
        volume: As read, finite.

    Source:
        Otsu 1979, IEEE Trans Syst Man Cybern 9:62 (threshold). The rest is ours.
    """
    values = dict.fromkeys(feature_names(), float("nan"))
    voxels = np.nan_to_num(volume.voxels, posinf=0.0, neginf=0.0)
    flat = np.sort(voxels[..., ::2, ::2], axis=None)
    top = float(flat[int(0.99 * (len(flat) - 1))])
    if not top > float(flat[0]):
        return values
    heart = _Heart.of(voxels, top, volume)
    first = np.sort(voxels[heart.ed, :, ::2, ::2], axis=None)
    for share in SHARES:
        values[f"share_{share:g}"] = float(first[int(share * (len(first) - 1))]) / top
    mm = volume.spacing_mm
    values |= {"slices": float(voxels.shape[1]), "frames": float(len(voxels))}
    values |= {"voxel_ml": float(np.prod(mm)) / 1000, "slice_mm": float(mm[0])}
    return values | heart.measure()


def feature_names() -> tuple[str, ...]:
    """Names of what `cmr_features` measures, in order."""
    return (*(f"share_{share:g}" for share in SHARES), *GEOMETRY, *MOTION, *VOLUMES, *SHAPE)


def otsu(values: np.ndarray, bins: int = 64) -> tuple[float, float]:
    """Means of the two classes that a threshold separates best, (dark, bright)."""
    counts, edges = np.histogram(values, bins=bins)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1].astype(np.float64)
    above = counts.sum() - below
    total = np.cumsum(counts * centres)
    dark = total[:-1] / np.maximum(below, 1)
    bright = (total[-1] - total[:-1]) / np.maximum(above, 1)
    best = int((below * above * (bright - dark) ** 2).argmax())
    return float(dark[best]), float(bright[best])


@dataclass(frozen=True)
class _Patch:
    """A bright patch: centre (y, x) and radius in mm, roundness up to 1."""

    centre: tuple[float, float]
    radius: float
    roundness: float


@dataclass(frozen=True)
class _Heart:
    """Share of blood in each voxel round the heart, (T, Z, Y, X) in [0, 1]."""

    blood: np.ndarray
    near: np.ndarray  # (Y, X) in [0, 1]: weight of the heart's surroundings
    places: tuple[np.ndarray, np.ndarray]  # mm from the centre of motion, (Y,) and (X,)
    motion: tuple[float, float]  # of the whole image, and round the heart
    ml: float  # of a voxel; NaN where not known
    mm_known: bool
    ed: int
    es: int | None

    @classmethod
    def of(cls, voxels: np.ndarray, top: float, volume: CMRVolume) -> _Heart:
        from scipy.ndimage import gaussian_filter

        spacing = np.array(volume.spacing_mm)
        known = bool(np.isfinite(spacing).all())
        mm = np.where(np.isfinite(spacing), spacing, _UNKNOWN_MM)
        moves = voxels.std(axis=0) / top
        y, x = (np.arange(size) - (size - 1) / 2 for size in voxels.shape[2:])
        if len(voxels) > 1:
            map_ = gaussian_filter((moves**2).mean(axis=0), _BLUR_MM / mm[1:])
            inside = (np.abs(y) <= 0.35 * len(y))[:, None] & (np.abs(x) <= 0.35 * len(x))
            map_ = np.where(inside, map_, 0.0)
            weight = np.where(map_ > 0.5 * map_.max(), map_, 0.0) + 1e-30
            y = y - (weight.sum(axis=1) @ y) / weight.sum()
            x = x - (weight.sum(axis=0) @ x) / weight.sum()
        y, x = y * mm[1], x * mm[2]
        rows, columns = np.abs(y) <= _HEART_MM, np.abs(x) <= _HEART_MM
        y, x = y[rows], x[columns]
        part = voxels[:, :, rows][..., columns].astype(np.float32) / np.float32(top)
        distance = np.hypot(y[:, None], x)
        near = np.exp(-0.5 * (distance / (_HEART_MM / 2)) ** 2)
        dark, bright = otsu(np.minimum(part[..., distance <= _HEART_MM], 1.3))
        contrast = max(bright - dark, 1e-6)
        blood = (_SHARP * (part - (bright + dark) / 2) / contrast + 0.5).clip(0, 1)
        ed = volume.frames.get("ed", 0)
        motion = (
            float(moves.mean()),
            float(np.average(moves[:, rows][..., columns].mean(0), weights=near)),
        )
        ml = float(np.prod(mm)) / 1000 if known else float("nan")
        return cls(
            blood, near, (y, x), motion, ml, known, ed, _end_systole(blood, near, volume, ed)
        )

    def measure(self) -> dict[str, float]:
        """Motion, bright shares, volumes and shape."""
        values = self._motion()
        relaxed = self._patch(self.ed, (0.0, 0.0), _FAR_MM)
        if relaxed is None:
            return values
        own = self._disc(relaxed)
        inside = {self.ed: own}
        if self.es is not None:
            contracted = self._patch(self.es, relaxed.centre, _STAYS_MM)
            inside[self.es] = own if contracted is None else np.minimum(own, self._disc(contracted))
        y, x = self.places
        heart = np.hypot(y[:, None], x) <= _HEART_MM
        values |= self._ejection("lv", inside)
        values |= self._ejection("rest", dict.fromkeys(inside, heart * (1 - own)))
        rest, left = (_sum(self.blood[self.ed], disc) for disc in (heart * (1 - own), own))
        values |= {"lv_roundness": relaxed.roundness, "rest_to_lv": rest / max(left, 1e-6)}
        if self.mm_known:
            values["lv_radius_mm"] = relaxed.radius
            values["wall_ed_mm"] = self._wall(self.ed, relaxed.centre)
            if self.es is not None:
                values["wall_es_mm"] = self._wall(self.es, relaxed.centre)
        return values

    def _disc(self, patch: _Patch) -> np.ndarray:
        """One inside the left ventricle and the wall's inner part, soft at the edge. (Y, X)."""
        y, x = self.places
        distance = np.hypot((y - patch.centre[0])[:, None], x - patch.centre[1])
        return np.asarray((1 - (distance - patch.radius - _WALL_MM) / 3).clip(0, 1))

    def _motion(self) -> dict[str, float]:
        values = {"bright_ed": _sum(self.blood[self.ed], self.near) / self._voxels}
        if self.es is None:
            return values
        values["bright_es"] = _sum(self.blood[self.es], self.near) / self._voxels
        values["bright_ratio"] = 1 - values["bright_es"] / max(values["bright_ed"], 1e-6)
        return values | dict(zip(("motion_all", "motion_heart"), self.motion, strict=True))

    @property
    def _voxels(self) -> float:
        return float(self.near.sum() * self.blood.shape[1])

    def _ejection(self, name: str, inside: Mapping[int, np.ndarray]) -> dict[str, float]:
        ed = _sum(self.blood[self.ed], inside[self.ed])
        values = {f"{name}_ed_ml": ed * self.ml}
        if self.es is not None:
            es = _sum(self.blood[self.es], inside[self.es])
            values |= {f"{name}_es_ml": es * self.ml, f"{name}_ejected": 1 - es / max(ed, 1e-6)}
        return values

    def _middle(self, frame: int) -> np.ndarray:
        """Mean of the middle third of the slices, (Y, X)."""
        depth = self.blood.shape[1]
        chosen = slice(depth // 3, max(depth // 3 + 1, 2 * depth // 3))
        return np.asarray(self.blood[frame, chosen].mean(axis=0))

    def _patch(self, frame: int, near: tuple[float, float], spread: float) -> _Patch | None:
        """The roundest bright patch of the middle slices that lies near a place in mm."""
        from scipy.ndimage import label

        patches, count = label(self._middle(frame) > 0.6)
        y, x = self.places
        if min(len(y), len(x)) < 2:
            return None
        area = float((y[1] - y[0]) * (x[1] - x[0]))
        best, highest = None, 0.0
        for number in range(1, count + 1):
            rows, columns = np.nonzero(patches == number)
            radius = float(np.sqrt(len(rows) * area / np.pi))
            if not _LV_RADII_MM[0] <= radius <= _LV_RADII_MM[1]:
                continue
            at = float(y[rows].mean()), float(x[columns].mean())
            away = np.hypot(y[rows] - at[0], x[columns] - at[1])
            roundness = min(1.0, radius / max(1.5 * float(away.mean()), 1e-9))  # of a disc: 2/3
            off = np.hypot(at[0] - near[0], at[1] - near[1]) / spread
            score = roundness**4 * float(np.exp(-0.5 * off**2))
            if score > highest:
                best, highest = _Patch(at, radius, roundness), score
        return best

    def _wall(self, frame: int, centre: tuple[float, float]) -> float:
        """Thickness of the dark rim round the cavity, mm: a low quantile over directions."""
        from scipy.ndimage import map_coordinates

        image = self._middle(frame)
        y, x = self.places
        angles = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False)[:, None]
        reach = np.arange(0.0, 60.0, 0.5)
        rows = (centre[0] + reach * np.sin(angles) - y[0]) / (y[1] - y[0])
        columns = (centre[1] + reach * np.cos(angles) - x[0]) / (x[1] - x[0])
        rays = map_coordinates(image, [rows, columns], order=1, mode="constant")
        dark = rays < 0.5
        begin = np.where(dark.any(axis=1), dark.argmax(axis=1), len(reach) - 1)
        beyond = ~dark & (np.arange(len(reach)) > begin[:, None])
        end = np.where(beyond.any(axis=1), beyond.argmax(axis=1), len(reach) - 1)
        return float(np.quantile((end - begin) * 0.5, 0.25))


def _sum(blood: np.ndarray, where: np.ndarray) -> float:
    """Blood under some weights, in voxels. (Z, Y, X) and (Y, X)."""
    return float((blood * where).sum())


def _end_systole(blood: np.ndarray, near: np.ndarray, volume: CMRVolume, ed: int) -> int | None:
    """The frame named es, otherwise the one with the least blood; None with one frame."""
    if len(blood) == 1:
        return None
    if "es" in volume.frames:
        return volume.frames["es"]
    inside = np.einsum("tzyx,yx->t", blood, near)
    inside[ed] = np.inf
    return int(inside.argmin())
