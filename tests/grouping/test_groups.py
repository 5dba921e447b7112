"""Groups: accumulated labels, small groups that join others, the file, and when to stop."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from medmcl.core.errors import ArtefactError, ConfigError, MedmclError
from medmcl.grouping import (
    Groups,
    accumulate,
    added,
    choose_clusters,
    kmeans,
    merge_small,
    nearest_centre,
    pool_small,
    product,
    share_below,
)
from medmcl.grouping.clusters import unit_rows


def test_labels_are_the_mixed_radix_number_of_all_partitions():
    generator = np.random.default_rng(0)
    stages = [(generator.integers(0, k, 50), k) for k in (10, 3, 7)]
    label = np.zeros(50, dtype=np.int64)
    for clusters, number in stages:
        label = accumulate(label, clusters, number)
    first, second, third = (clusters for clusters, _ in stages)
    assert (label == first * 21 + second * 7 + third).all()
    same = [(first[i], second[i], third[i]) == (first[0], second[0], third[0]) for i in range(50)]
    assert (label == label[0]).tolist() == same


def test_the_last_partition_alone_is_not_enough():
    """The authors' cluster.py adds the current partition up once a stage; we must not."""
    first, second = np.array([0, 1, 0, 1]), np.array([2, 2, 2, 2])
    label = accumulate(accumulate(np.zeros(4, np.int64), first, 10), second, 10)
    assert label.tolist() == [2, 12, 2, 12]


def test_a_row_in_no_cluster_stays_in_no_group():
    label = accumulate(np.array([0, 5, -1]), np.array([-1, 2, 2]), 10)
    assert label.tolist() == [-1, 52, -1]


def test_product_of_partitions_of_different_sizes():
    assert product([np.array([0, 2]), np.array([1, 3])], [3, 4]).tolist() == [1, 11]


def test_a_small_group_joins_the_nearest():
    x = np.array([[1, 0]] * 5 + [[0, 1]] * 5 + [[0.9, 0.1]] * 2, dtype=np.float32)
    labels = np.array([7] * 5 + [8] * 5 + [9] * 2)
    assert merge_small(x, labels, 3).tolist() == [7] * 5 + [8] * 5 + [7] * 2


def test_a_small_group_prefers_one_of_its_own_parent_to_a_nearer_one():
    x = np.array([[1, 0]] * 5 + [[0, 1]] * 5 + [[0.9, 0.1]] * 2, dtype=np.float32)
    labels = np.array([7] * 5 + [8] * 5 + [9] * 2)
    parents = np.array([1] * 5 + [2] * 5 + [2] * 2)
    assert merge_small(x, labels, 3, parents).tolist() == [7] * 5 + [8] * 7


def pointing(*groups):
    """Rows of groups that each point one way, of (label, rows, degrees): vectors and labels."""
    labels, rows, degrees = map(np.array, zip(*groups, strict=True))
    angles = np.deg2rad(np.repeat(degrees, rows))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1), np.repeat(labels, rows)


def test_a_group_that_another_joined_is_where_all_its_rows_are():
    """1 joins 2, whose mean moves from 90 to 78 degrees: 3 is nearer now, where 4 was before."""
    x, labels = pointing((1, 2, 60), (2, 3, 90), (3, 9, 20), (4, 9, 150))
    assert merge_small(x, labels, 6).tolist() == [3] * 2 + [3] * 3 + [3] * 9 + [4] * 9
    alone = labels != 1
    assert merge_small(x[alone], labels[alone], 6).tolist() == [4] * 3 + [3] * 9 + [4] * 9


