""""""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch
from made_batches import batch_of
from torch import nn
from torch.nn import functional

from medmcl.core.batch import Embeddings, InputShape
from medmcl.core.contracts import ModelShape, Watches
from medmcl.core.errors import ConfigError
from medmcl.engine.checkpoint import load_weights_file, save_weights
from medmcl.objectives import build_objective, info_nce
from medmcl.objectives.pairs.learned_pairs import (
    SCORES,
    TEMPERATURES,
    LearnedPairs,
    margin_in_null_sds,
    mutual_information,
    score_pairs,
)
from medmcl.objectives.pairs.pairs import complete_pairs
from medmcl.objectives.settings import Learned


def points(rows, seed, width=5):
    generator = torch.Generator(device="cpu").manual_seed(seed)
    x = torch.randn(rows, width, generator=generator, dtype=torch.float64, device="cpu")
    return functional.normalize(x, dim=1)


def related(rows, seed, share):
    a, b = points(rows, seed), points(rows, seed + 1)
    return a, functional.normalize(share * a + (1 - share) * b, dim=1)


def test_cosine_and_margin_are_means_over_rows_and_over_other_rows():
    a, b = related(7, 0, 0.4)
    inner = [[float(a[i] @ b[j]) for j in range(7)] for i in range(7)]
    own = np.mean([inner[i][i] for i in range(7)])
    other = np.mean([inner[i][j] for i in range(7) for j in range(7) if i != j])
    assert SCORES["cosine"](a, b) == pytest.approx(own, abs=1e-6)
    assert SCORES["margin"](a, b) == pytest.approx(own - other, abs=1e-6)


def test_cka_is_that_of_centred_kernels_and_knows_no_rotation():
    a, b = related(9, 2, 0.5)
    centre = torch.eye(9, dtype=a.dtype, device="cpu") - 1 / 9
    k, m = centre @ (a @ a.T) @ centre, centre @ (b @ b.T) @ centre
    wanted = float((k * m).sum() / (k.norm() * m.norm()))
    assert SCORES["cka"](a, b) == pytest.approx(wanted, abs=1e-9)
    turned = a @ torch.linalg.qr(points(5, 8)).Q
    assert SCORES["cka"](a, turned) == pytest.approx(1.0, abs=1e-9)
    assert SCORES["cka"](a, torch.ones_like(a)) == 0.0


def test_the_calibrated_bound_is_the_best_of_its_temperatures():
    a, b = related(40, 4, 0.6)
    bounds = [math.log(40) - float(info_nce(a, b, 1 / t)) for t in TEMPERATURES]
    assert mutual_information(a, b) == pytest.approx(max(bounds), abs=1e-5)
    assert 0 < max(bounds) < math.log(40)


def test_the_bound_of_unrelated_points_is_zero_where_the_raw_one_is_far_below():
    a, b = points(200, 6, width=16), points(200, 7, width=16)
    assert math.log(200) - float(info_nce(a, b, 10.0)) < -0.2
    assert mutual_information(a, b) < 0.02
    assert mutual_information(a, -a) == 0.0


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_margin_in_null_deviations_is_that_of_every_way_to_pair_rows(share):
    a, b = related(6, 9, share)
    similarity = (a @ b.T).numpy()
    every = [
        np.mean([similarity[i, p[i]] for i in range(6)]) for p in itertools.permutations(range(6))
    ]
    wanted = (np.trace(similarity) / 6 - np.mean(every)) / np.std(every)
    assert margin_in_null_sds(a, b) == pytest.approx(wanted, rel=1e-4)
    assert margin_in_null_sds(a, torch.ones_like(a)) == 0.0


def test_pairs_are_scored_over_rows_with_both_and_only_with_enough_of_them():
    names = ("x", "y", "z")
    pooled = {name: points(6, k) for k, name in enumerate(names)}
    batch = batch_of(
        pooled, {"x": [1, 1, 1, 1, 1, 0], "y": [1, 1, 1, 1, 0, 1], "z": [0, 0, 1, 1, 1, 1]}
    )
    seen = Embeddings(batch=batch, pooled=pooled)
    scores, rows = score_pairs(seen, names, SCORES["cosine"], min_rows=4)
    assert rows.tolist() == [[0, 4, 3], [4, 0, 3], [3, 3, 0]]
    both = batch.both("x", "y")
    wanted = SCORES["cosine"](pooled["x"][both], pooled["y"][both])
    assert scores[0, 1] == scores[1, 0] == wanted
    assert np.isnan(scores[0, 2])
    assert np.isnan(scores[1, 2])


