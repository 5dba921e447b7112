"""A cohort of three tables, one absent for a third, from its cohort.yaml alone."""

from __future__ import annotations

import json
import logging
import re

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from changed_files import rewrite
from read_pages import both_pages
from small_omics import TABLES, recipe_for, write_omics, write_recipe

import medmcl
from medmcl.core.config import check
from medmcl.core.errors import ArtefactError, ConfigError
from medmcl.data.check.check import check_cohort
from medmcl.engine.record import Record
from medmcl.stages.evaluate.evaluate import evaluate
from medmcl.stages.evaluate.spec import EvaluateSpec, ProbeSpec
from medmcl.stages.evaluate.stage import run_evaluate
from medmcl.stages.run import run as run_module
from medmcl.stages.run.embed import EmbedCommand
from medmcl.stages.run.embedding import provenance_of_table
from medmcl.stages.run.pretrain import pretrain
from medmcl.stages.run.study import stage_sentence

FEW = {"baselines": ["majority"], "tasks": ["case"]}
NAMES = list(TABLES)
INPUTS: dict[str, dict] = {name: {} for name in NAMES}


@pytest.fixture(scope="module")
def omics(tmp_path_factory):
    return write_omics(tmp_path_factory.mktemp("omics"))


@pytest.fixture(scope="module")
def run(omics, tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs")
    probe = {"modality": "all", "models": {"aligned": "align", "untrained": "untrained"}}
    recipe = write_recipe(
        folder / "omics.yaml", probe=probe, **FEW | {"baselines": ["simple", "majority"]}
    )
    return pretrain(omics, recipe=recipe, out=folder / "run", device="cpu")


def scored(run, cohort, tmp_path, **changes):
    """Evaluate without a report, probes fitted anew on the cohort."""
    spec = next(one for one in run.recipe.stages if one.stage == "evaluate")
    spec = spec.model_copy(update={"baselines": ("majority",), **changes})
    record = Record(tmp_path / "metrics.jsonl", active=False)
    return run_evaluate(spec, run, cohort, torch.device("cpu"), record)


def without(folder, changes, **kept):
    """Blank a modality for the subjects that ``changes`` names by split."""
    folder = write_omics(folder, **kept)
    people = pd.read_csv(folder / "people.csv").set_index("pid")["split"]
    for name, split in changes.items():
        path = next(folder.glob(f"{name}.*"))
        rewrite(path, lambda table, s=split: table[table["pid"].map(people) != s])
    return folder


def test_check_finds_nothing_wrong_and_counts_who_has_nothing(omics):
    found = check_cohort(omics, INPUTS, trains=True)
    assert [f for f in found if f.level == "error"] == []
    nothing = [f for f in found if f.code == "cohort.nothing_present"]
    assert len(nothing) == 1
    assert nothing[0].what.startswith("5 subjects")


def test_everyone_with_something_is_scored_and_the_report_says_by_what(run):
    results = pd.read_csv(run.path / "results.csv")
    auroc = results[(results["metric"] == "auroc") & results["versus"].isna()].set_index("method")
    assert (auroc["n"] == 58).all()  # held-out people who have something
    assert auroc.loc["aligned", "protocol"].startswith("linear_probe, mean")
    assert auroc.loc["aligned", "value"] > 0.85
    assert "simple features (rna + proteins + metabolites)" in auroc.index
    presence = pd.read_csv(run.path / "presence.csv")
    own = presence[presence["method"] == "aligned"].set_index("modalities")
    assert own.loc["rna + proteins", "n"] == 20
    assert own.loc["rna + proteins + metabolites", "n"] == 38
    asked = own[own["asked"] == "as if"]
    assert list(asked.index) == [*(f"only {n}" for n in NAMES), *(f"without {n}" for n in NAMES)]
    assert asked["difference_low"].notna().all()
    assert asked.loc["only metabolites", "n"] == 38
    page = both_pages(run.path)
    assert "As if some modalities were not there" in page
    assert json.loads((run.path / "report.json").read_text(encoding="utf-8"))["presence"]


def test_embeddings_of_several_are_the_mean_of_what_is_there(run, omics):
    fused = run.embed(omics, modality="all", space="pooled", device="cpu")
    assert (fused["quality"] == "ok").all()
    assert len(fused) == 235
    single = {n: run.embed(omics, modality=n, space="pooled", device="cpu") for n in NAMES}
    single = {n: t.drop(columns="quality").droplevel("record") for n, t in single.items()}
    for subject in ("p000", "p001", "p002"):
        own = [t.loc[subject].to_numpy() for t in single.values() if subject in t.index]
        assert len(own) == (2 if subject == "p000" else 3)
        mean = np.mean(own, axis=0)
        given = fused.xs(subject, level="subject").drop(columns=["quality", "modalities"])
        np.testing.assert_allclose(given.to_numpy()[0], mean / np.linalg.norm(mean), atol=1e-5)
    some = run.embed(omics, modality=["metabolites"], space="pooled", device="cpu")
    assert (some["quality"] == "nothing present").sum() == 235 - 156
    assert some[some["quality"] != "ok"]["e0"].isna().all()
    with pytest.raises(ConfigError, match="share no space but 'pooled'"):
        run.embed(omics, modality="all", device="cpu")
    with pytest.raises(ConfigError, match="nothing to embed of genes"):
        run.embed(omics, modality=["rna", "genes"], space="pooled", device="cpu")


def test_embeddings_of_several_are_written_in_shards_and_resumed_to_the_same_bytes(
    run, omics, tmp_path, monkeypatch
):
    monkeypatch.setattr(run_module, "EMBED_BATCH", 64)  # 235 samples are four parts

    def embed(out, **more):
        return EmbedCommand(run=run.path, cohort=str(omics), out=tmp_path / out, modality="all",
                            space="pooled", device="cpu", **more).write()[0]  # fmt: skip

    assert embed("whole.parquet").startswith("235 samples, 0 without an embedding")
    whole = (tmp_path / "whole.parquet").read_bytes()
    assert "is done (2 of 4 parts)" in embed("shards.parquet", shard="2/2")
    assert embed("shards.parquet", shard="1/2").startswith("235 samples")
    assert (tmp_path / "shards.parquet").read_bytes() == whole
    embed("resumed.parquet", shard="1/2")  # of several that were killed one was done
    with pytest.raises(ArtefactError, match="--resume goes on"):
        embed("resumed.parquet")
    embed("resumed.parquet", resume=True)
    assert (tmp_path / "resumed.parquet").read_bytes() == whole
    assert "whole already" in embed("resumed.parquet", resume=True)
    table = run.embed(omics, modality="all", space="pooled", device="cpu").reset_index()
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "whole.parquet"), table)
    assert provenance_of_table(tmp_path / "whole.parquet")["made_by"]["stage"] == "align"


