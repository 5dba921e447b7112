"""A run's own cohort is opened as the run opened it; an evaluation of nobody ends with an error."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from changed_files import changed_copy, rewrite
from small_omics import write_omics, write_recipe

import medmcl
from medmcl.core.errors import CohortError
from medmcl.stages.run.own_cohort import open_as_own, own_overrides
from medmcl.stages.run.run import Run


def spoil(table):
    """One train and one held-out person with a number that is none."""
    table.loc[table["pid"].isin(["p000", "p003"]), "r_2"] = "12;4"


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    base = tmp_path_factory.mktemp("own")
    folder = write_omics(base / "omics", 120)
    rewrite(folder / "rna.csv", spoil, dtype=object)
    recipe = write_recipe(
        base / "recipe.yaml", tasks=["case"], baselines=["majority"], predictions=True
    )
    overrides = {"cohort.on_bad_record": "exclude", "stages.align.steps": 3}
    run = medmcl.pretrain(
        folder, recipe=recipe, out=base / "run", overrides=overrides, device="cpu"
    )
    return base, folder, run


def test_a_run_s_own_exclusions_hold_again(places):
    base, folder, run = places
    done = medmcl.evaluate(run.path, folder, out=base / "again", device="cpu")
    assert "--set cohort.on_bad_record=exclude" in " ".join(done.notes)
    assert done.prepared.excluded
    with pytest.raises(CohortError, match=r"must be a number"):
        medmcl.evaluate(run.path, folder, out=base / "refused", device="cpu",
                        overrides={"cohort.on_bad_record": "refuse"})  # fmt: skip
    assert not (base / "refused" / "report.html").exists()


def test_predict_and_evaluate_say_to_the_last_bit_what_the_report_scored(places):
    base, folder, run = places
    scored = pd.read_parquet(run.path / "predictions-results.parquet")
    scored = scored[scored["method"] == "aligned"]
    told = run.predict(folder, tasks=["case"], device="cpu")
    medmcl.evaluate(run.path, folder, out=base / "equal", tasks=["case"], device="cpu",
                    predictions=base / "equal.parquet")  # fmt: skip
    again = pd.read_parquet(base / "equal.parquet")
    for found in (told, again[again["method"] == "aligned"]):
        both = scored.merge(found, on=["subject", "target"], suffixes=("", "_again"))
        assert len(both) == len(scored) > 20
        assert (both["predicted"] == both["predicted_again"]).all()
    spoilt = told.set_index("subject").loc[["p000", "p003"]]
    assert not spoilt["modalities"].str.contains("rna").any()
    assert spoilt["remarks"].str.contains("rna: column 'r_2' must be a number").all()


def test_its_own_cohort_changed_since_is_remarked_on(places, tmp_path, caplog):
    _, folder, run = places
    copy = tmp_path / folder.name
    shutil.copytree(folder, copy)
    few = {"cohort.on_bad_record": "exclude", "evaluate.bootstrap_draws": 100}
    said = "cohort omics is not as it was when the run was trained on it (fingerprint"

    def headline(out):
        with caplog.at_level("INFO", logger="medmcl"):
            medmcl.evaluate(run.path, copy, out=tmp_path / out, device="cpu", overrides=few)
        told = json.loads((tmp_path / out / "report.json").read_text(encoding="utf-8"))
        return " ".join(told["headline"]), told["provenance"]

    assert said not in headline("before")[0]
    assert said not in caplog.text
    table = pd.read_csv(copy / "people.csv")
    table.loc[3, "case"] = 1 - table.loc[3, "case"]
    table.to_csv(copy / "people.csv", index=False)
    text, facts = headline("after")
    assert f"Beware: {said}" in text
    assert said in caplog.text
    assert facts["scored cohort fingerprint"] != facts["cohort_fingerprint"]


def test_nothing_is_taken_for_another_cohort(places, tmp_path):
    _, folder, run = places
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    assert own_overrides(run, copy, {}) == {"on_bad_record": "exclude"}  # the same bytes
    rewrite(copy / "people.csv", lambda table: table.assign(score=table["score"] + 1))
    assert own_overrides(run, copy, {}) == {}
    with pytest.raises(CohortError, match=r"must be a number"):
        medmcl.evaluate(run.path, copy, out=tmp_path / "refused", device="cpu")


def test_where_the_data_lie_is_not_taken_over_to_a_copy(places, tmp_path):
    """A copy of cohort.yaml at another hospital was read with this hospital's data."""
    _, folder, run = places
    told = {"data_root": str(folder), "on_bad_record": "exclude"}
    kept = changed_copy(
        run.path, tmp_path / "run", "config.yaml", lambda tree: tree | {"cohort_overrides": told}
    )
    assert own_overrides(Run(kept), folder, {}) == told
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    assert "data_root" not in own_overrides(Run(kept), copy, {})

    def unscored(tree):
        del tree["tasks"]["score"]

    rewrite(copy / "cohort.yaml", unscored)
    assert own_overrides(Run(kept), copy, {}) == {}
    opened, said = open_as_own(Run(kept), folder, {"data_root": str(copy)})
    assert opened.root == copy
    assert "data_root" not in said


def test_embed_says_what_it_took_from_the_run(places, caplog):
    _, folder, run = places
    with caplog.at_level("INFO", logger="medmcl"):
        run.embed(folder, modality="rna", device="cpu")
    assert "opened as the run was, --set cohort.on_bad_record=exclude" in caplog.text


def test_an_evaluation_of_nobody_ends_with_an_error_that_counts(places, tmp_path):
    _, folder, run = places
    held = (pd.read_csv(folder / "people.csv")["split"] == "held_out").to_numpy()
    copy = changed_copy(
        folder, tmp_path / "unknown", "people.csv",
        lambda table: table.assign(case=np.where(held, np.nan, table["case"])),
    )  # fmt: skip
    leave = {"cohort.on_bad_record": "exclude"}
    with pytest.raises(CohortError, match="nobody can be scored") as told:
        medmcl.evaluate(run.path, copy, out=tmp_path / "x", tasks=["case"], probe="refit",
                        overrides=leave, device="cpu")  # fmt: skip
    assert f"of {held.sum() - 2} held-out people 0 have a known outcome" in str(told.value)
    assert not (tmp_path / "x" / "report.html").exists()
    split = {"train": "train", "tuning": "tuning", "held_out": "train"}
    rewrite(copy / "people.csv", lambda table: table.assign(split=table["split"].map(split)))
    with pytest.raises(CohortError, match="no one is held out"):
        medmcl.evaluate(run.path, copy, out=tmp_path / "y", tasks=["case"], probe="refit",
                        overrides=leave, device="cpu")  # fmt: skip