NAMES = ("d", "b", "a", "c")
CHAIN = {("a", "b"), ("b", "c"), ("c", "d")}
ROWS = 120


def shown(strength, seed=0, names="abcd", present=None):
    """A chain a - b - c - d of points: neighbours share ``strength`` of their direction."""
    generator = torch.Generator(device="cpu").manual_seed(seed)

    def draw():
        x = torch.randn(ROWS, 8, generator=generator, device="cpu")
        return functional.normalize(x, dim=1)

    pooled, last = {}, draw()
    for name in sorted(names):
        fresh = draw()
        last = functional.normalize(strength * last + (1 - strength) * fresh, dim=1)
        pooled[name] = last
    return Embeddings(batch=batch_of(pooled, present), pooled=pooled)


def swapped(seen):
    """The same with a and d changed over: another chain."""
    pooled = {**seen.pooled, "a": seen.pooled["d"], "d": seen.pooled["a"]}
    return Embeddings(batch=seen.batch, pooled=pooled)


def graph(names=NAMES, **settings):
    return LearnedPairs(
        Learned(**{"learn": "tree", "warm_up": 0.5, "every": 10, **settings}), names
    )


def edges(one):
    return set(one(None, None))


def test_every_pair_is_aligned_first_and_the_tree_afterwards():
    one = graph()
    assert isinstance(one, Watches)
    every = set(itertools.combinations("abcd", 2))
    assert edges(one) == every
    assert [step for step in range(41) if one.due(step, 40)] == [10, 20, 30, 40]
    assert one.due(7, 14)  # where the warm-up ends
    assert not one.observe(shown(0.6), 10, 40).changed
    assert edges(one) == every
    assert one.observe(shown(0.6), 20, 40).changed
    assert edges(one) == CHAIN
    assert [row["phase"] for row in one.history] == ["warm-up", "learned"]
    assert one.history[-1]["changed"] == 3
    assert one.history[-1]["jaccard"] == pytest.approx(0.5)
    assert one.findings() == []


def test_the_order_of_modalities_decides_nothing():
    found = []
    for names in itertools.permutations("abcd"):
        one = graph(names)
        one.observe(shown(0.5, seed=3), 20, 40)
        found.append(edges(one))
    assert all(other == found[0] for other in found)


def test_without_warm_up_the_first_graph_comes_before_the_first_step():
    one = graph(warm_up=0.0)
    assert one.due(0, 40)
    one.observe(shown(0.6), 0, 40)
    assert edges(one) == CHAIN


def test_edges_below_the_floor_are_cut_and_who_has_none_left_is_told():
    seen = shown(0.7)
    noise = shown(0.0, seed=5).pooled["a"]
    seen = Embeddings(batch=seen.batch, pooled={**seen.pooled, "d": noise})
    one = graph()
    one.observe(seen, 20, 40)
    assert edges(one) == {("a", "b"), ("b", "c")}
    assert one.history[-1]["isolated"] == ["d"]
    (finding,) = one.findings()
    assert finding.code == "graph.isolated"
    assert finding.level == "warning"
    kept = graph(floor=-1.0)
    kept.observe(seen, 20, 40)
    assert len(edges(kept)) == 3


def test_with_nothing_to_learn_from_every_pair_stays_aligned_and_it_is_said():
    one = graph()
    one.observe(shown(0.0), 20, 40)
    assert len(edges(one)) == 6
    assert [finding.code for finding in one.findings()] == ["graph.too_little_data"]
    few = graph(min_rows=ROWS + 1)
    few.observe(shown(0.7), 20, 40)
    assert len(edges(few)) == 6
    codes = [finding.code for finding in few.findings()]
    assert codes == ["graph.unscored", "graph.too_little_data"]
    assert f"a~b ({ROWS}), " in few.findings()[0].what