@pytest.mark.usefixtures("unpainted")
def test_the_kept_probe_scores_a_cohort_that_lacks_a_modality(run, tmp_path):
    other = write_omics(tmp_path / "abroad", seed=5)

    def without_metabolites(tree):
        del tree["modalities"]["metabolites"]

    rewrite(other / "cohort.yaml", without_metabolites)
    found = evaluate(run, other, out=tmp_path / "out", device="cpu")
    auroc = next(r for r in found.results if r.metric == "auroc" and r.method == "aligned")
    assert "frozen" in auroc.protocol
    assert any("metabolites is absent for everyone in held_out" in note for note in found.notes)
    names = {row.modalities for row in found.presence}
    assert {"everyone", "only rna", "without proteins"} <= names
    asked = [r for r in found.presence if r.asked == "as if" and not r.suppressed]
    assert asked
    assert all(r.difference is not None for r in asked)


def test_entries_can_be_removed_for_pretraining_and_evaluation(omics, run, tmp_path):
    """The share stands in the run; fewer entries, not fewer people."""
    overrides = {"cohort.remove.share": 0.4, "stages.align.steps": 2}
    recipe = write_recipe(tmp_path / "r.yaml", **FEW)
    thin = pretrain(omics, recipe=recipe, out=tmp_path / "run", overrides=overrides, device="cpu")
    assert thin.config["cohort_overrides"] == {"remove.share": 0.4}
    results = pd.read_csv(thin.path / "results.csv")
    assert results["n"].max() == 58
    patterns = pd.read_csv(thin.path / "presence.csv")
    assert (patterns["asked"] == "as they are").sum() >= 4  # of two methods
    assert "removed at random" in both_pages(thin.path)
    again = scored(run, medmcl.open_cohort(omics, {"cohort.remove.share": 0.4}), tmp_path)
    everyone = [r for r in again.presence if r.modalities == "everyone"]
    assert everyone[0].n == 58


