"""Multistage contrastive learning as a run: groups, resume, ranks, what stops or is refused."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from changed_files import changed_copy
from processes import assert_same_weights, pretrain_in_two
from short_runs import unreported, write_recipe
from sklearn.metrics import normalized_mutual_info_score

import medmcl
import medmcl.stages.run.pretrain
from medmcl.core.errors import ArtefactError, CohortError, ConfigError, MedmclError
from medmcl.data.loading.prepare import Prepared
from medmcl.data.loading.samplers import WithinGroupSampler
from medmcl.grouping import Groups
from medmcl.simulation.kinds import simulate
from medmcl.stages.cluster.column_groups import column_groups
from medmcl.stages.cluster.spec import GroupsSpec
from medmcl.stages.recipe.file import read_recipe
from medmcl.stages.run.ledger import run_ledger

STAGES = ("base", "stage_1", "stage_2")
TABLE = "participants.tsv"
AS_WRITTEN = {"dtype": str, "keep_default_na": False}
SMALL = {
    **{f"stages.{name}.steps": 6 for name in (*STAGES, "distilled")},
    **{f"stages.groups_{number}.clusters": 4 for number in (1, 2)},
    **{f"stages.groups_{number}.smallest": 6 for number in (1, 2)},
    **{f"stages.groups_{number}.stop": False for number in (1, 2)},
    "towers.record.encoder.hidden": 32,
    "stages.results.tasks": ["hard"],
    "stages.results.bootstrap_draws": 100,
    "stages.results.folds": "none",
}
ONE = {**SMALL, "stages.results.tasks": [], "stages.results.probe": None}
"""Without an evaluation."""


def pretrain(cohort, out, overrides=ONE, recipe="mcl_toy", **more):
    """Run without writing the report: its pictures would take most of the time of these tests."""
    return unreported(cohort, recipe=recipe, out=out, overrides=overrides, **more)


def reported(cohort, out, overrides=SMALL, recipe="mcl_toy", **more):
    return medmcl.pretrain(
        cohort, recipe=recipe, out=out, overrides=overrides, device="cpu", **more
    )


def vectors(run, cohort, stage):
    """What a stage makes of the vectors of a cohort, as columns."""
    return run.embed(cohort, modality="vector", stage=stage).filter(regex=r"^e\d+$").to_numpy()


def people_of(cohort):
    return pd.read_csv(cohort / TABLE, sep="\t").set_index("subject_id")


def with_vectors(cohort, folder, change):
    """A copy of a cohort of which the numbers of some vectors, by subject, are changed."""

    def changed(table):
        numbers = [column for column in table if column != "subject_id"]
        rows, value = change(table["subject_id"])
        table.loc[rows, numbers] = value

    return changed_copy(cohort, folder, "tables/vector.parquet", changed)


def facts(run, stage):
    return run.facts(stage)


def groups_of(run, stage):
    return run.artefact(stage, Groups)


@pytest.fixture(scope="module")
def factors(tmp_path_factory):
    return simulate(
        "trifactor", tmp_path_factory.mktemp("factors") / "f", {"subjects": 300, "levels": 4}
    )


@pytest.fixture(scope="module")
def run(factors, tmp_path_factory):
    drawn = {}
    whole = Prepared.batch

    def spy(self, rows, *args, **kwargs):
        drawn.setdefault(len(drawn), np.asarray(rows))
        return whole(self, rows, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Prepared, "batch", spy)
        found = reported(factors, tmp_path_factory.mktemp("run") / "r")
    found.drawn = list(drawn.values())
    return found


def test_labels_are_those_of_all_partitions_and_held_out_is_in_none(run, factors):
    first, second = groups_of(run, "groups_1"), groups_of(run, "groups_2")
    assert (first.labels == first.clusters).all()
    before = first.of(second.ids, "labels")
    assert (second.labels == 4 * before + second.clusters).all()
    people = people_of(factors)
    assert set(people.loc[first.ids, "split"]) == {"train", "tuning"}
    assert len(first) == (people["split"] != "held_out").sum()
    assert first.provenance["clusters"] == 4
    sizes = np.unique(second.groups[people.loc[second.ids, "split"] == "train"], return_counts=True)
    assert sizes[1].min() >= 6


def test_every_batch_of_a_later_stage_is_of_one_group(run, factors):
    ids = medmcl.open_cohort(factors).samples["sample"].astype(str).to_numpy()
    numbers = {name: groups_of(run, name).of(ids.tolist()) for name in ("groups_1", "groups_2")}
    whole = np.flatnonzero(numbers["groups_1"] >= 0)
    within = {
        name: [rows for rows in run.drawn if len(set(own[rows].tolist())) == 1 and len(rows) > 2]
        for name, own in numbers.items()
    }
    mixed = [rows for rows in run.drawn if len(set(numbers["groups_1"][rows].tolist())) > 1]
    assert len(within["groups_1"]) >= 6
    assert len(within["groups_2"]) >= 6
    assert mixed  # of base and distilled
    assert all(np.isin(rows, whole).all() for rows in within["groups_2"])


def test_what_is_joined_is_each_stage_at_unit_length(run, factors):
    wide, *parts = (vectors(run, factors, name) for name in ("joined", *STAGES))
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts]
    np.testing.assert_allclose(wide * 3**0.5, np.concatenate(unit, axis=1), atol=1e-5)
    assert facts(run, "joined")["parts"] == list(STAGES)
    assert vectors(run, factors, "distilled").shape[1] == parts[0].shape[1]


def test_the_distilled_encoder_starts_as_the_last_of_the_joined_ones(factors, tmp_path):
    slow = {"stages.distilled.optimiser.lr": 1e-12, "stages.distilled.steps": 1}
    found = pretrain(factors, tmp_path / "r", {**ONE, **slow})
    last, first = (
        found.checkpoints(name).weights("last")["model.towers.vector.encoder.leave.weight"]
        for name in ("distilled", "stage_2")
    )
    assert torch.allclose(last, first, atol=1e-6)


def test_other_starts_are_other_weights_and_the_same_again(run):
    first, second = (run.checkpoints(name).weights("last") for name in ("base", "stage_1"))
    name = "model.towers.vector.encoder.leave.weight"
    assert not torch.allclose(first[name], second[name], atol=0.05)


def test_the_report_and_the_ledger_tell_of_groups_and_of_every_stage(run):
    report = json.loads((run.path / "report.json").read_text())
    told = " ".join(report["notes"])
    assert "Stage groups_1: 210 train rows of base in clusters: 4 of vector" in told
    assert "negatives within" in told
    assert "Stage joined: concatenation of base, stage_1, stage_2" in told
    methods = {row["method"] for row in report["results"]}
    assert {"joined", "distilled", "one stage", "untrained"} <= methods
    lines = [line.what for line in run_ledger(run, ["distilled"])]
    assert {"weights of stage joined", "weights of stage base"} <= set(lines)
    assert "groups of stage groups_2, for negatives" in lines
    assert run.default_stage("vector") == "distilled"


@pytest.mark.parametrize("lost", ["base", "groups_1 unfinished", "groups_2", "joined"])
def test_a_run_killed_at_any_stage_goes_on_to_the_same_end(run, factors, tmp_path, lost):
    order = ["base", "groups_1", "stage_1", "groups_2", "stage_2", "joined", "distilled"]
    copy = shutil.copytree(run.path, tmp_path / "run")
    name, _, unfinished = lost.partition(" ")
    for later in order[order.index(name) :]:
        shutil.rmtree(copy / "checkpoint" / later)
        if later.startswith("groups") and not unfinished:
            (copy / "groups" / f"{later}.parquet").unlink()
    again = pretrain(factors, copy, SMALL, resume=True)
    assert_same_weights(run.path, again.path, [*STAGES, "joined", "distilled"])
    for stage in ("groups_1", "groups_2"):
        assert facts(again, stage)["fingerprint"] == facts(run, stage)["fingerprint"]


def test_lost_or_changed_groups_stop_the_run(run, factors, tmp_path):
    for number, spoil in enumerate(("gone", "changed")):
        copy = shutil.copytree(run.path, tmp_path / str(number))
        shutil.rmtree(copy / "checkpoint" / "stage_1")
        path = copy / "groups" / "groups_1.parquet"
        groups = groups_of(run, "groups_1")
        path.unlink()
        if spoil == "changed":
            moved = {**vars(groups), "groups": np.roll(groups.groups, 1)}
            Groups(**moved).save(path)
        with pytest.raises(ArtefactError, match=r"no such file|not what stage groups_1 wrote"):
            pretrain(factors, copy, SMALL, resume=True)


def test_what_held_out_rows_hold_changes_no_group_and_no_weight(run, factors, tmp_path):
    held_out = people_of(factors).query("split == 'held_out'").index
    cheated = with_vectors(factors, tmp_path / "f", lambda ids: (ids.isin(held_out), 0.5))
    again = pretrain(cheated, tmp_path / "r")
    for stage in ("groups_1", "groups_2"):
        one, two = groups_of(run, stage), groups_of(again, stage)
        assert (one.ids == two.ids).all()
        assert (one.groups == two.groups).all()
    assert_same_weights(run.path, again.path, STAGES)


def test_where_groups_get_too_small_later_stages_are_left_out_and_it_is_said(factors, tmp_path):
    stop = {"stages.groups_2.stop": True, "stages.groups_2.smallest": 60,
            "stages.distilled.objectives.distil.relations": 0.0}  # fmt: skip
    found = reported(factors, tmp_path / "r", {**SMALL, **stop})
    assert "groups too small" in facts(found, "groups_2")["stopped"]
    assert "groups too small" in facts(found, "stage_2")["skipped"]
    assert facts(found, "joined")["parts"] == ["base", "stage_1"]
    assert "skipped" not in facts(found, "distilled")
    told = " ".join(json.loads((found.path / "report.json").read_text())["notes"])
    assert "Stage stage_2 left out: groups_2: groups too small" in told
    width = found.embed(factors, modality="vector", stage="joined").filter(regex=r"^e\d+$").shape[1]
    assert width == 128
    again = pretrain(factors, tmp_path / "r", {**SMALL, **stop}, resume=True)
    assert_same_weights(found.path, again.path, ["base", "stage_1", "distilled"])


def test_what_names_a_stage_that_was_left_out_is_left_out_too_with_a_note(factors, tmp_path):
    given = {**SMALL, "stages.groups_1.stop": True, "stages.groups_1.smallest": 200,
             "stages.results.probe.models": {"second": "stage_1", "joined": "joined"}}  # fmt: skip
    found = reported(factors, tmp_path / "r", given)
    assert facts(found, "joined")["parts"] == ["base"]
    assert facts(found, "groups_2")["skipped"] == "stage_1 was left out"
    report = json.loads((found.path / "report.json").read_text())
    assert "second left out: stage stage_1 was not trained" in " ".join(report["notes"])
    assert "second" not in {row["method"] for row in report["results"]}
    (line,) = [one for one in report["headline"] if "Not every stage was trained" in one]
    assert "stage_1 (groups_1: groups too small" in line
    assert "stage_2 (" in line


def test_a_stage_that_adds_nothing_stops_the_next(factors, tmp_path):
    same = {**ONE, "stages.groups_2.stop": True, "stages.stage_1.start_from": {"record": "base"},
            "stages.stage_1.optimiser.lr": 1e-12}  # fmt: skip
    found = pretrain(factors, tmp_path / "r", same)
    said = facts(found, "groups_2")["stopped"]
    assert re.fullmatch(r"stage_1 adds 0\.\d %, less than 5 %", said), said
    assert facts(found, "joined")["parts"] == ["base", "stage_1"]


def test_placebo_groups_have_the_sizes_and_not_the_members(run, factors, tmp_path):
    found = pretrain(factors, tmp_path / "r", {**ONE, "stages.groups_1.placebo": True})
    real, dealt = groups_of(run, "groups_1"), groups_of(found, "groups_1")
    assert (real.groups != dealt.groups).any()
    people = people_of(factors)
    train = (people.loc[real.ids, "split"] == "train").to_numpy()
    sizes = [np.unique(g.groups[train], return_counts=True)[1].tolist() for g in (real, dealt)]
    assert sizes[0] == sizes[1]


def test_mixed_batches_train_on_every_row_with_negatives_of_its_group(factors, tmp_path):
    mixed = {"stage": "groups_1", "batches": "mixed"}
    found = pretrain(factors, tmp_path / "r", {**ONE, "stages.stage_1.groups": mixed})
    done = facts(found, "stage_1")
    assert (done["groups"], done["batch_size"], done["not_selected"]) == (4, 64, 0)
    assert done["best_tuning_loss"] is not None


def test_two_processes_train_as_one(factors, tmp_path):
    plain = {"in_modal": {"modality": "record", "views": ["plain", "augmented"]}}
    still = {"views.augmented.augment": {}, "views.augmented_2.augment": {},
             "towers.record.encoder.dropout": 0.0}  # fmt: skip
    given = {**ONE, **still, **{f"stages.{name}.objectives": plain for name in STAGES}}
    alone = pretrain(factors, tmp_path / "one", given)
    both = pretrain_in_two(factors, "mcl_toy", tmp_path / "two", given)
    for stage in (*STAGES, "joined", "distilled"):
        one, two = (r.checkpoints(stage).weights("last") for r in (alone, both))
        for name, value in one.items():
            torch.testing.assert_close(value, two[name], rtol=1e-3, atol=1e-4)
    for stage in ("groups_1", "groups_2"):
        assert (groups_of(alone, stage).groups == groups_of(both, stage).groups).mean() > 0.99


def test_more_clusters_than_rows_are_refused_before_anything_is_trained(factors, tmp_path):
    with pytest.raises(ConfigError, match="500 clusters of 210 train rows with vector"):
        pretrain(factors, tmp_path / "r", {**ONE, "stages.groups_1.clusters": 500})
    assert not (tmp_path / "r" / "checkpoint").exists()


def test_a_constant_embedding_is_refused_and_names_the_stage(factors, tmp_path):
    cohort = with_vectors(factors, tmp_path / "f", lambda ids: (ids.notna(), 1.0))
    with pytest.raises(MedmclError, match=r"stage groups_1, embeddings of base: every row has"):
        pretrain(cohort, tmp_path / "r")


COLUMNS = {"stages.grouped.steps": 3, "stages.plain.steps": 3, "stages.results.probe": None,
           "stages.results.confounders": [], "towers.record.encoder.hidden": 16}  # fmt: skip


def by_columns(cohort, out, **groups):
    models = {"stages.results.probe.models": {"grouped": "grouped"}}
    recipe = write_recipe(out.parent, "deconfound_toy", drop=["placebo"], set=models)
    return pretrain(cohort, out, {**COLUMNS, "stages.grouped.groups": groups}, recipe)


def with_site(factors, folder, site):
    def scanned(people):
        people["scanner"] = [site(number) for number in range(len(people))]

    return changed_copy(factors, folder, TABLE, scanned, **AS_WRITTEN)


def test_groups_of_columns_are_every_combination_and_small_ones_are_pooled(factors, tmp_path):
    cohort = with_site(factors, tmp_path / "f", lambda n: "rare" if n % 60 == 0 else f"s{n % 2}")
    found = by_columns(cohort, tmp_path / "r", columns=["scanner", "easy"], smallest=12)
    notes = " ".join(facts(found, "grouped")["notes"])
    assert "groups by scanner x easy" in notes
    assert "rare / " in notes
    assert "of fewer than 12 people pooled" in notes
    lines = [line.what for line in run_ledger(found, ["grouped"])]
    assert "negatives of stage grouped: of one scanner x easy" in lines


def test_missing_values_of_a_column_are_refused_unless_it_is_said_what_to_do(factors, tmp_path):
    cohort = with_site(factors, tmp_path / "f", lambda n: "" if n % 5 == 0 else f"s{n % 2}")
    with pytest.raises(CohortError, match=r"of 210 rows; scanner: (\d+)") as refused:
        by_columns(cohort, tmp_path / "a", columns=["scanner"])
    assert "groups.missing=leave_out" in str(refused.value)
    assert not (tmp_path / "a" / "checkpoint").exists()
    out = by_columns(cohort, tmp_path / "b", columns=["scanner"], missing="leave_out")
    own = by_columns(cohort, tmp_path / "c", columns=["scanner"], missing="group")
    left, kept = facts(out, "grouped"), facts(own, "grouped")
    assert left["rows"] + left["not_selected"] == kept["rows"] == 210
    assert (left["groups"], kept["groups"]) == (2, 3)
    assert f"{left['not_selected']} rows without a value: left out" in left["notes"]


def test_a_column_that_small_groups_give_up_is_warned_of(factors, tmp_path):
    cohort = with_site(factors, tmp_path / "f", lambda n: f"s{n % 3}")
    found = by_columns(cohort, tmp_path / "r", columns=["scanner", "easy"], smallest=40)
    notes = " ".join(facts(found, "grouped")["notes"])
    assert re.search(r"warning: easy is not one within the groups of 100 % of the rows", notes)
    assert "warning: scanner" not in notes


def test_groups_that_mean_nothing_have_the_sizes_of_those_of_columns(factors, tmp_path):
    recipe = read_recipe("deconfound_toy")
    assert recipe.stages[2].groups.placebo
    seen = {}
    for placebo in (False, True):
        spec = GroupsSpec(columns=["easy"], smallest=2, placebo=placebo)
        cohort = medmcl.open_cohort(factors)
        rows = np.flatnonzero(cohort.samples["split"] == "train")
        seen[placebo] = column_groups(spec, rows, cohort, "here", 0)[0][rows]
    assert sorted(np.bincount(seen[True])) == sorted(np.bincount(seen[False]))
    assert normalized_mutual_info_score(*seen.values()) < 0.1


def test_groups_of_a_column_that_means_none_are_refused_by_run_and_check(factors, tmp_path):
    many = with_site(factors, tmp_path / "f", lambda n: f"s{n}")
    for cohort, column, told in (
        (factors, "middle", "the groups are those of the task 'middle'"),
        (factors, "eazy", "did you mean 'easy'"),
        (many, "scanner", "300 values"),
    ):
        with pytest.raises(ConfigError, match=told):
            by_columns(cohort, tmp_path / "r", columns=[column])
    for key, value, told in (
        ("stages.grouped.groups", ["middle"], "those of the task 'middle'"),
        ("stages.grouped.groups", ["scaner"], "there is no column 'scaner'"),
        ("stages.results.confounders", ["scanner"], "there is no confounder 'scanner'"),
    ):
        findings = medmcl.check(factors, recipe="deconfound_toy", overrides={key: value})
        assert any(told in one.what for one in findings), told
    many = {"stages.groups_1.clusters": 5000}
    findings = medmcl.check(factors, recipe="mcl_toy", overrides=many)
    assert any("fewer rows than clusters" in one.what for one in findings)


def test_one_group_that_holds_nearly_all_is_warned_of(factors, tmp_path):
    cohort = with_site(factors, tmp_path / "f", lambda n: "b" if n < 3 else "a")
    found = by_columns(cohort, tmp_path / "r", columns=["scanner"], smallest=2)
    assert "one group holds" in " ".join(facts(found, "grouped")["notes"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"stages.groups_1.of": "bass"}, "did you mean 'base'"),
        ({"stages.groups_1.modality": "caption"}, "has no tower 'caption'"),
        ({"stages.groups_2.after": "groups_3"}, "needs the stage 'groups_3'"),
        ({"stages.stage_1.groups": "base"}, "'base' is no cluster stage"),
        ({"stages.stage_1.groups": {"stage": "groups_1", "columns": ["easy"]}}, "either `stage`"),
        ({"stages.joined.of": ["base", "base"]}, "stands twice"),
        ({"stages.joined.of": ["base", "groups_1"]}, "'groups_1' is no train stage"),
        ({"stages.distilled.teacher": None}, "nothing to learn from"),
        ({"stages.base.teacher": "joined"}, "needs the stage 'joined' before it"),
        (
            {"stages.stage_2.teacher": "base"},
            "has a teacher, and no objective that learns from it",
        ),
        (
            {"stages.results.maps": {"stage": "joined", "query": "record", "image": "record"}},
            "looked at in one stage, not in joined",
        ),
        (
            {
                "stages.stage_1.groups": {"stage": "groups_1", "batches": "mixed"},
                "stages.stage_1.objectives": {"gram": {"modalities": ["record"]}},
            },
            "cannot tell groups apart|at least",
        ),
    ],
)
def test_faults_of_a_recipe_are_told_before_anything_is_read(factors, tmp_path, changes, told):
    with pytest.raises(ConfigError, match=told):
        pretrain(factors, tmp_path / "r", {**ONE, **changes})
    assert not (tmp_path / "r").exists()


TWO = {
    **{f"stages.{name}.steps": 2 for name in (*STAGES, "distilled")},
    "stages.groups_1.clusters": 3,
    "stages.groups_1.smallest": 2,
    "stages.groups_2.modality": ["picture", "caption"],
    **{f"stages.results.{key}": None for key in ("probe", "retrieval", "zero_shot")},
    "stages.results.paired_choice": None,
}
"""Overrides of `mcl_clip_toy`: clusters of pictures and captions, and no evaluation."""


def test_clusters_of_two_modalities_are_products_or_side_by_side(factors, tmp_path):
    given = {
        **TWO,
        "stages.groups_1.modality": ["picture", "caption"],
        "stages.groups_2.together": "side_by_side",
        "stages.groups_2.stop": False,
        "stages.groups_2.clusters": "auto",
    }
    found = pretrain(factors, tmp_path / "r", given, "mcl_clip_toy")
    first, second = groups_of(found, "groups_1"), groups_of(found, "groups_2")
    assert first.provenance["clusters"] == 9
    assert set(first.clusters) <= set(range(9))
    number = second.provenance["clusters"]
    assert 2 <= number <= 20
    assert (second.labels == number * first.of(second.ids, "labels") + second.clusters).all()


def test_the_sampler_of_a_stage_with_columns_deals_one_group_a_batch(factors, tmp_path):
    seen = []
    whole = WithinGroupSampler.__call__

    def spy(self, epoch):
        for batch in whole(self, epoch):
            seen.append(batch)
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WithinGroupSampler, "__call__", spy)
        by_columns(factors, tmp_path / "r", columns=["easy"], smallest=2)
    samples = medmcl.open_cohort(factors).samples["subject"]
    people = people_of(factors)
    easy = people.loc[samples, "easy"].to_numpy()
    assert seen
    assert all(len(set(easy[batch])) == 1 for batch in seen)


def test_rows_without_a_modality_are_a_cluster_of_their_own_and_keep_earlier_labels(
    factors, tmp_path
):
    def untold(people):
        people.loc[::3, "caption"] = ""

    cohort = changed_copy(factors, tmp_path / "f", TABLE, untold, **AS_WRITTEN)
    given = {
        **TWO,
        **{f"stages.{name}.rows": "any" for name in (*STAGES, "distilled")},
        "stages.groups_2.clusters": 2,
        "stages.groups_2.smallest": 5,
        "stages.groups_2.adds": 0.0,
    }
    found = pretrain(cohort, tmp_path / "r", given, "mcl_clip_toy")
    people = people_of(cohort)
    first, second = groups_of(found, "groups_1"), groups_of(found, "groups_2")
    lacks = people.loc[second.ids, "caption"].isna().to_numpy()
    assert second.provenance["clusters"] == 2 * 3
    assert (second.clusters[lacks] % 3 == 2).all()
    assert (second.clusters[~lacks] % 3 < 2).all()
    assert (second.labels == 6 * first.of(second.ids, "labels") + second.clusters).all()
    done = facts(found, "stage_2")
    assert (done["rows"], done["alone_rows"], done["not_selected"]) == (210, 0, 0)
    assert "without caption: a cluster of their own" in " ".join(facts(found, "groups_2")["notes"])


def test_small_groups_of_columns_keep_the_column_that_has_few_values():
    from medmcl.stages.cluster.column_groups import pooled_columns

    site = np.array(["big"] * 40 + [f"s{n % 10}" for n in range(40)], dtype=object)
    sex = np.array(["f", "m"] * 40, dtype=object)
    groups, pooled = pooled_columns([site, sex], np.ones(80, dtype=bool), np.arange(80), 10)
    assert len(pooled) == 10
    assert len(np.unique(groups)) == 4
    assert all(len(set(sex[groups == one])) == 1 for one in np.unique(groups))
    assert all(len(set(site[groups == one])) in (1, 5) for one in np.unique(groups))
