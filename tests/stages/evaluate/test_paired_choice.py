"""Paired choice end to end: pairs of squares in a run, in its report, and on another cohort."""

from __future__ import annotations

import json

import pandas as pd
import pytest
import torch
from changed_files import changed_copy, rewrite
from read_pages import both_pages
from small_squares import SMALL, pair_squares, write_squares

import medmcl
from medmcl.core.errors import CohortError, ConfigError
from medmcl.evaluation import load_results, right_pairs
from medmcl.stages.evaluate.spec import EvaluateSpec
from medmcl.stages.recipe.file import read_recipe
from medmcl.stages.recipe.model_checks import faults_of_models

ASKED = {"models": {"first": "untrained", "later": "contrast"}, "image": "picture",
         "text": "caption"}  # fmt: skip
TABLE = "pictures.csv"
QUICK = {
    **SMALL,
    "stages.contrast.batch_size": 32,
    "stages.contrast.epochs": None,
    "stages.contrast.steps": 30,
    "stages.contrast.evaluate_every": 10,
    "stages.contrast.optimiser.lr": 3.0e-3,
    "stages.results.retrieval": None,
    "stages.results.zero_shot": None,
}


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """24 held-out pictures in 12 pairs; of one pair a caption is not there."""
    torch.set_num_threads(1)
    folder = write_squares(tmp_path_factory.mktemp("squares") / "squares", people=144, side=24)
    pair_squares(folder)
    table = pd.read_csv(folder / "pictures.csv")
    table.loc[table.index[table["pair"] == "11-1"][1], "caption"] = None
    table.to_csv(folder / "pictures.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def run(squares, tmp_path_factory):
    return medmcl.pretrain(
        squares,
        out=tmp_path_factory.mktemp("runs") / "run",
        overrides={**QUICK, "stages.results.paired_choice": ASKED},
        device="cpu",
    )


def rows_of(path):
    return [row for row in load_results(path / "results.csv") if row.kind == "paired_choice"]


def by_hand(run, folder, stage):
    """Pair id to whether both statements are right, from the embeddings that the run gives."""
    table = pd.read_csv(folder / "pictures.csv").set_index("subject_id")
    sides = {}
    for name in ("image", "caption"):
        found = run.embed(folder, modality=name, stage=stage, space="pooled", device="cpu")
        found = found[found["quality"] == "ok"].droplevel(1)
        sides[name] = found.filter(regex=r"^e\d")
    both = [s for s in table.index[table["pair"].notna()] if s in sides["caption"].index]
    pair = table.loc[both, "pair"]
    whole = pair[pair.map(pair.value_counts()) == 2]
    image, text = (sides[name].loc[whole.index].to_numpy() for name in ("image", "caption"))
    return dict(zip(dict.fromkeys(whole), right_pairs(image, text, whole), strict=True))


def test_a_run_scores_pairs_as_its_embeddings_say(run, squares):
    rows = {(r.method, r.target): r for r in rows_of(run.path) if not r.versus}
    for label, stage in ASKED["models"].items():
        right = by_hand(run, squares, stage)
        assert len(right) == 11
        row = rows[label, "overall"]
        assert row.value == pytest.approx(sum(right.values()) / 11)
        assert (row.n, row.subjects, row.task, row.split) == (11, 11, "squares", "held_out")
        place = [ok for pair, ok in right.items() if pair.endswith("-0")]
        assert len(place) == 4
        assert (str(rows[label, "place"].n), rows[label, "place"].value) == ("<5", None)  # few
        assert rows[label, "colour"].n == 7
    assert rows["chance", "overall"].value == 0.25
    assert rows["later", "colour"].value > 0.6
    gap = next(r for r in rows_of(run.path) if r.versus and r.target == "overall")
    assert (gap.method, gap.versus) == ("later", "first")
    assert gap.value == pytest.approx(
        rows["later", "overall"].value - rows["first", "overall"].value
    )


def test_pairs_that_lack_a_side_are_counted_in_the_report(run):
    told = json.loads((run.path / "report.json").read_text())
    (note,) = [one for one in told["notes"] if "paired choice" in one]
    assert "squares: 1 of 12 pairs not scored" in note
    assert {row["kind"] for row in told["paired_choice"]} == {"paired_choice"}
    assert told["results"] == []
    (line,) = [one for one in told["headline"] if "Paired choice squares" in one]
    assert "11 pairs (chance 0.25): first " in line
    assert ", against first +" in line
    page = both_pages(run.path)
    assert '<section id="choices"' in page
    assert "later minus first" in page
    assert "mean over attributes" in page


def test_another_cohort_of_held_out_pairs_without_tasks_is_scored(run, squares, tmp_path):
    def edit(tree):
        tree["subjects"]["split"] = {"everyone": "held_out"}
        tree["subjects"]["where"] = "notnull(pair)"
        del tree["tasks"], tree["prompts"]
        tree["choices"]["again"] = {"pair": "pair"}

    folder = changed_copy(squares, tmp_path / "only_pairs", "cohort.yaml", edit)
    rewrite(folder / TABLE, lambda table: table.assign(subject_id="x" + table["subject_id"]))
    for path in (folder / "images").glob("*.png"):
        path.rename(path.with_name(f"x{path.name}"))
    done = medmcl.evaluate(run, folder, out=tmp_path / "out", device="cpu")
    here, own = (
        {(r.method, r.target): r.value for r in rows if r.task == "squares" and not r.versus}
        for rows in (rows_of(tmp_path / "out"), rows_of(run.path))
    )
    assert here == own
    again = {r.target for r in done.results if r.task == "again"}
    assert again == {"overall"}
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_cohort_without_pairs_says_so(run, squares, tmp_path):
    lacks = {"cohort.choices.squares": None}
    with pytest.raises(CohortError, match=r"nothing to score(?s:.*)the cohort has no `choices:`"):
        medmcl.evaluate(run, squares, out=tmp_path / "a", overrides=lacks, device="cpu")
    assert not (tmp_path / "a" / "report.html").exists()


def test_pairs_outside_of_what_is_scored_are_said_to_be(run, squares, tmp_path):
    def moved(table):
        table["split"] = ["tuning" if s == "held_out" else "held_out" for s in table["split"]]

    folder = changed_copy(squares, tmp_path / "elsewhere", TABLE, moved)
    with pytest.raises(CohortError, match="squares: no pair lies in what is scored"):
        medmcl.evaluate(run, folder, out=tmp_path / "b", device="cpu")


def test_a_cohort_without_texts_says_so(run, squares, tmp_path):
    lacks = {"cohort.modalities.caption": None}
    with pytest.raises(CohortError, match="paired_choice left out: the cohort has no caption"):
        medmcl.evaluate(run, squares, out=tmp_path / "c", overrides=lacks, device="cpu")


def test_what_is_left_out_beside_other_results_has_a_note(run, squares, tmp_path):
    lacks = {
        "cohort.choices.squares": None,
        "evaluate.retrieval": {"stage": "contrast", "pairs": [["image", "caption"]]},
    }
    done = medmcl.evaluate(run, squares, out=tmp_path / "a", overrides=lacks, device="cpu")
    assert {row.kind for row in done.results} == {"retrieval"}
    assert "the cohort has no `choices:`" in " ".join(done.notes)
    page = both_pages(tmp_path / "a")
    assert '<section id="choices"' not in page


def test_whole_sites_are_drawn_where_the_stage_says_so(run, squares, tmp_path):
    folder = changed_copy(
        squares, tmp_path / "sites", TABLE,
        lambda table: table.assign(site=[f"site {n // 6 % 2}{n % 3}" for n in table.index]),
    )  # fmt: skip
    rewrite(folder / "cohort.yaml", lambda tree: tree["subjects"].update(group="site"))
    done = medmcl.evaluate(run, folder, out=tmp_path / "d", device="cpu", resample="site")
    assert {row.resampling for row in done.results} == {"site"}


def test_a_run_whose_recipe_names_no_models_is_scored_by_its_zero_shot_towers(
    run, squares, tmp_path
):
    shot = {"stage": "contrast", "modality": "image", "text": "caption"}
    asked = {**QUICK, "stages.results.zero_shot": shot}
    again = medmcl.pretrain(
        squares, out=tmp_path / "run", overrides=asked, device="cpu", reuse=run.path
    )
    done = medmcl.evaluate(again, squares, out=tmp_path / "out", device="cpu")
    scored = [row for row in done.results if row.kind == "paired_choice"]
    assert {row.method for row in scored} == {"contrast", "chance"}
    assert next(row for row in scored if row.target == "overall").n == 11


# ------------------------------------------------------------------ the recipe


def spec_of(**given):
    return EvaluateSpec(stage="evaluate", paired_choice={**ASKED, **given})


def test_the_stage_needs_its_models_but_not_the_untrained():
    assert spec_of().sources() == ["contrast"]
    assert spec_of(models={"a": "x", "b": "y"}).sources() == ["x", "y"]


@pytest.mark.parametrize("change_", [{"models": {}}, {"image": 3}, {"modle": {}}])
def test_what_the_key_may_not_say(change_):
    with pytest.raises(ValueError, match="paired_choice"):
        spec_of(**change_)


def test_a_model_without_one_of_the_towers_is_refused_before_training(squares, tmp_path):
    more = {"stages.results.paired_choice": {**ASKED, "text": "picture_of"}}
    with pytest.raises(ConfigError, match="stage 'contrast' has no tower for 'picture_of'"):
        medmcl.pretrain(squares, out=tmp_path / "x", overrides={**QUICK, **more}, device="cpu")
    assert not (tmp_path / "x" / "checkpoint").exists()
    more = {"stages.results.paired_choice": {**ASKED, "models": {"a": "contrastt"}}}
    with pytest.raises(ConfigError, match="needs the stage 'contrastt'"):
        medmcl.pretrain(squares, out=tmp_path / "y", overrides={**QUICK, **more}, device="cpu")
    assert faults_of_models(read_recipe("clip_toy").expanded([]), {}) == []
