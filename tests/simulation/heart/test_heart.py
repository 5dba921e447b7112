""""""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import wfdb

from medmcl.data.check.check import check_cohort
from medmcl.data.cohort.cohort import load_cohort
from medmcl.data.loading import worker_pool as processes
from medmcl.simulation.heart import simulate as heart
from medmcl.simulation.heart.simulate import HeartSettings, simulate_heart
from medmcl.simulation.heart.state import (
    CONDUCTIONS,
    LATENTS,
    MYOCARDIUM_G_PER_ML,
    couple,
    heart_failure,
    heart_state,
    log_hazard,
    phenotypes,
    profile,
)
from medmcl.simulation.kinds import simulate

SETTINGS = {
    "subjects": 12,
    "form": "shards",
    "files_subset": 6,
    "missing_ecg": 0.2,
    "missing_cmr": 0.3,
    "seed": 4,
    "cmr_file_size": 32,
    "cmr_noise": 0.0,
}


def participants(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "participants.tsv", sep="\t")


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> Path:
    """Twelve subjects as shards, six of them as files; some without ECG or CMR."""
    out = tmp_path_factory.mktemp("heart") / "both"
    return simulate("heart", out, SETTINGS)


@pytest.mark.skipif(sys.platform != "linux", reason="copies are made on Linux")
def test_several_processes_write_the_same_files(both, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_WORTH_COPIES", 0.0)
    settings = HeartSettings(**SETTINGS)
    with processes.worker_pool(3):
        made = simulate_heart(tmp_path / "made", settings)
    files = sorted(one.relative_to(both) for one in both.rglob("*") if one.is_file())
    assert files == sorted(one.relative_to(made) for one in made.rglob("*") if one.is_file())
    assert all((both / one).read_bytes() == (made / one).read_bytes() for one in files)


def test_a_modality_that_nobody_has_is_an_array_without_rows(tmp_path):
    settings = HeartSettings(subjects=3, form="shards", missing_ecg=1.0)
    folder = simulate_heart(tmp_path / "none", settings)
    assert len(np.load(folder / "shards" / "ecg.npy")) == 0
    assert len(np.load(folder / "shards" / "cmr.npy")) == 3


def test_a_subject_does_not_depend_on_how_many_are_simulated(tmp_path):
    few = simulate_heart(tmp_path / "few", HeartSettings(subjects=5, form="shards"))
    many = simulate_heart(tmp_path / "many", HeartSettings(subjects=140, form="shards"))
    for name in ("ecg", "cmr", "heart_mask"):
        small, large = (np.load(folder / f"shards/{name}.npy") for folder in (few, many))
        assert len(large) == 140
        assert np.array_equal(small, large[:5])
    assert participants(few).equals(participants(many)[:5])
    assert not np.array_equal(large[0], large[128])


def test_the_ecg_of_a_shard_is_the_beginning_of_the_file(both):
    table = participants(both)
    shard = np.load(both / "shards/ecg.npy").astype(np.float64)
    rows = table[(table.has_files == 1) & (table.has_ecg == 1)]
    assert len(rows) > 2
    for _, row in rows.iterrows():
        signal, header = wfdb.rdsamp(str(both / "ecg" / row.subject_id))
        assert header["fs"] == 500
        assert signal.shape == (5000, 12)
        assert header["units"] == ["mV"] * 12
        assert tuple(header["sig_name"]) == heart.heart_ecg.LEADS
        assert np.allclose(signal.T[:, ::5][:, :500], shard[int(row.ecg_row)], atol=0.003)


def test_the_cmr_of_a_shard_is_the_middle_slice_of_the_file(both):
    table = participants(both)
    images, masks = np.load(both / "shards/cmr.npy"), np.load(both / "shards/heart_mask.npy")
    rows = table[(table.has_files == 1) & (table.has_cmr == 1)]
    assert len(rows) > 2
    for _, row in rows.iterrows():
        image = nibabel.load(both / "cmr" / f"{row.subject_id}.nii.gz")
        assert image.shape == (32, 32, 13, 16)
        assert np.allclose(image.header.get_zooms()[:3], (4.8, 4.8, 10.0))
        frames = [row.cine_es, row.cine_mid, row.cine_ed]
        middle = image.get_fdata()[:, :, 6].transpose(2, 1, 0)[frames] / 1000
        assert np.allclose(middle, images[int(row.cmr_row)], atol=0.002)
        labels = nibabel.load(both / "cmr" / f"{row.subject_id}_mask.nii.gz").get_fdata()
        assert np.array_equal(labels[:, :, 6, row.cine_ed].T > 0, masks[int(row.cmr_row)])


def test_absence_is_an_empty_row_number_and_no_row(both):
    table = participants(both)
    for kind in ("ecg", "cmr"):
        present = table[f"has_{kind}"] == 1
        assert 0 < present.sum() < len(table)
        assert list(table.loc[present, f"{kind}_row"]) == list(range(present.sum()))
        assert table.loc[~present, f"{kind}_row"].isna().all()
        assert len(np.load(both / f"shards/{kind}.npy")) == present.sum()
    assert ((table.has_ecg == 1) | (table.has_cmr == 1)).all()
    assert table.loc[table.has_cmr == 0, "lv_ef"].isna().all()


@pytest.mark.parametrize("name", ["cohort.yaml", "cohort_files.yaml"])
def test_the_cohort_opens_and_checks_clean(both, name):
    cohort, findings = load_cohort(both / name)
    assert cohort is not None
    assert len(cohort.samples) == (12 if name == "cohort.yaml" else 6)
    assert list(cohort.spec.tasks) == [
        *("heart_failure", "lvef", "lv_mass", "phenotypes", "infarct", "conduction")
    ]
    findings = check_cohort(both / name)
    assert [str(f) for f in findings if f.level == "error" and f.scope != "task"] == []


def test_the_truth_holds_both_states(both):
    truth, table = pd.read_parquet(both / "truth.parquet"), participants(both)
    assert list(truth.subject_id) == list(table.subject_id)
    assert np.allclose(truth.ef, truth.ecg_ef)
    assert (truth.territory.ne("none") == table.infarct.eq(1)).all()
    assert truth.conduction.equals(table.conduction)


@pytest.mark.parametrize("frames", [1, 2, 4, 8])
def test_shards_take_other_frames_and_slices(tmp_path, frames):
    settings = HeartSettings(
        subjects=3, form="shards", cmr_frames=frames, cmr_slices=2, cmr_size=16, dtype="float32"
    )
    out = simulate_heart(tmp_path / "out", settings)
    images = np.load(out / "shards/cmr.npy")
    assert images.shape == (3, frames, 2, 16, 16)
    assert images.dtype == np.float32
    table = participants(out)
    bright = (images > 0.6).sum(axis=(2, 3, 4))
    if frames > 1:
        rows = np.arange(3)
        assert (bright[rows, table.shard_ed] > bright[rows, table.shard_es]).all()
    assert [f for f in load_cohort(out / "cohort.yaml")[1] if f.scope == "cohort"] == []


def test_files_alone_need_no_shards(tmp_path):
    out = simulate("heart", tmp_path / "out", {"subjects": 2, "cmr_file_size": 16})
    assert {path.name for path in out.iterdir()} == {
        *("participants.tsv", "cohort.yaml", "README.md", "truth.parquet", "ecg", "cmr")
    }
    assert "ecg_row" not in participants(out)


def test_what_breaks_half_way_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(heart, "write_about", fail)
    with pytest.raises(OSError, match="disk full"):
        simulate_heart(tmp_path / "out", HeartSettings(subjects=2, form="shards"))
    assert list(tmp_path.iterdir()) == []


def explained(features: np.ndarray, target: np.ndarray, penalty: float) -> float:
    """R2 of ridge regression on standardised features, by five-fold cross-validation."""
    predicted = np.zeros(len(target))
    for fold in range(5):
        test = np.arange(len(target)) % 5 == fold
        mean, spread = features[~test].mean(axis=0), features[~test].std(axis=0) + 1e-6
        x = (features - mean) / spread
        centre = target[~test].mean()
        gram = x[~test] @ x[~test].T + penalty * np.eye((~test).sum())
        predicted[test] = (
            x[test] @ x[~test].T @ np.linalg.solve(gram, target[~test] - centre) + centre
        )
    return 1 - ((target - predicted) ** 2).sum() / ((target - target.mean()) ** 2).sum()


def shallow(signal: np.ndarray) -> np.ndarray:
    """Per lead: extremes, spread, mean slope."""
    slope = np.abs(np.diff(signal, axis=2)).mean(axis=2)
    return np.concatenate([signal.max(2), signal.min(2), signal.std(2), slope], axis=1)


@pytest.mark.parametrize("coupling", [1.0, 0.0])
def test_cmr_shows_ef_and_the_ecg_only_a_little_and_only_if_coupled(tmp_path, coupling):
    settings = HeartSettings(subjects=600, form="shards", coupling=coupling)
    out = simulate_heart(tmp_path / "out", settings)
    table = participants(out)
    signal = np.load(out / "shards/ecg.npy").astype(np.float64)
    images = np.load(out / "shards/cmr.npy").astype(np.float64)
    blocks = images.reshape(600, 3 * 8, 4, 8, 4).mean(axis=(2, 4)).reshape(600, -1)
    ef, mass = table.lv_ef.to_numpy(), table.lv_mass.to_numpy()
    assert explained(blocks, ef, 30.0) > 0.7
    weak, moderate = (explained(shallow(signal), y, 100.0) for y in (ef, mass))
    if coupling == 1:
        assert 0.05 < weak < 0.5
        assert 0.15 < moderate < 0.6
    else:
        assert abs(weak) < 0.05
        assert abs(moderate) < 0.05
        assert abs(explained(shallow(signal), table.hf_event.to_numpy(float), 100.0)) < 0.05
        assert abs(explained(shallow(signal), (table.sex == "M").to_numpy(float), 100.0)) < 0.05


def latents(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, len(LATENTS)))


