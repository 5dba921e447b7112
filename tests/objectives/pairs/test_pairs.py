""""""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch

from medmcl.core.errors import ConfigError, MedmclError
from medmcl.objectives.pairs import pairs
from medmcl.objectives.pairs.pairs import (
    Star,
    complete_pairs,
    explicit_pairs,
    nearest_neighbours,
    pair_graph,
    spanning_tree,
    star_pairs,
)

NAMES = ("ecg", "cmr", "report")


def test_pairs_keep_the_order_of_the_recipe():
    assert list(explicit_pairs([("cmr", "ecg"), ("ecg", "report", 2.0)]).weights.items()) == [
        (("cmr", "ecg"), 1.0),
        (("ecg", "report"), 2.0),
    ]
    assert list(complete_pairs(NAMES).weights) == [
        ("ecg", "cmr"), ("ecg", "report"), ("cmr", "report"),
    ]  # fmt: skip
    assert list(star_pairs("cmr", NAMES).weights) == [("cmr", "ecg"), ("cmr", "report")]


def test_a_recipe_names_pairs_all_or_a_star():
    assert pair_graph("all", NAMES).weights == complete_pairs(NAMES).weights
    assert pair_graph(Star(star="ecg"), NAMES).weights == star_pairs("ecg", NAMES).weights
    assert pair_graph([("ecg", "cmr")], NAMES).weights == {("ecg", "cmr"): 1.0}


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ([("ecg", "cmrr")], "did you mean 'cmr'"),
        (Star(star="ec"), "did you mean 'ecg'"),
        ([("ecg", "ecg")], "itself"),
        ([("ecg", "cmr"), ("cmr", "ecg")], "twice"),
        ([("ecg", "cmr"), ("ecg", "cmr")], "twice"),
        ([("ecg", "cmr", 0.0)], "above 0"),
        ([], "no pair"),
    ],
)
def test_pairs_that_make_no_sense_are_refused(pairs, says):
    with pytest.raises(ConfigError, match=says):
        pair_graph(pairs, NAMES)


def test_one_modality_has_no_pair():
    with pytest.raises(ConfigError, match="no pair"):
        pair_graph("all", ("ecg",))


def symmetric(size, seed, decimals=None):
    x = np.random.default_rng(seed).normal(size=(size, size))
    x = x + x.T
    return x if decimals is None else x.round(decimals)


def oracle(scores):
    graph = nx.Graph()
    graph.add_nodes_from(range(len(scores)))
    for i in range(len(scores)):
        for j in range(i + 1, len(scores)):
            if np.isfinite(scores[i, j]):
                graph.add_edge(i, j, weight=scores[i, j])
    return nx.maximum_spanning_tree(graph)


@pytest.mark.parametrize("seed", range(40))
def test_the_tree_is_the_maximum_spanning_tree_of_networkx(seed):
    scores = symmetric(2 + seed % 9, seed)
    if seed % 3 == 0:
        gone = symmetric(len(scores), seed + 100) > 1
        scores[gone] = [np.nan, -np.inf][seed % 2]
    found = spanning_tree(scores)
    assert found == sorted(found)
    assert all(i < j for i, j in found)
    assert set(found) == {tuple(sorted(edge)) for edge in oracle(scores).edges}
    assert spanning_tree(torch.tensor(scores, device="cpu")) == found


@pytest.mark.parametrize("seed", range(10))
def test_with_ties_the_sum_is_still_the_largest_and_the_smaller_names_win(seed):
    scores = symmetric(7, seed, decimals=0)
    found = spanning_tree(scores)
    best = sum(w for *_, w in oracle(scores).edges(data="weight"))
    assert sum(scores[edge] for edge in found) == pytest.approx(best)
    assert spanning_tree(np.ones((4, 4))) == [(0, 1), (0, 2), (0, 3)]


def test_without_edges_there_is_a_forest():
    scores = np.full((4, 4), -np.inf)
    assert spanning_tree(scores) == []
    scores[1, 3] = scores[3, 1] = -2.0
    assert spanning_tree(scores) == [(1, 3)]
    assert spanning_tree([[0.0]]) == []


def test_neighbours_are_the_highest_scores_of_each_node():
    scores = symmetric(6, 3)
    for k in (1, 2, 5):
        wanted = set()
        for i in range(6):
            others = sorted((j for j in range(6) if j != i), key=lambda j: -scores[i, j])
            wanted |= {tuple(sorted((i, j))) for j in others[:k]}
        assert set(nearest_neighbours(scores, k)) == wanted


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        (np.zeros((2, 3)), "square"),
        (np.array([[0, 1.0], [2.0, 0]]), "symmetric"),
        (np.array([[0, np.inf], [np.inf, 0]]), r"\+inf"),
        (np.array([[0, -np.inf], [1.0, 0]]), "symmetric"),
    ],
)
def test_what_is_no_score_matrix_is_refused(scores, says):
    with pytest.raises(MedmclError, match=says):
        spanning_tree(scores)
    with pytest.raises(MedmclError, match="at least 1"):
        pairs.nearest_neighbours(np.zeros((2, 2)), 0)
