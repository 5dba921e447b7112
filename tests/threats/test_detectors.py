"""Detectors: the published numbers, brute force, and poison whose place is known."""

import math

import numpy as np
import pytest
import torch
from golden_numbers import golden
from sklearn.metrics import roc_auc_score

from medmcl.core.errors import MedmclError
from medmcl.threats import DETECTORS, dao, knn_distance, lid, slof
from medmcl.threats import neighbours as blocks
from medmcl.threats.detectors import FAR


@pytest.fixture(scope="module")
def authors():
    return golden("backdoor_detectors")


@pytest.mark.parametrize("k", [8, 16])
def test_published_numbers(authors, k):
    x = authors["dao_image_features"]
    pairs = {
        f"kdist_k{k}": knn_distance(x, k, "official"),
        f"lid_k{k}_mle": lid(x, k, "official"),
        f"lid_k{k}_mom": lid(x, k, "official", "mom"),
        f"slof_k{k}": slof(x, k, "official"),
        f"dao_k{k}_mle": dao(x, k, "official"),
        f"dao_k{k}_mom": dao(x, k, "official", "mom"),
    }
    for name, found in pairs.items():
        torch.testing.assert_close(found.float(), authors[name], rtol=1e-5, atol=2e-6)


def test_published_numbers_of_pairs(authors):
    found = dao(authors["dao_image_features"], 16, "official", texts=authors["dao_text_features"])
    torch.testing.assert_close(found.float(), authors["dao_k16_pair"], rtol=1e-5, atol=2e-6)


def brute(x, k):
    """Every corrected score by loops over Python floats; images may be followed by texts."""
    x = np.asarray(x, dtype=np.float64)
    count = len(x)
    near = []
    for i in range(count):
        far = sorted((math.dist(x[i], x[j]), j) for j in range(count) if j != i)
        near.append(far[: k + 1])
    at_k = [one[k - 1][0] for one in near]
    dims = [-k / sum(math.log(d / one[k][0] + 1e-4) for d, _ in one[:k]) for one in near]
    rows = [[j for _, j in one[:k]] for one in near]
    return {
        "knn_distance": at_k,
        "lid": dims,
        "slof": [sum(at_k[i] / at_k[j] for j in rows[i]) / k for i in range(count)],
        "dao": [
            sum(dims[j] * math.log(at_k[i] / at_k[j]) for j in rows[i]) / k for i in range(count)
        ],
    }


@pytest.mark.parametrize("k", [1, 4, 16])
def test_corrected_neighbours_are_those_of_brute_force(k, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 7)  # several blocks, the last a part of one
    x = np.random.default_rng(k).normal(size=(40, 5))
    wanted = brute(x, k)
    for name, detector in DETECTORS.items():
        np.testing.assert_allclose(detector(x, k).numpy(), wanted[name], 1e-7, 1e-12, err_msg=name)


def test_texts_are_neighbours_too_but_not_of_their_own_pair():
    generator = np.random.default_rng(3)
    images = generator.normal(size=(12, 4))
    texts = images + generator.normal(size=(12, 4)) * 0.01  # each next to its own image
    table = np.concatenate([images, texts])
    k = 3
    distance = np.linalg.norm(table[:, None] - table[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    every = np.sort(distance, axis=1)[:, k - 1]
    own = distance[:12].copy()
    own[np.arange(12), np.arange(12) + 12] = np.inf
    order = np.argsort(own, axis=1)[:, :k]
    at_k = np.sort(own, axis=1)[:, k - 1]
    wanted = (at_k[:, None] / every[order]).mean(1)
    np.testing.assert_allclose(slof(images, k, texts=texts).numpy(), wanted, rtol=1e-7)


def test_published_neighbours_are_not_the_neighbours(authors):
    x = authors["dao_image_features"]
    alike = np.corrcoef(slof(x, 16).numpy(), slof(x, 16, "official").numpy())[0, 1]
    assert 0.85 < alike < 0.97


@pytest.mark.parametrize("name", DETECTORS)
def test_few_that_stand_apart_are_most_suspect(name):
    generator = np.random.default_rng(0)
    clean = generator.normal(size=(400, 3)) @ generator.normal(size=(3, 24))  # a low dimension
    odd = generator.normal(size=(10, 24)) * 3
    x = np.concatenate([clean, odd])
    is_odd = np.arange(len(x)) >= len(clean)
    assert roc_auc_score(is_odd, DETECTORS[name](x, 16).numpy()) > 0.9


@pytest.mark.parametrize("name", DETECTORS)
def test_order_of_rows_and_copies_change_nothing_else(name):
    generator = np.random.default_rng(2)
    x = generator.normal(size=(50, 6))
    order = generator.permutation(50)
    detector = DETECTORS[name]
    np.testing.assert_allclose(detector(x[order], 5), detector(x, 5)[order], rtol=1e-9)
    copies = np.concatenate([x, np.repeat(x[:1], 9, axis=0)])
    assert torch.isfinite(detector(copies, 5)).all()


@pytest.mark.parametrize(
    ("x", "more", "told"),
    [
        (np.zeros(5), {}, r"\(N, E\)"),
        (np.full((30, 2), np.nan), {}, "30 of 30 rows"),
        (np.zeros((10, 2)), {"k": 9}, "1 <= k <= 8"),
        (np.zeros((10, 2)), {"k": 0}, "1 <= k <= 8"),
        (np.zeros((10, 2)), {"k": 2, "neighbours": "fixed"}, "corrected or official"),
    ],
)
@pytest.mark.parametrize("name", DETECTORS)
def test_bad_input_is_refused(name, x, more, told):
    with pytest.raises(MedmclError, match=told):
        DETECTORS[name](x, **more)


def test_texts_of_another_number_and_another_estimator_are_refused():
    with pytest.raises(MedmclError, match="an image and a text"):
        slof(np.eye(10), 3, texts=np.eye(9, 10))
    with pytest.raises(MedmclError, match="mle or mom"):
        lid(np.eye(10), 3, estimator="ml")


@pytest.mark.parametrize("width", [8, 64, 512])
def test_copies_are_told_at_any_width(width):
    """Records that are equal but for rounding are copies, as the page of a screening says."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(600, width))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x[570:] = x[570] + 1e-8 * generator.normal(size=(30, width))
    scores = slof(x, 16)
    assert (scores[570:] == FAR).all()
    assert scores[:570].max() <= FAR
