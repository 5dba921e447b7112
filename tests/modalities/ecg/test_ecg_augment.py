import numpy as np
import pytest
import torch
from row_draws import row_generator as rng

from medmcl.modalities.ecg import augment
from medmcl.modalities.ecg.augment import ECGAugment, disturb


def rows(count=4, leads=3, samples=64, seed=1):
    return rng(seed).normal(count, leads, samples)


EVERYTHING = ECGAugment(
    ft_surrogate=0.1,
    jitter=0.25,
    noise=0.1,
    rescale=0.5,
    time_flip=0.5,
    sign_flip=0.5,
    spec_augment=0.25,
    lead_dropout=0.3,
    time_mask=0.2,
)


def test_defaults_disturb_nothing():
    x = rows()
    assert disturb(x, ECGAugment(), rng()) is x


def test_the_same_seed_gives_the_same_bits_and_global_randomness_is_not_touched():
    x = rows()
    before = torch.get_rng_state()
    first = disturb(x, EVERYTHING, rng(5))
    assert torch.equal(first, disturb(x, EVERYTHING, rng(5)))
    assert not torch.equal(first, disturb(x, EVERYTHING, rng(6)))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.isfinite(first).all()
    assert first.shape == x.shape


def test_the_input_is_never_changed_in_place():
    x = rows()
    kept = x.clone()
    disturb(x, EVERYTHING, rng())
    assert torch.equal(x, kept)


@pytest.mark.parametrize("samples", [16, 17])
def test_phase_shift_equals_a_slow_fourier_sum(samples):
    x = rows(2, 2, samples).double()
    phases = augment.draw_phases(x, 0.1, rng()).double()
    got = augment.shift_phases(x, phases.float()).numpy()
    times = np.arange(samples)
    for row in range(2):
        for lead in range(2):
            total = np.zeros(samples, dtype=complex)
            for k in range(samples):
                wave = np.exp(-2j * np.pi * k * times / samples)
                coefficient = (x[row, lead].numpy() * wave).sum()
                half = k if k <= samples // 2 else samples - k
                angle = phases[row, 0, half].item() * (1 if k == half else -1)
                total += coefficient * np.exp(1j * angle) * wave.conj() / samples
            assert np.abs(total.imag).max() < 1e-5
            np.testing.assert_allclose(got[row, lead], total.real, atol=1e-5)


def test_phases_lie_in_the_stated_range_and_differ_between_rows():
    phases = augment.draw_phases(rows(200, 1, 50), 0.25, rng())
    assert phases.min() >= 0
    assert np.pi / 2 * 0.98 < phases.max() < np.pi / 2
    assert (phases[..., 0] == 0).all()
    assert (phases[..., -1] == 0).all()
    assert not torch.equal(phases[0], phases[1])


def test_jitter_is_multiplicative_with_the_authors_amplitude():
    x = torch.ones(50, 4, 200, device="cpu")
    x[:, 0] = 0
    got = disturb(x, ECGAugment(jitter=0.25), rng())
    assert (got[:, 0] == 0).all()
    assert (got[:, 1:] - 1).std().item() == pytest.approx(0.6 * 0.25, rel=0.03)
    assert (got[:, 1:] - 1).mean().abs() < 0.005


def test_noise_is_additive():
    x = torch.zeros(50, 4, 200, device="cpu")
    assert disturb(x, ECGAugment(noise=0.3), rng()).std().item() == pytest.approx(0.3, rel=0.03)


def test_rescaling_is_one_factor_a_record_and_flips_as_often_as_stated():
    x = torch.ones(20_000, 2, 3, device="cpu")
    factor = disturb(x, ECGAugment(rescale=0.5), rng())
    assert (factor == factor[:, :1, :1]).all()
    assert factor.std().item() == pytest.approx(0.5, rel=0.03)
    assert (factor[:, 0, 0] < 0).float().mean().item() == pytest.approx(0.0228, abs=0.004)
    kept = disturb(x, ECGAugment(rescale=0.5, rescale_may_flip=False), rng())
    torch.testing.assert_close(kept, factor.abs())