@pytest.mark.parametrize("coupling", [0.0, 0.3, 1.0])
def test_coupling_is_the_correlation_and_keeps_the_distribution(coupling):
    one, other = latents(20_000, 1), latents(20_000, 2)
    mixed = couple(one, other, coupling)
    cross = [np.corrcoef(a, b)[0, 1] for a, b in zip(one.T, mixed.T, strict=True)]
    assert np.allclose(cross, coupling, atol=0.03)
    assert np.allclose(mixed.std(axis=0), 1, atol=0.03)
    first, second = heart_state(one), heart_state(mixed)
    assert np.allclose(
        np.quantile(first.ef, [0.1, 0.5, 0.9]), np.quantile(second.ef, [0.1, 0.5, 0.9]), atol=0.01
    )
    assert abs((first.territory > 0).mean() - (second.territory > 0).mean()) < 0.02


def test_at_full_coupling_the_states_are_the_same():
    one = latents(50)
    assert np.array_equal(couple(one, latents(50, 9), 1.0), one)


def test_mass_and_volume_are_those_of_slices_added_up():
    state = heart_state(latents(40))
    height = (np.arange(4000) + 0.5) / 4000
    for row in range(40):
        radius, wall, length = state.radius[row], state.wall[row], state.length[row]
        cavity = np.pi * radius**2 * length * profile(height).mean() / 1000
        whole = np.pi * (radius + wall) ** 2 * (length + wall) * profile(height).mean() / 1000
        assert cavity == pytest.approx(state.lv_edv[row], rel=1e-4)
        mass = MYOCARDIUM_G_PER_ML * (whole - cavity)
        assert mass == pytest.approx(state.lv_mass[row], rel=1e-3)


