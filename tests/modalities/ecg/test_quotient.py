"""Filters as one quotient: scipy's, with a state at rest that no processor decides."""

import numpy as np
import pytest
from scipy import signal

from medmcl.modalities.ecg import quotient


@pytest.mark.parametrize("shape", [(700,), (12, 700), (2, 12, 700)])
@pytest.mark.parametrize(("order", "band"), [(1, (5, 40)), (2, (5, 40)), (3, (8, 100))])
def test_it_filters_as_scipy_does(shape, order, band):
    b, a = signal.butter(order, band, btype="bandpass", fs=500)
    x = np.random.default_rng(0).standard_normal(shape)
    assert np.abs(quotient.filtfilt(b, a, x) - signal.filtfilt(b, a, x, axis=-1)).max() < 1e-9
    constant = np.ones(shape)
    assert np.abs(quotient.filtfilt(b, a, constant)).max() < 1e-9  # no step where it begins


def test_the_state_of_a_narrow_band_is_the_same_bits_everywhere():
    """What scipy gives on a processor with AVX-512; elsewhere its fourth digit differs."""
    b, a = signal.butter(4, (0.67, 40), btype="bandpass", fs=500)
    state = quotient._at_rest(tuple(b.tolist()), tuple(a.tolist()))
    assert [one.hex() for one in state[:3]] == [
        "-0x1.14234e60373f6p-9", "-0x1.1426f5449c48ep-9", "0x1.9e39970da4535p-8",
    ]  # fmt: skip
    assert state == pytest.approx(signal.lfilter_zi(b, a), rel=1e-3)


def test_what_is_too_short_is_refused():
    b, a = signal.butter(2, (5, 40), btype="bandpass", fs=500)
    with pytest.raises(ValueError, match="15 samples: this filter needs more than 15"):
        quotient.filtfilt(b, a, np.zeros((12, 15)))
