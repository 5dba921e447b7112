"""What may be wrong with an ECG when it is recorded, put into sound ones to study encoders."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import NonNegativeFloat, PositiveFloat

from medmcl.core.config import Config

if TYPE_CHECKING:
    import numpy as np


class Disturbance(Config):
    """Faults of a recording, in mV, before anything is prepared; the same of a record each time."""

    noise_mv: NonNegativeFloat = 0.0
    """standard deviation of white noise, in each lead its own"""
    wander_mv: NonNegativeFloat = 0.0
    """amplitude of a slow wave, with a phase of its own in each lead"""
    wander_hz: PositiveFloat = 0.3
    """its frequency"""
    through_hz: PositiveFloat | None = None
    """brought to this rate and back: what lies above half of it goes"""
    flat_leads: tuple[str, ...] = ()
    """leads that show zero"""

    def __call__(self, x: np.ndarray, leads: Sequence[str], rate_hz: float) -> np.ndarray:
        """Disturb a signal (L, S) in mV whose rows are called ``leads``; ``x`` stays as it is."""
        import numpy as np

        from medmcl.core.rng import numpy_generator
        from medmcl.modalities.ecg.signal import resample

        generator = numpy_generator(zlib.crc32(np.ascontiguousarray(x).tobytes()), "disturb")
        found = np.array(x, dtype=np.float64)
        seconds = np.arange(x.shape[1]) / rate_hz
        phases = generator.uniform(0, 2 * np.pi, (len(x), 1))
        found += self.wander_mv * np.sin(2 * np.pi * self.wander_hz * seconds + phases)
        found += generator.normal(size=x.shape) * self.noise_mv
        if self.through_hz is not None and self.through_hz < rate_hz:
            back = resample(resample(found, rate_hz, self.through_hz), self.through_hz, rate_hz)
            found[:, : back.shape[1]] = back[:, : x.shape[1]]
        found[[lead in self.flat_leads for lead in leads]] = 0.0
        return found
