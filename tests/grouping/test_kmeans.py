"""K-means: the same clusters every time, found where they are, refused where there are none."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from medmcl.core.errors import ConfigError, MedmclError
from medmcl.grouping import choose_clusters, kmeans, nearest_centre
from medmcl.grouping.clusters import unit_rows


def blobs(number, rows=60, width=8, spread=0.05, seed=0):
    generator = np.random.default_rng(seed)
    centres = unit_rows(generator.normal(size=(number, width)))
    truth = np.arange(rows * number) % number
    x = centres[truth] + spread * generator.normal(size=(len(truth), width))
    return x.astype(np.float32) * generator.uniform(0.5, 3.0, (len(truth), 1)), truth


def same_partition(a, b):
    pairs = set(zip(a.tolist(), b.tolist(), strict=True))
    return len(pairs) == len(set(a.tolist())) == len(set(b.tolist()))


@pytest.mark.parametrize("number", [2, 5, 10])
def test_finds_the_clusters_by_direction_whatever_the_lengths(number):
    x, truth = blobs(number)
    assert same_partition(kmeans(x, number, seed=3).labels, truth)


def test_same_seed_same_clusters_on_any_number_of_threads():
    x, _ = blobs(6, spread=0.6)
    first = kmeans(x, 9, seed=1)
    with threadpool_limits(2):
        again = kmeans(x, 9, seed=1)
    assert (first.labels == again.labels).all()
    assert (first.centres == again.centres).all()
    assert not (first.centres == kmeans(x, 9, seed=2).centres).all()


def test_labels_are_those_of_the_nearest_centre_by_slow_loops():
    x, _ = blobs(4, spread=0.5)
    found = kmeans(x, 5, seed=0)
    for row, label in zip(unit_rows(x), found.labels, strict=True):
        distances = [float(((row - centre) ** 2).sum()) for centre in found.centres]
        assert distances[label] == pytest.approx(min(distances), abs=1e-5)
    assert (nearest_centre(x, found.centres) == found.labels).all()


def test_more_clusters_than_rows_are_refused_with_both_numbers():
    with pytest.raises(ConfigError, match="8 clusters of 5 rows"):
        kmeans(np.eye(5, dtype=np.float32), 8, seed=0)


@pytest.mark.parametrize("lengths", [1.0, np.linspace(0.5, 2, 30)[:, None]])
def test_a_constant_embedding_is_refused(lengths):
    x = np.ones((30, 4), dtype=np.float32) * lengths
    with pytest.raises(MedmclError, match="every row has the same embedding"):
        kmeans(x, 3, seed=0)


def test_values_that_are_not_finite_are_refused_and_counted():
    x, _ = blobs(3)
    x[[1, 5], 2] = np.nan
    with pytest.raises(MedmclError, match="2 of 180 rows"):
        kmeans(x, 3, seed=0)


def test_fewer_distinct_rows_than_clusters_give_fewer_clusters_without_a_warning():
    x = np.repeat(np.eye(3, dtype=np.float32), 10, axis=0)
    labels = kmeans(x, 5, seed=0).labels
    assert same_partition(labels, np.repeat(np.arange(3), 10))


@pytest.mark.parametrize("number", [3, 6, 10])
def test_the_rule_chooses_the_number_that_is_there(number):
    x, _ = blobs(number, rows=120, width=16)
    assert choose_clusters(x, seed=0) == number


def test_faiss_finds_the_same_clusters_where_it_is_installed():
    pytest.importorskip("faiss", reason="the extra [faiss] is not installed")
    x, truth = blobs(5)
    assert same_partition(kmeans(x, 5, seed=0, backend="faiss").labels, truth)
    first, again = (kmeans(x, 7, seed=4, backend="faiss").labels for _ in range(2))
    assert (first == again).all()


def test_faiss_without_faiss_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match=r"medmcl\[faiss\]"):
        kmeans(np.eye(5, dtype=np.float32), 2, seed=0, backend="faiss")
