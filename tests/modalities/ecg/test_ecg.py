import json
from pathlib import Path

import numpy as np
import pytest
import torch
from row_draws import row_generator

from medmcl.core.config import check
from medmcl.core.contracts import RecordRef
from medmcl.core.errors import ArtefactError, CohortError, ConfigError, RecordError
from medmcl.modalities.ecg.adapter import ECG, ECGAugment, ECGSettings, ECGSource
from medmcl.modalities.ecg.files.readers import ECGRecord
from medmcl.modalities.ecg.leads import LIMB, TWELVE

SOURCE = ECGSource(reader="npy", rate_hz=100, units="mV")
PLACE = RecordRef(subject="s1", record="r1", paths={"path": Path("r1.npy")})


def noise_record(seconds=10.0, rate=100.0, leads=TWELVE, seed=0) -> ECGRecord:
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(len(leads), round(seconds * rate))).cumsum(axis=1) / 10
    return ECGRecord(signal_mv=signal.astype(np.float32), leads=tuple(leads), rate_hz=rate)


def adapter(**settings) -> ECG:
    return ECG(SOURCE, ECGSettings(**{"rate_hz": 100, **settings}))


def test_shapes_names_and_kind_are_stated():
    ecg = ECG(SOURCE, ECGSettings())
    assert ecg.kind == "ecg"
    assert ecg.prepared_shape == (12, 5000)
    assert ecg.input_shape.shape == (12, 2500)
    assert ecg.input_shape.names == TWELVE
    small = adapter(leads=["v2", "DII"], seconds=4, crop_seconds=2)
    assert small.prepared_shape == (2, 400)
    assert small.input_shape.names == ("V2", "II")


def test_preparation_equals_the_papers_steps_by_slow_loops():
    record = noise_record(seconds=2)
    got = adapter(seconds=2, crop_seconds=1, als_lambda=1e7).prepare(record)
    x = record.signal_mv.astype(np.float64)
    bound = 4 * np.sqrt(((x - x.mean()) ** 2).sum() / x.size)
    x = np.minimum(np.maximum(x, -bound), bound)
    second = np.zeros((198, 200))
    for k in range(198):
        second[k, k : k + 3] = 1, -2, 1
    penalty = 1e7 * (100 / 500) ** 4 * second.T @ second
    for lead in range(12):
        weights = np.ones(200)
        for _ in range(5):
            z = np.linalg.solve(np.diag(weights) + penalty, weights * x[lead])
            weights = np.where(x[lead] > z, 0.3, 0.7)
        x[lead] -= z
    for rows in ([0, 1, 2], [3, 4, 5], [6, 7, 8, 9, 10, 11]):
        x[rows] = (x[rows] - x[rows].mean()) / (x[rows].var() + 1e-12) ** 0.5
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, x, atol=1e-4)


@pytest.mark.parametrize(
    ("mode", "groups"),
    [
        ("lead_groups", [range(3), range(3, 6), range(6, 12)]),
        ("lead", [[row] for row in range(12)]),
        ("record", [range(12)]),
    ],
)
def test_normalisation_modes_give_each_group_mean_zero_and_variance_one(mode, groups):
    x = adapter(normalise=mode, baseline="none").prepare(noise_record())
    for rows in groups:
        assert x[list(rows)].mean() == pytest.approx(0, abs=1e-5)
        assert x[list(rows)].var() == pytest.approx(1, abs=1e-4)


def test_without_steps_the_record_comes_back_in_mv():
    record = noise_record()
    x = adapter(normalise="none", baseline="none", clip_sigma=None).prepare(record)
    np.testing.assert_array_equal(x, record.signal_mv)


def test_leads_are_reordered_and_derived_before_anything_else():
    full = noise_record()
    one, two = full.signal_mv[:2]
    limb = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    full = ECGRecord(signal_mv=np.stack([*limb, *full.signal_mv[6:]]), leads=TWELVE, rate_hz=100.0)
    order = [11, 1, 7, 0, 6, 8, 9, 10]
    eight = ECGRecord(
        signal_mv=full.signal_mv[order], leads=tuple(TWELVE[n] for n in order), rate_hz=100.0
    )
    ecg = adapter()
    np.testing.assert_allclose(ecg.prepare(eight), ecg.prepare(full), atol=1e-4)
    assert ecg.inspect(eight, PLACE) == ecg.inspect(full, PLACE)


def test_another_rate_is_resampled_and_only_the_first_seconds_are_read():
    at = np.arange(0, 30, 1 / 1000)
    signal = np.stack([np.sin(2 * np.pi * 2 * at + lead) for lead in range(12)])
    record = ECGRecord(signal_mv=signal.astype(np.float32), leads=TWELVE, rate_hz=1000.0)
    x = adapter(normalise="none", baseline="none", clip_sigma=None).prepare(record)
    then = np.arange(1000) / 100
    expected = np.stack([np.sin(2 * np.pi * 2 * then + lead) for lead in range(12)])
    assert np.abs(x - expected)[:, 10:].max() < 0.02