def test_probability_spares_whole_rows_to_the_bit():
    x = rows(4000, 1, 8)
    got = disturb(x, ECGAugment(noise=1.0, probability=0.3), rng())
    same = (got == x).flatten(1)
    assert (same.all(1) | ~same.any(1)).all()
    assert same.all(1).float().mean().item() == pytest.approx(0.7, abs=0.03)


def test_surrogate_probability_is_by_row():
    x = rows(2000, 2, 16)
    got = disturb(x, ECGAugment(ft_surrogate=0.5, ft_surrogate_probability=0.5), rng())
    assert (got == x).flatten(1).all(1).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_flips_turn_time_and_sign():
    x = rows(1000, 2, 8)
    time = disturb(x, ECGAugment(time_flip=1.0), rng())
    assert torch.equal(time, x.flip(-1))
    sign = disturb(x, ECGAugment(sign_flip=0.5), rng())
    turned = (sign == -x).flatten(1).all(1)
    assert (turned | (sign == x).flatten(1).all(1)).all()
    assert turned.float().mean().item() == pytest.approx(0.5, abs=0.06)


def test_lead_dropout_blanks_leads_and_keeps_one():
    x = torch.ones(3000, 12, 4, device="cpu")
    kept = disturb(x, ECGAugment(lead_dropout=0.5), rng())
    assert (kept == kept[..., :1]).all()
    assert kept[..., 0].mean().item() == pytest.approx(0.5, abs=0.02)
    certain = disturb(x, ECGAugment(lead_dropout=1.0), rng())
    assert (certain[..., 0].sum(1) == 1).all()


def test_time_mask_blanks_one_piece_in_all_leads():
    x = torch.ones(300, 3, 50, device="cpu")
    got = disturb(x, ECGAugment(time_mask=0.2), rng())
    assert (got == got[:, :1]).all()
    blank = got[:, 0] == 0
    assert (blank.sum(1) == 10).all()
    assert ((blank[:, 1:] != blank[:, :-1]).sum(1) <= 2).all()
    assert blank[:, 0].any()
    assert blank[:, -1].any()


def test_spec_augment_with_share_zero_returns_the_signal_and_otherwise_removes_energy():
    x = rows(6, 2, 500)
    torch.testing.assert_close(augment.blank_spectrum(x, 0.0, rng()), x, atol=1e-4, rtol=1e-4)
    got = augment.blank_spectrum(x, 0.25, rng())
    lost = 1 - got.square().sum((1, 2)) / x.square().sum((1, 2))
    assert ((lost > 0.05) & (lost < 0.5)).all()


def test_crops_equal_slices_and_start_everywhere():
    x = rows(500, 2, 12)
    starts = augment.draw_starts(x, 8, rng())
    assert set(starts.tolist()) == {0, 1, 2, 3, 4}
    got = augment.crop_windows(x, starts, 8)
    for row in range(20):
        assert torch.equal(got[row], x[row, :, starts[row] : starts[row] + 8])


def test_half_precision_goes_through_and_stays_half():
    x = rows(2, 2, 500).to(torch.bfloat16)
    assert disturb(x, EVERYTHING, rng()).dtype == torch.bfloat16


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_everything_runs_on_the_device_of_the_batch_in_bfloat16():
    device = torch.device("cuda")
    x = rows(4, 12, 2500).to(device, torch.bfloat16)
    got = disturb(x, EVERYTHING, rng(device=device))
    assert got.device.type == "cuda"
    assert torch.isfinite(got).all()


@pytest.mark.parametrize("samples", [37, 400, 2500])
def test_the_way_back_from_a_spectrum_is_that_of_torch_to_the_bit(samples):
    window = torch.hann_window(min(120, samples), device="cpu")
    x = rows(1, 6, samples)[0]
    spectrum = torch.stft(x, len(window), window=window, pad_mode="constant", return_complex=True)
    hidden = spectrum.clone()
    hidden[:, 2:5] = 0
    for one in (spectrum, hidden):
        theirs = torch.istft(one, len(window), window=window, length=samples)
        assert torch.equal(augment.inverse_spectrum(one, window, samples), theirs)
