"""The physiological state behind the simulated heart cohort.

A state is a deterministic function of independent standard-normal latents, so that two states can
be coupled to any degree and keep their distribution: `couple` mixes latents (a Gaussian copula).
Population means lie near those of UK Biobank (Petersen et al. 2017, J Cardiovasc Magn Reson
19:18); disease is commoner here, so that small cohorts hold some.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np

R = TypeVar("R", bound="Rows")
Array = np.ndarray

CONDUCTIONS = ("normal", "LBBB", "RBBB", "AVB")
TERRITORIES = ("none", "LAD", "LCX", "RCA")
LATENTS = (
    *("age", "sex", "height", "bmi", "pressure", "wall", "asymmetry", "volume"),
    *("contractility", "disease", "infarct", "territory", "infarct_size"),
    *("bundle", "av", "rate", "rv", "rv_ef"),
)

EQUATOR = 0.7  # height of the widest level of the LV, apex 0, base 1
SHAPE = 1 - ((1 - EQUATOR) ** 3 + EQUATOR**3) / (3 * EQUATOR**2)  # mean of `profile`
MYOCARDIUM_G_PER_ML = 1.05


class Rows:
    """Mix-in for dataclasses of arrays that share their first axis."""

    def take(self: R, rows: Array | slice) -> R:
        """The same values for some rows."""
        values = {field.name: getattr(self, field.name)[rows] for field in fields(self)}  # type: ignore[arg-type]  # every subclass is a dataclass
        return type(self)(**values)


@dataclass(frozen=True, kw_only=True)
class HeartState(Rows):
    """One physiological state a subject, arrays of (N,).

    The LV cavity is an ellipsoid of revolution cut at the base: ``lv_edv``, ``length`` and
    ``wall`` fix its radius and, with the density of myocardium, its mass. ``infarct_size`` is the
    share of the cavity's volume that does not contract, so ``ef = remote * (1 - infarct_size)``.

    Attributes:
        age: Years.
        is_male: Bool.
        height: cm.
        bmi: kg/m2.
        rate: Heart rate, 1/min.
        conduction: Number in `CONDUCTIONS`.
        territory: Number in `TERRITORIES`; 0 = no infarct.
        infarct_size: Share of the LV, 0 to 0.32.
        ef: LV ejection fraction, 0 to 1.
        lv_edv: LV end-diastolic volume, mL.
        length: LV cavity from apex to base, mm.
        wall: Wall thickness at end-diastole, mean round the equator, mm.
        asymmetry: Share by which the septum holds more myocardium than the mean.
        rv_edv: RV end-diastolic volume, mL.
        rv_ef: RV ejection fraction, 0 to 1.
    """

    age: Array
    is_male: Array
    height: Array
    bmi: Array
    rate: Array
    conduction: Array
    territory: Array
    infarct_size: Array
    ef: Array
    lv_edv: Array
    length: Array
    wall: Array
    asymmetry: Array
    rv_edv: Array
    rv_ef: Array

    @property
    def lv_esv(self) -> Array:
        """LV end-systolic volume, mL."""
        return np.asarray(self.lv_edv * (1 - self.ef))

    @property
    def remote(self) -> Array:
        """Ejection fraction of the contracting part of the LV."""
        return np.asarray(self.ef / (1 - self.infarct_size))

    @property
    def radius(self) -> Array:
        """Radius of the LV cavity at its equator at end-diastole, mm."""
        return np.sqrt(1000 * self.lv_edv / (SHAPE * np.pi * self.length))

    @property
    def lv_mass(self) -> Array:
        """LV mass in g: the shell between the cavity and an ellipsoid thicker by the wall."""
        outer = SHAPE * np.pi * (self.radius + self.wall) ** 2 * (self.length + self.wall) / 1000
        return np.asarray(MYOCARDIUM_G_PER_ML * (outer - self.lv_edv))

    def columns(self, prefix: str = "") -> dict[str, Array]:
        """Every field and derived number by name, classes spelled out."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["conduction"] = np.array(CONDUCTIONS)[self.conduction]
        values["territory"] = np.array(TERRITORIES)[self.territory]
        values |= {"lv_esv": self.lv_esv, "lv_mass": self.lv_mass, "radius": self.radius}
        return {prefix + name: value for name, value in values.items()}


def profile(height: Array) -> Array:
    """Squared radius of the LV relative to its equator, by height (apex 0, base 1)."""
    inside = (height >= 0) & (height <= 1)
    return np.where(inside, np.maximum(1 - (height / EQUATOR - 1) ** 2, 0), 0)


def couple(latents: Array, others: Array, coupling: float) -> Array:
    """Latents whose correlation with ``latents`` is ``coupling``, each again standard normal.

    Args:
        latents: Of one state, (N, L).
        others: An independent draw, (N, L).
        coupling: 1 = the same state; 0 = another person's.
    """
    return np.asarray(coupling * latents + np.sqrt(1 - coupling**2) * others)


