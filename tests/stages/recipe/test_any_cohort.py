"""A cohort that nobody foresaw, from its cohort.yaml alone."""

from __future__ import annotations

import json

import pytest
from read_pages import check_pages
from small_omics import TABLES, write_omics

import medmcl
from medmcl.core.errors import ConfigError
from medmcl.stages.recipe.file import read_recipe
from medmcl.stages.recipe.resolve_modalities import for_cohort

QUICK = {
    "stages.bind.steps": 12,
    "stages.bind.objectives.cross_modal.pairs.every": 4,
    "stages.results.bootstrap_draws": 100,
}


def test_three_omics_tables_one_of_them_patchy_need_no_code(tmp_path):
    omics = write_omics(tmp_path / "omics")
    run = medmcl.pretrain(omics, recipe="autobind_toy", out=tmp_path / "run", overrides=QUICK)
    assert list(run.recipe.inputs) == list(TABLES)
    assert run.stages["bind"].towers == tuple(TABLES)
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    probe = [row for row in rows if row["split"] == "probe"]
    assert [row["step"] for row in probe] == [4, 8, 12]
    page, _ = check_pages(run.path)
    assert "The pairs that stage bind learned to align" in page
    assert "Scores of pairs while stage bind trained" in page
    report = json.loads((run.path / "report.json").read_text())
    told = [one["code"] for one in report["findings"]]
    facts = json.loads((run.path / "checkpoint" / "bind" / "done.json").read_text())
    assert [one["code"] for one in facts["findings"] if one["code"] not in told] == []
    assert len(run.embed(omics, modality="metabolites")) > 100
    errors = [f for f in medmcl.check(omics, recipe="autobind_toy") if f.level == "error"]
    assert errors == []


def test_the_modalities_to_read_can_be_named():
    kinds = {"a": "tabular", "b": "tabular", "c": "tabular"}
    recipe = for_cohort(read_recipe("autobind_toy", {"modalities": ["c", "a"]}), kinds)
    assert list(recipe.inputs) == list(recipe.towers) == ["c", "a"]
    assert recipe.stages[0].towers == ("c", "a")
    assert recipe.stages[1].retrieval.pairs == (("c", "a"),)
    again = for_cohort(recipe, kinds)
    assert again == recipe


def test_a_modality_that_is_named_keeps_its_own_settings():
    own = {"encoder": {"name": "tabular_mlp", "hidden": 7}, "head": {"out": 16}}
    recipe = read_recipe("autobind_toy", {"towers": {"b": own}, "inputs": {"b": {"clip_sd": 3}}})
    made = for_cohort(recipe, {"a": "tabular", "b": "tabular"})
    assert made.towers["b"] == own
    assert made.inputs["b"] == {"clip_sd": 3}
    assert made.towers["a"]["encoder"]["hidden"] == 64


def test_what_no_recipe_can_read_is_named():
    recipe = read_recipe("autobind_toy")
    with pytest.raises(
        ConfigError, match="does not say how to encode 'x', which is of kind 'sonar'"
    ):
        for_cohort(recipe, {"a": "tabular", "x": "sonar"})
    named = read_recipe("autobind_toy", {"modalities": ["rnaa"]})
    with pytest.raises(ConfigError, match="did you mean 'rna'"):
        for_cohort(named, {"rna": "tabular"})


def test_a_recipe_that_reads_nothing_is_refused(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("extends: autobind_toy\ndrop: [modalities]\n")
    with pytest.raises(ConfigError, match="at least one modality"):
        read_recipe(path)


def test_a_role_of_several_kinds_is_prepared_encoded_and_disturbed_as_its_kind():
    recipe = read_recipe("cleanclip_toy", {"inputs.ecg.rate_hz": 50})
    pictures = for_cohort(read_recipe("cleanclip_toy"), {"scan": "image", "report": "text"})
    assert list(pictures.inputs) == ["scan", "report"]
    assert pictures.views["disturbed"].augment["scan"]["rotation_deg"] == 15
    assert pictures.stages[0].trigger == "badnet"
    signals = for_cohort(recipe, {"note": "text", "ecg": "ecg", "age": "tabular"})
    assert signals.inputs["ecg"]["rate_hz"] == 50  # what is set wins, the rest is of the kind
    assert signals.inputs["ecg"]["normalise"] == "none"
    assert signals.towers["ecg"]["encoder"]["name"] == "resnet1d"
    assert signals.views["augmented"].augment["ecg"]["lead_dropout"] == 0.2
    assert signals.stages[0].trigger == "pulse"
    both = for_cohort(read_recipe("poisoned_toy"), {"e": "ecg", "x": "image", "t": "text"})
    assert list(both.inputs) == ["x", "t"]
    with pytest.raises(ConfigError, match="is the cohort's image or ecg, of which it has none"):
        for_cohort(read_recipe("poisoned_toy"), {"t": "text"})
    with pytest.raises(ConfigError, match="several: a, b"):
        for_cohort(read_recipe("poisoned_toy"), {"a": "image", "b": "image", "t": "text"})
