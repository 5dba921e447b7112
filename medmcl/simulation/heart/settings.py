"""Settings of the simulated heart cohort."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from medmcl.core.config import Probability
from medmcl.simulation.heart import cmr as heart_cmr
from medmcl.simulation.heart.state import Array
from medmcl.simulation.settings import SimulationSettings


class HeartSettings(SimulationSettings):
    """How large, how noisy and how coupled a simulated heart cohort is."""

    subjects: PositiveInt = 100
    """number of subjects"""
    coupling: Probability = 1.0
    """correlation of the latents behind ECG and CMR; 0 = unrelated"""
    ecg_noise_mv: NonNegativeFloat = 0.02
    """electrode noise, standard deviation of the median subject"""
    cmr_noise: NonNegativeFloat = 0.04
    """noise of a pixel, standard deviation; blood is near 1"""
    missing_ecg: Probability = 0.0
    """share of subjects without an ECG"""
    missing_cmr: Probability = 0.0
    """share of those with an ECG who have no CMR (and no phenotypes)"""
    missing_clinic: Probability = 0.05
    """share of empty cells for BMI; half of it for age"""
    sites: PositiveInt = 3
    """scanners; they differ in contrast"""
    form: Literal["files", "shards", "both"] = "files"
    """files: WFDB and NIfTI; shards: memory-mapped arrays, for many subjects; both: shards, and
    files of everyone (or of the first files_subset)"""
    files_subset: NonNegativeInt = 0
    """shards, both: subjects that lie as real files too"""
    ecg_rate_hz: Literal[50, 100, 125, 250, 500] = 100
    """shards; files have 500 Hz"""
    ecg_seconds: Annotated[float, Field(ge=1, le=10)] = 5.0
    """shards; files have 10 s"""
    cmr_size: Annotated[int, Field(ge=8, le=512)] = 32
    """shards: pixels along a side of the field of 153.6 mm"""
    cmr_frames: Annotated[int, Field(ge=1, le=64)] = 3
    """shards: 1 = ED; 2 = ES, ED; 3 = ES, mid, ED; 4 = these and mid-diastole; more = evenly over
    the cycle from ED"""
    cmr_slices: Annotated[int, Field(ge=1, le=11)] = 1
    """shards: 1 = the middle slice; more = evenly from base to apex"""
    cmr_file_size: Annotated[int, Field(ge=16, le=512)] = 96
    """files: pixels along a side of the field"""
    dtype: Literal["float16", "float32"] = "float16"
    """of the shards"""
    recipe: str = "ecg_cmr_toy"
    """default recipe of the cohort"""

    @model_validator(mode="after")
    def _check(self) -> HeartSettings:
        if self.form == "files" and self.files_subset:
            raise ValueError("files_subset belongs to form: shards or both")
        return self

    @property
    def has_shards(self) -> bool:
        """Whether memory-mapped arrays are written."""
        return self.form != "files"

    @property
    def num_files(self) -> int:
        """Subjects written as WFDB and NIfTI: the first ones."""
        everyone = self.form == "files" or (self.form == "both" and not self.files_subset)
        return self.subjects if everyone else min(self.files_subset, self.subjects)

    @property
    def shard_slices(self) -> Array:
        """Numbers of the shard's slices in the full stack."""
        if self.cmr_slices == 1:
            return np.array([heart_cmr.STACK // 2])
        first = heart_cmr.ABOVE_BASE
        return np.round(np.linspace(first, first + 8, self.cmr_slices)).astype(int)
