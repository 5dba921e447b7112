"""A cohort that nobody foresaw, from its cohort.yaml alone."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from read_pages import check_pages

import medmcl
from medmcl.core.errors import ConfigError
from medmcl.stages.recipe.file import read_recipe
from medmcl.stages.recipe.resolve_modalities import for_cohort

COHORT = """
schema: medmcl/cohort@1
subjects: {table: people.csv, id: patient, split: {random: {seed: 0, tuning: 0.1, held_out: 0.25}}}
modalities:
  rna: {reader: table, table: rna.csv, id: patient, columns: {r0: number, r1: number, r2: number}}
  protein: {reader: table, table: protein.csv, id: patient, columns: {p0: number, kind: category}}
  methylation: {reader: table, table: m.csv, id: patient, columns: {c0: number, c1: number}}
tasks:
  case: {kind: binary, column: case}
"""


@pytest.fixture
def omics(tmp_path):
    """Three omics tables; a third of the people have no methylation."""
    folder = tmp_path / "omics"
    folder.mkdir()
    rng = np.random.default_rng(0)
    state = rng.normal(size=(240, 3))
    ids = np.array([f"P{i:03d}" for i in range(240)])
    pd.DataFrame({"patient": ids, "case": (state[:, 0] > 0).astype(int)}).to_csv(
        folder / "people.csv", index=False
    )
    rna = state + 0.2 * rng.normal(size=state.shape)
    pd.DataFrame({"patient": ids, "r0": rna[:, 0], "r1": rna[:, 1], "r2": rna[:, 2]}).to_csv(
        folder / "rna.csv", index=False
    )
    kind = np.where(state[:, 1] > 0, "high", "low")
    pd.DataFrame({"patient": ids, "p0": state[:, 0], "kind": kind}).to_csv(
        folder / "protein.csv", index=False
    )
    has = np.arange(240) % 3 > 0
    some = pd.DataFrame({"patient": ids, "c0": state[:, 1], "c1": state[:, 2]})[has]
    some.to_csv(folder / "m.csv", index=False)
    (folder / "cohort.yaml").write_text(COHORT)
    return folder


QUICK = {
    "stages.bind.steps": 12,
    "stages.bind.objectives.cross_modal.pairs.every": 4,
    "stages.results.bootstrap_draws": 100,
}


def test_three_omics_tables_one_of_them_patchy_need_no_code(omics, tmp_path):
    run = medmcl.pretrain(omics, recipe="autobind_toy", out=tmp_path / "run", overrides=QUICK)
    assert list(run.recipe.inputs) == ["rna", "protein", "methylation"]
    assert run.stages["bind"].towers == ("rna", "protein", "methylation")
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
    assert len(run.embed(omics, modality="methylation")) > 100
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
