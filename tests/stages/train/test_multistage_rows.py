"""Which rows, and which of their vectors, the parts of multistage learning read."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from begun_runs import context_in
from changed_files import changed_copy, rewrite
from short_runs import unreported, write_recipe

import medmcl
import medmcl.stages.cluster.cluster
import medmcl.stages.run.pretrain
from medmcl.core.batch import distill_target
from medmcl.data.loading.samplers import UniformSampler
from medmcl.engine.signals import StopRequest
from medmcl.grouping import Groups
from medmcl.grouping.clusters import unit_rows
from medmcl.simulation.kinds import simulate
from medmcl.stages.cluster.spec import ClusterSpec
from medmcl.stages.run.training import run_stage
from medmcl.stages.train.distill_targets import teacher_embeddings
from medmcl.stages.train.grouped_rows import RowGroups, alone_share, tuning_in_groups

NAMES = ("vector", "caption")
TABLE, VECTORS = "participants.tsv", "tables/vector.parquet"
STAGES = (
    "base", "groups_1", "stage_1", "groups_2", "stage_2", "joined", "distilled", "results"
)  # fmt: skip


def trained(cohort, folder, groups):
    """Train some stages of the recipe alone, three steps each: stage to its groups."""
    changes = {"towers.picture.encoder.hidden": 32, "towers.caption.encoder.width": 16}
    for name, given in groups.items():
        changes |= {f"stages.{name}.steps": 3, f"stages.{name}.groups": given}
    drop = [name for name in STAGES if name not in groups]
    recipe = write_recipe(folder, "mcl_clip_toy", drop=drop, set=changes)
    return unreported(cohort, recipe=recipe, out=folder / "run")


@pytest.fixture(scope="module")
def factors(tmp_path_factory):
    settings = {"subjects": 240, "levels": 4, "tuning": 0.2}
    return simulate("trifactor", tmp_path_factory.mktemp("factors") / "f", settings)


@pytest.fixture(scope="module")
def run(factors, tmp_path_factory):
    """Two stages that start from other weights, without groups."""
    return trained(factors, tmp_path_factory.mktemp("run"), {"base": None, "stage_1": None})


@pytest.fixture(scope="module")
def lacking(factors, tmp_path_factory):
    """The cohort, where every fourth subject has no vector, and every third no caption."""
    folder = tmp_path_factory.mktemp("lacking") / "f"
    people = pd.read_csv(factors / TABLE, sep="\t", dtype=str, keep_default_na=False)
    fourth = people["subject_id"][::4]
    people.loc[::3, "caption"] = ""
    changed_copy(factors, folder, TABLE, lambda _: people)
    rewrite(folder / VECTORS, lambda table: table[~table["subject_id"].isin(fourth)])
    return folder


def split_of(cohort):
    return pd.read_csv(cohort / TABLE, sep="\t").set_index("subject_id")["split"]


def context_of(run, folder, specs=()):
    """A copy of the run in which more stages can be run."""
    shutil.copytree(run.path, folder)
    recipe = run.recipe.model_copy(update={"stages": (*run.recipe.stages, *specs)})
    return context_in(folder, recipe, StopRequest(), like=run.config)


def spec_of(name, of, modality="vector", **more):
    given = {"clusters": 4, "smallest": 2, "stop": False, **more}
    return ClusterSpec(stage="cluster", name=name, of=of, modality=modality, **given)


class Clustered:
    """What cluster stages make of a cohort with the towers of a run.

    Attributes:
        groups: Name of a stage to its groups.
        facts: Name of a stage to its facts.
        fits: Name of a stage to the vectors that K-means was given, each time.
        centres: Name of a stage to the centres that it found, each time.
    """

    def __init__(self, run, cohort, folder, *specs):
        self.groups, self.facts, self.fits, self.centres = {}, {}, {}, {}
        context = context_of(run, folder, specs)
        prepared = run.prepare(medmcl.open_cohort(cohort), NAMES)
        whole = medmcl.stages.cluster.cluster.kmeans
        for spec in specs:
            fits = self.fits[spec.name] = []
            centres = self.centres[spec.name] = []

            def spy(vectors, *args, fits=fits, centres=centres, **kwargs):
                found = whole(vectors, *args, **kwargs)
                fits.append(vectors)
                centres.append(found.centres)
                return found

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(medmcl.stages.cluster.cluster, "kmeans", spy)
                self.facts[spec.name] = run_stage(spec, prepared, context)
            self.groups[spec.name] = context.run.artefact(spec.name, Groups)


def embedded(run, cohort, modality, stage, space="features"):
    """Embeddings by subject, of those who have the modality."""
    found = run.embed(cohort, modality=modality, stage=stage, space=space)
    return found[found["quality"] == "ok"].filter(regex=r"^e\d+$").droplevel("record")


def test_clusters_are_of_train_rows_that_have_the_modality_and_of_no_others(run, lacking, tmp_path):
    """Rows of tuning, or zeros in the place of what is absent, would pull the centres."""
    found = Clustered(run, lacking, tmp_path / "r", spec_of("groups", "base", NAMES))
    split = split_of(lacking)
    for name, fitted in zip(NAMES, found.fits["groups"], strict=True):
        wanted = embedded(run, lacking, name, "base")
        wanted = wanted[split[wanted.index] == "train"]
        assert 50 < len(wanted) < (split == "train").sum()
        np.testing.assert_allclose(fitted, wanted.to_numpy(), atol=1e-6)


def test_what_tuning_rows_hold_changes_no_centre_and_no_group_of_train_rows(run, factors, tmp_path):
    split = split_of(factors)

    def turned(table):
        numbers = [column for column in table if column != "subject_id"]
        table.loc[(split[table["subject_id"]] == "tuning").to_numpy(), numbers] *= -2.0

    cheated = changed_copy(factors, tmp_path / "f", VECTORS, turned)
    spec = spec_of("groups", "base")
    one = Clustered(run, factors, tmp_path / "one", spec)
    two = Clustered(run, cheated, tmp_path / "two", spec)
    np.testing.assert_allclose(one.centres["groups"], two.centres["groups"], atol=1e-6)
    before, after = one.groups["groups"], two.groups["groups"]
    train = (split[before.ids] == "train").to_numpy()
    assert (before.ids == after.ids).all()
    assert (before.groups[train] == after.groups[train]).all()
    assert (before.groups[~train] != after.groups[~train]).any()  # they were changed


def test_the_space_that_is_named_is_the_one_that_is_clustered(run, factors, tmp_path):
    specs = [spec_of(space, "base", space=space) for space in ("features", "pooled")]
    found = Clustered(run, factors, tmp_path / "r", *specs)
    split = split_of(factors)
    for space in ("features", "pooled"):
        wanted = embedded(run, factors, "vector", "base", space)
        wanted = wanted[split[wanted.index] == "train"].to_numpy()
        assert wanted.shape[1] == {"features": 64, "pooled": 32}[space]
        np.testing.assert_allclose(found.fits[space][0], wanted, atol=1e-6)
        assert found.centres[space][0].shape[1] == wanted.shape[1]


def test_side_by_side_every_modality_counts_the_same_and_rows_need_all(run, lacking, tmp_path):
    """Without unit rows the modality of the longer vectors would make the clusters alone."""
    spec = spec_of("groups", "base", NAMES, together="side_by_side")
    found = Clustered(run, lacking, tmp_path / "r", spec)
    split = split_of(lacking)
    vector, caption = (embedded(run, lacking, name, "base") for name in NAMES)
    both = [one for one in vector.index if one in caption.index and split[one] == "train"]
    parts = [part.loc[both].to_numpy() for part in (vector, caption)]
    lengths = [np.linalg.norm(part, axis=1).mean() for part in parts]
    assert max(lengths) > 1.5 * min(lengths)
    beside = np.concatenate([unit_rows(part) for part in parts], axis=1)
    (fitted,) = found.fits["groups"]
    np.testing.assert_allclose(unit_rows(fitted), unit_rows(beside), atol=1e-6)


def test_small_groups_join_one_of_the_same_earlier_label(run, factors, tmp_path):
    """The earlier labels are dealt out at random: the nearest group is mostly of another one."""
    first = spec_of("groups_1", "base", clusters=3, placebo=True)
    second = spec_of("groups_2", "stage_1", clusters=8, smallest=12, after="groups_1")
    found = Clustered(run, factors, tmp_path / "r", first, second)
    groups = found.groups["groups_2"]
    train = (split_of(factors)[groups.ids] == "train").to_numpy()
    before = found.groups["groups_1"].of(groups.ids, "labels")
    assert np.unique(before[train], return_counts=True)[1].min() >= 12
    assert len(np.unique(groups.labels[train])) > len(np.unique(groups.groups[train])) + 5
    for one in np.unique(groups.groups[train]):
        assert len(np.unique(before[train & (groups.groups == one)])) == 1


def test_a_stage_that_repeats_the_first_of_several_adds_nothing(run, factors, tmp_path):
    """Beside the stage just before it, it adds a lot; the rule must look at all of them."""
    first = spec_of("first", "base")
    told = {"stop": True, "adds": 0.05}
    found = Clustered(
        run, factors, tmp_path / "r",
        first,
        spec_of("second", "stage_1", after="first"),
        spec_of("third", "base", after="second", clusters=2, **told),
        spec_of("second_alone", "stage_1"),
        spec_of("beside_second", "base", after="second_alone", clusters=2, **told),
    )  # fmt: skip
    assert "base adds" in found.facts["third"]["stopped"]
    assert "stopped" not in found.facts["beside_second"]


@pytest.mark.parametrize("space", ["features", "pooled"])
def test_every_row_is_taught_what_the_teacher_makes_of_that_row(run, lacking, tmp_path, space):
    """Rows of tuning too; nothing of held_out, and nothing where the modality is absent."""
    spec = run.stage("stage_1").model_copy(update={"teacher": "base"})
    prepared = run.prepare(medmcl.open_cohort(lacking), NAMES)
    lessons = teacher_embeddings(spec, prepared, context_of(run, tmp_path / "r"))
    subjects = prepared.samples["subject"].astype(str)
    split = split_of(lacking)
    for name in NAMES:
        values, known = lessons[distill_target(name, space)][:2]
        wanted = embedded(run, lacking, name, "base", space)
        wanted = wanted[split[wanted.index] != "held_out"]
        assert set(subjects[known[:, 0]]) == set(wanted.index)
        if space == "features":  # of which the variances of train rows sum to 1
            train = wanted[split[wanted.index] == "train"]
            wanted = wanted / train.var(ddof=0).sum() ** 0.5
        np.testing.assert_allclose(
            values[known[:, 0]], wanted.loc[subjects[known[:, 0]]].to_numpy(), atol=1e-5
        )


def test_tuning_batches_are_of_the_rows_of_one_group_each():
    """Every batch with all tuning rows would judge the stage by negatives it never trains on."""
    numbers = np.array([0, 1, 0, 1, 0, 2, 0, -1, 0, -1, 1, 3])
    rows = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])  # 10 and 11 are of another split
    batches = tuning_in_groups(rows, RowGroups(numbers=numbers, is_mixed=False), 3)
    assert [batch.tolist() for batch in batches] == [[0, 2, 4], [6, 8], [1, 3]]


def test_rows_without_a_negative_in_mixed_batches_are_counted():
    numbers = np.array([0, 0, 0, 1, 1, 2, -1, 0])
    rows = np.arange(8)
    groups = RowGroups(numbers=numbers, is_mixed=True)
    whole = UniformSampler(rows, rows, batch_size=8, seed=0)
    assert alone_share(groups, whole) == 2 / 8  # the one of group 2, and the one of none
    pairs = UniformSampler(rows, rows, batch_size=2, seed=0)
    slow = 0
    for batch in pairs(0):
        one, other = numbers[batch]
        slow += 2 * (one != other or one == -1)
    assert alone_share(groups, pairs) == slow / 8


def test_groups_of_mixed_batches_reach_the_loss(factors, tmp_path):
    """Four groups make another encoder; one group of everybody makes the same as none."""
    mixed = {"columns": ["easy"], "batches": "mixed"}
    weights = {}
    for number, groups in {
        0: None, 1: {**mixed, "smallest": 1000}, 4: {**mixed, "smallest": 2}
    }.items():  # fmt: skip
        run = trained(factors, tmp_path / str(number), {"base": groups})
        found = run.checkpoints("base")
        assert run.facts("base").get("groups", 0) == number
        weights[number] = found.weights("last")["model.towers.vector.encoder.leave.weight"]
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(weights[4], weights[0], atol=5e-4)
