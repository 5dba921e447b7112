"""Selection as a stage and as a command: on coloured squares, some with another's caption."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import small_squares
import torch
from changed_files import changed_copy, rewrite
from processes import assert_same_weights, pretrain_in_two
from read_pages import both_pages
from short_runs import unreported
from small_squares import write_squares

import medmcl
from medmcl.core.atomic import process_space
from medmcl.core.batch import InputShape
from medmcl.core.contracts import ModelShape
from medmcl.core.errors import ArtefactError, ConfigError, LeakageError, MedmclError
from medmcl.engine.checkpoint import Checkpoints
from medmcl.engine.loop import Learner
from medmcl.objectives import build_objective
from medmcl.selection import Keep, neg_clip_loss, norm_sim
from medmcl.stages.recipe.model_checks import faults_of_models
from medmcl.stages.run.ledger import run_ledger
from medmcl.stages.run.run import Run
from medmcl.stages.select.command import selection_of
from medmcl.stages.select.teachers import scored_by
from medmcl.stages.train.models import scale_of
from medmcl.stages.train.train_filter import folds_of, kept_rows

SEEING = {"kind": "differential", "pair": ["picture", "caption"], "share": 1.0, "warmup_epochs": 9}
"""Keeps every row, and its history tells which rows a stage was shown."""
SMALL = {
    **small_squares.SMALL,
    **{
        f"stages.{stage}.{key}": value
        for stage in ("teacher-{half}", "contrast")
        for key, value in {
            "batch_size": 24,
            "epochs": None,
            "steps": 12,
            "selector": SEEING,
        }.items()
    },
}
ONE = {
    **{k.replace("teacher-{half}", "contrast"): v for k, v in SMALL.items() if "teacher" not in k},
}


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    torch.set_num_threads(1)
    return write_squares(tmp_path_factory.mktemp("squares") / "cohort", people=144, side=48)


@pytest.fixture(scope="module")
def run(squares, tmp_path_factory):
    """The run that the tests share, with its report."""
    return medmcl.pretrain(
        squares, recipe="select_then_train_toy", out=tmp_path_factory.mktemp("runs") / "run",
        overrides=SMALL, device="cpu",
    )  # fmt: skip


def pretrain(squares, out, overrides=SMALL, recipe="select_then_train_toy", **more):
    return unreported(squares, recipe=recipe, out=out, overrides=overrides, **more)


def kept_alone(squares, out, keep, **more):
    """Train a stage on what a file keeps."""
    return pretrain(squares, out, ONE, "clip_toy", keep=keep, **more)


@pytest.fixture
def select(run, squares, tmp_path):
    """Select of a run as the command does, into k.parquet of a folder of the test."""

    def of(cohort=squares, out="k.parquet", by=(), **more):
        return medmcl.select(run, cohort, out=tmp_path / out, by=by, device="cpu", **more)

    return of


def other_squares(squares, folder, change, **read):
    """The cohort with another table."""
    return changed_copy(squares, folder, "pictures.csv", change, **read)


@pytest.fixture(scope="module")
def keep(run):
    return Keep.load(run.path / "selection" / "chosen.parquet")


def shown(run, stage):
    """Numbers of the samples that a stage was shown."""
    saved = Checkpoints(run.path / "checkpoint" / stage).resume(point=False)[1]["selector"]
    return saved["seen"].nonzero().flatten().numpy()


def facts(run, stage):
    return json.loads((run.path / "checkpoint" / stage / "done.json").read_text("utf-8"))


def test_each_teacher_is_trained_without_the_subjects_it_scores(run, squares):
    cohort = medmcl.open_cohort(squares)
    train = set(cohort.split("train").tolist())
    prepared = run.prepare(cohort, ("image", "caption"))
    fold = folds_of(prepared, 2, run.seed)
    for number in (0, 1):
        seen = set(shown(run, f"teacher-{number}").tolist())
        assert seen == {row for row in train if fold[row] != number}
        assert facts(run, f"teacher-{number}")["not_selected"] == len(train) - len(seen)


def test_scores_are_those_of_the_teacher_that_never_saw_the_row(run, squares, keep):
    cohort = medmcl.open_cohort(squares)
    prepared = run.prepare(cohort, ("image", "caption"))
    fold = folds_of(prepared, 2, run.seed)
    ids = cohort.samples["sample"].astype(str).to_numpy()
    train = cohort.split("train")
    np.testing.assert_array_equal(keep.ids, ids[train])
    tuning = cohort.split("tuning")
    for number in (0, 1):
        stage = f"teacher-{number}"
        sides = {
            name: run.embed(cohort, modality=name, stage=stage, space="pooled")
            .drop(columns="quality").to_numpy(np.float32)
            for name in ("image", "caption")
        }  # fmt: skip
        rows = train[fold[train] == number]
        objective = next(iter(run.learner(stage, torch.device("cpu")).objectives.values()))
        temperature = 1 / float(objective.scale().detach())
        expected = neg_clip_loss(
            sides["image"][rows], sides["caption"][rows], temperature, len(rows), divisions=1
        )
        at = np.searchsorted(train, rows)
        np.testing.assert_allclose(keep.scores["neg_clip_loss"][at], expected, atol=2e-6)
        near = norm_sim(sides["image"][rows], sides["image"][tuning], 2)
        np.testing.assert_allclose(keep.scores["norm_sim"][at], near, rtol=1e-5)
        best = np.argsort(-keep.scores["neg_clip_loss"][at], kind="stable")[: int(0.7 * len(at))]
        assert set(np.flatnonzero(keep.kept[at])) == set(best.tolist())


def test_the_stage_after_it_trains_on_kept_rows_only(run, squares, keep):
    ids = medmcl.open_cohort(squares).samples["sample"].astype(str).to_numpy()
    assert set(ids[shown(run, "contrast")]) == set(keep.kept_ids)
    found = facts(run, "contrast")
    assert found["rows"] == int(keep.kept.sum())
    assert found["not_selected"] == int((~keep.kept).sum())


def test_the_report_says_what_was_kept_and_of_what(run, keep):
    report = both_pages(run.path)
    assert f"{int(keep.kept.sum())} of 96 pairs kept" in report
    assert "best 70 % of the pool by neg_clip_loss" in report
    assert keep.provenance["teachers"]["teacher-0"]["rows"] > 0
    assert keep.provenance["config"]
    assert keep.cohort == run.config["cohort_fingerprint"]


def test_equal_captions_are_flagged(squares, keep):
    captions = pd.read_csv(squares / "pictures.csv").query("split == 'train'")["caption"]
    repeats = int(captions.duplicated().sum())
    first = keep.copies["exact_caption"]
    assert int((first != np.arange(len(first))).sum()) == repeats > 0
    assert {"exact_image", "exact_caption", "near"} == set(keep.copies)


@pytest.mark.parametrize("lost", ["selection", "done", "contrast"])
def test_a_run_killed_anywhere_goes_on_to_the_same_end(run, squares, tmp_path, lost):
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy)
    shutil.rmtree(copy / "checkpoint" / "contrast")
    if lost != "contrast":
        (copy / "checkpoint" / "chosen" / "done.json").unlink()
        (
            copy / "selection" / f".pool.{process_space()}-{2**30}-00000000.part"
        ).mkdir()  # of the dead
    if lost == "selection":
        (copy / "selection" / "chosen.parquet").unlink()
    again = pretrain(squares, copy, resume=True)
    assert_same_weights(run.path, again.path, ["contrast"])
    there = sorted(path.name for path in (copy / "selection").iterdir())
    assert there == ["chosen.parquet"]
    old, new = (Keep.load(one.path / "selection" / "chosen.parquet") for one in (run, again))
    np.testing.assert_array_equal(old.kept, new.kept)
    np.testing.assert_array_equal(old.scores["neg_clip_loss"], new.scores["neg_clip_loss"])


def test_the_command_repeats_the_run_and_pretrain_takes_its_file(run, squares, keep, tmp_path):
    out = tmp_path / "keep.parquet"
    found = medmcl.select(run, squares, out=out, device="cpu")
    again = Keep.load(out)
    np.testing.assert_array_equal(again.kept, keep.kept)
    assert again.rule == keep.rule
    assert not any("was trained on" in note for note in found.notes)
    table = pd.read_parquet(out)
    assert {"id", "kept", "score.neg_clip_loss", "rank.neg_clip_loss"} <= set(table.columns)
    best = table.sort_values("rank.neg_clip_loss").groupby("teacher").first()
    highest = table.groupby("teacher")["score.neg_clip_loss"].max()
    assert (best["score.neg_clip_loss"] == highest).all()
    made = kept_alone(squares, tmp_path / "kept", out)
    ids = medmcl.open_cohort(squares).samples["sample"].astype(str).to_numpy()
    assert set(ids[shown(made, "contrast")]) == set(keep.kept_ids)
    assert made.config["keep"] == again.fingerprint
    copied = Keep.load(made.path / "selection" / "given.parquet")
    assert copied.fingerprint == again.fingerprint
    replace(again, kept=~again.kept).save(out)
    with pytest.raises(ConfigError, match="other settings"):
        kept_alone(squares, tmp_path / "kept", out, resume=True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cohort": "another"}, "another cohort"),
        ({"kept": np.zeros(96, bool)}, "keeps no row"),
        ({"ids": np.array(["s0000", "nobody"]), "kept": np.ones(2, bool)}, "1 ids are unknown"),
        ("no table", "is not a readable keep file"),
    ],
)
def test_a_keep_file_of_another_cohort_or_that_keeps_nothing_is_refused(
    squares, keep, tmp_path, given, words
):
    out = tmp_path / "keep.parquet"
    if given == "no table":
        out.write_bytes(b"PAR1 no table")
    else:
        about = {"ids": keep.ids, "kept": keep.kept, "cohort": keep.cohort}
        Keep(**{**about, **given}, rule="?").save(out)
    with pytest.raises(MedmclError, match=words):
        kept_alone(squares, tmp_path / "a", out)
    assert not (tmp_path / "a").exists()


def test_filters_of_others_are_intersected_and_united(select, keep, tmp_path):
    listed, by = tmp_path / "ids.txt", ["clip_score:0.5"]
    listed.write_text("\n".join(keep.ids[:40]) + "\n")
    keep.save(tmp_path / "own.parquet")
    found = select(by=by, also=[listed], or_else=[tmp_path / "own.parquet"])
    alone = select(out="a.parquet", by=by)
    first = np.arange(len(keep)) < 40
    np.testing.assert_array_equal(found.keep.kept, (alone.keep.kept & first) | keep.kept)
    assert "40 ids given" in found.keep.rule
    rest = next(one for one in alone.keep.ids[~alone.keep.kept])
    for name, words in ((rest, "keep no pair"), ("nobody", "unknown to the cohort")):
        listed.write_text(f"{name}\n")
        with pytest.raises(MedmclError, match=words):
            select(out="b.parquet", by=by, also=[listed])
    assert not (tmp_path / "b.parquet").exists()


def test_norm_sim_near_to_another_cohort(select, squares, tmp_path):
    other = other_squares(squares, tmp_path / "red", lambda table: table[table["colour"] == "red"])
    same = {"split": "train", "task": "colour", "label": "red"}
    found, again = (
        select(by=["norm_sim:0.3"], overrides={"select.scores.norm_sim.target": target}, out=out)
        for target, out in (({"cohort": str(other)}, "k.parquet"), (same, "l.parquet"))
    )
    told = found.keep.provenance["teachers"]["teacher-0"]["target of norm_sim"]
    assert told == {"cohort": "red", "rows": 32}
    np.testing.assert_array_equal(found.keep.kept, again.keep.kept)


@pytest.mark.parametrize("renamed", [False, True])
def test_a_target_of_people_who_are_held_out_here_is_refused(select, squares, tmp_path, renamed):
    other = shutil.copytree(squares, tmp_path / "other")
    table = pd.read_csv(other / "pictures.csv", dtype=str)
    theirs = table["split"] == "held_out"
    table["split"] = "train"
    if renamed:  # the same pictures by other names
        for name in table["subject_id"]:
            (other / "images" / f"{name}.png").rename(other / "images" / f"other-{name}.png")
        table["subject_id"] = "other-" + table["subject_id"]
    table.to_csv(other / "pictures.csv", index=False)
    asked = {"by": ["norm_sim:0.3"], "target": other}
    with pytest.raises(LeakageError) as error:
        select(**asked)
    said = str(error.value)
    assert f"{theirs.sum()} of {len(table)} rows of other" in said
    assert f"{0 if renamed else theirs.sum()} subjects by their id" in said
    assert f"{theirs.sum()} rows by their image" in said
    assert "leave them out of the target cohort" in said
    if renamed:  # equal captions are no sign of one person
        select(overrides={"select.scores.norm_sim.modality": "caption"}, **asked)


def test_a_target_cohort_that_calls_the_modality_otherwise_is_refused(select, squares, tmp_path):
    def renamed(tree):
        tree["modalities"]["photo"] = tree["modalities"].pop("image")

    other = changed_copy(squares, tmp_path / "other", "cohort.yaml", renamed)
    with pytest.raises(ConfigError) as error:
        select(by=["norm_sim:0.3"], target=other)
    assert "stage chosen, scores.norm_sim.target" in str(error.value)
    assert "call it 'image'" in str(error.value)


NAMED = {
    "select.scores": {"near": {"kind": "norm_sim", "p": 3, "modality": "caption"},
                      "fit": {"kind": "clip_score"}},
    "select.rule": [{"by": "near", "share": 0.5}],
}  # fmt: skip


def test_a_target_is_that_of_every_norm_sim_that_the_rule_reads(run):
    spec = selection_of(run, (), None, (), NAMED, target="there")
    assert spec.scores["near"].target.model_dump() == {
        "cohort": "there", "split": None, "task": None, "label": None
    }  # fmt: skip
    more = {**NAMED, "select.scores.near.target": {"task": "colour"}}
    assert selection_of(run, (), None, (), more, target="there").scores["near"].target.task
    by = selection_of(run, ("norm_sim:0.5",), None, (), {}, target="there")
    assert by.scores["norm_sim"].target.cohort == "there"
    assert by.scores["norm_sim"].target.split is None
    unread = {**NAMED, "select.rule": [{"by": "fit", "share": 0.5}]}
    with pytest.raises(ConfigError, match="reads no norm_sim"):
        selection_of(run, (), None, (), unread, target="there")


def test_a_step_by_kind_keeps_the_settings_of_the_score_of_that_kind(run, tmp_path):
    path = tmp_path / "run"

    def named(tree, **more):
        chosen = next(one for one in tree["recipe"]["stages"] if one["name"] == "chosen")
        chosen["scores"] = {**NAMED["select.scores"], **more}
        chosen["rule"] = NAMED["select.rule"]

    changed_copy(run.path, path, "config.yaml", named)
    spec = selection_of(Run(path), ("norm_sim:0.3",), None, (), {})
    assert (spec.scores["norm_sim"].p, spec.scores["norm_sim"].modality) == (3, "caption")
    rewrite(path / "config.yaml", lambda tree: named(tree, nearer={"kind": "norm_sim"}))
    with pytest.raises(ConfigError, match="several scores of kind norm_sim"):
        selection_of(Run(path), ("norm_sim:0.3",), None, (), {})


def test_ids_of_a_filter_that_are_not_in_the_pool_are_counted(select, squares, keep, tmp_path):
    cohort = medmcl.open_cohort(squares)
    ids = cohort.samples["sample"].astype(str).to_numpy()
    everybody = Keep(
        ids=ids, kept=np.ones(len(ids), bool), rule="all", cohort=cohort.fingerprint
    )  # fmt: skip
    everybody.save(tmp_path / "all.parquet")
    (tmp_path / "all.txt").write_text("\n".join(ids) + "\n")
    found = select(also=[tmp_path / "all.parquet"], or_else=[tmp_path / "all.txt"])
    left = len(ids) - len(keep)
    assert left > 0
    assert found.keep.kept.all()
    for name in ("all.parquet", "all.txt"):
        assert f"{left} ids of {name} are not in the pool" in found.notes
    assert f"{left} ids of all.txt are not in the pool" in (tmp_path / "k.html").read_text("utf-8")


def test_ids_that_are_numbers_are_compared_as_texts():
    keep = Keep(ids=np.array([1, 2]), kept=np.array([True, False]), rule="all", cohort="c")
    assert keep.among(["3", "2", "1"], "c").tolist() == [False, False, True]
    with pytest.raises(ArtefactError, match="1 ids are unknown"):
        keep.among(["2", "3"], "c")


@pytest.mark.parametrize("per_pair", [False, True])
def test_the_temperature_is_that_of_the_pair(per_pair):
    """A scale of one modality with itself, or of other pairs, is not the pair's."""
    table = InputShape(kind="tabular", shape=(4,))
    shape = ModelShape(inputs=dict.fromkeys("abc", table), widths=dict.fromkeys("abc", 8))
    given = {
        "own": ("in_modal", {"modality": "a", "scale": {"init": 5}}),
        "others": ("cross_modal", {"pairs": [["a", "c"]], "scale": {"init": 7}}),
        "right": ("cross_modal", {"pairs": [["c", "b"], ["a", "b"]], "scale": {"init": 9},
                                  "scale_per_pair": per_pair}),
    }  # fmt: skip
    objectives = {name: build_objective(*one, shape) for name, one in given.items()}
    if per_pair:
        objectives["right"].scales["c~b"].log.data.fill_(0.0)
    learner = Learner(torch.nn.Identity(), objectives, dict.fromkeys(objectives, 1.0))
    for pair in (("a", "b"), ("b", "a")):
        assert scale_of(learner, pair)().item() == pytest.approx(9)
    assert scale_of(learner, ("a", "c"))().item() == pytest.approx(7)
    assert scale_of(learner, ("b", "c"))().item() == pytest.approx(1 if per_pair else 9)
    only = Learner(torch.nn.Identity(), {"own": objectives["own"]}, {"own": 1.0})
    assert scale_of(only, ("a", "b")) is None


