"""Detectors: the published numbers, brute force, and poison whose place is known."""

import math

import numpy as np
import pytest
import torch
from golden_numbers import golden

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


def brute(x, k, texts=()):
    """Every corrected score by loops over Python floats, the least and the largest it may be.

    Where several rows are the k-th neighbour equally, any of them may be taken. Texts follow their
    images; a row and its other half are no neighbours.
    """
    table = np.asarray([*x, *texts], dtype=np.float64)
    count, far = len(x), []
    for i in range(len(table)):
        others = [j for j in range(len(table)) if j % count != i % count]
        far.append(sorted((math.dist(table[i], table[j]), j) for j in others))
    at_k = [one[k - 1][0] for one in far]
    dims = [dimension_of([d for d, _ in one[: k + 1]], k) for one in far]
    found = {"knn_distance": [(d, d) for d in at_k[:count]], "lid": [(d, d) for d in dims[:count]]}
    ways = {
        "slof": lambda i, j: at_k[i] / at_k[j],
        "dao": lambda i, j: dims[j] * math.log(at_k[i] / at_k[j]),
    }
    for name, way in ways.items():
        found[name] = [bounds(i, far[i], at_k, k, way) for i in range(count)]
    return found


def dimension_of(distances, k):
    if distances[k - 1] == 0:
        return FAR
    spread = -sum(math.log(d / distances[k] + 1e-4) for d in distances[:k])
    return FAR if spread <= k / FAR else k / spread


def bounds(i, far, at_k, k, way):
    """The least and the largest mean over k neighbours: any of those equally far may be taken."""
    if at_k[i] == 0:
        return FAR, FAR
    told = lambda j: math.inf if at_k[j] == 0 else way(i, j)  # noqa: E731  # short
    is_tied = [math.isclose(d, at_k[i], rel_tol=1e-12) for d, _ in far]
    sure = [told(j) for (d, j), tied in zip(far, is_tied, strict=True) if d < at_k[i] and not tied]
    rest = sorted(told(j) for (_, j), tied in zip(far, is_tied, strict=True) if tied)
    more = k - len(sure)
    means = (sum([*sure, *rest[:more]]) / k, sum([*sure, *rest[len(rest) - more :]]) / k)
    return tuple(min(one, FAR) for one in means)


def agree(found, wanted, name):
    low, high = np.array(wanted).T
    slack = 1e-12 + 1e-7 * np.abs(found.numpy())
    assert (found.numpy() >= low - slack).all(), name
    assert (found.numpy() <= high + slack).all(), name


def near_copies():
    """Some rows that are copies, in one place two and in another five, among others."""
    x = np.random.default_rng(1).normal(size=(13, 3))
    x[5], x[8:13] = x[4], x[8]
    return x


TABLES = {
    "random": np.random.default_rng(4).normal(size=(14, 5)),
    "grid": np.stack(np.meshgrid(range(4), range(4)), -1).reshape(-1, 2),
    "far alike": np.eye(9),
    "copies": near_copies(),
    "pairs of copies": np.repeat(np.random.default_rng(5).normal(size=(6, 3)), 2, axis=0),
    "one point": np.ones((8, 3)),
}


@pytest.mark.parametrize("name", TABLES)
def test_corrected_scores_are_those_of_slow_loops_with_ties_and_copies(name, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 7)  # several blocks, the last a part of one
    x = TABLES[name]
    for k in range(1, len(x) - 1):
        wanted = brute(x, k)
        if name == "random":  # one answer
            assert all(low == high for one in wanted.values() for low, high in one)
        for detector in DETECTORS:
            found = DETECTORS[detector](x, k)
            agree(found, wanted[detector], f"{detector}, k = {k}")
            if detector != "knn_distance":
                assert found.max() <= FAR
    with pytest.raises(MedmclError, match="too few rows"):
        lid(x, len(x) - 1)


@pytest.mark.parametrize("k", [1, 4, 16])
def test_corrected_neighbours_are_those_of_brute_force(k, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 7)
    x = np.random.default_rng(k).normal(size=(40, 5))
    wanted = brute(x, k)
    for name, detector in DETECTORS.items():
        low, high = np.array(wanted[name]).T
        np.testing.assert_array_equal(low, high)
        np.testing.assert_allclose(detector(x, k).numpy(), low, 1e-7, 1e-12, err_msg=name)


