"""Waves of a median beat against waves that were put there."""

import numpy as np
import pytest

from medmcl.modalities.ecg.beats import AFTER_SECONDS, CENTRE, find_waves
from medmcl.modalities.ecg.complexes import BEAT_HZ

TIMES = (np.arange(CENTRE + round(AFTER_SECONDS * BEAT_HZ) + 1) - CENTRE) / BEAT_HZ


def beat(p_at=-0.16, qrs=0.012, t_at=0.28, p_mv=0.15, t_mv=0.3):
    def wave(at, width, mv):
        return mv * np.exp(-0.5 * ((TIMES - at) / width) ** 2)

    row = wave(p_at, 0.02, p_mv) + wave(0, qrs, 1.2) + wave(2.2 * qrs, qrs, -0.3)
    row += wave(t_at, 0.04, t_mv)
    return np.array([row, 0.6 * row])


def seconds(sample):
    return (sample - CENTRE) / BEAT_HZ


def test_waves_lie_where_they_were_put():
    waves = find_waves(beat(), np.full(2, 0.002), 0.9)
    assert abs(seconds(waves.p_peak) + 0.16) < 0.006
    assert abs(seconds(waves.t_peak) - 0.28) < 0.006
    # the tangent of a Gaussian meets zero two widths from its centre
    assert abs(seconds(waves.p_onset) + 0.16 + 0.04) < 0.01
    assert abs(seconds(waves.t_end) - 0.28 - 0.08) < 0.01
    assert -0.045 < seconds(waves.onset) < -0.02


@pytest.mark.parametrize("moved", [-0.06, -0.03, 0.03, 0.06])
def test_t_end_and_p_onset_move_with_their_waves(moved):
    still = find_waves(beat(), np.full(2, 0.002), 0.9)
    later = find_waves(beat(t_at=0.28 + moved), np.full(2, 0.002), 0.9)
    assert seconds(later.t_end) - seconds(still.t_end) == pytest.approx(moved, abs=0.006)
    earlier = find_waves(beat(p_at=-0.16 + moved / 2), np.full(2, 0.002), 0.9)
    assert seconds(earlier.p_onset) - seconds(still.p_onset) == pytest.approx(moved / 2, abs=0.006)


def test_a_qrs_twice_as_wide_measures_twice_as_wide():
    narrow, wide = (find_waves(beat(qrs=w, t_at=0.33), np.zeros(2), 1.0) for w in (0.011, 0.022))
    ratio = (wide.offset - wide.onset) / (narrow.offset - narrow.onset)
    assert ratio == pytest.approx(2, rel=0.15)


def test_absent_waves_cannot_be_told():
    waves = find_waves(beat(p_mv=0, t_mv=0), np.full(2, 0.002), 0.9)
    assert waves.p_onset is None
    assert waves.t_end is None


def test_waves_below_the_noise_are_not_believed():
    assert find_waves(beat(p_mv=0.05), np.full(2, 0.002), 0.9).p_onset is not None
    assert find_waves(beat(p_mv=0.05), np.full(2, 0.03), 0.9).p_onset is None


def test_a_beat_without_a_qrs_has_no_waves():
    generator = np.random.default_rng(0)
    assert find_waves(np.zeros((2, len(TIMES))), np.zeros(2), 0.9) is None
    assert find_waves(generator.standard_normal((2, len(TIMES))), np.ones(2), 0.9) is None
