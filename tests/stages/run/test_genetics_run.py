"""Genetics end to end: pretraining with a table, a run that is opened, another cohort's alleles."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from changed_files import rewrite
from read_pages import both_pages
from small_genomes import variant_table, write_genome_cohort, write_plink

import medmcl
from medmcl.data.cohort.cohort import open_cohort
from medmcl.stages.predict.cohort import check_people
from medmcl.stages.predict.predict import predict_people
from medmcl.stages.run.features import Covariates
from medmcl.stages.run.store import Store

RECIPE = """
schema: medmcl/recipe@1
about: genes and a table
inputs: {genes: {components: 2}, clinic: {}}
towers:
  genes:
    encoder: {name: snp_pathway, genes: GENES, pathways: SETS, channels: 2, rest: 4, width: 8}
  clinic: {encoder: {name: tabular_mlp, hidden: 8, width: 8}}
views:
  augmented: {augment: {genes: {dropout: 0.2}, clinic: {}}}
stages:
  - stage: train
    name: contrast
    towers: [genes, clinic]
    objectives: {cross_modal: {pairs: [[genes, clinic]], view: augmented}}
    batch_size: 32
    steps: 6
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("genes")
    genotypes, table = write_genome_cohort(folder / "one")

    def ancestral(tree):
        tree["modalities"]["ancestry"] = {**tree["modalities"]["genes"], "gives": "components"}

    rewrite(folder / "one" / "cohort.yaml", ancestral)
    info = variant_table(60)
    genes = [(f"G{n // 5}", c, 1000 * (1 + n % 30), 1000 * (5 + n % 30))
             for n, c in zip(range(0, 60, 5), info["chromosome"][::5], strict=True)]  # fmt: skip
    frame = pd.DataFrame(genes[:-1], columns=["gene", "chromosome", "start", "end"])
    frame.to_csv(folder / "genes.csv", index=False)
    sets = [f"set{k}\tnone\t" + "\t".join(g[0] for g in genes[k::2]) for k in (0, 1)]
    (folder / "sets.gmt").write_text("\n".join(sets) + "\n")
    text = RECIPE.replace("GENES", str(folder / "genes.csv"))
    (folder / "recipe.yaml").write_text(text.replace("SETS", str(folder / "sets.gmt")))
    run = medmcl.pretrain(
        folder / "one", recipe=folder / "recipe.yaml", out=folder / "run", device="cpu"
    )
    return folder, run, genotypes, table


def test_a_run_keeps_alleles_counts_exclusions_and_reports(study):
    _, run, _, _ = study
    state = run.preprocessing["genes"]["state"]
    assert state["counted"][:4] == ["A", "C", "A", "G"]
    assert len(state["ids"]) == len(state["frequency"]) == len(state["ancestry"]["loadings"])
    assert sum(map(len, state["excluded"].values())) + len(state["ids"]) == 60
    report = both_pages(run.path)
    assert "variants of 60 used" in report or "genetics.quality" in report
    assert run.shapes["genes"].names == tuple(state["ids"])
    assert len(run.shapes["genes"].places) == len(state["ids"])


def test_components_are_covariates_that_know_the_populations(study):
    folder, run, _, table = study
    found = Covariates.of(run, open_cohort(folder / "one"), "ancestry")
    kept = folder / "kept" / "probes"
    kept.mkdir(parents=True)
    (kept / "covariates.json").write_text(json.dumps({"ancestry": found.reading}))
    again = SimpleNamespace(cache=run.cache, recipe=run.recipe, tree=Store(kept.parent).tree)
    frozen = Covariates.of(again, open_cohort(folder / "one"), "ancestry", is_frozen=True)
    assert np.array_equal(frozen.values, found.values)
    assert found.present.all()
    assert found.values.shape == (240, 10)  # nobody lacks a component: no flags
    train = (table["split"] == "train").to_numpy()
    population = (table["population"] == "B").to_numpy()
    first = found.values[:, 0]
    gap = first[population].mean() - first[~population].mean()
    assert abs(gap) > 3 * first[population].std()
    assert abs(first[train].mean()) < 0.2
    state = found.reading["state"]
    kept = run.preprocessing["genes"]["state"]
    assert state["ids"] == kept["ids"]


RISK = """
schema: medmcl/recipe@1
about: a risk from components of ancestry
inputs: {clinic: {}}
stages: [{stage: evaluate, name: evaluate, covariates: ancestry, tasks: all, bootstrap_draws: 100}]
"""


def test_what_is_odd_about_components_as_covariates_is_said_by_every_command(
    study, tmp_path, caplog
):
    folder, _, genotypes, table = study
    caplog.set_level("INFO", logger="medmcl")
    (tmp_path / "risk.yaml").write_text(RISK)
    run = medmcl.pretrain(
        folder / "one", recipe=tmp_path / "risk.yaml", out=tmp_path / "run", device="cpu"
    )
    assert "modalities.ancestry, quality control: 60 variants" in caplog.text
    assert "genetics.quality" in both_pages(run.path)
    write_genome_cohort(tmp_path / "two")
    shutil.copy(folder / "one" / "cohort.yaml", tmp_path / "two")
    names = [f"t{name}" for name in table["subject_id"]]
    people = table.assign(subject_id=names, split="held_out")
    people.to_csv(tmp_path / "two" / "people.csv", index=False)
    lacks = variant_table(60).drop(index=[3, 4])
    write_plink(tmp_path / "two" / "genotypes", np.delete(genotypes, [3, 4], 1), lacks, names)
    told = "2 are not in the file and count as not called (rs3, rs4)"
    done = medmcl.evaluate(run.path, tmp_path / "two", out=tmp_path / "out", device="cpu")
    assert told in caplog.text
    assert any(told in line for line in done.strange)
    assert [one.code for one in done.prepared.warnings] == ["genetics.alleles"]
    assert any(told in note for note in predict_people(run, tmp_path / "two", device="cpu").notes)
    (finding,) = check_people(run, tmp_path / "two")
    assert (finding.code, told in finding.what) == ("genetics.alleles", True)


def test_an_opened_run_embeds_a_file_with_other_alleles_to_the_same_points(study, tmp_path):
    folder, run, genotypes, table = study
    here = medmcl.load(run.path).embed(folder / "one", modality="genes", device="cpu")
    write_genome_cohort(tmp_path / "two")
    info = variant_table(60)
    turned = info.rename(columns={"counted": "other", "other": "counted"})
    flip = dict(zip("ACGT", "TGCA", strict=True))
    turned[["counted", "other"]] = turned[["counted", "other"]].map(flip.get)
    other = np.where(genotypes < 0, -1, 2 - genotypes)
    write_plink(tmp_path / "two" / "genotypes", other, turned, list(table["subject_id"]))
    there = medmcl.load(run.path).embed(tmp_path / "two", modality="genes", device="cpu")
    assert len(here) == 240
    pd.testing.assert_frame_equal(pd.DataFrame(here), pd.DataFrame(there))