def test_a_graph_that_keeps_changing_is_flagged():
    one = graph(ema=0.0, warm_up=0.25)
    for step in range(10, 110, 10):
        one.observe(swapped(shown(0.6)) if step % 20 else shown(0.6), step, 100)
    assert "graph.unstable" in [finding.code for finding in one.findings()]
    steady = graph(ema=0.9, warm_up=0.25)
    for step in range(10, 110, 10):
        steady.observe(shown(0.6, seed=step), step, 100)
    assert steady.findings() == []


def test_edges_chosen_before_anything_was_trained_are_flagged():
    one = graph(warm_up=0.0)
    for step in (0, 10, 20, 30, 40):
        one.observe(shown(0.6), step, 40)
    assert [finding.code for finding in one.findings()] == ["graph.locked_in"]


def test_an_edge_whose_pairs_are_no_more_alike_than_chance_is_flagged():
    one = graph(score="cosine")
    one.observe(shown(0.0), 20, 40)
    assert "graph.margin_at_null" in [finding.code for finding in one.findings()]


def test_a_score_that_falls_while_its_pair_is_trained_is_flagged_and_a_cut_pair_is_not():
    one = graph(ema=0.0)
    one.observe(shown(0.7), 20, 40)
    assert one.findings() == []
    one.observe(shown(0.45), 40, 40)
    assert edges(one) == CHAIN
    (finding,) = one.findings()
    assert finding.code == "graph.faded"
    highest = {pair: max(row["fresh"][pair] for row in one.history) for pair in ("a~b", "c~d")}
    assert all(f"{pair} ({most:.2g} at step 20" in finding.what for pair, most in highest.items())
    assert "a~c" not in finding.what  # falls as well, but is no longer trained
    assert "no longer than 20 steps" in finding.fix

    risen = graph(ema=0.0)
    risen.observe(shown(0.45), 20, 40)
    risen.observe(shown(0.7), 40, 40)
    assert risen.findings() == []


def test_who_has_learned_by_heart_is_not_told_to_train_longer():
    one = graph(ema=0.9)
    one.observe(shown(0.7), 20, 40)
    one.observe(shown(0.0), 40, 40)
    found = {finding.code: finding for finding in one.findings()}
    assert set(found) == {"graph.faded", "graph.margin_at_null"}
    assert "longer" not in found["graph.margin_at_null"].fix


def test_hysteresis_keeps_an_edge_until_another_is_clearly_better():
    loose = graph(ema=0.0, floor=0.0)
    stiff = graph(ema=0.0, floor=0.0, hysteresis=5.0)
    for one in (loose, stiff):
        one.observe(shown(0.6), 20, 40)
        one.observe(swapped(shown(0.6, seed=1)), 30, 40)
    assert edges(stiff) == CHAIN
    assert edges(loose) == {("b", "d"), ("b", "c"), ("a", "c")}


def test_the_running_mean_starts_at_the_first_score():
    one = graph(ema=0.8)
    one.observe(shown(0.6), 10, 40)
    first = one.history[0]
    assert first["scores"] == pytest.approx(first["fresh"])
    one.observe(shown(0.2, seed=2), 20, 40)
    second = one.history[1]
    for pair, value in second["scores"].items():
        wanted = (0.8 * first["fresh"][pair] + second["fresh"][pair]) / 1.8
        assert value == pytest.approx(wanted)