@pytest.mark.parametrize("split", ["train", "tuning", "held_out"])
def test_check_says_that_nobody_of_a_split_has_a_modality(split, tmp_path):
    folder = without(tmp_path / "cohort", {"proteins": split})
    found = check_cohort(folder, INPUTS, trains=True)
    said = [f for f in found if f.code == "cohort.modality_absent"]
    assert len(said) == 1
    told = f"no subject of the {split} split has it ("
    assert said[0].what.startswith(told)
    assert re.search(rf"{split} 0 of \d+", said[0].what)
    assert len(re.findall(r" [1-9]\d* of \d+", said[0].what)) == 2
    assert said[0].level == ("error" if split == "train" else "warning")


@pytest.mark.parametrize("split", ["tuning", "held_out"])
def test_a_run_says_so_before_it_trains(split, tmp_path, monkeypatch, caplog):
    folder = without(tmp_path / "cohort", {"proteins": split})
    recipe = write_recipe(tmp_path / "r.yaml", **FEW)
    monkeypatch.setattr(logging.getLogger("medmcl"), "propagate", True)
    monkeypatch.setattr("medmcl.stages.run.training.run_stage", stopped)
    caplog.set_level("INFO")
    with pytest.raises(KeyboardInterrupt):
        pretrain(folder, recipe=recipe, out=tmp_path / "run", device="cpu")
    assert f"warning: proteins: no subject of the {split} split has it (" in caplog.text


def stopped(*_, **__):
    raise KeyboardInterrupt


def test_a_tower_that_nobody_of_train_could_teach_is_refused_before_the_first_step(tmp_path):
    folder = without(tmp_path / "cohort", {"proteins": "train"})
    recipe = write_recipe(tmp_path / "r.yaml", **FEW)
    with pytest.raises(ConfigError, match="no sample of train has 'proteins'") as error:
        pretrain(folder, recipe=recipe, out=tmp_path / "run", device="cpu")
    assert "proteins 0" in str(error.value)
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize("split", ["train", "tuning", "held_out"])
@pytest.mark.parametrize("fusion", ["mean", "product_of_experts", "learned"])
def test_what_nobody_of_a_split_has_is_told_and_the_rest_is_scored(split, fusion, run, tmp_path):
    folder = without(tmp_path / "cohort", {"proteins": split}, subjects=600)
    probe = ProbeSpec(modality="all", models={"aligned": "align"}, fusion=fusion)
    found = scored(run, medmcl.open_cohort(folder), tmp_path, probe=probe)
    assert f"proteins is absent for everyone in {split}" in found.notes
    auroc = [r for r in found.results if r.metric == "auroc" and r.method == "aligned"]
    assert auroc[0].split == "held_out"
    assert auroc[0].value > (0.55 if fusion == "mean" else 0.7)  # encoders of another cohort


@pytest.mark.parametrize("split", ["train", "tuning", "held_out"])
def test_one_modality_that_nobody_of_a_split_has(split, run, tmp_path):
    """Not scored where it is not there, with the reason; nothing breaks."""
    folder = without(tmp_path / "cohort", {"proteins": split}, subjects=1000)
    probe = ProbeSpec(modality="proteins", models={"aligned": "align"})
    found = scored(run, medmcl.open_cohort(folder), tmp_path, probe=probe)
    auroc = next(r for r in found.results if r.metric == "auroc" and r.method == "aligned")
    if split == "held_out":
        assert auroc.value is None
        assert auroc.note
    if split == "train":  # nobody to fit on
        assert "constant prediction" in auroc.note
        assert auroc.train_subjects == 0


def test_modality_pairs_that_nobody_has_both_are_told(tmp_path):
    folder = write_omics(tmp_path / "cohort")
    people = sorted(pd.read_csv(folder / "rna.csv")["pid"])
    half = set(people[::2])
    rewrite(folder / "rna.csv", lambda table: table[table["pid"].isin(half)])
    rewrite(folder / "proteins.parquet", lambda table: table[~table["pid"].isin(half)])
    found = check_cohort(folder, INPUTS, trains=True)
    said = [f.what for f in found if f.code == "cohort.no_pair"]
    assert said == ["0 train samples with both rna and proteins: they cannot be aligned"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"modality": ["a", "b"], "space": "features"}, "needs space: pooled"),
        ({"modality": ["a", "a"]}, "one stands twice"),
        ({"modality": "all", "fusion": "learned", "protocol": "knn"}, "fits linear probes"),
        ({"modality": [], "fusion": "learned"}, "modality"),
        ({"modality": "all", "fusion": "sum"}, "fusion"),
    ],
)
def test_probes_that_cannot_be_fused_are_refused(given, said):
    with pytest.raises(ConfigError, match=said):
        check(ProbeSpec, {"models": {"m": "s"}, **given}, where="probe", error=ConfigError)