@pytest.mark.parametrize("estimator", ["mle", "mom"])
def test_a_dimension_is_the_largest_where_all_neighbours_are_equally_far(estimator):
    assert (lid(np.eye(30), 5, estimator=estimator) == FAR).all()
    one = np.zeros((20, 3))
    one[12:] = np.random.default_rng(0).normal(size=(8, 3))  # the others have twelve copies
    assert (lid(one, 5, estimator=estimator)[:12] == FAR).all()
    assert (lid(one, 11, estimator=estimator)[:12] == FAR).all()  # no more copies than k
    x = np.random.default_rng(0).normal(size=(2000, 64))
    for k in (1, 2, 16):
        found = lid(x, k, estimator=estimator)
        assert found.min() > 0
        assert found.max() <= FAR
    distances = torch.tensor([[0.5, 1.0], [0.9, 1.0], [0.9999, 1.0], [1 - 1e-6, 1.0], [1.0, 1.0]])
    told = blocks.dimension(distances.double(), 1, estimator, FAR)
    assert (told.diff() >= 0).all()  # the more alike, the larger
    assert told[-1] == told[-2] == FAR


def test_what_few_neighbours_say_of_outliers_is_not_turned_round():
    x = np.random.default_rng(0).normal(size=(2000, 64))
    for name in ("slof", "dao"):
        found = DETECTORS[name](x, 1)
        assert found.min() >= 0  # of one neighbour no row is denser: it has this one as near
        assert found.max() <= FAR


@pytest.mark.parametrize("name", ["slof", "dao"])
@pytest.mark.parametrize("k", [1, 3, 6])
def test_texts_are_neighbours_too_but_on_neither_side_those_of_their_own_image(name, k):
    generator = np.random.default_rng(3)
    images = generator.normal(size=(12, 4))
    for texts in (
        images + generator.normal(size=(12, 4)) * 0.01,  # each next to its own image
        generator.normal(size=(12, 4)),
        np.repeat(images[:3], 4, axis=0),
    ):
        found = DETECTORS[name](images, k, texts=texts)
        agree(found, brute(images, k, texts)[name], name)


def test_published_neighbours_are_not_the_neighbours(authors):
    x = authors["dao_image_features"]
    alike = np.corrcoef(slof(x, 16).numpy(), slof(x, 16, "official").numpy())[0, 1]
    assert 0.85 < alike < 0.97


@pytest.mark.parametrize(
    ("x", "more", "told"),
    [
        (np.zeros(5), {}, r"\(N, E\)"),
        (np.full((30, 2), np.nan), {}, "30 of 30 rows"),
        (np.zeros((10, 2)), {"k": 9}, "at most 8"),
        (np.zeros((10, 2)), {"k": 0}, "one neighbour or more"),
        (np.zeros((10, 2)), {"k": 2.0}, "a whole number"),
        (np.zeros((10, 2)), {"k": "2"}, "a whole number"),
        (np.zeros((10, 2)), {"k": True}, "a whole number"),
        (np.full((10, 2), "x"), {"k": 2}, "embeddings are numbers"),
        ([[1.0], [1.0, 2.0], [0.0]], {"k": 1}, "embeddings are numbers"),
        (None, {"k": 1}, "embeddings are numbers"),
        (torch.zeros((10, 2), dtype=torch.complex64), {"k": 2}, "embeddings are numbers"),
        (
            np.zeros((10, 2)),
            {"k": 2, "neighbours": "fixed"},
            "no such neighbours: fixed.*corrected, official",
        ),
    ],
)
@pytest.mark.parametrize("name", DETECTORS)
def test_bad_input_is_refused(name, x, more, told):
    with pytest.raises(MedmclError, match=told):
        DETECTORS[name](x, **more)


@pytest.mark.parametrize("name", DETECTORS)
def test_embeddings_of_any_kind_of_number_and_whole_k_are_taken(name):
    x = np.random.default_rng(0).integers(0, 9, size=(20, 3))
    wanted = DETECTORS[name](x.astype(float), 3)
    given = [x, x.tolist(), torch.tensor(x, dtype=torch.bfloat16), x.astype(">f4")]
    given.append(torch.tensor(x, dtype=torch.float32, requires_grad=True))
    for one in given:
        assert torch.equal(DETECTORS[name](one, np.int64(3)), wanted)


def test_texts_of_another_number_and_another_estimator_are_refused():
    with pytest.raises(MedmclError, match="an image and a text"):
        slof(np.eye(10), 3, texts=np.eye(9, 10))
    with pytest.raises(MedmclError, match="mle, mom"):
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
