"""What an evaluate stage draws, whom zero-shot scores, and what a fine-tuned encoder saw."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from changed_files import changed_copy
from made_targets import targets_of
from read_pages import both_pages

import medmcl
from medmcl.core.errors import CohortError, ConfigError
from medmcl.evaluation.aspects.zero_shot.aspect import refuse_nobody
from medmcl.stages.evaluate.scene import RunScene
from medmcl.stages.evaluate.spec import EvaluateSpec


def test_sites_are_drawn_from_the_command_on_and_files_and_page_say_so(trained, hearts, tmp_path):
    out = tmp_path / "b"
    settings = {"tasks": ["infarct"], "device": "cpu", "out": out}
    done = medmcl.evaluate(trained.path, hearts, resample="site", **settings)
    assert {r.resampling for r in done.results} == {"site"}  # retrieval, too
    assert any(r.kind == "retrieval" for r in done.results)
    plain = pd.read_csv(trained.path / "results.csv")
    assert set(plain["resampling"]) == {"subject"}
    key = ["task", "target", "metric", "method", "label_fraction"]
    one = plain[plain["versus"].isna()].set_index(key)["value"]
    for row in done.results:
        if not row.versus and row.metric != "ici" and row.value is not None:
            about = tuple(getattr(row, name) for name in key)
            assert row.value == pytest.approx(one[about]), about
    told = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert told["resampling"] == "site"
    assert {row["resampling"] for row in told["results"]} == {"site"}
    table = pd.read_csv(out / "results.csv")
    assert set(table["resampling"]) == {"site"}
    assert set(pd.read_csv(out / "subgroups.csv")["resampling"]) == {"site"}
    assert set(pd.read_csv(out / "calibration.csv")["resampling"]) == {"site"}
    page = both_pages(out)
    assert "95 % intervals over sites" in page
    assert "intervals over subjects" not in page
    before = both_pages(trained.path)
    assert "95 % intervals over subjects" in before
    assert "intervals draw whole sites" in page


def test_sites_that_a_cohort_does_not_name_cannot_be_drawn(trained, hearts, tmp_path):
    def ungrouped(tree):
        del tree["subjects"]["group"]

    copy = changed_copy(hearts, tmp_path / "nowhere", "cohort.yaml", ungrouped)
    with pytest.raises(ConfigError, match=r"the cohort names none(.|\n)*group"):
        medmcl.evaluate(trained.path, copy, out=tmp_path / "x", resample="site", device="cpu")
    with pytest.raises(ConfigError, match="resample"):
        medmcl.evaluate(trained.path, hearts, out=tmp_path / "y", resample="clinic", device="cpu")


def shown_cohort(tmp_path, splits, *, own):
    """What zero-shot looks at, of the run's own cohort or another; nothing kept of its records."""
    run = SimpleNamespace(
        path=tmp_path,
        config={"cohort": "home" if own else "other", "cohort_fingerprint": "f"},
        arrays=lambda _: None,
    )
    subjects = SimpleNamespace(declares_split=len(set(splits)) > 1)
    cohort = SimpleNamespace(
        name="home",
        fingerprint="f" if own else "g",
        spec=SimpleNamespace(keys=SimpleNamespace(subjects=subjects)),
    )
    splits = np.array(splits, dtype=object)
    prepared = SimpleNamespace(
        splits=splits, subjects=np.arange(len(splits)), cohort=cohort, adapters={}
    )
    return run, prepared, targets_of("binary", [1, 0, 1, 0], name="mi")


def scored(run, prepared, targets, notes):
    """The split by which zero-shot scores a task."""
    scene = RunScene(spec=EvaluateSpec(stage="evaluate"), run=run, prepared=prepared, device=None,
                     seed=0, notes=notes)  # fmt: skip
    targets, splits = scene.scored_of(targets)
    refuse_nobody(scene, targets, splits)
    return splits


def test_zero_shot_scores_everybody_of_another_cohort_without_held_out(tmp_path):
    notes: list[str] = []
    run, prepared, targets = shown_cohort(tmp_path, ["train"] * 4, own=False)
    splits = scored(run, prepared, targets, notes)
    assert (splits == "held_out").all()
    assert any("all of its people are scored" in note for note in notes)
    run, prepared, targets = shown_cohort(tmp_path, ["train", "held_out"] * 2, own=False)
    assert scored(run, prepared, targets, []).tolist() == ["not scored", "held_out"] * 2


def test_zero_shot_with_nobody_to_score_is_refused_with_a_way_out(tmp_path):
    run, prepared, targets = shown_cohort(tmp_path, ["train"] * 4, own=True)
    with pytest.raises(CohortError, match=r"nobody to score on mi(.|\n)*`split:`") as said:
        scored(run, prepared, targets, [])
    assert "4 samples with the outcome" in str(said.value)
    run, prepared, targets = shown_cohort(tmp_path, ["train", "held_out"] * 2, own=True)
    assert scored(run, prepared, targets, []).tolist() == ["not scored", "held_out"] * 2