def test_norm_sim_dynamic_needs_no_target(select):
    more = {"overrides": {"select.scores.norm_sim_dynamic.rounds": 4}}
    found = select(by=["norm_sim_dynamic:0.5"], **more)
    assert found.keep.kept.sum() == sum(
        part["rows"] // 2 for part in found.keep.provenance["teachers"].values()
    )


def test_one_teacher_of_everybody_is_warned_of(run, select):
    count = facts(run, "contrast")["rows"]
    said = f"warning: the teacher was trained on {count} of the rows"
    assert any(said in one for one in select(stages=["contrast"]).notes)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"by": ["clip_scor:0.3"]}, "did you mean 'clip_score'?"),
        ({"by": ["clip_score:30"]}, "at most 1"),
        ({"by": ["clip_score"]}, "KIND:SHARE"),
        ({"by": ["clip_score:0.3", "norm_sim:0.5"]}, "more than the steps before have left"),
        ({"by": ["clip_score:0.001"]}, "is no row"),
        ({"stages": ["teacher-0"]}, "another fold"),
        ({"stages": ["chosen"]}, "stage 'chosen' (select) gives no embeddings"),
        ({"pair": ["image", "image"]}, "two different modalities"),
        ({"pair": ["image", "txt"]}, "unknown modality of the run 'txt'"),
        ({"overrides": {"select.scores.norm_sim.target": {"task": "colour", "label": "pink"}},
          "by": ["norm_sim:0.5"]}, "no label 'pink'"),
        ({"overrides": {"select.rule": [{"by": "x", "share": 1}]}}, "there is no score 'x'"),
        ({"overrides": {"select.near": 3}}, "near"),
        ({"overrides": {"stages.x": 3}}, "reads none"),
        ({"out": "k.csv"}, "k.parquet"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_for_is_said_plainly(select, tmp_path, more, words):
    with pytest.raises(MedmclError) as error:
        select(**more)
    assert words in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_cohort_without_train_pairs_has_no_pool(select, squares, tmp_path):
    other = other_squares(
        squares, tmp_path / "other", lambda table: table.replace("train", "tuning")
    )
    with pytest.raises(ConfigError, match="at least 2 pairs") as error:
        select(other)
    assert "0 train samples with image and caption" in str(error.value)


def test_a_fold_with_one_pair_is_named(run, select, squares, tmp_path):
    table = pd.read_csv(squares / "pictures.csv")
    prepared = run.prepare(medmcl.open_cohort(squares), ("image", "caption"))
    fold = folds_of(prepared, 2, run.seed)
    train = np.flatnonzero(table["split"] == "train")
    few = np.concatenate([train[fold[train] == 0][:3], train[fold[train] == 1][:1]])
    table.loc[np.setdiff1d(train, few), "split"] = "tuning"
    other = other_squares(squares, tmp_path / "other", lambda _: table)
    with pytest.raises(ConfigError, match="for teacher-1 to score") as error:
        select(other)
    assert "1 of them in fold 1 of 2, the one that teacher-1 was trained without" in str(
        error.value
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stages.chosen.teachers": ["teacher-0"]}, "another fold"),
        ({"stages.chosen.teachers": ["teacher-2", "teacher-1"]}, "teacher-2"),
        ({"stages.chosen.pair": ["picture", "words"]}, "words"),
        ({"stages.contrast.selected_by": "chosn"}, "chosn"),
        ({"stages.contrast.selected_by": "teacher-0"}, "no select stage before it"),
        ({"stages.teacher-{half}.folds": 3}, "another fold"),
        ({"stages.teacher-{half}.for_each": {"half": [0, 2]}}, "teacher-1"),
        ({"stages.contrast.without_fold": 2}, "no such fold"),
        ({"stages.chosen.scores.norm_sim.target": {"task": "colour", "label": "pink"}},
         "no label 'pink'"),
        ({"stages.chosen.scores.norm_sim.target": {"cohort": "no such cohort"}}, "no such cohort"),
        ({"stages.chosen.rule": [{"by": "neg_clip_loss", "share": 0.3},
                                 {"by": "norm_sim", "share": 0.5}]}, "steps before have left"),
        ({"stages.chosen.rule": [{"by": "neg_clip_loss", "share": 0.001}]}, "is no row"),
        ({"stages.chosen.scores": {"neg_clip_loss": {}, "agreed": {"kind": "norm_sim_dynamic"}},
          "stages.chosen.rule": [{"by": "neg_clip_loss", "at_least": 5},
                                 {"by": "agreed", "share": 0.5},
                                 {"by": "neg_clip_loss", "share": 0.6}]}, "steps before have left"),
        ({"stages.teacher-{half}.objectives":
          {"in_modal": {"modality": "picture", "views": ["plain", "augmented"]}}},
         "no temperature of its own"),
        ({"stages.chosen.rule": [{"by": "neg_clip_loss"}]}, "say one"),
        ({"stages.chosen.rule": [{"by": ["neg_clip_loss", "norm_sim"], "at_least": 0}]},
         "fused ranks have no scale"),
        ({"stages.chosen.scores.norm_sim.kind": "norm_sim_dynamic",
          "stages.chosen.scores.norm_sim.target": None}, "known: kind, modality, rounds"),
    ],
)  # fmt: skip
def test_a_recipe_that_could_not_select_is_refused_before_training(
    squares, tmp_path, change, words
):
    with pytest.raises(MedmclError) as error:
        pretrain(squares, tmp_path / "run", overrides={**SMALL, **change})
    assert words in str(error.value)
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_a_teacher_that_comes_from_a_stage_which_saw_its_fold_is_refused(run, squares):
    prepared = run.prepare(medmcl.open_cohort(squares), ("image", "caption"))
    spec, made = run.spec("chosen"), run.stages

    def ask(origin, key="start_from", **first):
        """Rows by teacher; teacher-0 starts from ``origin``, after stages of these settings."""
        plain = made["contrast"].model_copy(update={"selected_by": None})
        before = {
            name: plain.model_copy(update={"name": name, **told}) for name, told in first.items()
        }
        taught = made["teacher-0"].model_copy(update={key: {"image": origin}})
        stages = {**before, "teacher-0": taught, "teacher-1": made["teacher-1"]}
        recipe = run.recipe.model_copy(update={"stages": (*stages.values(), spec)})
        kinds = {"image": "image", "caption": "text"}
        assert ("which was trained on it" in str(faults_of_models(recipe, kinds))) == refused
        rows = prepared.rows("train", spec.wanted)
        return scored_by(spec, stages, prepared, run.seed, rows)

    refused = False
    assert set(ask("a", a={"without_fold": 0})) == {"teacher-0", "teacher-1"}
    refused = True
    half = {"without_fold": 0, "start_from": {"image": "a"}}
    for origin, key, before in (
        ("a", "start_from", {"a": {}}),
        ("a", "vectors", {"a": {}}),
        ("a", "start_from", {"a": {"without_fold": 1}}),
        ("a", "start_from", {"a": {"without_fold": 0, "folds": 3}}),
        ("b", "start_from", {"a": {}, "b": half}),
    ):
        with pytest.raises(ConfigError, match="starts from stage 'a', which was trained on it"):
            ask(origin, key, **before)


