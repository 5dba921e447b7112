"""Dead leads: found, derived from others or masked; what stands in them changes nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from row_draws import row_generator

from medmcl.core.contracts import LacksLeads, RecordRef
from medmcl.core.errors import RecordError
from medmcl.modalities.ecg.adapter import ECG, ECGAugment, ECGSettings, ECGSource
from medmcl.modalities.ecg.augment import draw_kept_leads
from medmcl.modalities.ecg.dead_leads import why_dead, without_dead
from medmcl.modalities.ecg.files.readers import ECGRecord
from medmcl.modalities.ecg.leads import LIMB_ROWS, TWELVE

PLACE = RecordRef(subject="s1", record="r1", paths={"path": Path("r1.npy")})
RATE, SECONDS = 100, 4
V2, V5 = TWELVE.index("V2"), TWELVE.index("V5")


def heart(leads=TWELVE, seed=0) -> ECGRecord:
    """Beats that every lead sees at another size, limb leads that agree, noise in the chest."""
    rng = np.random.default_rng(seed)
    at = np.arange(SECONDS * RATE) / RATE % 0.8
    beat = np.exp(-(((at - 0.3) / 0.012) ** 2) / 2) + 0.25 * np.exp(-(((at - 0.5) / 0.05) ** 2) / 2)
    two = np.stack([0.6 * beat, 1.1 * beat]) + 0.01 * rng.normal(size=(2, len(at)))
    chest = np.array([-0.3, 0.4, 0.9, 1.2, 1.0, 0.7])[:, None] * beat
    signal = np.concatenate(
        [np.array(LIMB_ROWS) @ two, chest + 0.01 * rng.normal(size=chest.shape)]
    )
    rows = [TWELVE.index(lead) for lead in leads]
    return ECGRecord(signal_mv=signal[rows].astype(np.float32), leads=tuple(leads), rate_hz=RATE)


def adapter(**settings) -> ECG:
    own = {"rate_hz": RATE, "seconds": SECONDS, "crop_seconds": 2, "dead_leads": "mask"}
    return ECG(ECGSource(reader="npy", rate_hz=RATE, units="mV"), ECGSettings(**own | settings))


def railed(row):
    """At a rail for three quarters of the time, and noise in the rest."""
    noise = np.random.default_rng(3).normal(size=len(row))
    return np.where(np.arange(len(row)) % 100 < 75, 5.0, noise)


def half(row):
    """Half of it stays where it was."""
    return np.where(np.arange(len(row)) < len(row) // 2, row, row[len(row) // 2])


DEAD = {
    "zero": np.zeros_like,
    "constant": lambda row: np.full_like(row, -3.2768),
    "NaN": lambda row: np.full_like(row, np.nan),
    "constant, NaN": lambda row: np.where(np.arange(len(row)) < 9, np.nan, 1.0),
    "mostly NaN": lambda row: np.where(np.arange(len(row)) % 2, row, np.nan),
    "infinite": lambda row: np.full_like(row, np.inf),
    "railed": railed,
    "half": half,
}


def with_dead(record, content, *leads) -> ECGRecord:
    signal = record.signal_mv.copy()
    for lead in leads:
        row = record.leads.index(lead)
        signal[row] = content(signal[row])
    return replace(record, signal_mv=signal)


def levels(ecg, record):
    return {(one.code.removeprefix("ecg."), one.level) for one in ecg.inspect(record, PLACE)}


@pytest.mark.parametrize("content", DEAD)
def test_whatever_a_dead_lead_holds_it_is_as_if_it_had_never_been_recorded(content):
    record = heart()
    dead = with_dead(record, DEAD[content], "V2")
    never = replace(
        record, signal_mv=np.delete(record.signal_mv, V2, 0), leads=TWELVE[:V2] + TWELVE[V2 + 1 :]
    )
    expected = adapter(missing_leads="zero").prepare(never)
    np.testing.assert_array_equal(adapter().prepare(dead), expected)
    assert not expected[V2].any()
    assert adapter().simple_features(dead)["V2_r_mv"] != adapter().simple_features(dead)["V2_r_mv"]
    found = [one for one in adapter().inspect(dead, PLACE) if one.code == "ecg.masked_lead"]
    assert [one.level for one in found] == ["warning"]
    assert found[0].what.startswith("lead V2 masked (")
    assert not any(one.level == "error" for one in adapter().inspect(dead, PLACE))


def test_sound_leads_live_and_nothing_changes_for_them():
    """Records with flat stretches between beats, coarse steps, cut peaks or a few NaN live."""
    record = heart()
    row = record.signal_mv[3].astype(np.float64)
    for one in (
        row, row.round(1), row.clip(None, 0.4), np.where(np.arange(len(row)) < 90, np.nan, row),
        np.where(np.arange(len(row)) < 150, 0.0, row), 1e-3 * row,
    ):  # fmt: skip
        assert why_dead(one, RATE) == ""
    masking, refusing = adapter(), adapter(dead_leads="refuse")
    x = masking.prepare(record)
    np.testing.assert_array_equal(x[:, :-1], refusing.prepare(record))
    np.testing.assert_array_equal(x[:, -1], 1)
    assert masking.inspect(record, PLACE) == refusing.inspect(record, PLACE)
    assert refusing.prepared_shape == (12, 400)
    assert refusing.present_leads(torch.from_numpy(refusing.prepare(record))[None]) is None
    assert isinstance(masking, LacksLeads)


def test_a_dead_limb_lead_is_derived_from_the_others():
    plain = {"baseline": "none", "normalise": "none", "clip_sigma": None}
    record = heart()
    dead = with_dead(record, DEAD["NaN"], "I", "aVF")
    x = adapter(**plain).prepare(dead)[:, :-1]
    one, two, three, _, _, foot = record.signal_mv[:6].astype(np.float64)
    np.testing.assert_allclose(x[0], two - three, atol=1e-6)
    np.testing.assert_allclose(x[0], one, atol=1e-6)
    np.testing.assert_allclose(x[5], foot, atol=1e-6)
    rest = [1, 2, 3, 4, *range(6, 12)]
    np.testing.assert_array_equal(x[rest], record.signal_mv[rest])
    said = [one.what for one in adapter().inspect(dead, PLACE)]
    assert "lead I derived from II and III (NaN)" in said
    assert "lead aVF derived from II and III (NaN)" in said
    assert not any("masked" in one for one in said)


def test_a_lead_that_follows_from_dead_ones_is_masked_too_and_counts():
    stored = heart(leads=("I", "II", *TWELVE[6:]))
    dead = with_dead(stored, DEAD["zero"], "I")
    refused = levels(adapter(), dead)
    assert ("flat", "error") in refused  # five leads would go, three may
    assert ("masked_lead", "warning") not in refused
    ecg = adapter(most_masked_leads=5)
    x = torch.from_numpy(ecg.prepare(dead))[None]
    there = [name in ("II", *TWELVE[6:]) for name in TWELVE]
    assert ecg.present_leads(x).tolist() == [there]
    masked = [one.what for one in ecg.inspect(dead, PLACE) if one.code == "ecg.masked_lead"]
    assert masked == [
        "lead I masked (constant)",
        *(f"lead {name} masked (not derivable)" for name in ("III", "aVR", "aVL", "aVF")),
    ]


@pytest.mark.parametrize("content", ["zero", "NaN", "railed"])
def test_beyond_the_limit_a_record_is_judged_as_if_nothing_could_be_masked(content):
    record = with_dead(heart(), DEAD[content], "V1", "V2", "V5")
    refusing = adapter(dead_leads="refuse")
    assert ("masked_lead", "warning") in levels(adapter(), record)
    one_more = with_dead(record, DEAD[content], "V6")
    assert levels(adapter(), one_more) == levels(refusing, one_more)
    if content == "NaN":
        with pytest.raises(RecordError, match="NaN or infinite"):
            adapter().prepare(one_more)
    elif content == "zero":
        flat = [one for one in adapter().inspect(one_more, PLACE) if one.code == "ecg.flat"]
        assert "most_masked_leads says (3)" in flat[0].fix
        flat = [one for one in refusing.inspect(one_more, PLACE) if one.code == "ecg.flat"]
        assert "dead_leads: mask" in flat[0].fix
    every = with_dead(heart(), DEAD[content], *TWELVE)
    assert levels(adapter(most_masked_leads=12), every) == levels(refusing, every)


def test_only_what_is_used_is_judged():
    long = replace(heart(), signal_mv=np.tile(heart().signal_mv, 3))
    late = long.signal_mv.copy()
    late[V2, SECONDS * RATE :] = 0.0
    assert not without_dead(replace(long, signal_mv=late), TWELVE, SECONDS, 3).dead
    late[V2, : SECONDS * RATE] = 0.0
    late[V2, SECONDS * RATE :] = long.signal_mv[V2, SECONDS * RATE :]
    assert set(without_dead(replace(long, signal_mv=late), TWELVE, SECONDS, 3).dead) == {"V2"}
    dead = with_dead(heart(), DEAD["zero"], "I", "V2")
    some = adapter(leads=["V1", "V5"])
    assert not any("masked" in one or "derived" in one for one in
                   (f.what for f in some.inspect(dead, PLACE)))  # fmt: skip


EVERYTHING = ECGAugment(
    crop=True, ft_surrogate=0.1, jitter=0.25, noise=0.1, rescale=0.5, time_flip=0.5,
    sign_flip=0.5, spec_augment=0.25, lead_dropout=0.3, time_mask=0.2, probability=0.8,
)  # fmt: skip


@pytest.mark.parametrize("options", [ECGAugment(noise=1.0), EVERYTHING])
def test_views_hold_zeros_in_absent_leads_whatever_was_stored_there(options):
    ecg = adapter(missing_leads="zero")
    rows = [ecg.prepare(with_dead(heart(seed=n), DEAD["zero"], "V2", "V5")) for n in range(6)]
    x = torch.from_numpy(np.stack(rows))
    present = ecg.present_leads(x)
    assert present[:, [V2, V5]].logical_not().all()
    assert present.sum() == 6 * 10
    seen = []
    for fill in (0.0, 7.0, torch.nan, 1e30, torch.inf):
        spoilt = x.clone()
        spoilt[:, [V2, V5], :-1] = fill
        shown = ecg.augment(spoilt, options, row_generator(5))
        seen.append((ecg.plain(spoilt), shown))
        for one in seen[-1]:
            assert one.shape == (6, 12, 200)
            assert not one[:, [V2, V5]].any()
            assert all(torch.equal(a, b) for a, b in zip(seen[0], seen[-1], strict=True))
    assert seen[0][1][:, [V2 - 1]].any()


def test_a_crop_may_begin_at_the_last_sample_it_fits_and_never_reaches_the_flag():
    ecg = adapter(crop_seconds=SECONDS - 0.01, baseline="none", normalise="none")
    x = torch.full((64, *ecg.prepared_shape), 1.0, device="cpu")
    x[..., :-1] = 0.25
    x[..., 0], x[..., -2] = 2.0, 3.0
    shown = ecg.augment(x, ECGAugment(crop=True), row_generator())
    assert set(shown.unique().tolist()) == {0.25, 2.0, 3.0}
    assert set(shown[:, 0, -1].tolist()) == {0.25, 3.0}


def test_lead_dropout_leaves_a_lead_that_is_there():
    x = torch.ones(200, 12, 4, device="cpu")
    present = torch.zeros(200, 12, dtype=torch.bool, device="cpu")
    present[:, [1, 7]] = True
    kept = draw_kept_leads(x, 0.95, row_generator(), present)[..., 0]
    assert (kept * present).sum(1).min() == 1
