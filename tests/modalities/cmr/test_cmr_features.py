"""CMR features: against simulated hearts, real ones, and images that are none."""

import os
from pathlib import Path

import numpy as np
import pytest

from medmcl.modalities.cmr.features import cmr_features, feature_names, otsu
from medmcl.modalities.cmr.readers import CMRVolume
from medmcl.simulation.heart.cmr import FIELD_MM, add_noise, end_systole, render_cmr, slice_depth
from medmcl.simulation.heart.settings import HeartSettings
from medmcl.simulation.heart.subjects import draw_block

ROOT = os.environ.get("MEDMCL_DATA")
SIZE = 48


def volume(voxels, spacing=(10.0, 1.5, 1.5), frames=()):
    return CMRVolume(
        voxels=np.asarray(voxels, np.float32), spacing_mm=spacing, frames=dict(frames), where="x"
    )


@pytest.fixture(scope="module")
def hearts():
    block = draw_block(HeartSettings(), 0)
    rows = np.arange(60)
    state, nuisance = block.state.take(rows), block.cmr.take(rows)
    systole = end_systole(state)
    frames = np.stack([np.zeros_like(systole), systole], axis=1)
    depths = slice_depth(np.array([3, 5, 7, 9]))
    stack = [render_cmr(state, nuisance, frames, float(depth), SIZE)[0] for depth in depths]
    voxels = add_noise(np.stack(stack, axis=2), 0.04, np.random.default_rng(0))
    spacing = (20.0, FIELD_MM / SIZE, FIELD_MM / SIZE)
    volumes = [volume(one, spacing, {"ed": 0, "es": 1}) for one in voxels]
    found = [cmr_features(one) for one in volumes]
    return {n: np.array([row[n] for row in found]) for n in feature_names()}, state, volumes


def correlation(one, other):
    both = np.isfinite(one)
    assert both.mean() > 0.95
    return np.corrcoef(one[both], other[both])[0, 1]


def test_ejection_of_simulated_hearts_goes_with_the_true_fraction(hearts):
    found, state, _ = hearts
    assert correlation(found["lv_ejected"], state.ef) > 0.9
    assert np.median(np.abs(found["lv_ejected"] - state.ef)) < 0.06
    assert correlation(found["bright_ratio"], state.ef) > 0.2  # the other ventricle is in it


def test_volumes_and_walls_go_with_the_true_ones(hearts):
    found, state, _ = hearts
    assert correlation(found["lv_ed_ml"], state.lv_edv) > 0.85
    assert correlation(found["lv_es_ml"], state.lv_esv) > 0.85
    assert correlation(found["lv_radius_mm"], state.radius) > 0.9
    assert correlation(found["wall_ed_mm"], state.wall) > 0.7


def test_intensity_scale_does_not_matter_and_spacing_does(hearts):
    _, _, volumes = hearts
    one = volumes[0]
    plain = cmr_features(one)
    brighter = cmr_features(volume(7 * one.voxels, one.spacing_mm, one.frames))
    assert brighter == pytest.approx(plain, rel=1e-3, abs=1e-6)
    deep = (2 * one.spacing_mm[0], *one.spacing_mm[1:])
    deeper = cmr_features(volume(one.voxels, deep, one.frames))
    assert deeper["lv_ed_ml"] == pytest.approx(2 * plain["lv_ed_ml"])
    assert deeper["lv_ejected"] == pytest.approx(plain["lv_ejected"])


def test_what_spacing_and_frames_do_not_say_is_untold(hearts):
    _, _, volumes = hearts
    unknown = cmr_features(volume(volumes[0].voxels, (np.nan,) * 3, volumes[0].frames))
    assert np.isnan(unknown["lv_ed_ml"])
    assert np.isnan(unknown["voxel_ml"])
    assert np.isfinite(unknown["bright_ratio"])
    single = cmr_features(volume(volumes[0].voxels[:1], volumes[0].spacing_mm))
    assert np.isnan(single["lv_ejected"])
    assert np.isfinite(single["bright_ed"])


def test_the_frame_with_the_least_blood_stands_in_for_end_systole(hearts):
    _, _, volumes = hearts
    one = volumes[0]
    unnamed = cmr_features(volume(one.voxels, one.spacing_mm))
    assert unnamed == pytest.approx(cmr_features(one))


def test_otsu_parts_two_classes_as_a_slow_search_does():
    generator = np.random.default_rng(1)
    values = np.concatenate([generator.normal(1, 0.3, 400), generator.normal(4, 0.5, 200)])
    dark, bright = otsu(values, bins=50)
    edges = np.histogram_bin_edges(values, 50)[1:-1]
    best = min(
        edges,
        key=lambda e: (
            (values <= e).sum() * values[values <= e].var()
            + (values > e).sum() * values[values > e].var()
        ),
    )
    assert dark == pytest.approx(values[values <= best].mean(), abs=0.1)
    assert bright == pytest.approx(values[values > best].mean(), abs=0.1)


HOSTILE = {
    "zeros": np.zeros((2, 3, 20, 20)),
    "nan": np.full((2, 3, 20, 20), np.nan),
    "one pixel": np.ones((1, 1, 1, 1)),
    "two pixels": np.arange(4.0).reshape(1, 1, 2, 2),
    "a line": np.random.default_rng(0).random((3, 1, 1, 30)),
    "noise": np.random.default_rng(0).random((3, 2, 40, 30)),
    "negative": -np.random.default_rng(0).random((2, 2, 30, 30)),
    "still": np.tile(np.random.default_rng(0).random((1, 2, 30, 30)), (3, 1, 1, 1)),
    "huge": np.random.default_rng(0).random((2, 2, 30, 30)) * 1e15,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("spacing", [(10.0, 1.5, 1.5), (np.nan,) * 3, (10.0, 80.0, 80.0)])
def test_images_of_no_heart_give_numbers_or_nothing(name, spacing):
    values = cmr_features(volume(HOSTILE[name], spacing))
    assert tuple(values) == feature_names()
    assert not np.isinf(list(values.values())).any()


@pytest.mark.skipif(ROOT is None, reason="MEDMCL_DATA is not set")
def test_real_hearts_of_acdc_give_ejection_and_diagnosis_better_than_chance():
    import pandas as pd
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from medmcl.data.cohort.cohort import open_cohort
    from medmcl.modalities import ADAPTERS

    root = Path(ROOT or "") / "acdc"
    if not root.is_dir():
        pytest.skip("no ACDC")
    cohort = open_cohort("acdc", {"data_root": str(root)})
    adapter = ADAPTERS["cmr"](cohort.spec.modalities["cmr"].source, ADAPTERS["cmr"].Settings())
    records = cohort.records["cmr"]
    found = pd.DataFrame(
        [adapter.simple_features(adapter.read(place)) for place in records["place"]],
        index=records.index,
    )
    truth = pd.read_csv(root / "parameters.csv").set_index("patient").loc[found.index]
    assert found["lv_ejected"].corr(truth["EF(LV)"], method="spearman") > 0.7
    assert found["lv_ed_ml"].corr(truth["ED[vol(LV)]"], method="spearman") > 0.5
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    accuracy = cross_val_score(model, found.fillna(found.mean()), truth["group"], cv=8).mean()
    assert accuracy > 0.45  # chance is .2