def test_a_run_without_select_stage_selects_by_the_published_share(run, tmp_path):
    def unselected(tree):
        stages = [one for one in tree["recipe"]["stages"] if one["stage"] != "select"]
        for one in stages:
            one |= {"selected_by": None} if one["stage"] == "train" else {}
        tree["recipe"]["stages"] = stages

    plain = changed_copy(run.path, tmp_path / "plain", "config.yaml", unselected)
    spec = selection_of(Run(plain), (), None, (), {})
    assert (spec.teachers, spec.pair) == (("contrast",), ("image", "caption"))
    assert [(step.by, step.share) for step in spec.rule] == [("neg_clip_loss", 0.3)]


def test_two_processes_select_as_one(squares, tmp_path):
    plain = {
        "cross_modal": {"pairs": [["picture", "caption"]], "loss": "info_nce", "view": "plain"}
    }
    changes = {
        f"stages.{stage}.{key}": value
        for stage in ("teacher-{half}", "contrast")
        for key, value in {"objectives": plain, "steps": 4}.items()
    }
    given = {**SMALL, **changes, "stages.results.retrieval": None, "stages.results.zero_shot": None}
    alone = pretrain(squares, tmp_path / "one", overrides=given)
    both = pretrain_in_two(squares, "select_then_train_toy", tmp_path / "two", given)
    one, two = (Keep.load(run.path / "selection" / "chosen.parquet") for run in (alone, both))
    np.testing.assert_array_equal(one.ids, two.ids)
    scores = one.scores["neg_clip_loss"]
    np.testing.assert_allclose(scores, two.scores["neg_clip_loss"], atol=2e-5)
    assert scores.std() > 1e-3
    assert (one.kept != two.kept).sum() <= 2  # a rounding apart, at the border
    assert facts(both, "contrast")["rows"] == int(two.kept.sum())


