"""Subjects of the simulated heart cohort: states, nuisances, and what a table says of them.

Subjects are drawn in blocks with a random stream each, so that a subject's content does not
depend on how many are simulated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medmcl.core.rng import numpy_generator
from medmcl.simulation.heart import cmr as heart_cmr
from medmcl.simulation.heart import ecg as heart_ecg
from medmcl.simulation.heart.settings import HeartSettings
from medmcl.simulation.heart.state import (
    LATENTS,
    Array,
    HeartState,
    couple,
    heart_failure,
    heart_state,
    log_hazard,
    phenotypes,
)

BLOCK = 128  # subjects drawn at a time; part of the content, as the seed is


@dataclass(frozen=True, kw_only=True)
class Block:
    """Subjects drawn together.

    Attributes:
        first: Number of the first one.
        state: Drives CMR, phenotypes and outcomes.
        electric: Drives the ECG.
        ecg: What else shapes the ECG.
        cmr: What else shapes the CMR.
        table: Columns of the participants table.
        noise: Stream of the noise in the shard's images.
    """

    first: int
    state: HeartState
    electric: HeartState
    ecg: heart_ecg.EcgNuisance
    cmr: heart_cmr.CmrNuisance
    table: dict[str, Array]
    noise: np.random.Generator

    def ecg_signal(
        self, settings: HeartSettings, rows: Array, rate_hz: int, seconds: float
    ) -> Array:
        """ECGs of some rows, (N, 12, S) in mV."""
        state, nuisance = self.electric.take(rows), self.ecg.take(rows)
        return heart_ecg.render_ecg(state, nuisance, rate_hz, seconds, settings.ecg_noise_mv)


def draw_block(settings: HeartSettings, number: int) -> Block:
    """Draw subjects ``number * BLOCK`` and following: always a whole block."""

    def stream(purpose: str) -> np.random.Generator:
        return numpy_generator(settings.seed, "heart", number, purpose)

    latents = stream("state").standard_normal((BLOCK, len(LATENTS)))
    others = stream("other state").standard_normal((BLOCK, len(LATENTS)))
    state = heart_state(latents)
    cmr = heart_cmr.draw_nuisance(BLOCK, settings.sites, stream("cmr"))
    return Block(
        first=number * BLOCK,
        state=state,
        electric=heart_state(couple(latents, others, settings.coupling)),
        ecg=heart_ecg.draw_nuisance(BLOCK, stream("ecg")),
        cmr=cmr,
        table=_table(settings, number * BLOCK, state, cmr, stream("table")),
        noise=stream("cmr noise"),
    )


def _table(
    settings: HeartSettings,
    first: int,
    state: HeartState,
    cmr: heart_cmr.CmrNuisance,
    generator: np.random.Generator,
) -> dict[str, Array]:
    """Columns of the participants table of one block."""
    uniform = generator.random((5, BLOCK))
    measured = phenotypes(state, generator)
    outcome = heart_failure(state, generator)
    number = np.arange(first, first + BLOCK)
    has_ecg = uniform[1] >= settings.missing_ecg
    has_cmr = ~has_ecg | (uniform[2] >= settings.missing_cmr)
    tail = 1 - settings.held_out
    split = np.select(
        [uniform[0] >= tail, uniform[0] >= tail - settings.tuning],
        ["held_out", "tuning"],
        "train",
    )
    systole = heart_cmr.end_systole(state)
    known_age = uniform[3] >= settings.missing_clinic / 2
    known_bmi = uniform[4] >= settings.missing_clinic
    return {
        "subject_id": np.array([f"sub-{value:06d}" for value in number]),
        "split": split,
        "site": np.array([f"site-{value}" for value in cmr.site]),
        "age": np.where(known_age, state.age.round(1), np.nan),
        "sex": np.where(state.is_male, "M", "F"),
        "bmi": np.where(known_bmi, state.bmi.round(1), np.nan),
        "has_ecg": has_ecg.astype(int),
        "has_cmr": has_cmr.astype(int),
        "has_files": (number < settings.num_files).astype(int),
        "cine_ed": np.zeros(BLOCK, int),
        "cine_mid": systole // 2,
        "cine_es": systole,
        **{name: np.where(has_cmr, v.round(2), np.nan) for name, v in measured.items()},
        "infarct": (state.territory > 0).astype(int),
        "conduction": state.columns()["conduction"],
        **outcome,
    }


def truth_columns(block: Block) -> dict[str, Array]:
    """Columns of the truth: the states of CMR and (``ecg_``) ECG, the hazard."""
    return {
        "subject_id": block.table["subject_id"],
        **block.state.columns(),
        "log_hazard": log_hazard(block.state),
        **block.electric.columns("ecg_"),
        "ecg_qrs_ms": heart_ecg.qrs_duration(block.electric, block.ecg),
        "site_number": block.cmr.site,
    }