def test_absent_leads_are_refused_or_zero_and_do_not_touch_the_others():
    record = noise_record(leads=("I", "II", "V1"))
    with pytest.raises(RecordError, match="V2, V3, V4, V5, V6 is missing"):
        adapter().prepare(record)
    x = adapter(missing_leads="zero").prepare(record)
    assert (x[7:] == 0).all()
    assert (x[:7].std(axis=1) > 0).all()
    assert (x[:7, -1] == 1).all()  # which leads are there
    alone = adapter(leads=[*LIMB, "V1"]).prepare(record)
    np.testing.assert_array_equal(x[:7, :-1], alone)
    findings = adapter(missing_leads="zero").inspect(record, PLACE)
    told = [(f.code, f.level) for f in findings]
    assert told == [("ecg.missing_leads", "warning"), ("ecg.no_beats", "warning")]  # it is noise
    with pytest.raises(RecordError):
        adapter(missing_leads="zero", leads=["V4"]).prepare(record)


def test_short_records_are_refused_padded_or_repeated():
    record = noise_record(seconds=6)
    with pytest.raises(RecordError, match="too short"):
        adapter().prepare(record)
    whole = adapter(seconds=6).prepare(record)
    zero = adapter(pad="zero").prepare(record)
    np.testing.assert_array_equal(zero[:, :600], whole)
    assert (zero[:, 600:] == 0).all()
    again = adapter(pad="repeat").prepare(record)
    np.testing.assert_array_equal(again[:, :600], whole)
    np.testing.assert_array_equal(again[:, 600:], whole[:, :400])


def test_nan_is_refused_and_never_becomes_zero_unasked():
    record = noise_record()
    record.signal_mv[3, 100:110] = np.nan
    with pytest.raises(RecordError, match="NaN or infinite samples in aVR"):
        adapter().prepare(record)
    assert np.isfinite(adapter(missing_samples="interpolate").prepare(record)).all()
    assert np.isfinite(adapter(missing_samples="zero").prepare(record)).all()
    record.signal_mv[3] = np.nan
    with pytest.raises(RecordError):
        adapter(missing_samples="interpolate").prepare(record)


def test_nan_in_a_lead_that_nobody_asked_for_is_no_fault():
    record = noise_record(leads=(*TWELVE, "X"))
    record.signal_mv[12] = np.nan
    assert np.isfinite(adapter().prepare(record)).all()
    assert not any(f.code == "ecg.nan" for f in adapter().inspect(record, PLACE))


def test_a_constant_record_is_prepared_without_nan():
    record = ECGRecord(signal_mv=np.ones((12, 1000), np.float32), leads=TWELVE, rate_hz=100.0)
    for baseline in ("als", "highpass", "none"):
        assert np.isfinite(adapter(baseline=baseline).prepare(record)).all()


def test_plain_is_the_beginning_and_augment_without_options_is_plain():
    ecg = adapter()
    x = torch.randn(3, 12, 1000, generator=torch.Generator(device="cpu"), device="cpu")
    generator = row_generator(1)
    assert torch.equal(ecg.plain(x), x[..., :500])
    assert torch.equal(ecg.augment(x, ECGAugment(), generator), x[..., :500])


def test_random_crops_differ_by_row_and_follow_the_generator():
    ecg = adapter()
    x = torch.arange(1000.0, device="cpu").expand(8, 12, 1000)
    options = ECGAugment(crop=True, probability=0.0, noise=1.0)
    first = ecg.augment(x, options, row_generator(1))
    again = ecg.augment(x, options, row_generator(1))
    assert torch.equal(first, again)
    assert first.shape == (8, 12, 500)
    assert (first.diff(dim=-1) == 1).all()
    assert len(set(first[:, 0, 0].tolist())) > 4


def test_state_is_plain_json_and_other_preparation_is_refused():
    ecg = adapter()
    ecg.fit(iter(()))
    state = json.loads(json.dumps(ecg.state()))
    assert state["leads"] == list(TWELVE)
    assert state["rate_hz"] == 100
    ecg.load_state(state)
    with pytest.raises(ArtefactError, match="baseline"):
        adapter(baseline="none").load_state(state)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"leads": ["I", "lead i"]}, "each once"),
        ({"leads": ["I", "V17"]}, "'V17' is not a lead"),
        ({"leads": []}, "at least one"),
        ({"crop_seconds": 20}, "must not exceed"),
        ({"seconds": 10.003, "rate_hz": 100}, "whole number of samples"),
        ({"baseline": "highpass", "highpass_hz": 60, "rate_hz": 100}, "half of rate_hz"),
        ({"normalize": "lead"}, "did you mean 'normalise'"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        check(ECGSettings, settings, where="inputs.ecg", error=ConfigError)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"reader": "npy", "units": "mV"}, "state rate_hz"),
        ({"reader": "npy", "rate_hz": 100}, "state units"),
        ({"reader": "wfdb", "row": "n"}, "only the readers npy, hdf5, zarr and parquet"),
        ({"reader": "npy", "rate_hz": 1, "units": "mV", "leads": {"a": "I"}}, "give a list"),
        ({"reader": "scp"}, "reader"),
    ],
)
def test_sources_that_cannot_be_are_refused(source, message):
    with pytest.raises(CohortError, match=message):
        check(ECGSource, source, where="modalities.ecg", error=CohortError)


def test_a_place_without_the_one_path_is_named():
    with pytest.raises(RecordError, match="an ECG is one file"):
        adapter().read(RecordRef(subject="s", record="r", paths={"ed": Path("a"), "es": Path("b")}))