def test_a_lost_or_changed_selection_stops_the_run_instead_of_training_on_everybody(
    run, squares, keep, tmp_path
):
    for number, spoil in enumerate(("gone", "changed")):
        copy = shutil.copytree(run.path, tmp_path / str(number))
        shutil.rmtree(copy / "checkpoint" / "contrast")
        path = copy / "selection" / "chosen.parquet"
        path.unlink()
        if spoil == "changed":
            replace(keep, kept=~keep.kept).save(path)
        with pytest.raises(ArtefactError, match=r"no such file|is not what stage chosen wrote"):
            pretrain(squares, copy, resume=True)


def test_a_run_keeps_to_the_file_it_was_given_and_tells_its_labels(select, squares, tmp_path):
    out = tmp_path / "keep.parquet"
    target = {"split": "train", "task": "colour", "label": "red"}
    more = {"select.scores.norm_sim.target": target, "select.shown": 1}
    select(out="keep.parquet", by=["norm_sim:0.5"], overrides=more)
    first = Keep.load(out)
    given = {**SMALL, "stages.results.retrieval": None, "stages.results.zero_shot": None}
    made = medmcl.pretrain(
        squares, recipe="select_then_train_toy", out=tmp_path / "run", overrides=given, keep=out,
        device="cpu",
    )  # fmt: skip
    pool = Keep.load(made.path / "selection" / "chosen.parquet")
    assert set(pool.ids) == set(first.kept_ids)  # what the file leaves out is not scored either
    line = next(one for one in run_ledger(made, ["contrast"]) if "--keep" in one.what and one.task)
    assert (line.task, line.splits, line.labels) == ("colour", ("train",), True)
    assert "with the label red" in line.note
    provenance = json.loads((made.path / "provenance.json").read_text("utf-8"))
    assert provenance["parents"][0]["rule"] == first.rule
    assert "Selection of pairs, --keep" in both_pages(made.path)
    out.unlink()
    shutil.rmtree(made.path / "checkpoint" / "contrast")
    again = pretrain(squares, made.path, overrides=given, resume=True)
    assert facts(again, "contrast")["rows"] == int(pool.kept.sum())


