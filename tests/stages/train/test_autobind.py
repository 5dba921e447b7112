"""AutoBIND on worlds whose tree is known: one seed of each acceptance test, small and short."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from begun_runs import context_in
from latent_trees import (
    cohort_of,
    edges_of,
    learn,
    plainly,
    recall,
    recipe_of,
    true_edges,
    untrained,
)
from torch import nn

from medmcl.core.batch import InputShape
from medmcl.core.contracts import ModelShape
from medmcl.core.errors import CohortError, ConfigError
from medmcl.data.loading.samplers import UniformSampler
from medmcl.engine.probe_hooks import watchers
from medmcl.engine.record import read_metrics
from medmcl.engine.signals import Interrupted, StopRequest
from medmcl.objectives import build_objective, wanted_probe
from medmcl.objectives.pairs.learned_pairs import SCORES, score_pairs
from medmcl.objectives.pairs.pairs import spanning_tree
from medmcl.stages.run.study import stage_sentence
from medmcl.stages.run.training import run_stage
from medmcl.stages.train import grouped_rows
from medmcl.stages.train import parts as train_stage
from medmcl.stages.train.spec import ObjectiveSpec
from medmcl.stages.train.train_filter import keep_apart


@pytest.fixture(scope="module")
def strong(tmp_path_factory):
    """rho 0.9."""
    return cohort_of(tmp_path_factory.mktemp("strong"))


@pytest.fixture(scope="module")
def weak(tmp_path_factory):
    """rho 0.5."""
    return cohort_of(tmp_path_factory.mktemp("weak"), rho=0.5)


@pytest.fixture(scope="module")
def through(strong, tmp_path_factory):
    """A stage that was never stopped."""
    return learn(strong[0], tmp_path_factory.mktemp("through"))


def codes(facts):
    return [finding["code"] for finding in facts["findings"]]


def test_a1_the_tree_is_found_and_nothing_speaks_against_it(strong, through):
    history, facts, _ = through
    assert edges_of(history[-1]) == true_edges(strong[1])
    assert facts["findings"] == []
    assert [row["phase"] for row in history][:3] == ["warm-up"] * 2 + ["learned"]
    assert facts["probe_rows"] == 300
    assert facts["rows"] + facts["probe_rows"] == len(strong[0].rows("train"))


def test_a2_without_warm_up_the_run_is_flagged(weak, tmp_path):
    prepared, truth = weak
    history, facts, _ = learn(
        prepared, tmp_path / "cold", {"warm_up": 0.0, "score": "cosine", "every": 1, "ema": 0.0},
        steps=60,
    )  # fmt: skip
    assert len(edges_of(history[-1]) & true_edges(truth)) < 4
    assert "graph.locked_in" in codes(facts)
    assert history[0]["step"] == 0


def test_a3_before_any_training_cka_knows_the_tree_and_cosines_do_not(weak):
    prepared, truth = weak
    found = {"cka": [], "cosine": []}
    for seed in range(8):
        seen = plainly(untrained(prepared, seed), prepared, "train")
        names = tuple(sorted(seen.pooled))
        for score, each in found.items():
            scores, _ = score_pairs(seen, names, SCORES[score], 32)
            tree = {(names[i], names[j]) for i, j in spanning_tree(scores)}
            each.append(len(tree & true_edges(truth)) / 4)
    assert np.mean(found["cka"]) >= 0.8
    assert np.mean(found["cosine"]) <= 0.6


def test_a4_the_tree_trains_fewer_pairs_and_retrieves_no_worse(strong, through, tmp_path):
    prepared, truth = strong
    full, _, model = learn(prepared, tmp_path, {"learn": "full", "floor": -1.0})
    assert len(edges_of(full[-1])) == 10
    assert len(edges_of(through[0][-1])) == 4
    edges = truth["edges"]
    assert recall(through[2], prepared, edges) >= recall(model, prepared, edges)


def test_a5_pure_noise_is_cut_and_a_star_on_it_is_useless(tmp_path):
    prepared, truth = cohort_of(tmp_path, noise_modalities=1)
    history, facts, model = learn(prepared, tmp_path / "tree")
    last, (noise,) = history[-1], truth["noise"]
    assert edges_of(last) == true_edges(truth)
    assert last["isolated"] == [noise]
    assert codes(facts) == ["graph.isolated"]
    assert max(v for k, v in last["fresh"].items() if noise in k.split("~")) < 0.01
    star = {"learn": "star", "anchor": noise, "floor": -1.0}
    _, facts, useless = learn(prepared, tmp_path / "star", star)
    assert "graph.margin_at_null" in codes(facts)
    edges = truth["edges"]
    assert recall(useless, prepared, edges) <= recall(model, prepared, edges) / 4


def test_a6_with_two_in_five_entries_missing_the_tree_is_found(tmp_path):
    prepared, truth = cohort_of(tmp_path, missing=0.4)
    history, _, _ = learn(prepared, tmp_path / "run")
    assert edges_of(history[-1]) == true_edges(truth)
    assert min(history[0]["rows"].values()) < 150


def test_a7_with_too_little_data_every_pair_is_aligned_and_it_is_said(tmp_path):
    prepared, _ = cohort_of(tmp_path, subjects=40, rho=0.3)
    history, facts, _ = learn(prepared, tmp_path / "run", {"min_rows": 2, "floor": 0.4}, steps=20)
    assert len(edges_of(history[-1])) == 10
    assert history[-1]["phase"] == "no edge"
    assert codes(facts) == ["graph.too_little_data"]


def weights_of(context):
    return context.run.checkpoints("bind").weights("last")


def test_a8_a_killed_run_gives_the_same_graphs_and_weights(strong, through, tmp_path):
    prepared = strong[0]
    recipe = recipe_of(prepared, {}, 150)
    whole = [{k: v for k, v in row.items() if k != "seconds"} for row in through[0]]

    class Once(StopRequest):
        """Asks to stop after some steps, as a signal would."""

        def __init__(self, after):
            super().__init__()
            self.left = after

        @property
        def asked(self):
            self.left -= 1
            return self.left < 0

        @asked.setter
        def asked(self, value):
            pass

    def run(stop):
        with stop:
            context = context_in(tmp_path, recipe, stop)
            run_stage(recipe.stages[0], prepared, context)
            return context

    with pytest.raises(Interrupted):
        run(Once(95))
    context = run(StopRequest())
    rows = [row for row in read_metrics(tmp_path / "metrics.jsonl") if row["split"] == "probe"]
    assert rows == whole
    resumed, model = weights_of(context), through[2].state_dict()
    for name, value in model.items():
        assert torch.equal(value, resumed[f"model.{name}"]), name


def test_probe_rows_are_of_train_and_of_people_who_are_not_trained_on(
    strong, monkeypatch, tmp_path
):
    prepared, seen = strong[0], {}

    def spy(rows, subjects, wanted, key):
        seen["out"] = keep_apart(rows, subjects, wanted, key)
        return seen["out"]

    monkeypatch.setattr(train_stage, "keep_apart", spy)
    learn(prepared, tmp_path, steps=2)
    trained, probed = seen["out"]
    assert set(prepared.splits[probed]) == {"train"}
    assert not set(prepared.subjects[trained]) & set(prepared.subjects[probed])
    with pytest.raises(CohortError, match="too few train subjects"):
        keep_apart(np.arange(3), np.arange(3), [_probe()], (0, "x"))


def _probe():
    from medmcl.core.contracts import ProbeRows

    return ProbeRows(share=0.5, most=10)


def chained(prepared, later):
    """The stage of `learn` goes on from one that aligns every pair; both end after two steps."""
    recipe = recipe_of(prepared, later, 2)
    bind, results = recipe.stages
    first = bind.model_copy(update={
        "name": "before", "keep": "last",
        "objectives": {"cross_modal": ObjectiveSpec(
            kind="cross_modal", settings={"pairs": "all", "view": "plain"})},
    })  # fmt: skip
    middle = first.model_copy(update={"name": "middle", "start_from": {bind.towers[0]: "before"}})
    bind = bind.model_copy(update={"start_from": {bind.towers[1]: "middle"}})
    return recipe.model_copy(update={"stages": (first, middle, bind, results)})


def drawn(recipe, prepared, folder, monkeypatch):
    """Subjects that each stage trains on and watches, by the name of the stage."""
    seen = {}

    class Spy(UniformSampler):
        def __init__(self, rows, subjects, **more):
            seen[len(seen)] = set(subjects)
            super().__init__(rows, subjects, **more)

    monkeypatch.setattr(grouped_rows, "UniformSampler", Spy)
    with StopRequest() as stop:
        context = context_in(folder, recipe, stop)
        facts = [run_stage(stage, prepared, context) for stage in recipe.stages[:-1]]
        watched = train_stage.build_parts(recipe.stages[-2], prepared, context).probe_rows
    return seen, set(prepared.subjects[watched]), facts


def test_nobody_who_is_watched_was_trained_on_in_a_stage_that_this_one_goes_on_from(
    strong, monkeypatch, tmp_path
):
    prepared = strong[0]
    seen, watched, facts = drawn(chained(prepared, {}), prepared, tmp_path, monkeypatch)
    everybody = set(prepared.subjects[prepared.rows("train")])
    assert len(watched) == 300
    for trained in (seen[0], seen[1], seen[2]):
        assert trained == everybody - watched
    assert [one["kept_for_later"] for one in facts] == [300, 300, 0]
    assert "300 subjects left for a later stage" in stage_sentence(facts[0])


def test_a_stage_that_never_had_rows_to_charge_for_is_no_result(strong, tmp_path):
    with pytest.raises(ConfigError, match=r"(?s)bind.*first 3 steps.*batch_size"):
        learn(strong[0], tmp_path, steps=3, **{"stages.bind.batch_size": 4})


def test_what_an_objective_watches_is_known_before_it_is_built():
    table = InputShape(kind="tabular", shape=(2, 3), cardinalities=(0, 0, 0))
    shape = ModelShape(inputs=dict.fromkeys("ab", table), widths=dict.fromkeys("ab", 8))
    for kind, settings in (
        ("cross_modal", {"pairs": {"learn": "knn", "probe_share": 0.3, "probe_rows": 40}}),
        ("cross_modal", {}),
        ("symile", {}),
        ("gram", {}),
        ("centrobind", {}),
    ):
        built = watchers(nn.ModuleDict({"x": build_objective(kind, settings, shape)}))
        asked = wanted_probe(kind, settings)
        assert [one.probe for one in built.values()] == ([] if asked is None else [asked])


def test_one_probe_row_a_person_and_everybody_on_one_side():
    subjects = np.repeat(np.arange(10), 3)
    trained, probed = keep_apart(np.arange(30) + 100, subjects, [_probe()], (0, "x"))
    assert len(probed) == 5
    people = subjects[probed - 100]
    assert len(set(people)) == 5
    assert len(trained) == 15
    assert not set(people) & set(subjects[trained - 100])
    again = keep_apart(np.arange(30) + 100, subjects, [_probe()], (0, "x"))
    assert np.array_equal(again[1], probed)


def test_watching_moves_no_stream_of_random_numbers(strong, tmp_path):
    """Towers of two stages that differ only in when they watch are trained alike."""
    prepared = strong[0]
    full = {"learn": "full", "floor": -1.0}
    _, _, often = learn(prepared, tmp_path / "often", {**full, "every": 2}, steps=6)
    _, _, seldom = learn(prepared, tmp_path / "seldom", {**full, "every": 1000}, steps=6)
    for a, b in zip(often.parameters(), seldom.parameters(), strict=True):
        assert torch.equal(a, b)