def test_fine_tuned_models_with_nothing_to_stand_beside_are_refused():
    keys = {"stage": "evaluate", "finetuned": {"fine-tuned": "finetune"}}
    with pytest.raises(ConfigError, match="finetuned: fine-tuned models are scored beside a probe"):
        check(EvaluateSpec, keys, where="recipe", error=ConfigError)
    beside = {"probe": {"modality": "ecg", "models": {"untrained": "untrained"}}}
    assert check(EvaluateSpec, {**keys, **beside}, where="recipe", error=ConfigError).finetuned


def test_the_space_of_a_probe_follows_its_fusion():
    def space(**given):
        return ProbeSpec(models={"m": "s"}, **given).space

    assert space(modality="a") == "features"
    assert space(modality="all") == "pooled"
    assert space(modality=["a", "b"], fusion="learned") == "features"
    assert ProbeSpec(modality=["a", "b"], models={}).read("abc") == ("a", "b")
    assert ProbeSpec(modality="all", models={}).read("abc") == ("a", "b", "c")
    given = {"before": "untrained", "after": "align"}  # the report is about the first
    assert list(ProbeSpec(modality="all", models=given).models) == ["after", "before"]


def test_named_groups_of_columns_of_one_table_are_modalities(tmp_path):
    """Clinical columns in two groups; one is empty for some, who then lack that group."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 5)), columns=["sbp", "dbp", "ldl", "hdl", "crp"])
    frame.insert(0, "pid", [f"p{n}" for n in range(60)])
    frame["split"] = ["train", "train", "held_out"] * 20
    frame.loc[::3, ["ldl", "hdl", "crp"]] = np.nan
    frame.to_csv(tmp_path / "people.csv", index=False)
    (tmp_path / "cohort.yaml").write_text(
        "schema: medmcl/cohort@1\n"
        "subjects: {table: people.csv, id: pid, split: split}\n"
        "modalities:\n"
        "  pressure: {reader: table, columns: [sbp, dbp]}\n"
        "  blood: {reader: table, columns: [ldl, hdl, crp]}\n",
        encoding="utf-8",
    )
    cohort = medmcl.open_cohort(tmp_path)
    assert cohort.samples["pressure"].notna().all()
    assert cohort.samples["blood"].notna().sum() == 40
    assert [f for f in check_cohort(cohort) if f.level == "error"] == []


def test_a_fine_tuned_model_is_scored_on_whom_it_predicts(omics, tmp_path):
    tree = recipe_for(**FEW, probe={"modality": "all", "models": {"aligned": "align"}})
    supervised = {"task": "case", "modalities": NAMES, "view": "plain", "pooling": "features"}
    head = {
        "stage": "train", "name": "head", "task": "case", "towers": NAMES, "rows": "any",
        "start_from": dict.fromkeys(NAMES, "align"), "objectives": {"supervised": supervised},
        "batch_size": 32, "steps": 20, "optimiser": {"name": "adamw", "lr": 1.0e-3},
    }  # fmt: skip
    tree["stages"].insert(-1, head)
    tree["stages"][-1]["finetuned"] = {"fine-tuned": "head"}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    run = pretrain(omics, recipe=path, out=tmp_path / "run", device="cpu")
    results = pd.read_csv(run.path / "results.csv")
    rows = results[results["versus"].isna() & (results["metric"] == "auroc")]
    assert {*rows["method"]} >= {"aligned", "fine-tuned"}
    assert set(rows["n"]) == {38}  # of 58 who have something: who has all three
    assert rows["note"].str.contains("20").all()
    own = rows[rows["method"] == "fine-tuned"].iloc[0]
    whole = rows[rows["method"] == "majority"].iloc[0]  # fitted on who has all three
    for key in ("train_subjects", "train_events", "tuning_subjects"):
        assert own[key] == whole[key], key
    assert own["train_subjects"] < run.facts("head")["subjects"]
    said = stage_sentence(run.facts("head"))
    assert f"({own['train_subjects']:.0f} of them have what its head reads)" in said
    evaluate(run, omics, out=tmp_path / "again", predictions=tmp_path / "people.csv", device="cpu")
    said = pd.read_csv(tmp_path / "people.csv")
    mine = said[said["method"] == "fine-tuned"]
    assert mine["subject"].nunique() == 38
    assert (mine.select_dtypes("number").abs() > 0).any(axis=1).all()