def test_ranks_and_the_choice_agree_though_two_teachers_scored(keep):
    ranks = keep.ranks["neg_clip_loss"]
    assert sorted(ranks.tolist()) == list(range(1, len(keep) + 1))
    assert ranks[keep.kept].max() <= int(keep.kept.sum()) + 1
    for part in set(keep.parts):
        own = keep.parts == part
        order = np.argsort(ranks[own])
        assert (np.diff(keep.scores["neg_clip_loss"][own][order]) <= 0).all()


def test_a_selection_holds_for_the_stage_that_names_it_and_keep_for_unlabelled_ones(
    run, squares, keep, tmp_path
):
    replace(keep, kept=~keep.kept).save(tmp_path / "others.parquet")
    prepared = run.prepare(medmcl.open_cohort(squares), ("image", "caption"))
    rows = prepared.rows("train")
    ids = prepared.samples["sample"].astype(str).to_numpy()
    plain = run.stage("contrast").model_copy(update={"selected_by": None})

    def drawn(given, **told):
        keep = given and Keep.load(tmp_path / "others.parquet")
        own = SimpleNamespace(seed=0, given_keep=keep, artefact=run.artefact)
        context = SimpleNamespace(run=own)
        left = kept_rows(rows, plain.model_copy(update=told), prepared, context)
        return set(ids[left])

    everyone, chosen = set(ids[rows]), set(keep.kept_ids)
    assert drawn(None) == drawn(None, task="colour") == everyone
    assert drawn(True) == everyone - chosen
    assert drawn(True, task="colour") == everyone  # labels are not judged by a file of pairs
    assert drawn(None, selected_by="chosen") == chosen
    assert drawn(None, selected_by="chosen", task="colour") == chosen
    with pytest.raises(ConfigError, match="keeps none of the rows"):
        drawn(True, selected_by="chosen")