def test_the_smallest_group_is_the_first_that_joins_another():
    """1 joins 2, which is large enough by that; were 2 the first, it would join 3, and 1 too."""
    x, labels = pointing((1, 1, 0), (2, 2, 40), (3, 3, 60))
    assert merge_small(x, labels, 3).tolist() == [2] * 3 + [3] * 3


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), smallest=st.integers(1, 40), number=st.integers(1, 12))
def test_nobody_is_lost_and_no_group_stays_small(seed, smallest, number):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, number, 60) ** 2
    x = generator.normal(size=(60, 3)).astype(np.float32)
    parents = labels // 4
    for merged in (
        merge_small(x, labels, smallest),
        merge_small(x, labels, smallest, parents),
        pool_small(labels, smallest),
    ):
        names, sizes = np.unique(merged, return_counts=True)
        assert len(merged) == 60
        assert set(names) <= set(labels)
        assert len(names) == 1 or sizes.min() >= smallest
        for label in np.unique(labels):  # whole groups move
            assert len(set(merged[labels == label].tolist())) == 1
        big = [n for n, s in zip(*np.unique(labels, return_counts=True), strict=True)
               if s >= smallest]  # fmt: skip
        assert len(names) >= min(1, len(big))


def test_groups_that_are_large_enough_stay_as_they_are():
    labels = np.repeat([3, 5, 9], 20)
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    assert (merge_small(x, labels, 20) == labels).all()
    assert (pool_small(labels, 20) == labels).all()


def test_share_of_rows_in_small_groups():
    assert share_below(np.array([0] * 6 + [1] * 2 + [2] * 2), 3) == pytest.approx(0.4)


def test_what_a_stage_adds_is_what_no_linear_map_gives():
    generator = np.random.default_rng(0)
    before = generator.normal(size=(3000, 10))
    known = before @ generator.normal(size=(10, 6))
    new = generator.normal(size=(3000, 6))
    assert added(known, before, seed=0) < 0.001
    assert added(new, before, seed=0) > 0.95
    half = np.concatenate([known / known.std(), new / new.std()], axis=1)
    assert added(half, before, seed=0) == pytest.approx(0.5, abs=0.05)


def test_what_a_stage_adds_is_judged_on_rows_that_the_map_was_not_fitted_on():
    """A map of 80 columns fits most of 100 rows of noise, and tells nothing of the next 100."""
    generator = np.random.default_rng(0)
    before, new = generator.normal(size=(200, 80)), generator.normal(size=(200, 6))
    assert added(new, before, seed=0) == 1.0


def made(**changes):
    values = {
        "ids": ["a", "b", "c"],
        "groups": np.array([0, 0, 4]),
        "labels": np.array([0, 1, 4]),
        "clusters": np.array([0, 1, 4]),
        "cohort": "f00",
        "provenance": {"of": "base"},
    }
    return Groups(**{**values, **changes})


def test_a_file_comes_back_as_it_was(tmp_path):
    groups = made()
    groups.save(tmp_path / "sub" / "g.parquet")
    again = Groups.load(tmp_path / "sub" / "g.parquet", cohort="f00")
    assert again.fingerprint == groups.fingerprint
    assert again.provenance == {"of": "base"}
    assert again.of(["c", "x", "a"]).tolist() == [4, -1, 0]
    assert again.of(["b"], "labels").tolist() == [1]


def test_fingerprint_tells_who_is_in_which_group_in_any_order():
    one = made()
    turned = made(
        ids=["c", "b", "a"],
        groups=np.array([4, 0, 0]),
        labels=np.array([4, 1, 0]),
        clusters=np.array([4, 1, 0]),
    )
    moved = made(groups=np.array([0, 4, 4]))
    assert one.fingerprint == turned.fingerprint != moved.fingerprint


def test_another_cohort_damage_and_other_files_are_refused(tmp_path):
    path = tmp_path / "g.parquet"
    made().save(path)
    with pytest.raises(ArtefactError, match="another cohort"):
        Groups.load(path, cohort="beef")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ArtefactError, match="not a readable groups file"):
        Groups.load(path)
    pq.write_table(pa.table({"sample": ["a"]}), path)
    with pytest.raises(ArtefactError, match="not a readable groups file"):
        Groups.load(path)
    with pytest.raises(ArtefactError, match="no such file"):
        Groups.load(tmp_path / "none.parquet")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"groups": np.array([0.5, 1, 2])}, "whole number"),
        ({"labels": np.array([0, 1])}, "whole number"),
        ({"ids": ["a", "a", "b"]}, "stands twice"),
    ],
)
def test_wrong_parts_are_refused(changes, told):
    with pytest.raises(ArtefactError, match=told):
        made(**changes)


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
