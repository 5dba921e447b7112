"""Cohorts whose cardiac MR is end-diastole and end-systole alone, on a recipe for three frames."""

import pytest
from short_runs import unreported

import medmcl
from medmcl.stages.recipe.inspect import check
from medmcl.stages.run import training
from tests.support.tiny_runs import tiny


def hearts(folder, frames, **more):
    settings = {"subjects": 30, "form": "shards", "cmr_size": 16, "cmr_frames": frames, **more}
    return medmcl.simulate("heart", folder, settings)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return hearts(tmp_path_factory.mktemp("pairs") / "hearts", 2)


def test_ecg_cmr_runs_on_ed_and_es_and_embeds_cines_by_the_same_two_frames(pairs, tmp_path):
    found = check(pairs, recipe="ecg_cmr_toy")
    assert [one for one in found if one.level == "error"] == []
    one = {"task": ["infarct"], "label_fraction": [1.0]}
    overrides = {
        **tiny("ecg_cmr_toy"),
        "stages.finetune.for_each": one,
        "stages.results.tasks": ["infarct"],
        "stages.results.baselines": ["majority"],
    }
    run = unreported(pairs, recipe="ecg_cmr_toy", out=tmp_path / "run", overrides=overrides)
    cines = hearts(tmp_path / "cines", 3)
    for cohort in (pairs, cines):
        prepared = run.prepare(medmcl.open_cohort(cohort), ("cmr",))
        assert prepared.adapters["cmr"].input_shape.names == ("es", "ed")
        assert prepared.inputs("cmr").shape[1:] == (2, 32, 32)
    table = run.embed(cines, modality="cmr", stage="mmcl")
    assert set(table["quality"]) == {"ok"}


def test_the_frame_between_can_still_be_asked_for_and_its_hint_is_what_to_type(pairs):
    found = check(pairs, recipe="ecg_cmr_toy", overrides={"inputs.cmr.frames": ["es", "mid", "ed"]})
    faults = [one for one in found if one.code == "cmr.frames"]
    assert len(faults) > 0
    assert all("--set 'inputs.cmr.frames=[es, ed]'" in one.fix for one in faults)


def test_the_full_recipe_is_rehearsed_on_ed_and_es(tmp_path, monkeypatch):
    """ResNet-50 on two channels, the ViT of 300 tokens, batches: built and tried, not trained."""
    cohort = hearts(tmp_path / "pairs", 2, ecg_seconds=10)
    real, tried = training.dry_run, {}

    def spy(stages, prepared, context):
        real(stages, prepared, context)
        tried.update({one.name: prepared.adapters["cmr"].input_shape.names for one in stages})

    monkeypatch.setattr(training, "dry_run", spy)
    found = check(cohort, recipe="ecg_cmr")
    assert [str(one) for one in found if one.level == "error"] == []
    assert {"mdm", "mmcl", "finetune-infarct-1.0", "results"} <= tried.keys()
    assert set(tried.values()) == {("es", "ed")}
