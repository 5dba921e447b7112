"""A record is embedded alike from any file: what the network sees of it is the same."""

import numpy as np
import pytest
import wfdb
from ecg_files import (
    EIGHT,
    STEP_UV,
    aecg_set,
    muse_waveform,
    write_aecg,
    write_dicom,
    write_edf,
    write_muse,
)

from medmcl import models
from medmcl.core.contracts import RecordRef
from medmcl.modalities.ecg.adapter import ECG, ECGSource
from medmcl.modalities.ecg.leads import LIMB_ROWS, TWELVE

CARDS = [name for name in models.names() if models.card(name).input.modality == "ecg"]

ROUNDING = {"ecgfounder": 2e-5}
"""Its filter in one quotient blows up the last bit of a double to some 6e-6."""


@pytest.fixture(scope="module")
def counts():
    """10 s of twelve leads at 500 Hz in steps, limb leads as they owe one another: (12, 5000)."""
    walk = np.random.default_rng(3).standard_normal((8, 5000)).cumsum(1) * 4
    steps = 2 * np.round(walk).astype(int)
    return np.concatenate([(np.array(LIMB_ROWS) @ steps[:2]).astype(int), steps[2:]])


@pytest.fixture(scope="module")
def files(counts, tmp_path_factory):
    """The record as each format holds it: how it is read, and where it is."""
    folder, table = tmp_path_factory.mktemp("files"), dict(zip(TWELVE, counts, strict=True))
    mv = counts * STEP_UV / 1000
    gains = [1000 / STEP_UV] * 12
    names = [name.upper() for name in TWELVE]  # as PTB-XL has them
    wfdb.wrsamp("a", 500, ["mV"] * 12, names, d_signal=counts.T, fmt=["16"] * 12, adc_gain=gains,
                baseline=[0] * 12, write_dir=str(folder))  # fmt: skip
    np.save(folder / "a.npy", mv)
    np.save(folder / "uv.npy", 1000 * mv.T.astype(np.float64))
    npy = {"reader": "npy", "rate_hz": 500}
    eight = muse_waveform("Rhythm", {name: table[name] for name in EIGHT})
    return {
        "wfdb": ({"reader": "wfdb"}, folder / "a"),
        "npy": ({**npy, "units": "mV"}, folder / "a.npy"),
        "npy in uV, time first": ({**npy, "units": "uV", "axes": "SL"}, folder / "uv.npy"),
        "muse_xml, eight leads": ({"reader": "muse_xml"}, write_muse(folder / "m.xml", eight)),
        "aecg": (
            {"reader": "ecg"}, write_aecg(folder / "h.xml", aecg_set(table, scale=STEP_UV))
        ),
        "dicom": ({"reader": "dicom"}, write_dicom(folder / "a.dcm", counts, TWELVE)),
        "edf": ({"reader": "ecg"}, write_edf(folder / "a.edf", table, rate=500)),
    }  # fmt: skip


@pytest.mark.parametrize("name", CARDS)
def test_what_the_network_sees_does_not_hang_on_the_file(name, counts, files):
    card = models.card(name)
    settings = card.checked(card.settings(card.default))
    for kind, (source, path) in files.items():
        step_uv = 5 if kind == "edf" else STEP_UV  # its header has no room for others
        mv = counts * step_uv / 1000
        memory = ECG.prepare_array(mv, settings, leads=TWELVE, rate_hz=500.0)
        adapter = ECG(ECGSource(**source), settings)
        at = RecordRef(subject="a", record="a", paths={"path": path})
        found = adapter.prepare(adapter.read(at))
        assert found.shape == memory.shape, kind
        assert np.abs(found - memory).max() <= ROUNDING.get(name, 2e-6), kind


@pytest.mark.parametrize("name", CARDS)
def test_a_slow_record_of_eight_leads_is_prepared_as_that_of_twelve(name, counts):
    """At 250 Hz, leads shuffled and spelt otherwise, in another unit."""
    card = models.card(name)
    settings = card.checked(card.settings(card.default))
    slow = counts[:, ::2] * STEP_UV
    twelve = ECG.prepare_array(slow / 1000, settings, leads=TWELVE, rate_hz=250.0)
    order = np.random.default_rng(0).permutation([TWELVE.index(lead) for lead in EIGHT])
    leads = [TWELVE[row].lower() for row in order]
    eight = ECG.prepare_array(slow[order], settings, leads=leads, rate_hz=250.0, units="uV")
    shape = (*twelve.shape[: twelve.ndim - len(card.input.shape)], *card.input.shape)
    assert eight.shape == twelve.shape == shape
    assert np.isfinite(eight).all()
    assert np.abs(eight - twelve).max() <= 5e-5
