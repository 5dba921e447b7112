"""Preparation of ECGs by steps that a recipe or a card lists."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from row_draws import row_generator
from scipy.signal import (
    butter,
    decimate,
    filtfilt,
    firwin,
    iirnotch,
    medfilt,
    resample,
    sosfiltfilt,
)

from medmcl.core.contracts import RecordRef
from medmcl.core.errors import ArtefactError, ConfigError, RecordError
from medmcl.modalities.ecg import steps
from medmcl.modalities.ecg.adapter import ECG, ECGAugment, ECGSettings, ECGSource
from medmcl.modalities.ecg.files.readers import ECGRecord
from medmcl.modalities.ecg.leads import TWELVE
from tests.support.ecg_files import muse_waveform, write_dicom, write_muse

RNG = np.random.default_rng(5)
SIGNAL = RNG.standard_normal((12, 5000)).cumsum(1) / 50


def prepared(steps, signal=SIGNAL, rate_hz=500.0, leads=TWELVE, units="mV", **settings):
    chosen = ECGSettings(steps=steps, **settings)
    return ECG.prepare_array(signal, chosen, leads=leads, rate_hz=rate_hz, units=units)


def adapter(**settings):
    return ECG(ECGSource(reader="wfdb"), ECGSettings(**settings))


Z = {"step": "zscore", "over": "record"}
FILTERS = {
    "notch": ({"step": "notch"}, lambda x: filtfilt(*iirnotch(50, 30, fs=500), x)),
    "band": (
        {"step": "butterworth", "order": 4, "low_hz": 0.67, "high_hz": 40, "form": "ba"},
        lambda x: filtfilt(*butter(4, [0.67, 40], "bandpass", fs=500), x),
    ),
    "high": (
        {"step": "butterworth", "order": 5, "low_hz": 0.67},
        lambda x: sosfiltfilt(butter(5, 0.67, "highpass", fs=500, output="sos"), x),
    ),
    "median": ({"step": "median"}, lambda x: x - np.stack([medfilt(row, 201) for row in x])),
    "fir": (
        {"step": "fir", "low_hz": 0.05, "high_hz": 47},
        lambda x: filtfilt(firwin(151, [0.05, 47], pass_zero=False, fs=500), 1, x),
    ),
    "range": (
        {"step": "minmax", "over": "lead", "low": -1, "epsilon": 0.1},
        lambda x: 2 * (x - x.min(1, keepdims=True)) / (np.ptp(x, 1, keepdims=True) + 0.1) - 1,
    ),
    "flat": ({"step": "flatten_leads"}, np.ravel),
    "decimate": ({"step": "decimate", "factor": 5}, lambda x: decimate(x, 5, axis=1)),
    "record": (Z, lambda x: (x - x.mean()) / x.std()),
    "lead": (
        {"step": "zscore", "over": "lead", "epsilon": 0.5},
        lambda x: (x - x.mean(1, keepdims=True)) / (x.std(1, keepdims=True) + 0.5),
    ),
    "minmax": (
        {"step": "minmax", "over": "record", "epsilon": 0.25},
        lambda x: (x - x.min()) / (x.max() - x.min() + 0.25),
    ),
    "stretched": (
        {"step": "minmax", "over": "lead", "low": -1, "high": 1},
        lambda x: 2 * (x - x.min(1)[:, None]) / np.ptp(x, 1)[:, None] - 1,
    ),
    "standardise": (
        {"step": "standardise", "mean": list(range(12)), "std": [0.5] * 12},
        lambda x: (x - np.arange(12)[:, None]) / 0.5,
    ),
    "one for all": (
        {"step": "standardise", "mean": [0.1], "std": [0.5]}, lambda x: (x - 0.1) / 0.5
    ),
    "clip": ({"step": "clip", "low": -0.2, "high": 0.5}, lambda x: np.clip(x, -0.2, 0.5)),
    "half": ({"step": "precision", "dtype": "float16"}, lambda x: x.astype(np.float16)),
    "pad": ({"step": "pad", "samples": 5050}, lambda x: np.pad(x, [(0, 0), (0, 50)])),
    "cut": ({"step": "cut", "samples": 100, "start": 30}, lambda x: x[:, 30:130]),
    "windows": (
        {"step": "windows", "samples": 2500, "starts": [0, 2500]},
        lambda x: np.stack([x[:, :2500], x[:, 2500:]]),
    ),
    "every": (
        {"step": "windows", "samples": 1250, "every": 625},
        lambda x: np.stack([x[:, at : at + 1250] for at in range(0, 3751, 625)]),
    ),
    "fourier": (
        {"step": "resample", "hz": 250, "method": "fourier"}, lambda x: resample(x, 2500, axis=1)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILTERS)
def test_a_step_does_what_scipy_does(name):
    step, expected = FILTERS[name]
    found = prepared([step])
    assert found.dtype == np.float32
    assert np.allclose(found, expected(SIGNAL), atol=2e-6)
    assert adapter(steps=[step]).prepared_shape == found.shape


def test_leads_behind_one_another_are_one_signal_that_is_seen_whole():
    steps = [{"step": "flatten_leads"}, {"step": "decimate", "factor": 5}]
    ecg = adapter(steps=steps, seconds=10)
    assert ecg.prepared_shape == ecg.input_shape.shape == (12_000,)
    found = prepared(steps)
    assert np.allclose(found, decimate(SIGNAL.ravel(), 5), atol=2e-6)
    assert np.abs(found - decimate(SIGNAL, 5, axis=1).ravel()).max() > 0.01  # the joins ring
    assert ecg.plain(torch.from_numpy(found[None])).shape == (1, 12_000)


def test_order_counts():
    cut = {"step": "cut", "samples": 2500}
    first, last = prepared([cut, Z]), prepared([Z, cut])
    assert abs(first.std() - 1) < 1e-5
    assert abs(last.std() - 1) > 1e-3


def test_half_precision_lasts_through_steps_with_known_numbers():
    steps = [
        {"step": "precision", "dtype": "float16"},
        {"step": "standardise", "mean": [0.1], "std": [0.3]},
        {"step": "clip", "low": -5, "high": 5},
    ]
    mean, std = np.float32(0.1), np.float32(0.3)
    half = (SIGNAL.astype(np.float16) - mean).astype(np.float16)
    assert np.array_equal(prepared(steps), np.clip((half / std).astype(np.float16), -5, 5))


def test_no_steps_leave_the_record_in_mv():
    assert np.allclose(prepared([]), SIGNAL, atol=1e-6)
    assert np.allclose(prepared([], SIGNAL * 1000, units="uV"), SIGNAL, atol=1e-6)
    assert np.allclose(prepared([], SIGNAL / 1000, units="V"), SIGNAL, atol=1e-6)


def test_flat_leads_become_zeros():
    signal = SIGNAL.copy()
    signal[3] = 0.25
    for step in ("zscore", "minmax"):
        found = prepared([{"step": step, "over": "lead"}], signal)
        assert np.isfinite(found).all()
        assert not found[3].any()


def test_a_record_enters_at_rate_hz_unless_a_step_resamples():
    slow = SIGNAL[:, ::2]
    assert prepared([], slow, rate_hz=250.0).shape == (12, 5000)
    linear = {"step": "resample", "hz": 500, "method": "linear"}
    found = prepared([linear], slow, rate_hz=250.0)
    at = np.linspace(0, 2499, 5000)
    assert np.allclose(found[2], np.interp(at, np.arange(2500), slow[2]), atol=1e-6)
    notch = {"step": "notch"}  # sees the rate that the record has by then
    assert np.allclose(
        prepared([notch, linear], slow, rate_hz=250.0)[0],
        np.interp(at, np.arange(2500), filtfilt(*iirnotch(50, 30, fs=250), slow[0])),
        atol=1e-5,
    )


def test_the_first_seconds_enter_or_the_whole_record():
    cut = {"step": "cut", "samples": 1000}
    assert np.array_equal(prepared([Z, cut], seconds=2), prepared([Z], SIGNAL[:, :1000], seconds=2))
    whole = prepared([Z, cut], seconds=2, whole=True)
    assert np.allclose(whole, ((SIGNAL - SIGNAL.mean()) / SIGNAL.std())[:, :1000], atol=2e-6)


def test_a_whole_record_gives_all_of_its_pieces_and_those_of_a_piece():
    """In its time, what is behind the last whole piece left out; training takes the first."""
    long = np.concatenate([SIGNAL, SIGNAL[:, :3999]], axis=1)
    whole = {"steps": [{"step": "windows", "seconds": 4, "every": 4},
                       {"step": "windows", "samples": 1500, "starts": [0, 500]}, Z],
             "whole": True}  # fmt: skip
    expected = [
        prepared([Z], long[:, at : at + 1500], seconds=3)
        for start in (0, 2000, 4000, 6000) for at in (start, start + 500)
    ]  # fmt: skip
    found = prepared(signal=long, **whole)
    assert np.allclose(found, np.stack(expected), atol=1e-6)
    ecg = adapter(**whole)
    assert ecg.prepared_shape == (4, 12, 1500)
    raw = ECGRecord(signal_mv=long, leads=TWELVE, rate_hz=500.0, where="it")
    assert np.array_equal(ecg.prepare(raw), ecg.prepare_whole(raw)[:4])
    place = RecordRef(subject="1", record="1", paths={})
    (told,) = [one for one in ecg.inspect(raw, place) if one.code == ecg.pieces]
    assert told.level == "warning"
    assert "18.00 s, which give 4 pieces; 10 s give 2" in told.what
    usual = replace(raw, signal_mv=SIGNAL)
    assert not [one for one in ecg.inspect(usual, place) if one.code == ecg.pieces]
    short = replace(raw, signal_mv=SIGNAL[:, :3900])
    found = {one.code: one for one in ecg.inspect(short, place)}
    assert "7.80 s, which give 1 piece; 10 s give 2" in found[ecg.pieces].what
    assert "ecg.too_short" not in found
    assert np.allclose(ecg.prepare_whole(short), np.stack(expected[:2]), atol=1e-6)
    assert np.array_equal(ecg.prepare(short), ecg.prepare_whole(short)[[0, 1, 0, 1]])
    less = replace(raw, signal_mv=SIGNAL[:, :1900])
    assert [one.level for one in ecg.inspect(less, place) if one.code == "ecg.too_short"] == [
        "error"
    ]
    with pytest.raises(RecordError, match="too short"):
        ecg.prepare(less)


def test_short_records_are_refused_or_filled_before_the_steps():
    short = SIGNAL[:, :3000]
    with pytest.raises(RecordError, match="too short"):
        prepared([Z], short)
    zeros = np.concatenate([short, np.zeros((12, 2000))], axis=1)
    assert np.allclose(prepared([Z], short, pad="zero"), prepared([Z], zeros), atol=1e-6)
    again = np.concatenate([short, short[:, :2000]], axis=1)
    assert np.allclose(prepared([Z], short, pad="repeat"), prepared([Z], again), atol=1e-6)


def test_leads_come_by_name_and_limb_leads_are_derived():
    limb = {"I": 0, "II": 1}
    independent = [*limb, *TWELVE[6:]]
    signal = SIGNAL.copy()
    signal[2], signal[3] = signal[1] - signal[0], -(signal[0] + signal[1]) / 2
    signal[4], signal[5] = signal[0] - signal[1] / 2, signal[1] - signal[0] / 2
    eight = signal[[0, 1, 6, 7, 8, 9, 10, 11]]
    assert np.allclose(prepared([], eight, leads=independent), signal, atol=1e-6)
    order = RNG.permutation(12)
    names = [TWELVE[n].upper() for n in order]
    assert np.array_equal(prepared([Z], signal[order], leads=names), prepared([Z], signal))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": [Z], "baseline": "als"}, "steps replace baseline"),
        ({"steps": [Z], "normalise": "lead", "clip_sigma": 4}, "replace clip_sigma, normalise"),
        ({"steps": [Z], "missing_leads": "zero"}, "every lead must be there"),
        ({"steps": [Z], "dead_leads": "mask"}, "every lead must be there"),
        ({"whole": True}, "only where steps are given"),
        ({"steps": [{"step": "notsch"}]}, "notsch"),
        ({"steps": [{"step": "standardise", "mean": [0, 0], "std": [1]}]}, "one a lead each"),
        ({"steps": [{"step": "clip", "low": 1, "high": 1}]}, "low must lie below"),
        ({"steps": [{"step": "butterworth", "order": 4}]}, "low_hz, high_hz"),
        ({"steps": [{"step": "butterworth", "order": 4, "low_hz": 9, "high_hz": 3}]}, "below"),
        ({"steps": [{"step": "fir", "low_hz": 9, "high_hz": 3}]}, "below"),
        ({"steps": [{"step": "minmax", "over": "lead", "low": 1, "high": 1}]}, "below"),
        ({"steps": [{"step": "decimate", "factor": 1}]}, "factor"),
        ({"steps": [{"step": "windows", "samples": 9}]}, "give starts, or every"),
        ({"steps": [{"step": "windows", "starts": [0]}]}, "give samples, or seconds"),
        ({"steps": [{"step": "windows", "samples": 9, "every": 1.5}]}, "whole number"),
        (
            {
                "whole": True,
                "steps": [{"step": "flatten_leads"}, {"step": "windows", "samples": 9, "every": 9}],
            },
            "before flatten_leads",
        ),
    ],
)
def test_settings_that_contradict_are_refused(settings, words):
    with pytest.raises(ValidationError, match=words):
        ECGSettings(**settings)


def test_settings_survive_being_written_and_read():
    given = ECGSettings(steps=[Z, {"step": "cut", "samples": 100}], seconds=7)
    assert ECGSettings(**given.model_dump(mode="json")) == given
    assert (given.crop_seconds, given.clip_sigma) == (7, None)
    assert given.baseline == given.normalise == "none"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": [{"step": "cut", "samples": 10, "start": 9000}]}, "leave nothing"),
        ({"steps": [{"step": "windows", "samples": 9, "starts": [4995]}]}, "leave nothing"),
        ({"steps": [{"step": "butterworth", "order": 2, "high_hz": 300}]}, "cannot be taken"),
        ({"steps": [{"step": "cut", "samples": 100}], "crop_seconds": 2}, "let a step cut"),
    ],
)
def test_steps_that_fit_no_record_are_refused_before_any_is_read(settings, words):
    with pytest.raises(ConfigError, match=words):
        _ = adapter(**settings).input_shape


def test_a_view_crops_and_disturbs_leads_and_samples_only():
    rows = torch.from_numpy(np.stack([prepared([Z])] * 2))
    noise, generator = ECGAugment(noise=0.1), row_generator()
    whole = adapter(steps=[Z])
    assert whole.input_shape.shape == (12, 5000)
    assert torch.equal(whole.plain(rows), rows)
    assert whole.augment(rows, noise, generator).shape == rows.shape
    with pytest.raises(ConfigError, match="nothing to crop"):
        whole.augment(rows, ECGAugment(crop=True), generator)
    cropped = adapter(steps=[Z], crop_seconds=2)
    assert cropped.input_shape.shape == (12, 1000)
    assert torch.equal(cropped.plain(rows), rows[..., :1000])
    assert cropped.augment(rows, ECGAugment(crop=True), generator).shape == (2, 12, 1000)
    windows = adapter(steps=[FILTERS["windows"][0]])
    assert windows.input_shape.names == ()
    cut = torch.zeros(2, *windows.prepared_shape)
    assert windows.augment(cut, ECGAugment(), generator).shape == (2, 2, 12, 2500)
    with pytest.raises(ConfigError, match="cannot be disturbed"):
        windows.augment(cut, noise, generator)


def test_other_steps_are_another_preparation():
    with pytest.raises(ArtefactError, match="another"):
        adapter(steps=[Z]).load_state(adapter().state())
    with pytest.raises(ArtefactError, match="'steps'"):
        adapter(steps=[Z]).load_state(adapter(steps=[]).state())
    adapter(steps=[Z]).load_state(adapter(steps=[Z]).state())
    cut = {"step": "windows", "samples": 2500, "starts": [0, 2500]}
    assert adapter(steps=[cut]).state()["steps"] == [cut]  # as runs before `every` have it


def test_formats_are_prepared_alike(tmp_path):
    """The same numbers as MUSE XML, DICOM and npy."""
    table = (SIGNAL * 200).astype(int)
    table[2] = table[1] - table[0]
    write_muse(tmp_path / "a.xml", muse_waveform("Rhythm", dict(zip(TWELVE, table, strict=True))))
    write_dicom(tmp_path / "a.dcm", table, TWELVE)
    np.save(tmp_path / "a.npy", table * 4.88)
    settings = ECGSettings(steps=[FILTERS["band"][0], Z])
    stated = {"npy": {"rate_hz": 500, "units": "uV"}}
    found = {}
    for reader, name in (("muse_xml", "a.xml"), ("dicom", "a.dcm"), ("npy", "a.npy")):
        one = ECG(ECGSource(reader=reader, **stated.get(reader, {})), settings)
        at = RecordRef(subject="1", record="1", paths={"path": tmp_path / name})
        found[reader] = one.prepare(one.read(at))
    whole = prepared([FILTERS["band"][0], Z], table * 4.88, units="uV")
    for reader, x in found.items():
        assert np.abs(x - whole).max() < 2e-6, reader


def test_the_page_of_published_models_has_every_step_and_setting():
    page = (Path(__file__).parents[3] / "docs/published_models.md").read_text(encoding="utf-8")
    kinds = [
        one
        for one in vars(steps).values()
        if isinstance(one, type) and "step" in getattr(one, "model_fields", ())
    ]
    named = {get_args(one.model_fields["step"].annotation): one for one in kinds}
    assert len(named) > 10
    for (name,), kind in ((key, one) for key, one in named.items() if key):
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert all(f"`{key}`" in row for key in kind.model_fields if key != "step"), name


def test_a_run_without_a_way_to_round_opens():
    said = adapter(steps=[{"step": "resample", "hz": 250}]).state()["steps"]
    assert said == [{"step": "resample", "hz": 250.0, "method": "polyphase"}]
    down = adapter(steps=[{"step": "resample", "hz": 250, "rounded": "down"}])
    assert down.state()["steps"][0]["rounded"] == "down"