def heart_state(latents: Array) -> HeartState:
    """Turn independent standard-normal latents, (N, len(LATENTS)), into states."""
    z = dict(zip(LATENTS, latents.T, strict=True))
    age = np.clip(63 + 9 * z["age"], 40, 88)
    is_male = z["sex"] > 0
    height = np.where(is_male, 176, 163) + 6.5 * z["height"]
    bmi = np.clip(26.5 * np.exp(0.15 * z["bmi"]), 17, 48)
    surface = np.sqrt(height * (bmi * (height / 100) ** 2) / 3600)  # m2, Mosteller
    pressure = 0.8 * z["pressure"] + 0.4 * z["age"] + 0.4 * z["bmi"]

    risk = z["infarct"] + 0.35 * z["age"] + np.where(is_male, 0.25, -0.25)
    has_infarct = risk > 1.05  # about 17 %
    share = _uniform(z["territory"])
    territory = np.where(share < 0.45, 1, np.where(share < 0.65, 2, 3)) * has_infarct
    infarct_size = np.where(has_infarct, 0.06 + 0.26 * _uniform(z["infarct_size"]), 0)

    failing = np.logaddexp(0, 3 * (z["disease"] - 1.0)) / 3  # 0 for most, > 1 for few
    stiff = np.maximum(pressure - 1.2, 0)
    remote = 0.61 + 0.035 * z["contractility"] - 0.15 * failing - 0.03 * stiff
    ef = np.clip(remote, 0.16, 0.76) * (1 - infarct_size)

    rate = np.clip(66 * np.exp(0.14 * z["rate"]) + 30 * (0.58 - ef), 42, 120)
    left = z["bundle"] + 4.0 * (0.57 - ef) > 1.75
    right = z["bundle"] < -1.5
    slow = z["av"] + 0.25 * z["age"] > 1.65
    conduction = np.select([left, right, slow], [1, 2, 3], 0)

    remodelling = np.exp(1.3 * np.maximum(0.58 - ef, 0))
    lv_edv = surface * np.where(is_male, 80, 70) * np.exp(0.14 * z["volume"]) * remodelling
    length = np.where(is_male, 89, 86) * (lv_edv / 150) ** 0.25  # dilated hearts are rounder
    wall = np.where(is_male, 6.4, 5.6) * np.exp(0.10 * z["wall"] + 0.13 * pressure)
    rv_ef = np.clip(0.57 + 0.05 * z["rv_ef"] + 0.4 * (ef - 0.58), 0.2, 0.75)
    return HeartState(
        age=age,
        is_male=is_male,
        height=height,
        bmi=bmi,
        rate=rate,
        conduction=conduction,
        territory=territory,
        infarct_size=infarct_size,
        ef=ef,
        lv_edv=np.clip(lv_edv, 70, 360),
        length=np.clip(length, 70, 104),
        wall=np.clip(wall, 3.8, 15),
        asymmetry=np.clip(0.06 + 0.07 * z["asymmetry"] + 0.05 * stiff, -0.1, 0.4),
        rv_edv=np.clip(surface * np.where(is_male, 92, 78) * np.exp(0.14 * z["rv"]), 70, 330),
        rv_ef=rv_ef,
    )


def phenotypes(state: HeartState, generator: np.random.Generator) -> dict[str, Array]:
    """What a core lab would measure on the images: truth with the error of a repeated reading.

    Errors are 3 to 5 %, near the inter-observer variability of manual contours. Volumes mL, mass
    g, fractions and strain %, thickness mm, output L/min.
    """

    def read(truth: Array, error: float) -> Array:
        return np.asarray(truth * np.exp(error * generator.standard_normal(len(truth))))

    edv, esv = read(state.lv_edv, 0.03), read(state.lv_esv, 0.04)
    rv_edv, rv_esv = read(state.rv_edv, 0.04), read(state.rv_edv * (1 - state.rv_ef), 0.05)
    shell = (state.radius + state.wall) ** 2 - state.radius**2
    relaxed = state.radius + state.wall / 2
    inner = state.radius * np.sqrt(1 - state.ef)
    contracted = (inner + np.sqrt(inner**2 + shell)) / 2
    sides = (
        np.sqrt(state.radius**2 + shell * (1 + sign * state.asymmetry)) - state.radius
        for sign in (1, -1)
    )
    septal, lateral = (read(side, 0.04) for side in sides)
    return {
        "lv_edv": edv,
        "lv_esv": np.minimum(esv, 0.95 * edv),
        "lv_sv": edv - np.minimum(esv, 0.95 * edv),
        "lv_ef": 100 * (1 - np.minimum(esv / edv, 0.95)),
        "lv_co": (edv - np.minimum(esv, 0.95 * edv)) * state.rate / 1000,
        "lv_mass": read(state.lv_mass, 0.04),
        "rv_edv": rv_edv,
        "rv_esv": rv_esv,
        "rv_ef": 100 * (1 - rv_esv / rv_edv),
        "wall_thickness": (septal + lateral) / 2,
        "wt_septal": septal,
        "wt_lateral": lateral,
        "ecc": 100 * (contracted / relaxed - 1) + generator.standard_normal(len(inner)),
    }


def log_hazard(state: HeartState) -> Array:
    """Log relative hazard of heart failure: log EF, LV mass, infarct, age."""
    return np.asarray(
        3.0 * np.log(0.60 / state.ef)
        + 0.9 * np.log(state.lv_mass / 95)
        + 0.5 * (state.territory > 0)
        + 0.05 * (state.age - 63)
    )


def heart_failure(state: HeartState, generator: np.random.Generator) -> dict[str, Array]:
    """Days to heart failure or to the end of follow-up, and which of the two it was.

    Weibull times with the hazard of `log_hazard`; administrative end after 9 to 13 years;
    loss to follow-up at 1.5 % a year, independent of the state.
    """
    uniform = generator.random((3, len(state.age)))
    event = 36.0 * (-np.log1p(-uniform[0]) * np.exp(-log_hazard(state))) ** (1 / 1.2)
    lost = -np.log1p(-uniform[1]) / 0.015
    end = np.minimum(9 + 4 * uniform[2], lost)
    days = np.maximum(np.ceil(365.25 * np.minimum(event, end)), 1)
    return {"hf_days": days.astype(np.int64), "hf_event": (event <= end).astype(np.int64)}


def _uniform(z: Array) -> Array:
    """Standard-normal to uniform, by the logistic approximation (off by 0.01 at most)."""
    return np.asarray(1 / (1 + np.exp(-1.702 * z)))
