import numpy as np
import pytest
from scipy.ndimage import zoom
from scipy.signal import resample_poly

from medmcl.modalities.cmr.readers import CMRVolume
from medmcl.modalities.ecg.files.readers import ECGRecord
from medmcl.modalities.ecg.leads import TWELVE
from medmcl.modalities.ecg.sketch import ecg_distance, ecg_sketch
from medmcl.modalities.sketches import cmr_distance, cmr_sketch

RATE_HZ, SECONDS = 500, 10


def smooth(generator, shape, width):
    kernel = np.ones(width) / width
    rows = generator.normal(size=(int(np.prod(shape[:-1])), shape[-1] + width - 1))
    return np.stack([np.convolve(row, kernel, "valid") for row in rows]).reshape(shape)


def ecg(seed=0, leads=TWELVE):
    rows = smooth(np.random.default_rng(seed), (len(leads), RATE_HZ * SECONDS), 25)
    return ECGRecord(signal_mv=rows.astype(np.float32), leads=leads, rate_hz=RATE_HZ)


def changed(record, rows=None, **changes):
    given = {"signal_mv": record.signal_mv, "leads": record.leads, "rate_hz": record.rate_hz}
    if rows is not None:
        given["signal_mv"] = np.asarray(rows, dtype=np.float32)
    return ECGRecord(**{**given, **changes})


def image(seed=0, shape=(3, 6, 96, 80)):
    voxels = np.random.default_rng(seed).normal(size=(shape[0], shape[1], 12, 10))
    voxels = zoom(voxels, (1, 1, shape[2] / 12, shape[3] / 10), order=1) * 40 + 300
    return CMRVolume(voxels=voxels.astype(np.float32), frames={}, where="here")


SAVED_ANEW = {
    "steps of 5 uV": lambda r: changed(r, np.round(r.signal_mv * 200) / 200),
    "noise of 1e-3 mV": lambda r: changed(
        r, r.signal_mv + np.random.default_rng(9).uniform(-1e-3, 1e-3, r.signal_mv.shape)
    ),
    "float noise": lambda r: changed(
        r, r.signal_mv + 1e-5 * np.random.default_rng(9).normal(size=r.signal_mv.shape)
    ),
    "another zero": lambda r: changed(r, r.signal_mv + 3),
    "another unit": lambda r: changed(r, r.signal_mv * 1000),
    "half the rate": lambda r: changed(r, resample_poly(r.signal_mv, 1, 2, axis=1), rate_hz=250),
    "a fifth of the rate": lambda r: changed(
        r, resample_poly(r.signal_mv, 1, 5, axis=1), rate_hz=100
    ),
    "leads in another order": lambda r: changed(r, r.signal_mv[::-1], leads=r.leads[::-1]),
}


@pytest.mark.parametrize("how", SAVED_ANEW)
def test_an_ecg_saved_anew_keeps_its_sketch(how):
    record = ecg()
    copy = SAVED_ANEW[how](record)
    assert np.linalg.norm(ecg_sketch(copy) - ecg_sketch(record)) < 0.05
    assert ecg_distance(record, copy) < 0.05


def test_ecgs_of_different_moments_are_far_apart():
    whole = smooth(np.random.default_rng(0), (12, RATE_HZ * SECONDS * 2), 25)
    one, two = (changed(ecg(), rows) for rows in np.split(whole, 2, axis=1))
    assert np.linalg.norm(ecg_sketch(one) - ecg_sketch(two)) > 0.8
    assert ecg_distance(one, two) > 0.8


def test_a_sketch_of_an_ecg_is_its_means_over_stretches():
    record = ecg()
    rows = [record.signal_mv[record.leads.index(n)] for n in ("I", "II", *TWELVE[6:])]
    signs = ((1, 1, 1, -1, 1, -1, 1, 1), (1, -1, 1, 1, -1, 1, 1, -1))
    slow = []
    for mixture in signs:
        mixed = sum(sign * row for sign, row in zip(mixture, rows, strict=True))
        at = np.linspace(0, 5000, 32 * 1000, endpoint=False)
        means = np.interp(at, np.arange(5000), mixed).reshape(32, 1000).mean(axis=1)
        slow.append(means - means.mean())
    slow = np.concatenate(slow)
    assert np.allclose(ecg_sketch(record), slow / np.linalg.norm(slow), atol=1e-3)
    assert np.linalg.norm(ecg_sketch(record)) == pytest.approx(1)


def test_one_bad_lead_does_not_hide_a_copy_of_an_ecg():
    record = ecg()
    rows = record.signal_mv.copy()
    rows[3] = np.random.default_rng(5).normal(size=rows.shape[1])
    assert ecg_distance(record, changed(record, rows)) < 0.01


def test_ecgs_without_the_usual_leads_have_a_sketch_and_still_ones_none():
    record = ecg(leads=("MLII", "V5"))
    assert ecg_sketch(record).shape == (64,)
    assert ecg_distance(record, ecg(1, leads=("MLII", "V5"))) > 0.8
    assert ecg_sketch(changed(record, np.ones((2, 5000)))) is None
    assert ecg_sketch(changed(record, record.signal_mv[:, :40])) is None
    assert ecg_distance(record, ecg(leads=("X", "Y"))) == np.inf


def test_gaps_in_an_ecg_do_not_break_its_sketch():
    record = ecg()
    rows = record.signal_mv.copy()
    rows[0, 10:20] = np.nan
    assert np.isfinite(ecg_sketch(changed(record, rows))).all()


SCALED = {
    "grey values": lambda v: np.round(v * 0.37 + 12),
    "eight bits": lambda v: np.round((v - v.min()) / np.ptp(v) * 255),
    "other pixels": lambda v: zoom(v, (1, 1, 1.5, 1.5), order=1, grid_mode=True, mode="nearest"),
    "first frame only": lambda v: v[:1],
}


@pytest.mark.parametrize("how", SCALED)
def test_an_image_saved_anew_keeps_its_sketch(how):
    one = image()
    two = CMRVolume(voxels=SCALED[how](one.voxels).astype(np.float32), frames={}, where="there")
    assert np.linalg.norm(cmr_sketch(one) - cmr_sketch(two)) < 0.02
    assert cmr_distance(one, two) < 0.05


def test_images_of_different_people_are_far_apart():
    assert cmr_distance(image(0), image(1)) > 0.8
    assert np.linalg.norm(cmr_sketch(image(0)) - cmr_sketch(image(1))) > 0.5
    flat = CMRVolume(voxels=np.ones((1, 2, 9, 9), np.float32), frames={}, where="there")
    assert cmr_sketch(flat) is None
    assert cmr_distance(image(0), flat) == np.inf
