from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from medmcl.core.batch import Batch, Embeddings
from medmcl.objectives import info_nce
from medmcl.objectives.pairs.learned_pairs import (
    SCORES,
    TEMPERATURES,
    margin_in_null_sds,
    mutual_information,
    score_pairs,
)


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
    present = {
        "x": torch.tensor([1, 1, 1, 1, 1, 0], dtype=torch.bool, device="cpu"),
        "y": torch.tensor([1, 1, 1, 1, 0, 1], dtype=torch.bool, device="cpu"),
        "z": torch.tensor([0, 0, 1, 1, 1, 1], dtype=torch.bool, device="cpu"),
    }
    pooled = {name: points(6, k) for k, name in enumerate(names)}
    batch = Batch(ids=torch.arange(6, device="cpu"), inputs=pooled, present=present)
    seen = Embeddings(batch=batch, pooled=pooled)
    scores, rows = score_pairs(seen, names, SCORES["cosine"], min_rows=4)
    assert rows.tolist() == [[0, 4, 3], [4, 0, 3], [3, 3, 0]]
    both = present["x"] & present["y"]
    wanted = SCORES["cosine"](pooled["x"][both], pooled["y"][both])
    assert scores[0, 1] == scores[1, 0] == wanted
    assert np.isnan(scores[0, 2])
    assert np.isnan(scores[1, 2])