def test_values_are_those_of_people():
    state = heart_state(latents(20_000))
    assert 60 < state.age.mean() < 66
    assert 140 < state.lv_edv.mean() < 165
    assert 85 < state.lv_mass.mean() < 110
    assert 0.55 < state.ef.mean() < 0.62
    assert state.ef.min() > 0.08
    assert state.ef.max() < 0.8
    assert state.lv_mass[state.is_male].mean() > 1.2 * state.lv_mass[~state.is_male].mean()
    assert 0.12 < (state.territory > 0).mean() < 0.22
    shares = np.bincount(state.conduction, minlength=len(CONDUCTIONS)) / len(state.ef)
    assert shares.min() > 0.03
    assert np.array_equal(state.infarct_size > 0, state.territory > 0)
    assert state.ef[state.territory > 0].mean() < state.ef[state.territory == 0].mean() - 0.05


def test_phenotypes_agree_with_each_other_and_with_the_state():
    state = heart_state(latents(3000))
    measured = phenotypes(state, np.random.default_rng(0))
    assert np.allclose(measured["lv_sv"], measured["lv_edv"] - measured["lv_esv"])
    assert np.allclose(measured["lv_ef"], 100 * measured["lv_sv"] / measured["lv_edv"])
    assert np.corrcoef(measured["lv_ef"], state.ef)[0, 1] > 0.95
    assert np.corrcoef(measured["lv_mass"], state.lv_mass)[0, 1] > 0.98
    assert all(np.isfinite(values).all() for values in measured.values())
    assert (measured["ecc"] < 0).mean() > 0.99


def test_heart_failure_follows_the_hazard_and_is_censored_independently():
    state = heart_state(latents(20_000))
    outcome = heart_failure(state, np.random.default_rng(0))
    assert 0.24 < outcome["hf_event"].mean() < 0.32
    assert outcome["hf_days"].min() >= 1
    high = log_hazard(state) > np.quantile(log_hazard(state), 0.8)
    assert outcome["hf_event"][high].mean() > 2 * outcome["hf_event"][~high].mean()
    ended = (outcome["hf_event"] == 0) & (outcome["hf_days"] < 9 * 365)  # lost to follow-up
    assert 0.05 < ended.mean() < 0.2