def test_other_shapes_and_weights_by_score():
    seen = shown(0.6)
    for settings, wanted in (
        ({"learn": "full", "floor": -1.0}, 6),
        ({"learn": "star", "anchor": "b", "floor": -1.0}, 3),
        ({"learn": "star", "floor": -1.0}, 3),
        ({"learn": "fixed", "among": [("d", "a"), ("a", "b")], "floor": -1.0}, 2),
        ({"learn": "knn", "neighbours": 3, "floor": -1.0}, 6),
        ({"learn": "knn", "neighbours": 1}, 3),
    ):
        one = graph(**settings)
        one.observe(seen, 20, 40)
        assert len(edges(one)) == wanted, settings
    one = graph(weights="score")
    one.observe(seen, 10, 40)
    assert set(one(None, None).values()) == {1.0}
    one.observe(seen, 20, 40)
    weights, scores = one(None, None), one.history[-1]["scores"]
    most = max(scores[f"{a}~{b}"] for a, b in weights)
    assert weights == pytest.approx({(a, b): scores[f"{a}~{b}"] / most for a, b in weights})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"learn": "fixed"}, "among"),
        ({"learn": "tree", "among": [("a", "b")]}, "among"),
        ({"learn": "tree", "anchor": "a"}, "anchor"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        Learned(**settings)
    with pytest.raises(ConfigError, match="did you mean 'a'"):
        graph(learn="star", anchor="aa")
    with pytest.raises(ConfigError, match="no pair"):
        graph(("a",))


def shape_of(names):
    table = InputShape(kind="tabular", shape=(2, 3), cardinalities=(0, 0, 0))
    return ModelShape(inputs=dict.fromkeys(names, table), widths=dict.fromkeys(names, 8))


def test_the_history_travels_in_a_safetensors_file_and_goes_on_bit_for_bit(tmp_path):
    settings = {"pairs": {"learn": "tree", "warm_up": 0.25, "every": 10}, "view": "plain"}
    through = build_objective("cross_modal", settings, shape_of(NAMES))
    stopped = build_objective("cross_modal", settings, shape_of(NAMES))
    for step in (10, 20, 30):
        for one in (through, stopped):
            one.graph.observe(shown(0.5, seed=step), step, 60)
    save_weights(tmp_path / "w.safetensors", nn.ModuleDict({"x": stopped}).state_dict())
    resumed = build_objective("cross_modal", settings, shape_of(NAMES))
    held = nn.ModuleDict({"x": resumed})
    held.load_state_dict(load_weights_file(tmp_path / "w.safetensors"))
    for step in (40, 50, 60):
        for one in (through, resumed):
            one.graph.observe(shown(0.5, seed=step), step, 60)
    assert json.dumps(resumed.graph.history) == json.dumps(through.graph.history)
    other = build_objective("cross_modal", settings, shape_of("abce"))
    with pytest.raises(ConfigError, match="other modalities"):
        other.graph.set_extra_state(through.graph.get_extra_state())


def objective(names, **settings):
    return build_objective("cross_modal", {"view": "plain", **settings}, shape_of(names))


def test_a_star_is_imagebind_the_full_graph_the_mean_and_one_pair_is_clip():
    seen = shown(0.4)
    z = seen.pooled

    def clip(a, b):
        logits = 10.0 * z[a] @ z[b].T
        own = torch.arange(ROWS, device="cpu")
        return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2

    def charged(names, pairs, **more):
        terms = objective(names, pairs=pairs, **more)({"plain": seen}, seen.batch)
        return sum(term.weight * term.value for term in terms.values())

    imagebind = sum(clip("b", other) for other in "acd") / 3
    learned = {"learn": "star", "anchor": "b"}
    for pairs in ({"star": "b"}, learned):
        torch.testing.assert_close(charged("abcd", pairs), imagebind, atol=1e-6, rtol=0)
    mean = sum(clip(*pair) for pair in itertools.combinations("abcd", 2)) / 6
    for pairs in ("all", {"learn": "full"}):
        torch.testing.assert_close(charged("abcd", pairs), mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(charged("ab", {"learn": "tree"}), clip("a", "b"), atol=1e-6, rtol=0)
    assert list(complete_pairs("ab").possible) == [("a", "b")]


def test_pairs_have_scales_of_their_own_and_too_few_rows_leave_a_pair_out():
    present = {name: torch.ones(ROWS, dtype=torch.bool, device="cpu") for name in "abcd"}
    present["d"] = torch.arange(ROWS, device="cpu") < 7
    seen = shown(0.4, present=present)
    one = objective("abcd", pairs={"learn": "full"}, scale_per_pair=True)
    with torch.no_grad():
        one.scales["a~b"].log.fill_(1.0)
    terms = one({"plain": seen}, seen.batch)
    assert set(terms) == {"cross_modal/a~b", "cross_modal/a~c", "cross_modal/b~c"}
    wanted = info_nce(seen.pooled["a"], seen.pooled["b"], torch.e)
    torch.testing.assert_close(terms["cross_modal/a~b"].value, wanted)
    few = objective("abcd", pairs={"learn": "full"}, min_rows=2)
    assert len(few({"plain": seen}, seen.batch)) == 6
